//! `nosa kola run`: boot tests on machines.

use std::path::PathBuf;

use anyhow::Result;

use super::ask::{Ask, TestArgs};
use crate::cli::image::ImageArgs;
use crate::cli::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::{self, tool};
use crate::kola::{self, Lab, Manner, Outcome};

/// Run tests on machines booted from an image
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    tests: TestArgs,
    #[command(flatten)]
    image: ImageArgs,
    /// Machines at a time (default: what processors and memory allow)
    #[arg(long, short = 'j', value_name = "N")]
    parallel: Option<usize>,
    /// Where consoles, journals and reports go (default: tmp/kola of the working directory)
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,
    /// Boot a machine for every test instead of forking a booted one
    #[arg(long)]
    no_fork: bool,
    /// Try a failed test once more
    #[arg(long)]
    rerun: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    host::require(&[&tool::QEMU_X86_64, &tool::QEMU_IMG, &tool::SSH, &tool::SSH_KEYGEN])
        .map_err(|error| Failure::new(Kind::Tool, error.to_string(), error.cure()))?;
    let (image, build) = args.image.find(context)?;
    let ask = Ask::new(&args.tests, context, &args.image.arch, build.as_deref())?;
    let output = args.output_dir.clone().unwrap_or_else(|| context.workdir.join("tmp/kola"));
    let output = std::path::absolute(output)?;
    let (arch, firmware) = (&args.image.arch, args.image.firmware());
    let lab = Lab::new(image, arch, output, firmware, args.image.memory, &context.report)?;
    let manner = Manner { parallel: args.parallel, fork: !args.no_fork, rerun: args.rerun };
    let denylist = (&ask.denylist, &ask.circumstances);
    let report = kola::run(&lab, ask.select()?, &manner, denylist, &context.report)?;
    if context.json {
        render::print_json(&serde_json::to_value(&report)?);
    }
    let count = |outcome| report.count(outcome);
    let (passed, failed) = (count(Outcome::Pass), count(Outcome::Fail));
    let rest = format!("{} warned, {} skipped", count(Outcome::Warn), count(Outcome::Skip));
    if failed > 0 {
        let cause = format!("{failed} tests failed, {passed} passed, {rest}");
        let cure = format!("see {} for consoles and journals", lab.output.display());
        return Err(Failure::new(Kind::TestsFailed, cause, cure).into());
    }
    context
        .report
        .note(format!("{passed} tests passed, {rest}; reports: {}", lab.output.join("reports").display()));
    Ok(())
}
