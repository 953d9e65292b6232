//! `nosa build`: the whole build.

use anyhow::Result;

use super::Context;
use crate::packages::Mirrors;
use crate::recipe::{Options, Recipe};
use crate::rootfs::LossPolicy;

/// What build and fetch have in common.
#[derive(Debug, clap::Args)]
pub(super) struct Shared {
    /// Refuse packages that the lockfile does not have.
    #[arg(long)]
    strict: bool,
    /// The Debian archive's mirror (default: the one this host's apt uses).
    #[arg(long, value_name = "URL", env = "NOSA_DEBIAN_MIRROR")]
    debian_mirror: Option<String>,
    /// The mirror of Debian's security archive.
    #[arg(long, value_name = "URL", env = "NOSA_DEBIAN_SECURITY_MIRROR")]
    debian_security_mirror: Option<String>,
}

impl Shared {
    pub(super) fn options(&self) -> Result<Options> {
        Ok(Options {
            strict: self.strict,
            mirrors: Mirrors {
                debian: self.debian_mirror.clone(),
                security: self.debian_security_mirror.clone(),
            },
            ..Options::default()
        })
    }
}

/// Build the operating system: packages to OSTree commit, OCI image and qcow2
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    shared: Shared,
    /// Fail when a package has files in /var, which would be missing from the image.
    #[arg(long)]
    strict_var: bool,
    /// The build's version (default: from automatic-version-prefix).
    #[arg(long)]
    version: Option<String>,
    /// Run every stage, whatever the cache has.
    #[arg(long, short)]
    force: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let pipeline = context.pipeline()?.force(args.force);
    let mut options = args.shared.options()?;
    options.losses = if args.strict_var { LossPolicy::Refuse } else { LossPolicy::Warn };
    let config = context.workdir.join("src/config");
    let recipe = Recipe::open(&pipeline, &config, &context.downloads()?, options)?;
    let planned = recipe.plan()?;
    let version = args.version.clone().unwrap_or_else(|| "13.20261123.0".into());
    let composed = recipe.compose(&planned, &version)?;
    let image = recipe.qcow2(&composed, "qemu")?;
    context.report.note(format!("{} {}", composed.commit.commit, image.path.display()));
    Ok(())
}
