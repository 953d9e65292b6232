//! OSTree repositories by nosa's own hand: objects, commits, checkouts. It knows nothing of packages,
//! OCI or disks.

mod artifact;
mod checkout;
mod checksum;
mod commit;
mod detached;
mod gvariant;
mod incoming;
mod metadata;
mod objects;
mod prune;
mod repo;
mod stage;
mod staging;
mod tree;
mod verify;
mod walk;

pub use artifact::OstreeCommit;
pub use checkout::Ownership;
pub use checksum::{Checksum, ObjectKind};
pub use commit::{CommitOptions, Committed, key};
pub use detached::add_signature;
pub use incoming::Incoming;
pub use metadata::{Metadata, PackageEntry, Value};
pub use objects::{Attributes, Commit, DirTree, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG};
pub use repo::{Content, FileObject, Repo, is_branch};
pub use stage::{CommitTree, REPO};
pub use staging::Stats;
pub use tree::{Modify, TreeOptions};
pub use walk::{Node, NodeObject};
