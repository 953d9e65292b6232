//! `nosa why`: what each stage did and the reason, down to the input and its old and new value.

use anyhow::Result;

use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::pipeline::{Run, StageRun};
use crate::recipe::STAGES;

/// Say why each stage of the last run, or of a build, ran or was reused
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A build's id, or `latest` (default: the last run, whatever came of it).
    build: Option<String>,
    /// This stage only, with whole values.
    #[arg(long)]
    stage: Option<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let workdir = context.open()?;
    let mut runs = match &args.build {
        None => Run::read(&Run::last_path(&workdir.tmp_dir()))?,
        Some(id) => Run::read(&workdir.build(id, environment::basearch())?.dir().join(STAGES))?,
    };
    if runs.is_empty() {
        let (cause, cure) = match &args.build {
            None => ("nothing was run in this working directory yet".to_owned(), "run `nosa build`"),
            Some(id) => {
                (format!("build {id} does not tell how it was made"), "build it anew: older builds do not")
            }
        };
        return Err(Failure::new(Kind::Artifact, cause, cure).into());
    }
    if let Some(stage) = &args.stage {
        let mut known: Vec<String> =
            runs.iter().flat_map(|run| &run.stages).map(|run| run.stage.clone()).collect();
        known.dedup();
        runs.iter_mut().for_each(|run| run.stages.retain(|run| run.stage == *stage));
        runs.retain(|run| !run.stages.is_empty());
        if runs.is_empty() {
            let cause = format!("no stage {stage} took part; there were {}", known.join(", "));
            return Err(Failure::new(Kind::Usage, cause, "name one of them").into());
        }
    }
    if context.json {
        render::print_json(&runs);
        return Ok(());
    }
    for run in &runs {
        render::print(&format!("nosa {}, {}", run.command, run.started));
        run.stages.iter().for_each(|stage| tell(stage, args.stage.is_some()));
    }
    Ok(())
}

fn tell(run: &StageRun, whole: bool) {
    let what = match (&run.reason, run.success) {
        (None, _) => "reused".to_owned(),
        (Some(_), true) => format!("ran {}", render::seconds(run.took)),
        (Some(_), false) => format!("failed after {}", render::seconds(run.took)),
    };
    render::print(&format!("  {:<12} {what:<14} {}", run.stage, run.explanation()));
    for change in run.changed() {
        render::print(&format!("      {}", change.told(whole)));
    }
    if whole {
        render::print(&format!("      key {}", run.key));
    }
}
