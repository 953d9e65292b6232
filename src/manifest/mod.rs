//! The treefile and its companions: read, merged, validated, and then only used as [`Manifest`].
//!
//! Raw files (every value with its file, line and column) become one merged treefile, which becomes a
//! [`Manifest`] that later rooms can trust. It does not know how any stage works.

mod accounts;
mod condition;
mod image;
mod include;
mod ini;
mod keys;
mod load;
mod model;
mod notes;
mod repositories;
mod shapes;
mod source;
#[cfg(test)]
mod tests;
mod tree_keys;
mod treefile;
mod validate;
mod values;

pub use load::{LoadOptions, Loaded, Merged, Provenance, examine, load};
pub use model::{
    AccountCheck, Group, ImageConfig, Manifest, Platform, Platforms, RemoveFromPackages, RepoFile, RepoKind,
    RepoPackages, RootFilesystem, Script, User,
};
