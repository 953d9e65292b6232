//! Images of commits: read back by tar and judged by skopeo.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nosa::failure::{Failure, Kind};
use nosa::host::Cmd;
use nosa::oci::{Compression, ExportOptions, Exported, LayerPlan, OciArchive, PlannedLayer, export};
use nosa::ostree::{Checksum, CommitOptions, NodeObject, ObjectKind, Repo, TreeOptions, key};
use nosa::pipeline::{Artifact as _, Digest};
use tar::EntryType;

use crate::judge::judge;
use crate::registry_server::Registry;
use crate::sample;

struct Fixture {
    dir: tempfile::TempDir,
    repo: Repo,
    commit: Checksum,
    content: Checksum,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    sample::write(&root);
    let mut options =
        CommitOptions { branch: "test".into(), subject: "the base".into(), ..Default::default() };
    options.timestamp = 86_400;
    options.metadata.set(key::VERSION, "41.0");
    options.metadata.set_bootable("6.12.0");
    options.metadata.set("nestos.stream", "stable");
    let repo = Repo::create(&dir.path().join("repo")).unwrap();
    let committed = repo.commit(&root, TreeOptions::default(), &options).unwrap();
    Fixture { dir, repo, commit: committed.commit, content: committed.content }
}

fn options() -> ExportOptions {
    ExportOptions {
        architecture: "x86_64".into(),
        labels: BTreeMap::from([("coreos-assembler.image-config-checksum".into(), "abc".into())]),
        copy_keys: vec!["nestos.stream".into(), "not.there".into()],
        cmd: vec!["/usr/bin/bash".into()],
        ..ExportOptions::default()
    }
}

impl Fixture {
    /// The files dealt out to so many layers.
    fn plan(&self, layers: usize) -> LayerPlan {
        let nodes = self.repo.walk(self.commit).unwrap();
        let mut plan = LayerPlan { layers: vec![PlannedLayer::default(); layers - 1] };
        let files = nodes.into_iter().filter(|node| matches!(node.object, NodeObject::File(_)));
        for (number, node) in files.enumerate().filter(|(number, _)| number % layers > 0) {
            let layer = &mut plan.layers[number % layers - 1];
            layer.name = format!("part {}", number % layers);
            layer.files.insert(node.path);
        }
        plan
    }

    fn export(&self, name: &str, layers: usize, options: &ExportOptions) -> (PathBuf, Exported) {
        let scratch = self.dir.path().join(format!("{name}.tmp"));
        fs::create_dir(&scratch).unwrap();
        let target = self.dir.path().join(name);
        let plan = self.plan(layers);
        let exported = export(&self.repo, self.commit, &plan, options, &scratch, &target).unwrap();
        (target, exported)
    }

