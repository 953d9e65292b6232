//! Files of two trees: those of OSTree commits, and any others that come as a list.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::Commit;
use crate::ostree::{Checksum, Content, NodeObject};

/// A file that is not the same in both trees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileChange {
    /// Its path.
    pub path: String,
    /// Its size before, if it had one.
    pub from_size: Option<u64>,
    /// Its size now.
    pub to_size: Option<u64>,
}

/// Files that differ, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Only in the second.
    pub added: Vec<FileChange>,
    /// Only in the first.
    pub removed: Vec<FileChange>,
    /// Other content, owner, mode or attributes.
    pub changed: Vec<FileChange>,
}

/// What identifies a file, and its size if that is known.
pub(super) type Listing = BTreeMap<String, (String, Option<u64>)>;

/// Compares two listings.
pub(super) fn compare_listings(from: &Listing, to: &Listing) -> FileDiff {
    let mut diff = FileDiff::default();
    for (path, (identity, size)) in from {
        let (path, from_size) = (path.clone(), *size);
        match to.get(&path) {
            None => diff.removed.push(FileChange { path, from_size, to_size: None }),
            Some((other, size)) if other != identity => {
                diff.changed.push(FileChange { path, from_size, to_size: *size });
            }
            Some(_) => {}
        }
    }
    for (path, (_, size)) in to.iter().filter(|(path, _)| !from.contains_key(*path)) {
        diff.added.push(FileChange { path: path.clone(), from_size: None, to_size: *size });
    }
    diff
}

pub(super) fn compare(from: &Commit<'_>, to: &Commit<'_>) -> Result<FileDiff> {
    let mut diff = compare_listings(&from.listing()?, &to.listing()?);
    // Only for what is told is it worth opening an object.
    for change in diff.removed.iter_mut().chain(&mut diff.changed) {
        change.from_size = from.size(&change.path)?;
    }
    for change in diff.added.iter_mut().chain(&mut diff.changed) {
        change.to_size = to.size(&change.path)?;
    }
    Ok(diff)
}

impl Commit<'_> {
    fn listing(&self) -> Result<Listing> {
        let nodes = self.repo.walk(self.checksum)?.into_iter();
        Ok(nodes
            .map(|node| {
                let identity = match node.object {
                    NodeObject::Directory { meta, .. } => format!("directory {meta}"),
                    NodeObject::File(checksum) => format!("file {checksum}"),
                };
                (format!("/{}", node.path.display()), (identity, None))
            })
            .collect())
    }

    fn size(&self, path: &str) -> Result<Option<u64>> {
        match self.find(path)? {
            None => Ok(None),
            Some(checksum) => match self.repo.file(checksum)?.content {
                Content::Regular(_, size) => Ok(Some(size)),
                Content::Symlink(_) => Ok(None),
            },
        }
    }

    /// A file of the commit.
    pub(super) fn find(&self, path: &str) -> Result<Option<Checksum>> {
        self.repo.find(self.checksum, path.as_ref())
    }
}
