//! What differs between two builds: packages, files, sizes of artifacts, initramfs, kernel arguments. It reads
//! builds and changes nothing.

mod cpio;
mod files;
mod initramfs;
mod kargs;
mod packages;
mod sizes;
mod version;

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;

pub use files::{FileChange, FileDiff};
pub use kargs::KargsChange;
pub use packages::{PackageChange, PackageMove};
pub use sizes::SizeChange;

use crate::builds::Build;
use crate::failure::{self, Failure, Kind};
use crate::ostree::{Checksum, Repo};
use crate::pipeline::{Reporter, Unit};

/// What to compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Packages.
    Packages,
    /// Files of the OSTree commits.
    Files,
    /// Sizes of artifacts.
    Sizes,
    /// Files in the initramfs.
    Initramfs,
    /// Kernel arguments of the disk images.
    Kargs,
}

impl Part {
    /// All, in the order in which they are told.
    pub const ALL: &[Self] = &[Self::Packages, Self::Files, Self::Sizes, Self::Initramfs, Self::Kargs];
}

/// What came of comparing a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compared<T> {
    /// It was not asked for.
    Skipped,
    /// It cannot be compared, and why.
    Unavailable(String),
    /// What differs.
    Changes(T),
}

impl<T> Compared<T> {
    /// Whether it was not asked for.
    #[must_use]
    pub const fn is_skipped(&self) -> bool {
        matches!(self, Self::Skipped)
    }
}

/// What differs between two builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diff {
    /// The older build.
    pub from: String,
    /// The newer build.
    pub to: String,
    /// Their architecture.
    pub arch: String,
    /// Packages.
    #[serde(skip_serializing_if = "Compared::is_skipped")]
    pub packages: Compared<Vec<PackageChange>>,
    /// Files of the OSTree commits.
    #[serde(skip_serializing_if = "Compared::is_skipped")]
    pub files: Compared<FileDiff>,
    /// Sizes of artifacts.
    #[serde(skip_serializing_if = "Compared::is_skipped")]
    pub sizes: Compared<Vec<SizeChange>>,
    /// Files in the initramfs.
    #[serde(skip_serializing_if = "Compared::is_skipped")]
    pub initramfs: Compared<FileDiff>,
    /// Kernel arguments of the disk images.
    #[serde(skip_serializing_if = "Compared::is_skipped")]
    pub kargs: Compared<Vec<KargsChange>>,
}

/// Compares two builds. With no `parts` all are compared, and one that cannot be says why; a part that was
/// asked for and cannot be compared is a failure. `scratch` is a directory for parts of disks.
pub fn diff(
    from: &Build,
    to: &Build,
    parts: &[Part],
    repo: Option<&Repo>,
    scratch: &Path,
    report: &Reporter,
) -> Result<Diff> {
    let commits =
        || -> Result<(Commit<'_>, Commit<'_>)> { Ok((Commit::of(from, repo)?, Commit::of(to, repo)?)) };
    let asked = Asked { parts, report };
    Ok(Diff {
        from: from.id().to_owned(),
        to: to.id().to_owned(),
        arch: to.arch().to_owned(),
        packages: asked.compare(Part::Packages, "comparing packages", || packages::compare(from, to))?,
        files: asked.compare(Part::Files, "comparing files", || {
            let (from, to) = commits()?;
            files::compare(&from, &to)
        })?,
        sizes: asked.compare(Part::Sizes, "comparing sizes", || sizes::compare(from, to))?,
        initramfs: asked.compare(Part::Initramfs, "comparing the initramfs", || {
            let (from, to) = commits()?;
            initramfs::compare(&from, &to)
        })?,
        kargs: asked
            .compare(Part::Kargs, "comparing kernel arguments", || kargs::compare(from, to, scratch))?,
    })
}

/// Which parts were asked for.
struct Asked<'a> {
    parts: &'a [Part],
    report: &'a Reporter,
}

impl Asked<'_> {
    fn compare<T>(&self, part: Part, doing: &str, work: impl FnOnce() -> Result<T>) -> Result<Compared<T>> {
        if !self.parts.is_empty() && !self.parts.contains(&part) {
            return Ok(Compared::Skipped);
        }
        let progress = self.report.progress(doing, 0, Unit::Items);
        let result = work();
        drop(progress);
        match result {
            Ok(changes) => Ok(Compared::Changes(changes)),
            Err(error) if self.parts.is_empty() => match failure::classify(&error) {
                failure if failure.kind == Kind::Artifact => Ok(Compared::Unavailable(failure.cause)),
                _ => Err(error),
            },
            Err(error) => Err(error),
        }
    }
}

/// A build's commit in the repository.
struct Commit<'a> {
    repo: &'a Repo,
    checksum: Checksum,
}

impl<'a> Commit<'a> {
    fn of(build: &Build, repo: Option<&'a Repo>) -> Result<Self> {
        let commit = build.meta()?.ostree_commit;
        let checksum: Checksum =
            commit.parse().with_context(|| format!("reading the commit of build {}", build.id()))?;
        match repo {
            Some(repo) if repo.is_complete(checksum)? => Ok(Self { repo, checksum }),
            _ => Err(Failure::new(
                Kind::Artifact,
                format!("the cache has no commit {checksum} of build {}", build.id()),
                "compare builds that were made here, or only --packages, --sizes or --kargs",
            )
            .into()),
        }
    }
}
