//! A repository in libostree's `bare-user` mode, which an unprivileged build can write and share:
//!
//! ```text
//! config                       mode=bare-user
//! objects/ab/cdef….commit      and .dirtree, .dirmeta: the object's form
//! objects/ab/cdef….file        a regular file's content, or a link's target and a zero byte; owner, mode
//!                              and extended attributes in the attribute user.ostreemeta
//! refs/heads/<branch>          a commit's checksum
//! tmp/nosa-<pid>-…/            objects being written; swept when their process is gone
//! ```
//!
//! Objects are written beside, flushed all at once, renamed, and only then named by a ref (`staging`).

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::checksum::{Checksum, ObjectKind};
use super::objects::{Attributes, Commit, DirTree, S_IFLNK, S_IFMT, S_IFREG};
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// The attribute that holds a file's owner, mode and extended attributes.
pub(super) const OSTREEMETA: &str = "user.ostreemeta";

const CONFIG: &str = "[core]\nrepo_version=1\nmode=bare-user\n";

/// Objects of metadata larger than this are refused, as libostree does.
const LARGEST_METADATA: u64 = 128 << 20;

/// An object repository.
#[derive(Debug, Clone)]
pub struct Repo {
    dir: PathBuf,
}

/// A file as the repository holds it.
#[derive(Debug)]
pub struct FileObject {
    /// Its owner, mode and extended attributes.
    pub attributes: Attributes,
    /// What it holds.
    pub content: Content,
}

/// What a file holds.
#[derive(Debug)]
pub enum Content {
    /// Bytes: the object's own file, at its start, and their number.
    Regular(File, u64),
    /// A link's target.
    Symlink(String),
}

impl Repo {
    /// Opens the repository at `dir`, making it first if there is none.
    pub fn create(dir: &Path) -> Result<Self> {
        let subs =
            ["objects", "tmp/cache", "extensions", "state", "refs/heads", "refs/mirrors", "refs/remotes"];
        for sub in subs {
            fs::create_dir_all(&dir.join(sub))?;
        }
        if !dir.join("config").exists() {
            fs::write_atomic(&dir.join("config"), CONFIG, 0o644)?;
        }
        Self::open(dir)
    }

    /// Opens the repository at `dir`.
    pub fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("config");
        let config = fs::read_optional(&path)?.ok_or_else(|| {
            Failure::new(Kind::Artifact, format!("{} is no OSTree repository", dir.display()), "")
        })?;
        let bare_user = config.lines().any(|line| {
            line.split_once('=')
                .is_some_and(|(key, value)| key.trim() == "mode" && value.trim() == "bare-user")
        });
        if !bare_user {
            return Err(Failure::new(
                Kind::Artifact,
                format!("repository {} is not in mode bare-user", dir.display()),
                "name another directory, or copy its commits with `ostree pull-local` into a fresh one",
            )
            .into());
        }
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Where an object lies, or would.
    #[must_use]
    pub fn object(&self, checksum: Checksum, kind: ObjectKind) -> PathBuf {
        self.dir.join("objects").join(checksum.object_path(kind))
    }

    /// Whether it has an object.
    #[must_use]
    pub fn has(&self, checksum: Checksum, kind: ObjectKind) -> bool {
        self.object(checksum, kind).exists()
    }

    /// The commit that a branch names, `None` when there is no such branch.
    pub fn resolve(&self, branch: &str) -> Result<Option<Checksum>> {
        let path = self.ref_path(branch)?;
        match fs::read_optional(&path)? {
            None => Ok(None),
            Some(text) => {
                text.trim().parse().map(Some).with_context(|| format!("reading {}", path.display()))
            }
        }
    }

    /// Makes a branch name a commit, once everything written so far is on disk.
    pub fn set_ref(&self, branch: &str, commit: Checksum) -> Result<()> {
        let path = self.ref_path(branch)?;
        fs::sync_file_system(&self.dir)?;
        fs::create_dir_all(path.parent().unwrap_or(&self.dir))?;
        fs::write_atomic(&path, format!("{commit}\n"), 0o644)
    }

    /// A commit.
    pub fn commit_object(&self, checksum: Checksum) -> Result<Commit> {
        let bytes = self.commit_bytes(checksum)?;
        Commit::decode(&bytes).map_err(|error| self.damaged(checksum, ObjectKind::Commit, &error))
    }

    /// A commit's bytes, as `ostree-commit-object` holds them.
    pub fn commit_bytes(&self, checksum: Checksum) -> Result<Vec<u8>> {
        self.metadata(checksum, ObjectKind::Commit)
    }

    /// A directory's entries.
    pub fn dirtree(&self, checksum: Checksum) -> Result<DirTree> {
        let bytes = self.metadata(checksum, ObjectKind::DirTree)?;
        DirTree::decode(&bytes).map_err(|error| self.damaged(checksum, ObjectKind::DirTree, &error))
    }

