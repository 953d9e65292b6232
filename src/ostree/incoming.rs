//! Objects that come from elsewhere, one after the other and from several threads. Nothing is seen in the
//! repository before [`Incoming::publish`]; dropping it leaves nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;

use anyhow::{Context as _, Result, ensure};

use super::checksum::{Checksum, ObjectKind};
use super::objects::{Attributes, Commit, DirTree};
use super::repo::Repo;
use super::staging::{Staging, Stats};

/// Objects on their way into a repository.
pub struct Incoming {
    repo: Repo,
    staging: Staging,
}

impl Incoming {
    /// Begins.
    pub fn new(repo: &Repo) -> Result<Self> {
        Ok(Self { repo: repo.clone(), staging: Staging::new(repo)? })
    }

    /// Writes a regular file: the next `size` bytes of `source`.
    pub fn regular(&self, source: &mut dyn Read, size: u64, attributes: &Attributes) -> Result<Checksum> {
        self.staging.stream(source, size, attributes)
    }

    /// Writes a symbolic link.
    pub fn symlink(&self, target: &str, attributes: &Attributes) -> Result<Checksum> {
        self.staging.symlink(target, attributes)
    }

    /// Writes a directory's entries.
    pub fn dirtree(&self, tree: &mut DirTree) -> Result<Checksum> {
        self.staging.metadata(ObjectKind::DirTree, &tree.encode())
    }

    /// Writes a directory's attributes.
    pub fn dirmeta(&self, attributes: &Attributes) -> Result<Checksum> {
        self.staging.metadata(ObjectKind::DirMeta, &attributes.encode())
    }

    /// Writes a commit.
    pub fn commit(&self, commit: &Commit) -> Result<Checksum> {
        self.staging.metadata(ObjectKind::Commit, &commit.encode())
    }

    /// Writes a commit that is encoded already.
    pub fn commit_bytes(&self, bytes: &[u8]) -> Result<Checksum> {
        self.staging.metadata(ObjectKind::Commit, bytes)
    }

    /// The content of a regular file that was written here, if it has at most `largest` bytes.
    pub fn content(&self, checksum: Checksum, largest: u64) -> Result<Vec<u8>> {
        let path = match self.staging.pending(checksum)? {
            Some(path) => path,
            None => self.repo.object(checksum, ObjectKind::File),
        };
        let mut bytes = Vec::new();
        let read = || format!("reading object {checksum}");
        let file = File::open(&path).with_context(read)?;
        file.take(largest + 1).read_to_end(&mut bytes).with_context(read)?;
        ensure!(bytes.len() as u64 <= largest, "object {checksum} has more than {largest} bytes");
        Ok(bytes)
    }

    /// Moves everything to its place but files that are not among `files`; once this returns, it is on disk.
    pub fn publish(self, files: &HashSet<Checksum>) -> Result<Stats> {
        self.staging.retain(files)?;
        self.staging.publish()?;
        Ok(self.staging.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fs;
    use crate::ostree::S_IFREG;

    #[test]
    fn what_is_not_wanted_or_not_published_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let repo = Repo::create(dir.path()).unwrap();
        let attributes = Attributes { mode: S_IFREG | 0o644, ..Attributes::directory() };
        let large = vec![7; 1 << 20];
        let write = |incoming: &Incoming, bytes: &[u8]| {
            incoming.regular(&mut &*bytes, bytes.len() as u64, &attributes).unwrap()
        };
        let dropped = Incoming::new(&repo).unwrap();
        write(&dropped, &large);
        write(&dropped, b"small");
        drop(dropped);
        assert_eq!(fs::read_dir_sorted(&dir.path().join("tmp")).unwrap(), [dir.path().join("tmp/cache")]);

        let incoming = Incoming::new(&repo).unwrap();
        let (wanted, again, other) =
            (write(&incoming, &large), write(&incoming, &large), write(&incoming, b"small"));
        assert_eq!(wanted, again);
        assert_eq!(incoming.content(other, 5).unwrap(), b"small");
        assert!(incoming.content(other, 4).is_err() && !repo.has(wanted, ObjectKind::File));
        incoming.publish(&HashSet::from([wanted])).unwrap();
        assert!(repo.has(wanted, ObjectKind::File) && !repo.has(other, ObjectKind::File));
        assert_eq!(repo.file(wanted).unwrap().attributes, attributes);
        let again = Incoming::new(&repo).unwrap();
        assert_eq!(write(&again, &large), wanted);
        let mut short: &[u8] = b"abc";
        let error = again.regular(&mut short, 4, &attributes).unwrap_err().to_string();
        assert_eq!(error, "it ends after 3 of 4 bytes");
    }
}
