//! OCI images of commits. It knows nothing of disks and VMs.
//!
//! An image carries its commit in the form that ostree-ext defined ("encapsulated", version 1), which
//! `ostree container`, rpm-ostree and bootc import, and which also runs as a plain container: the
//! objects lie in `sysroot/ostree/repo` and the real paths are hard links to them (see `layer`).

mod archive;
mod artifact;
mod directory;
mod docker;
mod export;
mod extend;
mod image;
mod keep;
mod layer;
mod layer_reader;
mod layout;
mod plan;
mod reference;
mod stage;
mod tar_reader;
mod tarball;

pub use artifact::OciArchive;
pub use directory::NewLayout;
pub use docker::{DockerArchive, DockerLayer, read_docker_archive, write_docker_archive};
pub use export::{ExportOptions, Exported, export};
pub use extend::{AddedLayer, extend};
pub use image::{COMMIT, Compression, FINAL_DIFFID, VERSION, arch as architecture, layers_of};
pub use keep::KeptImage;
pub use layer_reader::{Budget, EntryKind, LayerEntry};
pub use layout::{Blob, Image, Layout};
pub use plan::{
    BlobRecord, Cause, ChangedLayer, Component, Contents, FEWEST_LAYERS, History, LayerPlan, LayerRecord,
    MAX_LAYERS, MOST_LAYERS, PlanRecord, PlannedLayer, Planning, Unit, UnitRecord, UpdateCost,
};
pub use reference::{ImageRef, Repository};
pub use stage::Encapsulate;
