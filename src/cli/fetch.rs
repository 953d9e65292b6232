//! `nosa fetch`: ask the repositories, download packages, write lockfiles.

use anyhow::Result;

use super::Context;
use crate::recipe::Recipe;

/// Ask the repositories what they offer and download the packages
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shared: super::build::Shared,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let pipeline = context.pipeline()?;
    let config = context.workdir.join("src/config");
    let recipe = Recipe::open(&pipeline, &config, &context.downloads()?, args.shared.options()?)?;
    recipe.refresh()?;
    let (packages, _) = recipe.resolve()?;
    recipe.download(&packages)?;
    context.report.note(format!("{} packages are here", packages.packages.len()));
    Ok(())
}
