//! The bytes of a layout: files of a directory, or members of an archive at their offsets; and blobs, which are
//! compared with what their descriptor says while they are read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Take};
use std::path::Path;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::{Layout, damaged};
use crate::host::fs;
use crate::pipeline::{Digest, Hashing};

/// A blob that is read. [`Self::finish`] says whether it was what its descriptor says.
pub struct Blob {
    inner: Hashing<Take<BufReader<File>>>,
    digest: Digest,
    size: u64,
}

impl Layout {
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

    /// A file of the layout, whole, if it is there.
    pub(super) fn member(&self, name: &str, largest: u64) -> Result<Option<Vec<u8>>> {
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

    /// A file of the layout, open where its bytes begin, and its size.
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
pub(super) fn members(path: &Path) -> Result<BTreeMap<String, (u64, u64)>> {
    let mut archive = tar::Archive::new(fs::open(path)?);
    let mut members = BTreeMap::new();
    let none = |_| Layout::none(path);
    for entry in archive.entries_with_seek().map_err(none)? {
        let entry = entry.map_err(none)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).to_owned();
        members.insert(name, (entry.raw_file_position(), entry.size()));
    }
    Ok(members)
}
