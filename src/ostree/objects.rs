//! The canonical forms of the four kinds of object (libostree's `ostree-core.h` documents the types;
//! all numbers are big-endian):
//!
//! ```text
//! dirmeta   (uuua(ayay))                    uid, gid, mode, extended attributes by name
//! dirtree   (a(say)a(sayay))                files: name, checksum; directories: name, dirtree, dirmeta
//! commit    (a{sv}aya(say)sstayay)          metadata, parent, related, subject, body, time, dirtree, dirmeta
//! file      (uuuusa(ayay)) and the content  uid, gid, mode, 0, link target, attributes: see [`FileHeader`]
//! ```
//!
//! Reading takes only what writing would give: each object is encoded again and compared, so that
//! names out of order, twice, or with slack between them never reach the caller.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use super::checksum::Checksum;
use super::gvariant::{self, Layout};
use super::metadata::Metadata;

/// The bits of a mode that tell what a node is.
pub const S_IFMT: u32 = 0o170_000;
/// A directory's.
pub const S_IFDIR: u32 = 0o040_000;
/// A regular file's.
pub const S_IFREG: u32 = 0o100_000;
/// A symbolic link's.
pub const S_IFLNK: u32 = 0o120_000;

const DIRMETA: [Layout; 4] = [Layout::U32, Layout::U32, Layout::U32, Layout::BYTES];

/// Owner, mode and extended attributes of a node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is ([`S_IFMT`]) and its permissions.
    pub mode: u32,
    /// Extended attributes by name; sorted when encoded.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A directory's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DirTree {
    /// Files and symbolic links by name.
    pub files: Vec<(String, Checksum)>,
    /// Directories by name: their dirtree and dirmeta.
    pub dirs: Vec<(String, Checksum, Checksum)>,
}

/// What a file's checksum covers before its content: this, big-endian length and padding first.
#[derive(Debug, Clone)]
pub(super) struct FileHeader<'a> {
    pub(super) attributes: &'a Attributes,
    pub(super) target: &'a str,
}

/// A commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its metadata.
    pub metadata: Metadata,
    /// The commit before it.
    pub parent: Option<Checksum>,
    /// First line of what it is.
    pub subject: String,
    /// The rest of it.
    pub body: String,
    /// Seconds since the epoch.
    pub timestamp: u64,
    /// The root directory's entries.
    pub tree: Checksum,
    /// The root directory's attributes.
    pub meta: Checksum,
}

impl Attributes {
    /// Attributes of a directory that root owns and all may read.
    #[must_use]
    pub const fn directory() -> Self {
        Self { uid: 0, gid: 0, mode: S_IFDIR | 0o755, xattrs: Vec::new() }
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }

    /// Whether it is a symbolic link.
    #[must_use]
    pub const fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }

    /// The permissions, without what kind of node it is.
    #[must_use]
    pub const fn permissions(&self) -> u32 {
        self.mode & !S_IFMT
    }

    /// The form of a dirmeta object, and of the attribute `user.ostreemeta` of a file.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        gvariant::tuple(&[
            (Layout::U32, &self.uid.to_be_bytes()),
            (Layout::U32, &self.gid.to_be_bytes()),
            (Layout::U32, &self.mode.to_be_bytes()),
            (Layout::BYTES, &self.encode_xattrs()),
        ])
    }

    /// The extended attributes alone, `a(ayay)`; the names end with a zero byte.
    #[must_use]
    pub fn encode_xattrs(&self) -> Vec<u8> {
        let mut sorted: Vec<&(Vec<u8>, Vec<u8>)> = self.xattrs.iter().collect();
        sorted.sort();
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| {
            let mut name = name.clone();
            name.push(0);
            gvariant::tuple(&[(Layout::BYTES, &name), (Layout::BYTES, value)])
        };
        gvariant::array(Layout::BYTES, sorted.into_iter().map(pair))
    }

    /// Reads the extended attributes alone.
    pub fn decode_xattrs(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut xattrs = Vec::new();
        for pair in gvariant::split_array(bytes, Layout::BYTES)? {
            let [name, value] = gvariant::split_tuple(pair, [Layout::BYTES, Layout::BYTES])?;
            match name.split_last() {
                Some((0, name)) if !name.is_empty() && !name.contains(&0) => {
                    xattrs.push((name.to_vec(), value.to_vec()));
                }
                _ => bail!("an extended attribute has no proper name"),
            }
        }
        ensure!(xattrs.is_sorted_by(|a, b| a.0 < b.0), "extended attributes are not sorted by name");
        Ok(xattrs)
    }

    /// Reads the form back.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let [uid, gid, mode, pairs] = gvariant::split_tuple(bytes, DIRMETA)?;
        let xattrs = Self::decode_xattrs(pairs)?;
        let read = gvariant::read_u32;
        let attributes = Self { uid: read(uid)?, gid: read(gid)?, mode: read(mode)?, xattrs };
        ensure!(attributes.encode() == bytes, "attributes are not in their canonical form");
        ensure!(
            matches!(attributes.mode & S_IFMT, S_IFDIR | S_IFREG | S_IFLNK),
            "mode {:o} is of no directory, file or symbolic link",
            attributes.mode
        );
        Ok(attributes)
    }
}

