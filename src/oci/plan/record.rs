//! `oci-plan.json`: what a build's image is made of, and the lock of the next build's plan.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::units::Unit;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::oci::Compression;
use crate::pipeline::Digest;

/// The form of the file that this nosa writes and reads.
const VERSION: u32 = 1;

/// A build's image as it was planned and written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PlanRecord {
    version: u32,
    /// How the layers are compressed.
    pub compression: Compression,
    /// The image's manifest.
    pub manifest: BlobRecord,
    /// The image's configuration.
    pub config: BlobRecord,
    /// The layers, in order; the first has no units.
    pub layers: Vec<LayerRecord>,
    /// How often units changed up to this build.
    #[serde(default)]
    pub history: History,
}

/// A blob of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlobRecord {
    /// Its digest.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LayerRecord {
    /// What it is called in the image's history.
    pub name: String,
    /// The digest of the blob.
    pub sha256: Digest,
    /// The digest of the layer before compression.
    pub diff_id: Digest,
    /// The size of the blob.
    pub size: u64,
    /// What it holds.
    pub units: BTreeMap<Unit, UnitRecord>,
}

/// A unit of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct UnitRecord {
    /// Identifies its files by path and content.
    pub content: Digest,
    /// Its packages and their versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub packages: BTreeMap<String, String>,
}

/// How often units changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct History {
    /// In how many builds that were compared with the one before.
    pub builds: u64,
    /// Those that changed at all.
    pub changes: BTreeMap<Unit, u64>,
}

impl PlanRecord {
    /// The record of an image.
    pub(in crate::oci) fn new(
        compression: Compression,
        manifest: BlobRecord,
        config: BlobRecord,
        layers: Vec<LayerRecord>,
    ) -> Self {
        Self { version: VERSION, compression, manifest, config, layers, history: History::default() }
    }

    /// Reads a record; `None` when there is no such file.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        fs::read_optional(path)?.map(|text| Self::parse(&path.display().to_string(), &text)).transpose()
    }

    /// Reads a record's text; messages call it `name`.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let wrong = |cause: String| {
            let cure = "take the oci-plan.json of a build, or plan afresh with --fresh-oci-plan";
            Failure::new(Kind::Artifact, format!("{name}: {cause}"), cure)
        };
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| wrong(format!("not JSON: {error}")))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) => {
                return Err(wrong(format!("version {version} is not one this nosa reads")).into());
            }
            None => return Err(wrong("it is no layer plan: it has no version".to_owned()).into()),
        }
        let record: Self = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
        let mut seen = BTreeSet::new();
        for unit in record.layers.iter().flat_map(|layer| layer.units.keys()) {
            if !seen.insert(unit) {
                return Err(wrong(format!("{unit} is in two layers")).into());
            }
        }
        Ok(record)
    }

    /// The record as it is written.
    pub fn to_text(&self) -> Result<String> {
        let mut text = serde_json::to_string_pretty(self).context("encoding a layer plan")?;
        text.push('\n');
        Ok(text)
    }

    /// The units of each layer after the first: what the next plan keeps.
    #[must_use]
    pub fn lock(&self) -> Vec<BTreeSet<Unit>> {
        let layers = self.layers.iter().filter(|layer| !layer.units.is_empty());
        layers.map(|layer| layer.units.keys().cloned().collect()).collect()
    }

    /// Takes over the history of the build before, and counts what changed since.
    pub fn follow(&mut self, before: &Self) {
        let (old, new) = (before.contents(), self.contents());
        let mut history = before.history.clone();
        history.builds += 1;
        for (unit, content) in new {
            if old.get(unit).is_some_and(|old| *old != content) {
                *history.changes.entry(unit.clone()).or_default() += 1;
            }
        }
        self.history = history;
    }

    fn contents(&self) -> BTreeMap<&Unit, Digest> {
        let units = self.layers.iter().flat_map(|layer| &layer.units);
        units.map(|(unit, record)| (unit, record.content)).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A record with a layer a word of units, each with its content: `a=1 b=1`.
    pub(in crate::oci::plan) fn record(commit: &str, layers: &[&str]) -> PlanRecord {
        let blob = |text: &str| BlobRecord { sha256: Digest::of(text), size: 100 };
        let layer = |text: &str| {
            let units = text.split(' ').filter_map(|word| word.split_once('=')).map(|(unit, content)| {
                let packages = BTreeMap::from([(format!("lib{unit}"), content.to_owned())]);
                (unit.parse().unwrap(), UnitRecord { content: Digest::of(content), packages })
            });
            let digest = Digest::of(text);
            let size = 1000 * text.len() as u64;
            LayerRecord {
                name: text.to_owned(),
                sha256: digest,
                diff_id: digest,
                size,
                units: units.collect(),
            }
        };
        let layers = std::iter::once(commit).chain(layers.iter().copied()).map(layer).collect();
        PlanRecord::new(Compression::Gzip, blob(commit), blob(commit), layers)
    }

    #[test]
    fn a_record_reads_back() {
        let first = record("one", &["a=1", "b=1 c=1"]);
        let text = first.to_text().unwrap();
        assert_eq!(PlanRecord::parse("x", &text).unwrap(), first);
        let names = |lock: Vec<BTreeSet<Unit>>| -> Vec<Vec<String>> {
            lock.iter().map(|layer| layer.iter().map(ToString::to_string).collect()).collect()
        };
        assert_eq!(names(first.lock()), [vec!["a"], vec!["b", "c"]]);
    }

    #[test]
    fn what_is_no_plan_is_told() {
        let twice = record("one", &["a=1", "b=1 a=2"]).to_text().unwrap();
        let good = record("one", &["a=1"]).to_text().unwrap();
        for (text, words) in [
            ("", "x: not JSON"),
            ("{}", "x: it is no layer plan"),
            (r#"{"version": 9}"#, "x: version 9 is not one this nosa reads"),
            (r#"{"version": 1}"#, "x: missing field"),
            (&good.replace("\"a\"", "\"@a\""), "x: \"@a\" is no unit of a layer plan"),
            (&twice, "x: a is in two layers"),
        ] {
            let error = PlanRecord::parse("x", text).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }

    #[test]
    fn changes_are_counted() {
        let first = record("one", &["a=1", "b=1 c=1"]);
        let mut second = record("two", &["a=2", "b=1 c=1", "new=1"]);
        second.follow(&first);
        let mut third = record("three", &["a=3", "b=1 c=2", "new=1"]);
        third.follow(&second);
        let counts: Vec<(String, u64)> =
            third.history.changes.iter().map(|(unit, count)| (unit.to_string(), *count)).collect();
        assert_eq!(counts, [("a".to_owned(), 2), ("c".to_owned(), 1)]);
        assert_eq!(third.history.builds, 2);
    }
}
