//! The tar streams of an encapsulated commit (ostree-ext's `tar/export.rs` is the reference; version 1).
//!
//! ```text
//! ./                                                  the root, with its attributes    first layer only
//! sysroot/ostree/repo/…                               an empty repository, mode=bare-split-xattrs
//! sysroot/ostree/repo/objects/ab/….commit             then .dirmeta, .dirtree          first layer only
//! usr/  etc/  …                                       the directories; /usr/etc at /etc  first layer only
//! sysroot/ostree/repo/objects/ab/….file-xattrs        a(ayay), named by its own SHA-256; once a layer
//! sysroot/ostree/repo/objects/ab/….file-xattrs-link   a hard link to it, named as the file that follows
//! sysroot/ostree/repo/objects/ab/….file               a file or symbolic link
//! usr/bin/true  …                                     hard links to it; empty files are files of their own,
//! ```
//!
//! since a container that writes to an empty file must not change its object. Importers read the objects
//! and need this order: the commit first, attributes before the file that has them.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

use anyhow::{Context as _, Result};
use tar::EntryType;

use super::tarball::{Entry, Tarball};
use crate::ostree::{Attributes, Checksum, Content, Node, NodeObject, ObjectKind, Repo};

const REPO: &str = "sysroot/ostree/repo";
const CONFIG: &[u8] = b"[core]\nrepo_version=1\nmode=bare-split-xattrs\n";
/// What package managers and root's home need of /var, whose directories systemd-tmpfiles makes at boot: it does
/// not run in a container. Importers pass over them, since they are no objects.
const CONTAINER_DIRS: &[(&str, u32)] = &[
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/roothome", 0o700),
    ("var/tmp", 0o1777),
];
/// Where package databases lie in an image, and where dpkg-query and all that looks into containers expect them.
const DATABASES: &[(&str, &str, &str)] = &[
    ("usr/lib/sysimage/dpkg", "var/lib/dpkg", "../../usr/lib/sysimage/dpkg"),
    ("usr/share/rpm", "var/lib/rpm", "../../usr/share/rpm"),
];
const REPO_DIRS: &[&str] =
    &["extensions", "refs", "refs/heads", "refs/mirrors", "refs/remotes", "state", "tmp", "tmp/cache"];

/// A file object and the paths of the tree that are it.
#[derive(Debug, Clone)]
pub(super) struct LayerFile<'a> {
    pub(super) checksum: Checksum,
    pub(super) paths: Vec<&'a Path>,
}

/// Writes a layer's tar stream.
pub(super) struct LayerWriter<'a, W> {
    repo: &'a Repo,
    tar: Tarball<W>,
    xattrs: BTreeSet<Checksum>,
}

impl<'a, W: Write> LayerWriter<'a, W> {
    pub(super) const fn new(repo: &'a Repo, out: W) -> Self {
        Self { repo, tar: Tarball::new(out), xattrs: BTreeSet::new() }
    }

    /// The first layer's beginning: the commit, all objects that are no files, and all directories.
    pub(super) fn structure(&mut self, commit: Checksum, nodes: &[Node]) -> Result<()> {
        let directories = || {
            nodes.iter().filter_map(|node| match &node.object {
                NodeObject::Directory { tree, meta, attributes } => {
                    Some((node.path.as_path(), *tree, *meta, attributes))
                }
                NodeObject::File(_) => None,
            })
        };
        let (_, _, _, root) = directories().next().context("writing a commit without a root")?;
        self.directory("./", root)?;
        self.repository()?;
        self.object(ObjectKind::Commit, commit, &self.repo.commit_bytes(commit)?)?;
        let mut written = BTreeSet::new();
        for (_, tree, meta, attributes) in directories() {
            if written.insert(meta) {
                self.object(ObjectKind::DirMeta, meta, &attributes.encode())?;
            }
            if written.insert(tree) {
                self.object(ObjectKind::DirTree, tree, &self.repo.dirtree(tree)?.encode())?;
            }
        }
        let mut present = BTreeSet::new();
        for (path, _, _, attributes) in directories().skip(1) {
            if let Some(path) = container_path(path) {
                self.directory(&path, attributes)?;
                present.insert(path);
            }
        }
        for (path, mode) in CONTAINER_DIRS {
            if !present.contains(*path) {
                self.tar.append(&Entry::plain(EntryType::Directory, path, *mode), &[])?;
            }
        }
        for (database, path, target) in DATABASES {
            if present.contains(*database) && !present.contains(*path) {
                let link = Entry { target, ..Entry::plain(EntryType::Symlink, path, 0o777) };
                self.tar.append(&link, &[])?;
            }
        }
        Ok(())
    }

