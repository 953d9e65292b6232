//! The whole build, from top to bottom.
//!
//! [`Recipe::open`] reads the configuration; each method after it is one step of the flow and returns what
//! the next one needs. No step knows argv, formats or the terminal.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::disk::{DiskSize, Qcow2, Qcow2Image, RawDisk, RawDiskImage, Sector};
use crate::failure::{Failure, Kind};
use crate::host::{Cmd, environment, fs, tool};
use crate::manifest::{self, LoadOptions, Loaded, Manifest, RepoKind};
use crate::ostree::{CommitOptions, CommitTree, Metadata, OstreeCommit, PackageEntry, key};
use crate::packages::{
    Apt, Locked, Mirrors, PackageBackend, RemovedFiles, Repository, Request, Resolve, ResolvedPackages,
    Snapshot, Wanted,
};
use crate::pipeline::{Artifact as _, Digest, Pipeline};
use crate::rootfs::{Compose, Install, InstalledTree, LossPolicy, RootFs, TREE_EPOCH};

/// What a user can say about a build besides the configuration.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Refuse packages that are not locked.
    pub strict: bool,
    /// Mirrors that take precedence over the host's.
    pub mirrors: Mirrors,
    /// What to do about files in /var.
    pub losses: LossPolicy,
    /// Versions that lockfiles fix.
    pub locked: Vec<Locked>,
}

/// A configuration ready to be built.
pub struct Recipe<'a> {
    pipeline: &'a Pipeline,
    options: Options,
    /// The configuration.
    pub config: Loaded,
    backend: Box<dyn PackageBackend>,
}

/// The tree with everything but its version settled.
pub struct Planned {
    /// The exact packages.
    pub packages: ResolvedPackages,
    /// What the repositories offered.
    pub snapshot: Snapshot,
    /// The tree the packages give.
    installed: InstalledTree,
    /// Identifies the content of the commit, whatever version it will bear.
    pub input_hash: Digest,
}

/// A commit and the tree it was made of.
pub struct Composed {
    /// The tree.
    pub rootfs: RootFs,
    /// The commit.
    pub commit: OstreeCommit,
    /// The time of the commit, in seconds since the epoch.
    pub timestamp: u64,
}

impl<'a> Recipe<'a> {
    /// Reads the configuration in `dir` and sets up its package manager; `downloads` outlives workdirs.
    pub fn open(pipeline: &'a Pipeline, dir: &Path, downloads: &Path, options: Options) -> Result<Self> {
        let config = manifest::load(dir, &LoadOptions::new(environment::basearch()))?;
        config.warnings.iter().for_each(|warning| pipeline.report().warn(warning));
        let backend = backend(pipeline, &config.manifest, downloads, &options.mirrors)?;
        Ok(Self { pipeline, options, config, backend })
    }

