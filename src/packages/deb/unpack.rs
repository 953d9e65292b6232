//! Unpacking data archives into one tree, several packages at a time.
//!
//! The result does not depend on the order in which threads get to run: a path that two packages ship goes
//! to the one that `Replaces` the other, and a directory's mode and owner come from the first package by
//! name. Paths are resolved inside the tree (openat2 with RESOLVE_IN_ROOT), so a link in one package
//! cannot lead another one out of it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};

/// Directories at the top that are links into /usr (the merged-/usr layout of Debian 12 and later).
const ALIASES: &[&str] = &["bin", "lib", "lib64", "sbin"];

/// How many directories are kept open: an ordinary user may have 1024 files open in all.
const OPEN_DIRECTORIES: usize = 256;

/// A tree that packages are unpacked into.
pub struct Tree {
    root: PathBuf,
    root_dir: OwnedFd,
    names: Vec<String>,
    replaces: Vec<Vec<String>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The package that each file is from, by path inside the tree.
    files: HashMap<PathBuf, usize>,
    /// Mode and owner of each directory, and the package that says so.
    dirs: BTreeMap<PathBuf, (usize, Ownership)>,
    /// Opened parents by the path that packages call them.
    parents: HashMap<PathBuf, Arc<Parent>>,
}

struct Parent {
    dir: OwnedFd,
    path: PathBuf,
}

#[derive(Clone, Copy)]
struct Ownership {
    mode: u32,
    uid: u32,
    gid: u32,
}

/// What one package brought.
#[derive(Debug, Clone, Default)]
pub struct Unpacked {
    /// Its paths in the order of its archive, absolute, `/.` first: dpkg's list file.
    pub paths: Vec<String>,
    /// Bytes of file data.
    pub bytes: u64,
}

impl Tree {
    /// Prepares an empty directory; `names` and what each `replaces` stand for the packages, by index.
    pub fn new(root: &Path, names: Vec<String>, replaces: Vec<Vec<String>>) -> Result<Self> {
        for alias in ALIASES {
            crate::host::fs::create_dir_all(&root.join("usr").join(alias))?;
            std::os::unix::fs::symlink(Path::new("usr").join(alias), root.join(alias))
                .with_context(|| format!("linking {}", root.join(alias).display()))?;
        }
        let root_dir =
            rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .with_context(|| format!("opening {}", root.display()))?;
        let root = root.canonicalize().with_context(|| format!("opening {}", root.display()))?;
        Ok(Self { root, root_dir, names, replaces, state: Mutex::default() })
    }

    /// Unpacks the data archive of package `index`, without the paths that `skip` names.
    pub fn unpack(&self, index: usize, data: impl Read, skip: &dyn Fn(&str) -> bool) -> Result<Unpacked> {
        let mut archive = tar::Archive::new(data);
        let mut unpacked = Unpacked::default();
        for entry in archive.entries().context("reading the data archive")? {
            let mut entry = entry.context("reading the data archive")?;
            let path = inside(&entry.path().context("reading a path")?)?;
            let absolute = absolute(&path);
            if !skip(&absolute) {
                unpacked.bytes +=
                    self.place(index, &path, &mut entry).with_context(|| format!("unpacking {absolute}"))?;
            }
            unpacked.paths.push(absolute);
        }
        Ok(unpacked)
    }

