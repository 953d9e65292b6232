//! What nosa asks of a package manager.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use regex::Regex;

use super::model::{LocalPackage, Locked, Package};
use super::snapshot::Snapshot;
use crate::host::Tool;
use crate::pipeline::{Digest, Reporter};

/// A package somebody asked for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Its name (or, quoted in the treefile, an expression of the package manager's).
    pub name: String,
    /// File and line that ask for it; empty when nobody in particular does.
    pub origin: String,
}

/// What to resolve.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The packages asked for.
    pub packages: Vec<Wanted>,
    /// Packages that must not come in.
    pub exclude: Vec<String>,
    /// Whether weak dependencies come in.
    pub recommends: bool,
    /// Versions that are fixed already.
    pub locked: Vec<Locked>,
    /// Whether anything that is not locked is refused.
    pub strict: bool,
}

/// Files of packages that are not wanted in the tree.
#[derive(Debug, Clone)]
pub struct RemovedFiles {
    /// Whose files.
    pub package: Regex,
    /// Which: an absolute path goes when any of these matches.
    pub patterns: Vec<Regex>,
}

/// What to install where.
pub struct InstallRequest<'a> {
    /// The packages.
    pub packages: &'a [Package],
    /// Their files, in the same order.
    pub files: &'a [PathBuf],
    /// The tree: an empty directory.
    pub tree: &'a Path,
    /// A scratch directory.
    pub tmp: &'a Path,
    /// Where scripts' output goes.
    pub log: &'a Path,
    /// The time that ends up in the tree.
    pub epoch: u64,
    /// Files to leave out.
    pub remove: &'a [RemovedFiles],
    /// Whether documentation is installed (licences are in any case).
    pub documentation: bool,
    /// The languages whose translations are installed; none for all.
    pub languages: Option<&'a [String]>,
    /// How long a script may take.
    pub limit: Duration,
    /// Where to tell of progress.
    pub report: &'a Reporter,
}

/// A package manager.
pub trait PackageBackend: Sync {
    /// Its name, for people: `apt`, `dnf`.
    fn name(&self) -> &'static str;

    /// Raised when the same packages give another tree than before.
    fn generation(&self) -> u32 {
        1
    }

    /// Whatever shapes its answers besides a request and a snapshot: which repositories there are, and
    /// what may come from each.
    fn identity(&self) -> Digest;

    /// The packages of the user's own that beat the repositories' and the lock's.
    fn overrides(&self) -> &[LocalPackage];

    /// The host's programs it needs.
    fn tools(&self) -> &'static [&'static Tool];

    /// Asks the repositories what they offer, verifies their signatures and remembers the answer.
    fn refresh(&self, report: &Reporter) -> Result<Snapshot>;

    /// What [`PackageBackend::refresh`] remembered last; `None` before the first time.
    fn snapshot(&self) -> Result<Option<Snapshot>>;

    /// Finds the exact set of packages for a request, sorted by name, from the remembered snapshot.
    fn resolve(&self, request: &Request, report: &Reporter) -> Result<Vec<Package>>;

    /// Downloads what is not there yet, verifies all, and returns the files in the packages' order.
    fn download(&self, packages: &[Package], report: &Reporter) -> Result<Vec<PathBuf>>;

    /// Unpacks packages into an empty tree and runs their scripts in the sandbox.
    fn install(&self, request: &InstallRequest) -> Result<()>;

    /// Which package each path of an installed tree belongs to, by absolute path.
    fn owners(&self, tree: &Path) -> Result<std::collections::BTreeMap<String, String>>;
}
