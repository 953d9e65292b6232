//! What a user meets who asks for something impossible: one message with value, cause and cure, a documented
//! exit code, and no build begun.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use nosa::host::Cmd;

use crate::fixture::{EPOCH, Work, is_root, nosa, refused, shared};

fn work() -> Option<Work> {
    shared().map(|shared| Work::new(&shared))
}

#[test]
fn an_unknown_package() {
    let Some(work) = work() else { return };
    work.edit("manifests/host-tools.yaml", |text| text.replace("- jq", "- jqq"));
    let words = ["manifests/host-tools.yaml:", "no repository of", "has a package jqq", "is jq meant?"];
    work.fails(&["build"], 4, &words);
}

#[test]
fn two_packages_in_conflict() {
    let Some(work) = work() else { return };
    work.edit("manifests/host-tools.yaml", |text| text.replace("- jq", "- jq chrony"));
    let words = ["cannot be installed together", "chrony", "systemd-timesyncd", "manifests/host-tools.yaml:"];
    work.fails(&["build"], 4, &words);
}

#[test]
fn an_excluded_package_that_is_needed() {
    let Some(work) = work() else { return };
    work.edit("manifests/system.yaml", |text| {
        text.replace("exclude-packages:\n", "exclude-packages:\n  - libssl3t64\n")
    });
    work.fails(&["build"], 4, &["libssl3t64", "exclude-packages"]);
}

#[test]
fn a_repository_that_cannot_be_reached() {
    let Some(work) = work() else { return };
    // Nothing listens on port 1.
    let call = work.nosa(&["fetch", "--debian-mirror", "http://127.0.0.1:1/debian"]);
    refused(call, 5, &["debian.sources", "127.0.0.1:1", "cannot be read", "--debian-mirror"]);
}

#[test]
fn a_repository_whose_signature_does_not_hold() {
    let Some(work) = work() else { return };
    // A keyring, but not this archive's.
    fs::write(
        work.config("other.gpg"),
        fs::read("/usr/share/keyrings/debian-archive-bookworm-stable.gpg").unwrap(),
    )
    .unwrap();
    work.edit("debian-security.sources", |text| {
        text.replace("/usr/share/keyrings/debian-archive-keyring.gpg", "other.gpg")
    });
    refused(work.nosa(&["fetch"]), 5, &["debian-security.sources", "signature does not hold", "Signed-By"]);
}

#[test]
fn a_lock_with_a_wrong_digest() {
    let Some(shared) = shared() else { return };
    let work = Work::new(&shared);
    let (dir, _) = crate::fixture::latest(&shared);
    let lock = fs::read_to_string(dir.join("manifest-lock.generated.x86_64.json")).unwrap();
    let mut lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
    lock["packages"]["jq"]["digest"] = format!("sha256:{}", "0".repeat(64)).into();
    fs::write(work.config("manifest-lock.x86_64.json"), lock.to_string()).unwrap();
    work.fails(
        &["build"],
        6,
        &["manifest-lock.x86_64.json", "jq", "is locked with digest sha256:0000", "--update-lockfile"],
    );
}

