//! The working directory, laid out as coreos-assembler's.
//!
//! ```text
//! src/config/            the configuration (a directory, or a link to one)
//! src/config.json        which variant of it, if not the default
//! src/yumrepos/          further repository definitions (optional)
//! builds/                see `publish.rs`
//! cache/  tmp/
//! overrides/{rpm,deb,rootfs}/
//! ```

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::json;
use crate::failure::{Failure, Kind};
use crate::host::{FileLock, fs};

const VARIANT: &str = "coreos-assembler.config-variant";
const DIRECTORIES: &[&str] =
    &["builds", "cache", "overrides/deb", "overrides/rootfs", "overrides/rpm", "src", "tmp"];

/// A working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workdir {
    root: PathBuf,
}

/// The right to change a working directory; nobody else has it at the same time.
#[derive(Debug)]
pub struct BuildLock {
    _lock: FileLock,
}

/// A file of a configuration that is built into the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedFile<'f> {
    /// Its path below the configuration's directory.
    pub path: &'f str,
    /// Its mode; with the type bits of a symbolic link, `bytes` is where it points.
    pub mode: u32,
    /// Its content.
    pub bytes: &'f [u8],
}

/// Where `init` takes the configuration from.
pub enum ConfigSource<'s> {
    /// These files.
    Embedded(&'s [EmbeddedFile<'s>]),
    /// A directory, by a link to it.
    Link(&'s Path),
    /// Whatever this puts into the directory it is given, which does not exist yet: a clone.
    Make(&'s mut dyn FnMut(&Path) -> Result<()>),
}

impl Workdir {
    /// Opens the working directory at `root`.
    pub fn open(root: &Path) -> Result<Self> {
        let this = Self { root: root.to_owned() };
        if !this.builds_dir().is_dir() || !root.join("src").is_dir() {
            return Err(Failure::new(
                Kind::Usage,
                format!("{} is not a working directory of nosa", root.display()),
                "change to one, or make one with `nosa init` in an empty directory",
            )
            .into());
        }
        for directory in DIRECTORIES {
            fs::create_dir_all(&root.join(directory))?;
        }
        Ok(this)
    }

    /// Makes a working directory at `root`, which must be empty but for hidden files unless `force`.
    ///
    /// A configuration that is there already is kept.
    pub fn init(root: &Path, force: bool, variant: Option<&str>, source: ConfigSource<'_>) -> Result<Self> {
        fs::create_dir_all(root)?;
        let hidden = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !force && fs::read_dir_sorted(root)?.iter().any(|path| !hidden(path)) {
            return Err(Failure::new(
                Kind::Usage,
                format!("{} is not empty", root.display()),
                "choose an empty directory, or add --force",
            )
            .into());
        }
        let this = Self { root: root.to_owned() };
        let variant = variant.filter(|name| *name != "default");
        let config = this.config_dir();
        if config.exists() {
            require_manifests(&config, variant)?;
        } else {
            this.install(&config, variant, source)?;
        }
        for directory in DIRECTORIES {
            fs::create_dir_all(&root.join(directory))?;
        }
        let selected = root.join("src/config.json");
        match variant {
            Some(variant) => json::write(&selected, &json!({ VARIANT: variant }))?,
            None => fs::remove_file_if_exists(&selected)?,
        }
        Ok(this)
    }

    fn install(&self, config: &Path, variant: Option<&str>, source: ConfigSource<'_>) -> Result<()> {
        let beside = self.root.join("src/.config.new");
        if let ConfigSource::Link(target) = source {
            let target = std::fs::canonicalize(target)
                .with_context(|| format!("looking for the configuration {}", target.display()))?;
            require_manifests(&target, variant)?;
            fs::create_dir_all(&self.root.join("src"))?;
            return fs::symlink_atomic(&target, config);
        }
        fs::create_dir_all(&self.root.join("src"))?;
        fs::remove_tree(&beside)?;
        let made = match source {
            ConfigSource::Embedded(files) => files.iter().try_for_each(|file| write_embedded(&beside, file)),
            ConfigSource::Make(make) => make(&beside),
            ConfigSource::Link(_) => Ok(()),
        };
        match made.and_then(|()| require_manifests(&beside, variant)) {
            Ok(()) => fs::rename(&beside, config),
            Err(error) => {
                fs::remove_tree(&beside)?;
                Err(error)
            }
        }
    }

    /// Takes the lock that every command needs which changes something; `who` is what others will read.
    pub fn lock(&self, who: &str) -> Result<BuildLock> {
        match FileLock::try_exclusive(&self.tmp_dir().join("build.lock"), who)? {
            Ok(lock) => Ok(BuildLock { _lock: lock }),
            Err(held) => Err(Failure::new(
                Kind::Busy,
                format!("{} is in use by {}", self.root.display(), held.holder),
                "wait until it has finished, end that process, or use another working directory",
            )
            .into()),
        }
    }

    /// The working directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `src/config`.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.root.join("src/config")
    }

    /// `src/yumrepos`, if there is one.
    #[must_use]
    pub fn yumrepos_dir(&self) -> Option<PathBuf> {
        Some(self.root.join("src/yumrepos")).filter(|path| path.is_dir())
    }

    /// `builds`.
    #[must_use]
    pub fn builds_dir(&self) -> PathBuf {
        self.root.join("builds")
    }

    /// `cache`.
    #[must_use]
    pub fn cache_dir(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// `tmp`.
    #[must_use]
    pub fn tmp_dir(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// `overrides`: what a developer tries.
    #[must_use]
    pub fn overrides(&self) -> PathBuf {
        self.root.join("overrides")
    }

    /// `overrides/NAME`: `rpm`, `deb` or `rootfs`.
    #[must_use]
    pub fn overrides_dir(&self, name: &str) -> PathBuf {
        self.root.join("overrides").join(name)
    }

    /// The variant that `src/config.json` selects.
    pub fn variant(&self) -> Result<Option<String>> {
        let path = self.root.join("src/config.json");
        let Some(value) = json::read(&path)? else { return Ok(None) };
        match value.get(VARIANT) {
            None => Ok(None),
            Some(Value::String(variant)) => Ok(Some(variant.clone()).filter(|name| name != "default")),
            Some(other) => Err(Failure::new(
                Kind::Config,
                format!("{}: `{VARIANT}` must be a text, found {other}", path.display()),
                "write the variant's name, or remove the file",
            )
            .into()),
        }
    }
}

fn require_manifests(config: &Path, variant: Option<&str>) -> Result<()> {
    for stem in ["manifest", "image"] {
        let name = match variant {
            Some(variant) => format!("{stem}-{variant}.yaml"),
            None => format!("{stem}.yaml"),
        };
        if !config.join(&name).is_file() {
            return Err(Failure::new(
                Kind::Config,
                format!("the configuration has no {name}"),
                "name a directory or repository with manifest.yaml and image.yaml, or one of its variants",
            )
            .into());
        }
    }
    Ok(())
}

fn write_embedded(dir: &Path, file: &EmbeddedFile<'_>) -> Result<()> {
    let path = dir.join(file.path);
    fs::create_dir_all(path.parent().unwrap_or(dir))?;
    if file.mode & 0o170_000 == 0o120_000 {
        let target = String::from_utf8_lossy(file.bytes).into_owned();
        return symlink(&target, &path).with_context(|| format!("linking {} to {target}", path.display()));
    }
    fs::write(&path, file.bytes)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(file.mode & 0o7777))
        .with_context(|| format!("setting the mode of {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::classify;

    const FILES: &[EmbeddedFile<'_>] = &[
        EmbeddedFile { path: "manifest.yaml", mode: 0o644, bytes: b"ref: x" },
        EmbeddedFile { path: "image.yaml", mode: 0o644, bytes: b"size: 10" },
        EmbeddedFile { path: "overlay.d/a/run", mode: 0o755, bytes: b"#!/bin/sh" },
        EmbeddedFile { path: "overlay.d/a/link", mode: 0o120_777, bytes: b"run" },
    ];

    fn cause(result: Result<Workdir>) -> (Kind, String) {
        let failure = classify(&result.unwrap_err());
        (failure.kind, failure.cause)
    }

    #[test]
    fn init_writes_the_embedded_files_and_open_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("w");
        Workdir::init(&root, false, None, ConfigSource::Embedded(FILES)).unwrap();
        let workdir = Workdir::open(&root).unwrap();
        let script = workdir.config_dir().join("overlay.d/a/run");
        assert_eq!(std::fs::metadata(&script).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_link(script.with_file_name("link")).unwrap(), Path::new("run"));
        assert_eq!(workdir.variant().unwrap(), None);
        assert!(workdir.overrides_dir("deb").is_dir());
        assert_eq!(
            cause(Workdir::init(&root, false, None, ConfigSource::Embedded(FILES))),
            (Kind::Usage, format!("{} is not empty", root.display()))
        );
        Workdir::init(&root, true, None, ConfigSource::Embedded(&[])).unwrap();
    }

    #[test]
    fn init_links_a_path_and_selects_a_variant() {
        let dir = tempfile::tempdir().unwrap();
        let (config, root) = (dir.path().join("config"), dir.path().join("w"));
        std::fs::create_dir(&config).unwrap();
        for name in ["manifest.yaml", "image.yaml", "manifest-v.yaml", "image-v.yaml"] {
            std::fs::write(config.join(name), "").unwrap();
        }
        assert_eq!(
            cause(Workdir::init(&root, false, Some("x"), ConfigSource::Link(&config))),
            (Kind::Config, "the configuration has no manifest-x.yaml".to_owned())
        );
        assert!(!root.join("src").exists(), "a failed init leaves nothing behind");
        let workdir = Workdir::init(&root, false, Some("v"), ConfigSource::Link(&config)).unwrap();
        assert_eq!(std::fs::read_link(workdir.config_dir()).unwrap(), config.canonicalize().unwrap());
        assert_eq!(workdir.variant().unwrap().as_deref(), Some("v"));
    }

    #[test]
    fn a_clone_that_fails_leaves_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let mut clone = |path: &Path| {
            std::fs::create_dir(path)?;
            std::fs::write(path.join("README"), "")?;
            Ok(())
        };
        assert_eq!(
            cause(Workdir::init(dir.path(), false, None, ConfigSource::Make(&mut clone))),
            (Kind::Config, "the configuration has no manifest.yaml".to_owned())
        );
        assert_eq!(std::fs::read_dir(dir.path().join("src")).unwrap().count(), 0);
    }

    #[test]
    fn a_second_builder_is_told_who_is_at_work() {
        let dir = tempfile::tempdir().unwrap();
        let workdir = Workdir::init(dir.path(), false, None, ConfigSource::Embedded(FILES)).unwrap();
        let first = workdir.lock("nosa build").unwrap();
        let failure = classify(&workdir.lock("nosa prune").unwrap_err());
        assert_eq!(failure.kind, Kind::Busy);
        let expected =
            format!("{} is in use by nosa build, process {}", dir.path().display(), std::process::id());
        assert_eq!(failure.cause, expected);
        drop(first);
        workdir.lock("nosa prune").unwrap();
    }

    #[test]
    fn elsewhere_is_no_working_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (kind, text) = cause(Workdir::open(dir.path()));
        assert_eq!(
            (kind, text),
            (Kind::Usage, format!("{} is not a working directory of nosa", dir.path().display()))
        );
    }
}
