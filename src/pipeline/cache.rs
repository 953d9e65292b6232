//! The content-addressed store of stage outputs. An entry exists whole or not at all: a stage works
//! in `tmp/`, its record is written last, and one rename publishes both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::key::Digest;
use crate::host::fs;

/// What a stored output was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The stage's name.
    pub stage: String,
    /// The cache key.
    pub key: Digest,
    /// The inputs by name.
    pub inputs: BTreeMap<String, String>,
}

/// The store.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

impl Cache {
    /// Opens (and creates) the store at `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        for sub in ["stages", "tmp"] {
            fs::create_dir_all(&dir.join(sub))?;
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// A directory for something that all stages and workdirs share: downloads, the object repository.
    pub fn shared(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Where a stage's output for `key` lies, if it is there.
    #[must_use]
    pub fn lookup(&self, stage: &str, key: Digest) -> Option<PathBuf> {
        let entry = self.entry(stage, key);
        entry.join("record.json").is_file().then(|| entry.join("out"))
    }

    /// Makes an empty working directory for a stage.
    pub(super) fn begin(&self, stage: &str) -> Result<PathBuf> {
        let dir = self.dir.join("tmp").join(format!("{stage}.{}", std::process::id()));
        fs::remove_tree(&dir)?;
        fs::create_dir_all(&dir.join("out"))?;
        fs::create_dir_all(&dir.join("tmp"))?;
        Ok(dir)
    }

    /// Publishes a working directory under its key and returns the output's place.
    pub(super) fn commit(&self, dir: &Path, record: &Record) -> Result<PathBuf> {
        fs::remove_tree(&dir.join("tmp"))?;
        let text = serde_json::to_string_pretty(record).context("encoding a cache record")?;
        fs::write_atomic(&dir.join("record.json"), text, 0o644)?;
        let entry = self.entry(&record.stage, record.key);
        fs::create_dir_all(entry.parent().unwrap_or(&self.dir))?;
        fs::sync_file_system(dir)?;
        fs::remove_tree(&entry)?;
        fs::rename(dir, &entry)?;
        Ok(entry.join("out"))
    }

    /// Removes working directories of processes that no longer live.
    pub fn sweep(&self) -> Result<()> {
        for dir in fs::read_dir_sorted(&self.dir.join("tmp"))? {
            let alive = dir.extension().and_then(|pid| pid.to_str()).is_some_and(|pid| {
                Path::new("/proc").join(pid).exists() && pid != std::process::id().to_string()
            });
            if !alive {
                fs::remove_tree(&dir)?;
            }
        }
        Ok(())
    }

    /// Removes all outputs of `stage` but the one of `key`: old trees are large and not asked for again.
    pub fn keep_only(&self, stage: &str, key: Digest) -> Result<()> {
        let dir = self.dir.join("stages").join(stage);
        if dir.is_dir() {
            for entry in fs::read_dir_sorted(&dir)? {
                if entry != self.entry(stage, key) {
                    fs::remove_tree(&entry)?;
                }
            }
        }
        Ok(())
    }

    fn entry(&self, stage: &str, key: Digest) -> PathBuf {
        self.dir.join("stages").join(stage).join(key.to_string())
    }
}
