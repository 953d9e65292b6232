//! Variables and conditions: `releasever >= 41`, typed as rpm-ostree types them.

use std::collections::BTreeMap;
use std::fmt;

use crate::document::{Node, Position, Value};
use crate::failure::Failure;

/// The value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Variable {
    /// True or false.
    Bool(bool),
    /// A whole number.
    Number(u64),
    /// A text.
    Text(String),
}

/// Variables by name.
pub(super) type Variables = BTreeMap<String, Variable>;

impl Variable {
    /// The variable that a node of a checked `variables` map or `releasever` holds.
    pub(super) fn of(node: &Node) -> Self {
        match &node.value {
            Value::Bool(value) => Self::Bool(*value),
            Value::Integer(value) => Self::Number(value.unsigned_abs()),
            Value::Text(text) => Self::Text(text.clone()),
            _ => Self::Text(String::new()),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// A comparison of a variable with a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    variable: String,
    operator: String,
    value: Variable,
    position: Position,
}

const FORM: &str = "write `variable operator value`, as `releasever >= 41` or `stream == \"stable\"`";

impl Condition {
    /// Parses `variable operator value`.
    pub(super) fn parse(node: &Node) -> Result<Self, Failure> {
        let text = node.text("if")?.trim();
        let wrong = |cause: String| node.position.failure(cause, FORM);
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (variable, rest) = text.split_at(end);
        let rest = rest.trim_start();
        let operators = ["==", "!=", ">=", "<=", ">", "<"];
        if variable.is_empty() {
            return Err(wrong(format!("`{text}` is not a condition")));
        }
        let Some(operator) = operators.into_iter().find(|operator| rest.starts_with(operator)) else {
            return Err(wrong(format!("`{text}` is not a condition: expected one of ==, !=, >, >=, <, <=")));
        };
        let value = rest[operator.len()..].trim();
        let value = match value {
            "true" => Variable::Bool(true),
            "false" => Variable::Bool(false),
            _ if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) => match value.parse() {
                Ok(number) => Variable::Number(number),
                Err(_) => return Err(wrong(format!("`{text}` is not a condition: the number is too large"))),
            },
            _ => match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
                Some(inner) => Variable::Text(inner.to_owned()),
                None => {
                    return Err(wrong(format!(
                        "`{text}` is not a condition: the value must be true, false, a number or a text in \
                         double quotes"
                    )));
                }
            },
        };
        let (variable, operator) = (variable.to_owned(), operator.to_owned());
        Ok(Self { variable, operator, value, position: node.position.clone() })
    }

    /// Whether it holds.
    pub(super) fn holds(&self, variables: &Variables) -> Result<bool, Failure> {
        let Self { variable, operator, value, position } = self;
        let Some(actual) = variables.get(variable) else {
            return Err(undefined(position, variable, variables));
        };
        let order = match (actual, value) {
            (Variable::Number(actual), Variable::Number(value)) => Some(actual.cmp(value)),
            (Variable::Text(_), Variable::Text(_)) | (Variable::Bool(_), Variable::Bool(_)) => None,
            _ => {
                return Err(position.failure(
                    format_args!(
                        "`{variable}` is {} ({actual}), compared with {} ({value})",
                        actual.kind(),
                        value.kind()
                    ),
                    "compare it with a value of its own type",
                ));
            }
        };
        match (operator.as_str(), order) {
            ("==", _) => Ok(actual == value),
            ("!=", _) => Ok(actual != value),
            (">", Some(order)) => Ok(order.is_gt()),
            (">=", Some(order)) => Ok(order.is_ge()),
            ("<", Some(order)) => Ok(order.is_lt()),
            ("<=", Some(order)) => Ok(order.is_le()),
            _ => Err(position.failure(
                format_args!("`{operator}` compares numbers, and `{variable}` is {}", actual.kind()),
                "use == or !=",
            )),
        }
    }
}

fn undefined(position: &Position, name: &str, variables: &Variables) -> Failure {
    let known = variables.keys().cloned().collect::<Vec<_>>().join(", ");
    position.failure(
        format_args!("variable `{name}` is not defined"),
        format!("define it under `variables:`; there are: {known}"),
    )
}

/// Replaces each `${name}`.
pub(super) fn substitute(text: &str, position: &Position, variables: &Variables) -> Result<String, Failure> {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err(position.failure(format_args!("`${{` is not closed in {text:?}"), "write `${name}`"));
        };
        let value = variables.get(name).ok_or_else(|| undefined(position, name, variables))?;
        result.push_str(before);
        result.push_str(&value.to_string());
        rest = after;
    }
    result.push_str(rest);
    Ok(result)
}
