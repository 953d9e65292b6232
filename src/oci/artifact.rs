//! An image as a stage's output: the archive and a small file that describes it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::export::Exported;
use crate::host::fs;
use crate::pipeline::{Artifact, Digest};

const RECORD: &str = "image.json";
const ARCHIVE: &str = "image.ociarchive";
const MANIFEST: &str = "manifest.json";

/// An image in an `oci-archive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OciArchive {
    /// Where the archive lies.
    #[serde(skip)]
    pub path: PathBuf,
    /// Where the manifest's bytes lie.
    #[serde(skip)]
    pub manifest_path: PathBuf,
    /// The manifest's digest: the image's identity.
    pub manifest: Digest,
    /// The archive's size.
    pub size: u64,
    /// The digests of the layers before compression, in order.
    pub diff_ids: Vec<Digest>,
}

impl OciArchive {
    /// Where a stage writes the archive in its `out`.
    #[must_use]
    pub fn archive_path(out: &Path) -> PathBuf {
        out.join(ARCHIVE)
    }

    /// Records an image that was written to [`Self::archive_path`].
    pub fn record(out: &Path, exported: &Exported) -> Result<Self> {
        let artifact = Self {
            path: out.join(ARCHIVE),
            manifest_path: out.join(MANIFEST),
            manifest: exported.manifest,
            size: exported.size,
            diff_ids: exported.diff_ids.clone(),
        };
        fs::write(&artifact.manifest_path, &exported.manifest_bytes)?;
        let text = serde_json::to_string_pretty(&artifact).context("encoding an image's record")?;
        fs::write(&out.join(RECORD), text)?;
        Ok(artifact)
    }
}

impl Artifact for OciArchive {
    fn load(out: &Path) -> Result<Self> {
        let path = out.join(RECORD);
        let artifact: Self = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { path: out.join(ARCHIVE), manifest_path: out.join(MANIFEST), ..artifact })
    }

    fn digest(&self) -> Digest {
        self.manifest
    }
}
