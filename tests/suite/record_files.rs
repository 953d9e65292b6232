//! The files of a build by the real program: compressed and back, checked, signed, told to the world.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nosa::builds::GitSource;
use nosa::host::Cmd;
use nosa::ostree::{CommitOptions, Repo, TreeOptions};
use nosa::pipeline::Digest;
use serde_json::{Value, json};

use crate::judge::judge;
use crate::small::{Small, bytes};

const RAW: &str = "metal.x86_64.raw";

fn two_disks(length: usize) -> Small {
    let small = Small::new();
    small.publish("1.0", &[("metal", RAW, &bytes(1, length)), ("metal4k", "metal4k.x86_64.raw", b"small")]);
    small
}

#[test]
fn compressing_and_back_gives_the_same_build() {
    let original = bytes(1, 3_000_000);
    for (format, extension) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let small = two_disks(original.len());
        let before = small.meta("1.0");
        small.ok(&["compress", "-q", "--compressor", format]);
        let path = format!("os-1.0-{RAW}.{extension}");
        let image = &small.meta("1.0")["images"]["metal"];
        let file = small.dir.join("builds/1.0/x86_64").join(&path);
        let packed = fs::read(&file).unwrap();
        assert_eq!(
            image,
            &json!({
                "path": path, "sha256": Digest::of(&packed).to_string(), "size": packed.len(),
                "uncompressed-sha256": before["images"]["metal"]["sha256"], "uncompressed-size": original.len()
            })
        );
        assert!(packed.len() < original.len() * 9 / 10);
        let unpacked = Cmd::program(format).arg("-dc").arg(&file).output().unwrap();
        assert!(unpacked.stdout == original, "{format}");
        assert!(!small.files("1.0").contains(&format!("os-1.0-{RAW}")));
        assert_eq!(small.meta("1.0")["images"]["ostree"], before["images"]["ostree"], "not to be compressed");
        small.assert_whole();

        let again = small.json(&["compress", "-q", "--compressor", "gzip"]);
        let skipped = |name: &str| {
            let row = again.as_array().unwrap().iter().find(|row| row["artifact"] == name).unwrap();
            row["skipped"].as_str().unwrap().to_owned()
        };
        assert_eq!(
            (skipped("metal").as_str(), skipped("ostree").as_str()),
            ("is compressed already", "is not to be compressed")
        );

        small.ok(&["decompress", "-q", "--artifact", "metal"]);
        assert_eq!(small.meta("1.0")["images"]["metal"], before["images"]["metal"]);
        assert!(
            fs::read(small.dir.join("builds/1.0/x86_64").join(format!("os-1.0-{RAW}"))).unwrap() == original
        );
        small.ok(&["uncompress", "-q"]);
        assert_eq!(small.meta("1.0")["images"], before["images"]);
        small.assert_whole();
    }
}

#[test]
fn the_compressor_is_the_configurations_unless_told() {
    let small = two_disks(1000);
    small.ok(&["compress", "-q", "--artifact", "metal"]);
    assert_eq!(small.meta("1.0")["images"]["metal"]["path"], format!("os-1.0-{RAW}.xz"));
    small.ok(&["compress", "-q", "--fast"]);
    assert_eq!(small.meta("1.0")["images"]["metal4k"]["path"], "os-1.0-metal4k.x86_64.raw.gz");
}

#[test]
fn the_number_of_processors_does_not_show_in_the_bytes() {
    // More than one of xz's blocks, and cheap to compress.
    let mut disk = Vec::new();
    for part in 0..100_u32 {
        disk.extend_from_slice(&part.to_le_bytes());
        disk.extend_from_slice(&bytes(1, 300_000));
    }
    for format in ["gzip", "xz", "zstd"] {
        let digest = |processors: &str| {
            let small = Small::new();
            small.publish("1.0", &[("metal", RAW, &disk)]);
            let nosa = small.call(&["compress", "-q", "--compressor", format, "--artifact", "metal"]);
            let line = nosa.to_string();
            let words: Vec<&str> = line.split(' ').collect();
            Cmd::program("taskset").args(["-c", processors]).args(words).run().unwrap();
            small.meta("1.0")["images"]["metal"]["sha256"].clone()
        };
        assert_eq!(digest("0"), digest("0-1"), "{format}");
    }
}

