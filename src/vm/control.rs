//! QEMU's control socket (QMP), spoken synchronously: a machine has one controller, which waits.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use qapi::{Qmp, Stream, qmp};

/// How long QEMU may take to answer a command.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How often an unfinished migration is looked at.
const POLL: Duration = Duration::from_millis(20);

/// A connection to a running QEMU.
pub struct Control {
    qmp: Qmp<Stream<BufReader<UnixStream>, UnixStream>>,
}

impl Control {
    /// Connects as soon as the socket is there; `alive` ends the wait with an error.
    pub(super) fn connect(
        path: &Path,
        limit: Duration,
        mut alive: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let deadline = Instant::now() + limit;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() > deadline => {
                    return Err(error).with_context(|| format!("connecting to {}", path.display()));
                }
                Err(_) => std::thread::sleep(POLL),
            }
            alive()?;
        };
        stream.set_read_timeout(Some(ANSWER_LIMIT)).context("limiting the wait for QEMU")?;
        let mut reader = BufReader::new(stream.try_clone().context("cloning the control socket")?);
        let mut greeting = String::new();
        reader.read_line(&mut greeting).context("reading QEMU's greeting")?;
        if greeting.is_empty() {
            alive()?;
            bail!("QEMU closed its control socket");
        }
        let mut control = Self { qmp: Qmp::new(Stream::new(reader, stream)) };
        control.execute(&qmp::qmp_capabilities { enable: None })?;
        Ok(control)
    }

    /// Halts the processors and flushes the disks.
    pub fn stop(&mut self) -> Result<()> {
        self.execute(&qmp::stop {}).map(drop)
    }

    /// Lets the processors run.
    pub fn resume(&mut self) -> Result<()> {
        self.execute(&qmp::cont {}).map(drop)
    }

    /// Ends QEMU. The connection may close before the answer, which is as good.
    pub fn quit(&mut self) {
        drop(self.execute(&qmp::quit {}));
    }

    /// Presses the power button.
    pub fn power_down(&mut self) -> Result<()> {
        self.execute(&qmp::system_powerdown {}).map(drop)
    }

    /// Writes the screen to a PNM file.
    pub fn screendump(&mut self, file: &Path) -> Result<()> {
        let filename = file.display().to_string();
        self.execute(&qmp::screendump { device: None, format: None, head: None, filename }).map(drop)
    }

    /// Whether the guest's processors run.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.execute(&qmp::query_status {})?.running)
    }

    /// The host port that a guest's port is reachable at, for each forwarded one: (guest, host).
    pub fn forwards(&mut self) -> Result<Vec<(u16, u16)>> {
        let command = qmp::human_monitor_command { cpu_index: None, command_line: "info usernet".to_owned() };
        Ok(parse_usernet(&self.execute(&command)?))
    }

    /// Saves everything but the shared memory into a file and waits until that is done.
    pub(super) fn save_state(&mut self, file: &Path) -> Result<()> {
        self.leave_memory_out()?;
        let uri = Some(format!("file:{}", file.display()));
        self.execute(&qmp::migrate { channels: None, detach: None, resume: None, uri })?;
        self.migrated()
    }

    /// Loads a state that [`Control::save_state`] saved; the guest runs on when it is done.
    pub(super) fn load_state(&mut self, file: &Path) -> Result<()> {
        self.leave_memory_out()?;
        let uri = Some(format!("file:{}", file.display()));
        self.execute(&qmp::migrate_incoming { channels: None, exit_on_error: Some(false), uri })?;
        self.migrated()
    }

    fn leave_memory_out(&mut self) -> Result<()> {
        let capability = qmp::MigrationCapability::x_ignore_shared;
        let capabilities = vec![qmp::MigrationCapabilityStatus { capability, state: true }];
        self.execute(&qmp::migrate_set_capabilities { capabilities }).map(drop)
    }

    fn migrated(&mut self) -> Result<()> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            let info = self.execute(&qmp::query_migrate {})?;
            match info.status {
                Some(qmp::MigrationStatus::completed) => return Ok(()),
                Some(qmp::MigrationStatus::failed | qmp::MigrationStatus::cancelled) => {
                    bail!("QEMU could not move the machine's state: {}", info.error_desc.unwrap_or_default())
                }
                _ if Instant::now() > deadline => {
                    bail!("QEMU did not move the machine's state in {} s", ANSWER_LIMIT.as_secs())
                }
                _ => std::thread::sleep(POLL),
            }
        }
    }

    fn execute<C: qmp::QmpCommand>(&mut self, command: &C) -> Result<C::Ok> {
        self.qmp.execute(command).map_err(|error| anyhow!("QEMU refused {}: {error}", C::NAME))
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

/// Reads `info usernet`: `TCP[HOST_FORWARD]  3  127.0.0.1 46665  10.0.2.15  22  0  0`.
fn parse_usernet(text: &str) -> Vec<(u16, u16)> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.trim().strip_prefix("TCP[HOST_FORWARD]")?.split_whitespace().skip(2);
            let host = words.next()?.parse().ok()?;
            let guest = words.nth(1)?.parse().ok()?;
            Some((guest, host))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::parse_usernet;

    #[test]
    fn ports_that_the_kernel_chose_are_found() {
        let text = "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  TCP[HOST_FORWARD]   3       127.0.0.1 46665       10.0.2.15    22     0     0\r\n  TCP[ESTABLISHED]   9       127.0.0.1 1       10.0.2.15    22     0     0\r\n";
        assert_eq!(parse_usernet(text), [(22, 46665)]);
    }
}
