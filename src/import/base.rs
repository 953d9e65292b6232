//! The tree of an image's own OSTree commit, from the objects of its layers.

use std::collections::BTreeMap;

use anyhow::Result;

use super::limits::{DEPTH, ENTRIES, Held, bytes_of, refuse};
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
    pub(super) fn tree(&self, objects: &Objects, held: &Held) -> Result<Tree> {
        let mut loader = Loader { objects, held, nodes: 1 };
        let root = loader.load((self.commit.tree, self.commit.meta), 0)?;
        Ok(Tree::new(root, loader.nodes))
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

/// Makes a tree of objects. A few crafted ones can describe an endless tree: so it is counted while it grows.
struct Loader<'a> {
    objects: &'a Objects,
    held: &'a Held,
    nodes: u64,
}

impl Loader<'_> {
    fn load(&mut self, (tree, meta): (Checksum, Checksum), depth: usize) -> Result<Dir> {
        let objects = self.objects;
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
        self.nodes += (entries.files.len() + entries.dirs.len()) as u64;
        if depth >= DEPTH || self.nodes > ENTRIES {
            return Err(refuse(format!(
                "its commit is over {DEPTH} directories deep or has over {ENTRIES} files"
            )));
        }
        self.held.add(bytes.len() + bytes_of(&attributes.xattrs))?;
        let mut found = BTreeMap::new();
        for (name, checksum) in entries.files {
            let target = objects.files.get(&checksum).ok_or_else(|| missing(checksum, "file"))?;
            self.held.add(target.as_ref().map_or(0, String::len))?;
            found.insert(name, Node::file(checksum, target.clone()));
        }
        for (name, tree, meta) in entries.dirs {
            found.insert(name, Node::Dir(self.load((tree, meta), depth + 1)?));
        }
        Ok(Dir { attributes: attributes.clone(), entries: found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ostree::Attributes;

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

    #[test]
    fn a_few_objects_that_unfold_to_more_than_memory_are_refused() {
        let attributes =
            Attributes { xattrs: vec![(b"user.x".to_vec(), vec![0; 1 << 10])], ..Attributes::directory() };
        let meta = Checksum::of(&attributes.encode());
        let mut objects = Objects { metas: [(meta, attributes)].into(), ..Objects::default() };
        let mut below = Vec::new();
        // Each level names the one below sixteen times.
        for _ in 0..4 {
            let bytes = DirTree { files: Vec::new(), dirs: below }.encode();
            let tree = Checksum::of(&bytes);
            objects.trees.insert(tree, bytes);
            below = (0..16).map(|n| (format!("{n:02}"), tree, meta)).collect();
        }
        let (_, tree, meta) = below.remove(0);
        let commit = Commit {
            metadata: Metadata::new(),
            parent: None,
            subject: String::new(),
            body: String::new(),
            timestamp: 0,
            tree,
            meta,
        };
        let base = Base { checksum: tree, commit, bytes: Vec::new() };
        let error = base.tree(&objects, &Held::new(1 << 20)).unwrap_err().to_string();
        assert!(error.contains("attributes are more than"), "{error}");
    }
}
