//! A running machine: QEMU's process, its control connection and its forwarded ports. Dropping it ends it.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::host::{Child, Cmd, fs};

use super::argv::argv;
use super::control::Control;
use super::machine::{Console, Machine};

/// How long QEMU may take to open its control socket.
const START_LIMIT: Duration = Duration::from_secs(30);

/// How many of QEMU's own last lines an error shows.
const LOG_LINES: usize = 8;

/// A running machine. It is gone when this value is.
#[derive(Debug)]
pub struct Vm {
    machine: Machine,
    child: Child,
    control: Control,
    forwards: Vec<(u16, u16)>,
    log: PathBuf,
}

impl Vm {
    /// Starts QEMU, or has it go on from a saved state; QEMU's own messages go to `log`.
    ///
    /// The machine lives no longer than the thread that calls this.
    pub fn start(machine: Machine, log: &Path) -> Result<Self> {
        let cmd = Cmd::program(&machine.profile.program).args(argv(&machine));
        let mut child = match machine.console {
            Console::Terminal => cmd.spawn_interactive()?,
            Console::File(_) => cmd.log(log).spawn()?,
        };
        let mut control = Control::connect(&machine.control, START_LIMIT, || still_runs(&mut child, log))?;
        if let Some(state) = &machine.incoming {
            control.load_state(state).context("going on from a saved machine")?;
            control.resume()?;
        }
        let forwards = control.forwards()?;
        Ok(Self { machine, child, control, forwards, log: log.to_owned() })
    }

    /// What was started.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The control connection.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    /// The port of 127.0.0.1 that a guest's port is reachable at.
    pub fn host_port(&self, guest: u16) -> Result<u16> {
        self.forwards
            .iter()
            .find_map(|(from, to)| (*from == guest).then_some(*to))
            .with_context(|| format!("port {guest} of the machine is not forwarded"))
    }

    /// Fails when QEMU has ended, with its last lines.
    pub fn check_alive(&mut self) -> Result<()> {
        still_runs(&mut self.child, &self.log)
    }

    /// Waits for QEMU's end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait()
    }

    /// How QEMU ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Presses the power button and waits; a guest that does not obey within `limit` loses its power.
    pub fn shut_down(mut self, limit: Duration) -> Result<()> {
        self.control.power_down()?;
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.quit()
    }

    /// Ends QEMU so that its disks and shared memory are complete on the host.
    pub fn quit(mut self) -> Result<()> {
        self.control.quit();
        self.child.wait().map(drop)
    }
}

fn still_runs(child: &mut Child, log: &Path) -> Result<()> {
    let Some(status) = child.try_wait()? else { return Ok(()) };
    let text = fs::read_optional(log)?.unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("$ ")).collect();
    let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n    ");
    bail!("QEMU ended with {status}\n    {tail}\n  (whole log: {})", log.display())
}
