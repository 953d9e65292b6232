//! Judging a deployment on its first boot: the system comes up, no unit fails that did not fail before the
//! update, and every check says yes. One that is found unhealthy is left for the one that ran before.
//!
//! Checks are programs in /usr/lib/nestos/health.d (the image's) and /etc/nestos/health.d (the machine's, in
//! place of the image's of the same name). They run once, in the order of their names, and say no by an exit
//! code other than 0.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::config::Config;
use super::countdown;
use super::machine::{Deployed, Machine};
use super::programs::{now, reboot, run_check, say, systemctl};
use super::rollback::put_first;
use super::state::{Bad, State};

const CHECKS: [&str; 2] = ["/usr/lib/nestos/health.d", "/etc/nestos/health.d"];
/// How often systemd is asked whether the system is up.
const INTERVAL: Duration = Duration::from_secs(1);

/// Judges the running deployment, unless it was found healthy before.
pub(crate) async fn run(config: Result<Config>) -> Result<ExitCode> {
    let machine = Machine::open()?;
    let running = machine.booted()?;
    let state = remembered(&machine)?;
    if state.is_good(&running.commit) {
        leave_what_never_came_up(&machine, &running, state).await?;
        return Ok(ExitCode::SUCCESS);
    }
    say(format_args!("judging {}", running.name()));
    // A configuration that cannot be read came with the image, or is at least no sign of health.
    let judged = config.and_then(|config| judge(&config, &state));
    // Somebody may have looked for an update meanwhile.
    let mut state = remembered(&machine)?;
    let Err(error) = judged else {
        say(format_args!("{} is healthy", running.name()));
        state.set_good(&running.commit);
        state.save()?;
        countdown::stop(&machine).await?;
        return Ok(ExitCode::SUCCESS);
    };
    let reason = format!("{error:#}");
    say(format_args!("{} is not healthy: {reason}", running.name()));
    state.set_bad(&running.commit, Bad { digest: running.digest.clone(), reason, time: now()? });
    state.save()?;
    let all = machine.deployments()?;
    let before = all.iter().find(|one| !one.booted && !one.staged && state.is_good(&one.commit));
    match before {
        Some(before) => {
            say(format_args!("returning to {}", before.name()));
            return_to(&machine, before).await?;
            countdown::stop(&machine).await?;
            reboot()?;
        }
        None => {
            say("there is no deployment that was found healthy before: staying");
            // It came up: the boot loader must not leave it either.
            countdown::stop(&machine).await?;
        }
    }
    Ok(ExitCode::FAILURE)
}

/// What is remembered of the deployments that are there.
fn remembered(machine: &Machine) -> Result<State> {
    let mut state = State::load()?;
    state.keep_only(&machine.deployments()?.into_iter().map(|one| one.commit).collect::<Vec<_>>());
    Ok(state)
}

/// The units that failed.
pub(crate) fn failed_units() -> Result<Vec<String>> {
    let text = systemctl(&["list-units", "--state=failed", "--plain", "--no-legend", "--full"])?;
    Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

fn judge(config: &Config, state: &State) -> Result<()> {
    let deadline = Instant::now() + config.health_timeout;
    wait_until_up(deadline)?;
    if config.health_units {
        let failed = failed_units()?;
        let new: Vec<String> =
            failed.into_iter().filter(|unit| !state.failed_before.contains(unit)).collect();
        if !new.is_empty() {
            bail!("failed units: {}", new.join(", "));
        }
    }
    for check in checks(&CHECKS.map(Path::new))? {
        say(format_args!("running {}", check.display()));
        let left = deadline.saturating_duration_since(Instant::now());
        run_check(&check, left).with_context(|| format!("check {}", check.display()))?;
    }
    Ok(())
}

fn wait_until_up(deadline: Instant) -> Result<()> {
    while systemctl(&["is-active", "default.target"])?.trim() != "active" {
        if Instant::now() >= deadline {
            bail!("the system did not come up in time");
        }
        std::thread::sleep(INTERVAL);
    }
    Ok(())
}

/// The executable files of the directories by name, a later directory's in place of an earlier one's.
fn checks(dirs: &[&Path]) -> Result<Vec<PathBuf>> {
    let mut found = BTreeMap::new();
    for dir in dirs.iter().filter(|dir| dir.is_dir()) {
        for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
            let path = entry?.path();
            found.insert(path.file_name().map(ToOwned::to_owned), path);
        }
    }
    found.retain(|_, path| {
        path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    });
    Ok(found.into_values().collect())
}

/// The boot loader returned here because what comes first did not come up: make that the rule.
async fn leave_what_never_came_up(machine: &Machine, running: &Deployed, mut state: State) -> Result<()> {
    let all = machine.deployments()?;
    let first = all.iter().find(|one| !one.staged);
    if let (Some(left), Some(first)) = (countdown::left()?, first.filter(|first| !first.booted)) {
        let reason = match left {
            0 => format!("it did not come up in {} boots", countdown::BOOTS),
            _ => "the boot loader could not start it, or was told to take another".to_owned(),
        };
        say(format_args!("{} is not healthy: {reason}; staying with {}", first.name(), running.name()));
        state.set_bad(&first.commit, Bad { digest: first.digest.clone(), reason, time: now()? });
        return_to(machine, running).await?;
    }
    state.save()?;
    countdown::stop(machine).await
}

async fn return_to(machine: &Machine, before: &Deployed) -> Result<()> {
    let _lock = machine.lock().await?;
    put_first(machine, &before.deployment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_check_stands_in_for_the_images_of_the_same_name() {
        let dir = tempfile::tempdir().unwrap();
        let (image, own) = (dir.path().join("usr"), dir.path().join("etc"));
        for (place, name, mode) in [
            (&image, "20-web", 0o755),
            (&image, "10-disk", 0o755),
            (&image, "README", 0o644),
            (&own, "20-web", 0o755),
            (&own, "10-disk", 0o644),
        ] {
            std::fs::create_dir_all(place).unwrap();
            let file = place.join(name);
            std::fs::write(&file, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        // A file that cannot be run switches the image's check off.
        let none = dir.path().join("none");
        assert_eq!(checks(&[&image, &own, &none]).unwrap(), [own.join("20-web")]);
        assert_eq!(checks(&[&image]).unwrap(), [image.join("10-disk"), image.join("20-web")]);
    }
}
