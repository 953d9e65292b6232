//! `nosa kola list`: the tests there are.

use anyhow::Result;

use super::ask::{Ask, TestArgs};
use crate::cli::{Context, render};
use crate::host::environment;
use crate::kola::{Selected, Verdict};

/// List the tests and whether they would run
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tests: TestArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let selected = Ask::new(&args.tests, context, environment::basearch(), None)?.select()?;
    if context.json {
        let tests: Vec<_> = selected.iter().map(Selected::to_json).collect();
        render::print_json(&tests);
        return Ok(());
    }
    let row = |selected: &Selected| {
        let verdict = match &selected.verdict {
            Verdict::Run => String::new(),
            Verdict::Warn(why) => format!("warns only: {why}"),
            Verdict::Skip(why) => format!("skipped: {why}"),
        };
        vec![selected.test.name.clone(), selected.test.header.tags.join(" "), verdict]
    };
    render::print_table(&selected.iter().map(row).collect::<Vec<_>>());
    Ok(())
}
