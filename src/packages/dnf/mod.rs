//! The dnf backend: dnf's Python API resolves, verifies and downloads with a configuration of nosa's own;
//! rpm installs. Nothing of the host's dnf or rpm configuration is read.
//!
//! ```text
//! <state>/<digest of the repositories>/     repos.d, cache (metadata), root and home (keys), snapshot.json
//! <downloads>/rpms/<name>-<evr>.<arch>.rpm  shared by all workdirs
//! ```

mod config;
mod failure;
mod install;
mod installed;
mod rpmdb;
mod session;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::json;

pub use config::{Dnf, YumRepository};
pub use installed::{RPM_DATABASE, RPM_WRITTEN_LAST, installed};

use super::backend::{InstallRequest, PackageBackend, Request};
use super::held::{check_lock, verify};
use super::model::{Evr, LocalPackage, OVERRIDES, Package};
use super::snapshot::Snapshot;
use crate::host::{FileLock, Tool, tool};
use crate::pipeline::{Digest, Reporter, Unit};

/// A repository's answer to `snapshot`.
#[derive(Deserialize)]
struct Index {
    id: String,
    digest: Digest,
    repomd: String,
}

/// A package as `resolve` describes it; a local file has neither size nor digest there.
#[derive(Deserialize)]
struct Found {
    name: String,
    epoch: u32,
    version: String,
    release: String,
    arch: String,
    source: String,
    repo: String,
    location: String,
    size: Option<u64>,
    sha256: Option<Digest>,
}

impl PackageBackend for Dnf {
    fn name(&self) -> &'static str {
        "dnf"
    }

    fn generation(&self) -> u32 {
        // 2: what alternatives remembers is in /usr.
        2
    }

    fn identity(&self) -> Digest {
        Digest::of(format!("{} {} {:?}", self.basearch, self.releasever, self.repositories))
    }

    fn overrides(&self) -> &[LocalPackage] {
        &self.overrides
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[&tool::DNF, &tool::RPM, &tool::SQLITE3, &tool::BWRAP]
    }

    fn refresh(&self, report: &Reporter) -> Result<Snapshot> {
        let _lock = self.lock()?;
        self.write_config()?;
        Snapshot::forget(&self.dir)?;
        let progress = report.progress("asking the package repositories", 0, Unit::Items);
        let indexes: Vec<Index> = self.ask("snapshot", json!({}), |_| {})?;
        drop(progress);
        let identity: String =
            indexes.iter().map(|index| format!("{} {}\n", index.id, index.digest)).collect();
        let date = indexes.iter().map(|index| newest(&index.repomd)).max().unwrap_or(0);
        let snapshot = Snapshot { digest: Digest::of(identity), date };
        snapshot.remember(&self.dir)?;
        Ok(snapshot)
    }

    fn snapshot(&self) -> Result<Option<Snapshot>> {
        Snapshot::remembered(&self.dir)
    }

    fn resolve(&self, request: &Request, report: &Reporter) -> Result<Vec<Package>> {
        let _lock = self.lock()?;
        self.write_config()?;
        report.detail(format!("resolving {} packages", request.packages.len()));
        let resolved = self.solve(request, request.strict).or_else(|error| {
            // What strict hides may be what is missing: then that is the thing to say.
            let open = if request.strict { self.solve(request, false) } else { return Err(error) };
            open.and_then(|packages| check_lock(request, &packages).map(|()| packages)).and(Err(error))
        });
        let packages = resolved?;
        check_lock(request, &packages)?;
        Ok(packages)
    }

    fn download(&self, packages: &[Package], report: &Reporter) -> Result<Vec<PathBuf>> {
        let _lock = FileLock::exclusive(&self.downloads.join("nosa.lock"), "nosa fetch")?;
        let remote: Vec<&Package> = packages.iter().filter(|package| package.repo != OVERRIDES).collect();
        let total = remote.iter().map(|package| package.size).sum();
        let progress = report.progress("downloading packages", total, Unit::Bytes);
        let wanted: Vec<_> = remote
            .iter()
            .map(|package| {
                json!({"name": package.name, "evr": package.evr.to_string(), "arch": package.arch,
                       "repo": package.repo})
            })
            .collect();
        let mut files: Vec<PathBuf> = if wanted.is_empty() {
            Vec::new()
        } else {
            let _state = self.lock()?;
            self.write_config()?;
            self.ask("download", json!({"wanted": wanted, "downloads": self.downloads}), |amount| {
                progress.add(amount);
            })?
        };
        drop(progress);
        let mut remote = files.drain(..);
        let files = packages
            .iter()
            .map(|package| match package.repo == OVERRIDES {
                true => self.local(&package.location).map(|local| local.path.clone()),
                false => remote.next(),
            })
            .collect::<Option<Vec<PathBuf>>>()
            .context("dnf left out a package that was asked for")?;
        verify(packages, &files, &self.downloads, report)?;
        Ok(files)
    }

    fn install(&self, request: &InstallRequest) -> Result<()> {
        install::install(request)
    }

    fn owners(&self, tree: &Path) -> Result<BTreeMap<String, String>> {
        rpmdb::owners(tree)
    }
}

