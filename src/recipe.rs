//! The whole build, from top to bottom.
//!
//! [`Recipe::open`] reads the configuration; each method after it is one step of the flow and returns what
//! the next one needs. No step knows argv, formats or the terminal.

mod container;
mod image;
mod import;
mod overrides;
mod publish;
mod rpmdb;
mod source;
mod sweep;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

pub use container::{
    PushContainer, PushManifest, architectures, copy_container, push_container, push_container_manifest,
    push_images, refuse_format,
};
use image::Before;
pub use image::{ImageOptions, ImagePlan, OCI_PLAN, PlanSource, Update, image_plan};
pub use import::{Fetched, Origin};
use overrides::Overrides;
pub use overrides::overrides_in;
pub use publish::{Outcome, Publisher, STAGES};
pub use sweep::{Swept, commit_repo, prune_cache};
pub use validate::{Finding, Findings, validate};

use crate::disk::{DiskSize, Qcow2, RawDisk, Sector};
use crate::host::{Cmd, environment, tool};
use crate::manifest::{self, LoadOptions, Loaded, Manifest};
use crate::oci::{Encapsulate, OciArchive};
use crate::ostree::{CommitOptions, CommitTree, Metadata, OstreeCommit, PackageEntry, key};
use crate::packages::{
    Locked, Mirrors, PackageBackend, RemovedFiles, Request, Resolve, ResolvedPackages, Snapshot, Wanted,
};
use crate::pipeline::{Artifact as _, Digest, Pipeline};
use crate::rootfs::{AddedFiles, Compose, Install, InstalledTree, LossPolicy, RootFs, TREE_EPOCH};

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
    /// Further directories with repository definitions.
    pub repo_dirs: Vec<PathBuf>,
    /// Variables of the repositories' definitions that take precedence over the treefile's.
    pub repovars: BTreeMap<String, String>,
    /// The variant of the configuration, if not the default.
    pub variant: Option<String>,
    /// The workdir's `overrides` directory: package files in `rpm` or `deb`, files of the tree in `rootfs`.
    pub overrides: Option<PathBuf>,
    /// What is said about the OCI image.
    pub image: ImageOptions,
}

/// A configuration ready to be built.
pub struct Recipe<'a> {
    pipeline: &'a Pipeline,
    options: Options,
    /// The configuration.
    pub config: Loaded,
    backend: Box<dyn PackageBackend>,
    overrides: Overrides,
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

/// Which disk image to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskKind {
    /// A qcow2 image for a platform of platforms.yaml, as large as image.yaml says.
    Cloud(&'static str),
    /// A raw image to write on a disk, as small as it can be.
    Metal(Sector),
}

impl DiskKind {
    /// The kinds by the name that users and meta.json have for them.
    pub const ALL: &[(&str, Self)] = &[
        ("qemu", Self::Cloud("qemu")),
        ("metal", Self::Metal(Sector::B512)),
        ("metal4k", Self::Metal(Sector::B4096)),
        ("openstack", Self::Cloud("openstack")),
    ];

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }
}

/// A written disk image.
#[derive(Debug, Clone)]
pub struct DiskImage {
    /// The file.
    pub path: PathBuf,
    /// Its name's ending: `qcow2`, `raw`.
    pub extension: &'static str,
}

impl<'a> Recipe<'a> {
    /// Reads the configuration in `dir` and sets up its package manager; `downloads` outlives workdirs.
    pub fn open(pipeline: &'a Pipeline, dir: &Path, downloads: &Path, options: Options) -> Result<Self> {
        let load = LoadOptions {
            basearch: environment::basearch().to_owned(),
            variant: options.variant.clone(),
            repo_dirs: options.repo_dirs.clone(),
        };
        let mut config = manifest::load(dir, &load)?;
        config.manifest.repovars.extend(options.repovars.clone());
        config.warnings.iter().for_each(|warning| pipeline.report().warn(warning));
        let overrides = Overrides::find(&config.manifest, options.overrides.as_deref())?;
        overrides.tell(pipeline.report());
        let packages = overrides.packages.clone();
        let backend = source::backend(pipeline, &config.manifest, downloads, &options.mirrors, packages)?;
        Ok(Self { pipeline, options, config, backend, overrides })
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
        let packages = self.pipeline.run(&stage)?;
        self.overrides.compare(&packages.packages, &self.options.locked, self.pipeline.report());
        Ok((packages, snapshot))
    }