    /// A directory's attributes.
    pub fn dirmeta(&self, checksum: Checksum) -> Result<Attributes> {
        let bytes = self.metadata(checksum, ObjectKind::DirMeta)?;
        let read = || -> Result<Attributes> {
            let attributes = Attributes::decode(&bytes)?;
            ensure!(attributes.is_dir(), "mode {:o} is of no directory", attributes.mode);
            Ok(attributes)
        };
        read().map_err(|error| self.damaged(checksum, ObjectKind::DirMeta, &error))
    }

    /// A file. Its content is not compared with its checksum here: that is what [`Repo::verify`] is for.
    pub fn file(&self, checksum: Checksum) -> Result<FileObject> {
        let path = self.object(checksum, ObjectKind::File);
        let mut file =
            File::open(&path).map_err(|error| self.unreadable(checksum, ObjectKind::File, error))?;
        let mut read = || -> Result<(Attributes, Option<String>, u64)> {
            let attributes = Attributes::decode(&read_ostreemeta(&file)?)?;
            let size = file.metadata().context("asking for its size")?.len();
            match attributes.mode & S_IFMT {
                S_IFREG => Ok((attributes, None, size)),
                S_IFLNK => {
                    ensure!(size <= 4096, "a link's target of {size} bytes is too long");
                    let mut target = String::new();
                    file.read_to_string(&mut target).context("reading the link's target")?;
                    if target.ends_with('\0') {
                        target.pop();
                    }
                    ensure!(!target.contains('\0') && !target.is_empty(), "a link has no proper target");
                    Ok((attributes, Some(target), 0))
                }
                mode => anyhow::bail!("mode {mode:o} is of no file"),
            }
        };
        let (attributes, target, size) =
            read().map_err(|error| self.damaged(checksum, ObjectKind::File, &error))?;
        let content = match target {
            Some(target) => Content::Symlink(target),
            None => Content::Regular(file, size),
        };
        Ok(FileObject { attributes, content })
    }

    /// The bytes of an object that is no file, compared with its checksum.
    pub(super) fn metadata(&self, checksum: Checksum, kind: ObjectKind) -> Result<Vec<u8>> {
        let path = self.object(checksum, kind);
        let mut bytes = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(LARGEST_METADATA).read_to_end(&mut bytes))
            .map_err(|error| self.unreadable(checksum, kind, error))?;
        let found = Checksum::of(&bytes);
        if found != checksum {
            return Err(self.damaged(checksum, kind, &anyhow::anyhow!("its checksum is {found}")));
        }
        Ok(bytes)
    }

    fn unreadable(&self, checksum: Checksum, kind: ObjectKind, error: std::io::Error) -> anyhow::Error {
        if error.kind() != std::io::ErrorKind::NotFound {
            return anyhow::Error::from(error)
                .context(format!("reading {}", self.object(checksum, kind).display()));
        }
        let (dir, suffix) = (self.dir.display(), kind.suffix());
        Failure::new(
            Kind::Artifact,
            format!("repository {dir} has no object {checksum}.{suffix}"),
            "build again with --force, or fetch the commit whole",
        )
        .into()
    }

    pub(super) fn damaged(&self, checksum: Checksum, kind: ObjectKind, why: &anyhow::Error) -> anyhow::Error {
        let path = self.object(checksum, kind);
        Failure::new(
            Kind::Artifact,
            format!("object {} is damaged: {why:#}", path.display()),
            "remove that file, then build again with --force, or fetch the commit again",
        )
        .into()
    }

    fn ref_path(&self, branch: &str) -> Result<PathBuf> {
        if !is_branch(branch) {
            return Err(Failure::new(
                Kind::Config,
                format!("{branch:?} is no OSTree ref"),
                "set `ref` to letters, digits, `-`, `.` and `_` in parts divided by `/`",
            )
            .into());
        }
        Ok(self.dir.join("refs/heads").join(branch))
    }
}

/// Whether a text can be a branch: its parts become names of files, in repositories and on disks.
#[must_use]
pub fn is_branch(text: &str) -> bool {
    let proper = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
    };
    text.split('/').all(proper)
}

fn read_ostreemeta(file: &File) -> Result<Vec<u8>> {
    read_xattr(|buffer| rustix::fs::fgetxattr(file, OSTREEMETA, buffer))
        .with_context(|| format!("reading the attribute {OSTREEMETA}"))
}

/// Reads an attribute, or the list of them, whose length is not known beforehand.
pub(super) fn read_xattr(
    mut read: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 512];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            Err(rustix::io::Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 8, 0),
            Err(error) => return Err(error),
        }
    }
}
