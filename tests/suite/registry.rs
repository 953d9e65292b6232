//! Images pushed to, fetched from and copied between registries, by the real program and Debian's registry;
//! skopeo judges.

use std::fs;
use std::path::Path;

use nosa::host::Cmd;
use serde_json::{Value, json};

use crate::fixture::{latest, nosa, refused, said, shared};
use crate::judge::judge;
use crate::registry_image::Image;
use crate::registry_server::Registry;
use crate::small::Small;

/// The archive of a build in the tests' small working directories.
const ARCHIVE: &str = "ostree.x86_64.ociarchive";

fn copy(args: &[&str]) -> Cmd {
    Cmd::program(nosa()).arg("copy-container").args(args)
}

/// Runs nosa, which must succeed, and returns its JSON.
fn json_of(call: Cmd) -> Value {
    serde_json::from_str(&call.arg("--json").output().unwrap().text()).unwrap()
}

/// What skopeo says of an image's manifest: its bytes' digest.
fn digest(skopeo: &Cmd, image: &str) -> String {
    let call = skopeo.clone().args(["inspect", "--raw", image]);
    let call = if image.starts_with("docker:") { call.arg("--tls-verify=false") } else { call };
    format!("sha256:{}", nosa::pipeline::Digest::of(call.output().unwrap().stdout))
}

fn skopeo_copy(skopeo: &Cmd, from: &str, to: &str) {
    let call = skopeo.clone().args(["--insecure-policy", "copy", "--all", "--preserve-digests"]);
    call.args(["--src-tls-verify=false", "--dest-tls-verify=false", from, to]).run().unwrap();
}

#[test]
fn a_whole_build_goes_there_and_back_unchanged_by_nosa_and_by_skopeo() {
    let Some(build) = shared() else { return };
    let (Some(registry), Some(skopeo)) = (Registry::start(), judge("skopeo")) else { return };
    let (dir, meta) = latest(&build);
    let place = tempfile::Builder::new().prefix("nosa-copies-").tempdir_in(build.parent().unwrap()).unwrap();
    let archive =
        format!("oci-archive:{}", dir.join(meta["images"]["ostree"]["path"].as_str().unwrap()).display());
    let manifest = fs::read(dir.join(meta["images"]["oci-manifest"]["path"].as_str().unwrap())).unwrap();
    let wanted = format!("sha256:{}", nosa::pipeline::Digest::of(manifest));
    let (by_nosa, by_skopeo) = (registry.image("nosa:1"), registry.image("skopeo:1"));
    let back = |name: &str| format!("oci:{}", place.path().join(name).display());

    let copied = json_of(copy(&[&archive, &by_nosa]));
    assert_eq!(copied[0]["digest"], *wanted);
    assert!(copied[0]["bytes"].as_u64().unwrap() > 50_000_000, "{copied}");
    skopeo_copy(&skopeo, &archive, &by_skopeo);
    skopeo_copy(&skopeo, &by_nosa, &back("a"));
    for (from, to) in [(&by_skopeo, "b"), (&by_nosa, "c")] {
        assert_eq!(json_of(copy(&[from, &back(to)]))[0]["digest"], *wanted);
    }
    for image in [&by_nosa, &by_skopeo, &back("a"), &back("b"), &back("c")] {
        assert_eq!(digest(&skopeo, image), wanted, "{image}");
    }
}

