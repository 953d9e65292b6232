//! What every command is given.

use std::path::PathBuf;

use anyhow::Result;

use crate::builds::{BuildLock, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::{clock, environment};
use crate::pipeline::{Cache, Pipeline, Reporter};

/// Where a command works and whom it tells.
pub struct Context {
    /// The working directory.
    pub workdir: PathBuf,
    /// Where to tell of progress.
    pub report: Reporter,
    /// Whether results are JSON.
    pub json: bool,
}

impl Context {
    /// The working directory.
    pub fn open(&self) -> Result<Workdir> {
        Workdir::open(&self.workdir)
    }

    /// The working directory, locked for the command `name`, and the pipeline over its cache.
    pub fn lock(&self, name: &str) -> Result<(Workdir, BuildLock, Pipeline)> {
        let workdir = self.open()?;
        let lock = workdir.lock(&format!("nosa {name}"))?;
        let cache = Cache::open(&workdir.cache_dir())?;
        let pipeline = Pipeline::new(cache, &workdir.tmp_dir(), self.report.clone())?.named(name);
        Ok((workdir, lock, pipeline))
    }

    /// Now, in nanoseconds since 1970.
    #[must_use]
    pub fn now_nanos(&self) -> u64 {
        u64::try_from(clock::now_nanos()).unwrap_or(u64::MAX)
    }

    /// The directory for downloads, shared by all workdirs: `NOSA_CACHE`, else the user's cache directory.
    pub fn downloads(&self) -> Result<PathBuf> {
        let dir = environment::var_os("NOSA_CACHE")
            .map(PathBuf::from)
            .or_else(|| environment::user_cache_dir().map(|dir| dir.join("nosa")))
            .ok_or_else(|| {
                let cause = "there is no place for downloads: neither HOME nor NOSA_CACHE is set";
                Failure::new(Kind::Usage, cause, "set NOSA_CACHE=DIR")
            })?;
        crate::host::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}
