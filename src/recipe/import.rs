//! An image from elsewhere as a build: fetched, committed, recorded.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::publish::{Publisher, STAGES, input_checksum, nanos, stage_file, write_json};
use crate::builds::{Build, ContainerImage, Meta, Staging, build_id, check_version};
use crate::failure::{Failure, Kind};
use crate::host::clock::{self, Utc};
use crate::host::{self, Cmd, CommandError, environment, fs, tool};
use crate::import::{Import, Imported};
use crate::oci::{self, Image, ImageRef, Layout};
use crate::ostree::{OstreeCommit, Value, key};
use crate::pipeline::{Digest, Reporter, Unit};
use crate::registry::{self, Access};

/// The artifact that is the image's manifest: its digest is the image's.
const MANIFEST: &str = "oci-manifest";

/// An image on this host's disk.
pub struct Fetched {
    /// Where it was.
    pub source: ImageRef,
    /// Where it can be read.
    pub layout: Layout,
    /// Its documents.
    pub image: Image,
    _dir: Option<TempDir>,
}

/// What came of an import.
pub enum Origin {
    /// The latest build is of this very image already.
    Known(Build),
    /// A new build.
    New(Build),
}

impl Fetched {
    /// Fetches an image, unless it lies in a file or directory, where it is read in place. `scratch` is a
    /// directory for what is fetched; it is removed in the end. What skopeo says goes to `log`.
    pub fn get(
        source: &ImageRef,
        access: &Access,
        scratch: &Path,
        log: &Path,
        report: &Reporter,
    ) -> Result<Self> {
        let fetched = || -> Result<(TempDir, PathBuf)> {
            let dir = tempfile::Builder::new().prefix("import-").tempdir_in(scratch);
            let dir = dir.with_context(|| format!("creating a directory in {}", scratch.display()))?;
            let path = dir.path().join("image");
            Ok((dir, path))
        };
        let (path, name, dir) = match source {
            ImageRef::Layout(path, name) | ImageRef::Archive(path, name) => {
                if !path.exists() {
                    let cause = format!("{source} cannot be had: there is no {}", path.display());
                    return Err(Failure::new(Kind::Artifact, cause, "is the path right?").into());
                }
                (path.clone(), name.clone(), None)
            }
            ImageRef::Registry(repository) => {
                let (dir, path) = fetched()?;
                registry::pull(repository, access, Some(environment::basearch()), &path, report)?;
                (path, None, Some(dir))
            }
            ImageRef::Storage(name) => {
                let (dir, path) = fetched()?;
                from_storage(name, &path, log, report)?;
                (path, None, Some(dir))
            }
        };
        let layout = Layout::open(&path)?;
        let image = layout.image(name.as_deref(), environment::basearch())?;
        Ok(Self { source: source.clone(), layout, image, _dir: dir })
    }
}

/// Has skopeo take an image out of podman's storage. What `podman build -t NAME` makes is called localhost/NAME
/// there, which skopeo does not guess.
fn from_storage(name: &str, target: &Path, log: &Path, report: &Reporter) -> Result<()> {
    host::require(&[&tool::SKOPEO]).map_err(Failure::from)?;
    let progress = report.progress(format!("taking {name} out of podman's storage"), 0, Unit::Items);
    let copy = |name: &str| {
        // With the user's environment: it says where podman's storage is.
        Cmd::new(&tool::SKOPEO)
            .inherit_environment()
            .args(["copy", "--quiet"])
            .arg(format!("containers-storage:{name}"))
            .arg(format!("oci:{}", target.display()))
            .log(log)
            .run()
    };
    let copied = match name.contains('/') {
        true => copy(name),
        false => copy(&format!("localhost/{name}")).or_else(|_| copy(name)),
    };
    copied.map_err(|error| {
        let cure = "is the name right? `podman images` lists what podman has; other places begin with oci:, \
                    oci-archive: or docker://";
        let why = error.downcast_ref().map_or_else(|| format!("{error:#}"), CommandError::reason);
        Failure::new(Kind::Artifact, format!("podman's storage gives no image {name}: {why}"), cure)
    })?;
    drop(progress);
    Ok(())
}