impl Dnf {
    fn solve(&self, request: &Request, strict: bool) -> Result<Vec<Package>> {
        let locked: Vec<_> = request
            .locked
            .iter()
            .map(|lock| json!({"name": lock.name, "evr": lock.evr, "arch": lock.arch}))
            .collect();
        let names: Vec<&str> = request.packages.iter().map(|wanted| wanted.name.as_str()).collect();
        let local: Vec<&PathBuf> = self.overrides.iter().map(|local| &local.path).collect();
        let question = json!({
            "packages": names, "exclude": request.exclude, "recommends": request.recommends,
            "locked": locked, "strict": strict, "local": local,
        });
        let found: Vec<Found> =
            self.ask("resolve", question, |_| {}).map_err(|error| failure::explain(error, request))?;
        let mut packages =
            found.into_iter().map(|found| self.package(found)).collect::<Result<Vec<Package>>>()?;
        packages.sort_by(|a, b| (&a.name, &a.arch).cmp(&(&b.name, &b.arch)));
        Ok(packages)
    }

    fn package(&self, found: Found) -> Result<Package> {
        let (location, size, sha256) = if found.repo == OVERRIDES {
            let name = Path::new(&found.location).file_name().unwrap_or_default().to_string_lossy();
            let local = self.local(&name).context("dnf chose a local package that it was not given")?;
            (name.into_owned(), Some(local.size), Some(local.sha256))
        } else {
            (found.location, found.size, found.sha256)
        };
        Ok(Package {
            evr: Evr { epoch: found.epoch, version: found.version, release: found.release },
            size: size.with_context(|| format!("the repository has no size of {}", found.name))?,
            sha256: sha256.with_context(|| format!("the repository has no digest of {}", found.name))?,
            name: found.name,
            arch: found.arch,
            source: found.source,
            repo: found.repo,
            location,
        })
    }

    fn local(&self, name: &str) -> Option<&LocalPackage> {
        self.overrides.iter().find(|local| local.file_name() == name)
    }
}

/// The newest time that a repomd.xml bears: its revision if that is one, or a part's time stamp.
fn newest(repomd: &str) -> u64 {
    let numbers = |tag: &str| {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        repomd
            .split(open.as_str())
            .skip(1)
            .filter_map(|rest| rest.split(close.as_str()).next()?.trim().parse::<u64>().ok())
            .collect::<Vec<u64>>()
    };
    // A revision may be a counter; time stamps of files may be of the day the mirror was made.
    let stamps = numbers("timestamp").into_iter().max();
    let revision = numbers("revision").into_iter().filter(|number| *number > 1_000_000_000).max();
    revision.or(stamps).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_a_repository() {
        let repomd = "<revision>1795121937</revision><data><timestamp>1795121000</timestamp></data>";
        assert_eq!(newest(repomd), 1_795_121_937);
        assert_eq!(newest("<revision>3</revision><timestamp>1795121000</timestamp>"), 1_795_121_000);
        assert_eq!(newest("<repomd/>"), 0);
    }
}
