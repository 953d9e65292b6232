//! `nosa manifest`: the merged configuration, each value with the place it comes from.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::{Context, render};
use crate::document::{Map, places, with_places};
use crate::manifest::{LoadOptions, load};

/// Which configuration to read.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Which {
    /// The configuration's directory (default: the working directory's).
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The configuration's variant: manifest-VARIANT.yaml.
    #[arg(long, short = 'V')]
    variant: Option<String>,
}

impl Which {
    /// The directory, and how to load it for `basearch`.
    pub(super) fn options(&self, context: &Context, basearch: &str) -> Result<(PathBuf, LoadOptions)> {
        let mut options = LoadOptions { variant: self.variant.clone(), ..LoadOptions::new(basearch) };
        if let Some(dir) = &self.dir {
            return Ok((std::path::absolute(dir).context("finding the configuration")?, options));
        }
        let workdir = context.open()?;
        if options.variant.is_none() {
            options.variant = workdir.variant()?;
        }
        options.repo_dirs = workdir.yumrepos_dir().into_iter().collect();
        Ok((workdir.config_dir(), options))
    }
}

/// Print the merged treefile, image.yaml and platforms.yaml, each value with its file and line
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The architecture (default: this machine's).
    #[arg(long, default_value = crate::host::environment::basearch())]
    arch: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let (dir, options) = args.which.options(context, &args.arch)?;
    let loaded = load(&dir, &options)?;
    loaded.warnings.iter().for_each(|warning| context.report.warn(warning));
    let merged = loaded.merged;
    let parts = [("treefile", merged.treefile), ("image", merged.image), ("platforms", merged.platforms)];
    if context.json {
        let of = |each: &dyn Fn(&Map) -> serde_json::Value| -> serde_json::Map<String, serde_json::Value> {
            parts.iter().map(|(name, map)| ((*name).to_owned(), each(map))).collect()
        };
        let mut document = of(&Map::to_json);
        document.insert("provenance".to_owned(), of(&|map| json!(places(map))).into());
        render::print_json(&document);
        return Ok(());
    }
    for (name, map) in &parts {
        render::print(&format!("--- # {name}"));
        render::print(with_places(map).trim_end());
    }
    Ok(())
}
