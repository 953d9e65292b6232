//! What an image may ask for, and how it is told that it asked for too much.

use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

use crate::failure::{Failure, Kind};

/// Entries of all layers that are files of the system. The largest systems have a tenth of it.
pub(super) const ENTRIES: u64 = 1_000_000;
/// Entries of all layers of an OSTree commit, which name each file four times.
pub(super) const OBJECT_ENTRIES: u64 = 4 * ENTRIES;
/// The bytes of a path, and of a link's target: PATH_MAX.
pub(super) const PATH: usize = 4096;
/// The bytes of one name in a path: NAME_MAX.
pub(super) const NAME: usize = 255;
/// The directories in a path.
pub(super) const DEPTH: usize = 128;
/// Links that are followed for one path, as Linux does.
pub(super) const LINKS: usize = 40;
/// The bytes of one file's extended attributes, names and values.
pub(super) const XATTRS: usize = 60_000;
/// The bytes of an OSTree object that is no file.
pub(super) const OBJECT: u64 = 128 << 20;
/// The bytes of all that is held in memory. The largest systems have a tenth of it.
pub(super) const HELD: u64 = 1 << 30;

const DISTRUST: &str = "make the image again, and do not trust where this one came from";

/// How much an image may still make nosa hold in memory, taken from by all who read its layers: names, targets of
/// links, attributes, directories.
#[derive(Debug)]
pub(super) struct Held(AtomicU64);

impl Held {
    /// So many bytes at the most.
    pub(super) const fn new(most: u64) -> Self {
        Self(AtomicU64::new(most))
    }

    /// Holds so many bytes more.
    pub(super) fn add(&self, bytes: usize) -> Result<()> {
        let less = |left: u64| left.checked_sub(bytes as u64);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => Err(refuse("its names, links and attributes are more than any operating system has")),
        }
    }
}

/// The bytes of extended attributes, names and values.
pub(super) fn bytes_of(xattrs: &[(Vec<u8>, Vec<u8>)]) -> usize {
    xattrs.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Why an image is refused: a phrase that follows the name of the layer, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}")]
pub(super) struct Refused {
    what: String,
    cure: String,
}

impl Refused {
    /// A refusal of what no honest tool writes.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), cure: DISTRUST.to_owned() }
    }

    /// A refusal with a cure.
    pub(super) fn with(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }

    /// As a failure; `place` says where: `layer 3 of 7`.
    pub(super) fn at(&self, place: &str) -> Failure {
        Failure::new(Kind::Artifact, format!("{place}: {}", self.what), &self.cure)
    }
}

/// A refusal as an error.
pub(super) fn refuse(what: impl Into<String>) -> anyhow::Error {
    Refused::new(what).into()
}

/// Names the place in an error, if it is a refusal.
pub(super) fn at(place: &str, error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Refused>() {
        Some(refused) => refused.at(place).into(),
        None => error.context(format!("reading {place}")),
    }
}
