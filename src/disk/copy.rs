//! Copies of files and directories with owners, modes and attributes, and the making of single nodes with
//! a mode that no umask changes.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Gid, Uid, XattrFlags};

use crate::host::fs;

/// Makes a directory, and its parents with it, of mode 0755.
pub(super) fn make_dir(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    make_dir_with(path, 0o755)
}

/// Makes a directory of `mode` in one that exists.
pub(super) fn make_dir_with(path: &Path, mode: u32) -> Result<()> {
    std::fs::create_dir(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(mode)))
        .with_context(|| format!("creating directory {}", path.display()))
}

/// Writes a new file of `mode`.
pub(super) fn make_file(path: &Path, mode: u32, content: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, content)?;
    std::fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

/// Makes a symbolic link.
pub(super) fn make_link(target: impl AsRef<Path>, path: &Path) -> Result<()> {
    symlink(target, path).with_context(|| format!("linking {}", path.display()))
}

/// Copies a directory to a path that does not exist.
pub(super) fn tree(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir(to).with_context(|| format!("creating directory {}", to.display()))?;
    for source in fs::read_dir_sorted(from)? {
        let target = to.join(source.file_name().unwrap_or_default());
        if source.symlink_metadata().with_context(|| format!("reading {}", source.display()))?.is_dir() {
            tree(&source, &target)?;
        } else {
            node(&source, &target)?;
        }
    }
    attributes(from, to).with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Copies a regular file or a symbolic link to a path that does not exist.
pub(super) fn node(from: &Path, to: &Path) -> Result<()> {
    let copy = || -> io::Result<()> {
        if from.symlink_metadata()?.is_symlink() {
            symlink(std::fs::read_link(from)?, to)?;
        } else {
            content(from, to)?;
        }
        attributes(from, to)
    };
    copy().with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

/// Gives everything below `dir` one access time, the same before and after it is read.
///
/// mke2fs copies access times (none later than its epoch), and programs that run from a tree while it is
/// copied change them. The kernel notes an access only when the last one is not later than the last change
/// (relatime, mount(8)): so the time set here lies ahead, at the last second that every file system knows.
pub(super) fn forget_access(dir: &Path) -> Result<()> {
    use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, utimensat};
    let times = Timestamps {
        last_access: Timespec { tv_sec: i32::MAX.into(), tv_nsec: 0 },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
    };
    for path in fs::read_dir_sorted(dir)? {
        if path.symlink_metadata().with_context(|| format!("reading {}", path.display()))?.is_dir() {
            forget_access(&path)?;
        } else {
            utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW)
                .with_context(|| format!("setting the access time of {}", path.display()))?;
        }
    }
    // Listing it was an access.
    utimensat(CWD, dir, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("setting the access time of {}", dir.display()))
}

fn content(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        io::copy(&mut source, &mut target)?;
    }
    Ok(())
}

/// Gives `to` the owner, attributes and mode of `from`, in this order: a new owner takes away setuid and
/// capabilities.
fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let meta = from.symlink_metadata()?;
    let owner = (Some(Uid::from_raw(meta.uid())), Some(Gid::from_raw(meta.gid())));
    rustix::fs::chownat(CWD, to, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if !meta.is_symlink() {
        std::fs::set_permissions(to, Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let names = read(|buffer| rustix::fs::llistxattr(from, buffer))?;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let value = read(|buffer| rustix::fs::lgetxattr(from, name, buffer))?;
        rustix::fs::lsetxattr(to, name, &value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Reads what has a length that only asking tells.
fn read(mut ask: impl FnMut(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    // 64 KiB is the kernel's limit for an attribute and for a list of them.
    let mut buffer = vec![0; 65_536];
    let length = ask(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("deep/file");
        make_dir(file.parent().unwrap()).unwrap();
        make_file(&file, 0o644, "x").unwrap();
        let zero = rustix::fs::Timespec { tv_sec: 0, tv_nsec: 0 };
        let old = rustix::fs::Timestamps { last_access: zero, last_modification: zero };
        rustix::fs::utimensat(CWD, &file, &old, AtFlags::empty()).unwrap();
        let times = || {
            let of = |path: &Path| path.symlink_metadata().map(|meta| (meta.atime(), meta.mtime())).unwrap();
            (of(&file), of(file.parent().unwrap()).0)
        };
        forget_access(dir.path()).unwrap();
        let before = times();
        assert_eq!(before.0, (i64::from(i32::MAX), 0));
        fs::read(&file).unwrap();
        fs::read_dir_sorted(file.parent().unwrap()).unwrap();
        assert_eq!(times(), before);
    }

    #[test]
    fn a_copy_has_the_modes_attributes_and_links_of_its_source() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        make_dir(&from.join("deep/er")).unwrap();
        make_file(&from.join("deep/setuid"), 0o4750, "x").unwrap();
        make_file(&from.join("deep/er/note"), 0o600, "y").unwrap();
        make_link("nowhere", &from.join("link")).unwrap();
        rustix::fs::lsetxattr(from.join("deep/er/note"), "user.a", b"value", XattrFlags::empty()).unwrap();
        std::fs::set_permissions(from.join("deep"), Permissions::from_mode(0o1777)).unwrap();
        tree(&from, &to).unwrap();
        let mode = |path: &str| to.join(path).symlink_metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode("deep"), mode("deep/setuid"), mode("deep/er/note")), (0o1777, 0o4750, 0o600));
        assert_eq!(std::fs::read_link(to.join("link")).unwrap(), Path::new("nowhere"));
        let value = read(|buffer| rustix::fs::lgetxattr(to.join("deep/er/note"), "user.a", buffer)).unwrap();
        assert_eq!(value, b"value");
    }
}
