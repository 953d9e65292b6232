//! `overlay.d/NAME`: files laid over the packages', as coreos-assembler's overlays are (contracts: owner
//! 0:0, no extended attributes, modes 0755 or 0644 as git knows them, `statoverride` for the rest).

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::{Digest, KeyHasher, sha256_file};

/// One overlay directory, read.
#[derive(Debug, Clone)]
pub struct Overlay {
    /// How messages name it: `overlay.d/05core`.
    pub name: String,
    dir: PathBuf,
    entries: BTreeMap<PathBuf, Entry>,
    replaces: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Dir { mode: u32 },
    File { mode: u32, digest: Digest },
    Link { target: PathBuf },
}

impl Overlay {
    /// Reads the overlay that `ostree-layers` calls `overlay/NAME` below the configuration directory.
    pub fn read(config: &Path, name: &str) -> Result<Self> {
        let dir = config.join("overlay.d").join(name);
        Self::of(dir, format!("overlay.d/{name}"), false)
    }

    /// Reads a developer's own files, which replace what is there.
    pub fn of_overrides(dir: &Path) -> Result<Self> {
        Self::of(dir.to_owned(), "overrides/rootfs".to_owned(), true)
    }

    fn of(dir: PathBuf, name: String, replaces: bool) -> Result<Self> {
        let mut overlay = Self { name, dir, entries: BTreeMap::new(), replaces };
        overlay.walk(Path::new(""))?;
        overlay.statoverride()?;
        Ok(overlay)
    }

    /// How many files and links there are.
    #[must_use]
    pub fn files(&self) -> usize {
        self.entries.values().filter(|entry| !matches!(entry, Entry::Dir { .. })).count()
    }

    /// The paths of its files and links.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = self.entries.iter().filter(|(_, entry)| !matches!(entry, Entry::Dir { .. }));
        files.map(|(path, _)| path.as_path())
    }

    fn walk(&mut self, below: &Path) -> Result<()> {
        for path in fs::read_dir_sorted(&self.dir.join(below))? {
            let inside = below.join(path.file_name().unwrap_or_default());
            if inside == Path::new("statoverride") {
                continue;
            }
            let meta =
                std::fs::symlink_metadata(&path).with_context(|| format!("reading {}", path.display()))?;
            let kind = meta.file_type();
            let entry = if kind.is_dir() {
                Entry::Dir { mode: 0o755 }
            } else if kind.is_symlink() {
                let target =
                    std::fs::read_link(&path).with_context(|| format!("reading {}", path.display()))?;
                Entry::Link { target }
            } else if kind.is_file() {
                Entry::File {
                    mode: if meta.mode() & 0o111 == 0 { 0o644 } else { 0o755 },
                    digest: sha256_file(&path)?,
                }
            } else {
                return Err(Failure::new(
                    Kind::Config,
                    format!("{}: neither file, directory nor link", path.display()),
                    "remove it: device nodes, pipes and sockets are made at boot (tmpfiles.d)",
                )
                .into());
            };
            let is_dir = kind.is_dir();
            self.entries.insert(inside.clone(), entry);
            if is_dir {
                self.walk(&inside)?;
            }
        }
        Ok(())
    }

    /// Applies `statoverride`: lines `=MODE /path`, the mode in decimal.
    fn statoverride(&mut self) -> Result<()> {
        let file = self.dir.join("statoverride");
        let Some(text) = fs::read_optional(&file)? else { return Ok(()) };
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |cause: String, cure: &str| {
                Failure::new(
                    Kind::Config,
                    format!("{}/statoverride:{}: {cause}", self.name, number + 1),
                    cure,
                )
            };
            let form = "write `=MODE /path` with the mode in decimal: `=384 /etc/secret` for 0600";
            let Some((mode, path)) = line.split_once(char::is_whitespace) else {
                return Err(wrong(format!("{line:?} has no path"), form).into());
            };
            let mode = mode
                .strip_prefix('=')
                .and_then(|mode| mode.parse::<u32>().ok())
                .filter(|mode| *mode <= 0o7777);
            let Some(mode) = mode else {
                return Err(wrong(format!("{line:?} has no mode between =0 and =4095"), form).into());
            };
            match self.entries.get_mut(Path::new(path.trim().trim_start_matches('/'))) {
                Some(Entry::Dir { mode: old } | Entry::File { mode: old, .. }) => *old = mode,
                _ => {
                    let cause = format!("{} is no file or directory of this overlay", path.trim());
                    return Err(wrong(cause, "correct the path, or add the file to the overlay").into());
                }
            }
        }
        Ok(())
    }

    /// Adds every file to a key, by name.
    pub fn key(&self, hash: &mut KeyHasher) {
        for (path, entry) in &self.entries {
            let name = format!("{}/{}", self.name, path.display());
            match entry {
                Entry::Dir { mode: 0o755 } => {}
                Entry::Dir { mode } => hash.input(name, format_args!("directory {mode:o}")),
                Entry::Link { target } => hash.input(name, format_args!("link {}", target.display())),
                Entry::File { mode, digest } => hash.file(name, *mode, *digest),
            }
        }
    }

    /// Lays the overlay over a tree. A file that is there already must be the same one.
    pub fn lay(&self, tree: &Path, owners: &BTreeMap<String, String>) -> Result<()> {
        for (path, entry) in &self.entries {
            self.place(tree, path, entry, owners)
                .with_context(|| format!("laying {}/{}", self.name, path.display()))?;
        }
        Ok(())
    }

    fn place(
        &self,
        tree: &Path,
        path: &Path,
        entry: &Entry,
        owners: &BTreeMap<String, String>,
    ) -> Result<()> {
        let target = fs::inside(tree, path)?;
        let there = std::fs::symlink_metadata(&target).ok();
        match (entry, &there) {
            // A link to a directory (as /bin is one) stands for it.
            (Entry::Dir { .. }, Some(meta)) if meta.is_dir() || leads_to_directory(tree, path) => {
                return Ok(());
            }
            (Entry::Dir { .. } | Entry::File { .. } | Entry::Link { .. }, None) => {}
            (_, Some(_)) if same(entry, &target)? => return Ok(()),
            (Entry::File { .. } | Entry::Link { .. }, Some(meta)) if self.replaces && !meta.is_dir() => {
                fs::remove_file_if_exists(&target)?;
            }
            (_, Some(_)) => return Err(self.conflict(path, owners).into()),
        }
        match entry {
            Entry::Dir { mode } => {
                fs::create_dir_all(&target)?;
                set_mode(&target, *mode)?;
            }
            Entry::Link { target: to } => {
                std::os::unix::fs::symlink(to, &target)
                    .with_context(|| format!("linking {}", target.display()))?;
            }
            Entry::File { mode, digest } => {
                std::fs::copy(self.dir.join(path), &target)
                    .with_context(|| format!("writing {}", target.display()))?;
                set_mode(&target, *mode)?;
                if sha256_file(&target)? != *digest {
                    let cause = format!("{}/{}: changed while it was read", self.name, path.display());
                    return Err(Failure::new(Kind::Build, cause, "run it again").into());
                }
            }
        }
        Ok(())
    }

    fn conflict(&self, path: &Path, owners: &BTreeMap<String, String>) -> Failure {
        let absolute = format!("/{}", path.display());
        let whose = match owners.get(&absolute) {
            Some(package) => format!("package {package}'s file"),
            None => "a file that a package's script or another overlay made".to_owned(),
        };
        Failure::new(
            Kind::Config,
            format!("{}{absolute}: differs from {whose}", self.name),
            "use a drop-in directory, leave the package's file out with remove-from-packages, or change it in postprocess",
        )
    }
}

