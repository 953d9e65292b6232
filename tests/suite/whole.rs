//! A whole build of the default variant against outside judges, and what happens when it is built again.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;

use nosa::host::Cmd;
use nosa::ostree::{CommitOptions, Content, NodeObject, Repo, TreeOptions};

use crate::disk::host;
use crate::fixture::{EPOCH, Work, artifact, is_root, latest, nosa, said, shared};
use crate::judge::judge;

const MIB: u64 = 1 << 20;

/// The shared build's qcow2 as a raw disk, and its partitions as files.
struct Disk {
    place: tempfile::TempDir,
    table: String,
}

impl Disk {
    fn of(shared: &Path) -> Self {
        let place =
            tempfile::Builder::new().prefix("nosa-disk-").tempdir_in(shared.parent().unwrap()).unwrap();
        let raw = place.path().join("disk.raw").display().to_string();
        host("qemu-img", &["convert", "-O", "raw", &artifact(shared, "qemu").display().to_string(), &raw]);
        let table = host("sgdisk", &["-p", &raw]);
        let disk = Self { place, table };
        for (number, name) in [(2, "esp"), (3, "boot"), (4, "root")] {
            disk.extract(number, name);
        }
        disk
    }

    fn path(&self, name: &str) -> String {
        self.place.path().join(name).display().to_string()
    }

    fn extract(&self, number: u64, name: &str) {
        let row =
            self.table.lines().find(|line| line.trim_start().starts_with(&format!("{number} "))).unwrap();
        let sectors: Vec<u64> = row.split_whitespace().take(3).map(|word| word.parse().unwrap()).collect();
        let source = fs::File::open(self.path("disk.raw")).unwrap();
        let target = fs::File::create(self.path(name)).unwrap();
        let (start, end) = (sectors[1] * 512, (sectors[2] + 1) * 512);
        target.set_len(end - start).unwrap();
        let mut buffer = vec![0; MIB as usize];
        for at in (start..end).step_by(buffer.len()) {
            source.read_exact_at(&mut buffer, at).unwrap();
            if buffer.iter().any(|byte| *byte != 0) {
                target.write_all_at(&buffer, at - start).unwrap();
            }
        }
    }
}

