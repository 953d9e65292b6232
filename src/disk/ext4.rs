//! ext4 file systems from directories, by the tree's own mke2fs, written straight into the disk file.
//!
//! The features are nosa's, not those of the tree's or the host's mke2fs.conf. With e2fsprogs 1.47.1 and
//! later the result depends on nothing but the directory's content: entries are taken in the order of their
//! names, and no time is later than the epoch that is given.

use std::path::Path;

use anyhow::{Context as _, Result};
use uuid::Uuid;

use super::estimate::{BLOCK, INODE};
use super::plan::Partition;
use super::programs::Programs;
use crate::failure::{Failure, Kind};
use crate::host::fs;

const CONFIG: &str = "[defaults]
base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
default_mntopts = acl,user_xattr
enable_periodic_fsck = 0
[fs_types]
ext4 = {
    features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
}
";

/// A file system to make.
#[derive(Debug, Clone)]
pub(super) struct Ext4<'a> {
    /// Its label.
    pub(super) label: &'a str,
    /// Its UUID.
    pub(super) uuid: Uuid,
    /// The seed of directory hashes.
    pub(super) hash_seed: Uuid,
    /// The size of its journal in bytes.
    pub(super) journal: u64,
    /// One inode for so many bytes.
    pub(super) bytes_per_inode: u64,
    /// Features besides the usual ones.
    pub(super) features: &'a [&'a str],
    /// More arguments for mke2fs, divided by spaces.
    pub(super) arguments: &'a str,
    /// No time in it is later; seconds since 1970.
    pub(super) epoch: u64,
}

/// The version of the tree's mke2fs from which its output depends on nothing but its input.
const REPRODUCIBLE: [u32; 3] = [1, 47, 1];
/// The version that knows of files that are zero already.
const LEAST: [u32; 3] = [1, 47, 0];

/// Checks the tree's mke2fs: refuses one that is too old, and returns a warning about one whose output
/// depends on times and the order of directories.
pub(super) fn check(programs: &Programs) -> Result<Option<String>> {
    for program in ["mke2fs", "debugfs"] {
        programs.require(program, "e2fsprogs")?;
    }
    let mut printed = String::new();
    let asking = programs.sandbox().command("mke2fs").arg("-V").log(&programs.log);
    asking.run_lines(|line| printed += line).context("asking the tree's mke2fs for its version")?;
    let Some(version) = version(&printed) else {
        return Ok(Some("the tree's mke2fs tells no version: the image may not be reproducible".to_owned()));
    };
    let [major, minor, patch] = version;
    if version < LEAST {
        let cause =
            format!("the tree's mke2fs {major}.{minor}.{patch} is too old: 1.47.0 or later is needed");
        return Err(Failure::new(Kind::Build, cause, "take a newer e2fsprogs into the tree").into());
    }
    Ok((version < REPRODUCIBLE).then(|| {
        format!(
            "the tree's mke2fs {major}.{minor}.{patch} ignores SOURCE_DATE_EPOCH: this image is not reproducible \
             (e2fsprogs 1.47.1 or later)"
        )
    }))
}

/// `mke2fs 1.47.2 (1-Jan-2025)` → 1, 47, 2.
fn version(printed: &str) -> Option<[u32; 3]> {
    let word = printed.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = word.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    Some([(); 3].map(|()| numbers.next().unwrap_or(0)))
}

impl Ext4<'_> {
    /// Makes the file system in `partition` of the disk file, which must be zero there, with the content of
    /// `directory`. Directories in `immutable` (paths inside) get the immutable flag.
    pub(super) fn write(
        &self,
        programs: &Programs,
        directory: &Path,
        disk: &Path,
        partition: &Partition,
        immutable: &[String],
    ) -> Result<()> {
        let config = programs.scratch.join(format!("mke2fs-{}.conf", self.label));
        fs::write(&config, CONFIG)?;
        let epoch = self.epoch.to_string();
        let inside = programs
            .sandbox()
            .bind_ro(directory, "/run/content")
            .bind(disk, "/run/disk")
            .bind_ro(&config, "/run/mke2fs.conf")
            .env("MKE2FS_CONFIG", "/run/mke2fs.conf")
            .env("SOURCE_DATE_EPOCH", &epoch)
            .env("E2FSPROGS_FAKE_TIME", &epoch);
        inside
            .command("mke2fs")
            .args(self.argv(partition))
            .log(&programs.log)
            .run()
            .with_context(|| format!("making the {} file system", self.label))?;
        if immutable.is_empty() {
            return Ok(());
        }
        // Extents (0x80000) and immutable (0x10).
        let requests: String = immutable.iter().map(|path| format!("sif {path} flags 0x80010\n")).collect();
        inside
            .command("debugfs")
            .args(["-w", "-f", "-", &format!("/run/disk?offset={}", partition.offset)])
            .stdin(requests)
            .log(&programs.log)
            .run()
            .with_context(|| format!("marking directories of the {} file system immutable", self.label))
    }

    fn argv(&self, partition: &Partition) -> Vec<String> {
        let options = format!(
            "offset={},hash_seed={},nodiscard,assume_storage_prezeroed=1,root_owner=0:0",
            partition.offset, self.hash_seed
        );
        let mut argv: Vec<String> = ["-q", "-F", "-t", "ext4", "-m", "1"].map(String::from).into();
        let mut option = |name: &str, value: String| argv.extend([name.to_owned(), value]);
        option("-b", BLOCK.to_string());
        option("-I", INODE.to_string());
        option("-i", self.bytes_per_inode.to_string());
        option("-J", format!("size={}", self.journal >> 20));
        option("-L", self.label.to_owned());
        option("-U", self.uuid.to_string());
        option("-E", options);
        if !self.features.is_empty() {
            option("-O", self.features.join(","));
        }
        option("-d", "/run/content".to_owned());
        argv.extend(self.arguments.split_whitespace().map(str::to_owned));
        argv.extend(["/run/disk".to_owned(), format!("{}k", partition.size / 1024)]);
        argv
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_mke2fs_prints_them() {
        assert_eq!(version("mke2fs 1.47.2 (1-Jan-2025)\tUsing EXT2FS Library version"), Some([1, 47, 2]));
        assert_eq!(version("mke2fs 1.48-rc1 (x)"), Some([1, 48, 0]));
        assert_eq!(version("mke2fs: not found"), None);
    }
}
