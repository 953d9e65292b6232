//! `nosa buildextend`: more disk images of a build.

use anyhow::Result;

use super::{Context, render};
use crate::host::environment;
use crate::recipe::{DiskKind, Publisher, Recipe};

/// Add a disk image to a build
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which: qemu, metal, metal4k, openstack.
    #[arg(value_parser = ["qemu", "metal", "metal4k", "openstack"], required = true)]
    targets: Vec<String>,
    /// The build.
    #[arg(long, default_value = "latest")]
    build: String,
    /// Make the image even if the build has one.
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    shared: super::build::Shared,
}

/// The names of disk images among targets, as the recipe has them.
pub(super) fn kinds(targets: &[String]) -> Vec<&'static str> {
    DiskKind::ALL
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| targets.iter().any(|target| target == name))
        .collect()
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let (workdir, lock, pipeline) = context.lock("buildextend")?;
    let pipeline = pipeline.force(args.force);
    let options = args.shared.options(&workdir, true)?;
    let recipe = Recipe::open(&pipeline, &workdir.config_dir(), &context.downloads()?, options)?;
    let publisher = Publisher::new(&recipe, &workdir, &lock)?;
    let build = workdir.build(&args.build, environment::basearch())?;
    for kind in kinds(&args.targets) {
        match publisher.extend(&build, kind, args.force)? {
            Some(artifact) => {
                context.report.note(format!("added {kind} to build {}: {}", build.id(), artifact.path))
            }
            None => context.report.note(format!("build {} has {kind} already", build.id())),
        }
    }
    if context.json {
        render::print_json(&build.meta_json()?);
    }
    Ok(())
}
