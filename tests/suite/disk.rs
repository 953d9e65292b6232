//! Disk images against outside judges: sgdisk, fsck.fat, e2fsck, qemu-img, and every file read back by
//! debugfs and compared with what OSTree itself checks out.
//!
//! The tree whose programs write the image (ostree, mke2fs, grub-mkimage) is named by `NOSA_TEST_TREE`;
//! without it, or without root's right to set owners, these tests are skipped, visibly; in CI they fail.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nosa::disk::{Architecture, DiskSize, Plan, Qcow2, RawDisk, RawDiskImage, Role, Sector};
use nosa::host::{Cmd, environment};
use nosa::manifest::{ImageConfig, Platform, RootFilesystem};
use nosa::pipeline::{Cache, Digest, Pipeline, Reporter};

const EPOCH: u64 = 1_767_225_600;
const MIB: u64 = 1 << 20;

/// The tree to run programs in, or `None` after saying why the test is skipped.
fn tools() -> Option<PathBuf> {
    let reason = match environment::var("NOSA_TEST_TREE").map(PathBuf::from) {
        _ if !rustix::process::geteuid().is_root() => "not root: owners cannot be set",
        Some(tree) if tree.join("usr/lib/grub").is_dir() => return Some(tree),
        Some(_) => "NOSA_TEST_TREE has no usr/lib/grub",
        None => "NOSA_TEST_TREE names no tree of a target system",
    };
    assert!(environment::var("CI").is_none(), "in CI no judge may be missing: {reason}");
    std::io::stderr().write_all(format!("SKIPPED: {reason}\n").as_bytes()).unwrap();
    None
}

fn host(program: &str, args: &[&str]) -> String {
    let output = Cmd::program(program).args(args).output();
    output.unwrap_or_else(|error| panic!("{program} {args:?}: {error:#}")).text()
}

