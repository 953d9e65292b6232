//! Images that others made become builds: a base as it was, what was derived from it, and a system that never
//! was an OSTree commit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use nosa::host::{Cmd, environment};
use nosa::oci::{ExportOptions, LayerPlan, export};
use nosa::ostree::{Checksum, CommitOptions, Content, Metadata, NodeObject, Repo, TreeOptions};
use serde_json::{Value, json};
use tar::EntryType;

use super::crafted::{Crafted, Layer, Tar};
use super::fixture::{Work, artifact, is_root, latest, nosa, refused, said, shared, skip};
use super::judge::judge;
use super::registry_server::Registry;
use super::sample;

/// A working directory, and a directory for images.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.ok(&["init"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn nosa(&self, args: &[&str]) -> Cmd {
        let call = Cmd::program(nosa()).arg("-C").arg(self.path("w").as_os_str()).args(args);
        call.env("NOSA_CACHE", self.path("downloads").as_os_str())
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, text) = said(self.nosa(args));
        assert_eq!(code, 0, "nosa {args:?}:\n{text}");
        text
    }

    fn import(&self, image: &Crafted) -> String {
        self.ok(&["import", &image.write(&self.path("image"))])
    }

    /// The newest build's commit.
    fn commit(&self) -> (Repo, Checksum) {
        let (_, meta) = latest(&self.path("w"));
        let repo = Repo::open(&self.path("w/cache/repo")).unwrap();
        (repo, meta["ostree-commit"].as_str().unwrap().parse().unwrap())
    }

    /// Every path of the newest build's commit: owner, mode and content.
    fn tree(&self) -> BTreeMap<String, String> {
        let (repo, commit) = self.commit();
        repo.verify(commit).unwrap();
        let nodes = repo.walk(commit).unwrap().into_iter();
        nodes.map(|node| (node.path.display().to_string(), told(&repo, &node.object))).collect()
    }
}

fn told(repo: &Repo, object: &NodeObject) -> String {
    let (attributes, content) = match object {
        NodeObject::Directory { attributes, .. } => (attributes.clone(), "dir".to_owned()),
        NodeObject::File(checksum) => {
            let object = repo.file(*checksum).unwrap();
            let content = match object.content {
                Content::Symlink(target) => format!("-> {target}"),
                Content::Regular(mut file, _) => {
                    let mut bytes = Vec::new();
                    std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
                    String::from_utf8_lossy(&bytes).into_owned()
                }
            };
            (object.attributes, content)
        }
    };
    let xattrs: Vec<String> =
        attributes.xattrs.iter().map(|(name, _)| String::from_utf8_lossy(name).into_owned()).collect();
    format!(
        "{:o} {}:{} {} {content}",
        attributes.permissions(),
        attributes.uid,
        attributes.gid,
        xattrs.join(",")
    )
}

/// An OSTree commit of the sample tree as an image in a layout, and the commit.
fn base(place: &Place) -> (PathBuf, Checksum) {
    let root = place.path("tree");
    sample::write(&root);
    fs::write(root.join("usr/lib/modules/6.12.0/initramfs.img"), "initramfs").unwrap();
    let repo = Repo::create(&place.path("repo")).unwrap();
    let mut metadata = Metadata::new();
    metadata.set("version", "41.0");
    metadata.set_bootable("6.12.0");
    let options =
        CommitOptions { branch: "base/stable".into(), timestamp: 86_400, metadata, ..Default::default() };
    let commit = repo.commit(&root, TreeOptions::default(), &options).unwrap().commit;
    let archive = place.path("base.ociarchive");
    fs::create_dir(place.path("scratch")).unwrap();
    let options = ExportOptions { architecture: environment::basearch().into(), ..Default::default() };
    export(&repo, commit, &LayerPlan::single(), &options, &place.path("scratch"), &archive).unwrap();
    let layout = place.path("base");
    fs::create_dir(&layout).unwrap();
    Cmd::program("tar").arg("-xf").arg(&archive).dir(&layout).run().unwrap();
    (archive, commit)
}

