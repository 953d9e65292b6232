//! Talking to a machine through OpenSSH's client. One authenticated connection per machine carries all
//! commands: a handshake costs an emulated guest seconds.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::{Child, Cmd, Finished, fs, tool};

/// How long is waited between two attempts to connect.
const RETRY: Duration = Duration::from_millis(300);

/// A key pair made for one run.
#[derive(Debug, Clone)]
pub struct KeyPair {
    /// The private key's file.
    pub private: PathBuf,
    /// The public key as `authorized_keys` has it.
    pub public: String,
}

/// A way to run commands on one machine.
#[derive(Debug)]
pub struct Ssh {
    port: u16,
    user: String,
    key: PathBuf,
    socket: PathBuf,
    master: Option<Child>,
}

impl KeyPair {
    /// Makes a key pair in `dir`.
    pub fn generate(dir: &Path) -> Result<Self> {
        let private = dir.join("id_ed25519");
        fs::remove_file_if_exists(&private)?;
        Cmd::new(&tool::SSH_KEYGEN)
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "nosa", "-f"])
            .arg(&private)
            .run()
            .context("making an SSH key")?;
        let public = fs::read_to_string(&private.with_extension("pub"))?.trim().to_owned();
        Ok(Self { private, public })
    }
}

impl Ssh {
    /// A way to `user` at a port of 127.0.0.1; `scratch` takes the connection's socket.
    #[must_use]
    pub fn new(port: u16, user: &str, key: &Path, scratch: &Path) -> Self {
        let socket = scratch.join("ssh");
        Self { port, user: user.to_owned(), key: key.to_owned(), socket, master: None }
    }

    /// Connects, trying again until `limit` is over; `alive` ends the wait with an error.
    pub fn connect(&mut self, limit: Duration, mut alive: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + limit;
        let mut patience = 3;
        loop {
            self.disconnect()?;
            let timeout = format!("ConnectTimeout={patience}");
            // A guest that does not listen yet never answers, and one under load answers late.
            patience = (patience + 2).min(30);
            let master = self.client().args(["-M", "-N", "-o", &timeout]).arg(self.target()).spawn()?;
            let master = self.master.insert(master);
            while master.try_wait()?.is_none() {
                if self.socket.exists() {
                    return Ok(());
                }
                alive()?;
                if Instant::now() > deadline {
                    return Err(no_answer(limit));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            if Instant::now() > deadline {
                return Err(no_answer(limit));
            }
            alive()?;
            std::thread::sleep(RETRY);
        }
    }

    /// Whether the connection still stands.
    pub fn is_connected(&mut self) -> Result<bool> {
        match &mut self.master {
            Some(master) => Ok(master.try_wait()?.is_none() && self.socket.exists()),
            None => Ok(false),
        }
    }

    /// Closes the connection.
    pub fn disconnect(&mut self) -> Result<()> {
        self.master = None;
        fs::remove_file_if_exists(&self.socket)
    }

    /// Runs a command line on the machine, with `stdin`; `go_on` may end it early.
    pub fn run_with(
        &self,
        command: &str,
        stdin: Vec<u8>,
        limit: Duration,
        go_on: impl FnMut() -> bool,
    ) -> Result<Finished> {
        self.client()
            .args(["-o", "ControlMaster=no"])
            .arg(self.target())
            .arg(command)
            .stdin(stdin)
            .finish(limit, go_on)
    }

    /// Runs a command line on the machine.
    pub fn run(&self, command: &str, limit: Duration) -> Result<Finished> {
        self.run_with(command, Vec::new(), limit, || true)
    }

    /// Unpacks a tar archive at the machine's root.
    pub fn unpack(&self, archive: Vec<u8>, limit: Duration) -> Result<()> {
        let done = self.run_with("sudo tar -x -p --same-owner -C /", archive, limit, || true)?;
        if done.success() {
            return Ok(());
        }
        anyhow::bail!("uploading to the machine ended with {:?}: {}", done.ending, done.stderr.trim())
    }

    /// Runs a command line, or a login shell when it is empty, on nosa's own terminal.
    pub fn interactive(&self, command: &[String]) -> Result<ExitStatus> {
        let terminal = if command.is_empty() { "-t" } else { "-T" };
        self.client()
            .args(["-o", "ControlMaster=no", terminal])
            .arg(self.target())
            .args(command)
            .interactive()
    }

    /// What a person types to connect.
    #[must_use]
    pub fn invitation(&self) -> String {
        format!(
            "ssh -p {} -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null {}",
            self.port,
            self.key.display(),
            self.target()
        )
    }

    fn target(&self) -> String {
        format!("{}@127.0.0.1", self.user)
    }

    /// The client with everything pinned that a user's own configuration could change.
    fn client(&self) -> Cmd {
        let mut cmd =
            Cmd::new(&tool::SSH).args(["-F", "none", "-p", &self.port.to_string(), "-i"]).arg(&self.key);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "ForwardAgent=no",
            "ServerAliveInterval=30",
            "ServerAliveCountMax=10",
            "LogLevel=ERROR",
        ] {
            cmd = cmd.args(["-o", option]);
        }
        cmd.arg("-S").arg(&self.socket)
    }
}

fn no_answer(limit: Duration) -> anyhow::Error {
    Failure::new(
        Kind::TestsFailed,
        format!("the machine did not answer by SSH within {} s", limit.as_secs()),
        "read its console.txt",
    )
    .into()
}
