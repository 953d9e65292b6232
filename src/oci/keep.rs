//! An image as it is, in an archive of its own: every blob is compared with its digest on the way, and none
//! changes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::archive::{self, Blob, BlobBytes};
use super::image;
use super::layout::{Image, Layout};
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
        let (architecture, os) = (image.config.architecture().clone(), image.config.os().clone());
        let entry = image::entry(image.digest, image.manifest_bytes.len() as u64, architecture, os)?;
        let manifest = BlobBytes::Held(image.manifest_bytes.clone());
        let mut blobs = vec![Blob { digest: image.digest, bytes: manifest }];
        for descriptor in image.manifest.layers().iter().chain([image.manifest.config()]) {
            let bytes = BlobBytes::Unchecked(self, descriptor);
            blobs.push(Blob { digest: self.digest(descriptor)?, bytes });
        }
        archive::write(&kept.archive, &image::index(entry, None)?, blobs, Some(progress))?;
        fs::write(&kept.manifest, &image.manifest_bytes)?;
        Ok(kept)
    }
}