#[test]
fn a_locked_version_that_is_gone_and_a_package_that_strict_refuses() {
    let Some(work) = work() else { return };
    fs::write(work.config("manifest-lock.x86_64.json"), r#"{"packages": {"jq": {"evr": "0.1-1"}}}"#).unwrap();
    work.fails(&["build"], 6, &["manifest-lock.x86_64.json", "jq is locked at 0.1-1", "--update-lockfile"]);
    fs::write(work.config("manifest-lock.x86_64.json"), r#"{"packages": {}}"#).unwrap();
    work.fails(&["build", "--strict"], 6, &["--strict: not in the lockfile:", "bash"]);
}

#[test]
fn an_overlay_file_that_fights_a_packages_file() {
    let Some(work) = work() else { return };
    let file = work.config("overlay.d/05core/usr/bin/jq");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "mine").unwrap();
    work.fails(&["build"], 3, &["overlay.d/05core/usr/bin/jq", "package jq", "drop-in"]);
}

#[test]
fn a_postprocess_script_that_exits_3() {
    let Some(work) = work() else { return };
    work.edit("manifest.yaml", |text| {
        format!("{text}\npostprocess:\n  - |\n    #!/bin/sh\n    echo before the end\n    exit 3\n")
    });
    work.fails(&["build"], 7, &["manifest.yaml:", "exit code 3", "before the end", "postprocess.log"]);
}

#[test]
fn an_initramfs_without_the_roots_driver() {
    let Some(work) = work() else { return };
    // As it may come out of a kernel package that has it elsewhere.
    work.edit("manifest.yaml", |text| {
        format!(
            "{text}\npostprocess:\n  - |\n    #!/bin/sh\n    find /usr/lib/modules -name 'ext4.ko*' -delete\n"
        )
    });
    work.fails(&["build"], 7, &["lacks the driver ext4", "dracut.conf.d"]);
}

#[test]
fn an_image_size_that_is_too_small_for_the_tree() {
    let Some(work) = work() else { return };
    work.edit("image.yaml", |text| text.replace("size: 10", "size: 1"));
    work.fails(&["build"], 7, &["the image size of 1024 MiB is too small", "`size` in image.yaml"]);
}

#[test]
fn a_missing_tool_and_one_that_is_too_old() {
    let Some(work) = work() else { return };
    work.edit("image.yaml", |text| text.replace("size: 10", "size: 11"));
    let bin = work.dir.join("bin");
    fs::create_dir(&bin).unwrap();
    fs::write(bin.join("qemu-img"), "#!/bin/sh\necho qemu-img version 5.2.0\n").unwrap();
    fs::set_permissions(bin.join("qemu-img"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    let call = work.nosa(&["build"]).env("PATH", path);
    refused(call, 9, &["qemu-img 5.2.0 is too old", "7.0 or later", "apt-get install qemu-utils"]);
    assert!(work.builds().is_empty());
    if is_root() {
        let hide = format!(
            "mount --bind /dev/null /usr/bin/qemu-img && exec {} -C {} build",
            nosa(),
            work.dir.display()
        );
        let call = Cmd::program("unshare").args(["-m", "sh", "-c", &hide]).env("SOURCE_DATE_EPOCH", EPOCH);
        refused(call, 9, &["qemu-img is not installed", "apt-get install qemu-utils"]);
        assert!(work.builds().is_empty());
    }
}

#[test]
fn a_full_disk() {
    let Some(work) = work() else { return };
    if !is_root() {
        return;
    }
    // Into the first the package indexes do not fit, into the second the packages' tree does not.
    for size in ["64m", "400m"] {
        let script = format!(
            "rm -rf {dir}/cache && mkdir {dir}/cache && mount -t tmpfs -o size={size} none {dir}/cache && exec {nosa} -C {dir} build",
            dir = work.dir.display(),
            nosa = nosa()
        );
        let call = Cmd::program("unshare").args(["-m", "sh", "-c", &script]).env("SOURCE_DATE_EPOCH", EPOCH);
        refused(call, 8, &["No space left on device", "free some space"]);
        assert!(work.builds().is_empty());
    }
}

#[test]
fn a_second_build_in_the_same_working_directory() {
    let Some(work) = work() else { return };
    work.edit("manifest.yaml", |text| format!("{text}\npostprocess:\n  - |\n    #!/bin/sh\n    sleep 600\n"));
    let log = work.dir.join("first.log");
    let mut first = work.nosa(&["build"]).log(&log).spawn().unwrap();
    let waiting = std::time::Instant::now();
    while !fs::read_to_string(&log).unwrap_or_default().contains("==> compose") {
        assert!(waiting.elapsed().as_secs() < 120, "{}", fs::read_to_string(&log).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    work.fails(&["build"], 10, &["is in use by nosa build, process", "wait until it has finished"]);
    first.kill();
}
