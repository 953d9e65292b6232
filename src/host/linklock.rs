//! Locks as the Python library flufl.lock has them, for files that its users share: the lock is a hard link
//! `FILE` to a claim `FILE|HOST|PID|NUMBER` that holds its own name; its modification time says until when
//! it holds. The kernel does not release it when its holder dies, so it is taken for moments only, within a
//! [`super::FileLock`].

use std::fs::{self, File, FileTimes};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::clock;
use super::fs::{read_optional, remove_file_if_exists};
use super::lock::LockHeld;

/// How long a lock of ours holds if we die: long enough for writing one file.
const LIFETIME: Duration = Duration::from_secs(30);
/// What flufl.lock grants to clocks that differ.
const SLOP: Duration = Duration::from_secs(10);
/// How often a lock that is held is looked at.
const TICK: Duration = Duration::from_millis(50);

/// A lock, held until dropped.
#[derive(Debug)]
pub struct LinkLock {
    lock: PathBuf,
    claim: PathBuf,
}

impl LinkLock {
    /// Takes the lock at `lock`, waiting at most `patience` for a holder that lives.
    pub fn exclusive(lock: &Path, patience: Duration) -> Result<std::result::Result<Self, LockHeld>> {
        remove_dead_claims(lock);
        let this = Self::claim(lock).with_context(|| format!("claiming the lock {}", lock.display()))?;
        let mut waited = Duration::ZERO;
        loop {
            match fs::hard_link(&this.claim, &this.lock) {
                Ok(()) => return Ok(Ok(this)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("taking the lock {}", lock.display()));
                }
            }
            let holder = read_optional(&this.lock)?.unwrap_or_default();
            if is_over(&this.lock, &holder)? {
                remove_file_if_exists(&this.lock)?;
                if holder.starts_with(&*this.lock.to_string_lossy()) {
                    remove_file_if_exists(Path::new(&holder))?;
                }
            } else if waited >= patience {
                return Ok(Err(LockHeld { holder: describe(&holder) }));
            } else {
                std::thread::sleep(TICK);
                waited += TICK;
            }
        }
    }

    fn claim(lock: &Path) -> std::io::Result<Self> {
        let pid = std::process::id();
        let unique = clock::now_nanos() as u64;
        let claim = PathBuf::from(format!("{}|{}|{pid}|{unique}", lock.display(), host_name()));
        let mut file = File::create(&claim)?;
        file.write_all(claim.to_string_lossy().as_bytes())?;
        let until = UNIX_EPOCH + Duration::from_secs(clock::now()) + LIFETIME;
        file.set_times(FileTimes::new().set_accessed(until).set_modified(until))?;
        Ok(Self { lock: lock.to_owned(), claim })
    }
}

impl Drop for LinkLock {
    fn drop(&mut self) {
        // What stays is over after its lifetime, or as soon as somebody sees that we are dead.
        let own = fs::read_to_string(&self.lock).is_ok_and(|holder| Path::new(&holder) == self.claim);
        if own {
            drop(fs::remove_file(&self.lock));
        }
        drop(fs::remove_file(&self.claim));
    }
}

/// Removes claims whose process died before it had the lock, or just after it gave it back.
fn remove_dead_claims(lock: &Path) {
    let (Some(dir), Some(name)) = (lock.parent(), lock.file_name()) else { return };
    let prefix = format!("{}|", name.to_string_lossy());
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let claim = entry.file_name().to_string_lossy().into_owned();
        // If it cannot be removed, it is but a file too many.
        if claim.starts_with(&prefix) && is_dead(&claim) {
            drop(fs::remove_file(entry.path()));
        }
    }
}

/// Whether a claim is of this host, and of a process that no longer lives.
fn is_dead(claim: &str) -> bool {
    parts(claim).is_some_and(|(host, pid)| host == host_name() && !Path::new("/proc").join(pid).exists())
}

/// Whether a lock has outlived its time or its holder, as far as can be seen from here.
fn is_over(lock: &Path, holder: &str) -> Result<bool> {
    let meta = match fs::metadata(lock) {
        Ok(meta) => meta,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error).with_context(|| format!("reading {}", lock.display())),
    };
    let until = meta.modified().with_context(|| format!("reading {}", lock.display()))?;
    if UNIX_EPOCH + Duration::from_secs(clock::now()) > until + SLOP {
        return Ok(true);
    }
    Ok(is_dead(holder))
}

/// Host and process of a claim's name.
fn parts(claim: &str) -> Option<(&str, &str)> {
    let mut parts = claim.rsplit('|');
    let (_number, pid, host) = (parts.next()?, parts.next()?, parts.next()?);
    parts.next().map(|_| (host, pid))
}

fn describe(claim: &str) -> String {
    match parts(claim) {
        Some((host, pid)) => format!("process {pid} on {host}"),
        None => "another program".to_owned(),
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_living_holder_is_waited_for_and_a_dead_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".builds.json.lock");
        let first = LinkLock::exclusive(&path, Duration::ZERO).unwrap().unwrap();
        let held = LinkLock::exclusive(&path, Duration::from_millis(120)).unwrap().unwrap_err();
        assert_eq!(held.holder, format!("process {} on {}", std::process::id(), host_name()));
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing stays");

        // No process has an id beyond the kernel's largest.
        let dead = format!("{}|{}|99999999|1", path.display(), host_name());
        fs::write(&dead, &dead).unwrap();
        let later = UNIX_EPOCH + Duration::from_secs(clock::now() + 3_600);
        File::open(&dead).unwrap().set_times(FileTimes::new().set_modified(later)).unwrap();
        fs::hard_link(&dead, &path).unwrap();
        fs::write(format!("{}|{}|99999998|1", path.display(), host_name()), "").unwrap();
        drop(LinkLock::exclusive(&path, Duration::ZERO).unwrap().unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "dead claims went too");
    }

    #[test]
    fn another_hosts_lock_holds_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let claim = format!("{}|elsewhere|1|1", path.display());
        fs::write(&path, &claim).unwrap();
        let set = |time| File::open(&path).unwrap().set_times(FileTimes::new().set_modified(time)).unwrap();
        set(UNIX_EPOCH + Duration::from_secs(clock::now() + 60));
        let held = LinkLock::exclusive(&path, Duration::ZERO).unwrap().unwrap_err();
        assert_eq!(held.holder, "process 1 on elsewhere");
        set(UNIX_EPOCH + Duration::from_secs(clock::now() - 60));
        assert!(LinkLock::exclusive(&path, Duration::ZERO).unwrap().is_ok());
    }
}
