//! How large an ext4 file system must be for a tree: counts what mke2fs will lay down, then adds room.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// The block size of every file system nosa writes.
pub(super) const BLOCK: u64 = 4096;
/// The size of an inode.
pub(super) const INODE: u64 = 256;
/// Bytes of an inode that extended attributes may fill before they take a block of their own.
const INODE_XATTR_ROOM: usize = 90;
/// A symbolic link up to this long lies in its inode.
const FAST_LINK: u64 = 59;
/// Blocks in a block group.
const GROUP: u64 = 8 * BLOCK;

/// What a tree takes on ext4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Inodes: a file with many names counts once.
    pub inodes: u64,
    /// Blocks of files, directories, long links and large extended attributes.
    pub blocks: u64,
}

impl Usage {
    /// Counts the tree at `root`.
    pub(super) fn of_tree(root: &Path) -> Result<Self> {
        let mut usage = Self::default();
        let mut seen = HashSet::new();
        usage.add_directory(root, &mut seen)?;
        Ok(usage)
    }

    fn add_directory(&mut self, dir: &Path, seen: &mut HashSet<(u64, u64)>) -> Result<()> {
        let reading = || format!("reading {}", dir.display());
        let mut listing = Listing::new();
        for entry in std::fs::read_dir(dir).with_context(reading)? {
            let entry = entry.with_context(reading)?;
            listing.add(&entry.file_name());
            let meta = entry.metadata().with_context(reading)?;
            if meta.is_dir() {
                self.add_directory(&entry.path(), seen)?;
                continue;
            }
            if meta.nlink() > 1 && !seen.insert((meta.dev(), meta.ino())) {
                continue;
            }
            self.inodes += 1;
            self.blocks += content_blocks(meta.file_type().is_symlink(), meta.is_file(), meta.len());
            self.blocks += xattr_blocks(&entry.path());
        }
        self.inodes += 1;
        self.blocks += listing.blocks() + xattr_blocks(dir);
        Ok(())
    }

    /// The size in bytes of a file system that holds the tree, its own metadata and a journal of
    /// `journal` bytes, with room to boot and update before it is grown.
    #[must_use]
    pub(super) fn file_system_size(self, journal: u64, bytes_per_inode: u64) -> u64 {
        let content = self.blocks + journal / BLOCK;
        // A fifth, and no less than 256 MiB: the first boot writes before it grows the partition.
        let room = (content / 5).max((256 << 20) / BLOCK);
        with_metadata(content + room, bytes_per_inode).next_multiple_of(1 << 20)
    }

    /// The size in bytes of a file system that just holds the tree.
    #[must_use]
    pub(super) fn least_size(self, journal: u64, bytes_per_inode: u64) -> u64 {
        with_metadata(self.blocks + journal / BLOCK, bytes_per_inode)
    }

    /// Bytes per inode so that the tree takes at most two thirds of the inodes: mke2fs's usual 16384, or
    /// less for a tree of very many small files.
    #[must_use]
    pub(super) fn bytes_per_inode(self, journal: u64) -> u64 {
        let enough = |ratio: &u64| self.inodes * 3 / 2 <= self.file_system_size(journal, *ratio) / ratio;
        [16384, 8192, 4096].into_iter().find(enough).unwrap_or(2048)
    }
}

/// The size in bytes of a file system with `content` blocks besides its metadata.
fn with_metadata(content: u64, bytes_per_inode: u64) -> u64 {
    // Metadata depends on the size and the size on metadata; it settles in a few rounds.
    let grow = |blocks, _| content + metadata_blocks(blocks, bytes_per_inode);
    (0..4).fold(content, grow) * BLOCK
}

/// Superblocks, descriptors and their reserve, bitmaps and inode tables.
fn metadata_blocks(blocks: u64, bytes_per_inode: u64) -> u64 {
    let groups = blocks.div_ceil(GROUP);
    let descriptors = (groups * 64).div_ceil(BLOCK);
    // mke2fs reserves descriptors for growth to 1024 times the size, at most one block's worth of pointers.
    let reserve = (groups * 1024 * 64).div_ceil(BLOCK).min(1024);
    // Backups lie in groups 0, 1 and the powers of 3, 5 and 7.
    let powers = |base: u64| (1..20).map(|exponent| base.pow(exponent)).take_while(|n| *n < groups).count();
    let backups = 2 + powers(3) + powers(5) + powers(7);
    let inode_table = (blocks * BLOCK / bytes_per_inode * INODE).div_ceil(BLOCK);
    backups as u64 * (1 + descriptors + reserve) + groups * 2 + inode_table
}

fn content_blocks(link: bool, file: bool, length: u64) -> u64 {
    match (link, file) {
        (true, _) => u64::from(length > FAST_LINK),
        (_, true) => length.div_ceil(BLOCK),
        _ => 0,
    }
}

fn xattr_blocks(path: &Path) -> u64 {
    let mut names = [0u8; 1024];
    match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(0) => 0,
        // Names alone do not tell the values' size; a long list counts as a block.
        Ok(length) => u64::from(length * 2 > INODE_XATTR_ROOM),
        Err(_) => 1,
    }
}

/// A directory's entries as ext4 packs them into blocks.
struct Listing {
    full: u64,
    used: u64,
}

impl Listing {
    const USABLE: u64 = BLOCK - 12;

    const fn new() -> Self {
        Self { full: 0, used: 24 }
    }

    fn add(&mut self, name: &OsStr) {
        let entry = (8 + name.as_bytes().len() as u64).next_multiple_of(4);
        if self.used + entry > Self::USABLE {
            self.full += 1;
            self.used = 0;
        }
        self.used += entry;
    }

    const fn blocks(&self) -> u64 {
        self.full + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a"), vec![1; 5000]).unwrap();
        std::fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::os::unix::fs::symlink("short", dir.path().join("l")).unwrap();
        std::os::unix::fs::symlink("x".repeat(60), dir.path().join("m")).unwrap();
        let usage = Usage::of_tree(dir.path()).unwrap();
        // a (2 blocks), d (1), l (0), m (1) and the directory itself (1).
        assert_eq!(usage, Usage { inodes: 5, blocks: 5 });
    }

    #[test]
    fn a_full_directory_takes_a_second_block() {
        let mut listing = Listing::new();
        let name = "n".repeat(248);
        (0..15).for_each(|_| listing.add(OsStr::new(&name)));
        assert_eq!(listing.blocks(), 1);
        listing.add(OsStr::new(&name));
        assert_eq!(listing.blocks(), 2);
    }

    #[test]
    fn the_size_leaves_room_and_enough_inodes() {
        let usage = Usage { inodes: 30_000, blocks: 160_000 };
        let size = usage.file_system_size(64 << 20, 16384);
        let content = 160_000 * BLOCK + (64 << 20);
        assert!(size > content + (256 << 20) && size < content + (300 << 20), "{size}");
        let large = Usage { inodes: 100_000, blocks: 1_600_000 };
        let (size, content) = (large.file_system_size(64 << 20, 16384), 1_600_000 * BLOCK + (64 << 20));
        assert!(size > content * 12 / 10 && size < content * 13 / 10, "{size}");
        assert_eq!(usage.bytes_per_inode(64 << 20), 16384);
        let many = Usage { inodes: 200_000, blocks: 300_000 };
        assert_eq!(many.bytes_per_inode(64 << 20), 4096);
    }
}
