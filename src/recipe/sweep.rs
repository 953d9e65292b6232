//! Emptying the cache of what neither a build that stays nor the last run needs.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::publish::STAGES;
use crate::builds::Workdir;
use crate::ostree::{Checksum, REPO, Repo};
use crate::pipeline::{Cache, Digest, Pipeline, Run, Unit};

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

/// Removes stage outputs but those of the last run and of the builds `kept`, and commits but theirs.
pub fn prune_cache(pipeline: &Pipeline, workdir: &Workdir, kept: &[String], dry_run: bool) -> Result<Swept> {
    let progress = pipeline.report().progress("emptying the cache", 0, Unit::Items);
    let cache = pipeline.cache();
    let mut keys = pipeline.last_keys()?;
    let mut commits = BTreeSet::new();
    for id in kept {
        // What is listed but not here needs nothing.
        for build in workdir.architectures(id).unwrap_or_default() {
            keys.extend(keys_of(&Run::read(&build.dir().join(STAGES))?));
            let commit = build.meta()?.ostree_commit;
            let parsed: Checksum =
                commit.parse().with_context(|| format!("reading the commit of build {id}"))?;
            commits.insert(parsed);
        }
    }
    keys.extend(keys_of(&Run::read(&Run::last_path(&workdir.tmp_dir()))?));
    let (entries, bytes) = cache.retain(&keys, dry_run)?;
    let mut swept = Swept { entries, objects: 0, bytes };
    if let Some(repo) = commit_repo(cache)? {
        for out in cache.outputs(&keys, "commit") {
            commits.insert(crate::ostree::OstreeCommit::in_output(&out)?);
        }
        let (objects, bytes) = repo.prune(&commits, dry_run)?;
        swept.objects = objects;
        swept.bytes += bytes;
    }
    drop(progress);
    Ok(swept)
}

fn keys_of(runs: &[Run]) -> Vec<(String, Digest)> {
    let stages = runs.iter().flat_map(|run| &run.stages);
    stages.filter(|stage| stage.success).map(|stage| (stage.stage.clone(), stage.key)).collect()
}

/// The repository of the cache's commits, if anything was ever committed.
pub fn commit_repo(cache: &Cache) -> Result<Option<Repo>> {
    let dir = cache.shared(REPO)?;
    if dir.join("config").exists() { Repo::open(&dir).map(Some) } else { Ok(None) }
}
