//! Builds fetched from and uploaded to a directory, a web server and S3, by the real program.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use nosa::host::{Child, Cmd, environment};
use nosa::pipeline::Digest;
use serde_json::json;

use crate::fixture::{said, skip};
use crate::server::serve;
use crate::small::{Small, bytes, names};

const RAW: &str = "metal.x86_64.raw";

/// A working directory with builds 1.0 and 1.1, the latter compressed, tagged and with a name that needs care
/// in addresses.
fn source() -> Small {
    let small = Small::new();
    small.publish("1.0", &[("metal", RAW, b"first")]);
    small.publish(
        "1.1+x~1",
        &[("metal", RAW, &bytes(3, 2_500_000)), ("metal4k", "metal4k.x86_64.raw", b"4k")],
    );
    small.ok(&["compress", "-q", "--artifact", "metal", "--compressor", "gzip"]);
    small.ok(&["tag", "-q", "update", "--tag", "stable", "--build", "1.0"]);
    small
}

/// Fetches from `url` into a fresh workdir and compares.
fn fetch_and_compare(source: &Small, url: &str, more: &[&str]) -> Small {
    let target = Small::new();
    let call = |args: &[&str]| {
        let mut all = vec!["buildfetch", "-q", "--url", url];
        all.extend_from_slice(args);
        all.extend_from_slice(more);
        target.ok(&all)
    };
    call(&[]);
    let records = ["commitmeta.json", "meta.json", "ostree-commit-object"];
    assert_eq!(target.files("1.1+x~1"), records, "no artifact unless asked for");
    assert_eq!(target.meta("1.1+x~1"), source.meta("1.1+x~1"));
    assert_eq!(fs::read_link(target.dir.join("builds/latest")).unwrap().to_str(), Some("1.1+x~1"));
    let list = target.ok(&["list"]);
    assert!(list.contains("1.0 x86_64  [stable]  not here: `nosa buildfetch --build 1.0`"), "{list}");
    call(&["--artifact", "metal"]);
    assert_eq!(target.files("1.1+x~1").len(), 4);
    call(&["--artifact", "all", "--arch", "all"]);
    call(&["--build", "1.0", "--artifact", "all"]);
    target.assert_whole();
    assert_eq!(target.workdir.index().unwrap().builds(), source.workdir.index().unwrap().builds());
    target
}

#[test]
fn a_directory_takes_and_gives_builds() {
    let source = source();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().to_str().unwrap();
    let missing = format!("{dir}/missing");
    source.fails(
        &["buildupload", &missing],
        2,
        &format!("there is no directory {missing}"),
        "create it, or correct the path",
    );
    source.ok(&["buildupload", "-q", "--dry-run", dir]);
    assert_eq!(names(place.path()), [""; 0]);
    source.ok(&["buildupload", "-q", "--build", "1.0", dir]);
    source.ok(&["buildupload", "-q", dir]);
    let again = source.json(&["buildupload", "-q", dir]);
    let row = |path: &str| again.as_array().unwrap().iter().find(|row| row["path"] == path).unwrap().clone();
    assert_eq!(row("1.1+x~1/x86_64/os-1.1+x~1-metal4k.x86_64.raw")["kept"], true);
    assert_eq!(again.as_array().unwrap().last().unwrap()["path"], "builds.json");
    assert_eq!(names(place.path()), ["1.0", "1.1+x~1", "builds.json"]);
    let target = fetch_and_compare(&source, dir, &[]);

    // A build made here stays the newest; what was there stays in order.
    target.publish("2.0", &[]);
    target.ok(&["buildupload", "-q", dir]);
    let list: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(place.path().join("builds.json")).unwrap()).unwrap();
    let ids: Vec<&str> =
        list["builds"].as_array().unwrap().iter().map(|build| build["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["2.0", "1.1+x~1", "1.0"]);
    assert_eq!(list["tags"][0]["name"], "stable");
    source.publish("1.2", &[]);
    source.ok(&["buildfetch", "-q", "--url", dir]);
    let index = source.workdir.index().unwrap();
    let ids: Vec<&str> = index.builds().iter().map(|build| build.id.as_str()).collect();
    assert_eq!(ids, ["1.2", "2.0", "1.1+x~1", "1.0"]);
    source.ok(&["buildfetch", "-q"]);
}

#[test]
fn uploads_at_the_same_time_are_all_listed() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().to_str().unwrap();
    let workdirs: Vec<Small> = (0..4).map(|_| Small::new()).collect();
    for (writer, small) in workdirs.iter().enumerate() {
        (0..5).for_each(|number| drop(small.publish(&format!("{writer}.{number}"), &[])));
    }
    std::thread::scope(|scope| {
        for (writer, small) in workdirs.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..5 {
                    small.ok(&["buildupload", "-q", "--build", &format!("{writer}.{number}"), dir]);
                }
            });
        }
    });
    let target = Small::new();
    target.ok(&["buildfetch", "-q", "--url", dir]);
    assert_eq!(target.workdir.index().unwrap().builds().len(), 20);
}

