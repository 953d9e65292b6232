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

use nosa::disk::{
    Architecture, Deployment, DiskSize, Plan, Qcow2, RawDisk, RawDiskImage, Role, Sector, Sysroot,
};
use nosa::host::{Cmd, environment};
use nosa::manifest::{ImageConfig, Platform, RootFilesystem};
use nosa::oci::{ExportOptions, LayerPlan, PlannedLayer, export, layers_of};
use nosa::ostree::{Checksum, CommitOptions, Metadata, OstreeCommit, Repo, Stats, TreeOptions};
use nosa::pipeline::{Cache, Digest, Pipeline, Reporter};
use nosa::sandbox::Sandbox;

use crate::crafted::{Crafted, Tar};
use crate::judge::{judge, ostree_ext};
use crate::sample;

const EPOCH: u64 = 1_767_225_600;
const MIB: u64 = 1 << 20;

const JUDGES: &[&str] = &["sgdisk", "fsck.fat", "e2fsck", "debugfs", "qemu-img", "ostree"];

/// The tree to run programs in, or `None` after saying why the test is skipped.
fn tools() -> Option<PathBuf> {
    let installed = |program: &&&str| {
        ["/usr/sbin", "/usr/bin", "/sbin"].iter().any(|dir| Path::new(dir).join(program).exists())
    };
    let missing: Vec<&&str> = JUDGES.iter().filter(|program| !installed(program)).collect();
    let reason = match environment::var("NOSA_TEST_TREE").map(PathBuf::from) {
        _ if !sample::is_root() => "not root: owners cannot be set".to_owned(),
        _ if !missing.is_empty() => format!("{missing:?} are not installed, which judge here"),
        Some(tree) if tree.join("usr/lib/grub").is_dir() => return Some(tree),
        Some(tree) => format!("NOSA_TEST_TREE={} has no usr/lib/grub", tree.display()),
        None => "NOSA_TEST_TREE names no tree of a target system".to_owned(),
    };
    assert!(environment::var("CI").is_none_or(|ci| ci != "true"), "in CI no judge may be missing: {reason}");
    std::io::stderr().write_all(format!("SKIPPED: {reason}\n").as_bytes()).unwrap();
    None
}

/// A scratch directory; `NOSA_TEST_KEEP` keeps it for a look afterwards.
fn tempdir(parent: Option<&str>) -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    builder.disable_cleanup(environment::var("NOSA_TEST_KEEP").is_some());
    match parent {
        Some(parent) => builder.tempdir_in(parent).unwrap(),
        None => builder.tempdir().unwrap(),
    }
}

pub(crate) fn host(program: &str, args: &[&str]) -> String {
    let output = Cmd::program(program).args(args).output();
    output.unwrap_or_else(|error| panic!("{program} {args:?}: {error:#}")).text()
}

