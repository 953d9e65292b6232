//! Setting up the package manager that a configuration's repositories ask for.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::manifest::{Manifest, RepoKind};
use crate::packages::{Apt, Mirrors, PackageBackend, Repository};
use crate::pipeline::Pipeline;

/// The backend for a manifest; `downloads` outlives workdirs.
pub(super) fn backend(
    pipeline: &Pipeline,
    manifest: &Manifest,
    downloads: &Path,
    mirrors: &Mirrors,
) -> Result<Box<dyn PackageBackend>> {
    match manifest.repo_kind {
        Some(RepoKind::Deb) => {}
        Some(RepoKind::Rpm) => {
            return Err(Failure::new(
                Kind::Config,
                "this configuration's repositories are RPM (*.repo), which this nosa cannot install yet",
                "use a configuration with deb822 *.sources files",
            )
            .into());
        }
        None => {
            return Err(Failure::new(
                Kind::Config,
                format!("{}: no repository is defined", manifest.dir.display()),
                "add a deb822 *.sources file beside manifest.yaml",
            )
            .into());
        }
    }
    let only = |id: &str| {
        manifest.repo_packages.iter().any(|packages| packages.repo == id)
            && !manifest.repos.iter().any(|repo| repo == id)
    };
    let mut repositories = Vec::new();
    for file in &manifest.repo_files {
        for id in &file.ids {
            if manifest.repos.contains(id) || manifest.lockfile_repos.contains(id) || only(id) {
                let text = fs::read_to_string(&file.path)?;
                repositories.push(Repository::new(id, &file.path, text, only(id))?);
            }
        }
    }
    let repo_packages = manifest
        .repo_packages
        .iter()
        .map(|packages| (packages.repo.clone(), packages.packages.clone()))
        .collect();
    let apt = Apt::new(
        &pipeline.cache().shared("apt").context("preparing apt's state")?,
        downloads,
        &pipeline.log("apt"),
        &manifest.basearch,
        repositories,
        repo_packages,
        Mirrors::of_host(mirrors.clone()),
    )?;
    Ok(Box::new(apt))
}
