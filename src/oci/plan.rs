//! Which objects go into which layer: pure, so that a plan can be tested and compared without an image.

use std::collections::{BTreeMap, BTreeSet};

use crate::ostree::Checksum;

/// Which file objects go into which layer. What no layer names goes into the first, with the commit.
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
    /// The packages whose files it holds.
    pub components: Vec<String>,
    /// Its file objects.
    pub objects: BTreeSet<Checksum>,
}

impl LayerPlan {
    /// Everything in one layer.
    #[must_use]
    pub const fn single() -> Self {
        Self { layers: Vec::new() }
    }

    /// At most `layers` layers of about the same size, so that they are made side by side. It does not care
    /// which objects change together.
    #[must_use]
    pub fn by_size(sizes: &BTreeMap<Checksum, u64>, layers: usize) -> Self {
        let others = layers.saturating_sub(1);
        let mut objects: Vec<(u64, Checksum)> = sizes.iter().map(|(sum, size)| (*size, *sum)).collect();
        objects.sort_unstable_by(|a, b| b.cmp(a));
        // The first layer is not named in the plan, but takes its share.
        let mut filled = vec![0_u64; others + 1];
        let mut plan = vec![BTreeSet::new(); others + 1];
        for (size, checksum) in objects {
            let lightest = (0..filled.len()).min_by_key(|at| (filled[*at], *at)).unwrap_or(0);
            filled[lightest] += size + 2048;
            plan[lightest].insert(checksum);
        }
        let layer = |(index, objects): (usize, BTreeSet<Checksum>)| PlannedLayer {
            name: format!("part {} of {}", index + 1, others + 1),
            components: Vec::new(),
            objects,
        };
        let parts = plan.into_iter().enumerate().skip(1);
        Self { layers: parts.filter(|(_, objects)| !objects.is_empty()).map(layer).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_even_disjoint_and_always_the_same() {
        let sizes: BTreeMap<Checksum, u64> =
            (0..100_u64).map(|n| (Checksum::of(&n.to_le_bytes()), n * 10_000)).collect();
        let plan = LayerPlan::by_size(&sizes, 4);
        assert_eq!(plan, LayerPlan::by_size(&sizes, 4));
        assert_eq!(plan.layers.len(), 3);
        let total: u64 = sizes.values().sum();
        let mut seen = BTreeSet::new();
        for layer in &plan.layers {
            let size: u64 = layer.objects.iter().map(|object| sizes[object]).sum();
            assert!(size.abs_diff(total / 4) < total / 50, "{size} of {total}");
            assert!(layer.objects.iter().all(|object| seen.insert(*object)));
        }
        assert_eq!(LayerPlan::by_size(&sizes, 1), LayerPlan::single());
        assert_eq!(LayerPlan::by_size(&BTreeMap::new(), 9), LayerPlan::single());
    }
}
