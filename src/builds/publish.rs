//! Making a build appear at once, and putting right what an interrupted one left.
//!
//! ```text
//! builds/builds.json          the list; a build exists when it is listed here (the commit point)
//! builds/latest               link to the newest build's id
//! builds/ID/ARCH/meta.json    and the build's other files
//! builds/.new-ID-ARCH/        a build that is being put together
//! builds/.build-commit        "ID ARCH" while that build moves from there to its place
//! builds/.build-prune         the ids of builds that are being removed
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::build::Build;
use super::index::Index;
use super::json;
use super::meta::{Meta, check};
use super::version::check_version;
use super::workdir::{BuildLock, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::fs;

const STAGING: &str = ".new-";
const JOURNAL: &str = ".build-commit";
/// The ids of builds, a line each, while they are being removed.
pub(super) const PRUNING: &str = ".build-prune";

/// A build that nobody sees yet. Dropping it removes it.
#[derive(Debug)]
pub struct Staging<'w> {
    workdir: &'w Workdir,
    id: String,
    arch: String,
    dir: PathBuf,
    listed: bool,
    abandoned: bool,
}

/// What publishing has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Written,
    Announced,
    Moved,
    Listed,
    Linked,
    Finished,
}

/// What [`Workdir::recover`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Leftovers of interrupted commands that are gone now.
    pub removed: Vec<PathBuf>,
    /// Directories that look like builds but are not listed; left alone, for somebody put them there.
    pub unlisted: Vec<PathBuf>,
    /// Whether `latest` pointed elsewhere.
    pub relinked: bool,
}

impl Workdir {
    /// Begins a build; its files go into [`Staging::path`].
    pub fn stage<'w>(&'w self, _lock: &BuildLock, id: &str, arch: &str) -> Result<Staging<'w>> {
        check_version(id)?;
        let mut trial = self.index()?;
        trial.insert(id, arch)?;
        self.stage_at(id, arch, false)
    }

    /// As [`Self::stage`], for a build that was fetched: builds.json may list it though it is not here.
    pub fn stage_listed<'w>(&'w self, _lock: &BuildLock, id: &str, arch: &str) -> Result<Staging<'w>> {
        check_version(id)?;
        check_version(arch)?;
        self.stage_at(id, arch, true)
    }

    fn stage_at<'w>(&'w self, id: &str, arch: &str, listed: bool) -> Result<Staging<'w>> {
        let target = self.builds_dir().join(id).join(arch);
        if target.exists() {
            return Err(Failure::new(
                Kind::Artifact,
                format!("{} exists, though builds.json does not list it", target.display()),
                "move that directory away, or give another version by --version",
            )
            .into());
        }
        let dir = self.builds_dir().join(format!("{STAGING}{id}-{arch}"));
        fs::remove_tree(&dir)?;
        fs::create_dir_all(&dir)?;
        Ok(Staging { workdir: self, id: id.to_owned(), arch: arch.to_owned(), dir, listed, abandoned: true })
    }

    /// builds.json; a new working directory has an empty one.
    pub fn index(&self) -> Result<Index> {
        let path = self.index_path();
        match json::read(&path)? {
            Some(value) => Index::parse(&path.display().to_string(), value),
            None if self.build_dirs()?.is_empty() => Ok(Index::default()),
            None => Err(Failure::new(
                Kind::Artifact,
                format!("{} is missing, though there are builds", path.display()),
                "restore it from a copy, or move the builds away",
            )
            .into()),
        }
    }

    /// The `builds/ID/ARCH` directories that hold a meta.json.
    fn build_dirs(&self) -> Result<Vec<(String, String, PathBuf)>> {
        let mut found = Vec::new();
        for (id, path) in subdirectories(&self.builds_dir())? {
            for (arch, path) in subdirectories(&path)? {
                if path.join("meta.json").is_file() {
                    found.push((id.clone(), arch, path));
                }
            }
        }
        Ok(found)
    }

    /// Puts right what an interrupted command left; to be called first by whoever holds the lock.
    pub fn recover(&self, _lock: &BuildLock) -> Result<Recovery> {
        let builds = self.builds_dir();
        for (_, _, dir) in self.build_dirs()? {
            self.settle_lock(&dir.join("meta.json"))?;
        }
        self.settle_lock(&self.index_path())?;
        // What lies beside its place may be another writer's at this moment, but not while we have this.
        let _record = self.record(&self.index_path())?;
        let mut recovery = Recovery::default();
        let mut remove = |path: PathBuf| -> Result<()> {
            fs::remove_tree(&path)?;
            recovery.removed.push(path);
            Ok(())
        };
        let (journal, pruning) = (builds.join(JOURNAL), builds.join(PRUNING));
        let announced = fs::read_optional(&journal)?.unwrap_or_default();
        // The list may be absent only because its first build never got there.
        let index = match json::read(&self.index_path())? {
            None if !announced.is_empty() => Index::default(),
            _ => self.index()?,
        };
        if let Some(id) = self.unfinished(&index, &announced, &mut remove)? {
            // Fails where it is not empty, and then something else is in there.
            drop(std::fs::remove_dir(builds.join(id)));
        }
        let pruned = fs::read_optional(&pruning)?.unwrap_or_default();
        for id in pruned.lines().filter(|id| check_version(id).is_ok() && index.get(id).is_none()) {
            if builds.join(id).exists() {
                remove(builds.join(id))?;
            }
        }
        fs::remove_file_if_exists(&pruning)?;
        for path in fs::read_dir_sorted(&builds)? {
            if name_of(&path).is_some_and(|name| name.starts_with(STAGING) || is_beside(&name)) {
                remove(path)?;
            }
        }
        for (id, arch, dir) in self.build_dirs()? {
            if index.has(&id, &arch) {
                for path in fs::read_dir_sorted(&dir)? {
                    if name_of(&path).is_some_and(|name| is_beside(&name)) {
                        remove(path)?;
                    }
                }
                Build::new(self, &id, &arch).recover_switches()?.into_iter().try_for_each(&mut remove)?;
            } else {
                recovery.unlisted.push(dir);
            }
        }
        recovery.relinked = self.link_latest(&index)?;
        fs::remove_file_if_exists(&journal)?;
        Ok(recovery)
    }

    /// Removes the build that was announced and never listed; returns its id if that no longer exists at all.
    fn unfinished<'a>(
        &self,
        index: &Index,
        announced: &'a str,
        remove: &mut dyn FnMut(PathBuf) -> Result<()>,
    ) -> Result<Option<&'a str>> {
        let Some((id, arch)) = announced.trim().split_once(' ') else { return Ok(None) };
        if check_version(id).is_err() || check_version(arch).is_err() || index.has(id, arch) {
            return Ok(None);
        }
        let dir = self.builds_dir().join(id).join(arch);
        if dir.exists() {
            remove(dir)?;
        }
        Ok(index.get(id).is_none().then_some(id))
    }

    /// Makes `latest` point to the newest build that is here; tells whether it did not.
    pub(super) fn link_latest(&self, index: &Index) -> Result<bool> {
        let builds = self.builds_dir();
        let link = builds.join("latest");
        let current = std::fs::read_link(&link).ok();
        match index.builds().iter().find(|build| builds.join(&build.id).is_dir()) {
            Some(build) if current.as_deref() == Some(Path::new(&build.id)) => Ok(false),
            Some(build) => fs::symlink_atomic(Path::new(&build.id), &link).map(|()| true),
            None => {
                fs::remove_file_if_exists(&link)?;
                Ok(current.is_some())
            }
        }
    }
}