/// A tree with the least that OSTree deploys, and one of everything a file system must keep.
fn sample_tree(dir: &Path) {
    let file = |path: &str, mode: u32, owner: u32, content: &[u8]| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        std::os::unix::fs::chown(&path, Some(owner), Some(owner + 1)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    file("usr/lib/modules/6.12/vmlinuz", 0o644, 0, &noise[..900_000]);
    file("usr/lib/modules/6.12/initramfs.img", 0o600, 0, &noise);
    file("usr/lib/os-release", 0o644, 0, b"ID=sample\nNAME=Sample\nVERSION_ID=1\n");
    file("usr/etc/passwd", 0o644, 0, b"root:x:0:0::/root:/bin/sh\n");
    file("usr/etc/shadow", 0o640, 42, b"root:*:::::::\n");
    file("usr/bin/setuid", 0o4755, 0, b"s");
    file("usr/bin/empty", 0o755, 1000, b"");
    file("usr/bin/same", 0o755, 0, b"s");
    file(&format!("usr/share/{}", "n".repeat(255)), 0o444, 65_000, &noise[..4096]);
    let mut sparse = noise[..8192].to_vec();
    sparse.extend(vec![0; 100_000]);
    sparse.extend(&noise[..10]);
    file("usr/share/sparse", 0o644, 0, &sparse);
    for number in 0..400 {
        file(
            &format!("usr/share/many/a file with a longer name, number {number}"),
            0o644,
            0,
            &[number as u8; 40],
        );
    }
    symlink("short", dir.join("usr/bin/link")).unwrap();
    symlink("long/".repeat(40), dir.join("usr/bin/long")).unwrap();
    rustix::fs::setxattr(dir.join("usr/bin/same"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
        .unwrap();
    // cap_net_raw=ep, as the kernel stores it (revision 2).
    let capability = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    rustix::fs::setxattr(
        dir.join("usr/bin/setuid"),
        "security.capability",
        &capability,
        rustix::fs::XattrFlags::empty(),
    )
    .unwrap();
    for name in ["boot", "dev", "proc", "run", "sys", "sysroot", "var"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    symlink("sysroot/ostree", dir.join("ostree")).unwrap();
    symlink("var/home", dir.join("home")).unwrap();
    fs::create_dir(dir.join("tmp")).unwrap();
    fs::set_permissions(dir.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
}

/// Commits a tree into a fresh bare-user repository and returns the commit's checksum.
fn commit(tree: &Path, repo: &Path) -> String {
    let repo = format!("--repo={}", repo.display());
    host("ostree", &["init", &repo, "--mode=bare-user"]);
    let tree = format!("--tree=dir={}", tree.display());
    host("ostree", &["commit", &repo, "-b", "sample/stable", &tree, "--timestamp=2026-01-01T00:00:00Z"])
        .trim()
        .to_owned()
}

fn stage(tools: &Path, repo: &Path, commit: &str) -> RawDisk {
    let platform = Platform {
        grub_commands: vec!["serial --speed=115200".into()],
        kernel_arguments: vec!["console=ttyS0,115200n8".into()],
    };
    RawDisk {
        commit: commit.to_owned(),
        repo: repo.to_owned(),
        tools: tools.to_owned(),
        name: "sample".into(),
        version: "1.20260101.0".into(),
        reference: "sample/stable".into(),
        basearch: "x86_64".into(),
        image: ImageConfig {
            size: 3,
            extra_kargs: vec!["mitigations=auto,nosmt".into()],
            rootfs: RootFilesystem::Ext4,
            rootfs_args: String::new(),
            ostree_remote: "NONE".into(),
            compressor: "gzip".into(),
            squashfs_compression: "zstd".into(),
        },
        platforms: [("qemu".to_owned(), platform)].into(),
        platform: "qemu".into(),
        sector: Sector::B512,
        size: DiskSize::Gib(3),
        epoch: EPOCH,
    }
}

fn pipeline(dir: &Path) -> Pipeline {
    let cache = Cache::open(&dir.join("cache")).unwrap();
    Pipeline::new(cache, &dir.join("tmp"), Reporter::silent()).unwrap()
}

/// Copies a partition out of a disk, keeping holes.
fn extract(disk: &RawDiskImage, offset: u64, size: u64, to: &Path) {
    let source = fs::File::open(&disk.path).unwrap();
    let target = fs::File::create(to).unwrap();
    target.set_len(size).unwrap();
    let mut buffer = vec![0; MIB as usize];
    for at in (0..size).step_by(buffer.len()) {
        source.read_exact_at(&mut buffer, offset + at).unwrap();
        if buffer.iter().any(|byte| *byte != 0) {
            target.write_all_at(&buffer, at).unwrap();
        }
    }
}

/// What a reader sees of each file below `root`: kind, mode, owner, modification time and content.
fn listing(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut text = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_symlink() {
                text += &format!(" -> {}", fs::read_link(&path).unwrap().display());
            } else if meta.is_file() {
                text += &format!(" {} {}", meta.mtime(), Digest::of(fs::read(&path).unwrap()));
            }
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
            if meta.is_dir() {
                walk(root, &path, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

fn debugfs(image: &Path, request: &str) -> String {
    host("debugfs", &["-R", request, &image.display().to_string()])
}

#[test]
fn a_deployment_reads_back_whole_from_a_sound_disk() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::Builder::new().disable_cleanup(environment::var("KEEP").is_some()).tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    sample_tree(&at("tree"));
    let commit = commit(&at("tree"), &at("repo"));
    let stage = stage(&tools, &at("repo"), &commit);
    let pipeline = pipeline(&at("work"));
    let disk = pipeline.run(&stage).unwrap();
    assert_eq!(disk.size, 3 << 30);

    let verdict = host("sgdisk", &["-v", &disk.path.display().to_string()]);
    assert!(verdict.contains("No problems found"), "{verdict}");
    let table = host("sgdisk", &["-p", &disk.path.display().to_string()]);
    for name in ["BIOS-BOOT", "EFI-SYSTEM", "boot", "root", "00000000-0000-4000-A000-000000000001"] {
        assert!(table.contains(name), "{table}");
    }

    extract(&disk, 2 * MIB, 127 * MIB, &at("esp"));
    host("fsck.fat", &["-n", "-v", &at("esp").display().to_string()]);
    extract(&disk, 129 * MIB, 384 * MIB, &at("boot.ext4"));
    extract(&disk, 513 * MIB, root_size(&table), &at("root.ext4"));
    for image in ["boot.ext4", "root.ext4"] {
        host("e2fsck", &["-fn", &at(image).display().to_string()]);
    }
    judge_root(&at("root.ext4"), &at("repo"), &commit, dir.path());
    judge_boot(&at("boot.ext4"), dir.path());

    let qcow2 = pipeline.run(&Qcow2 { disk: disk.clone() }).unwrap();
    let path = qcow2.path.display().to_string();
    host("qemu-img", &["check", &path]);
    host("qemu-img", &["compare", "-f", "raw", "-F", "qcow2", &disk.path.display().to_string(), &path]);
    assert!(qcow2.size < 100 * MIB, "{}", qcow2.size);
}

/// The size of partition 4 as sgdisk prints it.
fn root_size(table: &str) -> u64 {
    let row = table.lines().find(|line| line.trim_start().starts_with("4 ")).unwrap();
    let numbers: Vec<u64> = row.split_whitespace().take(3).map(|word| word.parse().unwrap()).collect();
    (numbers[2] - numbers[1] + 1) * 512
}

fn judge_root(image: &Path, repo: &Path, commit: &str, scratch: &Path) {
    let (dumped, wanted) = (scratch.join("dumped"), scratch.join("wanted"));
    fs::create_dir(&dumped).unwrap();
    debugfs(image, &format!("rdump / {}", dumped.display()));
    host(
        "ostree",
        &["checkout", &format!("--repo={}", repo.display()), commit, &wanted.display().to_string()],
    );
    let deployment = format!("ostree/deploy/sample/deploy/{commit}.0");
    let mut found = listing(&dumped.join(&deployment));
    let mut expected = listing(&wanted);
    // A deployment's /etc starts as a copy of /usr/etc, with the times of its making.
    let etc: BTreeMap<String, String> = split_off(&mut found, "etc");
    assert_eq!(without_times(&etc), without_times(&split_off(&mut expected.clone(), "usr/etc")));
    // OSTree prepares these two for the running system.
    for listing in [&mut found, &mut expected] {
        listing.retain(|path, _| path != "sysroot" && path != ".ostree-mutable");
    }
    assert_eq!(found, expected);
    let attribute =
        |path: &str, name: &str| debugfs(image, &format!("ea_get -x /{deployment}/{path} {name}"));
    assert!(attribute("usr/bin/same", "user.note").contains("6b 65 70 74"));
    assert!(attribute("usr/bin/setuid", "security.capability").contains("01 00 00 02 00 20"));
    // Each content object and its deployed name are one file.
    let links = debugfs(image, &format!("stat /{deployment}/usr/bin/setuid"));
    assert!(links.contains("Links: 2"), "{links}");
    assert!(debugfs(image, &format!("stat /{deployment}")).contains("Flags: 0x80010"));
    let fsck = ["fsck", &format!("--repo={}", dumped.join("ostree/repo").display())];
    host("ostree", &fsck);
    let config = fs::read_to_string(dumped.join("ostree/repo/config")).unwrap();
    assert!(config.contains("readonly=true") && !config.contains("fsync"), "{config}");
    let aleph: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dumped.join(".coreos-aleph-version.json")).unwrap())
            .unwrap();
    assert_eq!(aleph["ostree-commit"], *commit);
}

fn judge_boot(image: &Path, scratch: &Path) {
    let boot = scratch.join("dumped-boot");
    fs::create_dir(&boot).unwrap();
    debugfs(image, &format!("rdump / {}", boot.display()));
    let read = |path: &str| fs::read_to_string(boot.join(path)).unwrap();
    let entry = read("loader.1/entries/ostree-1.conf");
    let options = entry.lines().find(|line| line.starts_with("options ")).unwrap();
    assert!(
        options.starts_with("options rw mitigations=auto,nosmt ignition.platform.id=qemu console=ttyS0,115200n8 $ignition_firstboot ostree=/ostree/boot.1/sample/"),
        "{options}"
    );
    let path = |key: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_start_matches("/boot/").to_owned()
    };
    for (key, size) in [("linux ", 900_000), ("initrd ", 3_000_000)] {
        assert_eq!(fs::metadata(boot.join(path(key))).unwrap().len(), size);
    }
    assert!(read("grub2/grub.cfg").contains("# CONSOLE-SETTINGS-START\nserial --speed=115200\n"));
    assert!(read("coreos/platforms.json").contains("\"qemu\""));
    assert_eq!(read("ignition.firstboot"), "");
    assert_eq!(fs::read_link(boot.join("loader")).unwrap(), Path::new("loader.1"));
    assert_eq!(fs::read_link(boot.join("boot")).unwrap(), Path::new("."));
}

/// Takes what lies below `dir` out of a listing.
fn split_off(listing: &mut BTreeMap<String, String>, dir: &str) -> BTreeMap<String, String> {
    let inside = |path: &String| path == dir || path.starts_with(&format!("{dir}/"));
    let taken = listing.iter().filter(|(path, _)| inside(path) && *path != dir);
    let taken = taken.map(|(path, text)| (path[dir.len() + 1..].to_owned(), text.clone())).collect();
    listing.retain(|path, _| !inside(path));
    taken
}

fn without_times(listing: &BTreeMap<String, String>) -> Vec<(String, String)> {
    let strip = |text: &String| {
        let words: Vec<&str> = text.split(' ').collect();
        if words.len() == 4 && words[2] != "->" {
            [words[0], words[1], words[3]].join(" ")
        } else {
            text.clone()
        }
    };
    listing.iter().map(|(path, text)| (path.clone(), strip(text))).collect()
}

#[test]
fn two_runs_in_different_places_agree_to_the_last_bit() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::Builder::new().disable_cleanup(environment::var("KEEP").is_some()).tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    sample_tree(&at("tree"));
    let commit = commit(&at("tree"), &at("repo"));
    let one = pipeline(&at("one")).run(&stage(&tools, &at("repo"), &commit)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let memory = tempfile::Builder::new().disable_cleanup(environment::var("KEEP").is_some()).tempdir_in("/dev/shm").unwrap();
    // Another directory, another file system, another umask.
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let other = pipeline(&memory.path().join("a/longer/place")).run(&stage(&tools, &at("repo"), &commit));
    rustix::process::umask(old);
    let other = other.unwrap();
    let qcow2 = |disk: &RawDiskImage, name: &str| {
        pipeline(&at(name)).run(&Qcow2 { disk: disk.clone() }).unwrap().sha256
    };
    host("cmp", &[&one.path.display().to_string(), &other.path.display().to_string()]);
    assert_eq!(qcow2(&one, "three"), qcow2(&other, "four"));
}

#[test]
fn a_disk_of_4096_byte_sectors_is_sound() {
    let Some(tools) = tools() else { return };
    let dir = tempfile::Builder::new().disable_cleanup(environment::var("KEEP").is_some()).tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    sample_tree(&at("tree"));
    let commit = commit(&at("tree"), &at("repo"));
    let mut stage = stage(&tools, &at("repo"), &commit);
    (stage.sector, stage.size, stage.platform) = (Sector::B4096, DiskSize::Fit, "metal4k".into());
    let disk = pipeline(&at("work")).run(&stage).unwrap();
    // The first sector holds a protective MBR and no code, for no BIOS reads such a disk.
    let mut first = [0; 440];
    fs::File::open(&disk.path).unwrap().read_exact_at(&mut first, 0).unwrap();
    assert_eq!(first, [0; 440]);
    extract(&disk, 2 * MIB, 127 * MIB, &at("esp"));
    host("fsck.fat", &["-n", &at("esp").display().to_string()]);
    extract(&disk, 129 * MIB, 384 * MIB, &at("boot.ext4"));
    host("e2fsck", &["-fn", &at("boot.ext4").display().to_string()]);
}

#[test]
fn a_tree_larger_than_the_image_is_refused_before_anything_is_written() {
    let failure = Plan::new(Architecture::X86_64, Sector::B512, DiskSize::Gib(1), 900 * MIB, Digest::of("x"));
    assert!(failure.unwrap_err().cure.contains("image.yaml"));
    let plan =
        Plan::new(Architecture::X86_64, Sector::B4096, DiskSize::Fit, 900 * MIB, Digest::of("x")).unwrap();
    assert_eq!(plan.partition(Role::Root).offset, 513 * MIB);
}
