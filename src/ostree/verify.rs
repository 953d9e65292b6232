//! Comparing a commit's objects with their checksums, all cores at once.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use rayon::prelude::*;
use sha2::Digest as _;

use super::checksum::{Checksum, ObjectKind};
use super::objects::FileHeader;
use super::repo::{Content, Repo};
use super::staging::hash_stream;
use super::walk::NodeObject;

impl Repo {
    /// Reads every object of a commit and compares it with its checksum; the first that is missing or
    /// damaged is the error. Returns how many there are.
    pub fn verify(&self, commit: Checksum) -> Result<usize> {
        // The walk itself checks all that is no file.
        let nodes = self.walk(commit)?;
        let mut others = BTreeSet::from([commit]);
        let mut files = BTreeSet::new();
        for node in nodes {
            match node.object {
                NodeObject::Directory { tree, meta, .. } => others.extend([tree, meta]),
                NodeObject::File(checksum) => {
                    files.insert(checksum);
                }
            }
        }
        files.par_iter().try_for_each(|checksum| self.verify_file(*checksum))?;
        Ok(others.len() + files.len())
    }

    fn verify_file(&self, checksum: Checksum) -> Result<()> {
        let object = self.file(checksum)?;
        let compare = || -> Result<()> {
            let hash = match object.content {
                Content::Symlink(target) => {
                    FileHeader { attributes: &object.attributes, target: &target }.start_hash()
                }
                Content::Regular(mut file, _) => {
                    let mut hash = FileHeader { attributes: &object.attributes, target: "" }.start_hash();
                    hash_stream(&mut file, &mut hash).context("reading its content")?;
                    hash
                }
            };
            let found = Checksum::from_bytes(hash.finalize().into());
            ensure!(found == checksum, "its checksum is {found}");
            Ok(())
        };
        compare().map_err(|error| self.damaged(checksum, ObjectKind::File, &error))
    }
}
