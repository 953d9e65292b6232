//! `nosa clean`: removes what can be made again.

use std::path::PathBuf;

use anyhow::Result;

use super::Context;
use crate::host::fs;
use crate::pipeline::Cache;

/// Remove builds and scratch files of the workdir
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Remove the workdir's cache too (downloads, which all workdirs share, stay).
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let workdir = context.open()?;
    let _lock = workdir.lock("nosa clean")?;
    if args.all {
        // Void before it is gone: what an interruption leaves must not count as an output.
        Cache::open(&workdir.cache_dir())?.clear()?;
    }
    let parts: &[PathBuf] = if args.all {
        &[workdir.builds_dir(), workdir.tmp_dir(), workdir.cache_dir()]
    } else {
        &[workdir.builds_dir(), workdir.tmp_dir()]
    };
    for part in parts {
        // Not the locks: whoever waits for one waits for this very file.
        let locks = ["build.lock", "record.lock"];
        for path in fs::read_dir_sorted(part)? {
            if !locks.iter().any(|lock| path.ends_with(lock)) {
                fs::remove_tree(&path)?;
            }
        }
    }
    Ok(())
}
