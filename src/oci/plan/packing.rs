//! Units into layers.
//!
//! A machine downloads a layer whole when any of its units changed. If a unit changes with a probability in
//! proportion to its weight, a layer costs (sum of weights) × (sum of sizes) on average. Without a lock, the
//! units are cut into as many layers as there may be so that the sum of that is small: ordered by size per
//! weight, good layers are runs of neighbours, and dynamic programming finds the best of those. (With equal
//! weights no other grouping is better.) So large units end alone, small ones with others of their kind, and
//! never a small one with a large one.
//!
//! With a lock every unit stays where it was: the layers of what did not change keep their bytes. All new
//! units go into one new layer, or into the smallest one when there are as many as there may be.
//!
//! The weight is 1 + how often the unit changed in the builds before, as their plans recorded it: there is no
//! other history that is offline and honest. (ostree-ext takes the age of changelog entries, which Debian's
//! indexes lack and which says more of packaging than of change.)

use std::collections::{BTreeMap, BTreeSet};

use super::units::Unit;

/// What packing asks of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Item {
    /// About how large it is in a layer.
    pub(super) size: u64,
    /// About how often it changes.
    pub(super) weight: u64,
}

type Layers = Vec<BTreeSet<Unit>>;

/// One layer in so many stays free in a fresh plan, for units that come later.
const SPARE: usize = 10;

/// The units of each layer after the first; `max` counts the first too.
pub(super) fn pack(units: &BTreeMap<Unit, Item>, lock: &[BTreeSet<Unit>], max: usize) -> Layers {
    let room = max.saturating_sub(1);
    if room == 0 {
        return Vec::new();
    }
    let mut layers: Layers = lock
        .iter()
        .map(|layer| layer.iter().filter(|unit| units.contains_key(*unit)).cloned().collect())
        .filter(|layer: &BTreeSet<Unit>| !layer.is_empty())
        .collect();
    if layers.is_empty() { fresh(units, room) } else { add(&mut layers, units, room) }
}

fn fresh(units: &BTreeMap<Unit, Item>, room: usize) -> Layers {
    let (alone, others): (Vec<_>, Vec<_>) = units.iter().partition(|(unit, _)| unit.is_alone());
    // With hardly any room, even these share.
    if room <= alone.len() + 1 {
        return runs(units.iter().collect(), room);
    }
    let mut layers: Layers = alone.into_iter().map(|(unit, _)| BTreeSet::from([unit.clone()])).collect();
    let left = room - layers.len();
    layers.extend(runs(others, left - left / SPARE));
    layers
}

/// Puts what is new beside what stays.
fn add(layers: &mut Layers, units: &BTreeMap<Unit, Item>, room: usize) -> Layers {
    let known: BTreeSet<Unit> = layers.iter().flatten().cloned().collect();
    let new = units.keys().filter(|unit| !known.contains(*unit));
    let (alone, others): (BTreeSet<Unit>, BTreeSet<Unit>) = new.cloned().partition(Unit::is_alone);
    // Fewer layers are wanted than there were: the smallest go together, the others keep their bytes.
    while layers.len() > room {
        let Some(least) = smallest(layers, units) else { break };
        let group = layers.remove(least);
        join(layers, group, units);
    }
    let groups = alone.into_iter().map(|unit| BTreeSet::from([unit])).chain([others]);
    for group in groups.filter(|group| !group.is_empty()) {
        if layers.len() < room {
            layers.push(group);
        } else {
            join(layers, group, units);
        }
    }
    std::mem::take(layers)
}

/// Puts units into the smallest layer.
fn join(layers: &mut Layers, group: BTreeSet<Unit>, units: &BTreeMap<Unit, Item>) {
    if let Some(least) = smallest(layers, units) {
        layers[least].extend(group);
    }
}

/// The smallest layer; one whose unit would be alone only if there is no other.
fn smallest(layers: &Layers, units: &BTreeMap<Unit, Item>) -> Option<usize> {
    let size = |layer: &BTreeSet<Unit>| -> u64 {
        layer.iter().filter_map(|unit| units.get(unit)).map(|item| item.size).sum()
    };
    let shared = |layer: &BTreeSet<Unit>| layer.iter().any(Unit::is_alone);
    (0..layers.len()).min_by_key(|index| (shared(&layers[*index]), size(&layers[*index])))
}

