//! One treefile: its keys known, its values of the right shape, each with its place; and merging two.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Variables, substitute};
use super::keys::{self, ARCHITECTURES, KEYS, Rule, Shape, Support};
use super::notes::Notes;
use super::shapes::check;
use crate::document::{Entry, Map, Node, Value, nearest};
use crate::failure::Failure;

/// The values of one treefile, or of several merged, by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Treefile {
    /// The values; never null.
    pub(super) values: BTreeMap<&'static str, Node>,
}

impl Treefile {
    /// Checks a parsed file; what is wrong with an entry is noted, and the entry left out.
    ///
    /// Unknown keys fail in YAML and are warned of in JSON, where they have always served as comments.
    pub(super) fn new(root: &Node, basearch: &str, notes: &mut Notes) -> Self {
        let mut this = Self::default();
        if root.is_null() {
            return this;
        }
        let Value::Map(map) = &root.value else {
            notes.problems.push(root.position.failure(
                format_args!("a treefile is a map of keys, found {}", root.found()),
                "write `key: value` lines",
            ));
            return this;
        };
        for entry in &map.entries {
            let taken = this.entry(entry, basearch, &mut notes.warnings);
            notes.take(taken);
        }
        if let Some(more) = this.values.remove("bootstrap-packages") {
            this.add_packages(more);
        }
        this
    }

    fn entry(&mut self, entry: &Entry, basearch: &str, warnings: &mut Vec<String>) -> Result<(), Failure> {
        let Entry { key: name, position, value } = entry;
        let Some(key) = keys::find(name) else {
            if let Some(arch) = name.strip_prefix("packages-") {
                return self.packages_of(arch, entry, basearch);
            }
            if position.file.ends_with(".json") {
                warnings.push(format!("{position}: `{name}` is ignored: it is not a key of treefiles"));
                return Ok(());
            }
            return Err(unknown(entry));
        };
        if value.is_null() {
            return Ok(());
        }
        match key.support {
            Support::Full => check(key.name, key.shape, value)?,
            Support::Ignored(what) => {
                warnings.push(format!("{position}: `{name}` is ignored: {what}"));
                return Ok(());
            }
            Support::Only(accepted, cure) => {
                if value.to_json().to_string().trim_matches('"') != accepted {
                    return Err(value
                        .position
                        .failure(format_args!("`{name}` is not supported with {}", value.found()), cure));
                }
                return Ok(());
            }
            Support::Refused(cure) => {
                return Err(position.failure(format_args!("`{name}` is not supported"), cure));
            }
        }
        let value = match key.shape {
            Shape::Packages => split_packages(key.name, value)?,
            Shape::RepoPackages => split_repo_packages(value)?,
            _ => value.clone(),
        };
        if key.name == "packages" {
            self.add_packages(value);
        } else if let Some(first) = self.values.insert(key.name, value) {
            return Err(position.failure(
                format_args!("both spellings of `{}` stand here; the first at {}", key.name, first.position),
                "keep one of them",
            ));
        }
        Ok(())
    }

    fn packages_of(&mut self, arch: &str, entry: &Entry, basearch: &str) -> Result<(), Failure> {
        if !ARCHITECTURES.contains(&arch) {
            return Err(unknown(entry));
        }
        if entry.value.is_null() {
            return Ok(());
        }
        let packages = split_packages(&entry.key, &entry.value)?;
        if arch == basearch {
            self.add_packages(packages);
        }
        Ok(())
    }

    fn add_packages(&mut self, more: Node) {
        match self.values.get_mut("packages") {
            Some(packages) => merge_set(packages, more),
            None => drop(self.values.insert("packages", more)),
        }
    }

    /// All values in the order of the table of keys, with variables where they are substituted, and
    /// `definitions` as `variables`. What cannot be substituted stays as it is written.
    pub(super) fn into_map(mut self, definitions: Map, variables: &Variables) -> Map {
        if let Some(first) = definitions.entries.first() {
            let position = first.position.clone();
            self.values.insert("variables", Node { position, value: Value::Map(definitions) });
        }
        let mut map = Map::default();
        for key in KEYS {
            let Some(mut value) = self.values.remove(key.name) else { continue };
            if SUBSTITUTED.contains(&key.name) {
                substitute_in(&mut value, variables);
            }
            if let (Value::List(items), Shape::Packages) = (&mut value.value, key.shape) {
                items.sort_by_key(|item| item.to_json().to_string());
            }
            map.entries.push(Entry { key: key.name.to_owned(), position: value.position.clone(), value });
        }
        map
    }

    /// Takes in a file that this one includes.
    pub(super) fn merge(&mut self, mut included: Self) {
        for key in KEYS {
            let Some(inner) = included.values.remove(key.name) else { continue };
            let Some(outer) = self.values.get_mut(key.name) else {
                self.values.insert(key.name, inner);
                continue;
            };
            match key.rule {
                Rule::Outer | Rule::Consumed => {}
                Rule::Vector | Rule::RepoPackages => prepend(outer, inner),
                Rule::Set => merge_set(outer, inner),
                Rule::Map => merge_map(outer, inner),
            }
            if key.rule == Rule::RepoPackages {
                later_wins(outer);
            }
        }
    }
}

