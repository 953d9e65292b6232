//! What a machine downloads that has one image and updates to another: the manifest, and every blob that the
//! old image lacks, each once. This is what skopeo and podman transfer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::record::{LayerRecord, PlanRecord, UnitRecord};
use super::units::Unit;
use crate::pipeline::Digest;

/// What an update costs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct UpdateCost {
    /// All bytes.
    pub total: u64,
    /// Those of the manifest and the configuration.
    pub documents: u64,
    /// The layers that the old image lacks, the largest first.
    pub layers: Vec<ChangedLayer>,
}

/// A layer that the old image lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ChangedLayer {
    /// What it is called.
    pub name: String,
    /// The digest of the blob.
    pub sha256: Digest,
    /// The size of the blob.
    pub size: u64,
    /// Why it is new.
    pub causes: Vec<Cause>,
}

/// Why a layer is new.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Cause {
    /// It holds the commit, the directories and what else follows from the whole system.
    Metadata,
    /// A package came, went, or changed.
    Package {
        /// Its name.
        name: String,
        /// Its version before; `None` when it is new.
        from: Option<String>,
        /// Its version now; `None` when it is gone.
        to: Option<String>,
    },
    /// Another unit changed: `@initramfs`, `@configuration`.
    Unit {
        /// Which.
        name: Unit,
    },
    /// It holds what it held, but with other neighbours, or compressed in another way.
    Arrangement,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata => f.write_str("metadata"),
            Self::Package { name, from: Some(from), to: Some(to) } if from == to => {
                write!(f, "{name} {to}, other files")
            }
            Self::Package { name, from: Some(from), to: Some(to) } => write!(f, "{name} {from} -> {to}"),
            Self::Package { name, from: None, to } => {
                write!(f, "new {name} {}", to.as_deref().unwrap_or_default())
            }
            Self::Package { name, to: None, .. } => write!(f, "without {name}"),
            Self::Unit { name } => f.write_str(name.to_string().trim_start_matches('@')),
            Self::Arrangement => f.write_str("arranged anew"),
        }
    }
}

impl UpdateCost {
    /// What a machine with the image `old` downloads to have `new`.
    #[must_use]
    pub fn between(old: &PlanRecord, new: &PlanRecord) -> Self {
        let mut there: BTreeSet<Digest> = old.layers.iter().map(|layer| layer.sha256).collect();
        let before: BTreeMap<&Unit, (&LayerRecord, &UnitRecord)> = old
            .layers
            .iter()
            .flat_map(|layer| layer.units.iter().map(move |(unit, record)| (unit, (layer, record))))
            .collect();
        let kept: BTreeSet<&Unit> = new.layers.iter().flat_map(|layer| layer.units.keys()).collect();
        let mut layers = Vec::new();
        for layer in &new.layers {
            if there.insert(layer.sha256) {
                let causes = causes(layer, &before, &kept);
                let (name, sha256, size) = (layer.name.clone(), layer.sha256, layer.size);
                layers.push(ChangedLayer { name, sha256, size, causes });
            }
        }
        layers.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.name.cmp(&b.name)));
        let config = if new.config == old.config { 0 } else { new.config.size };
        let documents = new.manifest.size + config;
        let total = documents + layers.iter().map(|layer| layer.size).sum::<u64>();
        Self { total, documents, layers }
    }
}

impl ChangedLayer {
    /// Why it is new, in a line; at most three causes are named.
    #[must_use]
    pub fn why(&self) -> String {
        const NAMED: usize = 3;
        let mut words: Vec<String> = self.causes.iter().take(NAMED).map(ToString::to_string).collect();
        if self.causes.len() > NAMED {
            words.push(format!("{} more", self.causes.len() - NAMED));
        }
        words.join(", ")
    }
}

