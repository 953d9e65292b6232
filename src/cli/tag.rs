//! `nosa tag`: names for builds.

use anyhow::Result;

use super::{Context, render};
use crate::host::clock;

/// Give builds names that keep them from being pruned
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Make a tag, or move one
    Update {
        /// Its name.
        #[arg(long)]
        tag: String,
        /// The build it names (default: the latest).
        #[arg(long, value_name = "ID")]
        build: Option<String>,
        /// What for.
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Move a tag that names another build, or name a build that does not exist.
        #[arg(long)]
        force: bool,
    },
    /// Remove a tag
    #[command(group(clap::ArgGroup::new("which").required(true)))]
    Delete {
        /// Its name.
        #[arg(long, group = "which")]
        tag: Option<String>,
        /// Remove all tags.
        #[arg(long, group = "which")]
        all: bool,
    },
    /// List the tags
    List,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let workdir = context.open()?;
    match &args.action {
        Action::Update { tag, build, description, force } => {
            let tag = workdir.set_tag(tag, build.as_deref(), description.as_deref(), *force, clock::now())?;
            context.report.note(format!("tag {} names build {}", tag.name, tag.target));
        }
        Action::Delete { tag, .. } => {
            let gone = workdir.delete_tags(tag.as_deref(), clock::now())?;
            gone.iter().for_each(|tag| context.report.note(format!("removed tag {}", tag.name)));
        }
        Action::List => {
            let index = workdir.index()?;
            if context.json {
                render::print_json(&index.tags());
                return Ok(());
            }
            let row = |tag: &crate::builds::Tag| {
                let text = tag.description.clone().unwrap_or_default();
                vec![tag.name.clone(), tag.target.clone(), tag.created.clone(), text]
            };
            render::print_table(&index.tags().iter().map(row).collect::<Vec<_>>());
        }
    }
    Ok(())
}
