//! `nosa kola`: boot tests, listed or run.

mod ask;
mod list;
mod run;
mod shipped;

use anyhow::Result;

use super::Context;

/// Run or list boot tests
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Run(run::Args),
    List(list::Args),
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    match &args.command {
        Command::Run(args) => run::run(args, context),
        Command::List(args) => list::run(args, context),
    }
}