/// The sample tree with what OSTree deploys, and what mke2fs might get wrong.
fn sample_tree(dir: &Path) {
    sample::write(dir);
    let noise: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let write = |path: &str, content: &[u8]| fs::write(dir.join(path), content).unwrap();
    write("usr/lib/modules/6.12.0/initramfs.img", &noise);
    fs::set_permissions(dir.join("usr/lib/modules/6.12.0/initramfs.img"), fs::Permissions::from_mode(0o600))
        .unwrap();
    write("usr/lib/os-release", b"ID=sample\nPRETTY_NAME=\"Sample 1\"\nVERSION_ID=1\n");
    let mut sparse = noise[..8192].to_vec();
    sparse.extend(vec![0; 100_000]);
    sparse.extend(&noise[..10]);
    write("usr/share/sparse", &sparse);
    fs::create_dir_all(dir.join("usr/share/many")).unwrap();
    for number in 0..400 {
        write(&format!("usr/share/many/a file with a longer name, number {number}"), &[number as u8; 40]);
    }
    fs::create_dir_all(dir.join("usr/etc/deep/er")).unwrap();
    write("usr/etc/deep/er/file", b"etc");
    symlink("../shadow", dir.join("usr/etc/deep/link")).unwrap();
    for name in ["boot", "dev", "proc", "run", "sys", "sysroot", "tmp"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    symlink("sysroot/ostree", dir.join("ostree")).unwrap();
}

/// Commits the sample tree with libostree's own program into the repository of a fresh cache.
fn commit(dir: &Path) -> OstreeCommit {
    sample_tree(&dir.join("tree"));
    let repo = format!("--repo={}", dir.join("work/cache/repo").display());
    fs::create_dir_all(dir.join("work/cache/repo")).unwrap();
    host("ostree", &["init", &repo, "--mode=bare-user"]);
    let tree = format!("--tree=dir={}", dir.join("tree").display());
    let version = "--add-metadata-string=version=1.20260101.0";
    let args = ["commit", &repo, "-b", "sample/stable", &tree, version, "--timestamp=2026-01-01T00:00:00Z"];
    let commit: Checksum = host("ostree", &args).trim().parse().unwrap();
    OstreeCommit {
        commit,
        content: commit,
        branch: "sample/stable".into(),
        version: "1.20260101.0".into(),
        repo: "repo".into(),
        stats: Stats::default(),
    }
}

fn stage(tools: &Path, commit: &OstreeCommit) -> RawDisk {
    let platform = Platform {
        grub_commands: vec!["serial --speed=115200".into()],
        kernel_arguments: vec!["console=ttyS0,115200n8".into()],
    };
    RawDisk {
        commit: commit.clone(),
        layers: Vec::new(),
        tools: Some(tools.to_owned()),
        name: "sample".into(),
        basearch: "x86_64".into(),
        image: ImageConfig {
            size: 1,
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
        size: DiskSize::Gib(1),
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

fn debugfs(image: &Path, request: &str) -> String {
    host("debugfs", &["-R", request, &image.display().to_string()])
}

#[test]
fn a_deployment_reads_back_whole_from_a_sound_disk() {
    let Some(tools) = tools() else { return };
    let dir = tempdir(None);
    let at = |name: &str| dir.path().join(name);
    let commit = commit(dir.path());
    let stage = stage(&tools, &commit);
    let pipeline = pipeline(&at("work"));
    let disk = pipeline.run(&stage).unwrap();
    assert_eq!(disk.size, 1 << 30);

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
    judge_root(&at("root.ext4"), &commit.commit.to_string(), dir.path());
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

fn judge_root(image: &Path, commit: &str, scratch: &Path) {
    let repo = format!("--repo={}", scratch.join("work/cache/repo").display());
    let dumped = scratch.join("dumped");
    fs::create_dir(&dumped).unwrap();
    debugfs(image, &format!("rdump / {}", dumped.display()));
    let deployment = format!("ostree/deploy/sample/deploy/{commit}.0");
    // A name with a line break fits into no listing.
    let wanted = host("ostree", &["ls", "-R", &repo, commit]).replace("/line\nbreak", "/line_break");
    let mut wanted: Vec<String> = wanted.lines().map(expected).collect();
    let paths: Vec<String> = wanted.iter().map(|line| line.split_once('\t').unwrap().0.to_owned()).collect();
    let (mut found, mut links) = (Vec::new(), 0);
    for (path, stat) in paths.iter().zip(stat(image, &deployment, &paths)) {
        let real = dumped.join(&deployment).join(path.trim_start_matches('/'));
        if stat.contains("Type: regular") {
            let source = scratch.join("tree").join(path.trim_start_matches('/'));
            assert!(fs::read(&real).unwrap() == fs::read(source).unwrap(), "{path} has another content");
            let empty = fs::metadata(&real).unwrap().len() == 0;
            // Each content object and its deployed names are one file of OSTree's one time.
            assert!(empty || word(&stat, "Links:").parse::<u64>().unwrap() > 1, "{path}: {stat}");
            assert!(stat.contains("mtime: 0x00000000"), "{path}: {stat}");
            links += 1;
        }
        let target = fs::read_link(&real).map_or_else(|_| String::new(), |path| path.display().to_string());
        let (mode, user, group) = (word(&stat, "Mode:"), word(&stat, "User:"), word(&stat, "Group:"));
        found.push(format!("{path}\t{} {user} {group} {target}", mode.trim_start_matches('0')));
    }
    // The deployed root directory itself is as committed, too.
    let skip = |lines: &mut Vec<String>| lines.retain(|line| !line.contains("line_break"));
    skip(&mut found);
    skip(&mut wanted);
    for (found, wanted) in found.iter().zip(&wanted) {
        assert_eq!(found, wanted);
    }
    assert!(links > 400, "{links}");
    judge_attributes(image, &deployment, &dumped);
    let aleph: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(dumped.join(".coreos-aleph-version.json")).unwrap())
            .unwrap();
    assert_eq!(aleph["ostree-commit"], *commit);
}

fn judge_attributes(image: &Path, deployment: &str, dumped: &Path) {
    let attribute =
        |path: &str, name: &str| debugfs(image, &format!("ea_get -x /{deployment}/{path} {name}"));
    for tree in ["usr/etc", "etc"] {
        let stat = debugfs(image, &format!("stat /{deployment}/{tree}/shadow"));
        assert_eq!((word(&stat, "Mode:"), word(&stat, "Group:")), ("0640", "42"));
        assert_eq!(
            fs::read(dumped.join(deployment).join(tree).join("deep/er/file")).unwrap(),
            b"etc",
            "a deployment's /etc is a copy of its /usr/etc"
        );
    }
    assert!(attribute("usr/share/xattrs", "user.zeta").contains("7a"));
    assert!(attribute("usr/share/xattrs", "user.alpha").contains("61 61 61"));
    assert!(attribute("usr/bin/ping", "security.capability").contains("01 00 00 02 00 20"));
    assert!(attribute("empty", "user.dir").contains("6f 6e"));
    for immutable in ["/".to_owned(), format!("/{deployment}")] {
        let stat = debugfs(image, &format!("stat {immutable}"));
        assert!(stat.contains("Flags: 0x80010"), "{stat}");
    }
    let config = fs::read_to_string(dumped.join("ostree/repo/config")).unwrap();
    assert!(config.contains("mode=bare\n") && config.contains("readonly=true"), "{config}");
}

/// A line of `ostree ls` as path, permissions, owner, group and link target.
fn expected(line: &str) -> String {
    let mut words = line.splitn(4, ' ');
    let [mode, user, group] = [(); 3].map(|()| words.next().unwrap());
    let rest = words.next().unwrap().trim_start();
    let (_size, path) = rest.split_once(' ').unwrap();
    let (path, target) = match mode.starts_with('l') {
        true => path.split_once(" -> ").unwrap(),
        false => (path, ""),
    };
    let path = path.trim_end_matches('/');
    format!("{path}\t{} {user} {group} {target}", mode[1..].trim_start_matches('0'))
}

/// debugfs's description of each path, in order.
fn stat(image: &Path, deployment: &str, paths: &[String]) -> Vec<String> {
    let requests: String = paths.iter().map(|path| format!("stat \"/{deployment}{path}\"\n")).collect();
    let output = Cmd::program("debugfs").args(["-f", "-", &image.display().to_string()]).stdin(requests);
    let text = output.output().unwrap().text();
    let found: Vec<String> = text.split("debugfs: stat ").skip(1).map(str::to_owned).collect();
    assert_eq!(found.len(), paths.len());
    found
}

/// The word after a label.
fn word<'a>(text: &'a str, label: &str) -> &'a str {
    text.split_once(label).and_then(|(_, rest)| rest.split_whitespace().next()).unwrap_or_default()
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
    for (key, size) in [("linux ", 1_000_000), ("initrd ", 3_000_000)] {
        assert_eq!(fs::metadata(boot.join(path(key))).unwrap().len(), size);
    }
    assert!(read("grub2/grub.cfg").contains("# CONSOLE-SETTINGS-START\nserial --speed=115200\n"));
    assert!(read("coreos/platforms.json").contains("\"qemu\""));
    assert_eq!(read("ignition.firstboot"), "");
    assert_eq!(fs::read_link(boot.join("loader")).unwrap(), Path::new("loader.1"));
    assert_eq!(fs::read_link(boot.join("boot")).unwrap(), Path::new("."));
}

/// Path, kind, permissions, owner and content of everything below `root`; no times.
fn listing(root: &Path) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let mut text = format!("{:o} {}:{}", meta.mode(), meta.uid(), meta.gid());
            if meta.is_symlink() {
                text += &format!(" -> {}", fs::read_link(&path).unwrap().display());
            } else if meta.is_file() {
                text += &format!(" {} {}", Digest::of(fs::read(&path).unwrap()), meta.nlink() > 1);
            } else {
                walk(root, &path, found);
            }
            found.insert(path.strip_prefix(root).unwrap().display().to_string(), text);
        }
    }
    let mut found = BTreeMap::new();
    walk(root, root, &mut found);
    found
}