#[test]
fn what_cannot_be_compressed_is_told_and_left_alone() {
    let small = two_disks(100_000);
    let dir = small.dir.join("builds/1.0/x86_64");
    small.fails(
        &["compress", "--artifact", "qemu"],
        12,
        "build 1.0 has no artifact `qemu`; it has metal, metal4k, ostree",
        "make it with `nosa buildextend qemu`",
    );
    small.refused(
        &["compress", "--compressor", "bzip2"],
        2,
        &["invalid value 'bzip2' for '--compressor <COMPRESSOR>'", "[possible values: gzip, xz, zstd]"],
    );
    small.fails(
        &["compress", "--build", "2"],
        12,
        &format!("there is no build 2 in {}", small.dir.join("builds").display()),
        "see `nosa list` for the builds there are",
    );
    let before = small.meta("1.0");
    let expected = before["images"]["metal"]["sha256"].as_str().unwrap();
    let raw = dir.join(format!("os-1.0-{RAW}"));
    fs::write(&raw, "tampered").unwrap();
    let found = Digest::of("tampered");
    small.fails(
        &["compress"],
        12,
        &format!(
            "{} is damaged: the SHA-256 of its content is {found}, meta.json says {expected}",
            raw.display()
        ),
        "fetch or make that artifact again",
    );
    assert_eq!(small.meta("1.0"), before);
    assert!(small.files("1.0").iter().all(|name| !name.starts_with('.') && !name.ends_with(".gz")));

    fs::write(&raw, bytes(1, 100_000)).unwrap();
    small.ok(&["compress", "-q", "--compressor", "gzip"]);
    let packed = dir.join(format!("os-1.0-{RAW}.gz"));
    let mut bytes = fs::read(&packed).unwrap();
    let length = bytes.len();
    bytes.truncate(length / 2);
    std::os::unix::fs::PermissionsExt::set_mode(&mut fs::metadata(&packed).unwrap().permissions(), 0o644);
    fs::remove_file(&packed).unwrap();
    fs::write(&packed, bytes).unwrap();
    small.refused(&["decompress"], 12, &["decompressing", &packed.display().to_string(), "fetch or make"]);
    fs::remove_file(&packed).unwrap();
    small.fails(
        &["decompress", "--artifact", "metal"],
        12,
        &format!("{} is missing, though meta.json lists it as `metal`", packed.display()),
        "make it again with `nosa buildextend metal --force`",
    );
}