#[test]
fn a_push_is_recorded_and_the_next_one_sends_nothing() {
    let (Some(registry), Some(skopeo)) = (Registry::start(), judge("skopeo")) else { return };
    let image = Image::new(20, &[200_000, 5_000]);
    let small = Small::new();
    small.publish("1.0", &[("ostree", ARCHIVE, &image.archive())]);
    let name = format!("{}/os/nosa", registry.host);
    let file = small.dir.join("digest");
    let first =
        small.json(&["push-container", &name, "--tag", "stable", "--digestfile", file.to_str().unwrap()]);
    let tags = json!(["1.0-x86_64", "stable"]);
    let expected = json!({
        "image": name, "digest": image.digest, "tags": tags, "blobs": 3, "there": 0, "mounted": 0,
        "sent": first["sent"]
    });
    assert_eq!(first, expected);
    assert!(first["sent"].as_u64().unwrap() > 205_000);
    let recorded = json!({"image": name, "digest": image.digest, "tags": tags});
    assert_eq!(small.meta("1.0")["base-oscontainer"], recorded);
    assert_eq!(fs::read_to_string(file).unwrap(), image.digest);
    assert_eq!(digest(&skopeo, &registry.image("os/nosa:stable")), image.digest);

    let again = small.json(&["push-container", &format!("docker://{name}:2")]);
    assert_eq!((&again["there"], &again["sent"]), (&json!(3), &json!(0)));
    // As nestos-assembler spells it; another repository of the same registry takes the blobs itself.
    let mounted = small.json(&[
        "push-container",
        "other",
        "-d",
        &registry.host,
        "--tag-suffix",
        "x",
        "--no-tls-verify",
        "--format",
        "oci",
        "--transport",
        "registry",
    ]);
    assert_eq!((&mounted["mounted"], &mounted["sent"]), (&json!(3), &json!(0)), "{mounted}");
    assert_eq!(mounted["tags"], json!(["1.0-x86_64-x"]));
    assert_eq!(digest(&skopeo, &registry.image("other:1.0-x86_64-x")), image.digest);
}

#[test]
fn what_cannot_be_pushed_is_told_before_anything_is_sent() {
    let small = Small::new();
    small.publish("1.0", &[]);
    let host = "127.0.0.1:9/os";
    small.fails(
        &["push-container", host, "--format", "v2s2"],
        2,
        "nosa pushes images as they were built, not as v2s2: the digest would be another",
        "use skopeo for that: skopeo copy oci-archive:FILE …",
    );
    small.fails(
        &["push-container", host, "--image", "extensions-container"],
        12,
        "build 1.0 has no artifact `extensions-container`; it has ostree",
        "make it with `nosa buildextend extensions-container`",
    );
    let archive = small.dir.join("builds/1.0/x86_64/os-1.0-ostree.x86_64.ociarchive");
    small.fails(
        &["push-container", host],
        12,
        &format!("{} is not an OCI image layout", archive.display()),
        "name a directory or an archive that `skopeo copy … oci:` or `nosa build` wrote",
    );
    small.refused(&["push-container", host, "--creds", "me"], 2, &["--creds is not USER:PASSWORD"]);
    fs::write(&archive, "another").unwrap();
    small.refused(&["push-container", host], 12, &["but meta.json says"]);
    refused(
        copy(&["nowhere", "docker://127.0.0.1:9/x"]),
        2,
        &["nowhere is in podman's storage", "skopeo copy containers-storage:nowhere oci:DIR"],
    );
}

#[test]
fn an_index_is_copied_with_all_that_it_names_or_apart() {
    let (Some(registry), Some(skopeo)) = (Registry::start(), judge("skopeo")) else { return };
    let image = Image::of_two(21);
    json_of(copy(&[&image.name(), &registry.image("a/os:1")]));
    assert_eq!(digest(&skopeo, &registry.image("a/os:1")), image.digest);
    let (a, b) = (registry.image("a/os"), registry.image("b/os"));
    let copied = json_of(copy(&["--tag", "1", &a, &b]));
    assert_eq!(copied, json!([{"target": format!("{b}:1"), "digest": image.digest, "bytes": 0}]));
    let layout = image.beside("layout-back");
    skopeo_copy(&skopeo, &registry.image("b/os:1"), &format!("oci:{}", layout.display()));
    assert_eq!(blobs(&layout), blobs(&image.dir));

    let archive = format!("oci-archive:{}:1.0", image.beside("index.tar").display());
    json_of(copy(&[&registry.image("b/os:1"), &archive]));
    assert_eq!(digest(&skopeo, &archive), image.digest);
    refused(copy(&[&image.name(), &archive]), 2, &["index.tar is there already"]);

    let apart =
        json_of(copy(&["--manifest-list-to-arch-tag", "always", "--tag", "1", &a, &registry.image("c/os")]));
    let targets: Vec<&str> =
        apart.as_array().unwrap().iter().map(|copy| copy["target"].as_str().unwrap()).collect();
    assert_eq!(targets, [registry.image("c/os:1-amd64"), registry.image("c/os:1-arm64")]);
    assert_eq!(digest(&skopeo, targets[1]), apart[1]["digest"]);
    refused(copy(&["--tag", "1", &format!("{a}:1"), &b]), 2, &["tags are said by --tag"]);
}

