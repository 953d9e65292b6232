//! A whole RPM system by dnf: from a repository that `NOSA_TEST_RPM_REPO` names (a directory with
//! repodata; `.ci/rpm-repo` makes one) to a machine booted under UEFI, and to systems derived from it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nosa::host::{Cmd, environment};

use crate::fixture::{EPOCH, artifact, latest, nosa, refused, said};
use crate::podman::Podman;

/// Another system: one package by rpm, and one by dnf, which leaves nothing.
const CONTAINERFILE: &str = "ARG BASE
FROM ${BASE}
COPY --chmod=0644 own.rpm repo /usr/share/test/
RUN rpm --upgrade /usr/share/test/own.rpm && own
RUN mkdir -p /etc/yum.repos.d \\
 && printf '[test]\\nname=test\\nbaseurl=file:///usr/share/test\\ngpgcheck=0\\n' > /etc/yum.repos.d/test.repo \\
 && dnf --assumeyes install tree && tree --version \\
 && dnf --assumeyes remove jq \\
 && rm -r /usr/share/test /etc/yum.repos.d/test.repo \\
 && find /var/cache/dnf /var/lib/dnf /var/log -type f -delete
";

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
    derive(&system, &repository, packages);
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

/// rpm and dnf work in a Containerfile; what they did is in the image's database and in a build made of it.
fn derive(system: &System, repository: &Path, packages: usize) {
    let Some(podman) = Podman::new(repository.parent().unwrap()) else { return };
    let context = podman.dir().join("context");
    fs::create_dir_all(context.join("repo")).unwrap();
    fs::write(context.join("Containerfile"), CONTAINERFILE).unwrap();
    let program = rpm::FileOptions::new("/usr/bin/own").permissions(0o755);
    let mut own = rpm::PackageBuilder::new("own", "1.0", "MIT", "noarch", "a test");
    own.release("1").using_config(rpm::BuildConfig::v4().compression(rpm::CompressionType::Gzip));
    own.with_file_contents("#!/bin/sh\necho own\n", program).unwrap();
    own.build().unwrap().write_file(context.join("own.rpm")).unwrap();
    let tree = fs::read_dir(repository.join("Packages/t")).unwrap().map(|entry| entry.unwrap().path());
    let tree = tree.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("tree-"));
    for file in tree {
        fs::copy(&file, context.join("repo").join(file.file_name().unwrap())).unwrap();
    }
    Cmd::program("createrepo_c").args(["--quiet", "--no-database"]).arg(context.join("repo")).run().unwrap();

    let (base, _) = latest(&system.dir);
    let archive = podman.dir().join("derived.ociarchive");
    let (tag, out, context) = ("localhost/rpm:1", archive.to_str().unwrap(), context.to_str().unwrap());
    // Without findings: what rpm leaves beside its database is none.
    let call = system.nosa(&["derive", "-t", tag, "-o", out, "--fatal-warnings", context]);
    let (code, told) = said(podman.over(call));
    assert_eq!(code, 0, "{told}");
    let listed = podman.run(tag, &["rpm", "--query", "--all", "--queryformat", "%{NAME}\\n"]);
    let has = |name: &str| listed.lines().any(|line| line == name);
    assert!(has("own") && has("tree") && has("bash") && !has("jq"), "{listed}");

    system.ok(&["import", "--version", "derived.1", &format!("oci-archive:{out}")]);
    let (derived, _) = latest(&system.dir);
    let id = |dir: &Path| dir.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
    let diff = system.nosa(&["--json", "--quiet", "diff", "--from", &id(&base), "--to", &id(&derived)]);
    let diff: serde_json::Value = serde_json::from_str(&diff.output().unwrap().text()).unwrap();
    let changes = diff["packages"]["changes"].as_array().unwrap().iter();
    let changes: Vec<_> =
        changes.map(|change| (change["name"].as_str(), change["change"].as_str())).collect();
    assert_eq!(
        changes,
        [(Some("jq"), Some("removed")), (Some("own"), Some("added")), (Some("tree"), Some("added"))]
    );
    let meta = fs::read_to_string(derived.join("commitmeta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta["rpmostree.rpmdb.pkglist"].as_array().unwrap().len(), packages + 1);
}
