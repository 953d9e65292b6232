//! What a developer puts into the workdir's `overrides/` to try it: packages that beat the repositories'
//! and the lock's, and files laid over the tree last. A build with any of it says so.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::manifest::{Manifest, RepoKind};
use crate::packages::{LocalPackage, Locked, OVERRIDES, Package};
use crate::pipeline::{Reporter, sha256_file};
use crate::rootfs::Overlay;

/// The files in a directory of overrides, but for what keeps it in git and what createrepo_c left there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths = fs::read_dir_sorted(dir)?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name != "repodata" && !name.starts_with(".git")
    });
    Ok(paths)
}

/// What there is in a workdir's directory of overrides.
#[must_use]
pub fn overrides_in(dir: &Path) -> Vec<PathBuf> {
    ["rpm", "deb", "rootfs"].iter().filter_map(|name| entries(&dir.join(name)).ok()).flatten().collect()
}

/// The overrides of a workdir.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// `overrides/rpm` or `overrides/deb`.
    pub(super) packages: Vec<LocalPackage>,
    /// `overrides/rootfs`.
    pub(super) rootfs: Option<Overlay>,
}

impl Overrides {
    /// Reads a directory of overrides.
    pub(super) fn find(manifest: &Manifest, dir: Option<&Path>) -> Result<Self> {
        let Some(dir) = dir else { return Ok(Self::default()) };
        let (own, other) = match manifest.repo_kind {
            Some(RepoKind::Rpm) => ("rpm", "deb"),
            _ => ("deb", "rpm"),
        };
        let is_own = |path: &Path| path.extension().is_some_and(|ending| ending == own);
        let mut packages = Vec::new();
        for path in entries(&dir.join(other))?.into_iter().chain(entries(&dir.join(own))?) {
            if !is_own(&path) || !path.is_file() {
                let cause = format!(
                    "{} is no {own} package, and this configuration is made of those",
                    path.display()
                );
                let cure = format!("put *.{own} files into {}, and nothing else", dir.join(own).display());
                return Err(Failure::new(Kind::Config, cause, cure).into());
            }
            let size = std::fs::metadata(&path).with_context(|| format!("reading {}", path.display()))?.len();
            packages.push(LocalPackage { sha256: sha256_file(&path)?, size, path });
        }
        let files = !entries(&dir.join("rootfs"))?.is_empty();
        let rootfs = files.then(|| Overlay::of_overrides(&dir.join("rootfs"))).transpose()?;
        Ok(Self { packages, rootfs })
    }

    /// Whether there are any.
    pub(super) const fn any(&self) -> bool {
        !self.packages.is_empty() || self.rootfs.is_some()
    }

    /// Says what stands in for what the configuration gives.
    pub(super) fn tell(&self, report: &Reporter) {
        if !self.any() {
            return;
        }
        let mut what: Vec<String> = self.packages.iter().map(LocalPackage::file_name).collect();
        if let Some(rootfs) = &self.rootfs {
            what.push(format!("{} files in {}", rootfs.files(), rootfs.name));
        }
        report.warn(format!(
            "OVERRIDES are active, and the build is not what its configuration says: {}",
            what.join(", ")
        ));
    }

    /// Says which packages beat the lock, and which nobody wants.
    pub(super) fn compare(&self, packages: &[Package], locked: &[Locked], report: &Reporter) {
        for package in packages.iter().filter(|package| package.repo == OVERRIDES) {
            if let Some(lock) = locked.iter().find(|lock| lock.name == package.name) {
                report.warn(format!(
                    "override {} stands in for {} {}, which {} locks",
                    package.location, lock.name, lock.evr, lock.origin
                ));
            }
        }
        for local in &self.packages {
            let used = |package: &Package| {
                package.repo == OVERRIDES && package.location.trim_start_matches("./") == local.file_name()
            };
            if !packages.iter().any(used) {
                report.warn(format!(
                    "override {} is not used: no package asks for it; add its name to `packages`",
                    local.file_name()
                ));
            }
        }
    }
}
