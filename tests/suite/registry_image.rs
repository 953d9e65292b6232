//! Small images in layouts, made in code, for the tests of registries.

use std::fs;
use std::path::{Path, PathBuf};

use nosa::pipeline::Digest;
use serde_json::{Value, json};

use crate::small::bytes;

/// The media type of a manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// The media type of an index.
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A layout with one image.
pub(crate) struct Image {
    /// The layout.
    pub(crate) dir: PathBuf,
    /// The digest of its manifest or index, with `sha256:`.
    pub(crate) digest: String,
    /// The digests of its layers.
    pub(crate) layers: Vec<Digest>,
    place: tempfile::TempDir,
}

impl Image {
    /// An image with layers of these sizes; another `seed` gives another one.
    pub(crate) fn new(seed: u64, sizes: &[usize]) -> Self {
        Self::new_for("amd64", seed, sizes)
    }

    /// As [`Self::new`], for another architecture.
    pub(crate) fn new_for(architecture: &str, seed: u64, sizes: &[usize]) -> Self {
        let place = tempfile::Builder::new().prefix("nosa-image-").tempdir().unwrap();
        let dir = place.path().join("layout");
        begin(&dir);
        let (manifest, layers) = image(&dir, architecture, seed, sizes);
        Self::end(place, dir, &manifest, layers)
    }

    /// An index over an image for amd64 and one for arm64, which share their last layer.
    pub(crate) fn of_two(seed: u64) -> Self {
        let place = tempfile::Builder::new().prefix("nosa-image-").tempdir().unwrap();
        let dir = place.path().join("layout");
        begin(&dir);
        let mut manifests = Vec::new();
        for architecture in ["amd64", "arm64"] {
            let (mut manifest, _) = image(&dir, architecture, seed, &[100_000, 5_000]);
            manifest["platform"] = json!({"architecture": architecture, "os": "linux"});
            manifests.push(manifest);
        }
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
        let index = blob(&dir, index.to_string().as_bytes(), INDEX);
        Self::end(place, dir, &index, Vec::new())
    }

    fn end(place: tempfile::TempDir, dir: PathBuf, root: &Value, layers: Vec<Digest>) -> Self {
        let index = json!({"schemaVersion": 2, "manifests": [root]});
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
        Self { dir, digest: root["digest"].as_str().unwrap().to_owned(), layers, place }
    }

    /// As nosa and skopeo name it.
    pub(crate) fn name(&self) -> String {
        format!("oci:{}", self.dir.display())
    }

    /// A blob's file.
    pub(crate) fn blob(&self, digest: Digest) -> PathBuf {
        self.dir.join(format!("blobs/sha256/{digest}"))
    }

    /// A path beside the layout, for what a test makes.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// The layout as an archive's bytes.
    pub(crate) fn archive(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        archive.append_dir_all(".", &self.dir).unwrap();
        archive.into_inner().unwrap()
    }
}

fn begin(dir: &Path) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Writes an image and returns its manifest's descriptor.
fn image(dir: &Path, architecture: &str, seed: u64, sizes: &[usize]) -> (Value, Vec<Digest>) {
    let mut layers = Vec::new();
    let mut digests = Vec::new();
    for (number, size) in sizes.iter().enumerate() {
        // The last one is the same for all architectures.
        let own = if number + 1 < sizes.len() {
            architecture.len() as u64 + u64::from(architecture.as_bytes()[1])
        } else {
            0
        };
        let content = bytes(seed * 1000 + number as u64 + own * 10, *size);
        layers.push(blob(dir, &content, "application/vnd.oci.image.layer.v1.tar"));
        digests.push(Digest::of(&content));
    }
    let diff_ids: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids}
    });
    let config = blob(dir, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    // Two spaces and an order that no program would choose: who writes it anew changes its digest.
    let manifest = format!(
        "{{\"layers\":  {},\n \"config\": {config}, \"mediaType\": \"{MANIFEST}\", \"schemaVersion\": 2}}\n",
        Value::Array(layers)
    );
    (blob(dir, manifest.as_bytes(), MANIFEST), digests)
}

fn blob(dir: &Path, content: &[u8], media_type: &str) -> Value {
    let digest = Digest::of(content);
    fs::write(dir.join(format!("blobs/sha256/{digest}")), content).unwrap();
    json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": content.len()})
}