#[test]
fn outside_judges_find_nothing_wrong() {
    let Some(shared) = shared() else { return };
    let disk = Disk::of(&shared);
    let verdict = host("sgdisk", &["-v", &disk.path("disk.raw")]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    host("fsck.fat", &["-n", &disk.path("esp")]);
    for name in ["boot", "root"] {
        host("e2fsck", &["-fn", &disk.path(name)]);
    }
    host("qemu-img", &["check", &artifact(&shared, "qemu").display().to_string()]);
    let repo = shared.join("cache/repo");
    host("ostree", &["fsck", &format!("--repo={}", repo.display())]);

    let (_, meta) = latest(&shared);
    let archive = format!("oci-archive:{}", artifact(&shared, "ostree").display());
    let inspected: serde_json::Value = serde_json::from_str(&host("skopeo", &["inspect", &archive])).unwrap();
    let labels = &inspected["Labels"];
    assert_eq!(labels["ostree.commit"], meta["ostree-commit"]);
    assert_eq!(labels["ostree.bootable"], "true");
    assert_eq!(labels["containers.bootc"], "1");
    assert_eq!(labels["org.opencontainers.image.version"], meta["ostree-version"]);
    assert!(!labels["ostree.final-diffid"].is_null());
}

#[test]
fn a_second_reader_takes_every_object() {
    let Some(shared) = shared() else { return };
    let Some(cfsctl) = judge("cfsctl") else { return };
    let place = tempfile::Builder::new().prefix("nosa-cfs-").tempdir_in(shared.parent().unwrap()).unwrap();
    let (_, meta) = latest(&shared);
    let store = place.path().join("store").display().to_string();
    cfsctl.clone().args(["--insecure", "--repo", &store, "init"]).run().unwrap();
    let call = cfsctl.args(["--insecure", "--repo", &store, "ostree", "pull-local"]);
    let call = call.arg(shared.join("cache/repo").as_os_str()).arg(meta["ref"].as_str().unwrap());
    let (code, said) = said(call);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn the_deployment_in_the_image_is_the_commit() {
    let Some(shared) = shared() else { return };
    if !is_root() {
        return;
    }
    let disk = Disk::of(&shared);
    let dumped = disk.place.path().join("dumped");
    fs::create_dir(&dumped).unwrap();
    host("debugfs", &["-R", &format!("rdump / {}", dumped.display()), &disk.path("root")]);

    let (_, meta) = latest(&shared);
    let commit = meta["ostree-commit"].as_str().unwrap();
    let inside = format!("ostree/deploy/nestos/deploy/{commit}.0");
    let deployment = dumped.join(&inside);
    // /etc is the machine's copy of /usr/etc: compared with it, then not part of the commit.
    let differences =
        said(Cmd::program("diff").args(["-r", "--no-dereference", "etc", "usr/etc"]).dir(&deployment)).1;
    assert_eq!(differences, "");
    fs::remove_dir_all(deployment.join("etc")).unwrap();
    // debugfs dumps neither extended attributes nor set-id and sticky bits: those that the commit has must be
    // in the image, and are then given to what was dumped.
    let repo = Repo::open(&shared.join("cache/repo")).unwrap();
    let (mut attributes, mut special) = (0, 0);
    for node in repo.walk(commit.parse().unwrap()).unwrap() {
        let path = deployment.join(&node.path);
        let in_image = format!("/{inside}/{}", node.path.display());
        let meta = match node.object {
            NodeObject::Directory { attributes, .. } => attributes,
            NodeObject::File(checksum) => {
                let file = repo.file(checksum).unwrap();
                if !matches!(file.content, Content::Regular(..)) {
                    continue;
                }
                file.attributes
            }
        };
        for (name, value) in &meta.xattrs {
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            let saved = disk.path("attribute");
            host("debugfs", &["-R", &format!("ea_get -f {saved} \"{in_image}\" {name}"), &disk.path("root")]);
            assert_eq!(&fs::read(&saved).unwrap(), value, "{name} of {in_image}");
            rustix::fs::setxattr(&path, &name, value, rustix::fs::XattrFlags::empty()).unwrap();
            attributes += 1;
        }
        if meta.mode & 0o7000 != 0 {
            let stat = host("debugfs", &["-R", &format!("stat \"{in_image}\""), &disk.path("root")]);
            let mode = format!("Mode:  0{:o}", meta.mode & 0o7777);
            assert!(stat.contains(&mode), "{in_image} must have {mode}: {stat}");
            fs::set_permissions(&path, fs::Permissions::from_mode(meta.mode & 0o7777)).unwrap();
            special += 1;
        }
    }
    assert!(special > 5, "the variant has set-id programs: {special}");
    assert!(attributes > 0, "the variant has files with capabilities");
    // What is left must give the same checksum over every path, mode, owner, attribute, link and byte.
    let again = Repo::create(&disk.place.path().join("again")).unwrap();
    let options = CommitOptions { branch: "again".into(), ..CommitOptions::default() };
    let made = again.commit(&deployment, TreeOptions::default(), &options).unwrap();
    assert_eq!(made.content.to_string(), meta["ostree-content-checksum"].as_str().unwrap());
}

#[test]
fn built_again_nothing_runs_and_with_a_changed_overlay_only_what_follows() {
    let Some(shared) = shared() else { return };
    let work = Work::with_history(&shared);
    let said = work.ok(&["build"]);
    for stage in ["resolve", "install", "compose", "commit", "raw-disk", "qcow2", "oci-archive"] {
        assert!(said.contains(&format!("= {stage}: unchanged, reused")), "{stage} in:\n{said}");
    }
    let said = work.ok(&["build"]);
    assert!(said.contains("no changes since build"), "{said}");
    assert_eq!(work.builds().len(), 2, "one build and the link to it: {:?}", work.builds());

    work.edit("overlay.d/15nestos/etc/locale.conf", |text| format!("{text}# changed\n"));
    let said = work.ok(&["build", "ostree"]);
    for stage in ["resolve", "install"] {
        assert!(said.contains(&format!("= {stage}: unchanged, reused")), "{said}");
    }
    assert!(said.contains("==> compose: overlay.d/15nestos/etc/locale.conf"), "{said}");
    tells_why(&work);
    assert!(said.contains("==> commit: "), "{said}");
    assert_eq!(work.builds().len(), 3, "{:?}", work.builds());
}

/// After a build with that change: `nosa why` names the file with its old and new value, for the last run
/// and for the build.
fn tells_why(work: &Work) {
    let of = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&work.nosa(args).output().unwrap().text()).unwrap()
    };
    let last = of(&["--json", "why"]);
    assert_eq!(last, of(&["--json", "why", "latest"]));
    assert_eq!(last[0]["command"], "build");
    let stages = last[0]["stages"].as_array().unwrap();
    let stage = |name: &str| stages.iter().find(|stage| stage["stage"] == name).unwrap();
    assert_eq!(stage("install")["reason"], serde_json::Value::Null);
    let compose = stage("compose");
    assert_eq!(compose["reason"]["kind"], "changed");
    let change = &compose["reason"]["changes"][0];
    assert_eq!(change["input"], "overlay.d/15nestos/etc/locale.conf");
    assert!(change["old"].as_str().unwrap().starts_with("644 ") && change["old"] != change["new"]);
    assert!(compose["seconds"].as_f64().unwrap() > 0.0 && compose["success"] == true);
    let said = work.ok(&["why", "--stage", "compose"]);
    let both = |key: &str| change[key].as_str().unwrap().to_owned();
    assert!(said.contains(&format!("{}: {} → {}\n", both("input"), both("old"), both("new"))), "{said}");
    assert!(!said.contains("install"), "{said}");
}

