//! Sizes of the artifacts of two builds.

use std::collections::BTreeSet;

use anyhow::Result;
use serde::Serialize;

use crate::builds::Build;

/// An artifact and its size in both builds; `None` where it is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SizeChange {
    /// Its name.
    pub artifact: String,
    /// Its size before.
    pub from: Option<u64>,
    /// Its size now.
    pub to: Option<u64>,
}

/// All artifacts of either build, by name. Where just one of the two is compressed, both count as they were
/// before.
pub(super) fn compare(from: &Build, to: &Build) -> Result<Vec<SizeChange>> {
    let (from, to) = (from.meta()?.images, to.meta()?.images);
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
    Ok(names
        .into_iter()
        .map(|name| {
            let (old, new) = (from.get(name), to.get(name));
            let plain = match (old, new) {
                (Some(old), Some(new)) => old.uncompressed_size.is_some() != new.uncompressed_size.is_some(),
                _ => false,
            };
            let size = |artifact: &crate::builds::Artifact| match artifact.uncompressed_size {
                Some(size) if plain => Some(size),
                _ => artifact.size,
            };
            SizeChange { artifact: name.clone(), from: old.and_then(size), to: new.and_then(size) }
        })
        .collect())
}
