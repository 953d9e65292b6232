//! Reading a tree on disk into a repository: one pass over the directories, the files on all cores, then
//! the directories from the leaves up.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rayon::prelude::*;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::checksum::{Checksum, ObjectKind};
use super::objects::{Attributes, DirTree, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, check_name};
use super::repo::{OSTREEMETA, read_xattr};
use super::staging::Staging;
use crate::failure::{Failure, Kind};

/// Changes a node's attributes on their way into a commit. The path is absolute within the tree; what kind
/// of node it is stays as it was.
pub type Modify<'a> = dyn Fn(&Path, &mut Attributes) + Sync + 'a;

/// How a tree is read.
#[derive(Clone, Copy, Default)]
pub struct TreeOptions<'a> {
    /// Keeps the host's `security.selinux` labels, which are else left out.
    pub keep_selinux: bool,
    /// Owners, modes and attributes that the tree on disk does not have.
    pub modify: Option<&'a Modify<'a>>,
}

/// A directory's two objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tree {
    /// Its entries.
    pub(super) tree: Checksum,
    /// Its attributes.
    pub(super) meta: Checksum,
}

/// A directory's path within the tree (the root's is empty), its files and directories; parents come first.
struct Dir {
    path: PathBuf,
    files: Vec<String>,
    dirs: Vec<(String, usize)>,
}

/// Writes the tree at `root`.
pub(super) fn write(staging: &Staging, root: &Path, options: TreeOptions<'_>) -> Result<Tree> {
    let reader = Reader { staging, root, options };
    let dirs = list(root)?;
    let files: Vec<PathBuf> =
        dirs.iter().flat_map(|dir| dir.files.iter().map(|name| dir.path.join(name))).collect();
    let files: Vec<Checksum> = files.par_iter().map(|path| reader.file(path)).collect::<Result<_>>()?;
    let metas: Vec<Attributes> = dirs.par_iter().map(|dir| reader.dir(&dir.path)).collect::<Result<_>>()?;

    let mut trees: Vec<Option<Tree>> = vec![None; dirs.len()];
    let mut end = files.len();
    for (index, (dir, meta)) in dirs.iter().zip(metas).enumerate().rev() {
        let start = end - dir.files.len();
        let mut tree = DirTree {
            files: dir.files.iter().cloned().zip(files[start..end].iter().copied()).collect(),
            dirs: Vec::with_capacity(dir.dirs.len()),
        };
        end = start;
        for (name, child) in &dir.dirs {
            let child = trees[*child].context("writing a directory before its parent")?;
            tree.dirs.push((name.clone(), child.tree, child.meta));
        }
        trees[index] = Some(Tree {
            tree: staging.metadata(ObjectKind::DirTree, &tree.encode())?,
            meta: staging.metadata(ObjectKind::DirMeta, &meta.encode())?,
        });
    }
    trees[0].context("writing the root directory")
}

/// All directories below `root`, each after its parent.
fn list(root: &Path) -> Result<Vec<Dir>> {
    let mut dirs = vec![Dir { path: PathBuf::new(), files: Vec::new(), dirs: Vec::new() }];
    let mut next = 0;
    while next < dirs.len() {
        let path = dirs[next].path.clone();
        let place = root.join(&path);
        let listing = || format!("listing {}", place.display());
        for entry in std::fs::read_dir(&place).with_context(listing)? {
            let entry = entry.with_context(listing)?;
            let name = entry.file_name().into_string().map_err(|name| {
                not_in_a_commit(&path.join(name), "has a name that is not UTF-8", "rename it")
            })?;
            check_name(&name)?;
            let kind = entry.file_type().with_context(listing)?;
            if kind.is_dir() {
                let child = dirs.len();
                dirs.push(Dir { path: path.join(&name), files: Vec::new(), dirs: Vec::new() });
                dirs[next].dirs.push((name, child));
            } else if kind.is_file() || kind.is_symlink() {
                dirs[next].files.push(name);
            } else {
                let cure = "remove it in a postprocess script; systemd-tmpfiles can make it at boot";
                return Err(not_in_a_commit(&path.join(name), "is a device, pipe or socket", cure).into());
            }
        }
        next += 1;
    }
    Ok(dirs)
}

