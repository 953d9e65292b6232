//! The command line: one file a command. It does not know how any artifact is made.

mod basearch;
mod build;
mod build_validate;
mod buildextend;
mod buildfetch;
mod buildupload;
mod clean;
mod compress;
mod context;
mod copy_container;
mod derive;
mod diff;
mod doctor;
mod fetch;
mod image;
mod import;
mod init;
mod kola;
mod lint;
mod list;
mod manifest;
mod meta;
mod oci;
mod prune;
mod push_container;
mod push_container_manifest;
mod reach;
mod registry_options;
mod release_meta;
pub mod render;
mod run;
mod sign;
mod tag;
mod told;
mod validate;
mod which;
mod why;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::{Parser, Subcommand};

pub use context::Context;

use crate::failure::{self, Kind};
use crate::pipeline::Reporter;
use crate::sandbox::{self, Entered};

/// Builds image-based operating systems: packages to OSTree commit, OCI image, disk images, boot tests.
#[derive(Debug, Parser)]
#[command(name = "nosa", version, after_help = exit_codes(), infer_long_args = false)]
struct Cli {
    /// The working directory (`nosa init` makes one).
    #[arg(long, short = 'C', global = true, value_name = "DIR", default_value = ".")]
    workdir: std::path::PathBuf,
    /// Print results as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Show what the programs print.
    #[arg(long, short, global = true)]
    verbose: bool,
    /// Show warnings and errors only.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Args),
    Fetch(fetch::Args),
    Build(build::Args),
    Buildextend(buildextend::Args),
    Import(import::Args),
    List(list::Args),
    Manifest(manifest::Args),
    Validate(validate::Args),
    Why(why::Args),
    Meta(meta::Args),
    Tag(tag::Args),
    Diff(diff::Args),
    #[command(subcommand)]
    Oci(oci::Command),
    Compress(compress::Args),
    #[command(visible_alias = "uncompress")]
    Decompress(compress::Shared),
    BuildValidate(build_validate::Args),
    Sign(sign::Args),
    GenerateReleaseMeta(release_meta::Args),
    Buildfetch(buildfetch::Args),
    Buildupload(buildupload::Args),
    PushContainer(push_container::Args),
    PushContainerManifest(push_container_manifest::Args),
    CopyContainer(copy_container::Args),
    Prune(prune::Args),
    Clean(clean::Args),
    Basearch(basearch::Args),
    Run(run::Args),
    Kola(kola::Args),
    Derive(derive::Args),
    Lint(lint::Args),
    Doctor(doctor::Args),
}

impl Command {
    /// Whether the command handles trees, whose files have owners of their own.
    const fn handles_trees(&self) -> bool {
        match self {
            Self::Fetch(_) | Self::Build(_) | Self::Buildextend(_) | Self::Clean(_) => true,
            Self::Prune(args) => args.cache,
            _ => false,
        }
    }
}

/// Parses the command line, runs the command and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version count as errors to clap, but not to the user. Printing fails only when
            // nobody listens any more.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { Kind::Usage.exit_code() } else { 0 });
        }
    };
    match dispatch(cli) {
        Ok(code) => code,
        Err(error) => {
            let failure = failure::classify(&error);
            render::print_failure(&failure);
            ExitCode::from(failure.kind.exit_code())
        }
    }
}

fn dispatch(cli: Cli) -> anyhow::Result<ExitCode> {
    // The modes of what nosa writes must not depend on who runs it.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // Before anything else: a process with threads cannot enter a namespace.
    if cli.command.handles_trees()
        && let Entered::Done(code) = sandbox::enter()?
    {
        return Ok(code);
    }
    let verbosity = match (cli.quiet, cli.verbose) {
        (true, _) => render::Verbosity::Quiet,
        (_, true) => render::Verbosity::Verbose,
        _ => render::Verbosity::Normal,
    };
    let report = Reporter::new(Arc::new(render::Renderer::new(verbosity)));
    // Programs run in other directories, so a relative path would not mean the same to them.
    let workdir = std::path::absolute(&cli.workdir).context("finding the working directory")?;
    let context = Context { workdir, report, json: cli.json };
    match cli.command {
        Command::Init(args) => init::run(&args, &context)?,
        Command::Fetch(args) => fetch::run(&args, &context)?,
        Command::Build(args) => build::run(&args, &context)?,
        Command::Buildextend(args) => buildextend::run(&args, &context)?,
        Command::Import(args) => import::run(&args, &context)?,
        Command::List(args) => list::run(&args, &context)?,
        Command::Manifest(args) => manifest::run(&args, &context)?,
        Command::Validate(args) => validate::run(&args, &context)?,
        Command::Why(args) => why::run(&args, &context)?,
        Command::Meta(args) => meta::run(&args, &context)?,
        Command::Tag(args) => tag::run(&args, &context)?,
        Command::Diff(args) => diff::run(&args, &context)?,
        Command::Oci(command) => oci::run(&command, &context)?,
        Command::Compress(args) => compress::run(&args, &context)?,
        Command::Decompress(args) => compress::undo(&args, &context)?,
        Command::BuildValidate(args) => build_validate::run(&args, &context)?,
        Command::Sign(args) => sign::run(&args, &context)?,
        Command::GenerateReleaseMeta(args) => release_meta::run(&args, &context)?,
        Command::Buildfetch(args) => buildfetch::run(&args, &context)?,
        Command::Buildupload(args) => buildupload::run(&args, &context)?,
        Command::PushContainer(args) => push_container::run(&args, &context)?,
        Command::PushContainerManifest(args) => push_container_manifest::run(&args, &context)?,
        Command::CopyContainer(args) => copy_container::run(&args, &context)?,
        Command::Prune(args) => prune::run(&args, &context)?,
        Command::Clean(args) => clean::run(&args, &context)?,
        Command::Basearch(args) => basearch::run(&args, &context)?,
        Command::Run(args) => run::run(&args, &context)?,
        Command::Kola(args) => kola::run(&args, &context)?,
        Command::Derive(args) => derive::run(&args, &context)?,
        Command::Lint(args) => lint::run(&args, &context)?,
        Command::Doctor(args) => doctor::run(&args, &context)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn exit_codes() -> String {
    let mut text = String::from("Exit codes:\n    0  success\n");
    for kind in Kind::ALL {
        text.push_str(&format!("  {:>3}  {}\n", kind.exit_code(), kind.meaning()));
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
