//! A commit as a stage's output: a small file that names it; its objects lie in a repository that all
//! stages and workdirs share.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use super::commit::Committed;
use super::repo::Repo;
use super::staging::Stats;
use crate::host::fs;
use crate::pipeline::{Artifact, Cache, Digest};

const FILE: &str = "commit.json";
/// The commit's own bytes, as builds publish them.
const OBJECT: &str = "ostree-commit-object";

/// A commit in the repository of a cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OstreeCommit {
    /// Its checksum.
    pub commit: Checksum,
    /// The checksum of what it holds, whatever its metadata.
    pub content: Checksum,
    /// The branch that named it when it was made.
    pub branch: String,
    /// The operating system's version.
    pub version: String,
    /// The name of the directory, shared by all stages of the cache, that is its repository.
    pub repo: String,
    /// What it is made of and what was new.
    pub stats: Stats,
}

impl OstreeCommit {
    /// Records a commit that a stage made in the shared directory `repo`, in that stage's `out`.
    pub fn record(
        out: &Path,
        repo: (&str, &Repo),
        committed: &Committed,
        branch: &str,
        version: &str,
    ) -> Result<Self> {
        let (name, repo) = repo;
        let Committed { commit, content, stats } = *committed;
        let artifact = Self {
            commit,
            content,
            branch: branch.to_owned(),
            version: version.to_owned(),
            repo: name.to_owned(),
            stats,
        };
        fs::write(&out.join(OBJECT), repo.commit_bytes(commit)?)?;
        let text = serde_json::to_string_pretty(&artifact).context("encoding a commit's record")?;
        fs::write(&out.join(FILE), text)?;
        Ok(artifact)
    }

    /// A commit that is in the cache's repository already, e.g. one of an earlier build.
    #[must_use]
    pub fn in_repo(commit: Checksum, content: Checksum, branch: &str, version: &str) -> Self {
        Self {
            commit,
            content,
            branch: branch.to_owned(),
            version: version.to_owned(),
            repo: super::stage::REPO.to_owned(),
            stats: Stats::default(),
        }
    }

    /// The commit that a stage left in its output directory.
    pub fn in_output(out: &Path) -> Result<Checksum> {
        Ok(Self::load(out)?.commit)
    }

    /// Opens the repository that holds the commit.
    pub fn open_repo(&self, cache: &Cache) -> Result<Repo> {
        Repo::open(&cache.shared(&self.repo)?)
    }
}

impl Artifact for OstreeCommit {
    fn load(out: &Path) -> Result<Self> {
        let path = out.join(FILE);
        serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("reading {}", path.display()))
    }

    fn digest(&self) -> Digest {
        self.commit.digest()
    }

    fn is_whole(&self, cache: &Cache) -> Result<bool> {
        let dir = cache.shared(&self.repo)?;
        if !dir.join("config").exists() {
            return Ok(false);
        }
        Repo::open(&dir)?.is_complete(self.commit)
    }
}