impl Publisher<'_> {
    /// Makes a build of an image, unless the latest one is of it.
    pub fn import(&self, fetched: &Fetched, version: Option<&str>, force: bool) -> Result<Origin> {
        if let Some(build) = self.latest_import(fetched.image.digest, version)?
            && !force
        {
            return Ok(Origin::Known(build));
        }
        let version = self.version_of(fetched, version)?;
        let imported = self.recipe.pipeline.run(&Import {
            layout: &fetched.layout,
            image: &fetched.image,
            branch: self.recipe.manifest().reference.clone(),
        })?;
        imported.warnings.iter().for_each(|warning| self.recipe.pipeline.report().warn(warning));

        let genver = self.free_genver(&version)?;
        let staging = self.workdir.stage(self.lock, &build_id(&version, genver), self.arch)?;
        let mut meta = self.meta_of(fetched, &imported, (&version, genver))?;
        self.stage_files(&staging, &imported, &mut meta)?;
        self.recipe.pipeline.history().append(&staging.path().join(STAGES))?;
        Ok(Origin::New(staging.publish(&meta, clock::now())?))
    }

    /// The latest build, if it was made of this image under this version.
    fn latest_import(&self, digest: Digest, version: Option<&str>) -> Result<Option<Build>> {
        let Some((build, meta)) = self.latest()? else { return Ok(None) };
        let same = meta.oci_imported == Some(true)
            && meta.images.get(MANIFEST).is_some_and(|manifest| manifest.sha256 == digest.to_string())
            && version
                .is_none_or(|version| build_id(version, meta.image_genver.unwrap_or(0)) == meta.buildid);
        Ok(same.then_some(build))
    }

    /// The version that was asked for, or else the one that the image tells.
    fn version_of(&self, fetched: &Fetched, version: Option<&str>) -> Result<String> {
        let told = version.map(str::to_owned).or_else(|| fetched.image.version());
        let told = told.ok_or_else(|| {
            let cause = format!("{} does not say its version ({})", fetched.source, oci::VERSION);
            Failure::new(Kind::Artifact, cause, "give one by --version, or label the image")
        })?;
        check_version(&told)?;
        Ok(told)
    }

    fn meta_of(&self, fetched: &Fetched, imported: &Imported, name: (&str, u64)) -> Result<Meta> {
        let (version, genver) = name;
        let manifest = self.recipe.manifest();
        let (commit, stats) = (&imported.commit, &imported.commit.stats);
        let config = self.recipe.image_config();
        Ok(Meta {
            buildid: build_id(version, genver),
            name: manifest.name.clone(),
            summary: Some(manifest.summary.clone()),
            reference: Some(self.branch_of(commit)?),
            ostree_commit: commit.commit.to_string(),
            ostree_content_checksum: Some(commit.content.to_string()),
            ostree_timestamp: Utc::from_epoch(imported.timestamp).rfc3339(),
            // The commit's own, if it has one: the build may be called otherwise.
            ostree_version: Some(commit.version.clone())
                .filter(|own| !own.is_empty())
                .unwrap_or_else(|| version.to_owned()),
            ostree_n_content_total: Some(stats.n_content_total),
            ostree_n_content_written: Some(stats.n_content_written),
            ostree_n_metadata_total: Some(stats.n_metadata_total),
            ostree_n_metadata_written: Some(stats.n_metadata_written),
            ostree_content_bytes_written: Some(stats.content_bytes_written),
            basearch: Some(self.arch.to_owned()),
            build_timestamp: Some(Utc::from_epoch(clock::now()).rfc3339()),
            image_config_checksum: Some(config.to_string()),
            image_input_checksum: Some(input_checksum(commit, config).to_string()),
            image_genver: Some(genver),
            config_variant: self.workdir.variant()?,
            oci_imported: Some(true),
            oci_imported_labels: Some(fetched.image.labels()),
            base_oscontainer: match &fetched.source {
                ImageRef::Registry(repository) => Some(ContainerImage {
                    image: repository.to_string(),
                    digest: Some(format!("sha256:{}", fetched.image.digest)),
                    ..ContainerImage::default()
                }),
                _ => None,
            },
            meta_stamp: Some(nanos().into()),
            ..Meta::default()
        })
    }

    /// The branch that the commit itself names, or else the configuration's.
    fn branch_of(&self, commit: &OstreeCommit) -> Result<String> {
        let object = self.repo(commit)?.commit_object(commit.commit)?;
        let bound = match object.metadata.get(key::REF_BINDING) {
            Some(Value::Strings(branches)) => branches.first().cloned(),
            _ => None,
        };
        Ok(bound.unwrap_or_else(|| commit.branch.clone()))
    }

    fn stage_files(&self, staging: &Staging, imported: &Imported, meta: &mut Meta) -> Result<()> {
        let repo = self.repo(&imported.commit)?;
        let commit = imported.commit.commit;
        fs::write_atomic(&staging.path().join("ostree-commit-object"), repo.commit_bytes(commit)?, 0o444)?;
        let metadata = repo.commit_object(commit)?.metadata;
        let mut told = metadata.to_json();
        if metadata.get(key::PACKAGES).is_none()
            && let Some(packages) = self.rpm_packages(&repo, commit)
        {
            told[key::PACKAGES] = packages;
        }
        write_json(&staging.path().join("commitmeta.json"), &told)?;
        let (name, id, arch) = (&self.recipe.manifest().name, staging.id(), self.arch);
        for (key, source, file) in [
            ("ostree", &imported.image.archive, format!("{name}-{id}-ostree.{arch}.ociarchive")),
            (MANIFEST, &imported.image.manifest, format!("{name}-{id}-ostree.{arch}-manifest.json")),
        ] {
            let mut artifact = stage_file(staging, source, &file)?;
            artifact.skip_compression = Some(true);
            meta.images.insert(key.to_owned(), artifact);
        }
        Ok(())
    }
}
