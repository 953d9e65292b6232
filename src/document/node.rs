//! The tree, and reading it with types: every mismatch names place, expectation and what stands there.

use std::fmt;
use std::sync::Arc;

use crate::failure::{Failure, Kind};

/// A place in a file; prints as `file:line:column`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file, as it was named to the parser.
    pub file: Arc<str>,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl Position {
    /// `file:line`, for origins where a column says nothing.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }

    /// A configuration failure here: `file:line:column: cause`.
    pub fn failure(&self, cause: impl fmt::Display, cure: impl Into<String>) -> Failure {
        Failure::new(Kind::Config, format!("{self}: {cause}"), cure)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it begins.
    pub position: Position,
    /// What it is.
    pub value: Value,
}

/// What a node holds (YAML 1.2 core schema, as rpm-ostree reads it: `yes` is a text).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing: an empty value, `~` or `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction or exponent, as it is written.
    Float(String),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
}

/// A map, in the order of the file, without duplicate keys.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map {
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// A key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub position: Position,
    /// The value.
    pub value: Node,
}

impl Map {
    /// The value of `key`; a null counts as absent.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value).filter(|n| !n.is_null())
    }

    /// The same as a JSON object.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let fields = self.entries.iter().map(|entry| (entry.key.clone(), entry.value.to_json()));
        serde_json::Value::Object(fields.collect())
    }

    /// Fails on the first key that is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<(), Failure> {
        match self.entries.iter().find(|entry| !known.contains(&entry.key.as_str())) {
            Some(entry) => Err(entry.unknown(known.iter().copied())),
            None => Ok(()),
        }
    }
}

impl Entry {
    /// The failure for a key that nobody knows, with the nearest known one.
    pub fn unknown<'k>(&self, known: impl Iterator<Item = &'k str> + Clone) -> Failure {
        let cure = match nearest(&self.key, known.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known keys are: {}", known.collect::<Vec<_>>().join(", ")),
        };
        self.position.failure(format_args!("unknown key `{}`", self.key), cure)
    }
}

impl Node {
    /// Whether it is null.
    #[must_use]
    pub const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What stands there, for messages: `the text "no"`.
    #[must_use]
    pub fn found(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("{value}"),
            Value::Integer(value) => format!("the number {value}"),
            Value::Float(text) => format!("the number {text}"),
            Value::Text(text) => {
                let line = text.lines().next().unwrap_or_default();
                let short: String = line.chars().take(60).collect();
                let more = if short.len() < text.trim_end().len() { "…" } else { "" };
                format!("the text \"{short}{more}\"")
            }
            Value::List(list) => format!("a list of {}", list.len()),
            Value::Map(map) => match map.entries.first() {
                Some(entry) => format!("a map (`{}: …`)", entry.key),
                None => "an empty map".to_owned(),
            },
        }
    }

    /// The failure that `what` is not `expected`.
    pub fn expected(&self, what: &str, expected: &str, cure: impl Into<String>) -> Failure {
        self.position.failure(format_args!("`{what}` must be {expected}, found {}", self.found()), cure)
    }

    /// The text; numbers and truth values must be quoted to be one.
    pub fn text(&self, what: &str) -> Result<&str, Failure> {
        match &self.value {
            Value::Text(text) => Ok(text),
            Value::Bool(_) | Value::Integer(_) | Value::Float(_) => {
                Err(self.expected(what, "a text", "put the value in quotes"))
            }
            _ => Err(self.expected(what, "a text", "write one value")),
        }
    }

    /// The truth value.
    pub fn boolean(&self, what: &str) -> Result<bool, Failure> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.expected(what, "true or false", "write true or false, without quotes")),
        }
    }

    /// The number, if it is whole and not negative.
    pub fn natural(&self, what: &str) -> Result<u64, Failure> {
        match self.value {
            Value::Integer(value) if value >= 0 => Ok(value.unsigned_abs()),
            _ => Err(self.expected(what, "a whole number", "write a whole number, without quotes")),
        }
    }

    /// The list.
    pub fn list(&self, what: &str) -> Result<&[Self], Failure> {
        match &self.value {
            Value::List(list) => Ok(list),
            Value::Text(text) => Err(self.expected(
                what,
                "a list",
                format!("write each item on a line of its own: `- {text}`"),
            )),
            _ => Err(self.expected(what, "a list", "write each item on a line of its own, after `- `")),
        }
    }

    /// The map.
    pub fn map(&self, what: &str) -> Result<&Map, Failure> {
        match &self.value {
            Value::Map(map) => Ok(map),
            _ => Err(self.expected(what, "a map", "write `key: value` lines below it, indented")),
        }
    }

    /// The texts of a list of texts.
    pub fn texts(&self, what: &str) -> Result<Vec<&str>, Failure> {
        self.list(what)?.iter().map(|item| item.text(what)).collect()
    }

    /// The same as a JSON value.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(text) => text.parse::<f64>().map_or_else(|_| text.clone().into(), Into::into),
            Value::Text(text) => text.clone().into(),
            Value::List(list) => list.iter().map(Self::to_json).collect(),
            Value::Map(map) => map.to_json(),
        }
    }
}

/// The known word that differs least from `word`, if any is near enough to be a slip.
#[must_use]
pub fn nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let limit = (word.chars().count() / 3).max(1);
    known
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        let known = ["packages", "postprocess", "repos", "ref"];
        assert_eq!(nearest("package", known.into_iter()), Some("packages"));
        assert_eq!(nearest("post-process", known.into_iter()), Some("postprocess"));
        assert_eq!(nearest("erf", known.into_iter()), Some("ref"));
        assert_eq!(nearest("kernel", known.into_iter()), None);
    }
}
