//! An OCI image as an OSTree commit. It knows nothing of builds, disks and registries.
//!
//! No byte of an image is believed, and no path of it is ever opened: layers are read as streams, file
//! contents become objects named by their own hash ([`crate::ostree::Incoming`]), and paths are only names in
//! a tree in memory. So an image cannot write outside whatever it says; what a runtime would refuse is
//! refused with one message all the same.
//!
//! ```text
//! oci::Layout::read_layer ──► layer ──┬─► objects   layers of an OSTree commit: its objects, each
//! (names, hashes, limits)             │             compared with its name       ──► base
//!                                     └─► changes   other layers: what they add
//!                                                   and remove                   ──► tree ──► system
//! ```
//!
//! An image that is an OSTree commit and nothing else gives that very commit. Everything else gives a new one
//! that follows from the image alone: the same image, the same commit, anywhere.

mod base;
mod changes;
mod layer;
mod limits;
mod objects;
mod packages;
mod path;
mod stage;
mod system;
mod toplevel;
mod tree;

pub use stage::{Import, Imported};
