//! What every command is given.

use std::path::PathBuf;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::host::environment;
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
    /// The pipeline over the workdir's cache.
    pub fn pipeline(&self) -> Result<Pipeline> {
        let cache = Cache::open(&self.workdir.join("cache"))?;
        Pipeline::new(cache, &self.workdir.join("tmp"), self.report.clone())
    }

    /// The directory for downloads, shared by all workdirs: `NOSA_CACHE`, else the user's cache directory.
    pub fn downloads(&self) -> Result<PathBuf> {
        let dir = environment::var_os("NOSA_CACHE")
            .map(PathBuf::from)
            .or_else(|| environment::user_cache_dir().map(|dir| dir.join("nosa")))
            .ok_or_else(|| {
                Failure::new(
                    Kind::Usage,
                    "there is no place for downloads: neither HOME nor NOSA_CACHE is set",
                    "set NOSA_CACHE=DIR",
                )
            })?;
        crate::host::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}
