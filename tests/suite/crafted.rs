//! OCI images made in code, byte by byte where they are to be wrong: an image layout with layers, and what
//! its documents say of them.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nosa::pipeline::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// A layer's tar stream.
#[derive(Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// An entry with its own name, kind, mode and target, none of them checked.
    pub(crate) fn raw(
        mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        target: &str,
        content: &[u8],
    ) -> Self {
        let mut header = Header::new_ustar();
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..path.len()].copy_from_slice(path.as_bytes());
        ustar.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        self.block(header.as_bytes());
        self.block(content);
        self
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.raw(path, EntryType::Regular, 0o644, "", content.as_bytes())
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.raw(path, EntryType::Directory, 0o755, "", b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(path, EntryType::Symlink, 0o777, target, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        self.raw(path, EntryType::Link, 0o644, target, b"")
    }

    /// PAX records for the entry that follows.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let mut bytes = Vec::new();
        for (key, value) in records {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let length = (body.len()..).find(|n| n.to_string().len() + body.len() == *n).unwrap();
            bytes.extend([length.to_string().as_bytes(), &body].concat());
        }
        self.raw("pax", EntryType::XHeader, 0o644, "", &bytes)
    }

    /// A header as it stands.
    pub(crate) fn header(mut self, header: &Header) -> Self {
        self.block(header.as_bytes());
        self
    }

    /// What makes a tree a system that boots, as far as anyone looks at it here.
    pub(crate) fn system(self) -> Self {
        self.dir("usr/")
            .dir("usr/lib/")
            .file("usr/lib/modules/6.12.0/vmlinuz", "kernel")
            .file("usr/lib/modules/6.12.0/initramfs.img", "initramfs")
            .symlink("lib", "usr/lib")
            .dir("etc/")
            .file("etc/os-release", "NAME=crafted\n")
    }

    fn block(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    /// The whole stream.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }

    /// The stream as a gzip layer that tells the truth.
    pub(crate) fn layer(self) -> Layer {
        let tar = self.end();
        Layer::gzip(&tar)
    }
}

/// A layer: its blob and what is said of it.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) diff_id: Digest,
}

impl Layer {
    pub(crate) fn gzip(tar: &[u8]) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(tar).unwrap();
        Self::blob(encoder.finish().unwrap(), Digest::of(tar))
    }

    /// A blob that tells the truth of itself, as gzip.
    pub(crate) fn blob(blob: Vec<u8>, diff_id: Digest) -> Self {
        Self {
            digest: Digest::of(&blob),
            size: blob.len() as u64,
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            blob,
            diff_id,
        }
    }
}

/// An image.
pub(crate) struct Crafted {
    pub(crate) layers: Vec<Layer>,
    pub(crate) labels: Value,
    pub(crate) architecture: String,
    pub(crate) config_type: String,
}

impl Crafted {
    /// An image of these layers with a version.
    pub(crate) fn new(layers: Vec<Layer>) -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            layers,
            labels: json!({"org.opencontainers.image.version": "1.0"}),
            architecture: arch.into(),
            config_type: "application/vnd.oci.image.config.v1+json".into(),
        }
    }

    /// Adds a layer to an image in a layout, whose labels stay.
    pub(crate) fn derived(layout: &Path, top: Vec<Layer>) -> Self {
        let read = |digest: &str| fs::read(layout.join("blobs").join(digest.replacen(':', "/", 1))).unwrap();
        let parse = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
        let digest = |value: &Value| -> String { value["digest"].as_str().unwrap().to_owned() };
        let index = parse(&fs::read(layout.join("index.json")).unwrap());
        let manifest = parse(&read(&digest(&index["manifests"][0])));
        let config = parse(&read(&digest(&manifest["config"])));
        let layers = manifest["layers"]
            .as_array()
            .unwrap()
            .iter()
            .zip(config["rootfs"]["diff_ids"].as_array().unwrap());
        let own = layers.map(|(layer, diff_id)| Layer {
            media_type: layer["mediaType"].as_str().unwrap().into(),
            ..Layer::blob(
                read(&digest(layer)),
                diff_id.as_str().unwrap().strip_prefix("sha256:").unwrap().parse().unwrap(),
            )
        });
        let layers = own.chain(top).collect();
        Self { labels: config["config"]["Labels"].clone(), ..Self::new(layers) }
    }

    /// Writes the layout into `dir` and returns how nosa is told of it.
    pub(crate) fn write(&self, dir: &Path) -> String {
        let blobs = dir.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let put = |digest: Digest, bytes: &[u8]| fs::write(blobs.join(digest.to_string()), bytes).unwrap();
        let document = |value: &Value| -> (Digest, usize) {
            let bytes = serde_json::to_vec(value).unwrap();
            put(Digest::of(&bytes), &bytes);
            (Digest::of(&bytes), bytes.len())
        };
        let descriptor = |kind: &str, (digest, size): (Digest, usize)| json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": size});
        let diff_ids: Vec<String> =
            self.layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
        let config = document(&json!({
            "created": "2026-11-23T08:00:00.123456789Z",
            "architecture": self.architecture,
            "os": "linux",
            "config": {"Labels": self.labels},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": vec![json!({"created_by": "a test"}); diff_ids.len()],
        }));
        let layer = |layer: &Layer| {
            put(layer.digest, &layer.blob);
            descriptor(&layer.media_type, (layer.digest, layer.size as usize))
        };
        let manifest = document(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor(&self.config_type, config),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        }));
        let index = json!({
            "schemaVersion": 2,
            "manifests": [descriptor("application/vnd.oci.image.manifest.v1+json", manifest)],
        });
        fs::write(dir.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
        fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        format!("oci:{}", dir.display())
    }
}

/// All files below a directory and their bytes, to see that nothing changed.
pub(crate) fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                waiting.push(entry.path());
            }
            let bytes = if kind.is_file() { fs::read(entry.path()).unwrap() } else { Vec::new() };
            found.push((entry.path(), bytes));
        }
    }
    found.sort();
    found
}
