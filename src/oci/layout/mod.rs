//! Reading an image layout, as a directory or a tar archive of one (image-spec's image-layout.md): its index, and
//! the documents of the image that is asked for. Nothing in it is believed: documents have a largest size, and
//! what a descriptor says of a blob is compared with it.
//!
//! An archive is read in place (`blob`): its headers are walked once, and blobs are read at their offsets.

mod blob;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;

pub use blob::Blob;
use blob::members;

use super::image::{FINAL_DIFFID, REF_NAME, VERSION, arch};
use crate::failure::{Failure, Kind};
use crate::pipeline::Digest;

/// The largest document that is read: registries refuse manifests over 4 MiB.
const LARGEST_DOCUMENT: u64 = 8 << 20;
/// How deep indexes may lead to indexes.
const DEPTH: usize = 4;

/// An image layout.
#[derive(Debug)]
pub struct Layout {
    path: PathBuf,
    members: Option<BTreeMap<String, (u64, u64)>>,
}

/// An image of a layout: its documents, each what its digest says.
#[derive(Debug)]
pub struct Image {
    /// The manifest's digest: the image's identity.
    pub digest: Digest,
    /// The manifest's bytes.
    pub manifest_bytes: Vec<u8>,
    /// The manifest.
    pub manifest: ImageManifest,
    /// The configuration.
    pub config: ImageConfiguration,
}

impl Image {
    /// Its labels.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.config.labels_of_config().cloned().unwrap_or_default();
        labels.into_iter().collect()
    }

    /// The version that its labels tell.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.labels().remove(VERSION).filter(|version| !version.is_empty())
    }

    /// How many of its layers are its commit's own; `None` if it does not tell, or was squashed: then it has the
    /// label of its base, but no longer the layers.
    #[must_use]
    pub fn commit_layers(&self) -> Option<usize> {
        let labels = self.config.labels_of_config()?;
        let last = labels.get(FINAL_DIFFID)?;
        let at = self.config.rootfs().diff_ids().iter().position(|diff_id| diff_id == last)?;
        Some(at + 1)
    }
}

/// A search for the image of an architecture.
struct Search<'a> {
    basearch: &'a str,
    /// The digests of what was looked at.
    seen: BTreeSet<String>,
    found: Vec<Image>,
    /// What else there is.
    others: Vec<String>,
}