    /// Gives all directories their modes and owners; call it once when every package is unpacked.
    pub fn finish(self) -> Result<()> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (path, (_, ownership)) in &state.dirs {
            let dir = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let result = rustix::fs::chownat(
                &self.root_dir,
                dir,
                Some(Uid::from_raw(ownership.uid)),
                Some(Gid::from_raw(ownership.gid)),
                AtFlags::empty(),
            )
            .and_then(|()| {
                rustix::fs::chmodat(
                    &self.root_dir,
                    dir,
                    Mode::from_raw_mode(ownership.mode),
                    AtFlags::empty(),
                )
            });
            result.with_context(|| format!("setting mode and owner of /{}", path.display()))?;
        }
        Ok(())
    }

    fn place(&self, index: usize, path: &Path, entry: &mut tar::Entry<impl Read>) -> Result<u64> {
        let header = entry.header();
        let ownership = Ownership {
            mode: header.mode().context("reading the mode")? & 0o7777,
            uid: u32::try_from(header.uid().context("reading the owner")?).context("reading the owner")?,
            gid: u32::try_from(header.gid().context("reading the group")?).context("reading the group")?,
        };
        let kind = header.entry_type();
        if kind.is_dir() {
            self.place_dir(index, path, ownership)?;
            return Ok(0);
        }
        let mtime = header.mtime().unwrap_or(0);
        let Some(name) = path.file_name() else { bail!("the tree's root is no directory in this package") };
        let parent = self.parent(path.parent().unwrap_or(Path::new("")))?;
        let target = parent.path.join(name);
        if kind.is_symlink() {
            let link = entry.link_name().context("reading a link")?.context("a link without target")?;
            if ALIASES.iter().any(|alias| target == Path::new(alias)) {
                return Ok(0);
            }
            let _guard = match self.claim(index, &target)? {
                Some(guard) => guard,
                None => return Ok(0),
            };
            rustix::fs::symlinkat(&*link, &parent.dir, name).context("making a link")?;
            let (uid, gid) = (Uid::from_raw(ownership.uid), Gid::from_raw(ownership.gid));
            rustix::fs::chownat(&parent.dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .context("setting a link's owner")?;
            return Ok(0);
        }
        if kind.is_hard_link() {
            let link =
                inside(&entry.link_name().context("reading a link")?.context("a link without target")?)?;
            let from = self.parent(link.parent().unwrap_or(Path::new("")))?;
            let from_name = link.file_name().context("a hard link to the tree's root")?;
            let Some(_guard) = self.claim(index, &target)? else { return Ok(0) };
            rustix::fs::linkat(&from.dir, from_name, &parent.dir, name, AtFlags::empty())
                .with_context(|| format!("linking to /{}", link.display()))?;
            return Ok(0);
        }
        if !kind.is_file() && !kind.is_contiguous() {
            bail!(
                "entry type {kind:?} is not allowed in a package (device nodes and pipes are made at boot)"
            );
        }
        let Some(guard) = self.claim(index, &target)? else { return Ok(0) };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent.dir, name, flags, Mode::from_raw_mode(0o600))
            .context("creating the file")?;
        drop(guard);
        write_file(file.into(), entry, ownership, mtime)
    }

    fn place_dir(&self, index: usize, path: &Path, ownership: Ownership) -> Result<()> {
        let canonical =
            if path.as_os_str().is_empty() { PathBuf::new() } else { self.parent(path)?.path.clone() };
        let mut state = self.state();
        let known = state.dirs.entry(canonical).or_insert((index, ownership));
        if index < known.0 {
            *known = (index, ownership);
        }
        Ok(())
    }

    /// Opens a directory of the tree, making it if need be, and tells its path with links resolved.
    fn parent(&self, path: &Path) -> Result<Arc<Parent>> {
        if let Some(parent) = self.state().parents.get(path) {
            return Ok(Arc::clone(parent));
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let open = || rustix::fs::openat2(&self.root_dir, here, flags, Mode::empty(), resolve);
        let dir = match open() {
            Err(rustix::io::Errno::NOENT) => {
                let above = self.parent(path.parent().context("the tree's root is gone")?)?;
                let name = path.file_name().context("a directory without a name")?;
                match rustix::fs::mkdirat(&above.dir, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => open(),
                    Err(error) => Err(error),
                }
            }
            other => other,
        }
        .with_context(|| format!("opening directory /{}", path.display()))?;
        let real = crate::host::fs::descriptor_path(&dir)?;
        let path_inside = real.strip_prefix(&self.root).unwrap_or(Path::new("")).to_owned();
        let parent = Arc::new(Parent { dir, path: path_inside });
        let mut state = self.state();
        if state.parents.len() >= OPEN_DIRECTORIES {
            state.parents.clear();
        }
        state.parents.insert(path.to_owned(), Arc::clone(&parent));
        drop(state);
        Ok(parent)
    }

    /// Decides whether package `index` may put a file at `path`; the guard keeps others from deciding
    /// until the file is there. A loser's file is removed.
    fn claim(&self, index: usize, path: &Path) -> Result<Option<MutexGuard<'_, State>>> {
        let mut state = self.state();
        if let Some(&holder) = state.files.get(path) {
            if holder == index || self.replaces(holder, index) {
                return Ok(None);
            }
            if !self.replaces(index, holder) {
                bail!("package {} ships it too, and neither replaces the other", self.names[holder]);
            }
            rustix::fs::unlinkat(&self.root_dir, path, AtFlags::empty()).context("replacing a file")?;
        }
        state.files.insert(path.to_owned(), index);
        Ok(Some(state))
    }

    fn replaces(&self, winner: usize, loser: usize) -> bool {
        self.replaces[winner].contains(&self.names[loser])
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_file(mut file: File, data: &mut impl Read, ownership: Ownership, mtime: u64) -> Result<u64> {
    let bytes = std::io::copy(data, &mut file).context("writing the file")?;
    file.flush().context("writing the file")?;
    // Owner before mode: changing the owner clears set-user-id bits.
    rustix::fs::fchown(&file, Some(Uid::from_raw(ownership.uid)), Some(Gid::from_raw(ownership.gid)))
        .context("setting the owner")?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(ownership.mode)).context("setting the mode")?;
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })
        .context("setting the time")?;
    Ok(bytes)
}

