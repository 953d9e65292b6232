//! Debian's docker-registry on a port of loopback, with its own storage; it ends with its guard.

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nosa::host::{Child, Cmd};

use crate::judge::judge;

/// How long a registry may take to answer for the first time.
const START: Duration = Duration::from_secs(60);

/// A running registry.
pub(crate) struct Registry {
    /// Its host and port, as image references begin: `127.0.0.1:4711`.
    pub(crate) host: String,
    place: tempfile::TempDir,
    child: Child,
}

impl Registry {
    /// Starts one over plain http that lets everybody in; `None` (and a line that says so) when this machine
    /// has none.
    pub(crate) fn start() -> Option<Self> {
        Self::start_with("")
    }

    /// As [`Self::start`], with more of its configuration: top-level keys of YAML, e.g. `auth:`.
    pub(crate) fn start_with(more: &str) -> Option<Self> {
        let program = judge("docker-registry")?;
        let place = tempfile::Builder::new().prefix("nosa-registry-").tempdir().unwrap();
        let begun = Instant::now();
        loop {
            let host = free_address();
            let mut child = serve(&program, place.path(), &host, more);
            while begun.elapsed() < START {
                if TcpStream::connect(&host).is_ok() {
                    return Some(Self { host, place, child });
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            // Another process may have taken the port meanwhile: then once more, with another one.
            let log = fs::read_to_string(place.path().join("log")).unwrap_or_default();
            assert!(log.contains("address already in use") && begun.elapsed() < START, "{log}");
        }
    }

    /// An image's reference as skopeo and nosa take it: `docker://127.0.0.1:4711/NAME`.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://{}/{name}", self.host)
    }

    /// The size of every blob that the registry holds, manifests too, by digest.
    pub(crate) fn blobs(&self) -> BTreeMap<String, u64> {
        let blobs = self.place.path().join("storage/docker/registry/v2/blobs/sha256");
        let mut found = BTreeMap::new();
        for shelf in entries(&blobs) {
            for blob in entries(&shelf) {
                let digest = blob.file_name().unwrap().to_string_lossy().into_owned();
                found.insert(digest, fs::metadata(blob.join("data")).unwrap().len());
            }
        }
        found
    }

    /// What it printed so far: a line for every request.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.place.path().join("log")).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill();
    }
}

fn serve(program: &Cmd, place: &Path, host: &str, more: &str) -> Child {
    let (storage, config) = (place.join("storage"), place.join("config.yml"));
    let text = format!(
        "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
         delete: {{enabled: true}}\nhttp:\n  addr: {host}\n{more}",
        storage.display()
    );
    fs::write(&config, text).unwrap();
    let call = program.clone().arg("serve").arg(config).log(&place.join("log"));
    call.spawn().unwrap()
}

/// An address of loopback that nobody uses now.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path()).collect()
}
