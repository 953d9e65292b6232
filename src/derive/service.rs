//! The socket of podman or docker. Where none answers and podman is installed, podman serves one for nosa alone
//! and ends with it: so it is on a CI machine without daemons.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::{Child, Cmd, environment, fs, tool};

/// How long podman may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longer paths are no addresses of sockets.
const LONGEST_ADDRESS: usize = 100;

/// A socket that answers, and the podman behind it if it is nosa's.
#[derive(Debug)]
pub(super) struct Service {
    /// Where it is.
    pub(super) socket: PathBuf,
    _podman: Option<(Child, tempfile::TempDir)>,
}

impl Service {
    /// Finds one that answers, or starts one whose output goes to `log`.
    pub(super) fn find(log: &Path) -> Result<Self> {
        for name in ["CONTAINER_HOST", "DOCKER_HOST"] {
            if let Some(address) = environment::var(name) {
                return named(name, &address).map(Self::of);
            }
        }
        let user = environment::var("XDG_RUNTIME_DIR").map(|dir| format!("{dir}/podman/podman.sock"));
        let usual = ["/run/podman/podman.sock", "/var/run/docker.sock"].map(str::to_owned);
        let candidates = user.into_iter().chain(usual).map(PathBuf::from);
        match candidates.into_iter().find(|path| UnixStream::connect(path).is_ok()) {
            Some(socket) => Ok(Self::of(socket)),
            None => Self::start(log),
        }
    }

    const fn of(socket: PathBuf) -> Self {
        Self { socket, _podman: None }
    }

    fn start(log: &Path) -> Result<Self> {
        if let Some(problem) = tool::PODMAN.look().problem {
            let cause = format!("no podman or docker answers on a socket, and {problem}");
            let cure =
                "install podman (apt-get install podman), or let CONTAINER_HOST=unix://PATH name a socket";
            return Err(Failure::new(Kind::Tool, cause, cure).into());
        }
        let runtime = environment::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let short = |dir: &PathBuf| dir.is_dir() && dir.as_os_str().len() < LONGEST_ADDRESS / 2;
        let place = runtime.filter(short).unwrap_or_else(|| PathBuf::from("/tmp"));
        let dir = tempfile::Builder::new()
            .prefix("nosa-podman-")
            .tempdir_in(&place)
            .with_context(|| format!("creating a directory in {}", place.display()))?;
        let socket = dir.path().join("podman.sock");
        // The user's own podman, with whatever the environment says of its storage and isolation.
        let mut podman = Cmd::new(&tool::PODMAN)
            .args(["system", "service", "--time=0"])
            .arg(format!("unix://{}", socket.display()))
            .inherit_environment()
            .log(log)
            .spawn()?;
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            if podman.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                let said = fs::read_to_string(log).unwrap_or_default();
                let last = said.lines().last().unwrap_or_default().to_owned();
                let cause = format!("podman does not serve its socket: {last}");
                return Err(Failure::new(Kind::Tool, cause, "does `podman info` work?").into());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(Self { socket, _podman: Some((podman, dir)) })
    }
}

/// The socket that a variable names.
fn named(name: &str, address: &str) -> Result<PathBuf> {
    let Some(path) = address.strip_prefix("unix://") else {
        let cause = format!("{name}={address} is no socket of this machine");
        return Err(
            Failure::new(Kind::Usage, cause, "nosa speaks to unix://PATH only: a base is too large").into()
        );
    };
    let path = PathBuf::from(path);
    match UnixStream::connect(&path) {
        Ok(_) => Ok(path),
        Err(error) => {
            let cause = format!("{name}={address}: nothing answers there: {error}");
            let cure = format!("start it (systemctl --user start podman.socket), or unset {name}");
            Err(Failure::new(Kind::Tool, cause, cure).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_socket_answers_or_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = format!("unix://{}", path.display());
        let error = named("DOCKER_HOST", &address).unwrap_err().to_string();
        assert!(error.contains("nothing answers there"), "{error}");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(named("DOCKER_HOST", &address).unwrap(), path);
        drop(listener);
        let error = named("DOCKER_HOST", "tcp://h:2375").unwrap_err().to_string();
        assert!(error.contains("no socket of this machine"), "{error}");
    }
}