impl Staging<'_> {
    /// Where the build's files go.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The build's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Writes meta.json and makes the build appear; `now` is in seconds since 1970.
    pub fn publish(self, meta: &Meta, now: u64) -> Result<Build> {
        self.publish_stepwise(&meta.to_json()?, now, &mut |_| Ok(()))
    }

    /// As [`Self::publish`], with a meta.json as it stands.
    pub fn publish_json(self, meta: &Value, now: u64) -> Result<Build> {
        self.publish_stepwise(meta, now, &mut |_| Ok(()))
    }

    fn publish_stepwise(
        mut self,
        meta: &Value,
        now: u64,
        after: &mut dyn FnMut(Step) -> Result<()>,
    ) -> Result<Build> {
        check("meta.json", meta, None)?;
        json::write(&self.dir.join("meta.json"), meta)?;
        // Each file by itself: flushing the whole disk would wait for the cache's gigabytes as well.
        fs::sync_files(&self.dir)?;
        // From here on an interruption is for `recover` to put right.
        self.abandoned = false;
        after(Step::Written)?;

        let builds = self.workdir.builds_dir();
        let path = self.workdir.index_path();
        let _record = self.workdir.record(&path)?;
        let mut index = self.workdir.index()?;
        if !self.listed || !index.has(&self.id, &self.arch) {
            index.insert(&self.id, &self.arch)?;
        }
        index.touch(now);
        let journal = builds.join(JOURNAL);
        fs::write_atomic(&journal, format!("{} {}\n", self.id, self.arch), 0o644)?;
        after(Step::Announced)?;

        let parent = builds.join(&self.id);
        fs::create_dir_all(&parent)?;
        fs::rename(&self.dir, &parent.join(&self.arch))?;
        fs::sync_dir(&parent)?;
        fs::sync_dir(&builds)?;
        after(Step::Moved)?;

        json::write(&path, &index.to_json())?;
        after(Step::Listed)?;

        self.workdir.link_latest(&index)?;
        after(Step::Linked)?;

        fs::remove_file_if_exists(&journal)?;
        after(Step::Finished)?;
        Ok(Build::new(self.workdir, &self.id, &self.arch))
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        if self.abandoned {
            // What stays is removed by the next `recover`.
            drop(fs::remove_tree(&self.dir));
        }
    }
}

/// Whether this is the name of a file that was being written beside its place, or says that one is.
fn is_beside(name: &str) -> bool {
    name.starts_with('.') && (name.ends_with(".new") || name.ends_with(".building"))
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// The real, visible directories below `path`.
fn subdirectories(path: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for path in fs::read_dir_sorted(path)? {
        // Hidden ones are other writers' too, and go while this looks at them.
        let Some(name) = name_of(&path).filter(|name| !name.starts_with('.')) else { continue };
        let meta = std::fs::symlink_metadata(&path).with_context(|| format!("reading {}", path.display()))?;
        if meta.is_dir() {
            found.push((name, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