/// Cuts units into at most `count` runs of the least cost, the largest units first.
fn runs(mut units: Vec<(&Unit, &Item)>, count: usize) -> Layers {
    let count = count.min(units.len());
    // Descending by size / weight, without dividing.
    units.sort_by(|(a, x), (b, y)| {
        let (left, right) = (product(y.size, x.weight), product(x.size, y.weight));
        left.cmp(&right).then_with(|| a.cmp(b))
    });
    let mut sums = vec![(0_u64, 0_u64)];
    for (_, item) in &units {
        let (size, weight) = sums[sums.len() - 1];
        sums.push((size + item.size, weight + item.weight));
    }
    let cost = |from: usize, to: usize| product(sums[to].0 - sums[from].0, sums[to].1 - sums[from].1);
    // least[n]: the least cost of the first n units in the layers so far; cuts[layer][n]: where the last begins.
    let mut least: Vec<Option<u128>> = vec![None; units.len() + 1];
    least[0] = Some(0);
    let mut cuts = Vec::new();
    for layer in 1..=count {
        let mut next = vec![None; units.len() + 1];
        let mut cut = vec![0; units.len() + 1];
        for end in layer..=units.len() {
            let choices = (layer - 1..end).filter_map(|from| Some((least[from]? + cost(from, end), from)));
            if let Some((sum, from)) = choices.min() {
                (next[end], cut[end]) = (Some(sum), from);
            }
        }
        least = next;
        cuts.push(cut);
    }
    let mut end = units.len();
    let mut layers: Layers = Vec::new();
    for cut in cuts.iter().rev() {
        layers.push(units[cut[end]..end].iter().map(|(unit, _)| (*unit).clone()).collect());
        end = cut[end];
    }
    layers.reverse();
    layers
}

