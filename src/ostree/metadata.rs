//! A commit's metadata: an ordered map from keys to typed values (`a{sv}`), and its JSON form
//! (`commitmeta.json`). Numbers are big-endian in the commit, as libostree's and rpm-ostree's own are.

use anyhow::{Context as _, Result, ensure};

use super::gvariant::{self, Layout};
use crate::failure::{Failure, Kind};

/// Metadata nested deeper than this is refused.
const DEEPEST: usize = 32;

/// Keys and values, in the order in which they were set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

/// One installed package as `rpmostree.rpmdb.pkglist` lists it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackageEntry {
    /// Its name.
    pub name: String,
    /// Its epoch, 0 when it has none.
    pub epoch: u64,
    /// Its upstream version.
    pub version: String,
    /// Its release (Debian: revision).
    pub release: String,
    /// Its architecture.
    pub arch: String,
}

/// A value of a type that commits carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `s`
    String(String),
    /// `t`
    U64(u64),
    /// `x`
    I64(i64),
    /// `as`
    Strings(Vec<String>),
    /// `av`
    List(Vec<Self>),
    /// `a{sv}`
    Map(Metadata),
    /// `a(sssss)`: the package list, with the epoch as text, as rpm-ostree writes it.
    Packages(Vec<PackageEntry>),
    /// Anything else, kept as it is.
    Other {
        /// Its type.
        signature: String,
        /// Its encoding.
        bytes: Vec<u8>,
    },
}

impl Metadata {
    /// Empty metadata.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Sets a key, replacing the value it had.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(known, _)| known == key).map(|(_, value)| value)
    }

    /// The value of a key that holds a string.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The metadata as `commitmeta.json` shows it.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        self.entries.iter().map(|(key, value)| (key.clone(), value.to_json())).collect()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let entry = |(key, value): &(String, Value)| {
            gvariant::tuple(&[
                (Layout::BYTES, &gvariant::string(key)),
                (Layout::EIGHT, &value.encode_variant()),
            ])
        };
        gvariant::array(Layout::EIGHT, self.entries.iter().map(entry))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_at(bytes, 0)
    }

    fn decode_at(bytes: &[u8], depth: usize) -> Result<Self> {
        ensure!(depth < DEEPEST, "metadata is nested deeper than {DEEPEST} levels");
        let mut entries = Vec::new();
        for entry in gvariant::split_array(bytes, Layout::EIGHT)? {
            let [key, value] = gvariant::split_tuple(entry, [Layout::BYTES, Layout::EIGHT])?;
            let key = gvariant::read_string(key)?.to_owned();
            let value = Value::decode_variant(value, depth).with_context(|| format!("reading {key:?}"))?;
            entries.push((key, value));
        }
        Ok(Self { entries })
    }
}

impl Value {
    /// The value that a configuration gives as JSON (or YAML): strings, booleans, whole numbers, and lists
    /// and maps of those.
    pub fn from_json(json: &serde_json::Value) -> Result<Self, Failure> {
        use serde_json::Value as Json;
        let whole = |number: &serde_json::Number| number.as_i64();
        match json {
            Json::String(text) => Ok(Self::String(text.clone())),
            Json::Bool(truth) => Ok(Self::Bool(*truth)),
            Json::Number(number) if whole(number).is_some() => Ok(Self::I64(whole(number).unwrap_or(0))),
            Json::Array(list) => match list.iter().map(|item| item.as_str().map(str::to_owned)).collect() {
                Some(strings) => Ok(Self::Strings(strings)),
                None => Ok(Self::List(list.iter().map(Self::from_json).collect::<Result<_, _>>()?)),
            },
            Json::Object(map) => {
                let mut metadata = Metadata::new();
                for (key, value) in map {
                    metadata.set(key, Self::from_json(value)?);
                }
                Ok(Self::Map(metadata))
            }
            Json::Null | Json::Number(_) => Err(Failure::new(
                Kind::Config,
                format!("commit metadata cannot hold {json}"),
                "give a string, a whole number, true or false, or a list or map of those",
            )),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Bool(truth) => (*truth).into(),
            Self::String(text) => text.as_str().into(),
            Self::U64(number) => (*number).into(),
            Self::I64(number) => (*number).into(),
            Self::Strings(list) => list.as_slice().into(),
            Self::List(list) => list.iter().map(Self::to_json).collect(),
            Self::Map(metadata) => metadata.to_json(),
            Self::Packages(list) => list
                .iter()
                .map(|entry| {
                    let PackageEntry { name, epoch, version, release, arch } = entry;
                    serde_json::json!([name, epoch.to_string(), version, release, arch])
                })
                .collect(),
            Self::Other { bytes, .. } => hex::encode(bytes).into(),
        }
    }

    fn encode_variant(&self) -> Vec<u8> {
        let strings =
            |list: &[String]| gvariant::array(Layout::BYTES, list.iter().map(|text| gvariant::string(text)));
        match self {
            Self::Bool(truth) => gvariant::variant(vec![u8::from(*truth)], "b"),
            Self::String(text) => gvariant::variant(gvariant::string(text), "s"),
            Self::U64(number) => gvariant::variant(number.to_be_bytes().to_vec(), "t"),
            Self::I64(number) => gvariant::variant(number.to_be_bytes().to_vec(), "x"),
            Self::Strings(list) => gvariant::variant(strings(list), "as"),
            Self::List(list) => {
                gvariant::variant(gvariant::array(Layout::EIGHT, list.iter().map(Self::encode_variant)), "av")
            }
            Self::Map(metadata) => gvariant::variant(metadata.encode(), "a{sv}"),
            Self::Packages(list) => gvariant::variant(
                gvariant::array(Layout::BYTES, list.iter().map(PackageEntry::encode)),
                "a(sssss)",
            ),
            Self::Other { signature, bytes } => gvariant::variant(bytes.clone(), signature),
        }
    }

