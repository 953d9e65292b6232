//! `nosa list`: the builds of a workdir.

use anyhow::Result;

use super::{Context, render};
use crate::builds::Listed;

/// List the builds
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<()> {
    let listed = context.open()?.list()?;
    if context.json {
        render::print_json(&listed);
        return Ok(());
    }
    for build in &listed {
        let Listed { id, arch, tags, .. } = build;
        let tags = if tags.is_empty() { String::new() } else { format!("  [{}]", tags.join(", ")) };
        let Some(meta) = &build.meta else {
            render::print(&format!("{id} {arch}{tags}  not here: `nosa buildfetch --build {id}`"));
            continue;
        };
        let overrides = if build.overrides { "  OVERRIDES" } else { "" };
        let (time, commit) = (&meta.ostree_timestamp, &meta.ostree_commit);
        render::print(&format!("{id} {arch}{tags}{overrides}  {time}  {commit}"));
        let rows: Vec<Vec<String>> = meta
            .images
            .iter()
            .map(|(name, image)| {
                let size = image.size.map(render::bytes).unwrap_or_default();
                vec![format!("    {name}"), size, image.path.clone()]
            })
            .collect();
        render::print_table(&rows);
    }
    Ok(())
}