    /// Downloads the packages.
    pub fn download(&self, packages: &ResolvedPackages) -> Result<Vec<PathBuf>> {
        self.backend.download(&packages.packages, self.pipeline.report())
    }

    /// Installs the packages and says what the tree will be made of.
    pub fn plan(&self) -> Result<Planned> {
        // What is missing here is told before packages take their time.
        self.added_files()?;
        let (packages, snapshot) = self.resolve()?;
        let installed = self.pipeline.run(&Install {
            backend: self.backend.as_ref(),
            packages: &packages.packages,
            remove: self.removed_files(),
            manifest: self.manifest(),
            epoch: TREE_EPOCH,
        })?;
        let input_hash = self.composition(&installed, String::new())?.input_hash();
        Ok(Planned { packages, snapshot, installed, input_hash })
    }

    /// Composes the tree under `version` and commits it; `timestamp` is the commit's time, in seconds since
    /// the epoch.
    pub fn compose(&self, planned: &Planned, version: &str, timestamp: u64) -> Result<OstreeCommit> {
        let rootfs = self.pipeline.run(&self.composition(&planned.installed, version.to_owned())?)?;
        rootfs.check_losses(self.options.losses)?;
        let manifest = self.manifest();
        self.pipeline.run(&CommitTree {
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
        })
    }

    /// Wraps a commit as an OCI image, its layers as in the image before.
    fn oci(
        &self,
        planned: &Planned,
        commit: &OstreeCommit,
        labels: BTreeMap<String, String>,
        before: Option<&Before>,
    ) -> Result<OciArchive> {
        let manifest = self.manifest();
        self.pipeline.run(&Encapsulate {
            commit: commit.clone(),
            architecture: manifest.basearch.clone(),
            labels,
            copy_keys: manifest.commit_metadata.keys().cloned().collect(),
            cmd: manifest.container_cmd.clone(),
            contents: self.contents(planned)?,
            planning: self.image_planning(before),
            compression: self.options.image.compression,
        })
    }

    /// Writes a disk image of a commit; `layers` are those of its OCI image, which its machines have then.
    pub fn disk(
        &self,
        commit: &OstreeCommit,
        layers: &[Digest],
        timestamp: u64,
        kind: DiskKind,
    ) -> Result<DiskImage> {
        let manifest = self.manifest();
        let (platform, sector, size) = match kind {
            DiskKind::Cloud(platform) => (platform, Sector::B512, DiskSize::Gib(manifest.image.size)),
            DiskKind::Metal(sector) => ("metal", sector, DiskSize::Fit),
        };
        let disk = self.pipeline.run(&RawDisk {
            commit: commit.clone(),
            layers: layers.to_vec(),
            tools: None,
            name: manifest.name.clone(),
            basearch: manifest.basearch.clone(),
            image: manifest.image.clone(),
            platforms: manifest.platforms.clone(),
            platform: platform.to_owned(),
            sector,
            size,
            epoch: timestamp,
        })?;
        match kind {
            DiskKind::Metal(_) => Ok(DiskImage { path: disk.path, extension: "raw" }),
            DiskKind::Cloud(_) => {
                let image = self.pipeline.run(&Qcow2 { disk })?;
                Ok(DiskImage { path: image.path, extension: "qcow2" })
            }
        }
    }

    /// Identifies what besides the commit shapes disk images.
    #[must_use]
    pub fn image_config(&self) -> Digest {
        let manifest = self.manifest();
        Digest::of(serde_json::json!([manifest.image, manifest.platforms]).to_string())
    }

    /// The commit's time: `SOURCE_DATE_EPOCH`, else the later of the configuration's last commit and the
    /// repositories' newest index. None of them depends on when somebody builds.
    #[must_use]
    pub fn timestamp(&self, snapshot: &Snapshot) -> u64 {
        environment::source_date_epoch().unwrap_or_else(|| {
            config_commit(&self.manifest().dir).map_or(0, |(_, time)| time).max(snapshot.date)
        })
    }

    /// Whether files of the user's own stand in for what the configuration gives.
    #[must_use]
    pub const fn is_overridden(&self) -> bool {
        self.overrides.any()
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
        let mut overlays = Compose::overlays(manifest)?;
        overlays.extend(self.overrides.rootfs.clone());
        Ok(Compose { installed, manifest, overlays, added: self.added_files()?, version, epoch: TREE_EPOCH })
    }

    fn added_files(&self) -> Result<AddedFiles> {
        AddedFiles::read(self.manifest(), environment::client().as_deref())
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
