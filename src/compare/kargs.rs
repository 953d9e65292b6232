//! Kernel arguments in the boot entries of two builds' disk images.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::builds::Build;
use crate::compression::Format;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::vm;

/// The arguments of one kind of image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KargsChange {
    /// The artifact.
    pub artifact: String,
    /// Arguments that are new.
    pub added: Vec<String>,
    /// Arguments that are gone.
    pub removed: Vec<String>,
    /// All arguments now.
    pub now: Vec<String>,
}

/// Compares the images that both builds have.
pub(super) fn compare(from: &Build, to: &Build, scratch: &Path) -> Result<Vec<KargsChange>> {
    let (old, new) = (from.meta()?.images, to.meta()?.images);
    let mut changes = Vec::new();
    for name in new.keys().filter(|name| old.contains_key(*name)) {
        let (Some(from), Some(to)) = (disk(from, name)?, disk(to, name)?) else { continue };
        let (before, now) = (arguments(&from, scratch)?, arguments(&to, scratch)?);
        let without = |one: &[String], other: &[String]| -> Vec<String> {
            one.iter().filter(|word| !other.contains(word)).cloned().collect()
        };
        changes.push(KargsChange {
            artifact: name.clone(),
            added: without(&now, &before),
            removed: without(&before, &now),
            now,
        });
    }
    if changes.is_empty() {
        let cause = format!("builds {} and {} have no disk image of one kind", from.id(), to.id());
        return Err(Failure::new(Kind::Artifact, cause, "compare without --kargs").into());
    }
    Ok(changes)
}

/// The file of an artifact that is a disk.
fn disk(build: &Build, name: &str) -> Result<Option<PathBuf>> {
    let (path, artifact) = build.artifact(name)?;
    let plain = Format::of_name(&artifact.path).map_or(artifact.path.as_str(), |(_, plain)| plain);
    if !plain.ends_with(".qcow2") && !plain.ends_with(".raw") {
        return Ok(None);
    }
    if plain != artifact.path {
        return Err(Failure::new(
            Kind::Artifact,
            format!("{} is compressed", path.display()),
            format!("run `nosa decompress --build {} --artifact {name}`", build.id()),
        )
        .into());
    }
    Ok(Some(path))
}

/// The arguments of the first boot entry, without the one that names the deployment.
fn arguments(disk: &Path, scratch: &Path) -> Result<Vec<String>> {
    fs::create_dir_all(scratch)?;
    let entries = vm::read_arguments(disk, scratch).map_err(|error| {
        let cause = format!("{} has no boot entry that can be read: {error:#}", disk.display());
        Failure::new(Kind::Artifact, cause, "compare without --kargs")
    })?;
    let words = entries.first().map(String::as_str).unwrap_or_default().split_whitespace();
    Ok(words.filter(|word| !word.starts_with("ostree=")).map(str::to_owned).collect())
}
