//! A whole RPM system by dnf: from a repository that `NOSA_TEST_RPM_REPO` names (a directory with
//! repodata; `.ci/rpm-repo` makes one) to a machine booted under UEFI.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nosa::host::{Cmd, environment};

use crate::fixture::{EPOCH, artifact, latest, nosa, refused, said};

const MANIFEST: &str = include_str!("../rpm/manifest.yaml");

/// The repository, or a word on why the test does not run: this one alone may be missing in CI, for what
/// makes it is no part of the project.
fn repository() -> Option<PathBuf> {
    let dir = environment::var("NOSA_TEST_RPM_REPO").map(PathBuf::from);
    if dir.is_none() {
        let why = environment::var("NOSA_TEST_RPM_WHY")
            .unwrap_or_else(|| "NOSA_TEST_RPM_REPO names none".to_owned());
        std::io::stderr().write_all(format!("SKIPPED: no RPM repository: {why}\n").as_bytes()).unwrap();
    }
    dir
}

/// A workdir with debian-container's overlays and image configuration, and RPM packages.
struct System {
    dir: PathBuf,
}

impl System {
    fn new(dir: &Path, repository: &Path) -> Self {
        let this = Self { dir: dir.to_owned() };
        let init = Cmd::program(nosa()).arg("-C").arg(dir).arg("init");
        assert_eq!(said(init).0, 0);
        let config = dir.join("src/config");
        for entry in fs::read_dir(&config).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "sources") {
                fs::remove_file(path).unwrap();
            }
        }
        fs::remove_dir_all(config.join("manifests")).unwrap();
        fs::write(config.join("manifest.yaml"), MANIFEST).unwrap();
        let text = format!("[test]\nname=test\nbaseurl=file://{}\ngpgcheck=0\n", repository.display());
        fs::write(config.join("test.repo"), text).unwrap();
        this
    }

    fn nosa(&self, args: &[&str]) -> Cmd {
        let call = Cmd::program(nosa()).arg("-C").arg(&self.dir).args(args.iter().copied());
        call.env("SOURCE_DATE_EPOCH", EPOCH).env("RUST_BACKTRACE", "0")
    }

    fn ok(&self, args: &[&str]) -> String {
        let (code, said) = said(self.nosa(args));
        assert_eq!(code, 0, "nosa {args:?}:\n{said}");
        said
    }
}

#[test]
fn dnf_composes_a_system_twice_alike_and_it_boots() {
    let Some(repository) = repository() else { return };
    let place =
        tempfile::Builder::new().prefix("nosa-rpm-").tempdir_in(repository.parent().unwrap()).unwrap();
    let system = System::new(&place.path().join("w"), &repository);
    system.ok(&["fetch", "--update-lockfile"]);
    system.ok(&["fetch", "--strict"]);
    system.ok(&["build", "--strict"]);
    assert!(system.ok(&["build"]).contains("no changes since build"));
    let (build, meta) = latest(&system.dir);
    let lock =
        fs::read_to_string(build.join(format!("manifest-lock.generated.{}.json", environment::basearch())))
            .unwrap();
    let lock: serde_json::Value = serde_json::from_str(&lock).unwrap();
    let packages = lock["packages"].as_object().unwrap().len();

    // Elsewhere, with nothing in the cache and no lock.
    let other = System::new(&place.path().join("another place"), &repository);
    other.ok(&["build"]);
    assert_eq!(latest(&other.dir).1["ostree-commit"], meta["ostree-commit"]);
    let digest = |system: &System| nosa::pipeline::sha256_file(&artifact(&system.dir, "qemu")).unwrap();
    assert_eq!(digest(&other), digest(&system));
    fs::remove_dir_all(&other.dir).unwrap();

    // A lock that the repository cannot keep.
    let path = system.dir.join(format!("src/config/manifest-lock.{}.json", environment::basearch()));
    let kept = fs::read_to_string(&path).unwrap();
    let mut gone: serde_json::Value = serde_json::from_str(&kept).unwrap();
    gone["packages"]["jq"] = serde_json::json!({"evra": "0.1-1.x86_64"});
    fs::write(&path, gone.to_string()).unwrap();
    refused(
        system.nosa(&["build"]),
        6,
        &["jq is locked at 0.1-1.x86_64, but the repositories have", "--update-lockfile"],
    );
    fs::write(&path, kept).unwrap();

    boot(&system, packages);
}

/// Boots under UEFI with an Ignition configuration, and asks the machine.
fn boot(system: &System, packages: usize) {
    let ignition = serde_json::json!({
        "ignition": {"version": "3.3.0"},
        "storage": {"files": [{"path": "/etc/from-ignition", "contents": {"source": "data:,once"}}]},
    });
    let file = system.dir.join("tmp/config.ign");
    fs::write(&file, ignition.to_string()).unwrap();
    let ask = "echo packages=$(rpm -qa | wc -l); echo owner=$(rpm -qf --qf '%{NAME}' /usr/bin/bash); \
               echo ignition=$(cat /etc/from-ignition); echo failed=$(systemctl --failed --no-legend | wc -l); \
               echo usr=$(findmnt -no OPTIONS /usr | cut -d, -f1); test -d /sys/firmware/efi && echo uefi; \
               echo state=$(systemctl is-system-running --wait)";
    let text =
        system.ok(&["run", "--qemu-firmware", "uefi", "--ignition", file.to_str().unwrap(), "--ssh", ask]);
    let packages = format!("packages={packages}");
    for line in
        [packages.as_str(), "owner=bash", "ignition=once", "failed=0", "usr=ro", "uefi", "state=running"]
    {
        assert!(text.lines().any(|said| said.trim() == line), "{line:?} is missing in:\n{text}");
    }
}
