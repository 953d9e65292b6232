//! Adding and replacing the files of a build.

use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::build::{Build, Target};
use super::meta::Artifact;
use super::workdir::BuildLock;
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// In a build's directory: `.NAME.switch` has the old and the new file's name, a line each, while one file of
/// artifact NAME takes the other's place.
const SWITCH: &str = ".switch";

/// The files of a build that are no artifact's, but for those that [`is_file_name`] knows by how they begin.
const RECORDS: &[&str] =
    &["commitmeta.json", "oci-plan.json", "ostree-commit-object", "ostree-commitmeta-object", "stages.json"];

/// Whether an artifact can be called so; it becomes a part of file names.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Whether an artifact's file can be called so: a plain name, and none of the build's records.
#[must_use]
pub fn is_file_name(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
    let record = RECORDS.contains(&path)
        || path.starts_with("manifest-lock.generated.")
        || (path.starts_with("meta.") && path.ends_with(".json"));
    path.starts_with(|c: char| c.is_ascii_alphanumeric()) && path.chars().all(plain) && !record
}

impl Build {
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
        _lock: &BuildLock,
        name: &str,
        source: &Path,
        artifact: &Artifact,
        now_nanos: u64,
        after: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let before = self.meta()?;
        self.may_be_at(&before.images, name, &artifact.path)?;
        let target = self.dir.join(&artifact.path);
        let beside = self.beside(&artifact.path)?;
        fs::remove_file_if_exists(&beside)?;
        fs::link_or_copy(source, &beside)?;
        finish(&beside)?;
        after("written")?;

        let old = before.images.get(name).cloned();
        // Where the merge is delayed, nothing can be taken out of the list: parts only add to it.
        if old.is_some() && before.delayed_meta_merge != Some(true) {
            self.update(now_nanos, |meta| {
                meta.images.remove(name);
                Ok(())
            })?;
            after("unlisted")?;
        }
        fs::rename(&beside, &target)?;
        fs::sync_dir(&self.dir)?;
        after("moved")?;

        self.update_at(Target::Delayable(Some(name)), now_nanos, |meta| {
            meta.images.insert(name.to_owned(), artifact.clone());
            Ok(())
        })?;
        after("listed")?;
        match old {
            Some(old) if old.path != artifact.path => {
                self.remove_unlisted(&self.meta()?.images, &old.path).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Fails unless the file of artifact `name` may be called `path`, which must not be another one's.
    fn may_be_at(&self, images: &BTreeMap<String, Artifact>, name: &str, path: &str) -> Result<()> {
        let refuse = |cause: String, cure: &str| -> Result<()> {
            Err(Failure::new(Kind::Artifact, cause, cure).into())
        };
        if !is_name(name) {
            let cause = format!("`{}` cannot name an artifact", name.escape_debug());
            return refuse(cause, "use lower-case letters, digits and -, and begin with a letter or digit");
        }
        if !is_file_name(path) {
            let cause = format!("`{}` cannot name an artifact's file", path.escape_debug());
            return refuse(cause, "correct it in meta.json");
        }
        match images.iter().find(|(other, image)| *other != name && image.path == path) {
            Some((other, _)) => refuse(
                format!("{path} of build {} is the file of artifact `{other}`, not of `{name}`", self.id),
                "remove the build here first",
            ),
            None => Ok(()),
        }
    }

    /// Removes an artifact's file that none of `images` has any more; tells which.
    fn remove_unlisted(&self, images: &BTreeMap<String, Artifact>, path: &str) -> Result<Option<PathBuf>> {
        let file = self.dir.join(path);
        if !is_file_name(path) || !file.exists() || images.values().any(|image| image.path == path) {
            return Ok(None);
        }
        fs::remove_file_if_exists(&file)?;
        Ok(Some(file))
    }

    /// Where a file that will be called `path` is written first; what an interruption leaves there goes.
    pub fn beside(&self, path: &str) -> Result<PathBuf> {
        if path.is_empty() || path.contains('/') || path.starts_with('.') {
            let cause = format!("`{path}` cannot name an artifact's file");
            return Err(Failure::new(Kind::Artifact, cause, "correct it in meta.json").into());
        }
        Ok(self.dir.join(format!(".{path}.new")))
    }

    /// Has the file at [`Self::beside`] of `artifact.path` take the place of artifact `name`'s file, if there is
    /// one. An interruption leaves the old one whole and listed, or the new one; [`Workdir::recover`] removes
    /// the other.
    pub fn switch_artifact(
        &self,
        _lock: &BuildLock,
        name: &str,
        artifact: &Artifact,
        now_nanos: u64,
        after: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let beside = self.beside(&artifact.path)?;
        let target = self.dir.join(&artifact.path);
        let mut images = self.meta()?.images;
        self.may_be_at(&images, name, &artifact.path)?;
        let old = images.remove(name).unwrap_or_default();
        if old.path == artifact.path && old.sha256 != artifact.sha256 {
            let cause = format!("artifact `{name}` of build {} is another one here: {}", self.id, old.path);
            return Err(Failure::new(Kind::Artifact, cause, "remove the build here first").into());
        }
        if old.path != artifact.path && target.exists() {
            let cause = format!("{} is there already, and is not artifact `{name}`", target.display());
            return Err(Failure::new(Kind::Artifact, cause, "move that file away, and run it again").into());
        }
        finish(&beside)?;
        let journal = self.dir.join(format!(".{name}{SWITCH}"));
        fs::write_atomic(&journal, format!("{}\n{}\n", old.path, artifact.path), 0o644)?;
        after("announced")?;
        fs::rename(&beside, &target)?;
        fs::sync_dir(&self.dir)?;
        after("moved")?;
        self.update_at(Target::Final, now_nanos, |meta| {
            meta.images.insert(name.to_owned(), artifact.clone());
            Ok(())
        })?;
        after("listed")?;
        self.settle_switch(&journal)?;
        after("finished")
    }

    /// Removes which of a switch's two files meta.json does not list, then its journal.
    fn settle_switch(&self, journal: &Path) -> Result<Vec<PathBuf>> {
        let listed = self.meta()?.images;
        let mut removed = Vec::new();
        for path in fs::read_optional(journal)?.unwrap_or_default().lines() {
            removed.extend(self.remove_unlisted(&listed, path)?);
        }
        fs::remove_file_if_exists(journal)?;
        Ok(removed)
    }

    /// Ends switches that were interrupted; returns the files that are gone now.
    pub(super) fn recover_switches(&self) -> Result<Vec<PathBuf>> {
        let mut removed = Vec::new();
        for path in fs::read_dir_sorted(&self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') && name.ends_with(SWITCH) {
                removed.extend(self.settle_switch(&path)?);
            }
        }
        Ok(removed)
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
