//! Comparing a commit's objects with their checksums, all cores at once.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write};

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use sha2::Digest as _;

use super::checksum::{Checksum, ObjectKind};
use super::objects::FileHeader;
use super::repo::{Content, FileObject, Repo};
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
        self.copy_content(checksum, object, &mut io::sink())
    }

    /// Copies a regular file's content (a symbolic link has none) and compares the object with its checksum
    /// on the way: content that is not what it claims to be is an error, at its end.
    pub fn copy_content(&self, checksum: Checksum, object: FileObject, out: &mut impl Write) -> Result<()> {
        let target = match &object.content {
            Content::Symlink(target) => target.as_str(),
            Content::Regular(..) => "",
        };
        let mut hash = FileHeader { attributes: &object.attributes, target }.start_hash();
        if let Content::Regular(mut file, _) = object.content {
            let mut buffer = vec![0; 128 << 10];
            loop {
                let count = file.read(&mut buffer).with_context(|| format!("reading object {checksum}"))?;
                if count == 0 {
                    break;
                }
                hash.update(&buffer[..count]);
                out.write_all(&buffer[..count])?;
            }
        }
        let found = Checksum::from_bytes(hash.finalize().into());
        if found == checksum {
            return Ok(());
        }
        Err(self.damaged(checksum, ObjectKind::File, &anyhow::anyhow!("its checksum is {found}")))
    }
}
