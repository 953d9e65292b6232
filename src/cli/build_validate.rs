//! `nosa build-validate`: is a build whole?

use anyhow::Result;

use super::which::Which;
use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::{self, tool};
use crate::release::{self, Finding};

/// Compare every file of a build with its record
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    host::require(&[&tool::QEMU_IMG]).map_err(Failure::from)?;
    let mut findings: Vec<Finding> = Vec::new();
    for build in args.which.all(&context.open()?)? {
        findings.extend(release::validate(&build, &context.report)?);
    }
    if context.json {
        render::print_json(&findings);
    } else {
        let row = |finding: &Finding| {
            let state = finding.problem.as_deref().map_or("ok", |_| "BAD");
            let text = match &finding.problem {
                Some(problem) => format!("{}: {problem}", finding.path),
                None => finding.path.clone(),
            };
            vec![state.to_owned(), finding.subject.clone(), text]
        };
        render::print_table(&findings.iter().map(row).collect::<Vec<_>>());
    }
    let bad: Vec<&str> =
        findings.iter().filter(|found| found.problem.is_some()).map(|found| found.subject.as_str()).collect();
    if bad.is_empty() {
        return Ok(());
    }
    let cause =
        format!("{} of {} files are not what the record says: {}", bad.len(), findings.len(), bad.join(", "));
    Err(Failure::new(Kind::Artifact, cause, "fetch or make them again").into())
}
