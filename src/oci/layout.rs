//! Reading an image layout, as a directory or a tar archive of one (image-spec's image-layout.md). Nothing in
//! it is believed: documents have a largest size, and what a descriptor says of a blob is compared with it.
//!
//! An archive is read in place: its headers are walked once, and blobs are read at their offsets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Take};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::de::DeserializeOwned;

use super::image::{REF_NAME, arch};
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::{Digest, Hashing};

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

/// A blob that is read. [`Self::finish`] says whether it was what its descriptor says.
pub struct Blob {
    inner: Hashing<Take<BufReader<File>>>,
    digest: Digest,
    size: u64,
}

impl Layout {
    /// Opens a directory or an archive.
    pub fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Err(Self::none(path).into());
        }
        let members = if path.is_dir() { None } else { Some(members(path)?) };
        let this = Self { path: path.to_owned(), members };
        let marker = this.member("oci-layout", LARGEST_DOCUMENT)?.with_context(|| Self::none(path))?;
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
        let mut found = BTreeMap::new();
        let mut others = Vec::new();
        self.collect(&entries, basearch, 0, &mut found, &mut others)?;
        let ambiguous = found.len() > 1;
        match found.into_iter().next() {
            Some(_) if ambiguous => Err(self.ambiguous().into()),
            Some((_, image)) => Ok(image),
            None => Err(Failure::new(
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

    fn collect(
        &self,
        entries: &[Descriptor],
        basearch: &str,
        depth: usize,
        found: &mut BTreeMap<Digest, Image>,
        others: &mut Vec<String>,
    ) -> Result<()> {
        if depth > DEPTH {
            return Err(damaged(&self.path, &format!("indexes lead to indexes more than {DEPTH} deep")));
        }
        for entry in entries {
            match entry.media_type() {
                MediaType::ImageIndex => {
                    let index: ImageIndex = parse(&self.document(entry)?, &self.path, "an index")?;
                    self.collect(index.manifests(), basearch, depth + 1, found, others)?;
                }
                MediaType::ImageManifest => {
                    let image = self.read(entry)?;
                    if *image.config.architecture() == arch(basearch) {
                        found.insert(image.digest, image);
                    } else {
                        others.push(image.config.architecture().to_string());
                    }
                }
                MediaType::Other(docker) if docker.starts_with("application/vnd.docker.") => {
                    let cure = "copy it into OCI's form: skopeo copy --format oci";
                    let what = format!("{} holds an image in docker's form ({docker})", self.path.display());
                    return Err(Failure::new(Kind::Artifact, what, cure).into());
                }
                // Signatures, attestations: not images.
                other => others.push(other.to_string()),
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

    /// A blob as a stream; it ends at the size that the descriptor says.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Blob> {
        let digest = self.digest(descriptor)?;
        let (file, size) = self
            .find(&format!("blobs/sha256/{digest}"))?
            .ok_or_else(|| damaged(&self.path, &format!("blob sha256:{digest} is missing")))?;
        if size != descriptor.size() {
            let said = descriptor.size();
            let what = format!("blob sha256:{digest} has {size} bytes, but its descriptor says {said}");
            return Err(damaged(&self.path, &what));
        }
        Ok(Blob { inner: Hashing::new(BufReader::with_capacity(1 << 18, file).take(size)), digest, size })
    }

    /// As [`Self::blob`], without its first `offset` bytes; they still count for its digest.
    pub fn blob_from(&self, descriptor: &Descriptor, offset: u64) -> Result<Blob> {
        let mut blob = self.blob(descriptor)?;
        io::copy(&mut blob.by_ref().take(offset), &mut io::sink())
            .with_context(|| format!("reading {}", self.path.display()))?;
        Ok(blob)
    }

    fn digest(&self, descriptor: &Descriptor) -> Result<Digest> {
        let text = descriptor.digest().to_string();
        let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        digest.ok_or_else(|| damaged(&self.path, &format!("{text} is not a sha256 digest")))
    }

    fn member(&self, name: &str, largest: u64) -> Result<Option<Vec<u8>>> {
        let Some((file, size)) = self.find(name)? else { return Ok(None) };
        if size > largest {
            return Err(damaged(&self.path, &format!("{name} has {size} bytes")));
        }
        let mut bytes = Vec::new();
        file.take(size)
            .read_to_end(&mut bytes)
            .with_context(|| format!("reading {}", self.path.display()))?;
        Ok(Some(bytes))
    }

    fn find(&self, name: &str) -> Result<Option<(File, u64)>> {
        let Some(members) = &self.members else {
            // A blob is a file of the layout's own: a link may lead to any file of the host.
            let path = self.path.join(name);
            let Ok(metadata) = path.symlink_metadata() else { return Ok(None) };
            if !metadata.is_file() {
                return Err(damaged(&self.path, &format!("{name} is not a regular file")));
            }
            return Ok(Some((fs::open(&path)?, metadata.len())));
        };
        let Some((offset, size)) = members.get(name) else { return Ok(None) };
        let mut file = fs::open(&self.path)?;
        file.seek(SeekFrom::Start(*offset)).with_context(|| format!("reading {}", self.path.display()))?;
        Ok(Some((file, *size)))
    }
}

impl Blob {
    /// What its descriptor says that its digest is.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Reads what is left and compares size and digest with what the descriptor says; the error is one phrase.
    pub fn finish(mut self) -> Result<(), String> {
        io::copy(&mut self.inner, &mut io::sink()).map_err(|error| error.to_string())?;
        let (digest, size, _) = self.inner.finish();
        if size != self.size {
            return Err(format!("blob sha256:{} ends after {size} of {} bytes", self.digest, self.size));
        }
        if digest != self.digest {
            return Err(format!("blob sha256:{} has the digest sha256:{digest}", self.digest));
        }
        Ok(())
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer)
    }
}

/// Where the regular files of an archive lie; the last of two with one name counts, as for tar.
fn members(path: &Path) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut archive = tar::Archive::new(fs::open(path)?);
    let mut members = BTreeMap::new();
    let read = || Layout::none(path);
    for entry in archive.entries_with_seek().with_context(read)? {
        let entry = entry.with_context(read)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        members.insert(name, (entry.raw_file_position(), entry.size()));
    }
    Ok(members)
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
