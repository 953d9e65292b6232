//! Changing builds.json and the meta.json files: read, change and write as one step, whoever else does so.
//!
//! nosa's own writers wait for each other at `tmp/record.lock`; against coreos-assembler each file's own
//! lock is held as well (`.builds.json.lock`, `.meta.json.lock` beside it).

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::index::Index;
use super::json;
use super::workdir::Workdir;
use crate::failure::{Failure, Kind};
use crate::host::{FileLock, LinkLock, fs};

/// Below `tmp/`. Never removed: who waits for it waits for this very file.
pub(super) const LOCK: &str = "record.lock";

/// How long another program's lock is waited for; it is held while one small file is written.
const PATIENCE: Duration = Duration::from_secs(60);

/// The right to change one file of the record.
pub(super) struct RecordLock {
    // In this order: the inner lock is given back first.
    _link: LinkLock,
    _file: FileLock,
}

impl Workdir {
    /// Waits until no other process changes `file` (or any other file of the record).
    pub(super) fn record(&self, file: &Path) -> Result<RecordLock> {
        let outer = FileLock::exclusive(&self.tmp_dir().join(LOCK), "nosa")?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let path = file.with_file_name(format!(".{name}.lock"));
        match LinkLock::exclusive(&path, PATIENCE)? {
            Ok(link) => Ok(RecordLock { _link: link, _file: outer }),
            Err(held) => Err(Failure::new(
                Kind::Busy,
                format!("{} is locked by {}", file.display(), held.holder),
                format!("wait for that program; if it is dead, remove {}", path.display()),
            )
            .into()),
        }
    }

    /// Removes what a process that died left of a file's lock.
    pub(super) fn settle_lock(&self, file: &Path) -> Result<()> {
        let lock = format!(".{}.lock", file.file_name().unwrap_or_default().to_string_lossy());
        let named =
            |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&lock));
        if fs::read_dir_sorted(file.parent().unwrap_or(file))?.iter().any(named) {
            // Taking it, and giving it back, is what removes that.
            drop(self.record(file)?);
        }
        Ok(())
    }

    /// Changes builds.json; `now` is in seconds since 1970. Nothing is written when `change` fails.
    pub fn edit_index<T>(&self, now: u64, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let path = self.index_path();
        let _record = self.record(&path)?;
        let mut index = self.index()?;
        let before = index.clone();
        let result = change(&mut index)?;
        if index != before {
            index.touch(now);
            json::write(&path, &index.to_json())?;
            self.link_latest(&index)?;
        }
        Ok(result)
    }

    /// Where builds.json lies.
    #[must_use]
    pub fn index_path(&self) -> PathBuf {
        self.builds_dir().join("builds.json")
    }
}