/// Whether a path is a directory of the tree by way of links.
fn leads_to_directory(tree: &Path, path: &Path) -> bool {
    fs::inside(tree, &path.join(".")).is_ok_and(|place| place.is_dir())
}

/// Whether what is at `target` is what the entry would put there.
fn same(entry: &Entry, target: &Path) -> Result<bool> {
    Ok(match entry {
        Entry::Dir { .. } => false,
        Entry::Link { target: to } => std::fs::read_link(target).is_ok_and(|is| is == *to),
        Entry::File { mode, digest } => {
            let meta =
                std::fs::symlink_metadata(target).with_context(|| format!("reading {}", target.display()))?;
            meta.is_file() && meta.mode() & 0o7777 == *mode && sha256_file(target)? == *digest
        }
    })
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join("overlay.d/05core").join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn files_get_their_modes() {
        let config =
            config(&[("etc/secret", "s"), ("etc/a", "a"), ("statoverride", "# x\n=384 /etc/secret\n")]);
        let tree = tempfile::tempdir().unwrap();
        Overlay::read(config.path(), "05core").unwrap().lay(tree.path(), &BTreeMap::new()).unwrap();
        let mode = |path: &str| std::fs::metadata(tree.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!((mode("etc/secret"), mode("etc/a"), mode("etc")), (0o600, 0o644, 0o755));
        assert!(!tree.path().join("statoverride").exists());
    }

    #[test]
    fn a_file_that_fights_a_packages_file_is_named_with_the_package() {
        let config = config(&[("etc/a", "mine")]);
        let tree = tempfile::tempdir().unwrap();
        std::fs::create_dir(tree.path().join("etc")).unwrap();
        std::fs::write(tree.path().join("etc/a"), "theirs").unwrap();
        let owners = BTreeMap::from([("/etc/a".to_owned(), "base-files".to_owned())]);
        let overlay = Overlay::read(config.path(), "05core").unwrap();
        let error = overlay.lay(tree.path(), &owners).unwrap_err();
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(failure.cause, "overlay.d/05core/etc/a: differs from package base-files's file");
    }

    #[test]
    fn a_wrong_statoverride_names_its_line() {
        for (text, cause) in [
            ("=9999 /etc/a\n", "statoverride:1: \"=9999 /etc/a\" has no mode between =0 and =4095"),
            ("\n=384 /etc/b\n", "statoverride:2: /etc/b is no file or directory of this overlay"),
            ("=384\n", "statoverride:1: \"=384\" has no path"),
        ] {
            let config = config(&[("etc/a", "a"), ("statoverride", text)]);
            let error = Overlay::read(config.path(), "05core").unwrap_err();
            assert_eq!(error.to_string(), format!("overlay.d/05core/{cause}"));
        }
    }
}
