//! An image as a stage's output: the archive and a small file that describes it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::export::Exported;
use super::plan::PlanRecord;
use crate::host::fs;
use crate::pipeline::{Artifact, Digest};

const RECORD: &str = "image.json";
const ARCHIVE: &str = "image.ociarchive";
const MANIFEST: &str = "manifest.json";
const PLAN: &str = "oci-plan.json";

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
    /// Where the record of what it is made of lies.
    #[serde(skip)]
    pub plan_path: PathBuf,
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

    /// What it is made of.
    pub fn plan(&self) -> Result<PlanRecord> {
        PlanRecord::read(&self.plan_path)?
            .with_context(|| format!("{} is gone from the cache", self.plan_path.display()))
    }

    /// Records an image that was written to [`Self::archive_path`].
    pub fn record(out: &Path, exported: &Exported) -> Result<Self> {
        let artifact = Self {
            path: out.join(ARCHIVE),
            manifest_path: out.join(MANIFEST),
            plan_path: out.join(PLAN),
            manifest: exported.manifest,
            size: exported.size,
            diff_ids: exported.diff_ids.clone(),
        };
        fs::write(&artifact.manifest_path, &exported.manifest_bytes)?;
        fs::write(&artifact.plan_path, exported.plan.to_text()?)?;
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
        let (archive, manifest, plan) = (out.join(ARCHIVE), out.join(MANIFEST), out.join(PLAN));
        Ok(Self { path: archive, manifest_path: manifest, plan_path: plan, ..artifact })
    }

    fn digest(&self) -> Digest {
        self.manifest
    }
}
