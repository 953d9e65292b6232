//! From text to tree: YAML by its events; JSON checked by a JSON parser first, then read as the YAML it is.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use super::node::{Entry, Map, Node, Position, Value};
use crate::failure::Failure;

/// Deeper nesting than any configuration has; guards the stack of whoever walks the tree.
const MAX_DEPTH: usize = 64;
/// More values than any configuration has; guards against aliases that multiply.
const MAX_NODES: usize = 200_000;

/// Parses a document; `name` is what positions call the file, and a name ending in `.json` makes it JSON.
///
/// An empty document is a null.
pub fn parse(name: &str, text: &str) -> Result<Node, Failure> {
    let file: Arc<str> = name.into();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let prepared = if name.ends_with(".json") {
        check_json(&file, text)?;
        // Between JSON's tokens a tab is white space; within a string it cannot stand.
        Cow::Owned(text.replace('\t', " "))
    } else {
        Cow::Borrowed(text)
    };
    let mut builder = Builder {
        file,
        lines: prepared.lines().collect(),
        stack: Vec::new(),
        anchors: HashMap::new(),
        documents: 0,
        nodes: 0,
        root: None,
    };
    let mut parser = Parser::new_from_str(&prepared);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.event(event, span.start)?,
            Err(error) => return Err(builder.syntax(&error)),
        }
    }
    let start = Position { file: builder.file, line: 1, column: 1 };
    Ok(builder.root.unwrap_or(Node { position: start, value: Value::Null }))
}

fn check_json(file: &Arc<str>, text: &str) -> Result<(), Failure> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| {
        let position =
            Position { file: file.clone(), line: error.line().max(1), column: error.column().max(1) };
        let message = error.to_string();
        let cause = message.split(" at line ").next().unwrap_or_default().to_owned();
        position.failure(format_args!("this is not JSON: {cause}"), "correct it, or name the file *.yaml")
    })
}

/// A list or map that is still open.
enum Frame {
    List { position: Position, anchor: usize, items: Vec<Node> },
    Map { position: Position, anchor: usize, map: Map, key: Option<(String, Position)> },
}

struct Builder<'t> {
    file: Arc<str>,
    lines: Vec<&'t str>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, (Node, usize)>,
    documents: usize,
    nodes: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn position(&self, mark: Marker) -> Position {
        Position { file: self.file.clone(), line: mark.line().max(1), column: mark.col() + 1 }
    }

    fn event(&mut self, event: Event<'_>, mark: Marker) -> Result<(), Failure> {
        let position = self.position(mark);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(
                        position.failure("a second YAML document begins", "keep one document in a file")
                    );
                }
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                if self.wants_key() {
                    return self.key(text.into_owned(), position);
                }
                let value = scalar(text, style, tag.as_deref(), &position)?;
                self.add(Node { position, value }, anchor)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some((_, size)) if self.nodes + size > MAX_NODES => {
                    Err(position.failure("too many values", "write fewer aliases"))
                }
                Some((node, size)) => {
                    let node = node.clone();
                    self.nodes += size;
                    self.add(node, 0)
                }
                None => {
                    Err(position.failure("this alias stands inside its own anchor", "write the value out"))
                }
            },
            Event::SequenceStart(anchor, tag) => {
                self.open(tag.as_deref(), &position)?;
                self.stack.push(Frame::List { position, anchor, items: Vec::new() });
                Ok(())
            }
            Event::MappingStart(anchor, tag) => {
                self.open(tag.as_deref(), &position)?;
                self.stack.push(Frame::Map { position, anchor, map: Map::default(), key: None });
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Frame::List { position, anchor, items }) => {
                    self.add(Node { position, value: Value::List(items) }, anchor)
                }
                Some(Frame::Map { position, anchor, map, .. }) => {
                    self.add(Node { position, value: Value::Map(map) }, anchor)
                }
                None => Ok(()),
            },
        }
    }

    fn open(&self, tag: Option<&Tag>, position: &Position) -> Result<(), Failure> {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            return Err(position.failure(format_args!("unknown YAML tag {tag}"), "remove the tag"));
        }
        if self.wants_key() {
            return Err(position.failure("a list or map cannot be a key here", "write a plain text as key"));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(position.failure(
                format_args!("nested deeper than {MAX_DEPTH} levels"),
                "no configuration needs that; check the brackets",
            ));
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.stack.last(), Some(Frame::Map { key: None, .. }))
    }

    fn key(&mut self, text: String, position: Position) -> Result<(), Failure> {
        let before = self.lines.get(position.line.saturating_sub(1)).map_or("", |line| *line);
        if before.chars().take(position.column.saturating_sub(1)).all(char::is_whitespace)
            && let Some(tab) = before.chars().take(position.column.saturating_sub(1)).position(|c| c == '\t')
        {
            return Err(tabs(&Position { column: tab + 1, ..position }));
        }
        if let Some(Frame::Map { map, key, .. }) = self.stack.last_mut() {
            if let Some(first) = map.entries.iter().find(|entry| entry.key == text) {
                return Err(position.failure(
                    format_args!("key `{text}` stands twice; first in line {}", first.position.line),
                    "join the two, or remove one",
                ));
            }
            *key = Some((text, position));
        }
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Failure> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(node.position.failure("too many values", "no configuration needs that many"));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, (node.clone(), size(&node)));
        }
        match self.stack.last_mut() {
            Some(Frame::List { items, .. }) => items.push(node),
            Some(Frame::Map { map, key, .. }) => match key.take() {
                Some((key, position)) => map.entries.push(Entry { key, position, value: node }),
                None => {
                    return Err(node.position.failure("an alias cannot be a key here", "write the key out"));
                }
            },
            None => self.root = Some(node),
        }
        Ok(())
    }

    fn syntax(&self, error: &ScanError) -> Failure {
        let at = self.position(*error.marker());
        let indented_by_tab = |line: usize| {
            let text = self.lines.get(line.checked_sub(1)?)?;
            let indent = text.chars().take_while(|c| c.is_whitespace());
            let column = indent.clone().position(|c| c == '\t')? + 1;
            Some(Position { file: self.file.clone(), line, column })
        };
        let last = if error.info().contains("tab") { self.lines.len() } else { at.line };
        if let Some(tab) = (at.line..=last).find_map(indented_by_tab) {
            return tabs(&tab);
        }
        at.failure(
            format_args!("this is not YAML: {}", error.info()),
            "check indentation, colons and quotes there and in the line before",
        )
    }
}

