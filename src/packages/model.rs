//! A package as every backend describes it.

use std::fmt;
use std::path::PathBuf;

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

/// A package that a system has, by its own record.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// Its version.
    pub evr: Evr,
    /// Its architecture.
    pub arch: String,
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

#[cfg(test)]
impl Package {
    /// A package of Debian's for tests, with epoch 1; its digest is that of its version.
    pub(crate) fn sample(name: &str, version: &str) -> Self {
        Self {
            name: name.into(),
            evr: Evr { epoch: 1, version: version.into(), release: String::new() },
            arch: "amd64".into(),
            source: name.into(),
            repo: "debian".into(),
            location: format!("pool/{name}.deb"),
            size: 1,
            sha256: Digest::of(version),
        }
    }
}

/// A version that a lock fixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Locked {
    /// The package's name.
    pub name: String,
    /// Its version, with the epoch if it has one.
    pub evr: String,
    /// Its architecture, if the lock says one.
    pub arch: Option<String>,
    /// The digest of its file, if the lock has one.
    pub sha256: Option<Digest>,
    /// The lockfile that says so.
    pub origin: String,
}

/// What a repository may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Supply {
    /// Any package.
    All,
    /// Packages that `repo-packages` names.
    Named,
    /// Packages that are locked; any if nothing is.
    Locked,
}

/// The repository id of packages that come from `overrides/`.
pub const OVERRIDES: &str = "overrides";

/// A package file of the user's own that stands in for the repositories' package of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalPackage {
    /// The file.
    pub path: PathBuf,
    /// The digest of the file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

impl LocalPackage {
    /// The file's own name.
    #[must_use]
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}
