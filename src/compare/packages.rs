//! Packages of two builds, from their commitmeta.json.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde::Serialize;

use super::version::{self, Rules};
use crate::builds::{Build, CommitMeta, PackageRow};

/// What happened to a package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PackageMove {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its version is newer.
    Upgraded,
    /// Its version is older.
    Downgraded,
}

/// A package that is not the same in both builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// What happened to it.
    pub change: PackageMove,
    /// Its version before.
    pub from: Option<String>,
    /// Its version now.
    pub to: Option<String>,
}

type Key = (String, String);

pub(super) fn compare(from: &Build, to: &Build) -> Result<Vec<PackageChange>> {
    Ok(changes(&from.commit_meta()?, &to.commit_meta()?))
}

fn changes(from: &CommitMeta, to: &CommitMeta) -> Vec<PackageChange> {
    // An imported system may not say which packages it has: that is no news of any of them.
    if from.packages.is_empty() || to.packages.is_empty() {
        return Vec::new();
    }
    let all = || from.packages.iter().chain(&to.packages);
    let rules =
        if all().any(|row| row[4] == "noarch" || row[4] == "x86_64") { Rules::Rpm } else { Rules::Deb };
    let (from, to) = (by_name(from), by_name(to));
    let keys: BTreeSet<&Key> = from.keys().chain(to.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let (old, new) = (from.get(key), to.get(key));
        let (old, new): (Rows<'_>, Rows<'_>) = (
            old.into_iter()
                .flatten()
                .filter(|row| !new.is_some_and(|new| new.contains(row)))
                .copied()
                .collect(),
            new.into_iter()
                .flatten()
                .filter(|row| !old.is_some_and(|old| old.contains(row)))
                .copied()
                .collect(),
        );
        // Several versions of one package may be installed side by side: pair them in order.
        for index in 0..old.len().max(new.len()) {
            let (old, new) = (old.get(index), new.get(index));
            let change = match (old, new) {
                (Some(old), Some(new)) => match version::compare(rules, evr(old), evr(new)) {
                    Ordering::Greater => PackageMove::Downgraded,
                    _ => PackageMove::Upgraded,
                },
                (None, _) => PackageMove::Added,
                (_, None) => PackageMove::Removed,
            };
            let (name, arch) = key.clone();
            let text = |row: Option<&&PackageRow>| row.map(|row| show(row));
            changes.push(PackageChange { name, arch, change, from: text(old), to: text(new) });
        }
    }
    changes
}

type Rows<'a> = Vec<&'a PackageRow>;

fn by_name(commit: &CommitMeta) -> BTreeMap<Key, Rows<'_>> {
    let mut map: BTreeMap<Key, Rows<'_>> = BTreeMap::new();
    for row in &commit.packages {
        map.entry((row[0].clone(), row[4].clone())).or_default().push(row);
    }
    map
}

fn evr(row: &PackageRow) -> [&str; 3] {
    [&row[1], &row[2], &row[3]]
}

/// `EPOCH:VERSION-RELEASE`, without what is empty or zero.
fn show(row: &PackageRow) -> String {
    let [_, epoch, version, release, _] = row;
    let epoch = if epoch.is_empty() || epoch == "0" { String::new() } else { format!("{epoch}:") };
    let release = if release.is_empty() { String::new() } else { format!("-{release}") };
    format!("{epoch}{version}{release}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_change() {
        let commit = |rows: &[[&str; 5]]| CommitMeta {
            packages: rows.iter().map(|row| row.map(str::to_owned)).collect(),
            ..CommitMeta::default()
        };
        let from = commit(&[
            ["bash", "0", "5.2", "1", "amd64"],
            ["gone", "1", "2", "", "all"],
            ["older", "0", "1.10", "1", "amd64"],
            ["same", "0", "1", "1", "amd64"],
        ]);
        let to = commit(&[
            ["bash", "0", "5.10", "1", "amd64"],
            ["new", "0", "1", "1", "amd64"],
            ["older", "0", "1.9", "1", "amd64"],
            ["same", "0", "1", "1", "amd64"],
        ]);
        let told: Vec<String> = changes(&from, &to)
            .iter()
            .map(|change| format!("{} {:?} {:?} {:?}", change.name, change.change, change.from, change.to))
            .collect();
        assert_eq!(
            told,
            [
                r#"bash Upgraded Some("5.2-1") Some("5.10-1")"#,
                r#"gone Removed Some("1:2") None"#,
                r#"new Added None Some("1-1")"#,
                r#"older Downgraded Some("1.10-1") Some("1.9-1")"#,
            ]
        );
    }
}
