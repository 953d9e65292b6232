//! One treefile: its keys known, its values of the right shape, each with its place; and merging two.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::Condition;
use super::keys::{self, ARCHITECTURES, KEYS, Rule, Shape, Support};
use crate::document::{Entry, Map, Node, Value, nearest};
use crate::failure::Failure;

/// The values of one treefile, or of several merged, by key.
#[derive(Debug, Clone, Default)]
pub(super) struct Treefile {
    /// The values; never null.
    pub(super) values: BTreeMap<&'static str, Node>,
}

impl Treefile {
    /// Checks a parsed file; what is accepted without effect goes to `warnings`.
    ///
    /// Unknown keys fail in YAML and are warned of in JSON, where they have always served as comments.
    pub(super) fn new(root: &Node, basearch: &str, warnings: &mut Vec<String>) -> Result<Self, Failure> {
        let mut this = Self::default();
        if root.is_null() {
            return Ok(this);
        }
        let Value::Map(map) = &root.value else {
            return Err(root.position.failure(
                format_args!("a treefile is a map of keys, found {}", root.found()),
                "write `key: value` lines",
            ));
        };
        for entry in &map.entries {
            this.entry(entry, basearch, warnings)?;
        }
        if let Some(more) = this.values.remove("bootstrap-packages") {
            this.add_packages(more);
        }
        Ok(this)
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

/// Checks a value against its shape.
fn check(what: &str, shape: Shape, node: &Node) -> Result<(), Failure> {
    match shape {
        Shape::Any => Ok(()),
        Shape::Bool => node.boolean(what).map(drop),
        Shape::Text => node.text(what).map(drop),
        Shape::TextOrNumber => match node.value {
            Value::Integer(number) if number >= 0 => Ok(()),
            _ => node.text(what).map(drop),
        },
        Shape::Choice(choices) => {
            let text = node.text(what)?;
            if choices.contains(&text) {
                return Ok(());
            }
            Err(node.expected(what, &format!("one of {}", choices.join(", ")), "choose one of them"))
        }
        Shape::Texts | Shape::Packages => node.texts(what).map(drop),
        Shape::Values => node.map(what).map(drop),
        Shape::Variables => {
            for entry in &node.map(what)?.entries {
                match entry.value.value {
                    Value::Bool(_) | Value::Text(_) => {}
                    Value::Integer(number) if number >= 0 => {}
                    _ => {
                        return Err(entry.value.expected(
                            &format!("{what}.{}", entry.key),
                            "true, false, a whole number or a text",
                            "put the value in quotes",
                        ));
                    }
                }
            }
            Ok(())
        }
        Shape::RepoPackages => {
            for item in node.list(what)? {
                let map = item.map(what)?;
                map.only(&["repo", "packages"])?;
                required(item, map, what, "repo")?.text("repo")?;
                required(item, map, what, "packages")?.texts("packages")?;
            }
            Ok(())
        }
        Shape::Removals => {
            for item in node.list(what)? {
                if item.texts(what)?.len() < 2 {
                    return Err(item.expected(
                        what,
                        "lists of a package and regular expressions",
                        "write `- [package, /usr/share/doc/.*]`",
                    ));
                }
            }
            Ok(())
        }
        Shape::AddFiles => {
            for item in node.list(what)? {
                if item.texts(what)?.len() != 2 {
                    return Err(item.expected(
                        what,
                        "lists of a file and its path in the tree",
                        "write `- [file, /usr/share/file]`",
                    ));
                }
            }
            Ok(())
        }
        Shape::Accounts => node.map(what).map(drop),
        Shape::Rojig => {
            let map = node.map(what)?;
            map.only(&["name", "summary", "license", "description"])?;
            required(node, map, what, "name")?;
            map.entries
                .iter()
                .try_for_each(|entry| entry.value.text(&format!("{what}.{}", entry.key)).map(drop))
        }
        Shape::Include => one_or_more(node, what, &|item| item.text(what).map(drop)),
        Shape::ArchInclude => {
            let map = node.map(what)?;
            map.only(ARCHITECTURES)?;
            map.entries.iter().try_for_each(|entry| check(what, Shape::Include, &entry.value))
        }
        Shape::ConditionalInclude => {
            for item in node.list(what)? {
                let map = item.map(what)?;
                map.only(&["if", "include"])?;
                one_or_more(required(item, map, what, "if")?, "if", &|node| {
                    Condition::parse(node).map(drop)
                })?;
                let include = required(item, map, what, "include")?;
                if !matches!(include.value, Value::Map(_)) {
                    check("include", Shape::Include, include)?;
                }
            }
            Ok(())
        }
    }
}

fn required<'n>(node: &Node, map: &'n Map, what: &str, key: &str) -> Result<&'n Node, Failure> {
    map.get(key).ok_or_else(|| {
        node.position.failure(format_args!("`{what}` lacks `{key}`"), format!("add `{key}: …` to it"))
    })
}

fn one_or_more(node: &Node, what: &str, check: &dyn Fn(&Node) -> Result<(), Failure>) -> Result<(), Failure> {
    match &node.value {
        Value::Text(_) => check(node),
        Value::List(list) => list.iter().try_for_each(check),
        _ => Err(node.expected(what, "a text or a list of texts", "write one, or a list of them")),
    }
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
