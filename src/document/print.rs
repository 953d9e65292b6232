//! From tree to text: YAML in which every value bears its place, and a table of places for JSON.

use std::collections::BTreeMap;

use super::node::{Entry, Map, Node, Value};
use super::parse::parse;

/// A map as YAML; each text, number and item ends in `# file:line`.
#[must_use]
pub fn with_places(map: &Map) -> String {
    let mut text = String::new();
    entries(map, 0, &mut text);
    text
}

/// The `file:line` of every value that is neither list nor map, by its JSON pointer.
#[must_use]
pub fn places(map: &Map) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in &map.entries {
        collect(&entry.value, &format!("/{}", escape(&entry.key)), &mut found);
    }
    found
}

fn collect(node: &Node, pointer: &str, found: &mut BTreeMap<String, String>) {
    match &node.value {
        Value::Map(map) if !map.entries.is_empty() => {
            for entry in &map.entries {
                collect(&entry.value, &format!("{pointer}/{}", escape(&entry.key)), found);
            }
        }
        Value::List(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{pointer}/{index}"), found);
            }
        }
        _ => drop(found.insert(pointer.to_owned(), node.position.line())),
    }
}

/// RFC 6901.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn entries(map: &Map, indent: usize, text: &mut String) {
    for Entry { key, value, .. } in &map.entries {
        text.push_str(&format!("{:indent$}{}:", "", scalar(key)));
        value_of(value, indent, text);
    }
}

/// What follows `key:` or `-` at this indentation.
fn value_of(node: &Node, indent: usize, text: &mut String) {
    let place = node.position.line();
    match &node.value {
        Value::Map(map) if map.entries.is_empty() => text.push_str(&format!(" {{}}  # {place}\n")),
        Value::List(items) if items.is_empty() => text.push_str(&format!(" []  # {place}\n")),
        Value::Map(map) => {
            text.push('\n');
            entries(map, indent + 2, text);
        }
        Value::List(items) => {
            text.push('\n');
            for item in items {
                text.push_str(&format!("{:1$}-", "", indent + 2));
                value_of(item, indent + 2, text);
            }
        }
        Value::Null => text.push_str(&format!(" null  # {place}\n")),
        Value::Bool(value) => text.push_str(&format!(" {value}  # {place}\n")),
        Value::Integer(value) => text.push_str(&format!(" {value}  # {place}\n")),
        Value::Float(value) => text.push_str(&format!(" {value}  # {place}\n")),
        Value::Text(value) => match block(value) {
            Some(header) => {
                text.push_str(&format!(" {header}  # {place}\n"));
                for line in value.lines() {
                    let margin = if line.is_empty() { 0 } else { indent + 2 };
                    text.push_str(&format!("{:margin$}{line}\n", ""));
                }
            }
            None => text.push_str(&format!(" {}  # {place}\n", scalar(value))),
        },
    }
}

/// The header of the literal block that can hold this text, if one can.
fn block(text: &str) -> Option<&'static str> {
    let plain = |c: char| c == '\n' || c == '\t' || !c.is_control();
    let first = text.chars().next()?;
    if !text.contains('\n') || first.is_whitespace() || !text.chars().all(plain) || text.contains('\u{feff}')
    {
        return None;
    }
    match text.strip_suffix('\n') {
        None => Some("|-"),
        Some(rest) if rest.ends_with('\n') => Some("|+"),
        Some(_) => Some("|"),
    }
}

/// A text on one line: bare where it reads back as itself.
fn scalar(text: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || "/._-+<>=~^()%,$".contains(c);
    let begins = |c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_';
    if text.starts_with(begins)
        && text.chars().all(bare)
        && parse("", text).is_ok_and(|node| node.value == Value::Text(text.to_owned()))
    {
        return text.to_owned();
    }
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "ref: os/x86_64/next\nrecommends: false\nlevel: 3\nquoted: \"true\"\nempty: []\n\
                        packages: [b, 'a >= 1']\nodd: {\"a: b\": ' x', 'none': null, sub: [[a, b], {c: d, e: f}]}\n\
                        scripts:\n  - |\n    #!/bin/sh\n    echo a: b # c\n\n      more\n  - |-\n    x\n    y\n";

    fn plain(node: &Node) -> serde_json::Value {
        node.to_json()
    }

    #[test]
    fn what_is_printed_reads_back_as_itself() {
        let root = parse("m.yaml", TEXT).unwrap();
        let printed = with_places(root.map("").unwrap());
        let again = parse("printed.yaml", &printed).unwrap();
        assert_eq!(plain(&root), plain(&again), "{printed}");
        let lines: Vec<&str> = printed.lines().collect();
        assert_eq!(lines[0], "ref: os/x86_64/next  # m.yaml:1");
        assert!(lines.contains(&"  - \"a >= 1\"  # m.yaml:6"), "{printed}");
        assert!(lines.contains(&"  - |  # m.yaml:10"), "{printed}");
    }

    #[test]
    fn places_are_found_by_json_pointers() {
        let root = parse("m.yaml", TEXT).unwrap();
        let (json, places) = (plain(&root), places(root.map("").unwrap()));
        assert!(places.keys().all(|pointer| json.pointer(pointer).is_some()));
        assert_eq!(places["/packages/1"], "m.yaml:6");
        assert_eq!(places["/odd/sub/1/e"], "m.yaml:7");
        assert_eq!(places["/empty"], "m.yaml:5");
    }
}
