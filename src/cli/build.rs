//! `nosa build`: the whole build.

use anyhow::Result;

use super::{Context, oci, render};
use crate::builds::Workdir;
use crate::packages::{LockFiles, Mirrors};
use crate::pipeline::Pipeline;
use crate::recipe::{Options, Outcome, Publisher, Recipe};
use crate::rootfs::LossPolicy;

/// What commands that resolve packages have in common.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Shared {
    /// Refuse packages that the lockfile does not have.
    #[arg(long)]
    pub(super) strict: bool,
    /// The Debian archive's mirror (default: the one this host's apt uses).
    #[arg(long, value_name = "URL", env = "NOSA_DEBIAN_MIRROR")]
    debian_mirror: Option<String>,
    /// The mirror of Debian's security archive.
    #[arg(long, value_name = "URL", env = "NOSA_DEBIAN_SECURITY_MIRROR")]
    debian_security_mirror: Option<String>,
    /// A variable of the *.repo files, in place of the treefile's `repovars`; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = assignment)]
    repovar: Vec<(String, String)>,
}

impl Shared {
    /// What the user said, with the configuration's lockfiles if `locked`.
    pub(super) fn options(&self, workdir: &Workdir, locked: bool) -> Result<Options> {
        let config = workdir.config_dir();
        let basearch = crate::host::environment::basearch();
        let locked = if locked { LockFiles::load(&config, basearch)?.lock.locked() } else { Vec::new() };
        Ok(Options {
            strict: self.strict,
            mirrors: Mirrors {
                debian: self.debian_mirror.clone(),
                security: self.debian_security_mirror.clone(),
            },
            locked,
            repovars: self.repovar.iter().cloned().collect(),
            repo_dirs: workdir.yumrepos_dir().into_iter().collect(),
            variant: workdir.variant()?,
            overrides: Some(workdir.overrides()),
            ..Options::default()
        })
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Build the operating system: OSTree commit, OCI image and disk image, unless nothing changed
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What to build besides commit and OCI image: qemu, metal, metal4k, openstack; `ostree` for nothing.
    #[arg(value_parser = ["ostree", "qemu", "metal", "metal4k", "openstack"], default_value = "qemu")]
    targets: Vec<String>,
    #[command(flatten)]
    shared: Shared,
    /// Fail when files in /var would be missing from the image.
    #[arg(long)]
    strict_var: bool,
    /// The build's version (default: from automatic-version-prefix).
    #[arg(long)]
    version: Option<String>,
    /// Run every stage and make a build, whatever the cache has.
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    image: oci::Image,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let (workdir, lock, pipeline) = context.lock("build")?;
    let pipeline = pipeline.force(args.force);
    let mut options = args.shared.options(&workdir, true)?;
    options.losses = if args.strict_var { LossPolicy::Refuse } else { LossPolicy::Warn };
    options.image = args.image.options();
    let recipe = Recipe::open(&pipeline, &workdir.config_dir(), &context.downloads()?, options)?;
    let publisher = Publisher::new(&recipe, &workdir, &lock)?;
    let kinds = super::buildextend::kinds(&args.targets);
    match publisher.build(args.version.as_deref(), &kinds, args.force)? {
        Outcome::Unchanged(build) => {
            context.report.note(format!("no changes since build {}", build.id()));
            tell(context, &build.meta_json()?, &pipeline)
        }
        Outcome::Built(build, update) => {
            context.report.note(format!("built {} in {}", build.id(), build.dir().display()));
            tell(context, &build.meta_json()?, &pipeline)?;
            update.iter().filter(|_| !context.json).for_each(oci::update);
            Ok(())
        }
    }
}

/// Prints what was built: as JSON the build's meta.json, else its artifacts and how long each stage took.
fn tell(context: &Context, meta: &serde_json::Value, pipeline: &Pipeline) -> Result<()> {
    if context.json {
        render::print_json(meta);
        return Ok(());
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let mut rows = vec![vec!["commit".to_owned(), String::new(), text(&meta["ostree-commit"])]];
    for (name, image) in meta["images"].as_object().into_iter().flatten() {
        let size = render::bytes(image["size"].as_u64().unwrap_or(0));
        rows.push(vec![name.clone(), size, text(&image["path"])]);
    }
    render::print_table(&rows);
    let ran = pipeline.runs().into_iter().filter(|run| run.reason.is_some());
    let rows: Vec<Vec<String>> = ran.map(|run| vec![run.stage, render::seconds(run.took)]).collect();
    render::print_table(&rows);
    Ok(())
}