fn causes(
    layer: &LayerRecord,
    before: &BTreeMap<&Unit, (&LayerRecord, &UnitRecord)>,
    kept: &BTreeSet<&Unit>,
) -> Vec<Cause> {
    if layer.units.is_empty() {
        return vec![Cause::Metadata];
    }
    let mut causes = Vec::new();
    for (unit, record) in &layer.units {
        let old = before.get(unit).map(|(_, old)| *old);
        if old.is_none_or(|old| old.content != record.content) {
            changed(unit, old, Some(record), &mut causes);
        }
    }
    // What left the layers that these units were in.
    let homes: BTreeSet<&str> =
        layer.units.keys().filter_map(|unit| Some(before.get(unit)?.0.name.as_str())).collect();
    for (unit, (home, old)) in before {
        if homes.contains(home.name.as_str()) && !kept.contains(unit) {
            changed(unit, Some(old), None, &mut causes);
        }
    }
    if causes.is_empty() {
        causes.push(Cause::Arrangement);
    }
    causes
}

/// Says what changed in a unit: its packages if their versions tell, else itself.
fn changed(unit: &Unit, old: Option<&UnitRecord>, new: Option<&UnitRecord>, causes: &mut Vec<Cause>) {
    if !matches!(unit, Unit::Source(_) | Unit::Kernel) {
        return causes.push(Cause::Unit { name: unit.clone() });
    }
    let version = |record: Option<&UnitRecord>, name: &str| record?.packages.get(name).cloned();
    let names: BTreeSet<&String> =
        [old, new].into_iter().flatten().flat_map(|record| record.packages.keys()).collect();
    let moves: Vec<Cause> = names
        .into_iter()
        .map(|name| Cause::Package { name: name.clone(), from: version(old, name), to: version(new, name) })
        .collect();
    let tells = |cause: &Cause| matches!(cause, Cause::Package { from, to, .. } if from != to);
    // With every version as it was, each of the packages may be the one: a locally rebuilt one, say.
    let any = moves.iter().any(tells);
    causes.extend(moves.into_iter().filter(|cause| !any || tells(cause)));
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;

    fn told(old: &[&str], new: &[&str]) -> Vec<String> {
        let cost = UpdateCost::between(&record("one", old), &record("two", new));
        assert_eq!(cost.documents, 200);
        assert_eq!(cost.total, 200 + cost.layers.iter().map(|layer| layer.size).sum::<u64>());
        cost.layers.iter().map(ChangedLayer::why).collect()
    }

    #[test]
    fn every_new_layer_has_its_causes() {
        let old = &["@kernel=1", "@initramfs=1", "a=1 b=1 c=1", "d=1"];
        let cases: &[(&[&str], &[&str])] = &[
            (old, &["metadata"]),
            (&["@kernel=1", "@initramfs=1", "a=1 b=2 c=1", "d=1"], &["libb 1 -> 2", "metadata"]),
            (&["@kernel=1", "@initramfs=2", "a=1 b=1 c=1", "d=1"], &["initramfs", "metadata"]),
            (&["@kernel=2", "@initramfs=1", "a=1 b=1 c=1", "d=1"], &["lib@kernel 1 -> 2", "metadata"]),
            (&["@kernel=1", "@initramfs=1", "a=1 c=1", "d=1"], &["without libb", "metadata"]),
            (&["@kernel=1", "@initramfs=1", "a=1 b=1 c=1", "d=1", "e=7"], &["new libe 7", "metadata"]),
            (
                &["@kernel=1", "@initramfs=1", "a=1 b=1", "c=1 d=1"],
                &["arranged anew", "arranged anew", "metadata"],
            ),
            (
                &["@kernel=1", "@initramfs=1", "a=2 b=2 c=2 d=2"],
                &["liba 1 -> 2, libb 1 -> 2, libc 1 -> 2, 1 more", "metadata"],
            ),
        ];
        for (new, expected) in cases {
            assert_eq!(told(old, new), *expected, "{new:?}");
        }
    }

    #[test]
    fn the_same_image_costs_its_manifest() {
        let one = record("one", &["a=1"]);
        let cost = UpdateCost::between(&one, &one);
        assert_eq!((cost.total, cost.layers.len()), (one.manifest.size, 0));
    }
}
