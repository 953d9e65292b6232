//! A directory as a place of builds: another disk, a share, another workdir's `builds`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::remote::Remote;
use crate::failure::{Failure, Kind};
use crate::host::{LinkLock, fs};
use crate::pipeline::{Reporter, Unit, sha256_file};

/// How long another uploader is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Directory {
    dir: PathBuf,
}

impl Directory {
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }
}

impl Remote for Directory {
    fn address(&self) -> String {
        self.dir.display().to_string()
    }

    fn check_target(&self) -> Result<()> {
        if self.dir.is_dir() {
            return Ok(());
        }
        let cause = format!("there is no directory {}", self.dir.display());
        Err(Failure::new(Kind::Usage, cause, "create it, or correct the path").into())
    }

    fn get(&self, path: &str, target: &Path, size: Option<u64>, report: &Reporter) -> Result<bool> {
        self.check_target()?;
        let source = self.dir.join(path);
        if !source.is_file() {
            return Ok(false);
        }
        let progress = report.progress(format!("copying {}", name(path)), size.unwrap_or(0), Unit::Bytes);
        fs::copy_sparse(&source, target)?;
        progress.add(fs::open(target)?.metadata()?.len());
        Ok(true)
    }

    fn put(&self, source: &Path, path: &str, sha256: &str, report: &Reporter) -> Result<()> {
        let target = self.dir.join(path);
        let dir = target.parent().unwrap_or(&self.dir);
        fs::create_dir_all(dir)?;
        let beside = dir.join(format!(".{}.new", name(path)));
        let size = fs::open(source)?.metadata()?.len();
        let progress = report.progress(format!("copying {}", name(path)), size, Unit::Bytes);
        fs::copy_sparse(source, &beside)?;
        progress.add(size);
        fs::open(&beside)?.sync_all().with_context(|| format!("flushing {}", beside.display()))?;
        if sha256_file(&beside)?.to_string() != sha256 {
            fs::remove_file_if_exists(&beside)?;
            let cause = format!("{} was not copied whole to {}", source.display(), self.dir.display());
            return Err(Failure::new(Kind::Repository, cause, "check that disk, and run it again").into());
        }
        fs::rename(&beside, &target)?;
        fs::sync_dir(dir)
    }

    fn has(&self, path: &str, size: u64, sha256: &str) -> Result<bool> {
        let file = self.dir.join(path);
        Ok(std::fs::metadata(&file).is_ok_and(|meta| meta.is_file() && meta.len() == size)
            && sha256_file(&file)?.to_string() == sha256)
    }

    fn locked(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let path = self.dir.join(".builds.json.lock");
        match LinkLock::exclusive(&path, PATIENCE)? {
            Ok(_lock) => work(),
            Err(held) => {
                let cause = format!("{} is locked by {}", self.dir.display(), held.holder);
                let cure = format!("wait for that program; if it is dead, remove {}", path.display());
                Err(Failure::new(Kind::Busy, cause, cure).into())
            }
        }
    }
}

/// The last part of a path.
fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
