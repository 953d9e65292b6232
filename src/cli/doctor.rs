//! `nosa doctor`: is this machine ready?

use anyhow::Result;

use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::{self, OCCASIONAL, TOOLS};

/// Check that the programs nosa needs are there and new enough
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<()> {
    let found = host::doctor();
    if context.json {
        let rows: Vec<_> = found
            .iter()
            .map(|(tool, installed)| {
                serde_json::json!({
                    "name": tool.name, "package": tool.package, "purpose": tool.purpose, "path": installed.path,
                    "version": installed.version, "problem": installed.problem,
                })
            })
            .collect();
        render::print_json(&rows);
    } else {
        let rows: Vec<Vec<String>> = found
            .iter()
            .map(|(tool, installed)| {
                let state = match installed.problem {
                    None => "ok",
                    Some(_) if OCCASIONAL.contains(tool) => "optional",
                    Some(_) => "MISSING",
                };
                let version = installed.version.clone().unwrap_or_default();
                vec![state.into(), tool.name.into(), version, tool.purpose.into()]
            })
            .collect();
        render::print_table(&rows);
    }
    host::require(TOOLS).map_err(|error| Failure::new(Kind::Tool, error.to_string(), error.cure()))?;
    Ok(())
}
