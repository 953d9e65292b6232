//! Lockfiles in rpm-ostree's format: which version of a package to take, and the digest it must have.
//!
//! ```text
//! manifest-lock.ARCH.{json,yaml}               what is locked
//! manifest-lock.overrides.{yaml,json}          overrides it
//! manifest-lock.overrides.ARCH.{yaml,json}     overrides both
//! manifest-lock.generated.ARCH.json            in a build: what it was made of
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde_json::{Value as Json, json};

use super::model::{Evr, Locked, Package};
use crate::document::{Entry, Node, Position, parse};
use crate::failure::{Failure, Kind};
use crate::host::clock::Utc;
use crate::host::fs;
use crate::pipeline::Digest;

/// The package a lockfile asks for under a name.
#[derive(Debug, Clone, PartialEq)]
pub struct LockEntry {
    /// Its version.
    pub evr: Evr,
    /// Its architecture, if the lock says one.
    pub arch: Option<String>,
    /// The digest of its file, if the lock says one.
    pub digest: Option<Digest>,
    /// What else is noted: reasons, sources, the path in the archive.
    pub metadata: BTreeMap<String, Json>,
    /// Where it stands; none for a lock that was not read from a file.
    pub position: Option<Position>,
}

/// Locked packages by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Lock {
    /// The packages.
    pub packages: BTreeMap<String, LockEntry>,
    /// When it was made, seconds since 1970; none for a lock that was read.
    pub generated: Option<u64>,
}

/// The lock of a configuration and the files that it came from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LockFiles {
    /// What they say together.
    pub lock: Lock,
    /// The files, the weakest first; none if nothing is locked.
    pub files: Vec<PathBuf>,
}

impl LockFiles {
    /// Reads the lockfiles in a configuration's directory.
    pub fn load(dir: &Path, basearch: &str) -> Result<Self> {
        let mut this = Self::default();
        let stems = [
            format!("manifest-lock.{basearch}"),
            "manifest-lock.overrides".to_owned(),
            format!("manifest-lock.overrides.{basearch}"),
        ];
        for stem in stems {
            let [json, yaml] = ["json", "yaml"].map(|extension| dir.join(format!("{stem}.{extension}")));
            let (path, text) = match (fs::read_optional(&json)?, fs::read_optional(&yaml)?) {
                (None, None) => continue,
                (Some(text), None) => (json, text),
                (None, Some(text)) => (yaml, text),
                (Some(_), Some(_)) => {
                    return Err(Failure::new(
                        Kind::Config,
                        format!("there are both {stem}.json and {stem}.yaml in {}", dir.display()),
                        "remove one of them",
                    )
                    .into());
                }
            };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            this.lock.override_with(Lock::parse(&name, &text)?);
            this.files.push(path);
        }
        Ok(this)
    }
}

