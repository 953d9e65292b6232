//! nosa's own dnf configuration: which repositories there are and what each may give (dnf.conf(5)).

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::host::{FileLock, fs};
use crate::packages::model::{LocalPackage, Supply};
use crate::pipeline::Digest;

/// One section of a `*.repo` file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct YumRepository {
    /// Its id.
    pub id: String,
    /// The file it stands in, for messages.
    #[serde(skip)]
    pub file: String,
    /// Its options, as written.
    #[serde(skip)]
    pub options: Vec<(String, String)>,
    /// What it may give.
    #[serde(rename = "only")]
    pub supply: Supply,
    /// Packages that come from here and from nowhere else.
    pub packages: Vec<String>,
}

impl YumRepository {
    /// Reads the section `id` of a definition.
    pub fn new(id: &str, path: &Path, text: &str, supply: Supply, packages: Vec<String>) -> Result<Self> {
        let wrong = |line: usize, cause: String, cure: &str| -> anyhow::Error {
            Failure::new(Kind::Config, format!("{}:{line}: {cause}", path.display()), cure).into()
        };
        let (mut here, mut start) = (false, 1);
        let mut options: Vec<(String, String)> = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                here = name.trim() == id;
                start = if here { index + 1 } else { start };
            } else if here && line.starts_with([' ', '\t']) {
                let Some((_, value)) = options.last_mut() else {
                    let cause = format!("`{trimmed}` continues nothing");
                    return Err(wrong(index + 1, cause, "write `option=value`"));
                };
                value.push('\n');
                value.push_str(trimmed);
            } else if here {
                let Some((name, value)) = trimmed.split_once('=') else {
                    let cause = format!("`{trimmed}` is no option");
                    return Err(wrong(index + 1, cause, "write `option=value`"));
                };
                options.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        if !options.iter().any(|(name, _)| ["baseurl", "metalink", "mirrorlist"].contains(&name.as_str())) {
            let cause = format!("repository `{id}` says nowhere where it is");
            return Err(wrong(start, cause, "add `baseurl=…`, `metalink=…` or `mirrorlist=…`"));
        }
        let dir = path.parent().unwrap_or(Path::new("."));
        let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
        for (name, value) in &mut options {
            if ["gpgkey", "baseurl", "sslcacert"].contains(&name.as_str()) {
                *value = absolute(value, &dir, name == "sslcacert");
            }
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { id: id.to_owned(), file, options, supply, packages })
    }

    /// Digests of the keys that lie on this machine: a key that was replaced must not be trusted for what
    /// was imported under its name earlier.
    fn keys(&self) -> String {
        let values = self.options.iter().filter(|(name, _)| name == "gpgkey").map(|(_, value)| value);
        let files = values.flat_map(|value| value.split_whitespace()).filter_map(|word| {
            let path = word.strip_prefix("file://").unwrap_or(word);
            std::fs::read(path).ok()
        });
        files.map(|bytes| format!("key {}\n", Digest::of(bytes))).collect()
    }

    fn section(&self) -> String {
        let options = self.options.iter().filter(|(name, _)| name != "enabled");
        let lines: String =
            options.map(|(name, value)| format!("{name}={}\n", value.replace('\n', "\n    "))).collect();
        format!("[{}]\n{lines}", self.id)
    }
}

/// Makes each path that is neither absolute nor an address one beside the definition.
fn absolute(value: &str, dir: &Path, plain: bool) -> String {
    let words = value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty());
    let words = words.map(|word| {
        if word.contains("://") || word.starts_with(['/', '$']) {
            word.to_owned()
        } else if plain {
            dir.join(word).display().to_string()
        } else {
            format!("file://{}", dir.join(word).display())
        }
    });
    words.collect::<Vec<_>>().join("\n")
}

/// The dnf backend for one set of repositories.
#[derive(Debug, Clone)]
pub struct Dnf {
    pub(super) dir: PathBuf,
    pub(super) downloads: PathBuf,
    pub(super) log: PathBuf,
    pub(super) basearch: String,
    pub(super) releasever: String,
    pub(super) repositories: Vec<YumRepository>,
    pub(super) overrides: Vec<LocalPackage>,
}

impl Dnf {
    /// Sets the backend up: its state below `state`, downloads in `downloads`, dnf's output to `log`.
    pub fn new(
        state: &Path,
        downloads: &Path,
        log: &Path,
        (basearch, releasever): (&str, &str),
        repositories: Vec<YumRepository>,
        overrides: Vec<LocalPackage>,
    ) -> Result<Self> {
        let identity: String = repositories
            .iter()
            .map(|repository| format!("{}{}", repository.section(), repository.keys()))
            .collect();
        let dir = state.join(Digest::of(format!("{basearch} {releasever}\n{identity}")).short());
        let downloads = downloads.join("rpms");
        fs::create_dir_all(&downloads)?;
        let (basearch, releasever) = (basearch.to_owned(), releasever.to_owned());
        Ok(Self { dir, downloads, log: log.to_owned(), basearch, releasever, repositories, overrides })
    }

    /// Writes the repositories' definitions and the macros that rpm is to see.
    pub(super) fn write_config(&self) -> Result<()> {
        for sub in ["repos.d", "cache", "root"] {
            fs::create_dir_all(&self.dir.join(sub))?;
        }
        super::rpmdb::write_home(&self.dir.join("home"), None)?;
        for repository in &self.repositories {
            let path = self.dir.join("repos.d").join(format!("{}.repo", repository.id));
            fs::write_atomic(&path, repository.section(), 0o600)?;
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> Result<FileLock> {
        fs::create_dir_all(&self.dir)?;
        FileLock::exclusive(&self.dir.join("nosa.lock"), "nosa")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# c\n[a]\nname=A\nbaseurl=http://x/$basearch\n  http://y\ngpgkey=keys/k.asc\nenabled=0\n\n[b]\nname=B\n";

    fn read(id: &str) -> Result<YumRepository> {
        YumRepository::new(id, Path::new("/none/a.repo"), TEXT, Supply::All, Vec::new())
    }

    #[test]
    fn a_section_is_taken_alone_with_keys_beside_it() {
        let section = read("a").unwrap().section();
        assert_eq!(
            section,
            "[a]\nname=A\nbaseurl=http://x/$basearch\n    http://y\ngpgkey=file:///none/keys/k.asc\n"
        );
    }

    #[test]
    fn another_key_under_the_same_name_is_another_state() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.repo");
        let state = || {
            let text = "[a]\nbaseurl=http://x\ngpgkey=k.asc\n";
            let repository = YumRepository::new("a", &path, text, Supply::All, Vec::new()).unwrap();
            let (log, none) = (dir.path().join("log"), Vec::new());
            Dnf::new(dir.path(), dir.path(), &log, ("x86_64", "1"), vec![repository], none).unwrap().dir
        };
        std::fs::write(dir.path().join("k.asc"), "old").unwrap();
        let old = state();
        assert_eq!(state(), old);
        std::fs::write(dir.path().join("k.asc"), "new").unwrap();
        assert_ne!(state(), old);
    }

    #[test]
    fn a_repository_without_a_place_is_refused() {
        let error = read("b").unwrap_err().to_string();
        assert_eq!(error, "/none/a.repo:9: repository `b` says nowhere where it is");
    }
}
