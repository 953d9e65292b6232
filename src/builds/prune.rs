//! Removing builds. The list goes first: a build that is not listed does not exist, and a journal tells whose
//! directories are still to go when that was interrupted.

use anyhow::Result;
use serde::Serialize;

use super::index::Index;
use super::publish::PRUNING;
use super::version::check_version;
use super::workdir::{BuildLock, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// Which builds to remove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All that have no tag but the newest so many; 0 stands for all.
    KeepLast(usize),
    /// These.
    Builds(Vec<String>),
}

/// What pruning removes and keeps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// The builds that go, newest first.
    pub removed: Vec<String>,
    /// The builds that stay, newest first.
    pub kept: Vec<String>,
    /// Those of them that stay because of a tag.
    pub tagged: Vec<String>,
}

impl Workdir {
    /// What [`Self::prune`] would do.
    pub fn plan_prune(&self, selection: &Selection) -> Result<Pruned> {
        self.select(&self.index()?, selection)
    }

    /// Removes builds; `now` is in seconds since 1970.
    pub fn prune(&self, lock: &BuildLock, selection: &Selection, now: u64) -> Result<Pruned> {
        self.prune_stepwise(lock, selection, now, &mut |_| Ok(()))
    }

    fn prune_stepwise(
        &self,
        lock: &BuildLock,
        selection: &Selection,
        now: u64,
        after: &mut dyn FnMut(&'static str) -> Result<()>,
    ) -> Result<Pruned> {
        self.recover(lock)?;
        let journal = self.builds_dir().join(PRUNING);
        // A tag that is set meanwhile is seen: list and choice are one step.
        let pruned = self.edit_index(now, |index| {
            let pruned = self.select(index, selection)?;
            if !pruned.removed.is_empty() {
                fs::write_atomic(&journal, pruned.removed.join("\n") + "\n", 0o644)?;
                after("announced")?;
            }
            index.remove(&pruned.removed);
            Ok(pruned)
        })?;
        after("unlisted")?;
        for id in &pruned.removed {
            fs::remove_tree(&self.builds_dir().join(id))?;
            after("removed")?;
        }
        fs::remove_file_if_exists(&journal)?;
        Ok(pruned)
    }

    fn select(&self, index: &Index, selection: &Selection) -> Result<Pruned> {
        if let Selection::Builds(ids) = selection {
            ids.iter().try_for_each(|id| self.may_go(index, id))?;
        }
        let mut pruned = Pruned::default();
        let mut left = match selection {
            Selection::KeepLast(count) => *count,
            Selection::Builds(_) => 0,
        };
        for entry in index.builds() {
            let id = entry.id.clone();
            let goes = match selection {
                Selection::KeepLast(0) => false,
                Selection::KeepLast(_) if !index.tags_of(&id).is_empty() => {
                    pruned.tagged.push(id.clone());
                    false
                }
                // What was never fetched takes no space here; its list belongs to where it came from.
                Selection::KeepLast(_) if !self.builds_dir().join(&id).is_dir() => false,
                Selection::KeepLast(_) if left > 0 => {
                    left -= 1;
                    false
                }
                Selection::KeepLast(_) => true,
                Selection::Builds(ids) => ids.contains(&id),
            };
            if goes {
                self.has_directory(&id)?;
            }
            if goes { &mut pruned.removed } else { &mut pruned.kept }.push(id);
        }
        Ok(pruned)
    }

    /// Fails unless an id names a build's own directory, and nothing else that would be removed in its stead.
    fn has_directory(&self, id: &str) -> Result<()> {
        if check_version(id).is_ok() {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Artifact,
            format!(
                "{} is damaged: `{}` cannot be a build's id",
                self.index_path().display(),
                id.escape_debug()
            ),
            "take that entry out of it by hand; nothing was removed",
        )
        .into())
    }

