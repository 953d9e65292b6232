//! What every backend's answer is held against: the lock, and the digests of the files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::backend::{RemovedFiles, Request};
use super::model::{OVERRIDES, Package};
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::{Reporter, Unit, sha256_file};

/// Compares each file's digest with the one its signed index has. A damaged one is removed if it is in
/// `downloads`, and nowhere else: a repository on this machine may be the user's only copy.
pub(super) fn verify(
    packages: &[Package],
    files: &[PathBuf],
    downloads: &Path,
    report: &Reporter,
) -> Result<()> {
    use rayon::prelude::*;
    let total = packages.iter().map(|package| package.size).sum();
    let progress = report.progress("verifying packages", total, Unit::Bytes);
    packages.par_iter().zip(files).try_for_each(|(package, file)| {
        let found = sha256_file(file)?;
        progress.add(package.size);
        if found == package.sha256 {
            return Ok(());
        }
        let cure = if file.starts_with(downloads) {
            fs::remove_file_if_exists(file)?;
            "the damaged file was removed: run it again; if it comes back, the mirror serves a wrong file".to_owned()
        } else {
            format!("{} is not what its index says: make the index anew (createrepo_c, apt-ftparchive), then `nosa fetch`", file.display())
        };
        let cause = format!(
            "package {} {} from repository {} has SHA-256 {found}, but {} was expected",
            package.name, package.evr, package.repo, package.sha256
        );
        Err(Failure::new(Kind::Repository, cause, cure).into())
    })
}

/// Holds the resolved set against the lock.
pub(super) fn check_lock(request: &Request, packages: &[Package]) -> Result<()> {
    let found: BTreeMap<&str, &Package> =
        packages.iter().map(|package| (package.name.as_str(), package)).collect();
    for locked in &request.locked {
        let Some(package) = found.get(locked.name.as_str()) else { continue };
        if package.repo == OVERRIDES {
            continue;
        }
        let evr = package.evr.to_string();
        if evr != locked.evr || locked.arch.as_ref().is_some_and(|arch| *arch != package.arch) {
            let with_arch =
                |arch: &str| if locked.arch.is_some() { format!(".{arch}") } else { String::new() };
            return Err(Failure::new(
                Kind::Lock,
                format!(
                    "{}: {} is locked at {}{}, but the repositories have {evr}{}",
                    locked.origin,
                    locked.name,
                    locked.evr,
                    with_arch(locked.arch.as_deref().unwrap_or_default()),
                    with_arch(&package.arch)
                ),
                "run `nosa fetch --update-lockfile` to take what they have, or use a mirror that still has the locked one",
            )
            .into());
        }
        if let Some(digest) = locked.sha256.filter(|digest| *digest != package.sha256) {
            return Err(Failure::new(
                Kind::Lock,
                format!(
                    "{}: {} {evr} is locked with digest sha256:{digest}, but the repository {} has sha256:{}",
                    locked.origin, locked.name, package.repo, package.sha256
                ),
                "find out who changed the lock or the package; `nosa fetch --update-lockfile` writes the lock anew",
            )
            .into());
        }
    }
    if request.strict {
        let locked: BTreeSet<&str> = request.locked.iter().map(|locked| locked.name.as_str()).collect();
        let loose: Vec<&str> = packages
            .iter()
            .filter(|package| package.repo != OVERRIDES)
            .map(|package| package.name.as_str())
            .filter(|name| !locked.contains(name))
            .collect();
        if !loose.is_empty() {
            return Err(Failure::new(
                Kind::Lock,
                format!("--strict: not in the lockfile: {}", loose.join(", ")),
                "run `nosa fetch --update-lockfile`, or build without --strict",
            )
            .into());
        }
    }
    Ok(())
}

/// Removes files of packages from an installed tree; `owners` says whose each path is.
pub(super) fn remove_files(
    tree: &Path,
    removed: &[RemovedFiles],
    owners: &BTreeMap<String, String>,
) -> Result<()> {
    if removed.is_empty() {
        return Ok(());
    }
    for (path, package) in owners {
        let gone = removed.iter().any(|remove| {
            remove.package.is_match(package) && remove.patterns.iter().any(|pattern| pattern.is_match(path))
        });
        if !gone {
            continue;
        }
        let Ok(place) = fs::inside(tree, Path::new(path)) else { continue };
        match std::fs::symlink_metadata(&place) {
            Ok(meta) if !meta.is_dir() => fs::remove_file_if_exists(&place)?,
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Locked;
    use crate::pipeline::Digest;

    fn lock(name: &str, evr: &str, digest: Option<&str>) -> Request {
        let sha256 = digest.map(Digest::of);
        let locked =
            Locked { name: name.into(), evr: evr.into(), arch: None, sha256, origin: "lock.json".into() };
        Request { locked: vec![locked], ..Request::default() }
    }

    #[test]
    fn a_lock_is_held_to_version_and_digest() {
        let packages = [Package::sample("jq", "2")];
        assert!(check_lock(&lock("jq", "1:2", Some("2")), &packages).is_ok());
        let error = check_lock(&lock("jq", "1:1", None), &packages).unwrap_err().to_string();
        assert_eq!(error, "lock.json: jq is locked at 1:1, but the repositories have 1:2");
        let error = check_lock(&lock("jq", "1:2", Some("3")), &packages).unwrap_err().to_string();
        assert!(error.starts_with("lock.json: jq 1:2 is locked with digest sha256:"), "{error}");
    }

    #[test]
    fn strict_refuses_what_is_not_locked() {
        let request = Request { strict: true, ..lock("jq", "1:2", None) };
        let error = check_lock(&request, &[Package::sample("jq", "2"), Package::sample("vim", "1")])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "--strict: not in the lockfile: vim");
    }
}
