//! `nosa prune`: removes old builds, and what the cache no longer needs.

use anyhow::Result;

use super::{Context, render};
use crate::builds::Selection;
use crate::host::clock;
use crate::recipe::prune_cache;

/// Remove old builds; those that have a tag stay
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many builds without a tag stay; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 3, conflicts_with = "build")]
    keep_last_n: usize,
    /// Remove these builds instead.
    #[arg(long, value_name = "ID")]
    build: Vec<String>,
    /// Also empty the workdir's cache of what neither a build that stays nor the last run was made from.
    #[arg(long)]
    pub(super) cache: bool,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let (workdir, lock, pipeline) = context.lock("prune")?;
    let selection = match args.build.as_slice() {
        [] => Selection::KeepLast(args.keep_last_n),
        ids => Selection::Builds(ids.to_vec()),
    };
    let pruned = if args.dry_run {
        workdir.plan_prune(&selection)?
    } else {
        workdir.prune(&lock, &selection, clock::now())?
    };
    let swept = match args.cache {
        true => Some(prune_cache(&pipeline, &workdir, &pruned.kept, args.dry_run)?),
        false => None,
    };
    if context.json {
        render::print_json(&serde_json::json!({"builds": pruned, "cache": swept, "dry-run": args.dry_run}));
        return Ok(());
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    pruned.removed.iter().for_each(|id| render::print(&format!("{verb} build {id}")));
    pruned.tagged.iter().for_each(|id| render::print(&format!("kept build {id}, which has a tag")));
    if let Some(swept) = swept {
        let (entries, objects, bytes) = (swept.entries, swept.objects, render::bytes(swept.bytes));
        render::print(&format!("{verb} {entries} stage outputs and {objects} objects of the cache: {bytes}"));
    }
    Ok(())
}
