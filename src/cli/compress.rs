//! `nosa compress` and `nosa decompress`: the artifacts of a build, in place.

use anyhow::Result;

use super::which::Which;
use super::{Context, render};
use crate::compression::Format;
use crate::host::environment;
use crate::manifest::{self, LoadOptions};
use crate::release::{self, Change, Job};

/// Compress the artifacts of a build
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shared: Shared,
    /// How (default: `compressor` of image.yaml, else gzip).
    #[arg(long, value_parser = ["gzip", "xz", "zstd"])]
    compressor: Option<String>,
    /// Compress with gzip at its fastest.
    #[arg(long, conflicts_with = "compressor")]
    fast: bool,
}

/// Decompress the artifacts of a build
#[derive(Debug, clap::Args)]
pub(super) struct Shared {
    #[command(flatten)]
    which: Which,
    /// Only these artifacts.
    #[arg(long, value_name = "NAME")]
    artifact: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let format = match &args.compressor {
        _ if args.fast => Format::Gzip,
        Some(name) => name.parse()?,
        None => configured(context)?,
    };
    let level = if args.fast { 1 } else { format.usual_level() };
    each(&args.shared, context, "compress", |job| release::compress(job, format, level))
}

pub(super) fn undo(args: &Shared, context: &Context) -> Result<()> {
    each(args, context, "decompress", release::decompress)
}

/// The configuration's compressor; a workdir of fetched builds may have no configuration.
fn configured(context: &Context) -> Result<Format> {
    let workdir = context.open()?;
    if !workdir.config_dir().exists() {
        return Ok(Format::Gzip);
    }
    let options = LoadOptions { variant: workdir.variant()?, ..LoadOptions::new(environment::basearch()) };
    Ok(manifest::load(&workdir.config_dir(), &options)?.manifest.image.compressor.parse()?)
}

fn each(
    args: &Shared,
    context: &Context,
    name: &str,
    work: impl Fn(&Job<'_>) -> Result<Vec<Change>>,
) -> Result<()> {
    let (workdir, lock, _) = context.lock(name)?;
    workdir.recover(&lock)?;
    let mut changes = Vec::new();
    for build in args.which.all(&workdir)? {
        let job = Job { build: &build, lock: &lock, artifacts: &args.artifact, report: &context.report };
        changes.extend(work(&job)?);
    }
    if context.json {
        render::print_json(&changes);
        return Ok(());
    }
    let row = |change: &Change| {
        let size = change.size.map(render::bytes).unwrap_or_default();
        let state =
            change.skipped.map_or_else(|| change.path.clone(), |why| format!("{} {why}", change.path));
        vec![change.arch.clone(), change.artifact.clone(), size, state]
    };
    render::print_table(&changes.iter().map(row).collect::<Vec<_>>());
    Ok(())
}
