//! What repositories offer, remembered between one asking and the next.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::host::fs;
use crate::pipeline::Digest;

const FILE: &str = "snapshot.json";

/// What the repositories offered when they were last asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Identifies it: a digest over the repositories' signed indexes.
    pub digest: Digest,
    /// The newest date that a repository's signed index bears, in seconds since the epoch.
    pub date: u64,
}

impl Snapshot {
    /// What was remembered in a backend's state, if anything was.
    pub(super) fn remembered(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(FILE);
        let Some(text) = fs::read_optional(&path)? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).with_context(|| format!("reading {}", path.display()))
    }

    /// Remembers it in a backend's state.
    pub(super) fn remember(&self, dir: &Path) -> Result<()> {
        let text = serde_json::to_string(self).context("encoding a snapshot of repositories")?;
        fs::write_atomic(&dir.join(FILE), text, 0o644)
    }

    /// Forgets what was remembered: until the repositories have all answered, nothing is known.
    pub(super) fn forget(dir: &Path) -> Result<()> {
        fs::remove_file_if_exists(&dir.join(FILE))
    }
}