#[test]
fn a_web_server_gives_builds_and_a_broken_download_goes_on() {
    let source = source();
    let place = tempfile::tempdir().unwrap();
    let server = serve(place.path().to_owned());
    source.ok(&["buildupload", "-q", "--build", "1.0", &server.url]);
    source.ok(&["buildupload", "-q", &server.url]);
    fetch_and_compare(&source, &server.url, &[]);
    assert_eq!(server.resumed.load(Ordering::Relaxed), 0);

    server.breaks.store(true, Ordering::Relaxed);
    let target = Small::new();
    let call = ["buildfetch", "--url", &server.url, "--artifact", "all"];
    let size = source.meta("1.1+x~1")["images"]["metal"]["size"].as_u64().unwrap();
    assert!(size > 1_600_000 && size < 2_400_000, "{size}: more than four parts, and no more than six");
    // Five attempts may not do; what came stays, and the next run goes on.
    let (code, text) = said(target.call(&call).arg("-q"));
    if code != 0 {
        assert!(text.contains("failed: ") && text.contains("what was fetched is kept"), "{text}");
        assert_eq!(names(&target.dir.join("builds")), [""; 0], "nothing half-made");
        target.ok(&call);
    }
    assert!(server.resumed.load(Ordering::Relaxed) >= 4);
    target.assert_whole();
    assert!(!target.dir.join("tmp/fetch").read_dir().unwrap().any(|_| true), "nothing stays behind");
}

