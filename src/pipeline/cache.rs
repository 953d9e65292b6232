//! The content-addressed store of stage outputs. An entry exists whole or not at all: a stage works
//! in `tmp/`, its record is written last, and one rename publishes both.
//!
//! Flushing gigabytes of a tree to disk takes longer than making them, so nobody waits for it: an entry
//! bears the id of the boot it was written in until its file system has been flushed, which the next run
//! does in the background. After a power cut, an entry of another boot that was never flushed is void.

use std::collections::{BTreeMap, BTreeSet};
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

/// In an entry that may not be on disk yet: the boot that wrote it (`/proc/sys/kernel/random/boot_id`).
const UNFLUSHED: &str = "unflushed";

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
        fs::write(&dir.join(UNFLUSHED), boot_id())?;
        fs::write(&dir.join("record.json"), text)?;
        let entry = self.entry(&record.stage, record.key);
        fs::create_dir_all(entry.parent().unwrap_or(&self.dir))?;
        discard(&entry)?;
        fs::rename(dir, &entry)?;
        Ok(entry.join("out"))
    }

    /// Removes what a crash of the machine may have damaged, and has the rest flushed in the background.
    pub fn settle(&self) -> Result<()> {
        let boot = boot_id();
        let mut waiting = Vec::new();
        for stage in fs::read_dir_sorted(&self.dir.join("stages"))? {
            for entry in fs::read_dir_sorted(&stage)? {
                let marker = entry.join(UNFLUSHED);
                match fs::read_optional(&marker)? {
                    None => {}
                    Some(written) if written == boot => waiting.push(marker),
                    Some(_) => discard(&entry)?,
                }
            }
        }
        if !waiting.is_empty() {
            let dir = self.dir.clone();
            // Nobody waits for this thread: if the process ends first, the next one tries again.
            std::thread::spawn(move || {
                if fs::sync_file_system(&dir).is_ok() {
                    waiting.iter().for_each(|marker| drop(fs::remove_file_if_exists(marker)));
                }
            });
        }
        Ok(())
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

    /// Removes outputs but those of the keys `keep`; returns how many, and the space that this gives back.
    pub fn retain(&self, keep: &[(String, Digest)], dry_run: bool) -> Result<(u64, u64)> {
        let keep: BTreeSet<PathBuf> = keep.iter().map(|(stage, key)| self.entry(stage, *key)).collect();
        let (mut count, mut bytes) = (0, 0);
        for stage in fs::read_dir_sorted(&self.dir.join("stages"))? {
            for entry in fs::read_dir_sorted(&stage)?.iter().filter(|entry| !keep.contains(*entry)) {
                count += 1;
                bytes += fs::space_of(entry)?;
                if !dry_run {
                    discard(entry)?;
                }
            }
        }
        Ok((count, bytes))
    }

    /// The outputs of `stage` that are there for the keys `keys`.
    #[must_use]
    pub fn outputs(&self, keys: &[(String, Digest)], stage: &str) -> Vec<PathBuf> {
        keys.iter()
            .filter(|(name, _)| name == stage)
            .filter_map(|(name, key)| self.lookup(name, *key))
            .collect()
    }

    /// Removes every output.
    pub fn clear(&self) -> Result<()> {
        for stage in fs::read_dir_sorted(&self.dir.join("stages"))? {
            fs::read_dir_sorted(&stage)?.iter().try_for_each(|entry| discard(entry))?;
        }
        Ok(())
    }

    fn entry(&self, stage: &str, key: Digest) -> PathBuf {
        self.dir.join("stages").join(stage).join(key.to_string())
    }
}

/// Removes an entry: its record first, so that what an interruption leaves is no entry.
fn discard(entry: &Path) -> Result<()> {
    fs::remove_file_if_exists(&entry.join("record.json"))?;
    fs::remove_tree(entry)
}

/// Identifies this boot of the machine; empty where the kernel does not tell.
fn boot_id() -> String {
    fs::read_to_string(Path::new("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(cache: &Cache, text: &str) -> Record {
        let record = Record { stage: "s".into(), key: Digest::of(text), inputs: BTreeMap::new() };
        let dir = cache.begin("s").unwrap();
        fs::write(&dir.join("out/file"), text).unwrap();
        cache.commit(&dir, &record).unwrap();
        record
    }

    #[test]
    fn an_entry_of_an_earlier_boot_that_was_never_flushed_is_void() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let (kept, lost) = (entry(&cache, "kept"), entry(&cache, "lost"));
        fs::write(&cache.entry("s", lost.key).join(UNFLUSHED), "another boot").unwrap();
        cache.settle().unwrap();
        assert!(cache.lookup("s", kept.key).is_some());
        assert!(cache.lookup("s", lost.key).is_none());
    }

    #[test]
    fn a_dead_processs_working_directory_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        // No process has an id beyond the kernel's largest.
        std::fs::create_dir(dir.path().join("tmp/s.99999999")).unwrap();
        std::fs::create_dir(dir.path().join(format!("tmp/s.{}", std::os::unix::process::parent_id())))
            .unwrap();
        cache.sweep().unwrap();
        let left = fs::read_dir_sorted(&dir.path().join("tmp")).unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
