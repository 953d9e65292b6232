//! Writing a commit's tree into a directory, with its owners, modes and attributes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};

use super::checksum::Checksum;
use super::objects::Attributes;
use super::repo::{Content, Repo};
use super::walk::{Node, NodeObject};
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// How a tree is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// With its owners and all attributes: as root, of the machine or of a user namespace.
    Kept,
    /// All owned by the caller, with the attributes `user.*` only; setuid and setgid are dropped.
    Caller,
}

impl Repo {
    /// Writes a commit's tree into `target`, which is made and must not exist. Files are copies (clones where
    /// the file system can): owners differ from the repository's, so links to its objects cannot do.
    pub fn checkout(&self, commit: Checksum, target: &Path, ownership: Ownership) -> Result<()> {
        let nodes = self.walk(commit)?;
        if target.symlink_metadata().is_ok() {
            let cause = format!("{} exists already", target.display());
            return Err(Failure::new(Kind::Usage, cause, "name a directory that does not exist yet").into());
        }
        let writer = Writer { repo: self, target, ownership };
        for node in &nodes {
            if let NodeObject::Directory { .. } = node.object {
                fs::create_dir_all(&writer.place(node))?;
            }
        }
        nodes.par_iter().try_for_each(|node| match node.object {
            NodeObject::File(checksum) => writer.file(&writer.place(node), checksum),
            NodeObject::Directory { .. } => Ok(()),
        })?;
        // Directories last and from the leaves up: one may forbid writing, and all have a fixed time.
        for node in nodes.iter().rev() {
            if let NodeObject::Directory { attributes, .. } = &node.object {
                let place = writer.place(node);
                writer
                    .directory(&place, attributes)
                    .with_context(|| format!("writing {}", place.display()))?;
            }
        }
        Ok(())
    }
}

struct Writer<'a> {
    repo: &'a Repo,
    target: &'a Path,
    ownership: Ownership,
}

impl Writer<'_> {
    fn place(&self, node: &Node) -> std::path::PathBuf {
        self.target.join(&node.path)
    }

    fn file(&self, place: &Path, checksum: Checksum) -> Result<()> {
        let object = self.repo.file(checksum)?;
        let write = || -> Result<()> {
            match object.content {
                Content::Regular(source, _) => self.regular(place, source, &object.attributes),
                Content::Symlink(target) => self.symlink(place, &target, &object.attributes),
            }
        };
        write().with_context(|| format!("writing {}", place.display()))
    }

    fn regular(&self, place: &Path, mut source: File, attributes: &Attributes) -> Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(place)?;
        if rustix::fs::ioctl_ficlone(&file, &source).is_err() {
            io::copy(&mut source, &mut file)?;
        }
        // In this order: a new owner takes away setuid and capabilities.
        if let Some((uid, gid)) = self.owner(attributes) {
            rustix::fs::fchown(&file, Some(uid), Some(gid)).context("setting its owner")?;
        }
        rustix::fs::fchmod(&file, self.mode(attributes)).context("setting its mode")?;
        for (name, value) in self.xattrs(attributes) {
            rustix::fs::fsetxattr(&file, name, value, XattrFlags::empty())
                .with_context(|| format!("setting its attribute {}", String::from_utf8_lossy(name)))?;
        }
        rustix::fs::futimens(&file, &EPOCH).context("setting its time")?;
        Ok(())
    }

    fn symlink(&self, place: &Path, target: &str, attributes: &Attributes) -> Result<()> {
        std::os::unix::fs::symlink(target, place)?;
        self.finish(place, attributes)
    }

    fn directory(&self, place: &Path, attributes: &Attributes) -> Result<()> {
        self.finish(place, attributes)
    }

    /// Sets what a path has besides its content, without following a link.
    fn finish(&self, place: &Path, attributes: &Attributes) -> Result<()> {
        if let Some((uid, gid)) = self.owner(attributes) {
            rustix::fs::chownat(CWD, place, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .context("setting its owner")?;
        }
        for (name, value) in self.xattrs(attributes) {
            rustix::fs::lsetxattr(place, name, value, XattrFlags::empty())
                .with_context(|| format!("setting its attribute {}", String::from_utf8_lossy(name)))?;
        }
        if !attributes.is_symlink() {
            rustix::fs::chmod(place, self.mode(attributes)).context("setting its mode")?;
        }
        rustix::fs::utimensat(CWD, place, &EPOCH, AtFlags::SYMLINK_NOFOLLOW).context("setting its time")
    }

    fn owner(&self, attributes: &Attributes) -> Option<(Uid, Gid)> {
        (self.ownership == Ownership::Kept)
            .then(|| (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid)))
    }

    fn mode(&self, attributes: &Attributes) -> Mode {
        match self.ownership {
            Ownership::Kept => Mode::from_raw_mode(attributes.permissions()),
            Ownership::Caller => Mode::from_raw_mode(attributes.permissions() & 0o1777),
        }
    }

    fn xattrs<'a>(&self, attributes: &'a Attributes) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let all = self.ownership == Ownership::Kept;
        attributes
            .xattrs
            .iter()
            .filter(move |(name, _)| all || name.starts_with(b"user."))
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
    }
}

const EPOCH: Timestamps = {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    Timestamps { last_access: zero, last_modification: zero }
};
