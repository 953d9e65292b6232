//! One build on disk: reading it, and adding artifacts to it.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::json;
use super::merge::{apply_changes, merge_meta};
use super::meta::{Artifact, CommitMeta, Meta, check};
use super::workdir::{BuildLock, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// A build of one architecture that builds.json lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    id: String,
    arch: String,
    dir: PathBuf,
}

impl Workdir {
    /// The build with this id, or the newest one for `latest`.
    pub fn build(&self, id: &str, arch: &str) -> Result<Build> {
        let index = self.index()?;
        if id == "latest" {
            return match index.latest_for(arch) {
                Some(entry) => Ok(Build::new(self, &entry.id, arch)),
                None => Err(Failure::new(
                    Kind::Artifact,
                    format!("there is no build for {arch} in {}", self.builds_dir().display()),
                    "make one with `nosa build`",
                )
                .into()),
            };
        }
        if index.has(id, arch) {
            return Ok(Build::new(self, id, arch));
        }
        let cause = match index.get(id) {
            Some(entry) => format!("build {id} exists for {}, not for {arch}", entry.arches.join(" and ")),
            None => format!("there is no build {id} in {}", self.builds_dir().display()),
        };
        Err(Failure::new(Kind::Artifact, cause, "see `nosa list` for the builds there are").into())
    }
}

impl Build {
    pub(super) fn new(workdir: &Workdir, id: &str, arch: &str) -> Self {
        let dir = workdir.builds_dir().join(id).join(arch);
        Self { id: id.to_owned(), arch: arch.to_owned(), dir }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its architecture.
    #[must_use]
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its meta.json with types.
    pub fn meta(&self) -> Result<Meta> {
        Meta::from_json(&self.meta_json()?).with_context(|| format!("reading {}", self.meta_path().display()))
    }

    /// Its meta.json as it stands.
    pub fn meta_json(&self) -> Result<Value> {
        self.required("meta.json")
    }

    /// Its commitmeta.json.
    pub fn commit_meta(&self) -> Result<CommitMeta> {
        CommitMeta::from_json(&self.required("commitmeta.json")?)
    }

    fn meta_path(&self) -> PathBuf {
        self.dir.join("meta.json")
    }

    fn required(&self, name: &str) -> Result<Value> {
        json::read(&self.dir.join(name))?.ok_or_else(|| {
            Failure::new(Kind::Artifact, format!("build {} has no {name}", self.id), "restore it from a copy")
                .into()
        })
    }

    /// An artifact and where it lies.
    pub fn artifact(&self, name: &str) -> Result<(PathBuf, Artifact)> {
        let meta = self.meta()?;
        let missing = |cause: String, cure: String| Failure::new(Kind::Artifact, cause, cure);
        let Some(artifact) = meta.images.get(name) else {
            let there: Vec<&str> = meta.images.keys().map(String::as_str).collect();
            return Err(missing(
                format!("build {} has no artifact `{name}`; it has {}", self.id, there.join(", ")),
                format!("make it with `nosa buildextend {name}`"),
            )
            .into());
        };
        let path = self.dir.join(&artifact.path);
        if !path.is_file() {
            return Err(missing(
                format!("{} is missing, though meta.json lists it as `{name}`", path.display()),
                format!("make it again with `nosa buildextend {name} --force`"),
            )
            .into());
        }
        Ok((path, artifact.clone()))
    }

    /// Changes meta.json. If somebody else wrote it since `change` saw it, both changes are joined by
    /// coreos-assembler's rule. `now_nanos` is in nanoseconds since 1970.
    pub fn update(
        &self,
        _lock: &BuildLock,
        now_nanos: u64,
        change: impl FnOnce(&mut Meta) -> Result<()>,
    ) -> Result<Meta> {
        let path = self.meta_path();
        let before = self.meta_json()?;
        let mut meta = Meta::from_json(&before)?;
        let known = meta.to_json()?;
        change(&mut meta)?;
        let mut mine = before.clone();
        apply_changes(&mut mine, &known, &meta.to_json()?);
        let merged = merge_meta(&self.meta_json()?, &mine, now_nanos)?;
        check(&path.display().to_string(), &merged, Some(&before))?;
        json::write(&path, &merged)?;
        Meta::from_json(&merged)
    }

    /// Adds the file `source` as artifact `name`, under the file name in `artifact`; it is linked where
    /// possible, so `source` must not be changed afterwards. One that is there already is replaced: an
    /// interruption leaves the old one, the new one, or none, never a mixture.
    pub fn add_artifact(
        &self,
        lock: &BuildLock,
        name: &str,
        source: &Path,
        artifact: &Artifact,
        now_nanos: u64,
    ) -> Result<()> {
        self.add_artifact_stepwise(lock, name, source, artifact, now_nanos, &mut |_| Ok(()))
    }

    pub(super) fn add_artifact_stepwise(
        &self,
        lock: &BuildLock,
        name: &str,
        source: &Path,
        artifact: &Artifact,
        now_nanos: u64,
        after: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let target = self.dir.join(&artifact.path);
        if artifact.path.is_empty() || artifact.path.contains('/') || artifact.path.starts_with('.') {
            let cause = format!("`{}` cannot name an artifact's file", artifact.path);
            return Err(Failure::new(Kind::Internal, cause, "").into());
        }
        let beside = self.dir.join(format!(".{}.new", artifact.path));
        fs::remove_file_if_exists(&beside)?;
        fs::link_or_copy(source, &beside)?;
        finish(&beside)?;
        after("written")?;

        let old = self.meta()?.images.get(name).cloned();
        if old.is_some() {
            self.update(lock, now_nanos, |meta| {
                meta.images.remove(name);
                Ok(())
            })?;
            after("unlisted")?;
        }
        fs::rename(&beside, &target)?;
        fs::sync_dir(&self.dir)?;
        after("moved")?;

        self.update(lock, now_nanos, |meta| {
            meta.images.insert(name.to_owned(), artifact.clone());
            Ok(())
        })?;
        after("listed")?;
        match old {
            Some(old) if old.path != artifact.path => fs::remove_file_if_exists(&self.dir.join(old.path)),
            _ => Ok(()),
        }
    }
}

/// Flushes a file and takes away the right to write it, as coreos-assembler does.
fn finish(path: &Path) -> Result<()> {
    let seal = || {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        file.set_permissions(Permissions::from_mode(mode & 0o555))?;
        file.sync_all()
    };
    seal().with_context(|| format!("finishing {}", path.display()))
}
