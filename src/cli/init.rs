//! `nosa init`: makes a working directory.

use std::path::Path;

use anyhow::Result;

use super::{Context, render};
use crate::builds::{ConfigSource, EmbeddedFile, Workdir};
use crate::embedded;
use crate::failure::{Failure, Kind};
use crate::host::{Cmd, tool};

/// Make a working directory: with a variant that ships with nosa, or a configuration of yours
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A configuration: a directory (it is linked to) or a git repository's address (it is cloned).
    config: Option<String>,
    /// A variant: of the configuration, or else the name of one that ships with nosa.
    #[arg(long, short = 'V')]
    variant: Option<String>,
    /// The branch to clone.
    #[arg(long, short)]
    branch: Option<String>,
    /// Use a directory that is not empty.
    #[arg(long)]
    force: bool,
    /// List the variants that ship with nosa, and do nothing else.
    #[arg(long, conflicts_with_all = ["config", "variant", "branch", "force"])]
    list: bool,
}

/// The variant that is taken when nothing is said.
const DEFAULT: &str = "debian-container";

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let root = &context.workdir;
    if args.list {
        return list(context);
    }
    match &args.config {
        None => {
            let files = embedded::files_named(args.variant.as_deref().unwrap_or(DEFAULT))?.into_iter();
            let files: Vec<_> = files.map(|(path, mode, bytes)| EmbeddedFile { path, mode, bytes }).collect();
            Workdir::init(root, args.force, None, ConfigSource::Embedded(&files))?;
        }
        Some(config) if Path::new(config).is_dir() => {
            Workdir::init(root, args.force, args.variant.as_deref(), ConfigSource::Link(Path::new(config)))?;
        }
        Some(config) => {
            let mut clone = |target: &Path| -> Result<()> { clone(config, args.branch.as_deref(), target) };
            Workdir::init(root, args.force, args.variant.as_deref(), ConfigSource::Make(&mut clone))?;
        }
    }
    let root = root.display();
    context.report.note(format!("{root} is ready; its configuration is {root}/src/config"));
    context.report.note("next: nosa build");
    Ok(())
}

fn list(context: &Context) -> Result<()> {
    let variants = embedded::variants()?;
    if context.json {
        render::print_json(&variants);
        return Ok(());
    }
    let rows = variants.into_iter().map(|variant| vec![variant.name.to_owned(), variant.summary]);
    render::print_table(&rows.collect::<Vec<_>>());
    Ok(())
}

fn clone(address: &str, branch: Option<&str>, target: &Path) -> Result<()> {
    // With the user's environment: an ssh agent may have the key for a private configuration.
    let mut git =
        Cmd::new(&tool::GIT).inherit_environment().args(["clone", "--recurse-submodules", "--quiet"]);
    if let Some(branch) = branch {
        git = git.args(["--branch", branch]);
    }
    git.args(["--", address]).arg(target).run().map_err(|error| {
        let cause =
            format!("{address} is neither a directory nor a git repository that can be cloned: {error:#}");
        Failure::new(Kind::Usage, cause, "check the address").into()
    })
}
