//! Files, with the path in every error, and writes that are whole or absent.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Reads a whole file.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading {}", path.display()))
}

/// Reads a whole UTF-8 file.
pub fn read_to_string(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}

/// Reads a whole UTF-8 file, `None` if it does not exist.
pub fn read_optional(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Opens a file for reading.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("opening {}", path.display()))
}

/// Creates a file that must not exist yet, or empties one that does.
pub fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("creating {}", path.display()))
}

/// Creates a directory and its parents.
pub fn create_dir_all(path: &Path) -> Result<()> {
    fs::create_dir_all(path).with_context(|| format!("creating directory {}", path.display()))
}

/// Writes a file in place (for scratch files whose loss is harmless; else [`write_atomic`]).
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// Writes a file beside its target, flushes it to disk and renames it into place with `mode`.
pub fn write_atomic(path: &Path, bytes: impl AsRef<[u8]>, mode: u32) -> Result<()> {
    let parent = parent_of(path);
    let beside = beside(path);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes.as_ref())?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().with_context(|| format!("writing {}", path.display()))?;
    sync_dir(parent)
}

/// Makes `link` point to `target`, replacing what was there in one step.
pub fn symlink_atomic(target: &Path, link: &Path) -> Result<()> {
    let beside = beside(link);
    remove_file_if_exists(&beside)?;
    std::os::unix::fs::symlink(target, &beside)
        .and_then(|()| fs::rename(&beside, link))
        .with_context(|| format!("linking {} to {}", link.display(), target.display()))?;
    sync_dir(parent_of(link))
}

/// Renames, with both paths in the error.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("renaming {} to {}", from.display(), to.display()))
}

/// Hard-links `from` at `to`, or copies it (keeping holes) where that is not possible.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    copy_sparse(from, to)
}

/// Copies a file's data, keeping holes, into a fresh file at `to`.
pub fn copy_sparse(from: &Path, to: &Path) -> Result<()> {
    remove_file_if_exists(to)?;
    copy_sparse_into(&open(from)?, &create(to)?)
        .with_context(|| format!("copying {} to {}", from.display(), to.display()))
}

fn copy_sparse_into(source: &File, target: &File) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut offset = 0;
    while offset < length {
        let data = match seek(source, SeekFrom::Data(offset)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(source, SeekFrom::Hole(data))?;
        let (mut read_at, mut write_at) = (data, data);
        while read_at < end {
            let left = (end - read_at) as usize;
            let copied =
                rustix::fs::copy_file_range(source, Some(&mut read_at), target, Some(&mut write_at), left)?;
            if copied == 0 {
                break;
            }
        }
        offset = end;
    }
    Ok(())
}

/// Makes `path` a file of its own, writable, if it shares its data with another name.
pub fn unshare_file(path: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::metadata(path).with_context(|| format!("reading {}", path.display()))?;
    if meta.nlink() > 1 {
        let beside = beside(path);
        copy_sparse(path, &beside)?;
        rename(&beside, path)?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
        .with_context(|| format!("making {} writable", path.display()))
}

/// Removes a file; a missing one is fine.
pub fn remove_file_if_exists(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("removing {}", path.display())),
    }
}

/// Removes a directory tree; a missing one is fine. Directories without write permission (package
/// trees have some) and OSTree's immutable flag are cleared on the way.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("removing {}", path.display())),
        Ok(meta) if !meta.is_dir() => return remove_file_if_exists(path),
        Ok(_) => {}
    }
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    unlock_tree(path);
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Makes every directory below `path` writable and mutable, as far as this user may.
fn unlock_tree(path: &Path) {
    if let Ok(dir) = File::open(path)
        && let Ok(flags) = rustix::fs::ioctl_getflags(&dir)
        && flags.contains(rustix::fs::IFlags::IMMUTABLE)
    {
        // Refused for a plain user, for whom the flag could not have been set either.
        let _: std::result::Result<(), rustix::io::Errno> =
            rustix::fs::ioctl_setflags(&dir, flags - rustix::fs::IFlags::IMMUTABLE);
    }
    drop(fs::set_permissions(path, fs::Permissions::from_mode(0o700)));
    let Ok(entries) = fs::read_dir(path) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock_tree(&entry.path());
        }
    }
}

/// Flushes a directory's entries to disk.
pub fn sync_dir(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .with_context(|| format!("flushing directory {}", path.display()))
}