    fn may_go(&self, index: &Index, id: &str) -> Result<()> {
        if index.get(id).is_none() {
            return Err(Failure::new(
                Kind::Artifact,
                format!("there is no build {id} in {}", self.builds_dir().display()),
                "see `nosa list` for the builds there are",
            )
            .into());
        }
        let tags = index.tags_of(id);
        if tags.is_empty() {
            return Ok(());
        }
        Err(Failure::new(
            Kind::Artifact,
            format!("build {id} is tagged {}", tags.join(", ")),
            format!("keep it, or remove the tag first: `nosa tag delete --tag {}`", tags[0]),
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{assert_whole, publish, workdir};
    use super::*;

    #[test]
    fn an_interrupted_prune_removes_what_it_took_from_the_list_and_nothing_else() {
        for stop in ["announced", "unlisted", "removed", "never"] {
            let dir = tempfile::tempdir().unwrap();
            let workdir = workdir(dir.path());
            let lock = workdir.lock("test").unwrap();
            for id in ["1.0", "1.1", "1.2", "1.3"] {
                publish(&workdir, &lock, id);
            }
            workdir.set_tag("stable", Some("1.0"), None, false, 0).unwrap();
            let mut hook = |step: &str| if step == stop { anyhow::bail!("killed") } else { Ok(()) };
            let result = workdir.prune_stepwise(&lock, &Selection::KeepLast(1), 0, &mut hook);
            assert_eq!(result.is_ok(), stop == "never");
            workdir.recover(&lock).unwrap();
            let index = workdir.index().unwrap();
            let left: Vec<&str> = index.builds().iter().map(|build| build.id.as_str()).collect();
            let all = ["1.3", "1.2", "1.1", "1.0"];
            assert_eq!(left, if stop == "announced" { &all[..] } else { &["1.3", "1.0"] }, "{stop}");
            for id in all {
                assert_eq!(workdir.builds_dir().join(id).exists(), left.contains(&id), "{stop} {id}");
            }
            left.iter().for_each(|id| assert_whole(&workdir, id));
            assert!(!workdir.builds_dir().join(PRUNING).exists());
        }
    }

    #[test]
    fn a_selection_by_number_counts_what_has_no_tag() {
        let dir = tempfile::tempdir().unwrap();
        let workdir = workdir(dir.path());
        let lock = workdir.lock("test").unwrap();
        for id in ["1", "2", "3", "4"] {
            publish(&workdir, &lock, id);
        }
        workdir.set_tag("a", Some("3"), None, false, 0).unwrap();
        let removed = |selection| workdir.plan_prune(&selection).unwrap().removed;
        assert_eq!(removed(Selection::KeepLast(1)), ["2", "1"]);
        assert_eq!(removed(Selection::KeepLast(2)), ["1"]);
        assert_eq!(removed(Selection::KeepLast(0)), [""; 0]);
        assert_eq!(removed(Selection::Builds(vec!["4".to_owned()])), ["4"]);
    }

    #[test]
    fn an_id_that_is_no_directorys_name_removes_nothing() {
        let other = tempfile::tempdir().unwrap();
        let absolute = other.path().to_str().unwrap();
        for id in ["", ".", "..", "../src", absolute, "builds.json", "latest", "a/b"] {
            let dir = tempfile::tempdir().unwrap();
            let workdir = workdir(dir.path());
            let lock = workdir.lock("test").unwrap();
            publish(&workdir, &lock, "1.0");
            let mut list = workdir.index().unwrap().to_json();
            list["builds"].as_array_mut().unwrap().push(serde_json::json!({"id": id, "arches": ["x86_64"]}));
            super::super::json::write(&workdir.index_path(), &list).unwrap();
            let cause =
                format!("{} is damaged: `{id}` cannot be a build's id", workdir.index_path().display());
            let error = workdir.prune(&lock, &Selection::Builds(vec![id.to_owned()]), 0).unwrap_err();
            assert_eq!(error.to_string(), cause);
            let exists = workdir.builds_dir().join(id).is_dir();
            let rest = workdir.prune(&lock, &Selection::KeepLast(1), 0);
            assert_eq!(rest.err().map(|error| error.to_string()), exists.then_some(cause));
            assert_whole(&workdir, "1.0");
            assert_eq!(workdir.index().unwrap().builds().len(), 2);
            assert!(other.path().is_dir());
        }
    }
}
