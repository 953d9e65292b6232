//! Advisory file locks that the kernel releases when their holder dies, however it dies.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};

/// How often one looks again at a lock whose holder has not yet written who it is.
const LOOKS: u32 = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// An exclusive lock on a file, held until dropped.
#[derive(Debug)]
pub struct FileLock {
    _file: File,
}

/// Somebody else holds the lock.
#[derive(Debug, thiserror::Error)]
#[error("locked by {holder}")]
pub struct LockHeld {
    /// What the holder wrote about itself, e.g. `nosa build, process 4711`.
    pub holder: String,
}

impl FileLock {
    /// Takes the lock or returns [`LockHeld`] at once; `who` is what others will read about us.
    ///
    /// A holder that has the lock and has not yet written its name is waited for: it does so at once, or it has
    /// just released the lock.
    pub fn try_exclusive(path: &Path, who: &str) -> Result<std::result::Result<Self, LockHeld>> {
        for _ in 0..LOOKS {
            match Self::look(path, who)? {
                Err(held) if held.holder.is_empty() => std::thread::sleep(BETWEEN_LOOKS),
                other => return Ok(other),
            }
        }
        Ok(Err(LockHeld { holder: "a process that has not written its name".to_owned() }))
    }

    fn look(path: &Path, who: &str) -> Result<std::result::Result<Self, LockHeld>> {
        let mut file = Self::open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                Self::sign(&mut file, who).with_context(|| format!("writing {}", path.display()))?;
                Ok(Ok(Self { _file: file }))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).with_context(|| format!("reading {}", path.display()))?;
                Ok(Err(LockHeld { holder: holder.trim().to_owned() }))
            }
            Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
        }
    }

    /// Takes the lock, waiting for it.
    pub fn exclusive(path: &Path, who: &str) -> Result<Self> {
        let mut file = Self::open(path)?;
        flock(&file, FlockOperation::LockExclusive).with_context(|| format!("locking {}", path.display()))?;
        Self::sign(&mut file, who).with_context(|| format!("writing {}", path.display()))?;
        Ok(Self { _file: file })
    }

    fn open(path: &Path) -> Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("opening lock {}", path.display()))
    }

    fn sign(file: &mut File, who: &str) -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        write!(file, "{who}, process {}", std::process::id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_holder_learns_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::try_exclusive(&path, "nosa build").unwrap().unwrap();
        let held = FileLock::try_exclusive(&path, "other").unwrap().unwrap_err();
        assert!(held.holder.starts_with("nosa build, process "), "{}", held.holder);
        drop(first);
        assert!(FileLock::try_exclusive(&path, "other").unwrap().is_ok());
    }

    #[test]
    fn a_holder_without_a_name_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let unsigned = FileLock::open(&path).unwrap();
        flock(&unsigned, FlockOperation::NonBlockingLockExclusive).unwrap();
        let held = FileLock::try_exclusive(&path, "other").unwrap().unwrap_err();
        assert_eq!(held.holder, "a process that has not written its name");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(BETWEEN_LOOKS * 3);
                drop(unsigned);
            });
            assert!(FileLock::try_exclusive(&path, "other").unwrap().is_ok());
        });
    }
}