#[test]
fn an_untouched_base_is_the_very_same_commit_and_image() {
    let place = Place::new();
    let (archive, commit) = base(&place);
    let name = format!("oci-archive:{}", archive.display());
    let printed = place.ok(&["--json", "import", &name]);
    let printed: Value =
        serde_json::from_str(&printed[printed.find("\n{").map_or(0, |at| at + 1)..]).unwrap_or_default();
    let (dir, meta) = latest(&place.path("w"));
    assert_eq!(place.commit().1, commit);
    assert_eq!(printed["buildid"], "41.0");
    assert_eq!((&meta["buildid"], &meta["ref"]), (&json!("41.0"), &json!("base/stable")));
    assert_eq!(meta["ostree-timestamp"], "1970-01-02T00:00:00Z");
    assert_eq!(meta["coreos-assembler.oci-imported"], true);
    assert_eq!(meta["coreos-assembler.oci-imported-labels"]["ostree.commit"], commit.to_string());
    let bytes = fs::read(dir.join("ostree-commit-object")).unwrap();
    assert_eq!(Checksum::of(&bytes), commit);
    place.ok(&["build-validate"]);
    if let Some(skopeo) = judge("skopeo") {
        let digest = |path: &Path| -> Value {
            let call = skopeo.clone().arg("inspect").arg(format!("oci-archive:{}", path.display()));
            serde_json::from_str::<Value>(&call.output().unwrap().text()).unwrap()["Digest"].clone()
        };
        let kept = digest(&artifact(&place.path("w"), "ostree"));
        assert_eq!(kept, digest(&archive));
    }
    // Again: nothing to do. By force: the same commit under the next id.
    assert!(place.ok(&["import", &name]).contains("already"));
    place.ok(&["import", "--force", &name]);
    assert_eq!((latest(&place.path("w")).1["buildid"].as_str(), place.commit().1), (Some("41.0-1"), commit));
}

#[test]
fn what_a_containerfile_did_is_in_the_commit() {
    let place = Place::new();
    let (_, base) = base(&place);
    let object = {
        let repo = Repo::open(&place.path("repo")).unwrap();
        let hex = repo.find(base, Path::new("usr/bin/true")).unwrap().unwrap().to_string();
        format!("sysroot/ostree/repo/objects/{}/{}.file", &hex[..2], &hex[2..])
    };
    let tar = || Tar::default();
    let top = vec![
        tar()
            .dir("etc/")
            .file("etc/issue", "changed")
            .file("etc/.wh.secret", "")
            .file("usr/bin/.wh.su", "")
            .dir("usr/share/größe/")
            .file("usr/share/größe/.wh..wh..opq", "")
            .file("usr/share/größe/new", "new")
            .layer(),
        tar()
            .raw("usr/bin/new", EntryType::Regular, 0o4755, "", b"new")
            .link("usr/bin/again", "usr/bin/new")
            .pax(&[("linkpath", object.as_bytes())])
            .link("usr/bin/linked", "x")
            .pax(&[("SCHILY.xattr.user.mine", b"1\n2"), ("SCHILY.xattr.security.selinux", b"host")])
            .file("lib/by-link", "usr-merged")
            .raw("dev/null", EntryType::Char, 0o666, "", b"")
            .file("run/secret", "of the build")
            .file("app/x", "has no place")
            .file("var/lib/state", "kept")
            .file(
                "usr/lib/sysimage/dpkg/status",
                "Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.26-3\n",
            )
            .layer(),
    ];
    let image = Crafted::derived(&place.path("base"), top);
    let text = place.import(&image);
    assert!(text.contains("left out /app (1 files)") && text.contains("1 files in /var"), "{text}");
    let tree = place.tree();
    let at = |path: &str| tree.get(path).map(String::as_str);
    assert_eq!(at("usr/etc/issue"), Some("644 0:0  changed"));
    assert_eq!((at("usr/etc/secret"), at("usr/bin/su"), at("etc"), at("app")), (None, None, None, None));
    assert_eq!((at("usr/share/größe/new"), at("usr/share/größe/naïve file")), (Some("644 0:0  new"), None));
    assert_eq!((at("usr/bin/new"), at("usr/bin/again")), (Some("4755 0:0  new"), Some("4755 0:0  new")));
    assert_eq!(at("usr/bin/linked"), at("usr/bin/true"));
    assert_eq!(at("usr/lib/by-link"), Some("644 0:0 user.mine usr-merged"));
    assert_eq!((at("var/lib/state"), at("run/secret"), at("dev/null")), (Some("644 0:0  kept"), None, None));
    // What nothing touched is as it was, with what only OSTree knows of it.
    if sample::is_root() {
        assert_eq!(at("usr/bin/ping"), Some("755 0:0 security.capability capable"));
        assert_eq!(at("usr/etc/shadow"), Some("640 0:42  root:*:0:0::::::\n"));
    }
    let (repo, commit) = place.commit();
    let object = repo.commit_object(commit).unwrap();
    assert_eq!(
        (object.metadata.text("version"), object.metadata.text("ostree.linux")),
        (Some("41.0"), Some("6.12.0"))
    );
    let (dir, meta) = latest(&place.path("w"));
    let manifest = format!("sha256:{}", meta["images"]["oci-manifest"]["sha256"].as_str().unwrap());
    assert_eq!(object.metadata.text("ostree.manifest-digest"), Some(manifest.as_str()));
    assert_eq!(meta["ostree-timestamp"], "2026-11-23T08:00:00Z");
    let shown: Value =
        serde_json::from_str(&fs::read_to_string(dir.join("commitmeta.json")).unwrap()).unwrap();
    assert_eq!(shown["ostree.bootable"], true);
    assert_eq!(shown["rpmostree.rpmdb.pkglist"], json!([["nginx", "0", "1.26", "3", "amd64"]]));
    if let Some(ostree) = judge("ostree") {
        ostree.arg("fsck").arg("--repo").arg(repo.path()).run().unwrap();
    }
    // The same image gives the same commit elsewhere, whatever the build is called.
    let other = Place::new();
    other.ok(&["import", "--version", "7", &image.write(&other.path("image"))]);
    assert_eq!((other.commit().1, latest(&other.path("w")).1["buildid"].as_str()), (commit, Some("7")));
}