    /// Unpacks an archive and returns the layers' blobs in order, decompressed.
    fn layers(&self, archive: &Path) -> Vec<Vec<u8>> {
        let out = archive.with_extension("layout");
        tar::Archive::new(fs::File::open(archive).unwrap()).unpack(&out).unwrap();
        let blob = |digest: &serde_json::Value| {
            let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = fs::read(out.join("blobs/sha256").join(hex)).unwrap();
            assert_eq!(Digest::of(&bytes).to_string(), hex);
            bytes
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
        let index = json(&fs::read(out.join("index.json")).unwrap());
        let manifest = json(&blob(&index["manifests"][0]["digest"]));
        let config = json(&blob(&manifest["config"]["digest"]));
        let mut found = Vec::new();
        for (at, layer) in manifest["layers"].as_array().unwrap().iter().enumerate() {
            let bytes = blob(&layer["digest"]);
            assert_eq!(layer["size"], bytes.len());
            let mut plain = Vec::new();
            if layer["mediaType"].as_str().unwrap().ends_with("+zstd") {
                plain = zstd::decode_all(bytes.as_slice()).unwrap();
            } else {
                // As clients do: the first member only.
                flate2::bufread::GzDecoder::new(bytes.as_slice()).read_to_end(&mut plain).unwrap();
            }
            let diff_id = config["rootfs"]["diff_ids"][at].as_str().unwrap();
            assert_eq!(diff_id, format!("sha256:{}", Digest::of(&plain)));
            found.push(plain);
        }
        assert_eq!(config["history"].as_array().unwrap().len(), found.len());
        found
    }
}

#[test]
fn the_same_commit_is_the_same_image_whatever_made_it() {
    let first = fixture();
    let second = fixture();
    assert_eq!(first.commit, second.commit);
    let (one, exported) = first.export("image", 5, &options());
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    let (two, again) = alone.install(|| second.export("image", 5, &options()));
    assert_eq!(exported, again);
    assert!(fs::read(one).unwrap() == fs::read(two).unwrap());
    assert_eq!(exported.diff_ids.len(), 5);
}

#[test]
fn an_importer_finds_every_object_in_order() {
    let fixture = fixture();
    for (name, layers, compression) in
        [("single", 1, Compression::Gzip), ("split", 4, Compression::Gzip), ("zstd", 3, Compression::Zstd)]
    {
        let (archive, _) = fixture.export(name, layers, &ExportOptions { compression, ..options() });
        let mut seen = BTreeSet::new();
        for (at, layer) in fixture.layers(&archive).iter().enumerate() {
            check_layer(layer, at == 0, &mut seen);
        }
        for node in fixture.repo.walk(fixture.commit).unwrap() {
            match node.object {
                NodeObject::File(sum) => assert!(seen.contains(&sum.object_path(ObjectKind::File))),
                NodeObject::Directory { tree, meta, .. } => assert!(
                    seen.contains(&tree.object_path(ObjectKind::DirTree))
                        && seen.contains(&meta.object_path(ObjectKind::DirMeta))
                ),
            }
        }
    }
}

/// Reads a layer as importers do and collects its objects.
fn check_layer(layer: &[u8], first: bool, seen: &mut BTreeSet<String>) {
    let mut entries = tar::Archive::new(layer);
    let (mut attributes, mut files, mut linked) = (BTreeSet::new(), BTreeSet::new(), None);
    let mut commit_next = first;
    for entry in entries.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let kind = entry.header().entry_type();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let target = entry.link_name().unwrap().map(|target| target.to_str().unwrap().to_owned());
        let Some(object) = path.strip_prefix("sysroot/ostree/repo/objects/") else {
            if kind == EntryType::Link {
                let object = target.unwrap();
                let object = object.strip_prefix("sysroot/ostree/repo/objects/").unwrap();
                assert!(seen.contains(object), "{path} links to what is not there yet");
            }
            continue;
        };
        if kind == EntryType::Directory {
            continue;
        }
        assert_eq!(commit_next, object.ends_with(".commit"), "the commit is the first object: {object}");
        commit_next = false;
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        let (sum, suffix) = object.split_once('.').unwrap();
        let sum = sum.replace('/', "");
        match suffix {
            "file-xattrs" => {
                assert_eq!(Digest::of(&bytes).to_string(), sum);
                assert!(attributes.insert(path), "once a layer");
            }
            "file-xattrs-link" => {
                assert!(attributes.contains(&target.unwrap()));
                linked = Some(sum);
            }
            "file" => {
                assert_eq!(linked.take(), Some(sum));
                // Files that are alike may be in several layers.
                assert!(files.insert(object.to_owned()), "{object} twice");
                seen.insert(object.to_owned());
            }
            _ => {
                assert!(first, "{object} in a later layer");
                assert_eq!(Digest::of(&bytes).to_string(), sum);
                assert!(seen.insert(object.to_owned()), "{object} twice");
            }
        }
    }
    assert_eq!(linked, None);
}

#[test]
fn the_container_s_tree_is_the_commit_s() {
    if !sample::is_root() {
        return;
    }
    let fixture = fixture();
    let (archive, _) = fixture.export("image", 3, &options());
    let root = fixture.dir.path().join("container");
    fs::create_dir(&root).unwrap();
    for (at, layer) in fixture.layers(&archive).iter().enumerate() {
        let file = fixture.dir.path().join(format!("layer-{at}.tar"));
        fs::write(&file, layer).unwrap();
        let args = ["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"];
        Cmd::program("tar").args(args).arg(&file).dir(&root).run().unwrap();
    }
    assert!(root.join("etc/shadow").exists() && !root.join("usr/etc").exists());
    // An empty file is no link to the object, which a container could change through it.
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(fs::metadata(root.join("usr/share/empty")).unwrap().nlink(), 1);
    assert!(fs::metadata(root.join("usr/bin/su")).unwrap().nlink() > 1);
    if let Some(ostree) = judge("ostree") {
        ostree.arg("fsck").arg("--repo").arg(root.join("sysroot/ostree/repo")).run().unwrap();
    }
    fs::remove_dir_all(root.join("sysroot")).unwrap();
    fs::rename(root.join("etc"), root.join("usr/etc")).unwrap();
    // What only containers need of /var; it is no part of the commit.
    for (dir, mode) in [("cache", 0o755), ("lib", 0o755), ("log", 0o755), ("roothome", 0o700)] {
        let path = root.join("var").join(dir);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{dir}");
        fs::remove_dir(&path).unwrap();
    }
    let options = CommitOptions { branch: "again".into(), ..Default::default() };
    let again = fixture.repo.commit(&root, TreeOptions::default(), &options).unwrap();
    assert_eq!(again.content, fixture.content);
}

