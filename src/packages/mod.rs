//! Package managers: resolving a list of packages, downloading them, installing them into a tree. One
//! trait ([`PackageBackend`]), a folder for each manager. It knows nothing of OSTree, disks or the
//! manifest's syntax.

mod apt;
mod backend;
pub mod deb;
mod lock;
mod model;
mod resolve;

pub use apt::{Apt, Mirrors, Repository};
pub use backend::{InstallRequest, PackageBackend, RemovedFiles, Request, Snapshot, Wanted};
pub use lock::{Lock, LockEntry, LockFiles};
pub use model::{Evr, Locked, Package};
pub use resolve::{Resolve, ResolvedPackages};