/// The client by which machines update is the judge: whether a disk is made here or a machine switches there,
/// the same files are on it.
#[test]
fn machines_import_the_same_tree() {
    let beside = Path::new(nosa()).with_file_name("ostree-container");
    let places = [beside.into_os_string(), "ostree-container".into()];
    let client =
        places.into_iter().map(Cmd::program).find(|client| client.clone().arg("--help").output().is_ok());
    let (Some(client), Some(ostree), Some(_)) = (client, judge("ostree"), judge("skopeo")) else {
        return skip("ostree-container, ostree or skopeo is not installed, so nobody judged this");
    };
    let place = Place::new();
    base(&place);
    let top = vec![
        Tar::default()
            .file("etc/issue", "changed")
            .file("etc/.wh.secret", "")
            .file("usr/bin/.wh.su", "")
            .dir("usr/share/größe/")
            .file("usr/share/größe/.wh..wh..opq", "")
            .file("app/x", "has no place")
            .file("run/secret", "of the build")
            .layer(),
        Tar::default()
            .raw("usr/bin/new", EntryType::Regular, 0o4755, "", b"new")
            .link("usr/bin/again", "usr/bin/new")
            .symlink("etc/link", "../usr/bin/new")
            .file("usr/share/größe/new", "new")
            .layer(),
    ];
    place.import(&Crafted::derived(&place.path("base"), top));
    let repo = place.path("judged");
    ostree.clone().arg("init").arg("--mode=bare-user").arg("--repo").arg(&repo).run().unwrap();
    let image = format!("ostree-unverified-image:oci:{}", place.path("image").display());
    client.args(["container", "image", "pull", "--quiet"]).arg(&repo).arg(image).run().unwrap();
    let refs = ostree.clone().arg("refs").arg("--repo").arg(&repo).output().unwrap().text();
    let theirs = refs.lines().find(|name| name.starts_with("ostree/container/image/")).unwrap();
    // A repository of the mode bare-user drops the owners of directories and links on the way.
    let files = |repo: &Path, commit: &str| -> Vec<String> {
        let call = ostree.clone().args(["ls", "-R", "-C"]).arg("--repo").arg(repo).arg(commit);
        let lines = call.output().unwrap().text();
        let told = |line: &str| match line.as_bytes()[0] {
            b'd' => None,
            b'l' => line.find('/').map(|path| line[path..].to_owned()),
            _ => Some(line.to_owned()),
        };
        lines.lines().filter_map(told).collect()
    };
    let (own, commit) = place.commit();
    let ours = files(own.path(), &commit.to_string());
    assert!(ours.iter().any(|line| line.ends_with("/usr/share/größe/new")), "{ours:?}");
    let theirs = files(&repo, theirs);
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| !those.contains(line)).cloned().collect()
    };
    assert_eq!(only(&ours, &theirs), only(&theirs, &ours));
}

#[test]
fn an_image_comes_from_a_registry() {
    let (Some(registry), Some(skopeo)) = (Registry::start(), judge("skopeo")) else { return };
    let place = Place::new();
    let name = Crafted::new(vec![Tar::default().system().layer()]).write(&place.path("image"));
    let there = registry.image("os/crafted:1");
    skopeo.args(["copy", "-q", "--dest-tls-verify=false", &name, &there]).run().unwrap();
    place.ok(&["import", &there]);
    let (_, meta) = latest(&place.path("w"));
    let manifest = format!("sha256:{}", meta["images"]["oci-manifest"]["sha256"].as_str().unwrap());
    assert_eq!(meta["base-oscontainer"], json!({"image": &there["docker://".len()..], "digest": manifest}));
    assert!(place.tree().contains_key("usr/etc/os-release"));
    let left: Vec<_> =
        fs::read_dir(place.path("w/tmp")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with("import-")), "{left:?}");
}