impl Lock {
    /// Parses a lockfile; `name` is what messages call it, and tells JSON from YAML.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let root = parse(name, text)?;
        let map = root.map("lockfile")?;
        map.only(&["packages", "metadata"])?;
        if let Some(metadata) = map.get("metadata") {
            metadata.map("metadata")?.only(&["generated", "rpmmd_repos"])?;
        }
        let packages = map.get("packages").ok_or_else(|| {
            root.position
                .failure("`packages` is missing", "add the locked packages: `packages: {NAME: {evra: …}}`")
        })?;
        let entries = &packages.map("packages")?.entries;
        let packages = entries
            .iter()
            .map(|entry| Ok((entry.key.clone(), locked(entry)?)))
            .collect::<Result<_, Failure>>()?;
        Ok(Self { packages, generated: None })
    }

    /// Takes in a stronger lock: its packages stand.
    pub fn override_with(&mut self, stronger: Self) {
        self.packages.extend(stronger.packages);
    }

    /// The lock that describes a resolved set; `now` is in seconds since 1970.
    pub fn of<'p>(packages: impl IntoIterator<Item = &'p Package>, now: u64) -> Result<Self> {
        let mut lock = Self { packages: BTreeMap::new(), generated: Some(now) };
        for package in packages {
            let metadata =
                [("location", &package.location), ("repo", &package.repo), ("source", &package.source)];
            let locked = LockEntry {
                evr: package.evr.clone(),
                arch: Some(package.arch.clone()),
                digest: Some(package.sha256),
                metadata: metadata
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), Json::from(value.as_str())))
                    .collect(),
                position: None,
            };
            if lock.packages.insert(package.name.clone(), locked).is_some() {
                return Err(Failure::new(
                    Kind::Lock,
                    format!("`{}` is there for two architectures, which lockfiles cannot say", package.name),
                    "install it for one architecture only",
                )
                .into());
            }
        }
        Ok(lock)
    }

    /// What a resolver is to hold to, sorted by name; `origin` is each entry's place.
    #[must_use]
    pub fn locked(&self) -> Vec<Locked> {
        let of = |(name, entry): (&String, &LockEntry)| Locked {
            name: name.clone(),
            evr: entry.evr.to_string(),
            arch: entry.arch.clone(),
            sha256: entry.digest,
            origin: entry.position.as_ref().map(ToString::to_string).unwrap_or_default(),
        };
        self.packages.iter().map(of).collect()
    }

    /// The same versions for another architecture: without architectures and digests.
    #[must_use]
    pub fn for_other_arch(mut self) -> Self {
        for locked in self.packages.values_mut() {
            (locked.arch, locked.digest) = (None, None);
        }
        self
    }

    /// The lockfile's JSON, sorted by name.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let packages: serde_json::Map<String, Json> =
            self.packages.iter().map(|(name, locked)| (name.clone(), locked.to_json())).collect();
        let mut document = json!({ "packages": packages });
        if let Some(now) = self.generated {
            document["metadata"] = json!({ "generated": Utc::from_epoch(now).rfc3339() });
        }
        document
    }

    /// Writes `manifest-lock.generated.ARCH.json` (or another lockfile).
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.to_json()).context("encoding a lockfile")?;
        fs::write_atomic(path, text + "\n", 0o644)
    }
}

impl LockEntry {
    fn to_json(&self) -> Json {
        let mut document = match &self.arch {
            Some(arch) => json!({ "evra": format!("{}.{arch}", self.evr) }),
            None => json!({ "evr": self.evr.to_string() }),
        };
        if let Some(digest) = &self.digest {
            document["digest"] = format!("sha256:{digest}").into();
        }
        if !self.metadata.is_empty() {
            document["metadata"] = json!(self.metadata);
        }
        document
    }
}

fn locked(entry: &Entry) -> Result<LockEntry, Failure> {
    let name = &entry.key;
    let map = entry.value.map(name)?;
    map.only(&["evra", "evr", "digest", "metadata"])?;
    let (evr, arch) = match (map.get("evr"), map.get("evra")) {
        (Some(node), None) => (evr(node, node.text("evr")?)?, None),
        (None, Some(node)) => {
            let text = node.text("evra")?;
            let Some((rest, arch)) = text.rsplit_once('.').filter(|(_, arch)| !arch.is_empty()) else {
                return Err(node.expected("evra", "a version and an architecture", "write `1.0-1.x86_64`"));
            };
            (evr(node, rest)?, Some(arch.to_owned()))
        }
        (Some(_), Some(_)) => {
            let cause = format!("package `{name}` has both `evr` and `evra`");
            return Err(entry.position.failure(cause, "keep one of them"));
        }
        (None, None) => {
            let cause = format!("package `{name}` has no version");
            return Err(entry.position.failure(cause, "add `evr: 1.0-1`, or `evra: 1.0-1.x86_64`"));
        }
    };
    let digest = map.get("digest").map(digest).transpose()?;
    let metadata = match map.get("metadata") {
        Some(node) => {
            let entries = &node.map("metadata")?.entries;
            entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json())).collect()
        }
        None => BTreeMap::new(),
    };
    Ok(LockEntry { evr, arch, digest, metadata, position: Some(entry.position.clone()) })
}