    /// An empty repository: every layer has it, for each may be read alone.
    pub(super) fn repository(&mut self) -> Result<()> {
        let mut dirs = vec!["sysroot".to_owned(), "sysroot/ostree".into(), REPO.into()];
        dirs.push(format!("{REPO}/objects"));
        dirs.extend((0..=0xff_u8).map(|first| format!("{REPO}/objects/{first:02x}")));
        dirs.extend(REPO_DIRS.iter().map(|dir| format!("{REPO}/{dir}")));
        for dir in dirs {
            self.tar.append(&Entry::plain(EntryType::Directory, &dir, 0o755), &[])?;
        }
        let config = format!("{REPO}/config");
        Ok(self.tar.append(&Entry::plain(EntryType::Regular, &config, 0o644), CONFIG)?)
    }

    /// A file object, with its extended attributes before and the real paths behind it.
    pub(super) fn file(&mut self, file: &LayerFile<'_>) -> Result<()> {
        let object = self.repo.file(file.checksum)?;
        let attributes = object.attributes.clone();
        self.xattrs(file.checksum, &attributes)?;
        let place = place(ObjectKind::File, file.checksum);
        let shown = shown_xattrs(&attributes);
        let (kind, target, size) = match &object.content {
            Content::Regular(_, size) => (EntryType::Regular, String::new(), *size),
            Content::Symlink(target) => (EntryType::Symlink, target.clone(), 0),
        };
        let entry = Entry {
            uid: attributes.uid,
            gid: attributes.gid,
            size,
            target: &target,
            xattrs: &shown,
            ..Entry::plain(kind, &place, attributes.permissions())
        };
        self.tar.begin(&entry)?;
        self.repo.copy_content(file.checksum, object, &mut self.tar)?;
        self.tar.pad(size)?;
        for path in file.paths.iter().filter_map(|path| container_path(path)) {
            if kind == EntryType::Regular && size == 0 {
                self.tar.append(&Entry { path: &path, ..entry }, &[])?;
            } else {
                let link = Entry { path: &path, kind: EntryType::Link, target: &place, size: 0, ..entry };
                self.tar.append(&Entry { xattrs: &[], ..link }, &[])?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<W> {
        Ok(self.tar.finish()?)
    }

    fn directory(&mut self, path: &str, attributes: &Attributes) -> Result<()> {
        let entry = Entry {
            uid: attributes.uid,
            gid: attributes.gid,
            xattrs: &shown_xattrs(attributes),
            ..Entry::plain(EntryType::Directory, path, attributes.permissions())
        };
        Ok(self.tar.append(&entry, &[])?)
    }

    fn object(&mut self, kind: ObjectKind, checksum: Checksum, bytes: &[u8]) -> Result<()> {
        Ok(self.tar.append(&Entry::plain(EntryType::Regular, &place(kind, checksum), 0o644), bytes)?)
    }

    fn xattrs(&mut self, file: Checksum, attributes: &Attributes) -> Result<()> {
        let bytes = attributes.encode_xattrs();
        let checksum = Checksum::of(&bytes);
        let place = format!("{}-xattrs", place(ObjectKind::File, checksum));
        if self.xattrs.insert(checksum) {
            self.tar.append(&Entry::plain(EntryType::Regular, &place, 0o644), &bytes)?;
        }
        let path = format!("{}-xattrs-link", self::place(ObjectKind::File, file));
        let link = Entry { target: &place, ..Entry::plain(EntryType::Link, &path, 0o644) };
        Ok(self.tar.append(&link, &[])?)
    }
}

fn place(kind: ObjectKind, checksum: Checksum) -> String {
    format!("{REPO}/objects/{}", checksum.object_path(kind))
}

/// Where a path of the tree lies in the container: /usr/etc at /etc; `None` below /sysroot, which is the
/// repository's.
fn container_path(path: &Path) -> Option<String> {
    if path.starts_with("sysroot") {
        return None;
    }
    let path = path.strip_prefix("usr/etc").map_or_else(
        |_| path.to_owned(),
        |below| if below == Path::new("") { "etc".into() } else { Path::new("etc").join(below) },
    );
    path.into_os_string().into_string().ok()
}

/// The extended attributes that a plain container should have too: others are the host's to give.
fn shown_xattrs(attributes: &Attributes) -> Vec<(Vec<u8>, Vec<u8>)> {
    let shown = |name: &[u8]| name == b"security.capability" || name.starts_with(b"user.");
    attributes.xattrs.iter().filter(|(name, _)| shown(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_container() {
        let cases = [
            ("usr/etc", Some("etc")),
            ("usr/etc/shadow", Some("etc/shadow")),
            ("usr/etcetera", Some("usr/etcetera")),
            ("usr/bin/true", Some("usr/bin/true")),
            ("sysroot", None),
            ("sysroot/x", None),
            ("sysroots", Some("sysroots")),
        ];
        for (path, expected) in cases {
            assert_eq!(container_path(Path::new(path)).as_deref(), expected, "{path}");
        }
    }
}
