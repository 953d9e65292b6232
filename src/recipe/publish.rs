//! A build's life in the workdir: is there anything new, what is it called, which files does it have.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::image::last_own;
use super::{DiskKind, OCI_PLAN, Planned, Recipe, Update, config_commit};
use crate::builds::{
    Artifact, Build, BuildLock, GitSource, Meta, Staging, Workdir, build_id, check_version, next_version,
};
use crate::failure::{Failure, Kind};
use crate::host::clock::{self, Utc};
use crate::host::{environment, fs};
use crate::oci::{OciArchive, layers_of};
use crate::ostree::{Checksum, OstreeCommit, Repo};
use crate::packages::Lock;
use crate::pipeline::{Digest, sha256_file};

/// The file of a build that tells which stages ran for it and why.
pub const STAGES: &str = "stages.json";

/// Publishes builds of a recipe in a locked workdir.
pub struct Publisher<'a> {
    pub(super) recipe: &'a Recipe<'a>,
    pub(super) workdir: &'a Workdir,
    pub(super) lock: &'a BuildLock,
    pub(super) arch: &'static str,
}

/// What the next build will be called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    version: String,
    genver: u64,
    timestamp: u64,
}

impl Name {
    fn id(&self) -> String {
        build_id(&self.version, self.genver)
    }
}

/// What came of a build.
pub enum Outcome {
    /// Nothing changed since this build.
    Unchanged(Build),
    /// A new build, and what an update to it from the build before costs, if there is one.
    Built(Build, Option<Update>),
}

impl<'a> Publisher<'a> {
    /// A publisher; whatever an interrupted command left is put right first.
    pub fn new(recipe: &'a Recipe<'a>, workdir: &'a Workdir, lock: &'a BuildLock) -> Result<Self> {
        let recovery = workdir.recover(lock)?;
        for path in recovery.removed {
            recipe
                .pipeline
                .report()
                .note(format!("removed {}, which an interrupted command left", path.display()));
        }
        for path in recovery.unlisted {
            recipe.pipeline.report().warn(format!("{} is not listed in builds.json", path.display()));
        }
        Ok(Self { recipe, workdir, lock, arch: environment::basearch() })
    }

