//! `nosa list`: the builds of a workdir.

use anyhow::Result;

use super::{Context, render};

/// List the builds
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<()> {
    let workdir = context.open()?;
    let index = workdir.index()?;
    if context.json {
        render::print_json(&index.to_json());
        return Ok(());
    }
    for entry in index.builds() {
        for arch in &entry.arches {
            let meta = workdir.build(&entry.id, arch)?.meta()?;
            render::print(&format!("{} {arch}  {}  {}", entry.id, meta.ostree_timestamp, meta.ostree_commit));
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
    }
    Ok(())
}