#[test]
fn writing_a_disk_touches_no_loop_device_no_kvm_and_no_mount_of_the_host() {
    let Some(shared) = shared() else { return };
    let Some(strace) = judge("strace") else { return };
    let work = Work::with_history(&shared);
    work.ok(&["build", "ostree"]);
    work.edit("image.yaml", |text| text.replace("size: 10", "size: 9"));
    let trace = work.dir.join("trace");
    let call = strace
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=openat,open,openat2,mount,fsmount,move_mount,unshare,clone,clone3,setns",
            "-o",
        ])
        .arg(trace.as_os_str())
        .args([nosa(), "-C"])
        .arg(work.dir.as_os_str())
        .args(["buildextend", "qemu"])
        .env("SOURCE_DATE_EPOCH", EPOCH);
    let (code, text) = said(call);
    assert_eq!(code, 0, "{text}");
    let trace = fs::read_to_string(trace).unwrap();
    assert!(trace.contains("disk.raw"), "the trace saw the disk being written");
    for device in ["/dev/loop", "/dev/kvm", "/dev/mapper"] {
        assert!(!trace.contains(device), "{device} was opened");
    }
    // The first thread of every mount must have unshared, or been cloned into, a mount namespace.
    let apart = |line: &&str| line.contains("CLONE_NEWNS");
    let first_mount = trace.lines().position(|line| line.contains(" mount(")).unwrap_or(usize::MAX);
    let first_apart = trace.lines().position(|line| apart(&line)).unwrap_or(usize::MAX);
    assert!(first_apart < first_mount, "a mount before the sandbox's own namespace");
}

#[test]
fn killed_at_any_point_the_old_build_stays_and_the_next_run_succeeds() {
    let Some(shared) = shared() else { return };
    let work = Work::with_history(&shared);
    work.ok(&["build"]);
    let (old, _) = latest(&work.dir);
    let checked = || said(Cmd::program("sh").args(["-c", "sha256sum *"]).dir(&old)).1;
    let before = checked();
    let points = [
        "==> compose",
        "postprocessing",
        "making the initramfs",
        "==> commit",
        "==> raw-disk",
        "==> qcow2",
        "+ qcow2",
    ];
    for (number, point) in points.iter().enumerate() {
        work.edit("overlay.d/15nestos/etc/locale.conf", |text| format!("{text}# {number}\n"));
        let log = work.dir.join(format!("{number}.log"));
        let mut child = work.nosa(&["-v", "build"]).log(&log).spawn().unwrap();
        let begun = std::time::Instant::now();
        while !fs::read_to_string(&log).unwrap_or_default().contains(point)
            && child.try_wait().unwrap().is_none()
        {
            assert!(begun.elapsed().as_secs() < 300, "{point} never came");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.kill();
        assert_eq!(before, checked(), "the old build changed when killed at {point}");
    }
    let text = work.ok(&["build"]);
    assert!(text.contains("built "), "{text}");
    let (new, meta) = latest(&work.dir);
    assert_ne!(old, new);
    for (name, image) in meta["images"].as_object().unwrap() {
        let sum = host("sha256sum", &[&artifact(&work.dir, name).display().to_string()]);
        assert!(sum.starts_with(image["sha256"].as_str().unwrap()), "{name}");
    }
    let left: Vec<String> = work.builds().into_iter().filter(|name| name.starts_with('.')).collect();
    assert!(left.is_empty(), "{left:?}");
}
