//! Checking a configuration completely without building it: every file that a build would read, read as a
//! build reads it, and everything that is wrong named at once.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::builds::next_version;
use crate::document::{Position, nearest};
use crate::failure::{Failure, Kind, classify};
use crate::host::fs;
use crate::kola::{self, Denylist, Root};
use crate::manifest::{LoadOptions, Loaded, RepoKind, examine};
use crate::packages::{Lock, LockFiles, Repository, Supply};
use crate::rootfs::Overlay;

/// What is wrong with a configuration.
#[derive(Debug, Default, Serialize)]
pub struct Findings {
    /// What a build would fail with.
    pub problems: Vec<Finding>,
    /// What is accepted without effect, or better changed.
    pub warnings: Vec<Finding>,
}

/// One thing, and the architectures for which it holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// `file`, `file:line` or `file:line:column`, if it has a place.
    pub place: Option<String>,
    /// What is wrong.
    pub cause: String,
    /// What to do.
    pub cure: String,
    /// The architectures.
    pub arches: Vec<String>,
}

impl Finding {
    /// The whole as a failure.
    #[must_use]
    pub fn failure(&self) -> Failure {
        let cause = match &self.place {
            Some(place) => format!("{place}: {}", self.cause),
            None => self.cause.clone(),
        };
        Failure::new(Kind::Config, cause, self.cure.clone())
    }
}

/// Checks the configuration in `dir`, an absolute path, for every architecture that `options` name.
pub fn validate(dir: &Path, options: &[LoadOptions]) -> Result<Findings> {
    let mut findings = Findings::default();
    for options in options {
        let mut check =
            Check { dir, basearch: &options.basearch, problems: Vec::new(), warnings: Vec::new() };
        check.all(options)?;
        let arch = &options.basearch;
        check.problems.iter().for_each(|failure| note(&mut findings.problems, dir, arch, failure));
        for warning in check.warnings {
            let failure = Failure::new(Kind::Config, warning, "");
            note(&mut findings.warnings, dir, arch, &failure);
        }
    }
    Ok(findings)
}

/// Notes a failure once, whatever number of architectures meet it.
fn note(findings: &mut Vec<Finding>, dir: &Path, arch: &str, failure: &Failure) {
    let dir = dir.display().to_string();
    let cause = failure.cause.replace(&format!("{dir}/"), "").replace(&dir, "the configuration");
    let (place, cause) = match cause.split_once(": ") {
        Some((place, rest)) if is_place(place) => (Some(place.to_owned()), rest.to_owned()),
        _ => (None, cause),
    };
    match findings
        .iter_mut()
        .find(|known| (&known.place, &known.cause, &known.cure) == (&place, &cause, &failure.cure))
    {
        Some(known) => known.arches.push(arch.to_owned()),
        None => {
            findings.push(Finding { place, cause, cure: failure.cure.clone(), arches: vec![arch.to_owned()] })
        }
    }
}

/// A path without blanks, with or without line and column.
fn is_place(text: &str) -> bool {
    !text.contains(|c: char| c.is_whitespace() || c == '`') && text.contains(['.', '/'])
}

struct Check<'c> {
    dir: &'c Path,
    basearch: &'c str,
    problems: Vec<Failure>,
    warnings: Vec<String>,
}

impl Check<'_> {
    fn take<T>(&mut self, result: Result<T>) -> Option<T> {
        result.map_err(|error| self.problems.push(classify(&error))).ok()
    }

    fn all(&mut self, options: &LoadOptions) -> Result<()> {
        if !self.dir.is_dir() {
            let cause = format!("{} is no directory", self.dir.display());
            return Err(Failure::new(Kind::Usage, cause, "name a directory with manifest.yaml").into());
        }
        let (loaded, problems) = examine(self.dir, options);
        self.problems = problems;
        self.warnings.clone_from(&loaded.warnings);
        self.version(&loaded);
        self.repositories(&loaded);
        self.overlays(&loaded);
        self.locks(&loaded)?;
        self.tests()
    }

    /// The first version must be one.
    fn version(&mut self, loaded: &Loaded) {
        let manifest = &loaded.manifest;
        // With a variable left, a file could not be read, which is said already.
        if manifest.version_prefix.is_empty() || manifest.version_prefix.contains("${") {
            return;
        }
        if let Err(error) = next_version(&manifest.version_prefix, manifest.version_suffix, [], 0) {
            let failure = classify(&error);
            self.problems.push(match loaded.provenance.key("automatic-version-prefix") {
                Some(position) => position.failure(failure.cause, failure.cure),
                None => failure,
            });
        }
    }

    /// `*.repo` files are checked as they are loaded, but for their variables; `*.sources` files are apt's.
    fn repositories(&mut self, loaded: &Loaded) {
        let manifest = &loaded.manifest;
        for file in &manifest.repo_files {
            let (Some(text), Some(id)) = (self.take(fs::read_to_string(&file.path)), file.ids.first()) else {
                continue;
            };
            if manifest.repo_kind == Some(RepoKind::Rpm) {
                self.problems.extend(unknown_variables(&file.path, &text, &manifest.repovars));
                continue;
            }
            if let Some(repository) = self.take(Repository::new(id, &file.path, text, Supply::All))
                && repository.suites.is_empty()
            {
                self.problems.push(Failure::new(
                    Kind::Config,
                    format!("{}: it defines no repository", file.path.display()),
                    "add `Types:`, `URIs:`, `Suites:`, `Components:` and `Signed-By:` (sources.list(5))",
                ));
            }
        }
    }

    fn overlays(&mut self, loaded: &Loaded) {
        for layer in &loaded.manifest.ostree_layers {
            let name = layer.strip_prefix("overlay/").unwrap_or(layer);
            let read = Overlay::read(self.dir, name);
            self.take(read);
        }
    }

    fn locks(&mut self, loaded: &Loaded) -> Result<()> {
        let before = self.problems.len();
        for path in fs::read_dir_sorted(self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !is_lock(&name, self.basearch) {
                continue;
            }
            let read = fs::read_to_string(&path).and_then(|text| Lock::parse(&name, &text));
            if let Some(lock) = self.take(read) {
                self.lock(&lock, loaded);
            }
        }
        if self.problems.len() == before {
            let both = LockFiles::load(self.dir, self.basearch);
            self.take(both);
        }
        Ok(())
    }

    fn lock(&mut self, lock: &Lock, loaded: &Loaded) {
        for (name, entry) in &lock.packages {
            let Some(position) = &entry.position else { continue };
            if let Some(arch) = &entry.arch
                && !suits(arch, self.basearch)
            {
                self.problems.push(position.failure(
                    format_args!("`{name}` is locked for {arch}, and this is a lock for {}", self.basearch),
                    "write the version without architecture, as `evr: …`, or name the file after that one",
                ));
            }
            if loaded.manifest.exclude_packages.contains(name) {
                self.warnings.push(format!("{position}: `{name}` is locked, but excluded from the system"));
            }
        }
    }

    fn tests(&mut self) -> Result<()> {
        let path = self.dir.join("kola-denylist.yaml");
        let text = fs::read_optional(&path);
        if let Some(Some(text)) = self.take(text) {
            let read = Denylist::parse("kola-denylist.yaml", &text).map_err(Into::into);
            self.take(read);
        }
        if let Some(root) = Root::of_config(self.dir) {
            let found = kola::examine(&root);
            let mistakes = self.take(found).map(|(_, mistakes)| mistakes);
            self.problems.extend(mistakes.iter().flatten().map(classify));
        }
        Ok(())
    }
}

