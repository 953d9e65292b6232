//! Reading a commit: its nodes in order, each directory before what it holds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, Result};

use super::checksum::{Checksum, ObjectKind};
use super::objects::{Attributes, DirTree};
use super::repo::Repo;
use crate::failure::{Failure, Kind};

/// Trees deeper than this are refused: a few crafted objects can describe endless ones.
const DEEPEST: usize = 256;
/// Trees with more nodes than this are refused, for the same reason.
const LARGEST: usize = 4 << 20;

/// A node of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path within the tree; the root's is empty.
    pub path: PathBuf,
    /// Which objects it is.
    pub object: NodeObject,
}

/// The objects of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeObject {
    /// A directory.
    Directory {
        /// Its entries.
        tree: Checksum,
        /// Its attributes' checksum.
        meta: Checksum,
        /// Its attributes.
        attributes: Attributes,
    },
    /// A regular file or symbolic link; [`Repo::file`] has its attributes and content.
    File(Checksum),
}

/// What was read already: directories repeat within a tree.
#[derive(Default)]
struct Known {
    trees: HashMap<Checksum, (Rc<DirTree>, Survey)>,
    metas: HashMap<Checksum, Attributes>,
}

/// How much a directory leads to.
#[derive(Debug, Clone, Copy)]
struct Survey {
    nodes: usize,
    height: usize,
}

impl Repo {
    /// The nodes of a commit: the root first, each directory's files, then its directories, by name.
    pub fn walk(&self, commit: Checksum) -> Result<Vec<Node>> {
        let commit = self.commit_object(commit)?;
        let mut known = Known::default();
        let root = self.survey(commit.tree, 0, &mut known)?;
        if root.height > DEEPEST || root.nodes > LARGEST {
            return Err(self.endless(commit.tree));
        }
        let mut nodes = Vec::with_capacity(root.nodes);
        self.descend(PathBuf::new(), (commit.tree, commit.meta), &mut known, &mut nodes)?;
        Ok(nodes)
    }

    /// Reads each distinct directory below `tree` once and sums up what it leads to.
    fn survey(&self, tree: Checksum, depth: usize, known: &mut Known) -> Result<Survey> {
        if let Some((_, survey)) = known.trees.get(&tree) {
            return Ok(*survey);
        }
        if depth > DEEPEST {
            return Err(self.endless(tree));
        }
        let entries = self.dirtree(tree)?;
        let mut survey = Survey { nodes: 1 + entries.files.len(), height: 0 };
        for (_, child, _) in &entries.dirs {
            let child = self.survey(*child, depth + 1, known)?;
            survey.nodes = survey.nodes.saturating_add(child.nodes);
            survey.height = survey.height.max(child.height + 1);
        }
        known.trees.insert(tree, (Rc::new(entries), survey));
        Ok(survey)
    }

    fn descend(
        &self,
        path: PathBuf,
        (tree, meta): (Checksum, Checksum),
        known: &mut Known,
        nodes: &mut Vec<Node>,
    ) -> Result<()> {
        let (entries, _) = known.trees.get(&tree).cloned().context("walking a directory not surveyed")?;
        let attributes = match known.metas.get(&meta) {
            Some(attributes) => attributes.clone(),
            None => known.metas.entry(meta).or_insert(self.dirmeta(meta)?).clone(),
        };
        nodes.push(Node { path: path.clone(), object: NodeObject::Directory { tree, meta, attributes } });
        for (name, checksum) in &entries.files {
            nodes.push(Node { path: path.join(name), object: NodeObject::File(*checksum) });
        }
        for (name, tree, meta) in &entries.dirs {
            self.descend(path.join(name), (*tree, *meta), known, nodes)?;
        }
        Ok(())
    }

    fn endless(&self, tree: Checksum) -> anyhow::Error {
        let why = anyhow::anyhow!("its tree is over {DEEPEST} deep or has over {LARGEST} nodes");
        self.damaged(tree, ObjectKind::DirTree, &why)
    }

    /// Finds one file of a commit by its path; `None` when there is no such file. Links are not followed.
    pub fn find(&self, commit: Checksum, path: &Path) -> Result<Option<Checksum>> {
        let mut tree = self.dirtree(self.commit_object(commit)?.tree)?;
        let parts: Vec<&str> = path
            .components()
            .filter(|part| matches!(part, std::path::Component::Normal(_)))
            .map(|part| part.as_os_str().to_str().context("finding a name that is not UTF-8"))
            .collect::<Result<_>>()?;
        let Some((name, dirs)) = parts.split_last() else { return Ok(None) };
        for dir in dirs {
            match tree.dirs.iter().find(|(known, ..)| known == dir) {
                Some((_, child, _)) => tree = self.dirtree(*child)?,
                None => return Ok(None),
            }
        }
        Ok(tree.files.iter().find(|(known, _)| known == name).map(|(_, checksum)| *checksum))
    }

    /// Whether a commit is there with everything it needs; cheap: no content is read.
    pub fn is_complete(&self, commit: Checksum) -> Result<bool> {
        if !self.has(commit, ObjectKind::Commit) {
            return Ok(false);
        }
        let nodes = match self.walk(commit) {
            Ok(nodes) => nodes,
            Err(error) if is_artifact(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        Ok(nodes.iter().all(|node| match &node.object {
            NodeObject::File(checksum) => self.has(*checksum, ObjectKind::File),
            NodeObject::Directory { .. } => true,
        }))
    }
}

fn is_artifact(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.kind == Kind::Artifact)
}