impl DirTree {
    /// The object's form; sorts the entries.
    pub fn encode(&mut self) -> Vec<u8> {
        self.files.sort();
        self.dirs.sort();
        let file = |(name, checksum): &(String, Checksum)| {
            gvariant::tuple(&[
                (Layout::BYTES, &gvariant::string(name)),
                (Layout::BYTES, checksum.as_bytes().as_slice()),
            ])
        };
        let dir = |(name, tree, meta): &(String, Checksum, Checksum)| {
            gvariant::tuple(&[
                (Layout::BYTES, &gvariant::string(name)),
                (Layout::BYTES, tree.as_bytes().as_slice()),
                (Layout::BYTES, meta.as_bytes().as_slice()),
            ])
        };
        let files = gvariant::array(Layout::BYTES, self.files.iter().map(file));
        let dirs = gvariant::array(Layout::BYTES, self.dirs.iter().map(dir));
        gvariant::tuple(&[(Layout::BYTES, &files), (Layout::BYTES, &dirs)])
    }

    /// Reads the form back and refuses names that could lead out of the directory.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let [files, dirs] = gvariant::split_tuple(bytes, [Layout::BYTES, Layout::BYTES])?;
        let mut tree = Self::default();
        for file in gvariant::split_array(files, Layout::BYTES)? {
            let [name, checksum] = gvariant::split_tuple(file, [Layout::BYTES, Layout::BYTES])?;
            tree.files.push((read_name(name)?, read_checksum(checksum)?));
        }
        for dir in gvariant::split_array(dirs, Layout::BYTES)? {
            let [name, contents, meta] = gvariant::split_tuple(dir, [Layout::BYTES; 3])?;
            tree.dirs.push((read_name(name)?, read_checksum(contents)?, read_checksum(meta)?));
        }
        ensure!(tree.clone().encode() == bytes, "a directory is not in its canonical form");
        let mut names: Vec<&str> = tree.files.iter().map(|(name, _)| name.as_str()).collect();
        names.extend(tree.dirs.iter().map(|(name, ..)| name.as_str()));
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("a directory has two entries named {:?}", pair[0]);
        }
        Ok(tree)
    }
}

impl FileHeader<'_> {
    /// Starts the hash of a file; a regular file's content follows.
    pub(super) fn start_hash(&self) -> Sha256 {
        let Attributes { uid, gid, mode, .. } = self.attributes;
        let header = gvariant::tuple(&[
            (Layout::U32, &uid.to_be_bytes()),
            (Layout::U32, &gid.to_be_bytes()),
            (Layout::U32, &mode.to_be_bytes()),
            (Layout::U32, &[0; 4]),
            (Layout::BYTES, &gvariant::string(self.target)),
            (Layout::BYTES, &self.attributes.encode_xattrs()),
        ]);
        let mut hash = Sha256::new();
        hash.update((header.len() as u32).to_be_bytes());
        hash.update([0; 4]);
        hash.update(&header);
        hash
    }
}