fn blobs(layout: &Path) -> Vec<String> {
    crate::small::names(&layout.join("blobs/sha256"))
}

#[test]
fn several_architectures_get_one_tag() {
    let (Some(registry), Some(skopeo)) = (Registry::start(), judge("skopeo")) else { return };
    let images = [Image::new_for("amd64", 22, &[50_000]), Image::new_for("arm64", 23, &[60_000])];
    let small = Small::new();
    for (image, arch) in images.iter().zip(["x86_64", "aarch64"]) {
        let name = format!("ostree.{arch}.ociarchive");
        small.publish_for(arch, "1.0", &[("ostree", &name, &image.archive())], |_, _| {});
    }
    let repo = format!("{}/os", registry.host);
    let file = small.dir.join("digest");
    let args = [
        "push-container-manifest",
        "--repo",
        &repo,
        "--tag",
        "1.0",
        "--tag",
        "stable",
        "--artifact",
        "ostree",
        "--metajsonname",
        "base-oscontainer",
        "--write-digest-file",
        file.to_str().unwrap(),
    ];
    let pushed = small.json(&args);
    assert_eq!(pushed["images"], json!({"amd64": images[0].digest, "arm64": images[1].digest}));
    assert_eq!(pushed["kept"], false);
    let index = skopeo.clone().args(["inspect", "--raw", "--tls-verify=false", &registry.image("os:stable")]);
    let index: Value = serde_json::from_slice(&index.output().unwrap().stdout).unwrap();
    assert_eq!(index["annotations"], json!({"org.opencontainers.image.version": "1.0"}));
    assert_eq!(index["manifests"][1]["platform"], json!({"architecture": "arm64", "os": "linux"}));
    assert_eq!(pushed["digest"], digest(&skopeo, &registry.image("os:1.0")));
    assert_eq!(pushed["digest"], fs::read_to_string(&file).unwrap());
    // Each build records its own digest, not the index's.
    for (image, arch) in images.iter().zip(["x86_64", "aarch64"]) {
        let meta = fs::read_to_string(small.dir.join(format!("builds/1.0/{arch}/meta.json"))).unwrap();
        let meta: Value = serde_json::from_str(&meta).unwrap();
        let recorded = json!({"image": repo, "digest": image.digest, "tags": ["1.0", "stable"]});
        assert_eq!(meta["base-oscontainer"], recorded);
    }
    assert_eq!(small.json(&args)["kept"], true);
    // The same of images that lie in the registry and in a layout.
    let by_hand = small.json(&[
        "push-container-manifest",
        "--repo",
        &repo,
        "--tag",
        "hand",
        "--image",
        &images[0].name(),
        "--image",
        &registry.image(&format!("os@{}", images[1].digest)),
    ]);
    assert_eq!(by_hand["images"], pushed["images"]);
    assert_ne!(by_hand["digest"], pushed["digest"], "it has no annotations");
    small.refused(
        &[
            "push-container-manifest",
            "--repo",
            &repo,
            "--tag",
            "x",
            "--image",
            &images[0].name(),
            "--image",
            &images[0].name(),
        ],
        2,
        &["two of the images are for amd64"],
    );
    small.refused(
        &[&args[..], &["--arch", "s390x"]].concat(),
        12,
        &["build 1.0 exists for", "not for s390x"],
    );
    small.refused(&[&args[..], &["--v2s2"]].concat(), 2, &["not as v2s2"]);
    let wrong = [
        "push-container-manifest",
        "--repo",
        &repo,
        "--tag",
        "x",
        "--artifact",
        "ostree",
        "--metajsonname",
        "x",
    ];
    small.refused(&wrong, 2, &["meta.json has no key `x` for an image"]);
}

