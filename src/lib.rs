//! nosa builds image-based operating systems: a list of packages becomes an OSTree commit, an OCI
//! image, disk images, and boot tests that prove them.
//!
//! [`recipe`] reads from top to bottom as the whole build. Each room below has one concern; README's
//! map says what each must never know, and `tests/suite/layers.rs` enforces it.

pub mod builds;
pub mod cli;
pub mod compare;
pub mod compression;
pub mod derive;
pub mod disk;
pub mod document;
pub mod embedded;
pub mod failure;
pub mod host;
pub mod import;
pub mod kola;
pub mod manifest;
pub mod oci;
pub mod ostree;
pub mod packages;
pub mod pipeline;
pub mod recipe;
pub mod registry;
pub mod release;
pub mod rootfs;
pub mod sandbox;
pub mod transfer;
pub mod vm;
