//! `nosa clean`: removes what can be made again.

use anyhow::Result;

use super::Context;
use crate::host::fs;

/// Remove builds and scratch files of the workdir
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Remove the workdir's cache too (downloads, which all workdirs share, stay).
    #[arg(long)]
    all: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let parts: &[&str] = if args.all { &["builds", "tmp", "cache"] } else { &["builds", "tmp"] };
    for part in parts {
        fs::remove_tree(&context.workdir.join(part))?;
    }
    parts.iter().try_for_each(|part| fs::create_dir_all(&context.workdir.join(part)))
}
