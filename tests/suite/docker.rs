//! docker in podman's place: `nosa derive` upon a daemon of the test's own, which leaves with it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nosa::host::{Child, Cmd, environment};
use nosa::oci::Layout;
use serde_json::Value;

use crate::fixture::{artifact, is_root, nosa, refused, said, shared, skip};

/// How long the daemon may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A docker daemon over a directory.
struct Docker {
    daemon: Child,
    place: tempfile::TempDir,
}

impl Docker {
    /// Starts one in `parent`, or says why there is none.
    fn new(parent: &Path) -> Option<Self> {
        if !is_root() || Cmd::program("dockerd").arg("--version").run().is_err() {
            skip("there is no dockerd, or the test is not root's");
            return None;
        }
        let place = tempfile::Builder::new().prefix("nosa-docker-").tempdir_in(parent).unwrap();
        let file = |name: &str| place.path().join(name);
        let log = file("log");
        let mut daemon = Cmd::program("dockerd")
            .args(["--storage-driver=overlay2", "--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--host")
            .arg(format!("unix://{}", file("socket").display()))
            .arg("--data-root")
            .arg(file("data"))
            .arg("--exec-root")
            .arg(file("exec"))
            .arg("--pidfile")
            .arg(file("pid"))
            .log(&log)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while UnixStream::connect(file("socket")).is_err() {
            let ended = daemon.try_wait().unwrap();
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "dockerd does not serve:\n{}", said());
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(Self { daemon, place })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    /// `nosa derive` over the shared build by this docker.
    fn derive(&self, shared: &Path, args: &[&str]) -> Cmd {
        let socket = format!("unix://{}", self.path("socket").display());
        let call = Cmd::program(nosa()).arg("-C").arg(shared).arg("derive").args(args);
        call.env("DOCKER_HOST", socket).env("HOME", self.place.path().as_os_str())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        // Asked to end, it ends its containerd too, and unmounts.
        drop(Cmd::program("kill").arg(self.daemon.id().to_string()).run());
        let begun = Instant::now();
        while matches!(self.daemon.try_wait(), Ok(None)) && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn docker_builds_upon_an_image_as_podman_does() {
    let Some(shared) = shared() else { return };
    let Some(docker) = Docker::new(shared.parent().unwrap()) else { return };
    let context = docker.path("context");
    fs::create_dir(&context).unwrap();
    let from = "ARG BASE\nFROM ${BASE}\n";
    let text =
        format!("{from}RUN dpkg-query --show bash > /usr/share/word\nENV A=b\nCOPY word /usr/share/copied\n");
    fs::write(context.join("Containerfile"), text).unwrap();
    fs::write(context.join("word"), "copied\n").unwrap();
    let (archive, dir) = (docker.path("derived.ociarchive"), context.to_str().unwrap());
    let args = ["-t", "localhost/derived:1", "-o", archive.to_str().unwrap(), "--fatal-warnings", dir];
    let (code, told) = said(docker.derive(&shared, &args));
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("RUN dpkg-query --show bash") && told.contains("no findings"), "{told}");

    let open = |path: &Path| Layout::open(path).unwrap().image(None, environment::basearch()).unwrap();
    let (base, derived) = (open(&artifact(&shared, "ostree")), open(&archive));
    let own = base.manifest.layers().len();
    assert_eq!(derived.manifest.layers()[..own], base.manifest.layers()[..]);
    assert_eq!(derived.manifest.layers().len(), own + 2);
    let config = derived.config.config().clone().unwrap();
    assert!(config.env().clone().unwrap().contains(&"A=b".to_owned()), "{config:?}");
    // An outside reader has it whole.
    let name = format!("oci-archive:{}", archive.display());
    let inspected = Cmd::program("skopeo").args(["inspect", &name]).output().unwrap().text();
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(inspected["Digest"], format!("sha256:{}", derived.digest));

    // What fails says where.
    fs::write(context.join("Containerfile"), format!("{from}RUN echo two >&2 && exit 3\n")).unwrap();
    refused(docker.derive(&shared, &[dir]), 7, &["RUN echo two", "    two\n", "3"]);
}