/// A registry for user `me` with password `pass`.
fn locked(place: &Path) -> Option<Registry> {
    let users = place.join("htpasswd");
    fs::write(&users, "me:$2b$04$jBLu4dQwOkkdEnvw15ZJYuQ3kg0017LDN6wSQp0tdSH5W5LhJybi2\n").unwrap();
    Registry::start_with(&format!("auth:\n  htpasswd: {{realm: r, path: {}}}\n", users.display()))
}

#[test]
fn credentials_come_from_podmans_and_dockers_files_and_helpers() {
    let place = tempfile::tempdir().unwrap();
    let Some(registry) = locked(place.path()) else { return };
    let image = Image::new(24, &[1_000]);
    let home = place.path().join("home");
    let target = registry.image("os:1");
    let call = || {
        copy(&[&image.name(), &target, "-q"])
            .env("HOME", &home)
            .env("XDG_RUNTIME_DIR", place.path().join("run"))
    };
    let works = |call: Cmd| {
        let (code, text) = said(call);
        assert_eq!(code, 0, "{text}");
    };
    let locked_out = |call: Cmd| {
        let (code, text) = said(call);
        assert!(text.contains("it answered 401 Unauthorized") && !text.contains("pass"), "{text}");
        assert_eq!(code, 5);
    };
    locked_out(call());
    works(call().args(["--creds", "me:pass"]));
    locked_out(call().args(["--creds", "me:other"]));
    let host = &registry.host;
    let write = |path: &str, text: String| {
        let path = place.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    };
    // me:pass and me:none
    let (right, wrong) = ("bWU6cGFzcw==", "bWU6bm9uZQ==");
    let auths = |key: &str, auth: &str| json!({"auths": {key: {"auth": auth}}}).to_string();
    let file = write("named.json", auths(host, right));
    works(call().arg("--authfile").arg(&file));
    works(call().env("REGISTRY_AUTH_FILE", &file));
    let missing = place.path().join("missing.json");
    let (code, text) = said(call().arg("--authfile").arg(&missing));
    assert!(text.contains(&format!("there is no file with credentials at {}", missing.display())), "{text}");
    assert_eq!(code, 2);
    // docker's file is the last, podman's two come before it, and a namespace before its host.
    let docker = write("home/.docker/config.json", auths(&format!("http://{host}/v1/"), right));
    works(call());
    write("home/.config/containers/auth.json", auths(host, wrong));
    locked_out(call());
    write("run/containers/auth.json", auths(&format!("{host}/os"), right));
    works(call());

    for path in ["run/containers/auth.json", "home/.config/containers/auth.json"] {
        fs::remove_file(place.path().join(path)).unwrap();
    }
    fs::write(docker, json!({"credHelpers": {host: "test"}}).to_string()).unwrap();
    let program = write(
        "bin/docker-credential-test",
        format!(
            "#!/bin/sh\n[ \"$1\" = get ] && [ \"$(cat)\" = {host} ] && echo '{{\"Username\": \"me\", \"Secret\": \"pass\"}}'\n"
        ),
    );
    std::os::unix::fs::chown(&program, None, None).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    works(call().env("PATH", &path));
    fs::write(&program, "#!/bin/sh\necho credentials not found in native keychain >&2; exit 1\n").unwrap();
    locked_out(call().env("PATH", &path));
    fs::write(&program, "#!/bin/sh\necho the vault is closed >&2; exit 1\n").unwrap();
    let (code, text) = said(call().env("PATH", &path));
    assert!(
        text.contains("docker-credential-test, which the file with credentials names, failed")
            && text.contains("the vault is closed"),
        "{text}"
    );
    assert_eq!(code, 9);
}