#[test]
fn an_image_comes_from_podman_s_storage() {
    let Some(skopeo) = judge("skopeo") else { return };
    if !is_root() {
        return;
    }
    let place = Place::new();
    let name = Crafted::new(vec![Tar::default().system().layer()]).write(&place.path("image"));
    let storage = format!("[vfs@{}+{}]", place.path("storage").display(), place.path("run").display());
    let there = format!("containers-storage:{storage}localhost/crafted:1");
    skopeo.args(["copy", "-q", &name, &there]).run().unwrap();
    place.ok(&["import", &there]);
    assert!(place.tree().contains_key("usr/etc/os-release"));
    refused(place.nosa(&["import", "no-such-image"]), 12, &["no image no-such-image", "podman images"]);
}

#[test]
fn a_squashed_image_counts_by_its_files() {
    let place = Place::new();
    let top = Tar::default().system().layer();
    let labels = json!({
        "org.opencontainers.image.version": "1.0",
        "ostree.commit": "0".repeat(64),
        "ostree.final-diffid": format!("sha256:{}", "0".repeat(64)),
    });
    place.import(&Crafted { labels, ..Crafted::new(vec![top]) });
    assert!(place.tree().contains_key("usr/etc/os-release"));
}

#[test]
fn a_system_without_ostree_layers_gets_the_layout_of_one() {
    let place = Place::new();
    let gzip = Tar::default()
        .system()
        .dir("home/")
        .file("root/.bashrc", "")
        .dir("opt/")
        .file("opt/vendor/tool", "program")
        .dir("usr/local/bin/")
        .file("boot/vmlinuz-6.12.0", "a copy")
        .file("tmp/left", "")
        .symlink("sbin", "usr/sbin")
        .layer();
    let stream = Tar::default().file("usr/share/zstd", "zstd").end();
    let zstd = Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar+zstd".into(),
        ..Layer::blob(zstd::encode_all(&stream[..], 3).unwrap(), nosa::pipeline::Digest::of(&stream))
    };
    let stream = Tar::default().file("usr/share/plain", "plain").end();
    let plain = Layer {
        media_type: "application/vnd.oci.image.layer.v1.tar".into(),
        ..Layer::blob(stream.clone(), nosa::pipeline::Digest::of(&stream))
    };
    let text = place.import(&Crafted::new(vec![gzip, zstd, plain]));
    assert!(text.contains("left out 1 files in /boot"), "{text}");
    let tree = place.tree();
    let expected = [
        ("home", "777 0:0  -> var/home"),
        ("root", "777 0:0  -> var/roothome"),
        ("ostree", "777 0:0  -> sysroot/ostree"),
        ("opt/vendor/tool", "644 0:0  program"),
        ("usr/local", "777 0:0  -> ../var/usrlocal"),
        ("usr/etc/os-release", "644 0:0  NAME=crafted\n"),
        ("usr/share/zstd", "644 0:0  zstd"),
        ("usr/share/plain", "644 0:0  plain"),
        ("boot", "755 0:0  dir"),
        ("sysroot", "755 0:0  dir"),
        ("proc", "755 0:0  dir"),
    ];
    for (path, what) in expected {
        assert_eq!(tree.get(path).map(String::as_str), Some(what), "{path}");
    }
    assert!(
        !tree.contains_key("boot/vmlinuz-6.12.0")
            && !tree.contains_key("tmp/left")
            && !tree.contains_key("etc")
    );
    let tmpfiles = &tree["usr/lib/tmpfiles.d/nosa-import.conf"];
    assert!(tmpfiles.contains("d /var/roothome 0700") && !tmpfiles.contains("/var/opt"), "{tmpfiles}");
    // It has not what its disks would be made with.
    refused(place.nosa(&["buildextend", "metal"]), 7, &["no mke2fs", "add the package e2fsprogs"]);
}

#[test]
fn a_derived_image_becomes_a_disk() {
    let Some(shared) = shared() else { return };
    let work = Work::new(&shared);
    let layout = work.dir.join("tmp/base");
    fs::create_dir_all(&layout).unwrap();
    Cmd::program("tar").arg("-xf").arg(artifact(&shared, "ostree")).dir(&layout).run().unwrap();
    let top = Tar::default().file("usr/share/derived", "derived\n").file("etc/derived.conf", "x\n").layer();
    let name = Crafted::derived(&layout, vec![top]).write(&work.dir.join("tmp/derived"));
    work.ok(&["import", "--version", "derived.1", &name]);
    for dir in ["tmp/base", "tmp/derived"] {
        fs::remove_dir_all(work.dir.join(dir)).unwrap();
    }
    work.ok(&["buildextend", "qemu"]);
    let (_, meta) = latest(&work.dir);
    let (_, own) = latest(&shared);
    assert_eq!((&meta["buildid"], &meta["ref"]), (&json!("derived.1"), &own["ref"]));
    assert_eq!(meta["ostree-version"], own["ostree-version"]);
    assert_ne!(meta["ostree-commit"], own["ostree-commit"]);
    assert!(artifact(&work.dir, "qemu").is_file());
    work.ok(&["build-validate"]);
}
