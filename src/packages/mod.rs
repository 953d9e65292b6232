//! Package managers: resolving a list of packages, downloading them, installing them into a tree. One
//! trait ([`PackageBackend`]), a folder for each manager. It knows nothing of OSTree, disks or the
//! manifest's syntax.

mod apt;
mod backend;
mod blame;
pub mod deb;
mod dnf;
mod held;
mod lock;
mod model;
mod resolve;
mod snapshot;

pub use apt::{Apt, Mirrors, Repository};
pub use backend::{InstallRequest, PackageBackend, RemovedFiles, Request, Wanted};
pub use dnf::{Dnf, RPM_DATABASE, RPM_WRITTEN_LAST, YumRepository, installed as installed_rpms};
pub use lock::{Lock, LockEntry, LockFiles};
pub use model::{Evr, Installed, LocalPackage, Locked, OVERRIDES, Package, Supply};
pub use resolve::{Resolve, ResolvedPackages};
pub use snapshot::Snapshot;