    /// The configuration's manifest.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.config.manifest
    }

    /// Asks the repositories what they offer now.
    pub fn refresh(&self) -> Result<Snapshot> {
        self.backend.refresh(self.pipeline.report())
    }

    /// The exact packages, from what the repositories offered when they were last asked.
    pub fn resolve(&self) -> Result<(ResolvedPackages, Snapshot)> {
        let snapshot = match self.backend.snapshot()? {
            Some(snapshot) => snapshot,
            None => self.refresh()?,
        };
        let stage =
            Resolve { backend: self.backend.as_ref(), request: self.request(), snapshot: snapshot.clone() };
        Ok((self.pipeline.run(&stage)?, snapshot))
    }

    /// Downloads the packages.
    pub fn download(&self, packages: &ResolvedPackages) -> Result<Vec<PathBuf>> {
        self.backend.download(&packages.packages, self.pipeline.report())
    }

    /// Installs the packages and says what the tree will be made of.
    pub fn plan(&self) -> Result<Planned> {
        let (packages, snapshot) = self.resolve()?;
        let installed = self.pipeline.run(&Install {
            backend: self.backend.as_ref(),
            packages: &packages.packages,
            remove: self.removed_files(),
            epoch: tree_epoch(),
        })?;
        let input_hash = self.composition(&installed, String::new())?.input_hash();
        Ok(Planned { packages, snapshot, installed, input_hash })
    }

    /// Composes the tree under `version` and commits it.
    pub fn compose(&self, planned: &Planned, version: &str) -> Result<Composed> {
        let rootfs = self.pipeline.run(&self.composition(&planned.installed, version.to_owned())?)?;
        let timestamp = self.timestamp(&planned.snapshot);
        let manifest = self.manifest();
        let commit = self.pipeline.run(&CommitTree {
            tree: rootfs.tree.clone(),
            digest: rootfs.digest(),
            version: version.to_owned(),
            options: CommitOptions {
                branch: manifest.reference.clone(),
                subject: format!("{} {version}", manifest.name),
                body: String::new(),
                parent: None,
                timestamp,
                metadata: self.metadata(planned, &rootfs, version),
            },
        })?;
        Ok(Composed { rootfs, commit, timestamp })
    }

    /// Writes a raw disk of a commit for a platform.
    pub fn raw_disk(
        &self,
        composed: &Composed,
        platform: &str,
        sector: Sector,
        size: DiskSize,
    ) -> Result<RawDiskImage> {
        let manifest = self.manifest();
        self.pipeline.run(&RawDisk {
            commit: composed.commit.commit.to_string(),
            repo: self.pipeline.cache().shared(&composed.commit.repo)?,
            tools: composed.rootfs.tree.clone(),
            name: manifest.name.clone(),
            version: composed.commit.version.clone(),
            reference: manifest.reference.clone(),
            basearch: manifest.basearch.clone(),
            image: manifest.image.clone(),
            platforms: manifest.platforms.clone(),
            platform: platform.to_owned(),
            sector,
            size,
            epoch: composed.timestamp,
        })
    }

    /// Writes a qcow2 image of a commit for a platform, as large as image.yaml says.
    pub fn qcow2(&self, composed: &Composed, platform: &str) -> Result<Qcow2Image> {
        let size = DiskSize::Gib(self.manifest().image.size);
        let disk = self.raw_disk(composed, platform, Sector::B512, size)?;
        self.pipeline.run(&Qcow2 { disk })
    }

    fn request(&self) -> Request {
        let manifest = self.manifest();
        let origin = |name: &str| {
            let place = self.config.provenance.package(name);
            place.map(|position| position.to_string()).unwrap_or_default()
        };
        Request {
            packages: manifest
                .packages
                .iter()
                .map(|name| Wanted { name: name.clone(), origin: origin(name) })
                .collect(),
            exclude: manifest.exclude_packages.clone(),
            recommends: manifest.recommends,
            locked: self.options.locked.clone(),
            strict: self.options.strict,
        }
    }

    fn removed_files(&self) -> Vec<RemovedFiles> {
        let removed = self.manifest().remove_from_packages.iter();
        removed
            .map(|remove| RemovedFiles { package: remove.package.clone(), patterns: remove.patterns.clone() })
            .collect()
    }

    fn composition<'b>(&'b self, installed: &'b InstalledTree, version: String) -> Result<Compose<'b>> {
        let manifest = self.manifest();
        Ok(Compose {
            installed,
            manifest,
            overlays: Compose::overlays(manifest)?,
            version,
            epoch: tree_epoch(),
            losses: self.options.losses,
        })
    }

    fn metadata(&self, planned: &Planned, rootfs: &RootFs, version: &str) -> Metadata {
        let mut metadata = Metadata::new();
        metadata.set("version", version);
        metadata.set_bootable(&rootfs.kernel);
        metadata.set(key::INPUTHASH, planned.input_hash.to_string());
        let packages: Vec<PackageEntry> = planned
            .packages
            .packages
            .iter()
            .map(|package| PackageEntry {
                name: package.name.clone(),
                epoch: package.evr.epoch.into(),
                version: package.evr.version.clone(),
                release: package.evr.release.clone(),
                arch: package.arch.clone(),
            })
            .collect();
        metadata.set(key::PACKAGES, packages);
        for (name, value) in &self.manifest().commit_metadata {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            metadata.set(name, text);
        }
        metadata
    }

    /// The commit's time: `SOURCE_DATE_EPOCH`, else the later of the configuration's last commit and the
    /// repositories' newest index. None of them depends on when somebody builds.
    fn timestamp(&self, snapshot: &Snapshot) -> u64 {
        environment::source_date_epoch().unwrap_or_else(|| {
            config_commit(&self.manifest().dir).map_or(0, |(_, time)| time).max(snapshot.date)
        })
    }
}

/// The last git commit of a configuration directory and its time, if it is under git's care.
#[must_use]
pub fn config_commit(dir: &Path) -> Option<(String, u64)> {
    let dir = dir.canonicalize().ok()?;
    let printed = Cmd::new(&tool::GIT)
        .args(["-c", "safe.directory=*", "log", "-1", "--format=%H %ct", "--", "."])
        .dir(&dir)
        .output()
        .ok()?
        .text();
    let (commit, time) = printed.trim().split_once(' ')?;
    Some((commit.to_owned(), time.parse().ok()?))
}

fn tree_epoch() -> u64 {
    environment::source_date_epoch().unwrap_or(TREE_EPOCH)
}

fn backend(
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