impl Commit {
    /// The object's form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        gvariant::tuple(&[
            (Layout::EIGHT, &self.metadata.encode()),
            (Layout::BYTES, self.parent.as_ref().map_or(&[], |parent| parent.as_bytes().as_slice())),
            (Layout::BYTES, &[]),
            (Layout::BYTES, &gvariant::string(&self.subject)),
            (Layout::BYTES, &gvariant::string(&self.body)),
            (Layout::U64, &self.timestamp.to_be_bytes()),
            (Layout::BYTES, self.tree.as_bytes().as_slice()),
            (Layout::BYTES, self.meta.as_bytes().as_slice()),
        ])
    }

    /// Reads the form back. "Related objects", which nothing writes, are not kept.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        const LAYOUTS: [Layout; 8] = [
            Layout::EIGHT,
            Layout::BYTES,
            Layout::BYTES,
            Layout::BYTES,
            Layout::BYTES,
            Layout::U64,
            Layout::BYTES,
            Layout::BYTES,
        ];
        let [metadata, parent, _, subject, body, timestamp, tree, meta] =
            gvariant::split_tuple(bytes, LAYOUTS)?;
        Ok(Self {
            metadata: Metadata::decode(metadata).context("reading the commit's metadata")?,
            parent: if parent.is_empty() { None } else { Some(read_checksum(parent)?) },
            subject: gvariant::read_string(subject)?.to_owned(),
            body: gvariant::read_string(body)?.to_owned(),
            timestamp: gvariant::read_u64(timestamp)?,
            tree: read_checksum(tree)?,
            meta: read_checksum(meta)?,
        })
    }

    /// The checksum of what the commit holds whatever its metadata, as libostree defines it
    /// (`ostree-content-checksum`): SHA-256 over the bytes of the root's dirtree and dirmeta checksums.
    #[must_use]
    pub fn content_checksum(&self) -> Checksum {
        Checksum::of(&[*self.tree.as_bytes(), *self.meta.as_bytes()].concat())
    }
}

/// Whether a name can be an entry of a directory.
pub(super) fn check_name(name: &str) -> Result<()> {
    ensure!(
        !name.is_empty() && name != "." && name != ".." && !name.contains('/') && !name.contains('\0'),
        "{name:?} is no name of a directory's entry"
    );
    ensure!(Path::new(name).as_os_str().len() <= 255, "the name {name:?} is longer than 255 bytes");
    Ok(())
}

fn read_name(bytes: &[u8]) -> Result<String> {
    let name = gvariant::read_string(bytes)?;
    check_name(name)?;
    Ok(name.to_owned())
}

fn read_checksum(bytes: &[u8]) -> Result<Checksum> {
    let bytes = <[u8; 32]>::try_from(bytes).ok().context("a checksum has not 32 bytes")?;
    Ok(Checksum::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree_with(name: &str) -> Vec<u8> {
        let sum = Checksum::of(b"x");
        DirTree { files: vec![(name.into(), sum)], dirs: vec![("d".into(), sum, sum)] }.encode()
    }

    #[test]
    fn objects_read_back() {
        let bytes = tree_with("größe");
        assert_eq!(DirTree::decode(&bytes).unwrap().encode(), bytes);
        let xattrs = vec![(b"user.b".to_vec(), vec![0; 9_000]), (b"user.a".to_vec(), Vec::new())];
        let bytes = Attributes { uid: 1, gid: 2, mode: S_IFDIR | 0o1777, xattrs }.encode();
        assert_eq!(Attributes::decode(&bytes).unwrap().encode(), bytes);
        let commit = Commit {
            metadata: Metadata::new(),
            parent: Some(Checksum::of(b"p")),
            subject: "s".into(),
            body: String::new(),
            timestamp: 7,
            tree: Checksum::of(b"t"),
            meta: Checksum::of(b"m"),
        };
        assert_eq!(Commit::decode(&commit.encode()).unwrap(), commit);
    }

    #[test]
    fn the_content_checksum_is_libostree_s() {
        let sum = |text: &str| text.parse::<Checksum>().unwrap();
        let commit = Commit {
            metadata: Metadata::new(),
            parent: None,
            subject: String::new(),
            body: String::new(),
            timestamp: 0,
            tree: sum("31e4e12ccdfde444f48b657e39ef8a06e1fc60de2ef059b5f063e185592e9ac4"),
            meta: sum("446a0ef11b7cc167f3b603e585c7eeeeb675faa412d5ec73f62988eb0b6c5488"),
        };
        // Printed by ostree_commit_get_content_checksum() of libostree 2022.7.
        let theirs = sum("e69bed6adfbb38f3019a553c51c9ef84d5ab5496dbff379d7fe6a205bbad1689");
        assert_eq!(commit.content_checksum(), theirs);
    }

    #[test]
    fn names_that_lead_out_are_refused() {
        for name in ["", ".", "..", "a/b", "/", "d"] {
            assert!(DirTree::decode(&tree_with(name)).is_err(), "{name:?}");
        }
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_an_error_or_another_object() {
        let bytes = tree_with("name");
        let whole = DirTree::decode(&bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(DirTree::decode(&bytes[..length]).is_err() || length == 0, "{length}");
        }
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x55;
            assert_ne!(DirTree::decode(&broken).ok().as_ref(), Some(&whole), "{at}");
        }
        let meta = Attributes::directory().encode();
        for length in 0..meta.len() {
            assert!(Attributes::decode(&meta[..length]).is_err(), "{length}");
        }
    }
}