/// A package's path relative to the tree; `..` is refused.
fn inside(path: &Path) -> Result<PathBuf> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => bail!("{} leads out of the tree", path.display()),
        }
    }
    Ok(clean)
}

/// dpkg's spelling of a path: `/.` for the root, no trailing slash.
fn absolute(path: &Path) -> String {
    if path.as_os_str().is_empty() {
        return "/.".to_owned();
    }
    let mut text = OsString::from("/");
    text.push(path);
    String::from_utf8_lossy(text.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, kind, content) in entries {
            let mut header = tar::Header::new_ustar();
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
            header.set_uid(rustix::process::geteuid().as_raw().into());
            header.set_gid(rustix::process::getegid().as_raw().into());
            header.set_mtime(0);
            let is_link = kind.is_symlink() || kind.is_hard_link();
            if is_link {
                header.set_link_name_literal(content).unwrap();
            }
            header.set_size(if is_link { 0 } else { content.len() as u64 });
            header.set_cksum();
            builder.append(&header, if is_link { &b""[..] } else { content.as_bytes() }).unwrap();
        }
        builder.into_inner().unwrap()
    }

    type Entries<'a> = &'a [(&'a str, tar::EntryType, &'a str)];

    fn unpack(root: &Path, packages: &[(&str, &[&str], Entries<'_>)]) -> Result<()> {
        let names = packages.iter().map(|package| package.0.to_owned()).collect();
        let replaces = packages.iter().map(|p| p.1.iter().map(|name| (*name).to_owned()).collect()).collect();
        let tree = Tree::new(root, names, replaces)?;
        for (index, package) in packages.iter().enumerate() {
            tree.unpack(index, archive(package.2).as_slice(), &|path| path == "/usr/share/skipped")?;
        }
        tree.finish()
    }

    use tar::EntryType::{Directory, Link, Regular, Symlink};

    #[test]
    fn files_links_and_the_merged_usr() {
        let dir = tempfile::tempdir().unwrap();
        let entries: &[_] = &[
            ("./", Directory, ""),
            ("./bin/", Directory, ""),
            ("./bin/sh", Regular, "shell"),
            ("./bin/bash", Link, "./bin/sh"),
            ("./usr/share/skipped", Regular, "x"),
            ("./usr/share/link", Symlink, "/etc/x"),
        ];
        unpack(dir.path(), &[("dash", &[], entries)]).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("usr/bin/bash")).unwrap(), "shell");
        assert_eq!(std::fs::read_link(dir.path().join("bin")).unwrap(), Path::new("usr/bin"));
        assert!(!dir.path().join("usr/share/skipped").exists());
    }

    #[test]
    fn a_shared_path_goes_to_the_package_that_replaces() {
        for order in [[0, 1], [1, 0]] {
            let dir = tempfile::tempdir().unwrap();
            let old: (&str, &[&str], &[_]) = ("old", &[], &[("./usr/f", Regular, "old")]);
            let new: (&str, &[&str], &[_]) = ("new", &["old"], &[("./usr/f", Regular, "new")]);
            let packages = [old, new];
            unpack(dir.path(), &order.map(|index| packages[index])).unwrap();
            assert_eq!(std::fs::read_to_string(dir.path().join("usr/f")).unwrap(), "new");
        }
    }

    #[test]
    fn a_path_that_two_packages_fight_over_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let one: &[_] = &[("./usr/f", Regular, "1")];
        let error = unpack(dir.path(), &[("a", &[], one), ("b", &[], one)]).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "unpacking /usr/f: package a ships it too, and neither replaces the other"
        );
    }

    #[test]
    fn thousands_of_directories_need_few_open_files() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<String> = (0..2000).map(|number| format!("./usr/d{number}/f")).collect();
        let entries: Vec<_> = paths.iter().map(|path| (path.as_str(), Regular, "x")).collect();
        let before = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let tree = Tree::new(dir.path(), vec!["many".into()], vec![Vec::new()]).unwrap();
        tree.unpack(0, archive(&entries).as_slice(), &|_| false).unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count() - before;
        assert!(open < 400, "{open} files are open");
    }

    #[test]
    fn nothing_leaves_the_tree() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("tree");
        std::fs::create_dir(&root).unwrap();
        let entries: &[_] = &[("./../escaped", Regular, "x")];
        assert!(unpack(&root, &[("evil", &[], entries)]).is_err());
        let root = dir.path().join("tree2");
        std::fs::create_dir(&root).unwrap();
        let through = format!("{}/", dir.path().display());
        let entries: &[_] = &[("./out", Symlink, through.as_str()), ("./out/escaped", Regular, "x")];
        drop(unpack(&root, &[("evil", &[], entries)]));
        assert!(!dir.path().join("escaped").exists());
    }
}
