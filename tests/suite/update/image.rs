//! Images derived from the shared build's, as a Containerfile makes them: its layers and one more.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::{Compression, write::GzEncoder};
use nosa::host::Cmd;
use nosa::pipeline::Digest;
use serde_json::{Value, json};

use crate::fixture::artifact;
use crate::registry_server::Registry;

/// A file of the layer; a link when its mode is 0.
pub(crate) type File<'f> = (&'f str, u32, &'f [u8]);

/// The shared build's image as a directory, and the registry that derived ones go to.
pub(crate) struct Shelf {
    dir: tempfile::TempDir,
    manifest: Value,
    config: Value,
    registry: Registry,
}

impl Shelf {
    /// Unpacks the shared build's image.
    pub(crate) fn new(shared: &Path, registry: Registry) -> Self {
        let dir = tempfile::Builder::new().prefix("nosa-derived-").tempdir().unwrap();
        let archive = artifact(shared, "ostree");
        Cmd::program("tar").arg("-xf").arg(archive).arg("-C").arg(dir.path()).run().unwrap();
        let read = |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let index = read(dir.path().join("index.json"));
        let manifest = read(blob(dir.path(), index["manifests"][0]["digest"].as_str().unwrap()));
        let config = read(blob(dir.path(), manifest["config"]["digest"].as_str().unwrap()));
        Self { dir, manifest, config, registry }
    }

    /// How machines reach the registry: its host as they see it.
    pub(crate) fn seen_from_inside(&self) -> String {
        self.registry.host.replace("127.0.0.1", "10.0.2.2")
    }

    /// The version of the kernel.
    pub(crate) fn kernel(&self) -> &str {
        self.config["config"]["Labels"]["ostree.linux"].as_str().unwrap()
    }

    /// Pushes the image with a layer of these files as `os:latest`, and returns its manifest's digest.
    pub(crate) fn push(&self, version: &str, files: &[File<'_>]) -> String {
        let (tar, packed) = layer(files);
        let mut config = self.config.clone();
        push(&mut config["rootfs"]["diff_ids"], json!(format!("sha256:{}", Digest::of(&tar))));
        push(&mut config["history"], json!({"created_by": "COPY . /"}));
        config["config"]["Labels"]["org.opencontainers.image.version"] = json!(version);
        let mut manifest = self.manifest.clone();
        let layer = self.store(&packed, "application/vnd.oci.image.layer.v1.tar+gzip");
        push(&mut manifest["layers"], layer);
        manifest["config"] =
            self.store(config.to_string().as_bytes(), manifest["config"]["mediaType"].as_str().unwrap());
        let entry = self.store(manifest.to_string().as_bytes(), "application/vnd.oci.image.manifest.v1+json");
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        fs::write(self.dir.path().join("index.json"), index.to_string()).unwrap();
        Cmd::program("skopeo")
            .args(["copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false"])
            .arg(format!("oci:{}", self.dir.path().display()))
            .arg(self.registry.image("os:latest"))
            .run()
            .unwrap();
        entry["digest"].as_str().unwrap().to_owned()
    }

    fn store(&self, bytes: &[u8], kind: &str) -> Value {
        let digest = format!("sha256:{}", Digest::of(bytes));
        fs::write(blob(self.dir.path(), &digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    }
}

fn push(list: &mut Value, item: Value) {
    list.as_array_mut().unwrap().push(item);
}

fn blob(dir: &Path, digest: &str) -> PathBuf {
    dir.join("blobs").join(digest.replace(':', "/"))
}

/// The layer as tar, plain and packed.
fn layer(files: &[File<'_>]) -> (Vec<u8>, Vec<u8>) {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(0);
        if *mode == 0 {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            header.set_size(0);
            tar.append_link(&mut header, path, std::str::from_utf8(content).unwrap()).unwrap();
        } else {
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).unwrap();
        }
    }
    let tar = tar.into_inner().unwrap();
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(&tar).unwrap();
    (tar, packed.finish().unwrap())
}
