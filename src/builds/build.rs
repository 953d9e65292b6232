//! One build on disk: reading it, and adding artifacts to it.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::json;
use super::merge::{STAMP, apply_changes, fold, merge_meta};
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
    workdir: Workdir,
}

/// Below its directory: `OLD NEW` in two lines while one file of an artifact takes the other's place.
const SWITCH: &str = ".switch";
/// Says that writers leave files of their own.
const DELAYED: &str = "coreos-assembler.delayed-meta-merge";

/// Where a change of meta.json goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    /// Into meta.json, whatever it says of delays.
    Final,
    /// Into `meta.NAME.json`, if meta.json asks for that.
    Delayable(Option<&'a str>),
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
        Self { id: id.to_owned(), arch: arch.to_owned(), dir, workdir: workdir.clone() }
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

    /// Whether its directory is here: builds.json may list builds that were never fetched.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.meta_path().is_file()
    }

    /// Changes meta.json. If somebody else wrote it since `change` saw it, both changes are joined by
    /// coreos-assembler's rule. `now_nanos` is in nanoseconds since 1970.
    pub fn update(&self, now_nanos: u64, change: impl FnOnce(&mut Meta) -> Result<()>) -> Result<Meta> {
        self.update_at(Target::Delayable(None), now_nanos, change)
    }

    fn update_at(
        &self,
        target: Target<'_>,
        now_nanos: u64,
        change: impl FnOnce(&mut Meta) -> Result<()>,
    ) -> Result<Meta> {
        let merged = self.edit(target, now_nanos, true, |value| {
            let mut meta = Meta::from_json(value)?;
            let known = meta.to_json()?;
            change(&mut meta)?;
            apply_changes(value, &known, &meta.to_json()?);
            Ok(())
        })?;
        Meta::from_json(&merged)
    }

    /// Changes meta.json as JSON; problems that `change` adds are refused unless `validated` is false. A build
    /// whose merge is delayed gets the change as `meta.PART.json` (`part`, else the time).
    pub fn update_json(
        &self,
        part: Option<&str>,
        now_nanos: u64,
        validated: bool,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Value> {
        self.edit(Target::Delayable(part), now_nanos, validated, change)
    }

    fn edit(
        &self,
        target: Target<'_>,
        now_nanos: u64,
        validated: bool,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Value> {
        let path = self.meta_path();
        let _record = self.workdir.record(&path)?;
        let before = self.meta_json()?;
        let mut mine = before.clone();
        change(&mut mine)?;
        if mine == before {
            return Ok(before);
        }
        // A clock that went back must not make the newer side look like the older one.
        let stamp = before.get(STAMP).and_then(Value::as_u64).unwrap_or(0);
        let now_nanos = now_nanos.max(stamp.saturating_add(1));
        let disk = self.meta_json()?;
        let merged = merge_meta(&disk, &mine, now_nanos)?;
        if validated {
            check(&path.display().to_string(), &merged, Some(&before))?;
        }
        match target {
            Target::Delayable(part) if disk.get(DELAYED) == Some(&Value::Bool(true)) => {
                let part = part.map_or_else(|| now_nanos.to_string(), str::to_owned);
                json::write(&self.part_path(&part)?, &merged)?;
            }
            _ => json::write(&path, &merged)?,
        }
        Ok(merged)
    }

    fn part_path(&self, part: &str) -> Result<PathBuf> {
        if part.is_empty() || part.contains(['/', '\0']) {
            let cause = format!("`{part}` cannot be the name of a part of meta.json");
            return Err(Failure::new(Kind::Usage, cause, "name an artifact: qemu, metal, …").into());
        }
        Ok(self.dir.join(format!("meta.{part}.json")))
    }

    /// The parts of meta.json that writers left to be folded into it, oldest first.
    pub fn parts(&self) -> Result<Vec<PathBuf>> {
        let mut parts = Vec::new();
        for path in fs::read_dir_sorted(&self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("meta.") && name.ends_with(".json") && name != "meta.json" {
                let stamp = json::read(&path)?.and_then(|part| part.get(STAMP).and_then(Value::as_f64));
                parts.push((stamp.unwrap_or(0.0), path));
            }
        }
        parts.sort_by(|one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(&other.1)));
        Ok(parts.into_iter().map(|(_, path)| path).collect())
    }

    /// Folds the parts of meta.json into it and removes them; folding one twice changes nothing.
    pub fn finalize(&self, now_nanos: u64, validated: bool) -> Result<Vec<PathBuf>> {
        let path = self.meta_path();
        let _record = self.workdir.record(&path)?;
        let parts = self.parts()?;
        if parts.is_empty() {
            return Ok(parts);
        }
        let disk = self.meta_json()?;
        let mut folded = disk.clone();
        for part in &parts {
            let value = json::read(part)?.unwrap_or_default();
            fold(&mut folded, &disk, &value).with_context(|| format!("folding {}", part.display()))?;
        }
        folded[STAMP] = now_nanos.into();
        if validated {
            check(&path.display().to_string(), &folded, Some(&disk))?;
        }
        json::write(&path, &folded)?;
        parts.iter().try_for_each(|part| fs::remove_file_if_exists(part))?;
        Ok(parts)
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
        _lock: &BuildLock,
        name: &str,
        source: &Path,
        artifact: &Artifact,
        now_nanos: u64,
        after: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let target = self.dir.join(&artifact.path);
        let beside = self.beside(&artifact.path)?;
        fs::remove_file_if_exists(&beside)?;
        fs::link_or_copy(source, &beside)?;
        finish(&beside)?;
        after("written")?;

        let before = self.meta()?;
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
            Some(old) if old.path != artifact.path => fs::remove_file_if_exists(&self.dir.join(old.path)),
            _ => Ok(()),
        }
    }

    /// Where a file that will be called `path` is written first; what an interruption leaves there goes.
    pub fn beside(&self, path: &str) -> Result<PathBuf> {
        if path.is_empty() || path.contains('/') || path.starts_with('.') {
            let cause = format!("`{path}` cannot name an artifact's file");
            return Err(Failure::new(Kind::Artifact, cause, "correct it in meta.json").into());
        }
        Ok(self.dir.join(format!(".{path}.new")))
    }

    /// Has the file at [`Self::beside`] of `artifact.path` take the place of artifact `name`'s file. An
    /// interruption leaves the old one whole and listed, or the new one; [`Workdir::recover`] removes the
    /// other.
    pub fn switch_artifact(
        &self,
        _lock: &BuildLock,
        name: &str,
        artifact: &Artifact,
        now_nanos: u64,
        after: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<()> {
        let beside = self.beside(&artifact.path)?;
        let (_, old) = self.artifact(name)?;
        finish(&beside)?;
        let journal = self.dir.join(format!(".{name}{SWITCH}"));
        fs::write_atomic(&journal, format!("{}\n{}\n", old.path, artifact.path), 0o644)?;
        after("announced")?;
        fs::rename(&beside, &self.dir.join(&artifact.path))?;
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
            let file = self.dir.join(path);
            if self.beside(path).is_ok() && file.exists() && listed.values().all(|image| image.path != path) {
                fs::remove_file_if_exists(&file)?;
                removed.push(file);
            }
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