/// Flushes the files of a directory, and the directory, to disk.
pub fn sync_files(dir: &Path) -> Result<()> {
    for path in read_dir_sorted(dir)? {
        if path.is_file() {
            open(&path)?.sync_all().with_context(|| format!("flushing {}", path.display()))?;
        }
    }
    sync_dir(dir)
}

/// Flushes the whole file system that holds `path`: one call where thousands of files were written.
pub fn sync_file_system(path: &Path) -> Result<()> {
    let dir = open(path)?;
    rustix::fs::syncfs(&dir).with_context(|| format!("flushing the file system of {}", path.display()))
}

/// The entries of a directory, sorted by name, so that nothing depends on the directory's own order.
pub fn read_dir_sorted(path: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(path)
        .and_then(|entries| {
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()
        })
        .with_context(|| format!("listing {}", path.display()))?;
    paths.sort();
    Ok(paths)
}

/// The real place of `path` below `root`, its links resolved as they would be with `root` as `/`; what the
/// last component is, if anything, is left alone. Its directories must exist.
pub fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let path = path.strip_prefix("/").unwrap_or(path);
    let doing = || format!("opening the directory of /{} in {}", path.display(), root.display());
    let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let top = rustix::fs::open(root, directory, Mode::empty()).with_context(doing)?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let parent = rustix::fs::openat2(&top, parent, directory, Mode::empty(), resolve).with_context(doing)?;
    Ok(descriptor_path(&parent)?.join(path.file_name().unwrap_or_default()))
}

/// Writes a file below `root` by [`inside`]; a link that is there is replaced, not followed.
pub fn write_inside(root: &Path, path: &str, bytes: impl AsRef<[u8]>) -> Result<()> {
    let place = inside(root, Path::new(path))?;
    remove_file_if_exists(&place)?;
    write(&place, bytes)
}

/// Bytes that removing a tree would give back: what has another name elsewhere does not count.
pub fn space_of(path: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let meta = fs::symlink_metadata(path).with_context(|| format!("reading {}", path.display()))?;
    let mut bytes = if meta.is_dir() || meta.nlink() == 1 { meta.blocks() * 512 } else { 0 };
    if meta.is_dir() {
        for entry in read_dir_sorted(path)? {
            bytes += space_of(&entry)?;
        }
    }
    Ok(bytes)
}

/// Bytes that this user may still write to the file system of `path`.
pub fn free_space(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .with_context(|| format!("asking for the free space of {}", path.display()))?;
    Ok(stat.f_bavail * stat.f_frsize)
}

/// The path that an open descriptor stands for.
pub fn descriptor_path(descriptor: &impl std::os::fd::AsFd) -> Result<PathBuf> {
    use std::os::fd::AsRawFd as _;
    let link = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    fs::read_link(&link).with_context(|| format!("reading {link}"))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent_of(path).join(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atomic_write_replaces_and_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_atomic(&path, "one", 0o644).unwrap();
        write_atomic(&path, "two", 0o600).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn sparse_copy_keeps_data_and_length() {
        use std::os::unix::fs::{FileExt as _, MetadataExt as _};
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = File::create(&from).unwrap();
        file.set_len(64 << 20).unwrap();
        file.write_all_at(b"middle", 32 << 20).unwrap();
        copy_sparse(&from, &to).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() < 1024);
    }

    #[test]
    fn a_link_to_the_hosts_root_stays_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("var")).unwrap();
        fs::create_dir_all(root.join("run")).unwrap();
        std::os::unix::fs::symlink("/run", root.join("var/run")).unwrap();
        assert_eq!(inside(&root, Path::new("var/run/x")).unwrap(), root.join("run/x"));
        std::os::unix::fs::symlink("/etc/hostname", root.join("run/y")).unwrap();
        write_inside(&root, "var/run/y", "mine").unwrap();
        assert_eq!(fs::read_to_string(root.join("run/y")).unwrap(), "mine");
        assert!(inside(&root, Path::new("nowhere/x")).is_err());
    }

    #[test]
    fn a_shared_file_is_written_apart() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        fs::write(&one, "same").unwrap();
        fs::hard_link(&one, &other).unwrap();
        unshare_file(&one).unwrap();
        fs::write(&one, "changed").unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "same");
    }

    #[test]
    fn a_tree_without_write_permission_goes() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("c"), "").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
        remove_tree(&dir.path().join("a")).unwrap();
        assert!(!dir.path().join("a").exists());
    }
}