#[test]
fn compressing_that_is_killed_at_any_time_loses_nothing() {
    let mut interrupted = 0;
    for round in 0..30_u64 {
        let small = two_disks(4_000_000);
        let mut compress = small.call(&["compress", "-q", "--fast"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(4 + 5 * round));
        interrupted += usize::from(compress.try_wait().unwrap().is_none());
        compress.kill();
        // Without any repair: whatever meta.json lists is there and is what it says.
        small.ok(&["build-validate", "-q"]);
        small.ok(&["compress", "-q", "--fast"]);
        small.assert_whole();
        let expected = [
            "commitmeta.json",
            "meta.json",
            "os-1.0-metal.x86_64.raw.gz",
            "os-1.0-metal4k.x86_64.raw.gz",
            "os-1.0-ostree.x86_64.ociarchive",
            "ostree-commit-object",
        ];
        assert_eq!(small.files("1.0"), expected, "round {round}: nothing else stays");
    }
    assert!(interrupted > 8, "only {interrupted} of 30 were still running");
}

#[test]
fn validating_finds_every_kind_of_damage() {
    let Some(qemu_img) = judge("qemu-img") else { return };
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk.qcow2");
    qemu_img.args(["create", "-q", "-f", "qcow2"]).arg(&disk).arg("1M").run().unwrap();
    let good = fs::read(&disk).unwrap();
    // A reference count that is not what the tables say.
    let mut leaking = good.clone();
    leaking[0x20001] = 2;
    let small = Small::new();
    let qcow2: &[(&str, &str, &[u8])] = &[("qemu", "qemu.x86_64.qcow2", &good), ("metal", RAW, b"disk")];
    small.publish("1.0", qcow2);
    let table = small.ok(&["build-validate", "-q"]);
    assert_eq!(table.lines().filter(|line| line.starts_with("ok ")).count(), 6, "{table}");

    let problem = |small: &Small, subject: &str| -> String {
        let text = match small.call(&["build-validate", "-q", "--json"]).log(&small.dir.join("log")).output()
        {
            Ok(_) => return String::new(),
            Err(_) => {
                let mut text = String::new();
                let call = small.call(&["build-validate", "-q", "--json"]);
                drop(call.run_lines(|line| {
                    if !line.starts_with("error:") && !line.starts_with("  fetch") {
                        text.push_str(line);
                        text.push('\n');
                    }
                }));
                text
            }
        };
        let findings: Value = serde_json::from_str(&text).unwrap();
        let row = findings.as_array().unwrap().iter().find(|row| row["subject"] == subject).unwrap();
        row["problem"].as_str().unwrap_or_default().to_owned()
    };
    let dir = small.dir.join("builds/1.0/x86_64");
    let replace = |name: &str, bytes: &[u8]| {
        fs::remove_file(dir.join(name)).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
    };
    let metal = format!("os-1.0-{RAW}");
    replace(&metal, b"dusk");
    let expected = small.meta("1.0")["images"]["metal"]["sha256"].as_str().unwrap().to_owned();
    assert_eq!(
        problem(&small, "metal"),
        format!("its SHA-256 is {}, meta.json says {expected}", Digest::of("dusk"))
    );
    small.refused(
        &["build-validate"],
        12,
        &["1 of 6 files are not what the record says: metal", "BAD  metal"],
    );
    replace(&metal, b"longer");
    assert_eq!(problem(&small, "metal"), "has 6 bytes, meta.json says 4");
    fs::remove_file(dir.join(&metal)).unwrap();
    assert_eq!(problem(&small, "metal"), "is missing");
    replace("commitmeta.json", b"{\"version\": \"0.9\"}");
    assert_eq!(problem(&small, "commitmeta.json"), "`version` is 0.9, `ostree-version` of meta.json 1.0");
    replace("ostree-commit-object", b"x");
    assert!(
        problem(&small, "ostree-commit-object").starts_with(&format!("its checksum is {}", Digest::of("x")))
    );

    let small = Small::new();
    small.publish("1.0", &[("qemu", "qemu.x86_64.qcow2", &leaking)]);
    assert!(problem(&small, "qemu").contains("qemu-img ended with exit code"), "{}", problem(&small, "qemu"));
}

/// A GPG home with one key that needs no passphrase.
struct Keys {
    home: tempfile::TempDir,
}

impl Keys {
    fn new() -> Option<Self> {
        judge("gpg")?;
        // A short path: the agent's socket is below it.
        let home = tempfile::Builder::new().prefix("gpg").tempdir_in("/tmp").unwrap();
        let keys = Self { home };
        let make = [
            "--batch",
            "--passphrase",
            "",
            "--quick-generate-key",
            "nosa test <t@example.com>",
            "ed25519",
            "sign",
        ];
        keys.gpg().args(make).run().unwrap();
        Some(keys)
    }

    fn gpg(&self) -> Cmd {
        Cmd::program("gpg").args(["--no-tty", "--quiet", "--homedir"]).arg(self.home.path())
    }

    fn path(&self) -> &str {
        self.home.path().to_str().unwrap()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        drop(
            Cmd::program("gpgconf")
                .arg("--homedir")
                .arg(self.home.path())
                .args(["--kill", "gpg-agent"])
                .run(),
        );
    }
}

#[test]
fn signatures_satisfy_gpg_and_ostree() {
    let (Some(keys), Some(_)) = (Keys::new(), judge("ostree")) else { return };
    let small = Small::new();
    // A real commit in the cache's repository.
    let repo_dir = small.dir.join("cache/repo");
    let repo = Repo::create(&repo_dir).unwrap();
    let tree = small.dir.join("tmp/tree");
    fs::create_dir_all(tree.join("usr")).unwrap();
    fs::write(tree.join("usr/file"), "x").unwrap();
    let options = CommitOptions { branch: "os/x/stable".to_owned(), ..CommitOptions::default() };
    let commit = repo.commit(&tree, TreeOptions::default(), &options).unwrap().commit;
    small.publish_with("1.0", &[("metal", RAW, b"disk")], |meta, _| meta.ostree_commit = commit.to_string());
    let object = small.dir.join("builds/1.0/x86_64/ostree-commit-object");
    fs::write(&object, repo.commit_bytes(commit).unwrap()).unwrap();

    small.fails(
        &["sign", "--gpg-key", "nobody@example.com", "--gpg-homedir", keys.path()],
        2,
        &format!("GPG has no secret key `nobody@example.com` in {}", keys.path()),
        "name one that `gpg --list-secret-keys` shows, or its --gpg-homedir",
    );
    let args = ["sign", "-q", "--gpg-key", "t@example.com", "--gpg-homedir", keys.path()];
    assert!(
        small.ok(&args).starts_with("signed  ostree-commit-object.sig\nsigned  os-1.0-metal.x86_64.raw.sig")
    );
    let verify =
        |path: &Path| keys.gpg().arg("--verify").arg(format!("{}.sig", path.display())).arg(path).run();
    verify(&small.dir.join(format!("builds/1.0/x86_64/os-1.0-{RAW}"))).unwrap();
    verify(&object).unwrap();
    let key = small.dir.join("tmp/keys/key.gpg");
    fs::create_dir_all(key.parent().unwrap()).unwrap();
    fs::write(&key, keys.gpg().arg("--export").output().unwrap().stdout).unwrap();
    let show = Cmd::program("ostree").arg("show").arg(format!("--repo={}", repo_dir.display()));
    let shown = show
        .arg(format!("--gpg-homedir={}", small.dir.join("tmp/keys").display()))
        .arg(commit.to_string())
        .output()
        .unwrap()
        .text();
    assert!(shown.contains("Found 1 signature") && shown.contains("Good signature from"), "{shown}");
    // As a remote whose key is trusted: a pull that demands a good signature.
    let trusted = |name: &str, good: bool| {
        let client = small.dir.join("tmp").join(name);
        let ostree = |args: &[&str]| {
            Cmd::program("ostree").arg(format!("--repo={}", client.display())).args(args).run()
        };
        ostree(&["init", "--mode=bare-user"]).unwrap();
        let url = format!("file://{}", repo_dir.display());
        let import = format!("--gpg-import={}", key.display());
        ostree(&["remote", "add", &import, "origin", &url]).unwrap();
        let pulled = ostree(&["pull", "origin", "os/x/stable"]);
        assert_eq!(pulled.is_ok(), good, "{pulled:?}");
    };
    trusted("client", true);
    assert!(
        small.ok(&args).starts_with("kept  ostree-commit-object.sig\nkept "),
        "signing again changes nothing"
    );
    let detached = fs::read(small.dir.join("builds/1.0/x86_64/ostree-commitmeta-object")).unwrap();
    assert_eq!(detached, repo.detached(commit).unwrap());
    repo.set_detached(commit, &[]).unwrap();
    trusted("suspicious", false);
}

#[test]
fn release_metadata_has_fedora_coreos_shape() {
    let small = Small::new();
    let files: &[(&str, &str, &[u8])] = &[
        ("qemu", "qemu.x86_64.qcow2", b"qemu"),
        ("metal", RAW, b"metal"),
        ("metal4k", "metal4k.x86_64.raw", b"metal4k"),
        ("live-iso", "live-iso.x86_64.iso", b"iso"),
        ("live-kernel", "live-kernel.x86_64", b"kernel"),
    ];
    small.publish("1.0", files);
    small.ok(&["compress", "-q", "--artifact", "qemu", "--artifact", "metal4k"]);
    let call = ["generate-release-meta", "-q", "--stream-baseurl", "https://example.com/streams/"];
    small.ok(&call);
    let path = small.dir.join("builds/1.0/release.json");
    let release: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!((&release["release"], &release["stream"]), (&json!("1.0"), &json!("stable")));
    let arch = &release["architectures"]["x86_64"];
    let meta = small.meta("1.0");
    assert_eq!(arch["commit"], meta["ostree-commit"]);
    let url = "https://example.com/streams/stable/builds/1.0/x86_64/os-1.0-qemu.x86_64.qcow2.xz";
    assert_eq!(
        arch["media"]["qemu"]["artifacts"]["qcow2.xz"]["disk"],
        json!({
            "location": url, "signature": format!("{url}.sig"), "sha256": meta["images"]["qemu"]["sha256"],
            "uncompressed-sha256": meta["images"]["qemu"]["uncompressed-sha256"]
        })
    );
    let metal = arch["media"]["metal"]["artifacts"].as_object().unwrap();
    assert_eq!(metal.keys().map(String::as_str).collect::<Vec<_>>(), ["raw", "4k.raw.xz", "iso", "pxe"]);
    assert!(metal["pxe"]["kernel"]["uncompressed-sha256"].is_null());
    small.ok(&call);
    assert_eq!(release, serde_json::from_str::<Value>(&fs::read_to_string(&path).unwrap()).unwrap());
    small.fails(
        &["generate-release-meta", "--stream-baseurl", "https://example.com/", "--stream-name", "next"],
        12,
        "the release metadata to add to is of another release: `stream` is \"stable\", not \"next\"",
        "write to another file with --output, or remove that one",
    );
    small.refused(&["generate-release-meta"], 2, &["--stream-baseurl <URL>"]);
    // What the help says of the stream's name.
    small.publish_with("1.1", &[], |meta, _| {
        let branch = Some("testing".to_owned());
        let source = GitSource { commit: "a".repeat(40), origin: "o".to_owned(), branch, dirty: None };
        meta.config_git = Some(source);
    });
    let named = small.json(&call);
    assert_eq!(named["stream"], "testing");
    let help = small.ok(&["generate-release-meta", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let default = "The stream's name (default: the last part of the build's `ref`, unless its meta.json names a \
                   branch, as coreos-assembler's do, or an imported image's stream)";
    assert!(help.contains(default), "{help}");
}
