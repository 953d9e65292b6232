//! The tree of an image's own OSTree commit, from the objects of its layers.

use std::collections::BTreeMap;

use anyhow::Result;

use super::limits::{DEPTH, ENTRIES, refuse};
use super::objects::Objects;
use super::path::shown;
use super::tree::{Dir, Node, Tree};
use crate::ostree::{Checksum, Commit, DirTree, Metadata, Value, is_branch, key};

/// An image's own commit.
pub(super) struct Base {
    pub(super) checksum: Checksum,
    pub(super) commit: Commit,
    pub(super) bytes: Vec<u8>,
}

impl Base {
    /// The commit that the image's label names, or the only one.
    pub(super) fn find(objects: &Objects, label: Option<&str>) -> Result<Self> {
        let found = match label {
            Some(label) => objects.commits.iter().find(|(checksum, _)| checksum.to_string() == label),
            None => objects.commits.iter().next().filter(|_| objects.commits.len() == 1),
        };
        let (checksum, bytes) = found.ok_or_else(|| {
            refuse(format!("its layers have no commit {}", label.unwrap_or("of their own, or several")))
        })?;
        let commit = Commit::decode(bytes)
            .map_err(|error| refuse(format!("commit {checksum} is damaged: {error:#}")))?;
        check(&commit.metadata)?;
        Ok(Self { checksum: *checksum, commit, bytes: bytes.clone() })
    }

    /// The commit's tree.
    pub(super) fn tree(&self, objects: &Objects) -> Result<Tree> {
        let mut nodes = 1;
        let root = load(objects, (self.commit.tree, self.commit.meta), 0, &mut nodes)?;
        Ok(Tree::new(root, nodes))
    }
}

/// What a commit says of itself becomes names of files and lines of boot entries when disks are made of it.
fn check(metadata: &Metadata) -> Result<()> {
    if let Some(Value::Strings(branches)) = metadata.get(key::REF_BINDING)
        && let Some(branch) = branches.iter().find(|branch| !is_branch(branch))
    {
        return Err(refuse(format!(
            "its commit is bound to {}, which is no branch",
            shown(branch.as_bytes())
        )));
    }
    metadata.text(key::VERSION).map_or(Ok(()), check_version)
}

/// A version is one line of text.
pub(super) fn check_version(version: &str) -> Result<()> {
    if version.contains(char::is_control) {
        return Err(refuse(format!("its version is {}", shown(version.as_bytes()))));
    }
    Ok(())
}

/// A few crafted objects can describe an endless tree: so it is counted while it grows.
fn load(objects: &Objects, dir: (Checksum, Checksum), depth: usize, nodes: &mut u64) -> Result<Dir> {
    let (tree, meta) = dir;
    let missing = |checksum: Checksum, kind: &str| {
        refuse(format!("object {checksum}.{kind} of its commit is not in its layers"))
    };
    let attributes = objects.metas.get(&meta).ok_or_else(|| missing(meta, "dirmeta"))?;
    if !attributes.is_dir() {
        return Err(refuse(format!("object {meta}.dirmeta is of no directory")));
    }
    let bytes = objects.trees.get(&tree).ok_or_else(|| missing(tree, "dirtree"))?;
    let entries =
        DirTree::decode(bytes).map_err(|error| refuse(format!("object {tree} is damaged: {error:#}")))?;
    *nodes += (entries.files.len() + entries.dirs.len()) as u64;
    if depth >= DEPTH || *nodes > ENTRIES {
        return Err(refuse(format!(
            "its commit is over {DEPTH} directories deep or has over {ENTRIES} files"
        )));
    }
    let mut found = BTreeMap::new();
    for (name, checksum) in entries.files {
        let target = objects.files.get(&checksum).ok_or_else(|| missing(checksum, "file"))?;
        found.insert(name, Node::file(checksum, target.clone()));
    }
    for (name, tree, meta) in entries.dirs {
        found.insert(name, Node::Dir(load(objects, (tree, meta), depth + 1, nodes)?));
    }
    Ok(Dir { attributes: attributes.clone(), entries: found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_names_branches_and_a_version_only() {
        let commit = |branch: &str, version: &str| {
            let mut metadata = Metadata::new();
            metadata.set(key::REF_BINDING, vec![branch.to_owned()]);
            metadata.set(key::VERSION, version);
            let (tree, meta) = (Checksum::of(b""), Checksum::of(b""));
            let (subject, body) = (String::new(), String::new());
            let bytes = Commit { metadata, parent: None, subject, body, timestamp: 0, tree, meta }.encode();
            let mut objects = Objects::default();
            objects.commits.insert(Checksum::of(&bytes), bytes);
            objects
        };
        let found = |branch: &str, version: &str| {
            Base::find(&commit(branch, version), None).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(found("os/x86_64/stable", "1.0 (Größe)"), Ok(()));
        for branch in ["../../../../etc/cron.d/x", "/etc/x", "os/../../x", "os\nx", ""] {
            assert!(found(branch, "1.0").unwrap_err().contains("which is no branch"), "{branch}");
        }
        assert!(found("os", "1.0\noptions init=/bin/sh").unwrap_err().contains("its version"));
    }
}