impl Layout {
    /// Opens a directory or an archive.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Self::none(path).into());
        }
        let members = if path.is_dir() { None } else { Some(members(path)?) };
        let this = Self { path: path.to_owned(), members };
        let marker = this.member("oci-layout", LARGEST_DOCUMENT)?.ok_or_else(|| Self::none(path))?;
        let marker: serde_json::Value = parse(&marker, path, "oci-layout")?;
        match marker["imageLayoutVersion"].as_str() {
            Some(version) if version.starts_with("1.") => Ok(this),
            version => Err(damaged(path, &format!("its oci-layout names version {version:?}, not 1.0.0"))),
        }
    }

    /// A directory that has blobs and nothing else.
    #[must_use]
    pub fn of_blobs(dir: &Path) -> Self {
        Self { path: dir.to_owned(), members: None }
    }

    fn none(path: &Path) -> Failure {
        let cure = "name a directory or an archive that `skopeo copy … oci:` or `nosa build` wrote";
        Failure::new(Kind::Artifact, format!("{} is not an OCI image layout", path.display()), cure)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The entries of the index that have that name, or all.
    fn entries(&self, name: Option<&str>) -> Result<Vec<Descriptor>> {
        let index = self.member("index.json", LARGEST_DOCUMENT)?;
        let index = index.ok_or_else(|| damaged(&self.path, "it has no index.json"))?;
        let index: ImageIndex = parse(&index, &self.path, "index.json")?;
        let named = |entry: &&Descriptor| {
            let own = entry.annotations().as_ref().and_then(|all| all.get(REF_NAME));
            name.is_none_or(|name| own.is_some_and(|own| own == name))
        };
        let entries: Vec<Descriptor> = index.manifests().iter().filter(named).cloned().collect();
        if entries.is_empty() {
            return Err(damaged(
                &self.path,
                &format!("it has no image called {:?}", name.unwrap_or_default()),
            ));
        }
        Ok(entries)
    }

    fn ambiguous(&self) -> Failure {
        let cause = format!("{} holds more than one image", self.path.display());
        Failure::new(Kind::Artifact, cause, "add :NAME to say which")
    }

    /// What the index says of the image of that name, or of the only one: a manifest, or an index of several
    /// architectures.
    pub fn entry(&self, name: Option<&str>) -> Result<Descriptor> {
        let mut entries = self.entries(name)?;
        entries.dedup_by(|one, other| one.digest() == other.digest());
        match (entries.pop(), entries.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(self.ambiguous().into()),
        }
    }

    /// The image of that name, or the only one, for the base architecture `basearch`.
    pub fn image(&self, name: Option<&str>, basearch: &str) -> Result<Image> {
        let entries = self.entries(name)?;
        let mut search = Search { basearch, seen: BTreeSet::new(), found: Vec::new(), others: Vec::new() };
        self.collect(&entries, 0, &mut search)?;
        let Search { mut found, others, .. } = search;
        match (found.pop(), found.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(_), false) => Err(self.ambiguous().into()),
            (None, _) => Err(Failure::new(
                Kind::Artifact,
                format!(
                    "{} has no image for {basearch} ({}), only for {}",
                    self.path.display(),
                    arch(basearch),
                    others.join(", ")
                ),
                "build the image for this architecture, or import it on a machine of the other",
            )
            .into()),
        }
    }

    fn collect(&self, entries: &[Descriptor], depth: usize, search: &mut Search<'_>) -> Result<()> {
        if depth > DEPTH {
            return Err(damaged(&self.path, &format!("indexes lead to indexes more than {DEPTH} deep")));
        }
        for entry in entries {
            // Indexes that name each other over and over would lead on for ever.
            if !search.seen.insert(entry.digest().to_string()) {
                continue;
            }
            match entry.media_type() {
                MediaType::ImageIndex => {
                    let index: ImageIndex = parse(&self.document(entry)?, &self.path, "an index")?;
                    self.collect(index.manifests(), depth + 1, search)?;
                }
                MediaType::ImageManifest => {
                    let image = self.read(entry)?;
                    if *image.config.architecture() == arch(search.basearch) {
                        search.found.push(image);
                    } else {
                        search.others.push(image.config.architecture().to_string());
                    }
                }
                MediaType::Other(docker) if docker.starts_with("application/vnd.docker.") => {
                    let cure = "copy it into OCI's form: skopeo copy --format oci";
                    let what = format!("{} holds an image in docker's form ({docker})", self.path.display());
                    return Err(Failure::new(Kind::Artifact, what, cure).into());
                }
                // Signatures, attestations: not images.
                other => search.others.push(other.to_string()),
            }
        }
        Ok(())
    }

    /// The image whose manifest `descriptor` describes.
    pub fn read(&self, descriptor: &Descriptor) -> Result<Image> {
        let manifest_bytes = self.document(descriptor)?;
        let manifest: ImageManifest = parse(&manifest_bytes, &self.path, "a manifest")?;
        let config = self.document(manifest.config())?;
        let config: ImageConfiguration = parse(&config, &self.path, "an image's configuration")?;
        let (layers, diff_ids) = (manifest.layers().len(), config.rootfs().diff_ids().len());
        if layers != diff_ids {
            let what = format!("an image has {layers} layers, but its configuration tells of {diff_ids}");
            return Err(damaged(&self.path, &what));
        }
        Ok(Image { digest: self.digest(descriptor)?, manifest_bytes, manifest, config })
    }

    /// A document, whole.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        if descriptor.size() > LARGEST_DOCUMENT {
            let what = format!("{} is a document of {} bytes", descriptor.digest(), descriptor.size());
            return Err(damaged(&self.path, &what));
        }
        let mut blob = self.blob(descriptor)?;
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).with_context(|| format!("reading {}", self.path.display()))?;
        blob.finish().map_err(|why| damaged(&self.path, &why))?;
        Ok(bytes)
    }

    pub(super) fn digest(&self, descriptor: &Descriptor) -> Result<Digest> {
        let text = descriptor.digest().to_string();
        let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.ok_or_else(|| damaged(&self.path, &format!("{text} is not a sha256 digest")))
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path, what: &str) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|error| damaged(path, &format!("{what} is not what OCI says: {error}")))
}

