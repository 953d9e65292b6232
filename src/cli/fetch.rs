//! `nosa fetch`: asks the repositories, downloads packages, writes the lockfile.

use anyhow::Result;

use super::{Context, render};
use crate::host::environment;
use crate::packages::Lock;
use crate::recipe::{Recipe, overrides_in};

/// Ask the repositories what they offer now, and download the packages
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shared: super::build::Shared,
    /// Write what was resolved to manifest-lock.ARCH.json beside the manifest, whatever it says now.
    #[arg(long, conflicts_with = "strict")]
    update_lockfile: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let (workdir, _lock, pipeline) = context.lock("fetch")?;
    let mut options = args.shared.options(&workdir, !args.update_lockfile)?;
    if args.update_lockfile && options.overrides.take().is_some_and(|dir| !overrides_in(&dir).is_empty()) {
        context.report.warn("overrides/ is left out: what is locked is what the repositories have");
    }
    let recipe = Recipe::open(&pipeline, &workdir.config_dir(), &context.downloads()?, options)?;
    recipe.refresh()?;
    let (packages, snapshot) = recipe.resolve()?;
    recipe.download(&packages)?;
    if args.update_lockfile {
        let path = workdir.config_dir().join(format!("manifest-lock.{}.json", environment::basearch()));
        Lock::of(&packages.packages, snapshot.date)?.write(&path)?;
        context.report.note(format!("wrote {}", path.display()));
    }
    context.report.note(format!("{} packages are here", packages.packages.len()));
    if context.json {
        render::print_json(&packages.packages);
    }
    Ok(())
}