/// `[EPOCH:]VERSION[-RELEASE]`.
fn evr(node: &Node, text: &str) -> Result<Evr, Failure> {
    let wrong =
        || node.expected("version", "of the form `[epoch:]version[-release]`", "write `1.0-1` or `2:1.0-1`");
    let (epoch, rest) = match text.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().map_err(|_| wrong())?, rest),
        None => (0, text),
    };
    let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    if version.is_empty() || text.chars().any(char::is_whitespace) {
        return Err(wrong());
    }
    Ok(Evr { epoch, version: version.to_owned(), release: release.to_owned() })
}

fn digest(node: &Node) -> Result<Digest, Failure> {
    let hex = node.text("digest")?.strip_prefix("sha256:");
    hex.and_then(|hex| Digest::from_str(hex).ok()).ok_or_else(|| {
        node.expected(
            "digest",
            "`sha256:` and 64 hexadecimal digits",
            "copy it from the repository, or leave it out",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::classify;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn package(name: &str, arch: &str) -> Package {
        Package {
            name: name.to_owned(),
            evr: Evr { epoch: 1, version: "2.0".to_owned(), release: "3".to_owned() },
            arch: arch.to_owned(),
            source: "src".to_owned(),
            repo: "debian".to_owned(),
            location: "pool/x.deb".to_owned(),
            size: 1,
            sha256: HEX.parse().unwrap(),
        }
    }

    fn fault(text: &str) -> String {
        let failure = classify(&Lock::parse("lock.yaml", text).unwrap_err());
        format!("{} | {}", failure.cause, failure.cure)
    }

    #[test]
    fn versions_of_both_forms() {
        let text = format!(
            "packages:\n  a: {{evra: 5:5.2.5-1.fc40.x86_64, digest: 'sha256:{HEX}'}}\n  b: {{evr: 3.0, metadata: {{type: pin}}}}\n  \
             c: {{evra: 1.2.all}}\nmetadata: {{generated: x}}\n"
        )
        .replace("evr: 3.0", "evr: '3.0'");
        let lock = Lock::parse("lock.yaml", &text).unwrap();
        let of = |name: &str| {
            let locked = &lock.packages[name];
            (locked.evr.to_string(), locked.arch.clone().unwrap_or_default(), locked.evr.epoch)
        };
        assert_eq!(of("a"), ("5:5.2.5-1.fc40".to_owned(), "x86_64".to_owned(), 5));
        assert_eq!(of("b"), ("3.0".to_owned(), String::new(), 0));
        assert_eq!(of("c"), ("1.2".to_owned(), "all".to_owned(), 0));
        assert_eq!(lock.packages["a"].digest, Some(HEX.parse().unwrap()));
        assert_eq!(lock.packages["b"].metadata["type"], "pin");
        assert_eq!(lock.packages["b"].position.as_ref().unwrap().to_string(), "lock.yaml:3:3");
    }

    #[test]
    fn every_mistake_has_its_place() {
        assert_eq!(fault("package: {}\n"), "lock.yaml:1:1: unknown key `package` | did you mean `packages`?");
        assert_eq!(
            fault("metadata: {}\n"),
            "lock.yaml:1:1: `packages` is missing | add the locked packages: `packages: {NAME: {evra: …}}`"
        );
        assert_eq!(
            fault("packages:\n  a: {evr: 1, evra: b}\n"),
            "lock.yaml:2:3: package `a` has both `evr` and `evra` | keep one of them"
        );
        assert_eq!(
            fault("packages:\n  a: {}\n"),
            "lock.yaml:2:3: package `a` has no version | add `evr: 1.0-1`, or `evra: 1.0-1.x86_64`"
        );
        assert_eq!(
            fault("packages:\n  a: {evr: 1}\n"),
            "lock.yaml:2:12: `evr` must be a text, found the number 1 | put the value in quotes"
        );
        assert_eq!(
            fault("packages:\n  a: {evr: x:1}\n"),
            "lock.yaml:2:12: `version` must be of the form `[epoch:]version[-release]`, found the text \"x:1\" | \
             write `1.0-1` or `2:1.0-1`"
        );
        assert_eq!(
            fault("packages:\n  a: {evra: noarch}\n"),
            "lock.yaml:2:13: `evra` must be a version and an architecture, found the text \"noarch\" | write \
             `1.0-1.x86_64`"
        );
        assert_eq!(
            fault("packages:\n  a: {evr: 1-1, digest: md5:00}\n"),
            "lock.yaml:2:25: `digest` must be `sha256:` and 64 hexadecimal digits, found the text \"md5:00\" | \
             copy it from the repository, or leave it out"
        );
        assert_eq!(
            fault("packages:\n  a: {evr: 1-1, digests: x}\n"),
            "lock.yaml:2:17: unknown key `digests` | did you mean `digest`?"
        );
    }

    #[test]
    fn overrides_win_and_two_spellings_of_one_file_fail() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, version: &str, names: &[&str]| {
            let packages: Vec<String> =
                names.iter().map(|name| format!("\"{name}\": {{\"evr\": \"{version}\"}}")).collect();
            let text = format!("{{\"packages\": {{{}}}}}", packages.join(", "));
            std::fs::write(dir.path().join(name), text).unwrap();
        };
        assert_eq!(LockFiles::load(dir.path(), "x86_64").unwrap(), LockFiles::default());
        write("manifest-lock.x86_64.json", "1", &["a", "b", "c"]);
        write("manifest-lock.aarch64.json", "9", &["a"]);
        write("manifest-lock.overrides.yaml", "2", &["b", "c"]);
        write("manifest-lock.overrides.x86_64.yaml", "3", &["c"]);
        let loaded = LockFiles::load(dir.path(), "x86_64").unwrap();
        let versions: Vec<String> =
            loaded.lock.packages.iter().map(|(name, locked)| format!("{name} {}", locked.evr)).collect();
        assert_eq!(versions, ["a 1", "b 2", "c 3"]);
        assert_eq!(loaded.files.len(), 3);
        write("manifest-lock.overrides.json", "2", &["b"]);
        let failure = classify(&LockFiles::load(dir.path(), "x86_64").unwrap_err());
        assert_eq!(
            failure.cause,
            format!(
                "there are both manifest-lock.overrides.json and manifest-lock.overrides.yaml in {}",
                dir.path().display()
            )
        );
    }

    #[test]
    fn a_generated_lock_reads_back_as_what_it_was_made_of() {
        let packages = [package("b", "amd64"), package("a", "all")];
        let lock = Lock::of(&packages, 0).unwrap();
        let expected = |arch: &str| {
            json!({
                "evra": format!("1:2.0-3.{arch}"), "digest": format!("sha256:{HEX}"),
                "metadata": {"location": "pool/x.deb", "repo": "debian", "source": "src"}
            })
        };
        assert_eq!(
            lock.to_json().to_string(),
            json!({
                "packages": {"a": expected("all"), "b": expected("amd64")},
                "metadata": {"generated": "1970-01-01T00:00:00Z"}
            })
            .to_string()
        );
        let read = Lock::parse("lock.json", &lock.to_json().to_string()).unwrap();
        let sha256 = Some(HEX.parse().unwrap());
        let of = |name: &str, arch: &str, origin: &str| Locked {
            arch: Some(arch.to_owned()),
            name: name.to_owned(),
            evr: "1:2.0-3".to_owned(),
            sha256,
            origin: origin.to_owned(),
        };
        assert_eq!(read.locked(), [of("a", "all", "lock.json:1:14"), of("b", "amd64", "lock.json:1:192")]);
        let other = read.for_other_arch();
        assert_eq!(other.locked()[0], Locked { sha256: None, arch: None, ..of("a", "", "lock.json:1:14") });
        let twice = Lock::of(&[package("a", "i386"), package("a", "amd64")], 0).unwrap_err();
        assert_eq!(twice.to_string(), "`a` is there for two architectures, which lockfiles cannot say");
    }
}
