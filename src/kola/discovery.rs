//! Finding tests: executables below `DIR/tests/kola` (or `DIR` itself), with the configuration beside them
//! and the data directory nearest above them.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;

use super::header::{self, Header};

/// A test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Its name: `ext.config.podman.run`.
    pub name: String,
    /// What it says about itself.
    pub header: Header,
    /// What it runs.
    pub body: Body,
}

/// What a test runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// nosa's own checks of a booted machine.
    Basic,
    /// A program on the machine.
    External(External),
}

/// A program that is a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The program.
    pub program: PathBuf,
    /// The directory that it finds at `KOLA_EXT_DATA`.
    pub data: Option<PathBuf>,
    /// The Ignition or Butane configuration of its machine.
    pub config: Option<PathBuf>,
}

/// A directory of tests and the prefix of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Holds the tests, at `tests/kola` or at once.
    pub dir: PathBuf,
    /// Goes before each name: `ext.config`.
    pub prefix: String,
}

impl Test {
    /// nosa's own checks of a booted machine.
    #[must_use]
    pub fn basic() -> Self {
        let header = Header {
            description: "The machine came up whole: OSTree, accounts, D-Bus, services, Ignition, root grown"
                .to_owned(),
            ..Header::default()
        };
        Self { name: "basic".to_owned(), header, body: Body::Basic }
    }
}

impl Root {
    /// The root that `-E DIR` names: `ext.<name of DIR>`.
    pub fn named_by(dir: &Path) -> Result<Self> {
        let dir = dir.canonicalize().map_err(|error| {
            Failure::new(
                Kind::Usage,
                format!("-E {}: {error}", dir.display()),
                "name a directory with tests/kola",
            )
        })?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { dir, prefix: format!("ext.{name}") })
    }

    /// The tests of the workdir's configuration, if it has any: `ext.config`.
    #[must_use]
    pub fn of_config(config: &Path) -> Option<Self> {
        let root = Self { dir: config.to_owned(), prefix: "ext.config".to_owned() };
        config.join("tests/kola").is_dir().then_some(root)
    }
}

/// Finds every test of a root, sorted by name; the first mistake in one ends it.
pub fn discover(root: &Root) -> Result<Vec<Test>> {
    let (tests, mistakes) = examine(root)?;
    mistakes.into_iter().next().map_or(Ok(tests), Err)
}

/// Finds every good test of a root, sorted by name, and the mistakes of the others.
pub fn examine(root: &Root) -> Result<(Vec<Test>, Vec<anyhow::Error>)> {
    let below = root.dir.join("tests/kola");
    let dir = if below.is_dir() { below } else { root.dir.clone() };
    let mut found = Found::default();
    walk(&dir, &root.prefix, None, &mut found)?;
    found.tests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok((found.tests, found.mistakes))
}

#[derive(Default)]
struct Found {
    tests: Vec<Test>,
    mistakes: Vec<anyhow::Error>,
}

fn walk(dir: &Path, prefix: &str, inherited: Option<&Path>, found: &mut Found) -> Result<()> {
    let own = dir.join("data");
    let data =
        if own.is_dir() { Some(own.canonicalize().context("resolving a data directory")?) } else { None };
    let data = data.as_deref().or(inherited);
    let config = config_of(dir).unwrap_or_else(|mistake| {
        found.mistakes.push(mistake);
        None
    });
    let mut programs = Vec::new();
    for path in fs::read_dir_sorted(dir)? {
        let name = file_name(&path);
        let meta = std::fs::metadata(&path).with_context(|| format!("looking at {}", path.display()))?;
        if meta.is_dir() {
            if name != "data" {
                walk(&path, &format!("{prefix}.{name}"), data, found)?;
            }
        } else if meta.is_file() && meta.permissions().mode() & 1 != 0 {
            programs.push(path);
        }
    }
    let lone = programs.len() == 1 && file_name(&programs[0]) == "test.sh";
    for program in programs {
        let name = if lone { prefix.to_owned() } else { format!("{prefix}.{}", file_name(&program)) };
        let header = match header::parse(&program, &fs::read(&program)?) {
            Ok(header) => header,
            Err(mistake) => {
                found.mistakes.push(mistake.into());
                continue;
            }
        };
        let body =
            Body::External(External { program, data: data.map(Path::to_owned), config: config.clone() });
        found.tests.push(Test { name, header, body });
    }
    Ok(())
}

fn config_of(dir: &Path) -> Result<Option<PathBuf>> {
    if dir.join("config.fcc").exists() {
        return Err(Failure::new(
            Kind::Config,
            format!("{}: no longer supported", dir.join("config.fcc").display()),
            "rename it to config.bu",
        )
        .into());
    }
    let found: Vec<PathBuf> =
        ["config.ign", "config.bu"].iter().map(|name| dir.join(name)).filter(|path| path.exists()).collect();
    match found.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(Failure::new(
            Kind::Config,
            format!("{} has both config.ign and config.bu", dir.display()),
            "keep one of them",
        )
        .into()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs as std_fs;

    fn put(dir: &Path, path: &str, mode: u32) {
        let path = dir.join(path);
        std_fs::create_dir_all(path.parent().unwrap()).unwrap();
        std_fs::write(&path, "#!/bin/sh\n# kola: {\"exclusive\": false}\n").unwrap();
        std_fs::set_permissions(&path, std_fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn names_data_and_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let kola = dir.path().join("tests/kola");
        put(&kola, "data/lib.sh", 0o755);
        put(&kola, "podman/base", 0o755);
        put(&kola, "podman/notes.txt", 0o644);
        put(&kola, "ignition/once/test.sh", 0o755);
        put(&kola, "ignition/once/config.ign", 0o644);
        put(&kola, "two/test.sh", 0o755);
        put(&kola, "two/other.sh", 0o755);
        put(&kola, "two/data/x", 0o644);
        let root = Root::of_config(dir.path()).unwrap();
        let tests = discover(&root).unwrap();
        let names: Vec<&str> = tests.iter().map(|test| test.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "ext.config.ignition.once",
                "ext.config.podman.base",
                "ext.config.two.other.sh",
                "ext.config.two.test.sh"
            ]
        );
        let external = |index: usize| match &tests[index].body {
            Body::External(external) => external.clone(),
            Body::Basic => panic!("not external"),
        };
        assert!(external(0).config.unwrap().ends_with("once/config.ign"));
        assert!(external(1).data.unwrap().ends_with("kola/data"));
        assert!(external(2).data.unwrap().ends_with("two/data"));
        assert!(!tests[0].header.exclusive);
    }

    #[test]
    fn an_old_configuration_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "config.fcc", 0o644);
        let root = Root::named_by(dir.path()).unwrap();
        assert!(discover(&root).unwrap_err().to_string().contains("config.fcc"));
    }
}