    fn decode_variant(bytes: &[u8], depth: usize) -> Result<Self> {
        let (bytes, signature) = gvariant::split_variant(bytes)?;
        Ok(match signature {
            "b" => {
                ensure!(matches!(bytes, [0 | 1]), "a boolean is neither 0 nor 1");
                Self::Bool(bytes == [1])
            }
            "s" => Self::String(gvariant::read_string(bytes)?.to_owned()),
            "t" => Self::U64(gvariant::read_u64(bytes)?),
            "x" => Self::I64(gvariant::read_u64(bytes)?.cast_signed()),
            "as" => Self::Strings(
                gvariant::split_array(bytes, Layout::BYTES)?
                    .into_iter()
                    .map(|text| Ok(gvariant::read_string(text)?.to_owned()))
                    .collect::<Result<_>>()?,
            ),
            "av" => {
                ensure!(depth < DEEPEST, "metadata is nested deeper than {DEEPEST} levels");
                Self::List(
                    gvariant::split_array(bytes, Layout::EIGHT)?
                        .into_iter()
                        .map(|value| Self::decode_variant(value, depth + 1))
                        .collect::<Result<_>>()?,
                )
            }
            "a{sv}" => Self::Map(Metadata::decode_at(bytes, depth + 1)?),
            "a(sssss)" => Self::Packages(
                gvariant::split_array(bytes, Layout::BYTES)?
                    .into_iter()
                    .map(PackageEntry::decode)
                    .collect::<Result<_>>()?,
            ),
            _ => Self::Other { signature: signature.to_owned(), bytes: bytes.to_vec() },
        })
    }
}

impl PackageEntry {
    fn encode(&self) -> Vec<u8> {
        gvariant::tuple(&[
            (Layout::BYTES, &gvariant::string(&self.name)),
            (Layout::BYTES, &gvariant::string(&self.epoch.to_string())),
            (Layout::BYTES, &gvariant::string(&self.version)),
            (Layout::BYTES, &gvariant::string(&self.release)),
            (Layout::BYTES, &gvariant::string(&self.arch)),
        ])
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let [name, epoch, version, release, arch] = gvariant::split_tuple(bytes, [Layout::BYTES; 5])?;
        let text = |bytes| -> Result<String> { Ok(gvariant::read_string(bytes)?.to_owned()) };
        Ok(Self {
            name: text(name)?,
            epoch: gvariant::read_string(epoch)?.parse().context("reading a package's epoch")?,
            version: text(version)?,
            release: text(release)?,
            arch: text(arch)?,
        })
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::U64(number)
    }
}

impl From<Vec<String>> for Value {
    fn from(list: Vec<String>) -> Self {
        Self::Strings(list)
    }
}

impl From<Vec<PackageEntry>> for Value {
    fn from(list: Vec<PackageEntry>) -> Self {
        Self::Packages(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Metadata {
        let mut inner = Metadata::new();
        inner.set("deep", Value::List(vec![Value::I64(-1), "x".into(), Value::Map(Metadata::new())]));
        let mut metadata = Metadata::new();
        metadata.set("version", "1.0");
        metadata.set("ostree.bootable", true);
        metadata.set("ostree.size", 5_u64);
        metadata.set("refs", vec!["a".to_owned(), String::new()]);
        metadata.set(
            "rpmostree.rpmdb.pkglist",
            vec![PackageEntry {
                name: "bash".into(),
                epoch: 1,
                version: "5".into(),
                release: "2".into(),
                arch: "amd64".into(),
            }],
        );
        metadata.set("map", Value::Map(inner));
        metadata.set("other", Value::Other { signature: "(ii)".into(), bytes: vec![0; 8] });
        metadata
    }

    #[test]
    fn metadata_reads_back() {
        let metadata = every_kind();
        assert_eq!(Metadata::decode(&metadata.encode()).unwrap(), metadata);
        assert_eq!(Metadata::decode(&[]).unwrap(), Metadata::new());
    }

    #[test]
    fn json_has_the_shapes_that_its_readers_index() {
        let json = every_kind().to_json();
        assert_eq!(json["rpmostree.rpmdb.pkglist"], serde_json::json!([["bash", "1", "5", "2", "amd64"]]));
        assert_eq!((&json["ostree.bootable"], &json["ostree.size"]), (&true.into(), &5.into()));
    }

    #[test]
    fn configured_values_that_have_no_type_are_refused() {
        assert!(Value::from_json(&serde_json::json!({"a": [1, "b", {"c": [true]}]})).is_ok());
        let failure = Value::from_json(&serde_json::json!(["x", 1.5])).unwrap_err();
        assert_eq!(failure.cause, "commit metadata cannot hold 1.5");
    }

    #[test]
    fn bottomless_metadata_is_refused() {
        let mut metadata = Metadata::new();
        for _ in 0..40 {
            let mut outer = Metadata::new();
            outer.set("x", Value::Map(metadata));
            metadata = outer;
        }
        assert!(Metadata::decode(&metadata.encode()).is_err());
    }
}
