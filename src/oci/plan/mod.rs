//! Which files go into which layer, so that an update costs what changed. Pure: a plan can be tested,
//! recorded and compared without an image.
//!
//! ```text
//! files ──units──► units ──packing──► layers ──export──► record (oci-plan.json) ──cost──► what an update costs
//!         owners             ▲                                  │
//!                            └────────── the next build's lock ─┘
//! ```

mod cost;
mod packing;
mod record;
mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::pipeline::KeyHasher;

pub use cost::{Cause, ChangedLayer, UpdateCost};
pub use record::{BlobRecord, History, LayerRecord, PlanRecord, UnitRecord};
pub use units::{Component, Contents, Unit};

pub(super) use units::{TreeFile, UnitFiles, divide};

/// How many layers an image has at most, unless somebody says otherwise. overlayfs in podman and Docker takes
/// some 125; what people derive from the image needs its share.
pub const MAX_LAYERS: usize = 96;
/// Fewer make no sense: the kernel, the initramfs and the like have layers of their own.
pub const FEWEST_LAYERS: usize = 8;
/// More do not fit: a container's mount takes no more, and derived images need some.
pub const MOST_LAYERS: usize = 120;

/// Which files go into which layer. What no layer names goes into the first, with the commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerPlan {
    /// The layers after the first, in order.
    pub layers: Vec<PlannedLayer>,
}

/// One layer of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlannedLayer {
    /// What it holds, for the image's history.
    pub name: String,
    /// The units whose files it holds.
    pub units: BTreeMap<Unit, UnitRecord>,
    /// Its files, by their paths in the commit.
    pub files: BTreeSet<PathBuf>,
    /// About how large it is before compression: large layers are written first.
    pub size: u64,
}

/// What a plan depends on besides the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planning {
    /// How many layers there may be, the first included.
    pub max_layers: usize,
    /// The units of each layer of an earlier plan: they stay where they are.
    pub lock: Vec<BTreeSet<Unit>>,
    /// How often units changed so far; asked only where there is no lock.
    pub changes: BTreeMap<Unit, u64>,
}

impl Default for Planning {
    fn default() -> Self {
        Self { max_layers: MAX_LAYERS, lock: Vec::new(), changes: BTreeMap::new() }
    }
}

impl Planning {
    /// Adds all of it to a key.
    pub(super) fn key(&self, hash: &mut KeyHasher) {
        hash.input("max-layers", self.max_layers);
        let layer =
            |units: &BTreeSet<Unit>| -> Vec<String> { units.iter().map(ToString::to_string).collect() };
        for (index, units) in self.lock.iter().enumerate() {
            hash.input(format!("planned layer {index:03}"), layer(units).join(" "));
        }
        if self.lock.is_empty() {
            for (unit, count) in &self.changes {
                hash.input(format!("changes of {unit}"), count);
            }
        }
    }
}

impl LayerPlan {
    /// Everything in one layer.
    #[must_use]
    pub const fn single() -> Self {
        Self { layers: Vec::new() }
    }

    /// The plan of a tree's units.
    #[must_use]
    pub(super) fn of(mut units: BTreeMap<Unit, UnitFiles>, planning: &Planning) -> Self {
        let items = units.iter().map(|(unit, files)| {
            let changes = planning.changes.get(unit).copied().unwrap_or(0);
            (unit.clone(), packing::Item { size: files.size, weight: 1 + changes })
        });
        let packed = packing::pack(&items.collect(), &planning.lock, planning.max_layers);
        let mut layers = Vec::new();
        for members in packed {
            let mut layer = PlannedLayer { name: name(&members, &units), ..PlannedLayer::default() };
            for unit in members {
                let Some(files) = units.remove(&unit) else { continue };
                layer.units.insert(unit, files.record());
                layer.size += files.size;
                layer.files.extend(files.files.into_keys());
            }
            layers.push(layer);
        }
        Self { layers }
    }
}

/// What a layer is called: its largest unit, and how many others there are.
fn name(members: &BTreeSet<Unit>, units: &BTreeMap<Unit, UnitFiles>) -> String {
    let size = |unit: &Unit| units.get(unit).map_or(0, |files| files.size);
    let largest = members.iter().max_by_key(|unit| (size(unit), std::cmp::Reverse(*unit)));
    let largest = largest.map(ToString::to_string).unwrap_or_default();
    match members.len() {
        0 | 1 => largest,
        count => format!("{largest} and {} more", count - 1),
    }
}
