//! Two writers of one meta.json: coreos-assembler's rule for joining what they wrote.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};

/// When a meta.json was last written.
pub(super) const STAMP: &str = "coreos-assembler.meta-stamp";
const CONFIG_GIT: &str = "coreos-assembler.container-config-git";
/// Keys that tell that both speak of the same build.
const SAME: &[&str] = &["ostree-commit", "ostree-content-checksum", "coreos-assembler.image-config-checksum"];

/// Joins `mine` with what is on disk by now.
///
/// If nobody wrote in between, `mine` stands. Otherwise maps are joined, lists united, and the value of the
/// newer side stands. The result gets `now_nanos` as its stamp.
pub(super) fn merge_meta(disk: &Value, mine: &Value, now_nanos: u64) -> Result<Value> {
    same_build(disk, mine)?;
    let mut merged = match stamp(disk).total_cmp(&stamp(mine)) {
        std::cmp::Ordering::Equal => mine.clone(),
        std::cmp::Ordering::Greater => join(disk, mine),
        std::cmp::Ordering::Less => join(mine, disk),
    };
    if let Value::Object(map) = &mut merged {
        map.insert(STAMP.to_owned(), now_nanos.into());
    }
    Ok(merged)
}

/// Joins into `folded` what a part of meta.json says anew: `base` is meta.json when the folding began, which
/// the part's writer knew unless meta.json was written after it.
pub(super) fn fold(folded: &mut Value, base: &Value, part: &Value) -> Result<()> {
    same_build(base, part)?;
    if stamp(part) > stamp(base) {
        overlay(folded, base, part);
    } else {
        *folded = join(folded, part);
    }
    Ok(())
}

/// Puts into `value` what `after` has otherwise than `before`; nothing is taken away.
pub(super) fn overlay(value: &mut Value, before: &Value, after: &Value) {
    match (value, after) {
        (Value::Object(map), Value::Object(after)) => {
            for (key, new) in after {
                let old = before.get(key);
                if old == Some(new) {
                    continue;
                }
                match map.get_mut(key) {
                    Some(value) => overlay(value, old.unwrap_or(&Value::Null), new),
                    None => drop(map.insert(key.clone(), new.clone())),
                }
            }
        }
        (Value::Array(list), Value::Array(after)) if before.is_array() => {
            let new: Vec<Value> = after.iter().filter(|item| !list.contains(item)).cloned().collect();
            list.extend(new);
        }
        (value, after) => *value = after.clone(),
    }
}

/// Fails if an edit of a meta.json would make it another build's.
pub(super) fn keeps_identity(before: &Value, after: &Value) -> Result<()> {
    let git = format!("{CONFIG_GIT}.commit");
    let values = SAME.iter().map(|key| (*key, before.get(key), after.get(key)));
    let changed = values
        .chain([(git.as_str(), config_commit(before), config_commit(after))])
        .find(|(_, before, after)| before.is_some() && before != after);
    match changed {
        Some((key, _, _)) => Err(Failure::new(
            Kind::Usage,
            format!("`{key}` cannot be changed: it identifies the build"),
            "leave it out, or name the build that it belongs to: --build ID",
        )
        .into()),
        None => Ok(()),
    }
}

fn same_build(disk: &Value, mine: &Value) -> Result<()> {
    for key in SAME {
        same(key, disk.get(key), mine.get(key))?;
    }
    same(CONFIG_GIT, config_commit(disk), config_commit(mine))
}

fn config_commit(meta: &Value) -> Option<&Value> {
    meta.get(CONFIG_GIT).and_then(|git| git.get("commit"))
}

fn stamp(meta: &Value) -> f64 {
    meta.get(STAMP).and_then(Value::as_f64).unwrap_or(0.0)
}

/// Makes in `value` the changes that lead from `before` to `after`; what neither knows stays.
pub(super) fn apply_changes(value: &mut Value, before: &Value, after: &Value) {
    let (Value::Object(map), Value::Object(before), Value::Object(after)) = (&mut *value, before, after)
    else {
        *value = after.clone();
        return;
    };
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        map.shift_remove(key);
    }
    for (key, new) in after {
        match (map.get_mut(key), before.get(key)) {
            (_, Some(old)) if old == new => {}
            (Some(value), Some(old)) => apply_changes(value, old, new),
            _ => drop(map.insert(key.clone(), new.clone())),
        }
    }
}

fn same(key: &str, disk: Option<&Value>, mine: Option<&Value>) -> Result<()> {
    if disk.is_none() || disk == mine {
        return Ok(());
    }
    let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    Err(Failure::new(
        Kind::Artifact,
        format!("meta.json on disk belongs to another build: `{key}` is {}, not {}", show(disk), show(mine)),
        "remove the build's directory and build again",
    )
    .into())
}

