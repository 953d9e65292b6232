//! Writing an image layout from blobs that come one by one: put together beside its place, then renamed there,
//! as a directory or as a tar archive of one.
//!
//! ```text
//! DIR/.NAME.part/               until it is whole
//! DIR/NAME                      then
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;

use super::archive::{self, Blob, BlobBytes, LAYOUT};
use super::image;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::Digest;

/// A layout that nobody sees yet. Dropping it removes it.
#[derive(Debug)]
pub struct NewLayout {
    target: PathBuf,
    dir: tempfile::TempDir,
}

impl NewLayout {
    /// Begins a layout for `target`, where nothing may be yet but an empty directory.
    pub fn beside(target: &Path) -> Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let parent = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let is_free = match target.symlink_metadata() {
            Err(_) => true,
            Ok(metadata) => metadata.is_dir() && fs::read_dir_sorted(target)?.is_empty(),
        };
        if !is_free {
            let cause = format!("{} is there already", target.display());
            return Err(Failure::new(Kind::Usage, cause, "name a place that is free, or remove it").into());
        }
        let dir = tempfile::Builder::new()
            .prefix(&format!(".{name}.part"))
            .tempdir_in(parent)
            .with_context(|| format!("creating a directory in {}", parent.display()))?;
        fs::create_dir_all(&dir.path().join("blobs/sha256"))?;
        Ok(Self { target: target.to_owned(), dir })
    }

    /// Where a blob's bytes go. What is written there must have that digest.
    #[must_use]
    pub fn blob(&self, digest: Digest) -> PathBuf {
        self.dir.path().join(format!("blobs/sha256/{digest}"))
    }

    /// Ends it as a directory, with one image (or index) that may have a name.
    pub fn into_directory(self, root: Descriptor, name: Option<&str>) -> Result<()> {
        fs::write(&self.dir.path().join("index.json"), image::index(root, name)?)?;
        fs::write(&self.dir.path().join("oci-layout"), LAYOUT)?;
        std::fs::set_permissions(self.dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .with_context(|| format!("opening {}", self.dir.path().display()))?;
        fs::rename(self.dir.path(), &self.target)?;
        // There is nothing left to remove.
        drop(self.dir.keep());
        Ok(())
    }

    /// As [`Self::into_directory`], as an archive.
    pub fn into_archive(self, root: Descriptor, name: Option<&str>) -> Result<()> {
        let mut blobs = Vec::new();
        for path in fs::read_dir_sorted(&self.dir.path().join("blobs/sha256"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let size = path.metadata().with_context(|| format!("reading {}", path.display()))?.len();
            let digest = name.parse().with_context(|| format!("reading the name of {}", path.display()))?;
            blobs.push(Blob { digest, bytes: BlobBytes::File(path, size) });
        }
        let archive = self.dir.path().join("archive");
        archive::write(&archive, &image::index(root, name)?, blobs, None)?;
        fs::rename(&archive, &self.target)
    }
}
