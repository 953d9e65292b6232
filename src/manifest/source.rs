//! Where configuration files come from: the disk, or a table in memory for tests.

use std::io;
use std::path::{Component, Path, PathBuf};

/// A read-only file tree.
pub(super) trait Source {
    /// The text of a file.
    fn read(&self, path: &Path) -> io::Result<String>;
    /// The one path of a file, whatever links and `..` lead to it.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// The names in a directory, sorted; none if it does not exist.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether this is a directory.
    fn is_dir(&self, path: &Path) -> bool;
}

/// The disk.
#[derive(Debug)]
pub(super) struct Disk;

impl Source for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        match std::fs::read_dir(dir) {
            Ok(entries) => {
                for entry in entries {
                    names.push(entry?.file_name().to_string_lossy().into_owned());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        names.sort();
        Ok(names)
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// A path without `.` and `..`, by its text alone.
pub(super) fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if normal.file_name().is_some() => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
pub(super) mod memory {
    //! Files in a table.

    use super::*;
    use std::collections::BTreeMap;

    /// A file tree in memory, below `/c`.
    pub(in crate::manifest) struct Memory(pub(in crate::manifest) BTreeMap<PathBuf, String>);

    impl Memory {
        pub(in crate::manifest) fn new(files: &[(&str, &str)]) -> Self {
            Self(files.iter().map(|(name, text)| (Path::new("/c").join(name), (*text).to_owned())).collect())
        }
    }

    impl Source for Memory {
        fn read(&self, path: &Path) -> io::Result<String> {
            self.0.get(&normalize(path)).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
            let path = normalize(path);
            if self.0.contains_key(&path) { Ok(path) } else { Err(io::ErrorKind::NotFound.into()) }
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
            let dir = normalize(dir);
            let mut names: Vec<String> = self
                .0
                .keys()
                .filter_map(|path| path.strip_prefix(&dir).ok()?.components().next())
                .map(|name| name.as_os_str().to_string_lossy().into_owned())
                .collect();
            names.dedup();
            Ok(names)
        }

        fn is_dir(&self, path: &Path) -> bool {
            let path = normalize(path);
            self.0.keys().any(|file| file.starts_with(&path) && *file != path)
        }
    }
}
