//! Package managers: resolving a list of packages, downloading them, reading them. One trait, a file
//! for each manager. It knows nothing of OSTree, disks or the manifest's syntax.

mod model;

pub use model::{Evr, Package};
