//! The image layout and its archive (`oci-archive`): blobs named by their digest, and an index.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use tar::EntryType;

use super::layout::{Layout, damaged};
use super::tarball::{Entry, Tarball};
use crate::host::fs;
use crate::pipeline::{Digest, Progress};

pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A blob of the layout: its digest and where its bytes are.
#[derive(Debug)]
pub(super) struct Blob<'a> {
    pub(super) digest: Digest,
    pub(super) bytes: BlobBytes<'a>,
}

/// A blob's bytes.
#[derive(Debug)]
pub(super) enum BlobBytes<'a> {
    /// A document.
    Held(Vec<u8>),
    /// A layer.
    File(PathBuf, u64),
    /// A blob of a layout that nobody has checked yet: it is compared with its descriptor on the way.
    Unchecked(&'a Layout, &'a Descriptor),
}

/// Writes the archive in one stream: the index first, then the blobs by digest, each once.
pub(super) fn write(
    target: &Path,
    index: &[u8],
    mut blobs: Vec<Blob<'_>>,
    progress: Option<&Progress>,
) -> Result<u64> {
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
                    copy(&mut fs::open(file)?, &mut tar, progress)?;
                    tar.pad(*size)?;
                }
                BlobBytes::Unchecked(layout, descriptor) => {
                    let mut bytes = layout.blob(descriptor)?;
                    tar.begin(&Entry { size: descriptor.size(), ..entry })?;
                    copy(&mut bytes, &mut tar, progress)?;
                    bytes.finish().map_err(|what| damaged(layout.path(), &what))?;
                    tar.pad(descriptor.size())?;
                }
            }
        }
        Ok(tar.finish()?.flush()?)
    };
    write().with_context(|| format!("writing {}", target.display()))?;
    Ok(target.metadata().with_context(|| format!("reading the size of {}", target.display()))?.len())
}

fn copy(from: &mut impl Read, to: &mut impl Write, progress: Option<&Progress>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = from.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count])?;
        if let Some(progress) = progress {
            progress.add(count as u64);
        }
    }
}