#[test]
fn what_is_not_as_it_says_is_not_taken_over() {
    let source = source();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().to_str().unwrap();
    source.ok(&["buildupload", "-q", "--build", "1.0", dir]);
    source.ok(&["buildupload", "-q", dir]);
    let metal = "1.1+x~1/x86_64/os-1.1+x~1-metal4k.x86_64.raw";
    let original = fs::read(place.path().join(metal)).unwrap();
    fs::write(place.path().join(metal), "4K").unwrap();
    let target = Small::new();
    let fetch = ["buildfetch", "--url", dir, "--artifact", "all"];
    target.fails(
        &fetch,
        5,
        &format!(
            "{metal} from {dir} is not what its meta.json says: SHA-256 {}, not {}",
            Digest::of("4K"),
            Digest::of("4k")
        ),
        "nothing was taken over; ask who keeps that place, or choose another build",
    );
    assert_eq!(names(&target.dir.join("builds")), [""; 0]);
    fs::write(place.path().join(metal), original).unwrap();

    let edit = |path: &str, from: &str, to: &str| {
        let path = place.path().join(path);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    };
    let meta = "1.1+x~1/x86_64/meta.json";
    let record = fs::read(place.path().join(meta)).unwrap();
    edit(meta, "os-1.1+x~1-metal4k.x86_64.raw", "../../../escape");
    target.fails(
        &fetch,
        5,
        &format!("{meta} at {dir} names a file `../../../escape`"),
        "choose another build, or ask who keeps that place",
    );
    for taken in ["meta.json", "commitmeta.json", "meta.qemu.json", "manifest-lock.generated.x86_64.json"] {
        edit(meta, "../../../escape", taken);
        target.fails(
            &fetch,
            5,
            &format!("{meta} at {dir} names a file `{taken}`"),
            "choose another build, or ask who keeps that place",
        );
        edit(meta, &format!("\"{taken}\""), "\"../../../escape\"");
    }
    edit(meta, "../../../escape", "a\\nb");
    target.fails(
        &fetch,
        5,
        &format!("{meta} at {dir} names a file `a\\nb`"),
        "choose another build, or ask who keeps that place",
    );
    edit(meta, "a\\nb", "os-1.1+x~1-ostree.x86_64.ociarchive");
    target.fails(
        &fetch,
        5,
        &format!("{meta} at {dir} names the file os-1.1+x~1-ostree.x86_64.ociarchive for two artifacts"),
        "choose another build, or ask who keeps that place",
    );
    fs::write(place.path().join(meta), &record).unwrap();
    edit(meta, "\"metal4k\"", "\"/../../../../victim\"");
    target.fails(
        &fetch,
        5,
        &format!(
            "{meta} at {dir} does not follow the schema: /images/~1..~1..~1..~1..~1victim is no artifact's \
             name: lower-case letters, digits and -"
        ),
        "choose another build, or ask who keeps that place",
    );
    fs::write(place.path().join(meta), &record).unwrap();
    edit("builds.json", "1.1+x~1", "../x");
    target.refused(&fetch, 3, &["`../x` cannot be a version"]);
    edit("builds.json", "../x", "1.1+x~1");
    target.fails(
        &["buildfetch", "--url", dir, "--build", "9"],
        12,
        &format!("there is no build 9 at {dir}"),
        "the newest there are 1.1+x~1, 1.0",
    );
    target.fails(
        &["buildfetch", "--url", dir, "--arch", "s390x"],
        12,
        &format!("build 1.1+x~1 at {dir} exists for x86_64, not for s390x"),
        "name another architecture",
    );
    target.fails(
        &["buildfetch", "--url", dir, "--artifact", "qemu"],
        12,
        "build 1.1+x~1 has no artifact `qemu`; it has metal, metal4k, ostree",
        "name one of those, or `all`",
    );
    target.fails(
        &["buildfetch"],
        2,
        "there is no address to fetch from: nothing was fetched here before",
        "name it: --url URL",
    );
    target.fails(
        &["buildfetch", "--url", "http://example.com/x"],
        2,
        "http://example.com/x is plain http: on the way anybody may change what is fetched",
        "use https, or add --insecure",
    );
    // Nothing listens on port 1.
    target.refused(
        &["buildfetch", "-q", "--url", "http://127.0.0.1:1"],
        5,
        &["fetching http://127.0.0.1:1/builds.json failed: curl: (7) Failed to connect", "check the address"],
    );
    target.ok(&["buildfetch", "-q", "--url", dir]);
    target.assert_listed_only();
    target.fails(
        &["build-validate", "--build", "1.0"],
        12,
        "build 1.0 is listed in builds.json, but its files are not here",
        "fetch it: `nosa buildfetch --build 1.0`",
    );
    target.fails(
        &["meta", "--dump", "--build", "1.0"],
        12,
        "build 1.0 is listed in builds.json, but its files are not here",
        "fetch it: `nosa buildfetch --build 1.0`",
    );

    // Another build of the same name, and a file that is damaged before it is sent.
    let other = Small::new();
    other.publish_with("1.1+x~1", &[], |meta, _| meta.ostree_commit = "f".repeat(64));
    let commit = source.meta("1.1+x~1")["ostree-commit"].as_str().unwrap().to_owned();
    other.fails(
        &["buildfetch", "--url", dir],
        12,
        &format!(
            "build 1.1+x~1 for x86_64 here is another one: its commit is {}, there {commit}",
            "f".repeat(64)
        ),
        "remove the one here: `nosa prune --build 1.1+x~1`",
    );
    let raw = source.dir.join("builds").join(metal);
    fs::remove_file(&raw).unwrap();
    fs::write(&raw, "bad").unwrap();
    source.fails(
        &["buildupload", dir],
        12,
        &format!(
            "{} is damaged: its SHA-256 is {}, meta.json says {}",
            raw.display(),
            Digest::of("bad"),
            Digest::of("4k")
        ),
        "nothing was uploaded; fetch or make that artifact again",
    );
}

