//! A commit's detached metadata, where its signatures are: `objects/ab/cdef….commitmeta`, a map that no
//! checksum covers.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::checksum::{Checksum, ObjectKind};
use super::gvariant::{self, Layout};
use super::metadata::{Metadata, Value};
use super::repo::Repo;
use crate::host::fs;

/// The key of GPG signatures, and its type: a list of binary detached signatures over the commit's bytes.
const SIGNATURES: &str = "ostree.gpgsigs";
const SIGNATURES_TYPE: &str = "aay";

/// Adds a signature to detached metadata (empty when there is none yet); one that is there is not repeated.
pub fn add_signature(detached: &[u8], signature: &[u8]) -> Result<Vec<u8>> {
    let mut metadata = Metadata::decode(detached).context("reading detached metadata")?;
    let known = match metadata.get(SIGNATURES) {
        Some(Value::Other { signature, bytes }) if signature == SIGNATURES_TYPE => bytes.clone(),
        Some(_) => anyhow::bail!("{SIGNATURES} in detached metadata is no list of signatures"),
        None => Vec::new(),
    };
    let mut list = gvariant::split_array(&known, Layout::BYTES)?;
    if !list.contains(&signature) {
        list.push(signature);
    }
    let bytes = gvariant::array(Layout::BYTES, list);
    metadata.set(SIGNATURES, Value::Other { signature: SIGNATURES_TYPE.to_owned(), bytes });
    Ok(metadata.encode())
}

impl Repo {
    /// A commit's detached metadata, empty when there is none.
    pub fn detached(&self, commit: Checksum) -> Result<Vec<u8>> {
        let path = self.detached_path(commit);
        if path.exists() { fs::read(&path) } else { Ok(Vec::new()) }
    }

    /// Sets a commit's detached metadata.
    pub fn set_detached(&self, commit: Checksum, metadata: &[u8]) -> Result<()> {
        fs::write_atomic(&self.detached_path(commit), metadata, 0o644)
    }

    fn detached_path(&self, commit: Checksum) -> PathBuf {
        self.object(commit, ObjectKind::Commit).with_extension("commitmeta")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_added_once() {
        let one = add_signature(&[], b"one").unwrap();
        assert_eq!(add_signature(&one, b"one").unwrap(), one);
        let both = add_signature(&one, b"two").unwrap();
        assert_ne!(both, one);
        assert_eq!(add_signature(&both, b"one").unwrap(), both);
        assert!(add_signature(b"junk", b"one").is_err());
    }
}
