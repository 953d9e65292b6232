//! Committing a tree.

use std::path::Path;

use anyhow::Result;

use super::checksum::{Checksum, ObjectKind};
use super::metadata::{Metadata, Value};
use super::objects::Commit;
use super::repo::Repo;
use super::staging::{Staging, Stats};
use super::tree::{self, TreeOptions};

/// The metadata keys that nosa, rpm-ostree and bootc know.
pub mod key {
    /// The version of the operating system.
    pub const VERSION: &str = "version";
    /// True when it holds a kernel.
    pub const BOOTABLE: &str = "ostree.bootable";
    /// The kernel's version.
    pub const LINUX: &str = "ostree.linux";
    /// The branches it is meant for.
    pub const REF_BINDING: &str = "ostree.ref-binding";
    /// A digest of what it was made from.
    pub const INPUTHASH: &str = "rpmostree.inputhash";
    /// Its packages.
    pub const PACKAGES: &str = "rpmostree.rpmdb.pkglist";
}

/// What a commit is called and says.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// The branch that will name it.
    pub branch: String,
    /// First line of what it is.
    pub subject: String,
    /// The rest of it.
    pub body: String,
    /// The commit before it; it need not be in the repository.
    pub parent: Option<Checksum>,
    /// Seconds since the epoch.
    pub timestamp: u64,
    /// Its metadata; the branch is added as [`key::REF_BINDING`].
    pub metadata: Metadata,
}

/// A commit that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Its checksum.
    pub commit: Checksum,
    /// The checksum of what it holds, whatever its metadata.
    pub content: Checksum,
    /// What it is made of and what was new.
    pub stats: Stats,
}

impl Metadata {
    /// Says that the tree boots, with this kernel.
    pub fn set_bootable(&mut self, kernel: &str) {
        self.set(key::BOOTABLE, true);
        self.set(key::LINUX, kernel);
    }
}

impl Repo {
    /// Commits the tree at `root` and has the branch name it. Once this returns, it is on disk.
    pub fn commit(&self, root: &Path, tree: TreeOptions<'_>, options: &CommitOptions) -> Result<Committed> {
        let staging = Staging::new(self)?;
        let written = tree::write(&staging, root, tree)?;
        let mut metadata = options.metadata.clone();
        metadata.set(key::REF_BINDING, Value::Strings(vec![options.branch.clone()]));
        let commit = Commit {
            metadata,
            parent: options.parent,
            subject: options.subject.clone(),
            body: options.body.clone(),
            timestamp: options.timestamp,
            tree: written.tree,
            meta: written.meta,
        };
        let checksum = staging.metadata(ObjectKind::Commit, &commit.encode())?;
        staging.publish()?;
        self.set_ref(&options.branch, checksum)?;
        Ok(Committed { commit: checksum, content: commit.content_checksum(), stats: staging.stats() })
    }
}
