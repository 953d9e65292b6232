//! Whether a value looks as its key's [`Shape`] says.

use super::condition::Condition;
use super::keys::{ARCHITECTURES, Shape};
use crate::document::{Map, Node, Value};
use crate::failure::Failure;

/// Checks a value against its shape.
pub(super) fn check(what: &str, shape: Shape, node: &Node) -> Result<(), Failure> {
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
        Shape::Variables => variables(what, node),
        Shape::RepoPackages => node.list(what)?.iter().try_for_each(|item| repo_packages(what, item)),
        Shape::Removals => node.list(what)?.iter().try_for_each(|item| match item.texts(what)?.len() {
            0 | 1 => Err(item.expected(
                what,
                "lists of a package and regular expressions",
                "write `- [package, /usr/share/doc/.*]`",
            )),
            _ => Ok(()),
        }),
        Shape::AddFiles => node.list(what)?.iter().try_for_each(|item| match item.texts(what)?.len() {
            2 => Ok(()),
            _ => Err(item.expected(
                what,
                "lists of a file and its path in the tree",
                "write `- [file, /usr/share/file]`",
            )),
        }),
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
        Shape::ConditionalInclude => node.list(what)?.iter().try_for_each(|item| conditional(what, item)),
    }
}

fn variables(what: &str, node: &Node) -> Result<(), Failure> {
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

fn repo_packages(what: &str, item: &Node) -> Result<(), Failure> {
    let map = item.map(what)?;
    map.only(&["repo", "packages"])?;
    required(item, map, what, "repo")?.text("repo")?;
    required(item, map, what, "packages")?.texts("packages").map(drop)
}

fn conditional(what: &str, item: &Node) -> Result<(), Failure> {
    let map = item.map(what)?;
    map.only(&["if", "include"])?;
    one_or_more(required(item, map, what, "if")?, "if", &|node| Condition::parse(node).map(drop))?;
    let include = required(item, map, what, "include")?;
    if matches!(include.value, Value::Map(_)) { Ok(()) } else { check("include", Shape::Include, include) }
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