    /// Builds the commit, its OCI image and the disk images `kinds`, unless the latest build has them all
    /// from the same inputs.
    pub fn build(&self, version: Option<&str>, kinds: &[&'static str], force: bool) -> Result<Outcome> {
        let planned = self.recipe.plan()?;
        let latest = self.latest()?;
        let image = &self.recipe.options.image;
        let own = match &latest {
            Some((build, _)) => last_own(self.workdir, build)?,
            None => None,
        };
        let before = image.before(own.as_ref(), self.recipe.pipeline.report())?;
        if let Some((build, meta)) = &latest
            && !force
            && version.is_none_or(|version| version == meta.ostree_version)
            && self.is_current(meta, &planned, kinds)
            && image.suits(build, before.as_ref())?
        {
            // From the cache, unless that has lost it: then the commit is made again.
            self.recipe.compose(&planned, &meta.ostree_version, timestamp_of(meta)?)?;
            return Ok(Outcome::Unchanged(build.clone()));
        }
        let name = self.name(version, &planned, latest.as_ref().map(|(_, meta)| meta))?;
        let commit = self.recipe.compose(&planned, &name.version, name.timestamp)?;
        let checksum = self.recipe.image_config();
        let oci = self.recipe.oci(&planned, &commit, self.labels(&commit, checksum), before.as_ref())?;
        let (plan, update) = self.recipe.settle_image(&oci, before.as_ref())?;
        let layers = layers_of(&fs::read(&oci.manifest_path)?, commit.commit)?;
        let disk = |kind| self.recipe.disk(&commit, &layers, name.timestamp, disk_kind(kind)?);
        let disks = kinds.iter().map(|kind| Ok((*kind, disk(kind)?))).collect::<Result<Vec<_>>>()?;

        let staging = self.workdir.stage(self.lock, &name.id(), self.arch)?;
        let mut meta = self.meta(&name, &planned, &commit, checksum)?;
        self.stage_commit(&staging, &planned, &commit)?;
        self.stage_oci(&staging, &oci, &mut meta)?;
        fs::write_atomic(&staging.path().join(OCI_PLAN), plan.to_text()?, 0o644)?;
        for (kind, disk) in disks {
            let file = self.file_name(&name.id(), kind, disk.extension);
            meta.images.insert(kind.to_owned(), stage_file(&staging, &disk.path, &file)?);
        }
        self.recipe.pipeline.history().append(&staging.path().join(STAGES))?;
        Ok(Outcome::Built(staging.publish(&meta, clock::now())?, update))
    }

    /// Adds a disk image to a build; `None` when it has one already.
    pub fn extend(&self, build: &Build, kind: &'static str, force: bool) -> Result<Option<Artifact>> {
        let meta = build.meta()?;
        if meta.images.contains_key(kind) && !force {
            return Ok(None);
        }
        let commit = self.commit_of(build, &meta)?;
        let timestamp = timestamp_of(&meta)?;
        let layers = layers_here(build, &meta, commit.commit)?;
        let disk = self.recipe.disk(&commit, &layers, timestamp, disk_kind(kind)?)?;
        let artifact = describe(&disk.path, &self.file_name(build.id(), kind, disk.extension))?;
        build.add_artifact(self.lock, kind, &disk.path, &artifact, nanos())?;
        self.recipe.pipeline.history().append(&build.dir().join(STAGES))?;
        Ok(Some(artifact))
    }

    pub(super) fn latest(&self) -> Result<Option<(Build, Meta)>> {
        let index = self.workdir.index()?;
        if index.latest_for(self.arch).is_none() {
            return Ok(None);
        }
        let build = self.workdir.build("latest", self.arch)?;
        if !build.is_here() {
            return Ok(None);
        }
        let meta = build.meta()?;
        Ok(Some((build, meta)))
    }

    fn is_current(&self, meta: &Meta, planned: &Planned, kinds: &[&str]) -> bool {
        meta.rpm_ostree_inputhash.as_deref() == Some(planned.input_hash.to_string().as_str())
            && meta.image_config_checksum.as_deref() == Some(self.recipe.image_config().to_string().as_str())
            && kinds.iter().all(|kind| meta.images.contains_key(*kind))
    }

    /// A new version for new content; for the same content in another image the same version, counted.
    fn name(&self, version: Option<&str>, planned: &Planned, latest: Option<&Meta>) -> Result<Name> {
        let timestamp = self.recipe.timestamp(&planned.snapshot);
        if let Some(version) = version {
            check_version(version)?;
            return Ok(Name { version: version.to_owned(), genver: self.free_genver(version)?, timestamp });
        }
        if let Some(meta) = latest
            && meta.rpm_ostree_inputhash.as_deref() == Some(planned.input_hash.to_string().as_str())
        {
            let version = meta.ostree_version.clone();
            return Ok(Name { genver: self.free_genver(&version)?, timestamp: timestamp_of(meta)?, version });
        }
        let index = self.workdir.index()?;
        let previous: Vec<&str> = index.builds().iter().map(|entry| entry.id.as_str()).collect();
        let manifest = self.recipe.manifest();
        let now = environment::source_date_epoch().unwrap_or_else(clock::now);
        let version = next_version(&manifest.version_prefix, manifest.version_suffix, previous, now)?;
        Ok(Name { version, genver: 0, timestamp })
    }

    pub(super) fn free_genver(&self, version: &str) -> Result<u64> {
        let index = self.workdir.index()?;
        let mut genver = 0;
        while index.has(&build_id(version, genver), self.arch) {
            genver += 1;
        }
        Ok(genver)
    }

    fn labels(&self, commit: &OstreeCommit, config: Digest) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::from([
            ("coreos-assembler.image-config-checksum".to_owned(), config.to_string()),
            ("coreos-assembler.image-input-checksum".to_owned(), input_checksum(commit, config).to_string()),
            ("com.coreos.osname".to_owned(), self.recipe.manifest().name.clone()),
        ]);
        if let Some((revision, _)) = config_commit(&self.recipe.manifest().dir) {
            labels.insert("org.opencontainers.image.revision".to_owned(), revision);
        }
        labels
    }

    fn meta(&self, name: &Name, planned: &Planned, commit: &OstreeCommit, config: Digest) -> Result<Meta> {
        let manifest = self.recipe.manifest();
        let stats = &commit.stats;
        let mut meta = Meta {
            buildid: name.id(),
            name: manifest.name.clone(),
            summary: Some(manifest.summary.clone()),
            reference: Some(manifest.reference.clone()),
            ostree_commit: commit.commit.to_string(),
            ostree_content_checksum: Some(commit.content.to_string()),
            ostree_timestamp: Utc::from_epoch(name.timestamp).rfc3339(),
            ostree_version: name.version.clone(),
            ostree_n_content_total: Some(stats.n_content_total),
            ostree_n_content_written: Some(stats.n_content_written),
            ostree_n_metadata_total: Some(stats.n_metadata_total),
            ostree_n_metadata_written: Some(stats.n_metadata_written),
            ostree_content_bytes_written: Some(stats.content_bytes_written),
            rpm_ostree_inputhash: Some(planned.input_hash.to_string()),
            basearch: Some(self.arch.to_owned()),
            build_timestamp: Some(Utc::from_epoch(clock::now()).rfc3339()),
            image_config_checksum: Some(config.to_string()),
            image_input_checksum: Some(input_checksum(commit, config).to_string()),
            image_genver: Some(name.genver),
            config_variant: self.workdir.variant()?,
            overrides_active: self.recipe.is_overridden().then_some(true),
            meta_stamp: Some(nanos().into()),
            ..Meta::default()
        };
        if let Some((revision, _)) = config_commit(&manifest.dir) {
            meta.config_gitrev = Some(revision.clone());
            meta.config_git = Some(GitSource {
                commit: revision,
                origin: manifest.dir.display().to_string(),
                ..GitSource::default()
            });
        }
        Ok(meta)
    }

