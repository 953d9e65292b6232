//! An image as it is, in an archive of its own: every blob is compared with its digest on the way, and none
//! changes.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{
    Descriptor, DescriptorBuilder, Digest as OciDigest, ImageIndexBuilder, MediaType, PlatformBuilder,
};
use tar::EntryType;

use super::archive::LAYOUT;
use super::layout::{Image, Layout};
use super::tarball::{Entry, Tarball};
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::Progress;

/// An image that was kept in a directory: its archive and, beside it, its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImage {
    /// The archive.
    pub archive: PathBuf,
    /// The manifest.
    pub manifest: PathBuf,
}

impl KeptImage {
    /// Where they lie in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self { archive: dir.join("image.ociarchive"), manifest: dir.join("manifest.json") }
    }
}

impl Layout {
    /// Copies an image of this layout into `dir`, as an archive that holds nothing else.
    pub fn keep(&self, image: &Image, dir: &Path, progress: &Progress) -> Result<KeptImage> {
        let kept = KeptImage::in_dir(dir);
        let path = &kept.archive;
        let index = index(image)?;
        let write = || -> Result<()> {
            let mut tar = Tarball::new(BufWriter::with_capacity(1 << 20, fs::create(path)?));
            tar.append(&file("oci-layout"), LAYOUT)?;
            tar.append(&file("index.json"), &index)?;
            for dir in ["blobs", "blobs/sha256"] {
                tar.append(&Entry::plain(EntryType::Directory, dir, 0o755), &[])?;
            }
            for (digest, blob) in blobs(image) {
                let path = format!("blobs/{}", digest.replacen(':', "/", 1));
                let Some(descriptor) = blob else {
                    tar.append(&file(&path), &image.manifest_bytes)?;
                    continue;
                };
                let mut blob = self.blob(descriptor)?;
                tar.begin(&Entry { size: descriptor.size(), ..file(&path) })?;
                let mut buffer = vec![0; 1 << 18];
                loop {
                    match io::Read::read(&mut blob, &mut buffer)? {
                        0 => break,
                        count => {
                            tar.write_all(&buffer[..count])?;
                            progress.add(count as u64);
                        }
                    }
                }
                blob.finish().map_err(|what| damaged(&what))?;
                tar.pad(descriptor.size())?;
            }
            Ok(tar.finish()?.flush()?)
        };
        write().with_context(|| format!("writing {}", path.display()))?;
        fs::write(&kept.manifest, &image.manifest_bytes)?;
        Ok(kept)
    }
}

/// A file of the archive.
const fn file(path: &str) -> Entry<'_> {
    Entry::plain(EntryType::Regular, path, 0o644)
}

/// The blobs of an image by their digests; the manifest is the one without a descriptor.
fn blobs(image: &Image) -> BTreeMap<String, Option<&Descriptor>> {
    let mut blobs: BTreeMap<String, Option<&Descriptor>> = image
        .manifest
        .layers()
        .iter()
        .chain([image.manifest.config()])
        .map(|descriptor| (descriptor.digest().to_string(), Some(descriptor)))
        .collect();
    blobs.insert(format!("sha256:{}", image.digest), None);
    blobs
}

/// The bytes of an index that leads to the image alone.
fn index(image: &Image) -> Result<Vec<u8>> {
    let digest: OciDigest = format!("sha256:{}", image.digest).parse()?;
    let platform = PlatformBuilder::default()
        .architecture(image.config.architecture().clone())
        .os(image.config.os().clone())
        .build()?;
    let entry = DescriptorBuilder::default()
        .media_type(MediaType::ImageManifest)
        .digest(digest)
        .size(image.manifest_bytes.len() as u64)
        .platform(platform)
        .build()?;
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(vec![entry])
        .build()?;
    serde_json::to_vec(&index).context("encoding an image's index")
}

fn damaged(what: &str) -> Failure {
    let cure = "make or fetch the image again; do not trust where it came from";
    Failure::new(Kind::Artifact, format!("the image is damaged: {what}"), cure)
}
