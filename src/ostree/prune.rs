//! Removing the objects that no commit needs which is to stay.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::checksum::{Checksum, ObjectKind};
use super::repo::Repo;
use super::walk::NodeObject;
use crate::host::fs;

impl Repo {
    /// Removes every branch and object but those of the commits `keep`; those of them that are not here are
    /// passed over. Branches go first, then commits, so that an interruption leaves no commit that lacks
    /// something and looks whole. Returns how many objects, and the space they took.
    pub fn prune(&self, keep: &BTreeSet<Checksum>, dry_run: bool) -> Result<(u64, u64)> {
        let mut needed = BTreeSet::new();
        for commit in keep {
            if !self.is_complete(*commit)? {
                continue;
            }
            needed.insert(commit.object_path(ObjectKind::Commit));
            for node in self.walk(*commit)? {
                match node.object {
                    NodeObject::Directory { tree, meta, .. } => {
                        needed.insert(tree.object_path(ObjectKind::DirTree));
                        needed.insert(meta.object_path(ObjectKind::DirMeta));
                    }
                    NodeObject::File(file) => {
                        needed.insert(file.object_path(ObjectKind::File));
                    }
                }
            }
        }
        if !dry_run {
            self.drop_branches(&self.path().join("refs/heads"), keep)?;
        }
        let (mut commits, mut others) = (Vec::new(), Vec::new());
        for dir in fs::read_dir_sorted(&self.path().join("objects"))? {
            for path in fs::read_dir_sorted(&dir)? {
                let (name, kind) = (path.with_extension("commit"), path.extension());
                let detached = kind.is_some_and(|kind| kind == "commitmeta");
                let object = if detached { &name } else { &path };
                if !needed.contains(&relative(object)) {
                    let commit = detached || kind.is_some_and(|kind| kind == "commit");
                    if commit { &mut commits } else { &mut others }.push(path);
                }
            }
        }
        let mut bytes = 0;
        for path in commits.iter().chain(&others) {
            let meta =
                std::fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
            bytes += if meta.nlink() == 1 { meta.blocks() * 512 } else { 0 };
            if !dry_run {
                fs::remove_file_if_exists(path)?;
            }
        }
        Ok(((commits.len() + others.len()) as u64, bytes))
    }

    fn drop_branches(&self, dir: &Path, keep: &BTreeSet<Checksum>) -> Result<()> {
        for path in fs::read_dir_sorted(dir)? {
            if path.is_dir() {
                self.drop_branches(&path, keep)?;
            } else if !fs::read_to_string(&path)?.trim().parse().is_ok_and(|commit| keep.contains(&commit)) {
                fs::remove_file_if_exists(&path)?;
            }
        }
        Ok(())
    }
}

/// `ab/cdef….file` of an object's path.
fn relative(path: &Path) -> String {
    let parts: PathBuf = path.components().rev().take(2).collect();
    let mut names: Vec<_> = parts.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    names.reverse();
    names.join("/")
}