#[test]
fn skopeo_reads_the_image() {
    let Some(skopeo) = judge("skopeo") else { return };
    let fixture = fixture();
    let (archive, exported) = fixture.export("image", 2, &options());
    let source = format!("oci-archive:{}", archive.display());
    let text = skopeo.clone().args(["inspect", &source]).output().unwrap().text();
    let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(seen["Digest"], format!("sha256:{}", exported.manifest));
    assert_eq!((&seen["Architecture"], &seen["Os"]), (&"amd64".into(), &"linux".into()));
    assert_eq!(seen["Created"], "1970-01-02T00:00:00Z");
    let labels = serde_json::json!({
        "containers.bootc": "1",
        "coreos-assembler.image-config-checksum": "abc",
        "nestos.stream": "stable",
        "org.opencontainers.image.version": "41.0",
        "ostree.bootable": "true",
        "ostree.commit": fixture.commit.to_string(),
        "ostree.final-diffid": format!("sha256:{}", exported.diff_ids[1]),
        "ostree.linux": "6.12.0",
    });
    assert_eq!(seen["Labels"], labels);
    let raw = skopeo.clone().args(["inspect", "--raw", &source]).output().unwrap().stdout;
    assert!(raw == exported.manifest_bytes);
    let copy = format!("oci:{}", fixture.dir.path().join("copy").display());
    skopeo.args(["copy", "-q", &source, &copy]).run().unwrap();
}

#[test]
fn a_registry_gives_back_what_it_was_given() {
    let Some(skopeo) = judge("skopeo") else { return };
    let Some(registry) = Registry::start() else { return };
    let fixture = fixture();
    for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let (archive, exported) = fixture.export(name, 4, &ExportOptions { compression, ..options() });
        let image = registry.image(&format!("nosa/{name}:41.0"));
        let copy = |from: &str, to: &str| {
            let call =
                skopeo.clone().args(["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"]);
            call.args([from, to]).run().unwrap();
        };
        copy(&format!("oci-archive:{}", archive.display()), &image);
        assert_eq!(registry.blobs()[&exported.manifest.to_string()], exported.manifest_bytes.len() as u64);
        let back = format!("oci:{}", fixture.dir.path().join(format!("{name}-back")).display());
        copy(&image, &back);
        let call = skopeo.clone().args(["inspect", "--format", "{{.Digest}}", &back]);
        assert_eq!(call.output().unwrap().text().trim(), format!("sha256:{}", exported.manifest));
    }
    assert!(registry.log().contains("/v2/nosa/zstd/manifests/41.0"));
}

#[test]
fn a_damaged_object_makes_no_image() {
    let fixture = fixture();
    let su = fixture.repo.find(fixture.commit, Path::new("/usr/bin/su")).unwrap().unwrap();
    fs::write(fixture.repo.object(su, ObjectKind::File), "SETUID").unwrap();
    let (scratch, target) = (fixture.dir.path().join("tmp"), fixture.dir.path().join("image"));
    fs::create_dir(&scratch).unwrap();
    let plan = LayerPlan::single();
    let error = export(&fixture.repo, fixture.commit, &plan, &options(), &scratch, &target).unwrap_err();
    let failure: &Failure = error.downcast_ref().unwrap();
    assert_eq!(failure.kind, Kind::Artifact);
    assert!(failure.cause.contains(&su.object_path(ObjectKind::File)) && !target.exists());
}

#[test]
fn the_artifact_reads_back() {
    let fixture = fixture();
    let out = fixture.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let (archive, exported) = fixture.export("image", 2, &options());
    fs::rename(archive, OciArchive::archive_path(&out)).unwrap();
    let recorded = OciArchive::record(&out, &exported).unwrap();
    let moved = fixture.dir.path().join("moved");
    fs::rename(&out, &moved).unwrap();
    let loaded = OciArchive::load(&moved).unwrap();
    assert_eq!(loaded.path, OciArchive::archive_path(&moved));
    assert_eq!(loaded.path.metadata().unwrap().len(), recorded.size);
    assert_eq!(Digest::of(fs::read(&loaded.manifest_path).unwrap()), loaded.digest());
    assert_eq!((loaded.manifest, loaded.diff_ids), (recorded.manifest, recorded.diff_ids));
}
