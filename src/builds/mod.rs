//! The record of builds in a workdir, as coreos-assembler keeps it: builds.json, meta.json, versions,
//! publishing. A record, never a process: it knows no stage.

mod artifacts;
mod build;
#[cfg(test)]
mod fixture;
mod index;
mod json;
mod keys;
mod list;
mod merge;
mod meta;
mod prune;
mod publish;
mod record;
mod schema;
mod tags;
mod version;
mod workdir;

pub use artifacts::is_file_name;
pub use build::Build;
pub use index::{Index, IndexEntry, Tag};
pub use keys::{KeyPath, Setting, values};
pub use list::{Listed, join_part, read_part, read_release};
pub use meta::{Artifact, CommitMeta, ContainerImage, GitSource, Meta, PackageRow};
pub use prune::{Pruned, Selection};
pub use publish::{Recovery, Staging};
pub use schema::{Problem, validate};
pub use version::{build_id, check_version, next_version};
pub use workdir::{BuildLock, ConfigSource, EmbeddedFile, Workdir};
