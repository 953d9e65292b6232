//! What an image may ask for, and how it is told that it asked for too much.

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
/// The bytes of an OSTree object that is no file, and of all of them.
pub(super) const OBJECT: u64 = 128 << 20;
pub(super) const ALL_OBJECTS: u64 = 512 << 20;

const DISTRUST: &str = "make the image again, and do not trust where this one came from";

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
