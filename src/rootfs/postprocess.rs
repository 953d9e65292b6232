//! The treefile's inline scripts, run in order in the tree: no network, nothing of the host.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::{CommandError, environment, fs};
use crate::manifest::Script;
use crate::pipeline::{Unit, Workspace};
use crate::sandbox::Sandbox;

/// Runs the scripts; the first that fails ends it.
pub(super) fn run(scripts: &[Script], tree: &Path, epoch: u64, work: &Workspace) -> Result<()> {
    let dir = work.tmp().join("postprocess");
    fs::create_dir_all(&dir)?;
    let progress = work.report.progress("postprocessing", scripts.len() as u64, Unit::Items);
    let log = work.log("postprocess");
    fs::remove_file_if_exists(&log)?;
    for (index, script) in scripts.iter().enumerate() {
        let path = dir.join(index.to_string());
        let text = if script.text.starts_with("#!") {
            script.text.clone()
        } else {
            format!("#!/usr/bin/bash\nset -xeuo pipefail\n{}", script.text)
        };
        fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
            .with_context(|| format!("making {} executable", path.display()))?;
        let sandbox = Sandbox::new(tree)
            .bind_ro(&dir, "/run/nosa/postprocess")
            .env("SOURCE_DATE_EPOCH", epoch.to_string());
        sandbox
            .command(&format!("/run/nosa/postprocess/{index}"))
            .log(&log)
            .run_steps(Duration::from_secs(environment::script_limit()), |line| {
                work.report.detail(line);
                false
            })
            .map_err(|error| failure(error, script, &log))?;
        progress.add(1);
    }
    Ok(())
}

fn failure(error: anyhow::Error, script: &Script, log: &Path) -> anyhow::Error {
    let Some(command) = error.downcast_ref::<CommandError>() else { return error };
    if let Some(limit) = command.overtime() {
        let cause = format!("{}: the postprocess script did not end within {limit}", script.origin);
        return Failure::new(Kind::Build, cause, "NOSA_SCRIPT_LIMIT=SECONDS gives more time").into();
    }
    let tail =
        command.tail.iter().rev().take(5).rev().map(|line| format!("\n    {line}")).collect::<String>();
    Failure::new(
        Kind::Build,
        format!("{}: the postprocess script ended with {}{tail}", script.origin, command.status),
        format!("its whole output is in {}", log.display()),
    )
    .into()
}
