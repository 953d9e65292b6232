//! The stage that commits a tree.

use std::path::PathBuf;

use anyhow::Result;

use super::artifact::OstreeCommit;
use super::commit::CommitOptions;
use super::repo::Repo;
use super::tree::TreeOptions;
use crate::host::Tool;
use crate::pipeline::{Digest, KeyHasher, Stage, Unit, Workspace};

/// The name of the cache's shared directory that is the repository.
pub const REPO: &str = "repo";

/// Commits a tree to the cache's repository.
pub struct CommitTree {
    /// The tree's root.
    pub tree: PathBuf,
    /// What the tree is.
    pub digest: Digest,
    /// The operating system's version.
    pub version: String,
    /// What the commit says.
    pub options: CommitOptions,
}

impl Stage for CommitTree {
    type Output = OstreeCommit;
    const NAME: &'static str = "commit";
    const VERSION: u32 = 1;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("tree", self.digest);
        hash.input("branch", &self.options.branch);
        hash.input("subject", &self.options.subject);
        hash.input("body", &self.options.body);
        hash.input("parent", self.options.parent.map(|parent| parent.to_string()).unwrap_or_default());
        hash.input("timestamp", self.options.timestamp);
        hash.input("metadata", self.options.metadata.to_json());
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[]
    }

    fn run(&self, work: &Workspace) -> Result<OstreeCommit> {
        let repo = Repo::create(&work.shared(REPO)?)?;
        let progress = work.report.progress("writing the commit's objects", 0, Unit::Items);
        let committed = repo.commit(&self.tree, TreeOptions::default(), &self.options)?;
        drop(progress);
        OstreeCommit::record(&work.out(), (REPO, &repo), &committed, &self.options.branch, &self.version)
    }
}