#[test]
fn a_fetch_leaves_other_artifacts_files_alone() {
    let source = Small::new();
    source.publish("1.0", &[("metal", RAW, b"metal"), ("qemu", "qemu.x86_64.qcow2", b"qemu")]);
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().to_str().unwrap();
    source.ok(&["buildupload", "-q", dir]);
    let target = Small::new();
    target.ok(&["buildfetch", "-q", "--url", dir, "--artifact", "qemu"]);
    let (there, here) = (place.path().join("1.0/x86_64"), target.dir.join("builds/1.0/x86_64"));
    let (disk, before) = ("os-1.0-qemu.x86_64.qcow2", target.files("1.0"));
    // The place says now that qemu's file is metal's.
    let mut meta = source.meta("1.0");
    meta["images"].as_object_mut().unwrap().remove("qemu");
    meta["images"]["metal"]["path"] = json!(disk);
    fs::write(there.join("meta.json"), meta.to_string()).unwrap();
    fs::write(there.join(disk), "metal").unwrap();
    let fetch = ["buildfetch", "--url", dir, "--artifact", "metal"];
    target.fails(
        &fetch,
        12,
        &format!("{disk} of build 1.0 is the file of artifact `qemu`, not of `metal`"),
        "remove the build here first",
    );
    assert_eq!(fs::read(here.join(disk)).unwrap(), b"qemu");
    // And one that nobody lists is somebody's.
    fs::write(there.join("own.raw"), "metal").unwrap();
    fs::write(here.join("own.raw"), "own").unwrap();
    meta["images"]["metal"]["path"] = json!("own.raw");
    fs::write(there.join("meta.json"), meta.to_string()).unwrap();
    target.fails(
        &fetch,
        12,
        &format!("{} is there already, and is not artifact `metal`", here.join("own.raw").display()),
        "move that file away, and run it again",
    );
    assert_eq!(fs::read(here.join("own.raw")).unwrap(), b"own");
    fs::remove_file(here.join("own.raw")).unwrap();
    target.ok(&["prune", "-q", "--keep-last-n", "0"]);
    assert_eq!(target.files("1.0"), before);
    assert_eq!(target.meta("1.0"), source.meta("1.0"));
}

#[test]
fn a_fetch_that_is_killed_publishes_a_whole_build_or_none() {
    let source = source();
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().to_str().unwrap();
    source.ok(&["buildupload", "-q", "--build", "1.0", dir]);
    source.ok(&["buildupload", "-q", dir]);
    let (mut none, mut whole) = (0, 0);
    for round in 0..40_u64 {
        let target = Small::new();
        target.publish("0.9", &[("metal", RAW, b"own")]);
        let call = ["buildfetch", "-q", "--url", dir, "--artifact", "all"];
        let mut fetch = target.call(&call).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5 + 2 * round));
        fetch.kill();
        // Without any repair: what is there is whole, and our own build is there.
        let listed = target.json(&["list"]);
        let here = |id: &str| {
            let mut builds = listed.as_array().unwrap().iter();
            builds.any(|build| build["id"] == id && !build["meta"].is_null())
        };
        assert!(here("0.9"));
        if here("1.1+x~1") {
            target.ok(&["build-validate", "-q", "--build", "1.1+x~1"]);
            whole += 1;
        } else {
            none += 1;
        }
        target.ok(&call);
        target.assert_whole();
    }
    assert!(none > 3 && whole > 3, "{none} were killed before, {whole} after it appeared");
}

/// An S3 server: the one that NOSA_TEST_S3 names, or moto's if it is installed.
struct S3 {
    endpoint: String,
    _server: Option<Child>,
}