fn not_in_a_commit(path: &Path, what: &str, cure: &str) -> Failure {
    let cause = format!("/{} {what}, which an OSTree commit cannot hold", path.display());
    Failure::new(Kind::Build, cause, cure)
}

struct Reader<'a> {
    staging: &'a Staging,
    root: &'a Path,
    options: TreeOptions<'a>,
}

impl Reader<'_> {
    /// Writes a regular file or symbolic link.
    fn file(&self, path: &Path) -> Result<Checksum> {
        let place = self.root.join(path);
        let write = || -> Result<Checksum> {
            let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
            let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&place);
            let mut file = match opened {
                Ok(file) => file,
                Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
                    return self.symlink(path, &place);
                }
                Err(error) => return Err(error).context("opening it"),
            };
            let stat = rustix::fs::fstat(&file).context("asking for its attributes")?;
            let size = u64::try_from(stat.st_size).context("asking for its size")?;
            let xattrs = self.xattrs(
                |buffer| rustix::fs::flistxattr(&file, buffer),
                |name, buffer| rustix::fs::fgetxattr(&file, name, buffer),
            )?;
            self.staging.regular(&mut file, size, &self.attributes(path, &stat, S_IFREG, xattrs))
        };
        write().with_context(|| format!("committing {}", place.display()))
    }

    fn symlink(&self, path: &Path, place: &Path) -> Result<Checksum> {
        let target = rustix::fs::readlink(place, Vec::new()).context("reading the link")?;
        let target = target.into_string().ok().with_context(|| {
            not_in_a_commit(path, "points to a name that is not UTF-8", "rename that and link again")
        })?;
        let attributes = self.attributes_of(path, place, S_IFLNK)?;
        self.staging.symlink(&target, &attributes)
    }

    /// The attributes of a directory.
    fn dir(&self, path: &Path) -> Result<Attributes> {
        let place = self.root.join(path);
        self.attributes_of(path, &place, S_IFDIR).with_context(|| format!("committing {}", place.display()))
    }

    fn attributes_of(&self, path: &Path, place: &Path, kind: u32) -> Result<Attributes> {
        let stat = rustix::fs::lstat(place).context("asking for its attributes")?;
        let xattrs = self.xattrs(
            |buffer| rustix::fs::llistxattr(place, buffer),
            |name, buffer| rustix::fs::lgetxattr(place, name, buffer),
        )?;
        Ok(self.attributes(path, &stat, kind, xattrs))
    }

    fn attributes(&self, path: &Path, stat: &Stat, kind: u32, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Attributes {
        let mut attributes = Attributes { uid: stat.st_uid, gid: stat.st_gid, mode: stat.st_mode, xattrs };
        if let Some(modify) = self.options.modify {
            modify(&Path::new("/").join(path), &mut attributes);
        }
        attributes.mode = attributes.mode & !S_IFMT | kind;
        attributes
    }

    fn xattrs(
        &self,
        mut list: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>,
        mut get: impl FnMut(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let names = match read_xattr(&mut list) {
            Ok(names) => names,
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error).context("listing its extended attributes"),
        };
        let mut found = Vec::new();
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if name == OSTREEMETA.as_bytes() || (name == b"security.selinux" && !self.options.keep_selinux) {
                continue;
            }
            let value = read_xattr(|buffer| get(name, buffer)).with_context(|| {
                format!("reading its extended attribute {}", String::from_utf8_lossy(name))
            })?;
            // libostree leaves empty ones out, and its checksums are the yardstick.
            if !value.is_empty() {
                found.push((name.to_vec(), value));
            }
        }
        found.sort();
        Ok(found)
    }
}
