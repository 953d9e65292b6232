//! Places in meta.json as coreos-assembler writes them: keys with dots between, where the keys that have a
//! dot themselves (`coreos-assembler.…`) count as one.

use std::fmt;
use std::str::FromStr;

use anyhow::Result;
use serde_json::{Map, Value};

use crate::failure::{Failure, Kind};

/// Keys that contain a dot begin so.
const DOTTED: &[&str] = &["coreos-assembler.", "fedora-coreos."];

/// A place in meta.json: `images.qemu.sha256`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPath {
    text: String,
    parts: Vec<String>,
}

impl FromStr for KeyPath {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let dotted = DOTTED.iter().find(|prefix| text.starts_with(*prefix)).map_or(0, |prefix| prefix.len());
        let mut parts: Vec<String> = text[dotted..].split('.').map(str::to_owned).collect();
        parts[0].insert_str(0, &text[..dotted]);
        if parts.iter().any(String::is_empty) || text[dotted..].is_empty() {
            let cause = format!("`{text}` is no key of meta.json");
            return Err(Failure::new(Kind::Usage, cause, "write KEY or KEY.KEY, as images.qemu.sha256"));
        }
        Ok(Self { text: text.to_owned(), parts })
    }
}

impl fmt::Display for KeyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl KeyPath {
    /// The value there.
    #[must_use]
    pub fn get<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        self.parts.iter().try_fold(value, |value, part| match value {
            Value::Array(list) => part.parse::<usize>().ok().and_then(|index| list.get(index)),
            _ => value.get(part),
        })
    }

    /// The value there, or a failure that names the keys there are.
    pub fn require<'v>(&self, value: &'v Value) -> Result<&'v Value> {
        if let Some(found) = self.get(value) {
            return Ok(found);
        }
        let known = (0..self.parts.len()).rev().find_map(|length| {
            let parent = Self { text: self.parts[..length].join("."), parts: self.parts[..length].to_vec() };
            let keys: Vec<&str> = parent.get(value)?.as_object()?.keys().map(String::as_str).collect();
            Some((parent.text, keys.join(", ")))
        });
        let (place, keys) = known.unwrap_or_default();
        let place = if place.is_empty() { "meta.json".to_owned() } else { format!("`{place}`") };
        Err(Failure::new(
            Kind::Artifact,
            format!("meta.json has no key `{self}`"),
            format!("{place} has {keys}"),
        )
        .into())
    }

    /// Sets the value there, making the maps on the way.
    pub fn set(&self, value: &mut Value, new: Value) -> Result<()> {
        let mut place = value;
        for part in &self.parts {
            if place.is_null() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else {
                return Err(Failure::new(
                    Kind::Usage,
                    format!("`{self}` cannot be set: what holds `{part}` is {place}, not a map"),
                    "name a key of a map",
                )
                .into());
            };
            place = map.entry(part.clone()).or_insert(Value::Null);
        }
        *place = new;
        Ok(())
    }
}

/// `KEY=VALUE` of a command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The place.
    pub key: KeyPath,
    /// The text after the first `=`.
    pub value: String,
}

impl FromStr for Setting {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let Some((key, value)) = text.split_once('=') else {
            return Err(Failure::new(Kind::Usage, format!("`{text}` sets nothing"), "write KEY=VALUE"));
        };
        Ok(Self { key: key.parse()?, value: value.to_owned() })
    }
}

impl Setting {
    /// The value as a whole number.
    pub fn integer(&self) -> Result<Value> {
        let number = self.value.parse::<i64>().map(Value::from);
        number.or_else(|_| self.value.parse::<u64>().map(Value::from)).map_err(|_| {
            let cause = format!("`{}` for `{}` is no whole number", self.value, self.key);
            Failure::new(Kind::Usage, cause, "write KEY=NUMBER, or use --set for a text").into()
        })
    }

    /// The value as `true` or `false`.
    pub fn boolean(&self) -> Result<Value> {
        self.value.parse::<bool>().map(Value::from).map_err(|_| {
            let cause = format!("`{}` for `{}` is neither true nor false", self.value, self.key);
            Failure::new(Kind::Usage, cause, "write KEY=true or KEY=false").into()
        })
    }
}

/// The values to set: texts, whole numbers, and booleans, which are `KEY=true`, or as coreos-assembler has them
/// `KEY` with the value as `flag`.
pub fn values(
    texts: &[Setting],
    integers: &[Setting],
    booleans: &[String],
    flag: Option<bool>,
) -> Result<Vec<(KeyPath, Value)>> {
    let mut new = Vec::new();
    for setting in texts {
        new.push((setting.key.clone(), Value::from(setting.value.as_str())));
    }
    for setting in integers {
        new.push((setting.key.clone(), setting.integer()?));
    }
    for text in booleans {
        let setting: Setting = match flag.filter(|_| !text.contains('=')) {
            Some(flag) => format!("{text}={flag}").parse()?,
            None => text.parse()?,
        };
        new.push((setting.key.clone(), setting.boolean()?));
    }
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_with_a_dot_of_their_own_are_one() {
        let meta = json!({
            "coreos-assembler.container-config-git": {"commit": "abc"}, "amis": [{"name": "x"}],
            "images": {"qemu": {"path": "a"}}
        });
        let get = |text: &str| text.parse::<KeyPath>().unwrap().get(&meta).cloned();
        assert_eq!(get("coreos-assembler.container-config-git.commit"), Some(json!("abc")));
        assert_eq!(get("images.qemu.path"), Some(json!("a")));
        assert_eq!(get("amis.0.name"), Some(json!("x")));
        assert_eq!(get("images.metal.path"), None);
        for bad in ["", "a..b", ".a", "coreos-assembler."] {
            assert_eq!(bad.parse::<KeyPath>().unwrap_err().cause, format!("`{bad}` is no key of meta.json"));
        }
        let missing = |text: &str| {
            let error = text.parse::<KeyPath>().unwrap().require(&meta).unwrap_err();
            let failure = crate::failure::classify(&error);
            format!("{} | {}", failure.cause, failure.cure)
        };
        assert_eq!(
            missing("images.metal.path"),
            "meta.json has no key `images.metal.path` | `images` has qemu"
        );
        assert_eq!(
            missing("x"),
            "meta.json has no key `x` | meta.json has coreos-assembler.container-config-git, amis, images"
        );
    }

    #[test]
    fn setting_makes_maps_and_refuses_what_is_none() {
        let mut meta = json!({"name": "os"});
        let set = |meta: &mut Value, text: &str| -> Result<()> {
            let setting: Setting = text.parse()?;
            setting.key.set(meta, setting.value.as_str().into())
        };
        set(&mut meta, "s3.bucket=a=b").unwrap();
        assert_eq!(meta, json!({"name": "os", "s3": {"bucket": "a=b"}}));
        let error = set(&mut meta, "name.x=1").unwrap_err();
        assert_eq!(error.to_string(), "`name.x` cannot be set: what holds `x` is \"os\", not a map");
        assert_eq!(set(&mut meta, "name").unwrap_err().to_string(), "`name` sets nothing");
        let setting: Setting = "a=1x".parse().unwrap();
        assert_eq!(setting.integer().unwrap_err().to_string(), "`1x` for `a` is no whole number");
        assert_eq!(setting.boolean().unwrap_err().to_string(), "`1x` for `a` is neither true nor false");
    }
}
