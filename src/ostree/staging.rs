//! Writing objects: each into a file of its own below `tmp/`, skipped when the repository has it. All are
//! flushed by one call and only then renamed, so that what lies below `objects/` is whole even after the
//! power failed: a later commit would take an empty file there for the object and skip it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context as _, Result, bail, ensure};
use rayon::prelude::*;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, RenameFlags, XattrFlags};
use rustix::io::Errno;
use sha2::Digest as _;

use super::checksum::{Checksum, ObjectKind};
use super::objects::{Attributes, FileHeader};
use super::repo::{OSTREEMETA, Repo};
use crate::host::fs;

/// Files up to this size are read once and held; larger ones are hashed first and copied only if new.
const HELD: u64 = 256 << 10;

/// Counts of what a commit is made of and of what was new in the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Stats {
    /// Directories twice (entries and attributes), and the commit.
    pub n_metadata_total: u64,
    /// Those of them that were new.
    pub n_metadata_written: u64,
    /// Files and symbolic links.
    pub n_content_total: u64,
    /// Those of them that were new.
    pub n_content_written: u64,
    /// The bytes of the new regular files.
    pub content_bytes_written: u64,
}

/// Objects on their way into a repository.
pub(super) struct Staging {
    objects: OwnedFd,
    dir: tempfile::TempDir,
    tmp: OwnedFd,
    next: AtomicU64,
    /// Where the objects written so far belong, by the names they have meanwhile.
    places: Mutex<HashMap<String, u64>>,
    stats: [AtomicU64; 5],
}

