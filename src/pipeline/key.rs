//! Cache keys: a digest over a stage's name, version, tools and every input by content.
//!
//! In a key: the bytes of files, values of options, the digests of earlier artifacts, the versions of the
//! host's programs that shape the output. Not in a key: modification times, absolute paths, the
//! environment, the number of threads, where the cache lies; none of them may change an output.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is not a SHA-256 digest (64 hexadecimal digits)")]
pub struct DigestParseError(String);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest from its 32 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits, for people.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestParseError;

    fn from_str(text: &str) -> Result<Self, DigestParseError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| DigestParseError(text.to_owned()))?;
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The digest of a file's bytes.
pub fn sha256_file(path: &Path) -> Result<Digest> {
    let mut file = crate::host::fs::open(path)?;
    let mut hashing = Hashing::new(io::sink());
    io::copy(&mut file, &mut hashing).with_context(|| format!("reading {}", path.display()))?;
    Ok(hashing.finish().0)
}

/// A writer or reader that hashes and counts what passes through it.
pub struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    /// Wraps a writer or reader.
    pub fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    /// The digest and number of bytes, and the wrapped writer or reader.
    pub fn finish(self) -> (Digest, u64, T) {
        (Digest(self.hash.finalize().into()), self.count, self.inner)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.count += count as u64;
        Ok(count)
    }
}

/// The input that names a stage and its version.
pub(super) const STAGE: &str = "nosa stage";
/// What the inputs begin with that are versions of programs.
pub(super) const PROGRAM: &str = "program ";

/// Collects a stage's inputs by name; the names are what `nosa why` shows.
#[derive(Debug, Default)]
pub struct KeyHasher {
    inputs: BTreeMap<String, String>,
}

impl KeyHasher {
    /// Adds an input. Names are unique within a stage: `packages`, `overlay.d/05core/usr/lib/x`, …
    ///
    /// # Panics
    /// When a stage gives two inputs one name, which is a mistake in that stage.
    pub fn input(&mut self, name: impl Into<String>, value: impl fmt::Display) {
        let name = name.into();
        let value = value.to_string();
        let previous = self.inputs.insert(name.clone(), value);
        assert!(previous.is_none(), "two inputs named {name}");
    }

    /// Adds an input that is a file: its permission bits and the digest of its bytes.
    pub fn file(&mut self, name: impl Into<String>, mode: u32, digest: Digest) {
        self.input(name, format_args!("{mode:o} {digest}"));
    }

    /// The digest over the inputs given so far.
    #[must_use]
    pub fn digest(self) -> Digest {
        self.finish().0
    }

    pub(super) fn finish(self) -> (Digest, BTreeMap<String, String>) {
        let mut hash = Sha256::new();
        for (name, value) in &self.inputs {
            for part in [name, value] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
        (Digest(hash.finalize().into()), self.inputs)
    }
}

/// Why a stage ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "changes")]
pub enum Reason {
    /// This workdir has never run it.
    First,
    /// Its output had been removed from the cache.
    Gone,
    /// `--force` was given.
    Forced,
    /// These inputs changed.
    Changed(Vec<Change>),
}

/// One input that changed between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The input's name.
    pub input: String,
    /// Its value before; `None` when it is new.
    pub old: Option<String>,
    /// Its value now; `None` when it is gone.
    pub new: Option<String>,
}

impl Reason {
    /// Compares the inputs of the last run with those of this one.
    #[must_use]
    pub fn compare(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Self {
        let changes = Change::between(old, new);
        if changes.is_empty() { Self::Gone } else { Self::Changed(changes) }
    }
}

impl Change {
    /// What differs between the inputs of two runs.
    #[must_use]
    pub fn between(old: &BTreeMap<String, String>, new: &BTreeMap<String, String>) -> Vec<Self> {
        let mut changes = Vec::new();
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            let (before, after) = (old.get(name), new.get(name));
            if before != after {
                changes.push(Self { input: name.clone(), old: before.cloned(), new: after.cloned() });
            }
        }
        changes
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first run"),
            Self::Gone => f.write_str("its output was no longer in the cache"),
            Self::Forced => f.write_str("forced"),
            Self::Changed(changes) => {
                if let Some(of_tools) = of_tools(changes) {
                    return f.write_str(&of_tools);
                }
                let names: Vec<&str> = changes.iter().map(|change| change.input.as_str()).collect();
                match names.as_slice() {
                    [] => f.write_str("unchanged"),
                    [first @ .., last] if names.len() <= 3 => {
                        first.iter().try_for_each(|name| write!(f, "{name}, "))?;
                        write!(f, "{last} changed")
                    }
                    [a, b, c, ..] => write!(f, "{a}, {b}, {c} and {} more changed", names.len() - 3),
                    _ => unreachable!("one and two names are covered above"),
                }
            }
        }
    }
}

/// What to say when no input changed but the programs that work on them.
fn of_tools(changes: &[Change]) -> Option<String> {
    let mut names = Vec::new();
    for change in changes {
        match change.input.strip_prefix(PROGRAM) {
            Some(name) => names.push(name),
            None if change.input == STAGE => {}
            None => return None,
        }
    }
    match names.as_slice() {
        [] if changes.is_empty() => None,
        [] => Some("nosa's own stage changed".to_owned()),
        names => Some(format!("the version of {} changed", names.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_names_and_values_and_not_on_where_they_meet() {
        let key = |pairs: &[(&str, &str)]| {
            let mut hasher = KeyHasher::default();
            pairs.iter().for_each(|(name, value)| hasher.input(*name, value));
            hasher.finish().0
        };
        assert_eq!(key(&[("a", "1"), ("b", "2")]), key(&[("b", "2"), ("a", "1")]));
        assert_ne!(key(&[("a", "12")]), key(&[("a1", "2")]));
        assert_ne!(key(&[("a", "1")]), key(&[("a", "2")]));
    }

    #[test]
    fn a_reason_names_what_changed() {
        let old = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "1".into())]);
        let new = BTreeMap::from([("a".into(), "2".into()), ("c".into(), "1".into())]);
        let reason = Reason::compare(&old, &new);
        assert_eq!(reason.to_string(), "a, b, c changed");
        assert_eq!(Reason::compare(&old, &old), Reason::Gone);
    }

    #[test]
    fn a_digest_reads_back() {
        let digest = Digest::of("x");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("xyz".parse::<Digest>().is_err());
    }
}
