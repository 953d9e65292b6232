//! `nosa validate`: everything that is wrong with a configuration.

use anyhow::Result;
use serde_json::json;

use super::manifest::Which;
use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::recipe::validate;

/// Check a configuration without building: treefile, image.yaml, overlays, repositories, locks, tests
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// An architecture to check for; may be given several times (default: this machine's).
    #[arg(long = "arch", value_name = "ARCH")]
    arches: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let own = [environment::basearch().to_owned()];
    let arches = if args.arches.is_empty() { &own[..] } else { &args.arches };
    let mut dir = context.workdir.clone();
    let mut options = Vec::new();
    for arch in arches {
        let (found, option) = args.which.options(context, arch)?;
        dir = found;
        options.push(option);
    }
    let findings = validate(&dir, &options)?;
    for warning in &findings.warnings {
        context.report.warn(warning.failure().cause);
    }
    if context.json {
        let (problems, warnings) = (&findings.problems, &findings.warnings);
        render::print_json(&json!({"arches": arches, "problems": problems, "warnings": warnings}));
    } else {
        findings.problems.iter().for_each(|problem| render::print_failure(&problem.failure()));
    }
    match findings.problems.len() {
        0 => {
            context.report.note(format!("{} is good for {}", dir.display(), arches.join(", ")));
            Ok(())
        }
        count => {
            let problems = if count == 1 { "problem" } else { "problems" };
            Err(Failure::new(Kind::Config, format!("{}: {count} {problems}", dir.display()), "").into())
        }
    }
}