impl Staging {
    pub(super) fn new(repo: &Repo) -> Result<Self> {
        let tmp = repo.path().join("tmp");
        sweep(&tmp)?;
        for first in 0..=0xff_u8 {
            match std::fs::create_dir(repo.path().join(format!("objects/{first:02x}"))) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(error).context("creating the directories of objects");
                }
                _ => {}
            }
        }
        let dir = tempfile::Builder::new()
            .prefix(&format!("nosa-{}-", std::process::id()))
            .tempdir_in(&tmp)
            .with_context(|| format!("creating a directory in {}", tmp.display()))?;
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .with_context(|| format!("opening {}", path.display()))
        };
        let objects = open(&repo.path().join("objects"))?;
        let tmp = open(dir.path())?;
        rustix::fs::flock(&tmp, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("locking {}", dir.path().display()))?;
        Ok(Self {
            objects,
            dir,
            tmp,
            next: AtomicU64::new(0),
            places: Mutex::default(),
            stats: Default::default(),
        })
    }

    /// Writes a commit, dirtree or dirmeta.
    pub(super) fn metadata(&self, kind: ObjectKind, bytes: &[u8]) -> Result<Checksum> {
        let checksum = Checksum::of(bytes);
        self.add(0, 1);
        let place = checksum.object_path(kind);
        if let Some(name) = self.claim(&place)? {
            self.write(name, &place, 0o644, None, |file| file.write_all(bytes))?;
            self.add(1, 1);
        }
        Ok(checksum)
    }

    /// Writes a regular file of `size` bytes.
    pub(super) fn regular(&self, source: &mut File, size: u64, attributes: &Attributes) -> Result<Checksum> {
        let mut hash = FileHeader { attributes, target: "" }.start_hash();
        let mut buffer = Vec::new();
        let count = if size <= HELD {
            buffer.reserve_exact(size as usize + 1);
            let count = source.read_to_end(&mut buffer).context("reading it")? as u64;
            hash.update(&buffer);
            count
        } else {
            hash_stream(source, &mut hash).context("reading it")?
        };
        ensure!(count == size, "it changed while it was read: {size} bytes before, {count} now");
        let checksum = Checksum::from_bytes(hash.finalize().into());
        self.add(2, 1);
        let place = checksum.object_path(ObjectKind::File);
        let Some(name) = self.claim(&place)? else { return Ok(checksum) };
        // What libostree gives: readable by its owner, and neither setuid, sticky nor open to all.
        let mode = attributes.mode & 0o775 | 0o400;
        self.write(name, &place, mode, Some(attributes), |file| {
            if size <= HELD {
                return file.write_all(&buffer);
            }
            source.rewind()?;
            match io::copy(source, file)? {
                copied if copied == size => Ok(()),
                _ => Err(io::Error::other("the file changed while it was read")),
            }
        })?;
        self.add(3, 1);
        self.add(4, size);
        Ok(checksum)
    }

    /// Writes a regular file whose `size` bytes can be read only once: what is large is written while it is
    /// hashed, and dropped again when the repository has it.
    pub(super) fn stream(
        &self,
        source: &mut dyn Read,
        size: u64,
        attributes: &Attributes,
    ) -> Result<Checksum> {
        let mut hash = FileHeader { attributes, target: "" }.start_hash();
        self.add(2, 1);
        let mode = attributes.mode & 0o775 | 0o400;
        if size <= HELD {
            let mut bytes = Vec::with_capacity(size as usize);
            let count = source.take(size).read_to_end(&mut bytes).context("reading it")? as u64;
            ensure!(count == size, "it ends after {count} of {size} bytes");
            hash.update(&bytes);
            let checksum = Checksum::from_bytes(hash.finalize().into());
            let place = checksum.object_path(ObjectKind::File);
            if let Some(name) = self.claim(&place)? {
                self.write(name, &place, mode, Some(attributes), |file| file.write_all(&bytes))?;
                self.add(3, 1);
                self.add(4, size);
            }
            return Ok(checksum);
        }
        let name = self.next.fetch_add(1, Ordering::Relaxed);
        let mut short = None;
        self.write(name, "of a stream", mode, Some(attributes), |file| {
            let copied = copy_hashed(source.take(size), &mut hash, file)?;
            short = (copied != size).then_some(copied);
            Ok(())
        })?;
        if let Some(count) = short {
            bail!("it ends after {count} of {size} bytes");
        }
        let checksum = Checksum::from_bytes(hash.finalize().into());
        let place = checksum.object_path(ObjectKind::File);
        let known = self.has(&place) || self.places()?.contains_key(&place);
        if known {
            fs::remove_file_if_exists(&self.dir.path().join(name.to_string()))?;
        } else {
            self.places()?.insert(place, name);
            self.add(3, 1);
            self.add(4, size);
        }
        Ok(checksum)
    }

    /// Where the bytes of a file are that was written here and not yet moved.
    pub(super) fn pending(&self, checksum: Checksum) -> Result<Option<PathBuf>> {
        let name = self.places()?.get(&checksum.object_path(ObjectKind::File)).copied();
        Ok(name.map(|name| self.dir.path().join(name.to_string())))
    }

    /// Forgets the files among what was written that are not wanted.
    pub(super) fn retain(&self, wanted: &HashSet<Checksum>) -> Result<()> {
        let wanted: HashSet<String> =
            wanted.iter().map(|checksum| checksum.object_path(ObjectKind::File)).collect();
        let is_file = |place: &str| place.ends_with(&format!(".{}", ObjectKind::File.suffix()));
        self.places()?.retain(|place, _| !is_file(place) || wanted.contains(place));
        Ok(())
    }

    /// Writes a symbolic link.
    pub(super) fn symlink(&self, target: &str, attributes: &Attributes) -> Result<Checksum> {
        let hash = FileHeader { attributes, target }.start_hash();
        let checksum = Checksum::from_bytes(hash.finalize().into());
        self.add(2, 1);
        let place = checksum.object_path(ObjectKind::File);
        let bytes = format!("{target}\0");
        if let Some(name) = self.claim(&place)? {
            self.write(name, &place, 0o644, Some(attributes), |file| file.write_all(bytes.as_bytes()))?;
            self.add(3, 1);
        }
        Ok(checksum)
    }

    /// Flushes everything written and moves it to its place.
    pub(super) fn publish(&self) -> Result<()> {
        fs::sync_file_system(self.dir.path())?;
        let places = std::mem::take(&mut *self.places()?);
        places.par_iter().try_for_each(|(place, name)| {
            self.rename(&name.to_string(), place).with_context(|| format!("moving object {place} into place"))
        })
    }

    /// What was written so far.
    pub(super) fn stats(&self) -> Stats {
        let count = |at: usize| self.stats[at].load(Ordering::Relaxed);
        Stats {
            n_metadata_total: count(0),
            n_metadata_written: count(1),
            n_content_total: count(2),
            n_content_written: count(3),
            content_bytes_written: count(4),
        }
    }

    fn add(&self, at: usize, count: u64) {
        self.stats[at].fetch_add(count, Ordering::Relaxed);
    }

    fn has(&self, place: &str) -> bool {
        rustix::fs::statat(&self.objects, place, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    /// A name to write an object under, `None` when the repository has it or somebody writes it already.
    fn claim(&self, place: &str) -> Result<Option<u64>> {
        if self.has(place) {
            return Ok(None);
        }
        Ok(match self.places()?.entry(place.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => Some(*entry.insert(self.next.fetch_add(1, Ordering::Relaxed))),
        })
    }

    fn places(&self) -> Result<MutexGuard<'_, HashMap<String, u64>>> {
        self.places.lock().ok().context("writing objects after another thread failed")
    }

    fn write(
        &self,
        name: u64,
        place: &str,
        mode: u32,
        attributes: Option<&Attributes>,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<()> {
        let path = self.dir.path().join(name.to_string());
        let make = || -> Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
            fill(&mut file)?;
            if let Some(attributes) = attributes {
                let meta = attributes.encode();
                rustix::fs::fsetxattr(&file, OSTREEMETA, &meta, XattrFlags::CREATE)
                    .with_context(|| format!("setting {OSTREEMETA} of {} bytes", meta.len()))?;
            }
            file.set_permissions(Permissions::from_mode(mode))?;
            Ok(())
        };
        make().with_context(|| format!("writing object {place} in {}", self.dir.path().display()))
    }

    /// Moves an object to its place, unless another process was first.
    fn rename(&self, name: &str, place: &str) -> rustix::io::Result<()> {
        let moved = rustix::fs::renameat_with(&self.tmp, name, &self.objects, place, RenameFlags::NOREPLACE);
        match moved {
            Err(Errno::EXIST) => Ok(()),
            // Some file systems cannot refuse to replace; one whole object for its twin does no harm.
            Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::renameat(&self.tmp, name, &self.objects, place),
            other => other,
        }
    }
}

/// Copies a stream, hashing it on the way, and returns how long it was.
fn copy_hashed(mut source: impl Read, hash: &mut sha2::Sha256, out: &mut impl Write) -> io::Result<u64> {
    let mut buffer = vec![0; HELD as usize];
    let mut total = 0;
    loop {
        match source.read(&mut buffer) {
            Ok(0) => return Ok(total),
            Ok(count) => {
                hash.update(&buffer[..count]);
                out.write_all(&buffer[..count])?;
                total += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hashes the rest of a stream and returns how long it was.
fn hash_stream(source: &mut impl Read, hash: &mut sha2::Sha256) -> io::Result<u64> {
    copy_hashed(source, hash, &mut io::sink())
}

/// Removes what processes that no longer live left in `tmp/`. The lock speaks for a process of another
/// container, whose number means nothing here.
fn sweep(tmp: &Path) -> Result<()> {
    for path in fs::read_dir_sorted(tmp)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pid = name.strip_prefix("nosa-").and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let dir = fs::open(&path)?;
            if rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).is_ok() {
                fs::remove_tree(&path)?;
            }
        }
    }
    Ok(())
}
