//! The image layout and its archive (`oci-archive`): blobs named by their digest, and an index.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tar::EntryType;

use super::tarball::{Entry, Tarball};
use crate::host::fs;
use crate::pipeline::Digest;

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A blob of the layout: its digest and where its bytes are.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) digest: Digest,
    pub(super) bytes: BlobBytes,
}

/// A blob's bytes.
#[derive(Debug)]
pub(super) enum BlobBytes {
    /// A document.
    Held(Vec<u8>),
    /// A layer.
    File(PathBuf, u64),
}

/// Writes the archive in one stream: the index first, then the blobs by digest, each once.
pub(super) fn write(target: &Path, index: &[u8], mut blobs: Vec<Blob>) -> Result<u64> {
    blobs.sort_by_key(|blob| blob.digest);
    blobs.dedup_by_key(|blob| blob.digest);
    let write = || -> Result<()> {
        let mut tar = Tarball::new(BufWriter::with_capacity(1 << 20, fs::create(target)?));
        tar.append(&Entry::plain(EntryType::Regular, "oci-layout", 0o644), LAYOUT)?;
        tar.append(&Entry::plain(EntryType::Regular, "index.json", 0o644), index)?;
        tar.append(&Entry::plain(EntryType::Directory, "blobs", 0o755), &[])?;
        tar.append(&Entry::plain(EntryType::Directory, "blobs/sha256", 0o755), &[])?;
        for blob in &blobs {
            let path = format!("blobs/sha256/{}", blob.digest);
            let entry = Entry::plain(EntryType::Regular, &path, 0o644);
            match &blob.bytes {
                BlobBytes::Held(bytes) => tar.append(&entry, bytes)?,
                BlobBytes::File(file, size) => {
                    tar.begin(&Entry { size: *size, ..entry })?;
                    io::copy(&mut fs::open(file)?, &mut tar)?;
                    tar.pad(*size)?;
                }
            }
        }
        Ok(tar.finish()?.flush()?)
    };
    write().with_context(|| format!("writing {}", target.display()))?;
    Ok(target.metadata().with_context(|| format!("reading the size of {}", target.display()))?.len())
}