fn s3() -> Option<S3> {
    if Cmd::program("aws").arg("--version").output().is_err() {
        skip("the AWS command line is not installed");
        return None;
    }
    if let Some(endpoint) = environment::var("NOSA_TEST_S3") {
        return Some(S3 { endpoint, _server: None });
    }
    // `.ci/test` puts one there; any other python3 that has it will do.
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/target/moto/bin/python3");
    let has = |python: &&str| Cmd::program(*python).args(["-c", "import flask, moto.server"]).run().is_ok();
    let Some(python) = [own, "python3"].into_iter().find(has) else {
        skip("neither moto's S3 server is installed (target/moto) nor does NOSA_TEST_S3 name one");
        return None;
    };
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let start = "import sys; from moto.server import main; main(sys.argv[1:])";
    let server = Cmd::program(python).args(["-c", start, "-p", &port.to_string()]).spawn().unwrap();
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(S3 { endpoint: format!("http://127.0.0.1:{port}"), _server: Some(server) });
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("moto's server does not start");
}

/// An upload-only role in CI: its credentials come by variables that differ from place to place, and it may not
/// ask what is there.
#[test]
fn the_aws_client_gets_what_ci_gives_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let small = Small::new();
    small.publish("1.0", &[("metal", RAW, &bytes(5, 1_200_000))]);
    let bin = tempfile::tempdir().unwrap();
    let (aws, seen) = (bin.path().join("aws"), bin.path().join("seen"));
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n--version) echo aws-cli/2.9.19 ;;\n\
         *head-*) echo 'An error occurred (403) when calling the HeadBucket operation: Forbidden' >&2; \
         exit 254 ;;\n*) env > {} ;;\nesac\n",
        seen.display()
    );
    fs::write(&aws, script).unwrap();
    fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.path().display(), environment::var("PATH").unwrap());
    let given = [
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/ci"),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/run/token"),
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://169.254.170.23/v1/credentials"),
        ("AWS_ENDPOINT_URL_S3", "https://s3.example.com"),
        ("HTTPS_PROXY", "http://proxy:1"),
        ("HTTP_PROXY", "http://proxy:2"),
        ("ALL_PROXY", "http://proxy:3"),
        ("NO_PROXY", "example.com"),
        ("OTHER", "x"),
    ];
    let mut call = small.call(&["buildupload", "-q", "--skip-builds-json", "s3://bucket/prod"]);
    call = given.iter().fold(call, |call, (name, value)| call.env(*name, *value)).env("PATH", path);
    let (code, text) = said(call);
    assert_eq!(code, 0, "{text}");
    let seen = fs::read_to_string(seen).unwrap();
    for (name, value) in given {
        let passed = seen.lines().any(|line| line == format!("{name}={value}"));
        assert_eq!(passed, name != "OTHER", "{name} in {seen}");
    }
}

#[test]
fn s3_takes_and_gives_builds() {
    let Some(s3) = s3() else { return };
    // The client wants some; a server for tests takes any.
    let rights = |cmd: Cmd| {
        cmd.env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_DEFAULT_REGION", "us-east-1")
    };
    let config = tempfile::tempdir().unwrap();
    let config = config.path().join("config");
    fs::write(
        &config,
        "[default]\nregion = us-east-1\naws_access_key_id = test\naws_secret_access_key = test\n",
    )
    .unwrap();
    let reach = ["--endpoint-url", &s3.endpoint, "--aws-config-file", config.to_str().unwrap()];
    let bucket = format!("nosa-{}", std::process::id());
    let address = format!("s3://{bucket}/prod/streams");
    let source = source();
    fn words<'a>(args: &[&'a str], reach: &[&'a str]) -> Vec<&'a str> {
        [&["buildupload"], args, reach].concat()
    }
    source.fails(
        &words(&[&address], &reach),
        2,
        &format!("there is no bucket `{bucket}`"),
        "create it, or correct the address",
    );
    let make =
        Cmd::program("aws").args(["--endpoint-url", &s3.endpoint, "s3", "mb"]).arg(format!("s3://{bucket}"));
    rights(make).run().unwrap();
    source.ok(&words(&["--build", "1.0", "--acl", "public-read", &address], &reach));
    source.ok(&words(&["s3", &format!("{bucket}/prod/streams")], &reach));
    let again = source.json(&words(&[&address], &reach));
    let kept = again.as_array().unwrap().iter().filter(|row| row["kept"] == json!(true)).count();
    assert_eq!(kept, 1, "the one that is large: {again}");
    fetch_and_compare(&source, &address, &reach);
}
