//! From packages to a tree in OSTree's layout: unpacking, scripts, overlays, accounts, kernel,
//! initramfs, /var rules, normalising. It knows nothing of commits and partitions.
//!
//! Two stages: [`Install`] makes the tree that the packages alone give, and is the slow one; [`Compose`]
//! makes the operating system of a copy of it. Overlays come after the packages' scripts (rpm-ostree lays
//! them before), so that a change in an overlay costs seconds: what the scripts would have seen of them,
//! the postprocess scripts see.

mod accounts;
mod compose;
mod extras;
mod install;
mod kernel;
mod layout;
mod losses;
mod os_release;
mod overlay;
mod postprocess;

pub use compose::{Compose, RootFs};
pub use extras::AddedFiles;
pub use install::{Install, InstalledTree, TREE_EPOCH};
pub use losses::LossPolicy;
pub use overlay::Overlay;
