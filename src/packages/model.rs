//! A package as every backend describes it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::pipeline::Digest;

/// Epoch, version and release. Debian's revision is the release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Evr {
    /// Epoch, 0 when the package has none.
    pub epoch: u32,
    /// Upstream version.
    pub version: String,
    /// Release or Debian revision, empty for a native Debian package.
    pub release: String,
}

impl fmt::Display for Evr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.epoch != 0 {
            write!(f, "{}:", self.epoch)?;
        }
        f.write_str(&self.version)?;
        if self.release.is_empty() { Ok(()) } else { write!(f, "-{}", self.release) }
    }
}

/// One package of a resolved set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub evr: Evr,
    /// Its architecture in the package manager's spelling (`amd64`, `all`, `noarch`).
    pub arch: String,
    /// The source package it was built from.
    pub source: String,
    /// The id of the repository it comes from.
    pub repo: String,
    /// Its path inside the archive; never a host name.
    pub location: String,
    /// Its size in bytes.
    pub size: u64,
    /// The digest of the package file.
    pub sha256: Digest,
}

/// A version that a lock fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The package's name.
    pub name: String,
    /// Its version, with the epoch if it has one.
    pub evr: String,
    /// The digest of its file, if the lock has one.
    pub sha256: Option<Digest>,
    /// The lockfile that says so.
    pub origin: String,
}