#[test]
fn the_sysroot_is_what_ostree_itself_deploys() {
    let Some(tools) = tools() else { return };
    let dir = tempdir(None);
    let at = |name: &str| dir.path().join(name);
    let commit = commit(dir.path());
    let deployment = Deployment {
        commit: commit.commit,
        version: commit.version.clone(),
        name: "sample".into(),
        branch: commit.branch.clone(),
        remote: None,
        layers: vec![Digest::of("a layer")],
        kargs: vec!["rw".into(), "$ignition_firstboot".into()],
        aleph: String::new(),
        platforms: String::new(),
        menu: String::new(),
    };
    let repo = Repo::open(&at("work/cache/repo")).unwrap();
    let own = Sysroot::make(&deployment, &repo, &at("own")).unwrap();
    host("ostree", &["fsck", &format!("--repo={}", own.root.join("ostree/repo").display())]);

    fs::create_dir(at("theirs")).unwrap();
    let sandbox = Sandbox::new(&tools)
        .read_only()
        .bind(&at("theirs"), "/run/sysroot")
        .bind_ro(repo.path(), "/run/repo")
        .env("OSTREE_SYSROOT_DEBUG", "mutable-deployments");
    let ostree = |words: &str| {
        let words = words.split(' ').map(|word| word.replace("COMMIT", &commit.commit.to_string()));
        sandbox.command("ostree").args(words).output().unwrap();
    };
    ostree("admin init-fs --modern /run/sysroot");
    for setting in ["bootloader none", "readonly true", "bootprefix true"] {
        ostree(&format!("config --repo=/run/sysroot/ostree/repo set sysroot.{setting}"));
    }
    ostree("admin os-init --sysroot=/run/sysroot sample");
    ostree("pull-local --repo=/run/sysroot/ostree/repo /run/repo COMMIT");
    ostree("admin deploy --sysroot=/run/sysroot --os=sample COMMIT --karg=rw --karg=$ignition_firstboot");
    let layer = format!("--create=ostree/container/blob/sha256_3A_{}", Digest::of("a layer"));
    ostree(&format!("refs --repo=/run/sysroot/ostree/repo COMMIT {layer}"));

    let mut theirs = listing(&at("theirs"));
    let mut found = listing(&own.root);
    found.extend(listing(&own.boot).into_iter().map(|(path, text)| (format!("boot/{path}"), text)));
    let entry = |root: &Path| fs::read_to_string(root.join("loader.1/entries/ostree-1.conf")).unwrap();
    let kept: Vec<String> = entry(&at("theirs/boot"))
        .lines()
        .filter(|line| !line.starts_with("aboot"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(entry(&own.boot), kept.concat());
    // Android's boot images, SELinux's stamp, and the files that are not OSTree's.
    for listing in [&mut theirs, &mut found] {
        listing.retain(|path, text| {
            if path.starts_with("boot/ostree/") {
                // Theirs are links of the objects, on the same file system.
                *text = text.replace("true", "").replace("false", "");
            }
            let differs =
                ["selabeled", "entries/ostree-1", "repo/config", "aleph", "boot/coreos", "boot/grub2"];
            !differs.iter().any(|part| path.contains(part)) && path != "boot/ignition.firstboot"
        });
    }
    let differences: Vec<String> = theirs
        .iter()
        .filter(|(path, text)| found.get(*path) != Some(*text))
        .map(|(path, text)| format!("{path}: {text} {:?}", found.get(path)))
        .chain(
            found.keys().filter(|path| !theirs.contains_key(*path)).map(|path| format!("{path}: ours alone")),
        )
        .collect();
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// ostree-ext, by which machines update, fetches of a derived image the derived layer alone.
#[test]
fn a_machine_has_the_layers_of_the_image_that_its_disk_was_made_with() {
    if !sample::is_root() {
        return;
    }
    let dir = tempdir(None);
    let at = |name: &str| dir.path().join(name);
    let (Some(client), Some(_)) = (ostree_ext(dir.path()), judge("skopeo")) else { return };
    sample_tree(&at("tree"));
    let repo = Repo::create(&at("repo")).unwrap();
    let mut metadata = Metadata::new();
    metadata.set_bootable("6.12.0");
    let options = CommitOptions { branch: "sample/stable".into(), metadata, ..Default::default() };
    let commit = repo.commit(&at("tree"), TreeOptions::default(), &options).unwrap().commit;

    let many = |half: bool| PlannedLayer {
        files: (0..400)
            .filter(|number| (number % 2 == 0) == half)
            .map(|number| format!("usr/share/many/a file with a longer name, number {number}").into())
            .collect(),
        ..Default::default()
    };
    let plan = LayerPlan { layers: vec![many(true), many(false)] };
    fs::create_dir(at("scratch")).unwrap();
    let image = ExportOptions { architecture: environment::basearch().into(), ..Default::default() };
    let exported = export(&repo, commit, &plan, &image, &at("scratch"), &at("image")).unwrap();
    fs::create_dir(at("base")).unwrap();
    Cmd::program("tar").arg("-xf").arg(at("image")).dir(&at("base")).run().unwrap();
    let layers = layers_of(&exported.manifest_bytes, commit).unwrap();
    assert_eq!(layers.len(), 3);
    assert!(layers_of(&exported.manifest_bytes, Checksum::of(b"another")).unwrap().is_empty());

    let deployment = Deployment {
        commit,
        version: "1".into(),
        name: "sample".into(),
        branch: "sample/stable".into(),
        remote: None,
        layers,
        kargs: Vec::new(),
        aleph: String::new(),
        platforms: String::new(),
        menu: String::new(),
    };
    let sysroot = Sysroot::make(&deployment, &repo, &at("machine")).unwrap();
    let derived = Crafted::derived(&at("base"), vec![Tar::default().file("etc/derived", "new").layer()]);
    let image = format!("ostree-unverified-image:{}", derived.write(&at("derived")));
    let on_disk = sysroot.root.join("ostree/repo");
    let said = client.args(["image", "pull", "--quiet"]).arg(&on_disk).arg(image).output().unwrap().text();
    assert!(said.contains("layers already present: 3; layers needed: 1"), "{said}");
    let on_disk = format!("--repo={}", on_disk.display());
    host("ostree", &["fsck", "--quiet", &on_disk]);
    let refs = host("ostree", &["refs", &on_disk]);
    let merged = refs.lines().find(|name| name.starts_with("ostree/container/image/")).unwrap();
    assert_eq!(host("ostree", &["cat", &on_disk, merged, "/usr/etc/derived"]), "new");
    assert_eq!(host("ostree", &["cat", &on_disk, merged, "/usr/etc/deep/er/file"]), "etc");
}

#[test]
fn two_runs_in_different_places_agree_to_the_last_bit() {
    let Some(tools) = tools() else { return };
    let dir = tempdir(None);
    let at = |name: &str| dir.path().join(name);
    let commit = commit(dir.path());
    let one = pipeline(&at("work")).run(&stage(&tools, &commit)).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let memory = tempdir(Some("/dev/shm"));
    // Another directory, another file system, another umask.
    let place = memory.path().join("a/longer/place");
    fs::create_dir_all(place.join("cache")).unwrap();
    let [from, to] = [at("work/cache/repo"), place.join("cache/repo")].map(|dir| dir.display().to_string());
    host("cp", &["-a", &from, &to]);
    let old = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let other = pipeline(&place).run(&stage(&tools, &commit));
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
    let dir = tempdir(None);
    let at = |name: &str| dir.path().join(name);
    let commit = commit(dir.path());
    let mut stage = stage(&tools, &commit);
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
