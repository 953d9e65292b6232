//! The programs of the system being built: they run in its own tree, which stays as it is.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};
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

    /// Refuses a tree without a program: a system that nosa built has it, an imported one may not.
    pub(super) fn require(&self, program: &str, package: &str) -> Result<(), Failure> {
        if ["usr/sbin", "usr/bin"].iter().any(|dir| self.has(Path::new(dir).join(program))) {
            return Ok(());
        }
        let cause = format!("the system has no {program}, with which its disks are made");
        Err(Failure::new(Kind::Build, cause, format!("add the package {package} to it")))
    }

    /// Whether the tree has the file at `path`, which is relative to its root.
    pub(super) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.tree.join(path).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_package() {
        let tree = tempfile::tempdir().unwrap();
        let place = tree.path().to_owned();
        let programs = Programs { tree: place.clone(), scratch: place.clone(), log: place.join("log") };
        let failure = programs.require("mke2fs", "e2fsprogs").unwrap_err();
        assert_eq!((failure.kind, failure.cure.as_str()), (Kind::Build, "add the package e2fsprogs to it"));
        std::fs::create_dir_all(place.join("usr/sbin")).unwrap();
        std::fs::write(place.join("usr/sbin/mke2fs"), "").unwrap();
        programs.require("mke2fs", "e2fsprogs").unwrap();
    }
}
