//! The programs of the system being built: they run in its own tree, which stays as it is.

use std::path::{Path, PathBuf};

use crate::sandbox::Sandbox;

/// Where programs come from and what they may write.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    /// The tree.
    pub(super) tree: PathBuf,
    /// A directory for intermediate files, which outlives none of the calls' results.
    pub(super) scratch: PathBuf,
    /// Where their output goes.
    pub(super) log: PathBuf,
}

impl Programs {
    /// A sandbox in the tree.
    pub(super) fn sandbox(&self) -> Sandbox {
        Sandbox::new(&self.tree).read_only()
    }

    /// Whether the tree has the file at `path`, which is relative to its root.
    pub(super) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.tree.join(path).exists()
    }
}