/// What dnf knows besides `repovars`.
const DNF_VARIABLES: &[&str] = &["basearch", "releasever", "arch"];

/// The variables in a `*.repo` file that nothing gives a value.
fn unknown_variables(path: &Path, text: &str, known: &BTreeMap<String, String>) -> Vec<Failure> {
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')) {
        for (at, _) in line.match_indices('$') {
            let rest = line.get(at + 1..).unwrap_or_default();
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (name, _) = rest.split_at(end);
            if name.is_empty() || DNF_VARIABLES.contains(&name) || known.contains_key(name) {
                continue;
            }
            let names = DNF_VARIABLES.iter().copied().chain(known.keys().map(String::as_str));
            let cure = match nearest(name, names) {
                Some(near) => format!("did you mean `${near}`?"),
                None => format!("add `repovars: {{{name}: …}}` to the treefile"),
            };
            let column = line.get(..at).unwrap_or_default().chars().count() + 1;
            let file = path.display().to_string().as_str().into();
            let position = Position { file, line: index + 1, column };
            found.push(position.failure(format_args!("variable `${name}` has no value"), cure));
        }
    }
    found
}

/// Whether a build for `basearch` reads this lockfile.
fn is_lock(name: &str, basearch: &str) -> bool {
    let stem = name.strip_suffix(".json").or_else(|| name.strip_suffix(".yaml"));
    stem.is_some_and(|stem| {
        stem == "manifest-lock.overrides"
            || stem == format!("manifest-lock.{basearch}")
            || stem == format!("manifest-lock.overrides.{basearch}")
    })
}

/// Whether a package of this architecture can be installed on machines of `basearch`.
fn suits(arch: &str, basearch: &str) -> bool {
    let others: &[&str] = match basearch {
        "x86_64" => &["amd64", "i686", "i386"],
        "aarch64" => &["arm64"],
        _ => &[],
    };
    arch == basearch || arch == "noarch" || arch == "all" || others.contains(&arch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_finding_for_all_architectures_that_meet_it() {
        let mut findings = Vec::new();
        let failure = |cause: &str| Failure::new(Kind::Config, cause, "cure");
        for arch in ["x86_64", "aarch64"] {
            note(&mut findings, Path::new("/c"), arch, &failure("/c/a.yaml:1:2: wrong"));
        }
        note(&mut findings, Path::new("/c"), "aarch64", &failure("reading a.yaml: no"));
        assert_eq!(findings.len(), 2);
        assert_eq!(findings[0].place.as_deref(), Some("a.yaml:1:2"));
        assert_eq!(findings[0].arches, ["x86_64", "aarch64"]);
        assert_eq!(findings[0].failure().cause, "a.yaml:1:2: wrong");
        assert_eq!(findings[1].place, None);
    }

    #[test]
    fn a_lock_is_for_its_own_architecture() {
        assert!(is_lock("manifest-lock.x86_64.json", "x86_64"));
        assert!(is_lock("manifest-lock.overrides.yaml", "aarch64"));
        assert!(!is_lock("manifest-lock.x86_64.json", "aarch64"));
        assert!(!is_lock("manifest-lock.generated.x86_64.json", "x86_64"));
        assert!(suits("noarch", "riscv64") && suits("amd64", "x86_64") && !suits("amd64", "aarch64"));
    }
}
