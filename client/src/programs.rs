//! The only code that runs programs, prints and looks at the clock.

use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use ostree_ext::glib::DateTime;
use rustix::process::{Pid, Signal, kill_process_group};

/// How often a running program is looked at.
const INTERVAL: Duration = Duration::from_millis(200);

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the one place")]
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    command
}

/// What systemctl prints, whatever its exit code says.
pub(crate) fn systemctl(arguments: &[&str]) -> Result<String> {
    let done = command("systemctl").args(arguments).output().context("running systemctl")?;
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Reboots, in order.
pub(crate) fn reboot() -> Result<()> {
    let done = command("systemctl").arg("reboot").status().context("running systemctl reboot")?;
    if !done.success() {
        bail!("systemctl reboot failed: {done}");
    }
    Ok(())
}

/// Runs a check, whose output goes where this program's goes; fails when it does or when time is over.
pub(crate) fn run_check(file: &Path, limit: Duration) -> Result<()> {
    let mut child = command(file).process_group(0).spawn().context("it cannot be started")?;
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("{status}"),
            None if Instant::now() >= deadline => {
                // With all that it started.
                kill_process_group(Pid::from_child(&child), Signal::Kill)?;
                child.wait()?;
                bail!("it was not done in time");
            }
            None => std::thread::sleep(INTERVAL),
        }
    }
}

/// Prints a line. Nothing can be done about a closed standard output.
pub(crate) fn say(line: impl std::fmt::Display) {
    drop(writeln!(std::io::stdout(), "{line}"));
}

/// Seconds since the epoch.
pub(crate) fn now() -> Result<i64> {
    Ok(DateTime::now_utc()?.to_unix())
}

/// The local day of the week, 0 for Monday, and the minute of the day.
pub(crate) fn local_minute() -> Result<(u32, u32)> {
    let now = DateTime::now_local()?;
    Ok((u32::try_from(now.day_of_week() - 1)?, u32::try_from(now.hour() * 60 + now.minute())?))
}

/// A moment for people to read.
pub(crate) fn spell(time: i64) -> String {
    let spelt = DateTime::from_unix_local(time).and_then(|time| time.format("%Y-%m-%d %H:%M"));
    spelt.map_or_else(|_| time.to_string(), |text| text.to_string())
}