pub(super) fn damaged(path: &Path, what: &str) -> anyhow::Error {
    Failure::new(
        Kind::Artifact,
        format!("{} is damaged: {what}", path.display()),
        "make or fetch the image again; do not trust where it came from",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

    /// A layout under the hand of a test.
    struct Made {
        dir: tempfile::TempDir,
    }

    impl Made {
        fn new() -> Self {
            let made = Self { dir: tempfile::tempdir().unwrap() };
            std::fs::create_dir_all(made.path("blobs/sha256")).unwrap();
            std::fs::write(made.path("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
            made
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
            let digest = Digest::of(bytes);
            std::fs::write(self.path(&format!("blobs/sha256/{digest}")), bytes).unwrap();
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
        }

        fn image(&self, architecture: &str, layer: &[u8]) -> Value {
            let layer = self.blob(layer, "application/vnd.oci.image.layer.v1.tar");
            let rootfs = json!({"type": "layers", "diff_ids": [&layer["digest"]]});
            let config = json!({"architecture": architecture, "os": "linux", "rootfs": rootfs}).to_string();
            let config = self.blob(config.as_bytes(), "application/vnd.oci.image.config.v1+json");
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
            self.blob(manifest.as_bytes(), MANIFEST)
        }

        fn index(&self, manifests: &[&Value]) -> Value {
            let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
            self.blob(index.as_bytes(), INDEX)
        }

        /// Writes index.json and opens the layout.
        fn open(&self, manifests: &[&Value]) -> Layout {
            let index = json!({"schemaVersion": 2, "manifests": manifests});
            std::fs::write(self.path("index.json"), index.to_string()).unwrap();
            Layout::open(self.dir.path()).unwrap()
        }

        /// The failure of taking the image for x86_64.
        fn failure(&self, manifests: &[&Value]) -> String {
            let error = self.open(manifests).image(None, "x86_64").unwrap_err();
            let failure = crate::failure::classify(&error);
            assert_eq!(failure.kind, Kind::Artifact);
            failure.cause.replace(&self.dir.path().display().to_string(), "DIR")
        }
    }

    fn read(layout: &Layout, descriptor: &Descriptor) -> Result<Vec<u8>, String> {
        let mut blob = layout.blob(descriptor).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        blob.read_to_end(&mut bytes).unwrap();
        blob.finish().map(|()| bytes)
    }

    #[test]
    fn an_image_is_read_from_a_directory_and_from_an_archive() {
        let made = Made::new();
        let image = made.image("amd64", b"layer");
        let layout = made.open(&[&image]);
        let found = layout.image(None, "x86_64").unwrap();
        assert_eq!(image["digest"], format!("sha256:{}", found.digest));
        assert_eq!(read(&layout, &found.manifest.layers()[0]).unwrap(), b"layer");

        let archive = tempfile::NamedTempFile::new().unwrap();
        let mut tar = tar::Builder::new(archive.as_file());
        tar.append_dir_all(".", made.dir.path()).unwrap();
        tar.finish().unwrap();
        let layout = Layout::open(archive.path()).unwrap();
        assert_eq!(layout.image(None, "x86_64").unwrap().digest, found.digest);
        let mut rest = layout.blob_from(&found.manifest.layers()[0], 3).unwrap();
        let mut bytes = Vec::new();
        rest.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"er");
        rest.finish().unwrap();
    }

    #[test]
    fn what_is_no_layout_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "no archive").unwrap();
        for path in [dir.path(), &file] {
            let failure = crate::failure::classify(&Layout::open(path).unwrap_err());
            assert_eq!(failure.cause, format!("{} is not an OCI image layout", path.display()));
            assert_eq!(failure.kind, Kind::Artifact);
        }
    }

    #[test]
    fn a_size_or_a_digest_that_lies_is_told() {
        let made = Made::new();
        let mut image = made.image("amd64", b"layer");
        let digest = Digest::of(b"layer");
        let layout = made.open(&[&image]);
        let layer = layout.image(None, "x86_64").unwrap().manifest.layers()[0].clone();
        std::fs::write(made.path(&format!("blobs/sha256/{digest}")), b"other").unwrap();
        assert_eq!(
            read(&layout, &layer).unwrap_err(),
            format!("blob sha256:{digest} has the digest sha256:{}", Digest::of(b"other"))
        );
        std::fs::write(made.path(&format!("blobs/sha256/{digest}")), b"longer than said").unwrap();
        let error = read(&layout, &layer).unwrap_err();
        assert!(error.ends_with("has 16 bytes, but its descriptor says 5"), "{error}");
        std::fs::remove_file(made.path(&format!("blobs/sha256/{digest}"))).unwrap();
        assert!(read(&layout, &layer).unwrap_err().ends_with("is missing"));
        let size = image["size"].as_u64().unwrap();
        image["size"] = (size + 1).into();
        let told = format!("has {size} bytes, but its descriptor says {}", size + 1);
        assert!(made.failure(&[&image]).ends_with(&told));
        image["size"] = (LARGEST_DOCUMENT + 1).into();
        assert!(made.failure(&[&image]).ends_with("is a document of 8388609 bytes"));
    }

    #[test]
    fn a_link_leads_nowhere() {
        let made = Made::new();
        let image = made.image("amd64", b"layer");
        let digest = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let (blob, elsewhere) = (made.path(&format!("blobs/sha256/{digest}")), made.path("elsewhere"));
        std::fs::rename(&blob, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &blob).unwrap();
        let told = format!("DIR is damaged: blobs/sha256/{digest} is not a regular file");
        assert_eq!(made.failure(&[&image]), told);
    }

    #[test]
    fn an_index_leads_to_the_image_of_the_architecture() {
        let made = Made::new();
        let (amd64, arm64) = (made.image("amd64", b"a"), made.image("arm64", b"b"));
        let both = made.index(&[&amd64, &arm64]);
        let outer = made.index(&[&both]);
        let layout = made.open(&[&outer]);
        for (basearch, image) in [("x86_64", &amd64), ("aarch64", &arm64)] {
            let found = layout.image(None, basearch).unwrap();
            assert_eq!(image["digest"], format!("sha256:{}", found.digest));
        }
        assert_eq!(layout.entry(None).unwrap().digest().to_string(), outer["digest"]);
        let error = layout.image(None, "riscv64").unwrap_err().to_string();
        assert!(error.ends_with("has no image for riscv64 (riscv64), only for amd64, arm64"), "{error}");
        let mut deep = both;
        for _ in 0..DEPTH + 1 {
            deep = made.index(&[&deep]);
        }
        assert_eq!(made.failure(&[&deep]), "DIR is damaged: indexes lead to indexes more than 4 deep");
    }

    #[test]
    fn indexes_that_lead_everywhere_are_read_once() {
        let made = Made::new();
        let image = made.image("amd64", b"a");
        let mut index = made.index(&[&image]);
        // Read one by one, there are 10^12 ways to the image.
        for _ in 1..DEPTH {
            let many = vec![&index; 10_000];
            index = made.index(&many);
        }
        let found = made.open(&[&index]).image(None, "x86_64").unwrap();
        assert_eq!(image["digest"], format!("sha256:{}", found.digest));
    }

    #[test]
    fn of_two_images_one_is_named() {
        let made = Made::new();
        let (mut one, mut other) = (made.image("amd64", b"a"), made.image("amd64", b"b"));
        one["annotations"] = json!({REF_NAME: "one"});
        other["annotations"] = json!({REF_NAME: "other"});
        assert_eq!(made.failure(&[&one, &other]), "DIR holds more than one image");
        let layout = made.open(&[&one, &other]);
        assert!(layout.entry(None).is_err());
        assert_eq!(layout.entry(Some("other")).unwrap().digest().to_string(), other["digest"]);
        let found = layout.image(Some("one"), "x86_64").unwrap();
        assert_eq!(one["digest"], format!("sha256:{}", found.digest));
        let error = layout.image(Some("none"), "x86_64").unwrap_err().to_string();
        assert!(error.ends_with("it has no image called \"none\""), "{error}");
    }

    #[test]
    fn what_is_no_image_of_ocis_is_told() {
        let made = Made::new();
        let docker = "application/vnd.docker.distribution.manifest.v2+json";
        let image = made.blob(b"{}", docker);
        assert_eq!(made.failure(&[&image]), format!("DIR holds an image in docker's form ({docker})"));
        let other = made.blob(b"{}", "application/vnd.example");
        let told = "DIR has no image for x86_64 (amd64), only for application/vnd.example";
        assert_eq!(made.failure(&[&other]), told);
        let broken = made.blob(b"<html>", MANIFEST);
        assert!(made.failure(&[&broken]).starts_with("DIR is damaged: a manifest is not what OCI says: "));
        let mut sha512 = made.image("amd64", b"a");
        sha512["digest"] = format!("sha512:{}", "a".repeat(128)).into();
        assert!(made.failure(&[&sha512]).ends_with("is not a sha256 digest"));
    }
}
