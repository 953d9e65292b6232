//! `nosa basearch`: the architecture.

use anyhow::Result;

use super::{Context, render};
use crate::host::environment;

/// Print the base architecture that builds here are for
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

pub(super) fn run(_: &Args, context: &Context) -> Result<()> {
    if context.json {
        render::print_json(&environment::basearch());
    } else {
        render::print(environment::basearch());
    }
    Ok(())
}