fn product(a: u64, b: u64) -> u128 {
    u128::from(a) * u128::from(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str) -> Unit {
        name.parse().unwrap()
    }

    fn set(names: &[&str]) -> BTreeSet<Unit> {
        names.iter().map(|name| unit(name)).collect()
    }

    fn units(sizes: &[(&str, u64)]) -> BTreeMap<Unit, Item> {
        sizes.iter().map(|(name, size)| (unit(name), Item { size: *size, weight: 1 })).collect()
    }

    fn many(count: u64) -> BTreeMap<Unit, Item> {
        (0..count)
            .map(|n| (Unit::Source(format!("p{n:03}")), Item { size: 1000 + n * n * n, weight: 1 }))
            .collect()
    }

    #[test]
    fn large_units_are_alone_and_small_ones_with_their_kind() {
        let units = units(&[
            ("@initramfs", 40),
            ("@kernel", 90),
            ("big", 1000),
            ("half", 500),
            ("a", 10),
            ("b", 11),
            ("c", 100),
            ("d", 100),
        ]);
        let expected = ["@kernel", "@initramfs", "big", "half"].map(|name| set(&[name]));
        let mut expected = expected.to_vec();
        expected.extend([set(&["c", "d"]), set(&["a", "b"])]);
        assert_eq!(pack(&units, &[], 7), expected);
    }

    #[test]
    fn what_changes_often_is_kept_from_what_is_large() {
        let mut units = units(&[("calm", 900), ("large", 1000), ("restless", 800)]);
        assert_eq!(runs(units.iter().collect(), 2), [set(&["large"]), set(&["calm", "restless"])]);
        units.get_mut(&unit("restless")).unwrap().weight = 9;
        assert_eq!(runs(units.iter().collect(), 2), [set(&["calm", "large"]), set(&["restless"])]);
    }

    /// Against all groupings of a few units: with equal weights none is better, else none by much.
    #[test]
    fn no_other_grouping_costs_much_less() {
        let alike = [70, 9, 55, 8, 31, 30, 2].map(|size| (size, 1));
        for (items, most) in [
            (alike, 100),
            ([(70, 1), (9, 3), (55, 2), (8, 1), (31, 5), (30, 1), (2, 2)], 105),
            ([(1, 9), (100, 1), (90, 1), (80, 9), (5, 5), (50, 1), (45, 2)], 105),
        ] {
            check_all_groupings(&items.map(|(size, weight)| Item { size, weight }), most);
        }
    }

    fn check_all_groupings(items: &[Item; 7], most: u64) {
        let units: BTreeMap<Unit, Item> =
            items.iter().enumerate().map(|(n, item)| (Unit::Source(format!("{n}")), *item)).collect();
        let cost = |layers: &Layers| -> u64 {
            let sums = layers.iter().map(|layer| {
                let items = layer.iter().map(|unit| units[unit]);
                let (size, weight) = items.fold((0, 0), |sum, item| (sum.0 + item.size, sum.1 + item.weight));
                size * weight
            });
            sums.sum()
        };
        for count in 1..=4_usize {
            let all = (0..count.pow(7)).map(|number| {
                let mut layers = vec![BTreeSet::new(); count];
                for n in 0..7_u32 {
                    layers[number / count.pow(n) % count].insert(Unit::Source(format!("{n}")));
                }
                cost(&layers)
            });
            let (found, best) = (cost(&runs(units.iter().collect(), count)), all.min().unwrap());
            assert!(found * 100 <= best * most, "{found} for {count} layers, {best} is the best");
        }
    }

    #[test]
    fn every_unit_is_in_one_layer_and_there_is_room_left() {
        let units = many(300);
        for max in [2, 8, 20, 96] {
            let layers = pack(&units, &[], max);
            assert!(layers.len() < max, "{max}");
            let all: Vec<&Unit> = layers.iter().flatten().collect();
            assert_eq!(all.len(), 300);
            assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 300);
        }
        assert_eq!(pack(&units, &[], 1), Layers::new());
        assert!(pack(&units, &[], 96).len() <= 95 - 9);
    }

    #[test]
    fn a_locked_plan_moves_nothing() {
        let old = many(200);
        let lock = pack(&old, &[], 40);
        assert_eq!(pack(&old, &lock, 40), lock, "with nothing changed");
        // Sizes do not matter any more.
        let mut grown = old.clone();
        grown.values_mut().for_each(|item| item.size = 9_000_000 - item.size);
        assert_eq!(pack(&grown, &lock, 40), lock);
        // What is new is together in a layer of its own.
        let mut more = old.clone();
        for name in ["new-a", "new-b"] {
            more.insert(unit(name), Item { size: 5, weight: 1 });
        }
        let packed = pack(&more, &lock, 40);
        assert_eq!(packed[..lock.len()], lock[..]);
        assert_eq!(packed[lock.len()..], [set(&["new-a", "new-b"])]);
        // Unless there is no room: then one layer changes.
        let packed = pack(&more, &lock, lock.len() + 1);
        let changed: Vec<_> = packed.iter().zip(&lock).filter(|(new, old)| new != old).collect();
        assert_eq!((packed.len(), changed.len()), (lock.len(), 1));
        // What is gone leaves the rest where it is, and no empty layer.
        let mut fewer = old;
        fewer.retain(|unit, _| !lock[0].contains(unit));
        assert_eq!(pack(&fewer, &lock, 40), lock[1..]);
    }

    #[test]
    fn fewer_layers_than_the_lock_s_are_the_smallest_together() {
        let units = units(&[("@kernel", 1), ("a", 10), ("b", 30), ("c", 20), ("d", 40)]);
        let lock = ["@kernel", "a", "b", "c", "d"].map(|name| set(&[name]));
        let expected = ["@kernel", "b", "d"].map(|name| set(&[name]));
        let packed = pack(&units, &lock, 5);
        assert_eq!(packed.len(), 4);
        assert!(expected.iter().all(|layer| packed.contains(layer)) && packed.contains(&set(&["a", "c"])));
        assert_eq!(pack(&units, &lock, 3).len(), 2);
    }

    #[test]
    fn nothing_new_comes_to_the_kernel_while_there_is_another_place() {
        let old = units(&[("@kernel", 1), ("a", 100), ("b", 90)]);
        let lock = [set(&["@kernel"]), set(&["a"]), set(&["b"])];
        let mut more = old;
        more.insert(unit("c"), Item { size: 5, weight: 1 });
        assert_eq!(pack(&more, &lock, 4), [set(&["@kernel"]), set(&["a"]), set(&["b", "c"])]);
    }
}