/// The keys in which variables are substituted.
const SUBSTITUTED: &[&str] =
    &["ref", "rojig", "metadata", "add-commit-metadata", "automatic-version-prefix", "mutate-os-release"];

fn substitute_in(node: &mut Node, variables: &Variables) {
    match &mut node.value {
        Value::Text(text) => {
            if let Ok(new) = substitute(text, &node.position, variables) {
                *text = new;
            }
        }
        Value::Map(map) => {
            map.entries.iter_mut().for_each(|entry| substitute_in(&mut entry.value, variables));
        }
        _ => {}
    }
}

fn unknown(entry: &Entry) -> Failure {
    let names: Vec<String> = KEYS
        .iter()
        .map(|key| key.name.to_owned())
        .chain(ARCHITECTURES.iter().map(|arch| format!("packages-{arch}")))
        .collect();
    let cure = match nearest(&entry.key, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "remove it, or see rpm-ostree's treefile reference for the keys there are".to_owned(),
    };
    entry.position.failure(format_args!("unknown key `{}`", entry.key), cure)
}

/// The nodes of a value that is one text or a list of texts.
pub(super) fn texts_of(node: &Node) -> Vec<&Node> {
    match &node.value {
        Value::List(list) => list.iter().collect(),
        _ => vec![node],
    }
}

fn split_packages(what: &str, node: &Node) -> Result<Node, Failure> {
    let mut seen = BTreeSet::new();
    let mut items = Vec::new();
    for item in node.list(what)? {
        for name in split_unless_quoted(item, what)? {
            if name.contains("${") {
                return Err(item.position.failure(
                    format_args!("variables are not substituted in `{what}`: {name}"),
                    "write the name out, or use `packages-ARCH` or `conditional-include`",
                ));
            }
            if name.contains('"') {
                return Err(item.position.failure(
                    format_args!("a double quote in `{what}`: {name}"),
                    "write a package expression as \"'name >= 1.0'\", the double quotes around the whole item",
                ));
            }
            if name.starts_with('-') {
                return Err(item.position.failure(
                    format_args!("a package name cannot begin with `-`: {name}"),
                    "remove the second `-`, or name the package in `exclude-packages`",
                ));
            }
            if seen.insert(name.clone()) {
                items.push(Node { position: item.position.clone(), value: Value::Text(name) });
            }
        }
    }
    Ok(Node { position: node.position.clone(), value: Value::List(items) })
}

fn split_unless_quoted(item: &Node, what: &str) -> Result<Vec<String>, Failure> {
    let text = item.text(what)?;
    let parts: Vec<&str> = text.split('\'').collect();
    if parts.len().is_multiple_of(2) {
        return Err(item.position.failure(
            format_args!("a quote is not closed in `{what}`: {text}"),
            "write a package expression as \"'name >= 1.0'\"",
        ));
    }
    let mut names = Vec::new();
    for (index, part) in parts.into_iter().enumerate() {
        if index % 2 == 0 {
            names.extend(part.split_whitespace().map(str::to_owned));
        } else if !part.trim().is_empty() {
            names.push(part.to_owned());
        }
    }
    Ok(names)
}

fn split_repo_packages(node: &Node) -> Result<Node, Failure> {
    let mut node = node.clone();
    if let Value::List(items) = &mut node.value {
        for item in items {
            if let Value::Map(map) = &mut item.value {
                for entry in map.entries.iter_mut().filter(|entry| entry.key == "packages") {
                    entry.value = split_packages("packages", &entry.value)?;
                }
            }
        }
    }
    Ok(node)
}

fn prepend(outer: &mut Node, inner: Node) {
    if let (Value::List(outer), Value::List(mut inner)) = (&mut outer.value, inner.value) {
        inner.append(outer);
        *outer = inner;
    }
}

fn merge_set(outer: &mut Node, inner: Node) {
    if let (Value::List(outer), Value::List(inner)) = (&mut outer.value, inner.value) {
        let known: BTreeSet<String> = outer.iter().map(|node| node.to_json().to_string()).collect();
        outer.extend(inner.into_iter().filter(|node| !known.contains(&node.to_json().to_string())));
    }
}

fn merge_map(outer: &mut Node, inner: Node) {
    if let (Value::Map(outer), Value::Map(inner)) = (&mut outer.value, inner.value) {
        let known: BTreeSet<String> = outer.entries.iter().map(|entry| entry.key.clone()).collect();
        outer.entries.extend(inner.entries.into_iter().filter(|entry| !known.contains(&entry.key)));
    }
}

/// Leaves each package in the last item that names it.
fn later_wins(node: &mut Node) {
    let Value::List(items) = &mut node.value else { return };
    let mut seen = BTreeSet::new();
    for item in items.iter_mut().rev() {
        for packages in package_lists(item) {
            packages.retain(|package| seen.insert(package.to_json().to_string()));
        }
    }
    items.retain_mut(|item| package_lists(item).any(|packages| !packages.is_empty()));
}

fn package_lists(item: &mut Node) -> impl Iterator<Item = &mut Vec<Node>> {
    let entries = match &mut item.value {
        Value::Map(map) => map.entries.as_mut_slice(),
        _ => &mut [],
    };
    entries.iter_mut().filter(|entry| entry.key == "packages").filter_map(|entry| {
        match &mut entry.value.value {
            Value::List(list) => Some(list),
            _ => None,
        }
    })
}