    fn stage_commit(&self, staging: &Staging, planned: &Planned, commit: &OstreeCommit) -> Result<()> {
        let repo = self.repo(commit)?;
        let object = staging.path().join("ostree-commit-object");
        fs::write_atomic(&object, repo.commit_bytes(commit.commit)?, 0o444)?;
        let metadata = repo.commit_object(commit.commit)?.metadata.to_json();
        write_json(&staging.path().join("commitmeta.json"), &metadata)?;
        let lock = Lock::of(&planned.packages.packages, planned.snapshot.date)?.to_json();
        let name = format!("manifest-lock.generated.{}.json", self.arch);
        write_json(&staging.path().join(name), &lock)
    }

    fn stage_oci(&self, staging: &Staging, oci: &OciArchive, meta: &mut Meta) -> Result<()> {
        let (name, id, arch) = (&self.recipe.manifest().name, staging.id(), self.arch);
        let archive = format!("{name}-{id}-ostree.{arch}.ociarchive");
        let mut artifact = stage_file(staging, &oci.path, &archive)?;
        artifact.skip_compression = Some(true);
        meta.images.insert("ostree".to_owned(), artifact);
        let manifest = format!("{name}-{id}-ostree.{arch}-manifest.json");
        let mut artifact = stage_file(staging, &oci.manifest_path, &manifest)?;
        artifact.skip_compression = Some(true);
        meta.images.insert("oci-manifest".to_owned(), artifact);
        Ok(())
    }

    /// The commit of a build, which must still be in the cache's repository.
    fn commit_of(&self, build: &Build, meta: &Meta) -> Result<OstreeCommit> {
        let parse = |text: &str| -> Result<Checksum> {
            text.parse().with_context(|| format!("reading the commit of build {}", build.id()))
        };
        let checksum = parse(&meta.ostree_commit)?;
        let content = parse(meta.ostree_content_checksum.as_deref().unwrap_or_default())?;
        let branch = meta.reference.as_deref().unwrap_or_default();
        let commit = OstreeCommit::in_repo(checksum, content, branch, &meta.ostree_version);
        if self.repo(&commit)?.is_complete(checksum)? {
            return Ok(commit);
        }
        Err(Failure::new(
            Kind::Artifact,
            format!("the cache no longer has commit {checksum} of build {}", build.id()),
            match meta.oci_imported {
                Some(true) => "run `nosa import --force oci-archive:FILE` with the build's own archive",
                _ => "run `nosa build`: the same inputs give the same commit",
            },
        )
        .into())
    }

    pub(super) fn repo(&self, commit: &OstreeCommit) -> Result<Repo> {
        Repo::create(&self.recipe.pipeline.cache().shared(&commit.repo)?)
    }

    fn file_name(&self, id: &str, kind: &str, extension: &str) -> String {
        format!("{}-{id}-{kind}.{}.{extension}", self.recipe.manifest().name, self.arch)
    }
}

/// The layers of a build's OCI image that hold its commit; the record keeps the image's manifest.
fn layers_here(build: &Build, meta: &Meta, commit: Checksum) -> Result<Vec<Digest>> {
    let Some(manifest) = meta.images.get("oci-manifest") else { return Ok(Vec::new()) };
    let path = build.dir().join(&manifest.path);
    if !path.exists() {
        return Err(Failure::new(
            Kind::Artifact,
            format!("{} is not here, and the disk tells its machines which layers they have", path.display()),
            "fetch it: nosa buildfetch --artifact oci-manifest",
        )
        .into());
    }
    layers_of(&fs::read(&path)?, commit)
}

fn disk_kind(name: &str) -> Result<DiskKind> {
    DiskKind::named(name).with_context(|| format!("no disk image is called {name}"))
}

/// The digest by which coreos-assembler knows that an image would come out the same.
pub(super) fn input_checksum(commit: &OstreeCommit, config: Digest) -> Digest {
    Digest::of(format!("{}\n{config}\n", commit.commit))
}

fn timestamp_of(meta: &Meta) -> Result<u64> {
    Utc::parse(&meta.ostree_timestamp)
        .map(|time| time.to_epoch())
        .with_context(|| format!("reading ostree-timestamp {}", meta.ostree_timestamp))
}

pub(super) fn stage_file(staging: &Staging, source: &Path, name: &str) -> Result<Artifact> {
    let target = staging.path().join(name);
    fs::link_or_copy(source, &target)?;
    // The cache may have the same file: nobody is to write into it.
    std::fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o444))
        .with_context(|| format!("sealing {}", target.display()))?;
    describe(source, name)
}

fn describe(source: &Path, name: &str) -> Result<Artifact> {
    let size = fs::open(source)?.metadata().with_context(|| format!("reading {}", source.display()))?.len();
    let sha256 = sha256_file(source)?.to_string();
    Ok(Artifact { path: name.to_owned(), sha256, size: Some(size), ..Artifact::default() })
}

pub(super) fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<()> {
    let mut text =
        serde_json::to_string_pretty(value).with_context(|| format!("encoding {}", path.display()))?;
    text.push('\n');
    fs::write_atomic(path, text, 0o644)
}

pub(super) fn nanos() -> u64 {
    u64::try_from(clock::now_nanos()).unwrap_or(u64::MAX)
}
