//! `nosa diff`: what differs between two builds.

use anyhow::Result;

use super::{Context, render};
use crate::compare::{self, Part};
use crate::host::{environment, fs};
use crate::recipe::commit_repo;

/// Compare two builds: packages, files, sizes, initramfs, kernel arguments
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The older build (default: the one before the other).
    #[arg(long, value_name = "ID")]
    from: Option<String>,
    /// The newer build (default: the latest).
    #[arg(long, value_name = "ID", default_value = "latest")]
    to: String,
    /// Their architecture (default: this machine's).
    #[arg(long)]
    arch: Option<String>,
    /// Compare packages.
    #[arg(long)]
    packages: bool,
    /// Compare the files of the OSTree commits.
    #[arg(long)]
    files: bool,
    /// Compare the sizes of artifacts.
    #[arg(long)]
    sizes: bool,
    /// Compare what the initramfs holds.
    #[arg(long)]
    initramfs: bool,
    /// Compare the kernel arguments of disk images.
    #[arg(long)]
    kargs: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let workdir = context.open()?;
    let arch = args.arch.as_deref().unwrap_or(environment::basearch());
    let to = workdir.build(&args.to, arch)?;
    let from = match &args.from {
        Some(id) => workdir.build(id, arch)?,
        None => workdir.build_before(&to)?,
    };
    let chosen = [args.packages, args.files, args.sizes, args.initramfs, args.kargs];
    let parts: Vec<Part> =
        Part::ALL.iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(part, _)| *part).collect();
    let cache = crate::pipeline::Cache::open(&workdir.cache_dir())?;
    let repo = commit_repo(&cache)?;
    let scratch = workdir.tmp_dir().join(format!("diff.{}", std::process::id()));
    let diff = compare::diff(&from, &to, &parts, repo.as_ref(), &scratch, &context.report);
    fs::remove_tree(&scratch)?;
    let diff = diff?;
    if context.json {
        render::print_json(&diff);
    } else {
        super::told::diff(&diff);
    }
    Ok(())
}
