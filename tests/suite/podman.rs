//! podman with a storage of its own, so that tests see nothing of the machine's images and leave nothing there.

use std::fs;
use std::path::{Path, PathBuf};

use nosa::host::{Cmd, environment};

use crate::fixture::{said, skip};

/// Limits that podman need not raise: a machine's root may lack the right to.
const LIMITS: &[&str] = &["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"];

/// podman over a directory.
pub(crate) struct Podman {
    place: tempfile::TempDir,
}

impl Podman {
    /// Makes one in `parent`, or says why there is none.
    pub(crate) fn new(parent: &Path) -> Option<Self> {
        if Cmd::program("podman").arg("--version").run().is_err() {
            skip("podman is not installed");
            return None;
        }
        let place = tempfile::Builder::new().prefix("nosa-podman-").tempdir_in(parent).unwrap();
        let dir = place.path().display();
        let storage = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = \"{dir}/store\"\nrunroot = \"{dir}/run\"\n"
        );
        fs::write(place.path().join("storage.conf"), storage).unwrap();
        // crun, which is the usual one, knows no machine with both versions of cgroups.
        let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
        let engine = if hybrid { "[engine]\nruntime = \"runc\"\n" } else { "" };
        fs::write(place.path().join("containers.conf"), engine).unwrap();
        Some(Self { place })
    }

    /// A directory that goes with it.
    pub(crate) fn dir(&self) -> PathBuf {
        self.place.path().to_owned()
    }

    /// The call, with this storage for whatever podman it starts.
    pub(crate) fn over(&self, call: Cmd) -> Cmd {
        let file = |name: &str| self.place.path().join(name).into_os_string();
        let call = call
            .env("CONTAINERS_STORAGE_CONF", file("storage.conf"))
            .env("CONTAINERS_CONF", file("containers.conf"));
        environment::vars_with_prefix("BUILDAH_").fold(call, |call, (name, value)| call.env(name, value))
    }

    /// Runs podman, which must succeed, and returns what it prints.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (code, said) = said(self.over(Cmd::program("podman").args(args)));
        assert_eq!(code, 0, "podman {args:?}:\n{said}");
        said
    }

    /// What a command prints in a container of the image.
    pub(crate) fn run(&self, image: &str, command: &[&str]) -> String {
        let mut args = vec!["run", "--rm"];
        args.extend(LIMITS);
        args.push(image);
        args.extend(command);
        self.ok(&args)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        // podman keeps its storage mounted on itself, and what a killed build had mounted.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = self.place.path().display().to_string();
        let below =
            mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(|at| at.starts_with(&own));
        let mut below: Vec<&str> = below.collect();
        below.sort_unstable();
        for mount in below.into_iter().rev() {
            drop(Cmd::program("umount").args(["-l", mount]).run());
        }
    }
}