/// Where both have a value that is neither a map nor a list, `first`'s stands.
fn join(first: &Value, second: &Value) -> Value {
    match (first, second) {
        (Value::Object(first), Value::Object(second)) => {
            let mut joined: Map<String, Value> = first.clone();
            for (key, value) in second {
                let value = match first.get(key) {
                    Some(known) => join(known, value),
                    None => value.clone(),
                };
                joined.insert(key.clone(), value);
            }
            Value::Object(joined)
        }
        (Value::Array(first), Value::Array(second)) => {
            let mut joined = first.clone();
            joined.extend(second.iter().filter(|item| !first.contains(item)).cloned());
            Value::Array(joined)
        }
        _ => first.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn without_another_writer_mine_stands_removals_included() {
        let disk = json!({"ostree-commit": "c", "a": 1, "b": 2, STAMP: 5});
        let mine = json!({"ostree-commit": "c", "a": 3, STAMP: 5});
        assert_eq!(merge_meta(&disk, &mine, 9).unwrap(), json!({"ostree-commit": "c", "a": 3, STAMP: 9}));
    }

    #[test]
    fn the_newer_side_stands_and_both_sides_artifacts_stay() {
        let older =
            json!({"images": {"qemu": 1, "metal": 1}, "tags": ["a", "b"], "summary": "old", STAMP: 5});
        let newer = json!({"images": {"qemu": 2, "iso": 2}, "tags": ["b", "c"], "summary": "new", STAMP: 6});
        let first = merge_meta(&newer, &older, 9).unwrap();
        let second = merge_meta(&older, &newer, 9).unwrap();
        for merged in [first, second] {
            assert_eq!(merged["images"], json!({"qemu": 2, "metal": 1, "iso": 2}));
            assert_eq!(merged["tags"], json!(["b", "c", "a"]));
            assert_eq!((&merged["summary"], &merged[STAMP]), (&json!("new"), &json!(9)));
        }
    }

    #[test]
    fn changes_leave_alone_what_they_do_not_name() {
        let mut value = json!({"a": 1, "b": {"x": 1, "unknown": 2}, "gone": 3, "unknown": 4});
        let before = json!({"a": 1, "b": {"x": 1}, "gone": 3});
        apply_changes(&mut value, &before, &json!({"a": 1, "b": {"x": 5, "y": 6}, "c": [7]}));
        let expected = json!({"a": 1, "b": {"x": 5, "unknown": 2, "y": 6}, "unknown": 4, "c": [7]});
        assert_eq!(value, expected);
    }

    #[test]
    fn parts_are_folded_without_losing_what_either_changed() {
        let base = json!({"ostree-commit": "c", "a": 1, "b": 1, "images": {"ostree": 1}, STAMP: 5});
        let part = |change: fn(&mut Value), stamp: u64| {
            let mut part = base.clone();
            change(&mut part);
            part[STAMP] = stamp.into();
            part
        };
        let first = part(|part| (part["a"], part["images"]["qemu"]) = (json!(2), json!(1)), 6);
        let second = part(|part| (part["b"], part["images"]["metal"]) = (json!(2), json!(1)), 7);
        let stale = part(|part| (part["a"], part["c"]) = (json!(9), json!(9)), 4);
        let mut folded = base.clone();
        for part in [&stale, &first, &second, &second] {
            fold(&mut folded, &base, part).unwrap();
        }
        assert_eq!(folded["images"], json!({"ostree": 1, "qemu": 1, "metal": 1}));
        assert_eq!((&folded["a"], &folded["b"], &folded["c"]), (&json!(2), &json!(2), &json!(9)));
        assert!(fold(&mut folded, &base, &json!({"ostree-commit": "d"})).is_err());
    }

    #[test]
    fn another_builds_meta_is_refused() {
        let cause = |disk: Value, mine: Value| merge_meta(&disk, &mine, 0).unwrap_err().to_string();
        assert_eq!(
            cause(json!({"ostree-commit": "a"}), json!({"ostree-commit": "b"})),
            "meta.json on disk belongs to another build: `ostree-commit` is \"a\", not \"b\""
        );
        assert_eq!(
            cause(json!({CONFIG_GIT: {"commit": "a"}}), json!({})),
            "meta.json on disk belongs to another build: `coreos-assembler.container-config-git` is \"a\", not \
             nothing"
        );
        assert!(merge_meta(&json!({}), &json!({"ostree-commit": "b"}), 0).is_ok());
    }
}
