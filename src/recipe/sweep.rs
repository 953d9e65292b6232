//! Emptying the cache of what neither a build that stays nor the last run needs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::builds::Workdir;
use crate::ostree::{Checksum, REPO, Repo};
use crate::pipeline::{Cache, Pipeline, Unit};

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Stage outputs.
    pub entries: u64,
    /// Objects of the repository.
    pub objects: u64,
    /// The space they took.
    pub bytes: u64,
}

/// Removes stage outputs but those of the last run, and commits but those of the builds `kept` and of the last
/// run. Builds hold all their own files, so that they need nothing but their commit, for more disk images.
pub fn prune_cache(pipeline: &Pipeline, workdir: &Workdir, kept: &[String], dry_run: bool) -> Result<Swept> {
    let progress = pipeline.report().progress("emptying the cache", 0, Unit::Items);
    let cache = pipeline.cache();
    let (entries, freed) = cache.retain(&pipeline.last_keys()?, dry_run)?;
    let mut swept = Swept { entries, objects: 0, bytes: freed };
    if let Some(repo) = commit_repo(cache)? {
        let mut commits = BTreeSet::new();
        for id in kept {
            for build in workdir.architectures(id).unwrap_or_default() {
                let commit = build.meta()?.ostree_commit;
                let parsed: Checksum =
                    commit.parse().with_context(|| format!("reading the commit of build {id}"))?;
                commits.insert(parsed);
            }
        }
        for out in cache.outputs(&pipeline.last_keys()?, "commit") {
            commits.insert(crate::ostree::OstreeCommit::in_output(&out)?);
        }
        let (objects, bytes) = repo.prune(&commits, dry_run)?;
        swept.objects = objects;
        swept.bytes += bytes;
    }
    drop(progress);
    Ok(swept)
}

/// The repository of the cache's commits, if anything was ever committed.
pub fn commit_repo(cache: &Cache) -> Result<Option<Repo>> {
    let dir = cache.shared(REPO)?;
    if dir.join("config").exists() { Repo::open(&dir).map(Some) } else { Ok(None) }
}
