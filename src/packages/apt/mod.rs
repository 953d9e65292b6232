//! The apt backend: the host's apt-get resolves, verifies and downloads with a configuration of nosa's
//! own; the tree's own dpkg configures. Nothing of the host's apt state is read or written, but for the
//! archive mirror it uses, which is the default of `${debian_mirror}`.
//!
//! ```text
//! <state>/<digest of the repositories>/            apt.conf, sources, lists, snapshot.json
//! <downloads>/debs/<name>_<version>_<arch>.deb     shared by all workdirs
//! ```

mod config;
mod configure;
mod failure;
mod index;
mod local;
mod mirror;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use config::{Apt, Repository};
pub use mirror::Mirrors;

use super::backend::{InstallRequest, PackageBackend, Request};
use super::held::{check_lock, verify};
use super::model::{LocalPackage, OVERRIDES, Package};
use super::snapshot::Snapshot;
use crate::failure::{Failure, Kind};
use crate::host::{Cmd, FileLock, Tool, fs, tool};
use crate::pipeline::{Digest, Reporter, Unit};

/// What the indexes of a Debian variant's suites may take, compressed and not.
const LISTS_SPACE: u64 = 256 << 20;

impl PackageBackend for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn identity(&self) -> Digest {
        // As written, without the mirror: two mirrors of one archive give the same answers.
        let repositories: Vec<_> = self
            .repositories
            .iter()
            .map(|repository| (&repository.id, repository.supply, &repository.definition))
            .collect();
        Digest::of(format!("{} {repositories:?} {:?}", self.arch, self.repo_packages))
    }

    fn overrides(&self) -> &[LocalPackage] {
        &self.overrides
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[&tool::APT_GET, &tool::BWRAP]
    }

    fn refresh(&self, report: &Reporter) -> Result<Snapshot> {
        let _lock = self.lock()?;
        self.write_config(&[])?;
        // Those of the last run may lie where the working directory was then.
        self.withdraw_overrides()?;
        self.require_space()?;
        Snapshot::forget(&self.dir)?;
        let progress = report.progress("asking the package repositories", 0, Unit::Items);
        let mut output = Vec::new();
        let result = self.apt_get().args(["update", "--error-on=any"]).run_lines(|line| {
            progress.add(1);
            report.detail(line);
            output.push(line.to_owned());
        });
        drop(progress);
        result.map_err(|error| failure::of_update(&output, &self.repositories, error))?;
        let snapshot = index::snapshot(&self.lists())?;
        snapshot.remember(&self.dir)?;
        Ok(snapshot)
    }

    fn snapshot(&self) -> Result<Option<Snapshot>> {
        Snapshot::remembered(&self.dir)
    }

    fn resolve(&self, request: &Request, report: &Reporter) -> Result<Vec<Package>> {
        let _lock = self.lock()?;
        report.detail(format!("resolving {} packages", request.packages.len()));
        let overrides = self.offer_overrides()?;
        self.write_config(&index::pins(&self.repositories, &self.repo_packages, request, &overrides))?;
        let indexes = index::read(&self.index_files()?)?;
        indexes.check_known(request)?;
        let mut names: BTreeSet<String> = request.packages.iter().map(|wanted| wanted.name.clone()).collect();
        names.extend(indexes.essential());
        // What does not fit together is told on standard output, so both streams are read.
        let mut printed = Vec::new();
        let result = self
            .apt_get()
            .args(["install", "--print-uris", "--yes"])
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}/", self.dir.join("none").display()))
            .arg(if request.recommends { "--install-recommends" } else { "--no-install-recommends" })
            .args(&names)
            .run_lines(|line| printed.push(line.to_owned()));
        result.map_err(|error| failure::of_resolve(request, &printed, error))?;
        let packages = indexes.find(&printed)?;
        check_lock(request, &packages)?;
        Ok(packages)
    }

    fn download(&self, packages: &[Package], report: &Reporter) -> Result<Vec<PathBuf>> {
        let _lock = FileLock::exclusive(&self.archives.join("nosa.lock"), "nosa fetch")?;
        let files: Vec<PathBuf> = packages.iter().map(|package| self.place(package)).collect();
        let missing: Vec<&Package> = packages
            .iter()
            .zip(&files)
            .filter(|(package, _)| package.repo != OVERRIDES)
            .filter(|(package, file)| std::fs::metadata(file).map_or(true, |meta| meta.len() != package.size))
            .map(|(package, _)| package)
            .collect();
        if !missing.is_empty() {
            self.fetch(&missing, report)?;
        }
        verify(packages, &files, &self.archives, report)?;
        Ok(files)
    }

    fn install(&self, request: &InstallRequest) -> Result<()> {
        configure::install(request, &self.arch)
    }

    fn owners(&self, tree: &Path) -> Result<BTreeMap<String, String>> {
        super::deb::owners(tree)
    }
}

impl Apt {
    fn fetch(&self, missing: &[&Package], report: &Reporter) -> Result<()> {
        let total: u64 = missing.iter().map(|package| package.size).sum();
        let progress = report.progress("downloading packages", total, Unit::Bytes);
        let _lock = self.lock()?;
        let by_name: BTreeMap<&str, u64> =
            missing.iter().map(|package| (package.name.as_str(), package.size)).collect();
        let mut output = Vec::new();
        let result = self
            .apt_get()
            .arg("-o")
            .arg(format!("Dir::Cache::archives={}/", self.archives.display()))
            .args(["download", "--yes"])
            .args(missing.iter().map(|package| format!("{}:{}={}", package.name, package.arch, package.evr)))
            .dir(&self.archives)
            .run_lines(|line| {
                if let Some(size) = downloaded(line).and_then(|name| by_name.get(name)) {
                    progress.add(*size);
                }
                report.detail(line);
                output.push(line.to_owned());
            });
        result.map_err(|error| failure::of_update(&output, &self.repositories, error))
    }
}

/// The name apt gives a downloaded file.
fn file_name(package: &Package) -> String {
    format!("{}_{}_{}.deb", package.name, package.evr.to_string().replace(':', "%3a"), package.arch)
}

/// The package in a line such as `Get:3 http://… trixie/main amd64 jq amd64 1.7.1 [80 kB]`.
fn downloaded(line: &str) -> Option<&str> {
    line.strip_prefix("Get:")?.split_whitespace().nth(4)
}

impl Apt {
    /// A call of apt-get with nosa's configuration.
    fn apt_get(&self) -> Cmd {
        Cmd::new(&tool::APT_GET).env("APT_CONFIG", self.dir.join("apt.conf")).log(&self.log)
    }

    /// apt waits for ever when its lists run out of space, so there must be enough beforehand.
    fn require_space(&self) -> Result<()> {
        let free = fs::free_space(&self.dir)?;
        if free >= LISTS_SPACE {
            return Ok(());
        }
        let cause = format!(
            "{}: No space left on device: the package indexes need up to {} MiB, {} MiB are free",
            self.dir.display(),
            LISTS_SPACE >> 20,
            free >> 20
        );
        Err(Failure::new(Kind::Resource, cause, "free some space, or use a larger disk").into())
    }

    fn lock(&self) -> Result<FileLock> {
        fs::create_dir_all(&self.dir)?;
        FileLock::exclusive(&self.dir.join("nosa.lock"), "nosa")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_lines_of_apt() {
        assert_eq!(file_name(&Package::sample("jq", "2")), "jq_1%3a2_amd64.deb");
        let line = "Get:3 http://x/debian trixie/main amd64 jq amd64 1.7.1 [80 kB]";
        assert_eq!(downloaded(line), Some("jq"));
    }
}
