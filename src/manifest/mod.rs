//! The treefile and its companions: read, merged, validated, and then only used as [`Manifest`].
//!
//! Raw files (a mirror of the syntax, every value with its file and line) become one merged treefile,
//! which becomes a [`Manifest`] that later rooms can trust. It does not know how any stage works.

mod model;

pub use model::{
    ImageConfig, Manifest, Platform, Platforms, RemoveFromPackages, RepoPackages, RootFilesystem, Script,
};