fn tabs(position: &Position) -> Failure {
    position.failure("YAML does not allow tabs for indentation", "indent with spaces")
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(list) => 1 + list.iter().map(size).sum::<usize>(),
        Value::Map(map) => 1 + map.entries.iter().map(|entry| size(&entry.value)).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(
    text: Cow<'_, str>,
    style: ScalarStyle,
    tag: Option<&Tag>,
    position: &Position,
) -> Result<Value, Failure> {
    if let Some(tag) = tag {
        return match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
            (true, "str") => Ok(Value::Text(text.into_owned())),
            (true, "int" | "bool" | "null" | "float") => Ok(plain(&text)),
            _ => Err(position.failure(format_args!("unknown YAML tag {tag}"), "remove the tag")),
        };
    }
    Ok(if style == ScalarStyle::Plain { plain(&text) } else { Value::Text(text.into_owned()) })
}

/// The core schema's reading of a plain scalar.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    // 007 is no number, as for rpm-ostree's reader.
    let decimal = digits == "0" || !digits.starts_with('0');
    if decimal && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().map_or_else(|_| Value::Float(text.to_owned()), Value::Integer);
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(Ok(value)) = text.strip_prefix(prefix).map(|rest| i64::from_str_radix(rest, radix)) {
            return Value::Integer(value);
        }
    }
    let padded = digits.starts_with('0') && digits[1..].starts_with(|c: char| c.is_ascii_digit());
    let numeric = !padded
        && digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b))
        && digits.bytes().any(|b| b.is_ascii_digit());
    if numeric && text.parse::<f64>().is_ok() {
        return Value::Float(text.to_owned());
    }
    Value::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause(text: &str) -> String {
        let failure = parse("manifest.yaml", text).unwrap_err();
        format!("{} | {}", failure.cause, failure.cure)
    }

    #[test]
    fn values_and_places() {
        let root =
            parse("a.yaml", "a:\n  - 1\n  - '2'\n  - |\n    #!/bin/sh\nb: {c: no, d: 1.5, e: 007}\nf:\n")
                .unwrap();
        let map = root.map("document").unwrap();
        let list = map.get("a").unwrap().list("a").unwrap();
        assert_eq!(list[0].value, Value::Integer(1));
        assert_eq!(list[1].value, Value::Text("2".into()));
        assert_eq!(list[1].position.to_string(), "a.yaml:3:5");
        // A block scalar's place is its first line.
        assert_eq!(list[2].position.to_string(), "a.yaml:5:5");
        let b = map.get("b").unwrap().map("b").unwrap();
        assert_eq!(b.get("c").unwrap().value, Value::Text("no".into()));
        assert_eq!(b.get("d").unwrap().value, Value::Float("1.5".into()));
        assert_eq!(b.get("e").unwrap().value, Value::Text("007".into()));
        assert!(map.get("f").is_none());
        assert!(parse("a.yaml", "# nothing\n").unwrap().is_null());
    }

    #[test]
    fn json_with_tabs_has_the_same_places() {
        let root = parse("a.json", "{\n\t\"packages\": [\n\t\t\"foo\"\n\t]\n}").unwrap();
        let list = root.map("").unwrap().get("packages").unwrap().list("").unwrap();
        assert_eq!(list[0].position.to_string(), "a.json:3:3");
        let failure = parse("a.json", "{\n  \"a\": [1,]\n}").unwrap_err();
        assert_eq!(failure.cause, "a.json:2:11: this is not JSON: expected value");
    }

    #[test]
    fn tabs_are_named_wherever_the_parser_stumbles() {
        let tab = "YAML does not allow tabs for indentation | indent with spaces";
        assert_eq!(cause("packages:\n\t- foo\n"), format!("manifest.yaml:2:1: {tab}"));
        assert_eq!(cause("a:\n  b: 1\n\tc: 2\n"), format!("manifest.yaml:3:1: {tab}"));
        assert_eq!(cause("a: b\n  \tc: d\n"), format!("manifest.yaml:2:3: {tab}"));
        assert_eq!(cause("\ta: 1\n"), format!("manifest.yaml:1:1: {tab}"));
        assert_eq!(cause("a: |\n  x\n\ty\n"), format!("manifest.yaml:3:1: {tab}"));
        assert!(parse("a.yaml", "a: |\n  x\n  \ty\n").is_ok(), "a tab inside a script is the script's");
    }

    #[test]
    fn duplicates_documents_and_syntax() {
        assert_eq!(
            cause("a: 1\nb: 2\na: 3\n"),
            "manifest.yaml:3:1: key `a` stands twice; first in line 1 | join the two, or remove one"
        );
        assert_eq!(
            cause("a: 1\n---\nb: 2\n"),
            "manifest.yaml:2:1: a second YAML document begins | keep one document in a file"
        );
        assert_eq!(
            cause("a: b: c\n"),
            "manifest.yaml:1:5: this is not YAML: mapping values are not allowed in this context | check \
             indentation, colons and quotes there and in the line before"
        );
        assert_eq!(cause("a: !secret x\n"), "manifest.yaml:1:12: unknown YAML tag !secret | remove the tag");
    }

    #[test]
    fn aliases_are_copies_and_cannot_explode() {
        let root = parse("a.yaml", "a: &x [1, 2]\nb: *x\n").unwrap();
        let map = root.map("").unwrap();
        assert_eq!(map.get("a").unwrap().value, map.get("b").unwrap().value);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let refs = vec![format!("*a{}", level - 1); 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{refs}]\n"));
        }
        assert!(cause(&bomb).contains("too many values"));
        assert!(cause(&"[".repeat(100)).contains("nested deeper than 64 levels"));
    }

    /// Damages a document in many ways: each gives a tree or a failure with a place, and gives it soon.
    #[test]
    fn damaged_documents_fail_in_order() {
        const TEXT: &str = "a: &x [1, 'b c', \"d\\n\"]\nb:\n  - {c: *x, ? d : e}\n  - |\n    script\n\n    more\n  - >-\n    \
                            folded\n# end\nf: !!str 3\n";
        const MARKS: &[char] =
            &['\t', '\n', ' ', ':', '-', '{', ']', '&', '*', '!', '|', '"', '\'', '#', '%', '\u{0}', 'é'];
        let text: Vec<char> = TEXT.chars().collect();
        let mut failures = 0;
        for at in 0..text.len() {
            for (index, mark) in MARKS.iter().copied().enumerate() {
                let mut damaged = text.clone();
                match index % 3 {
                    0 => damaged.insert(at, mark),
                    1 => damaged[at] = mark,
                    _ => drop(damaged.splice(at..text.len().min(at + index), [mark])),
                }
                let damaged: String = damaged.into_iter().collect();
                for name in ["a.yaml", "a.json"] {
                    if let Err(failure) = parse(name, &damaged) {
                        failures += 1;
                        let mut parts = failure.cause.split(':').skip(1);
                        let number = |part: Option<&str>| part.and_then(|part| part.parse::<usize>().ok());
                        let place = (number(parts.next()), number(parts.next()));
                        assert!(matches!(place, (Some(1..), Some(1..))), "{damaged:?}: {}", failure.cause);
                    }
                }
            }
        }
        assert!(failures > 1000);
    }
}
