//! What coreos-assembler's v1 schema asks of meta.json, as data, and checking a value against it.

use serde_json::Value;

use super::artifacts::is_name;

/// A problem and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The place, as a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What is wrong there.
    pub what: String,
}

/// The shape of a value.
#[derive(Clone, Copy)]
enum Shape {
    /// A text of at least so many characters.
    Text(usize),
    /// `2020-01-15T19:31:31Z`.
    Time,
    Bool,
    Integer,
    Number,
    /// Any map.
    Map,
    /// A map of texts.
    Texts,
    /// A list of anything.
    List,
    /// A list of maps with these texts.
    Records(&'static [&'static str]),
    /// A map with these texts, and others that are not looked at.
    Record(&'static [&'static str]),
    /// A map that must have this key.
    Needs(&'static str),
    /// `{commit, origin, branch?, dirty?}`.
    Git,
    /// A container image: `{image, digest?, comment?, tags?}`.
    Image,
    /// Artifacts by name.
    Images,
}

use Shape::{
    Bool, Git, Image, Images, Integer, List, Map, Needs, Number, Record, Records, Text, Texts, Time,
};

/// Keys that every meta.json has.
const REQUIRED: &[&str] = &["buildid", "name", "ostree-commit", "ostree-timestamp", "ostree-version"];
/// Keys that a build has unless it was imported from an image.
const REQUIRED_COMPOSED: &[&str] = &["ostree-content-checksum", "rpm-ostree-inputhash"];

/// Every key; no other may appear.
const KEYS: &[(&str, Shape)] = &[
    ("aliyun", Records(&["name", "id"])),
    ("advisories-diff", List),
    ("amis", Records(&["name", "hvm", "snapshot"])),
    ("aws-winli", Records(&["name", "hvm", "snapshot"])),
    ("azure", Record(&["url"])),
    ("base-oscontainer", Image),
    ("build-url", Text(1)),
    ("buildid", Text(1)),
    ("coreos-assembler.basearch", Text(1)),
    ("coreos-assembler.build-timestamp", Text(1)),
    ("coreos-assembler.code-source", Text(1)),
    ("coreos-assembler.config-dirty", Text(1)),
    ("coreos-assembler.config-gitrev", Text(1)),
    ("coreos-assembler.config-variant", Text(0)),
    ("coreos-assembler.container-config-git", Git),
    ("coreos-assembler.container-image-git", Git),
    ("coreos-assembler.delayed-meta-merge", Bool),
    ("coreos-assembler.image-config-checksum", Text(64)),
    ("coreos-assembler.image-genver", Integer),
    ("coreos-assembler.image-input-checksum", Text(64)),
    ("coreos-assembler.meta-stamp", Number),
    ("coreos-assembler.oci-imported", Bool),
    ("coreos-assembler.oci-imported-labels", Texts),
    ("coreos-assembler.overrides-active", Bool),
    ("coreos-assembler.yumrepos-git", Git),
    ("extensions", Needs("manifest")),
    ("extensions-container", Image),
    ("fedora-coreos.parent-commit", Text(64)),
    ("fedora-coreos.parent-version", Text(12)),
    ("gcp", Record(&["image", "url"])),
    ("ibmcloud", Records(&["url"])),
    ("images", Images),
    ("koji", Map),
    ("kubevirt", Image),
    ("name", Text(0)),
    ("oscontainer", Image),
    ("ostree-commit", Text(64)),
    ("ostree-content-bytes-written", Integer),
    ("ostree-content-checksum", Text(64)),
    ("ostree-n-cache-hits", Integer),
    ("ostree-n-content-total", Integer),
    ("ostree-n-content-written", Integer),
    ("ostree-n-metadata-total", Integer),
    ("ostree-n-metadata-written", Integer),
    ("ostree-timestamp", Time),
    ("ostree-version", Text(1)),
    ("parent-advisories-diff", List),
    ("parent-pkgdiff", List),
    ("pkgdiff", List),
    ("powervs", Records(&["url"])),
    ("ref", Text(1)),
    ("release-payload", Image),
    ("rpm-ostree-inputhash", Text(64)),
    ("s3", Map),
    ("summary", Text(1)),
];

/// Checks a meta.json; no problem means valid.
#[must_use]
pub fn validate(meta: &Value) -> Vec<Problem> {
    let mut check = Check { problems: Vec::new() };
    let Value::Object(map) = meta else {
        check.report("", "must be a map");
        return check.problems;
    };
    let imported = map.get("coreos-assembler.oci-imported") == Some(&Value::Bool(true));
    let composed = if imported { &[] } else { REQUIRED_COMPOSED };
    for key in REQUIRED.iter().chain(composed) {
        if !map.contains_key(*key) {
            check.report("", &format!("lacks `{key}`"));
        }
    }
    for (key, value) in map {
        let pointer = child("", key);
        match KEYS.iter().find(|(known, _)| known == key) {
            Some((_, shape)) => check.value(&pointer, *shape, value),
            None => check.report(&pointer, "is not a key of meta.json"),
        }
    }
    check.problems
}

/// The names of all keys, sorted.
#[cfg(test)]
pub(super) fn keys() -> Vec<&'static str> {
    let mut keys: Vec<&str> = KEYS.iter().map(|(key, _)| *key).collect();
    keys.sort_unstable();
    keys
}

struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn report(&mut self, pointer: &str, what: &str) {
        self.problems.push(Problem { pointer: pointer.to_owned(), what: what.to_owned() });
    }

    fn must(&mut self, holds: bool, pointer: &str, what: &str) {
        if !holds {
            self.report(pointer, what);
        }
    }

    fn value(&mut self, at: &str, shape: Shape, value: &Value) {
        match shape {
            Text(length) => self.text(at, length, value),
            Time => {
                self.must(value.as_str().is_some_and(is_time), at, "must be a time like 2020-01-15T19:31:31Z")
            }
            Bool => self.must(value.is_boolean(), at, "must be true or false"),
            Integer => self.must(value.is_i64() || value.is_u64(), at, "must be a whole number"),
            Number => self.must(value.is_number(), at, "must be a number"),
            Map => self.must(value.is_object(), at, "must be a map"),
            List => self.must(value.is_array(), at, "must be a list"),
            Texts => match value.as_object() {
                Some(map) => map.iter().for_each(|(key, value)| self.text(&child(at, key), 0, value)),
                None => self.report(at, "must be a map"),
            },
            Record(keys) => {
                let fields: Vec<(&str, usize)> = keys.iter().map(|key| (*key, 0)).collect();
                self.record(at, value, &fields, &[]);
            }
            Records(keys) => match value.as_array() {
                Some(list) => {
                    for (index, item) in list.iter().enumerate() {
                        self.value(&child(at, &index.to_string()), Record(keys), item);
                    }
                }
                None => self.report(at, "must be a list"),
            },
            Needs(key) => self.must(value.get(key).is_some(), at, &format!("lacks `{key}`")),
            Git => self.record(at, value, &[("commit", 5), ("origin", 1)], &[("branch", 3), ("dirty", 1)]),
            Image => {
                self.record(at, value, &[("image", 0)], &[("digest", 0), ("comment", 0)]);
                if let Some(tags) = value.get("tags") {
                    let texts = tags.as_array().is_some_and(|tags| tags.iter().all(Value::is_string));
                    self.must(texts, &child(at, "tags"), "must be a list of texts");
                }
            }
            Images => match value.as_object() {
                Some(map) => {
                    self.must(map.contains_key("ostree"), at, "lacks `ostree`");
                    for (name, value) in map {
                        let at = child(at, name);
                        let what = "is no artifact's name: lower-case letters, digits and -";
                        self.must(is_name(name), &at, what);
                        self.artifact(&at, value);
                    }
                }
                None => self.report(at, "must be a map"),
            },
        }
    }

    fn artifact(&mut self, at: &str, value: &Value) {
        self.record(at, value, &[("path", 0), ("sha256", 0)], &[("uncompressed-sha256", 0)]);
        for (key, shape) in [("size", Number), ("skip-compression", Bool), ("uncompressed-size", Integer)] {
            if let Some(field) = value.get(key) {
                self.value(&child(at, key), shape, field);
            }
        }
    }

    fn record(&mut self, at: &str, value: &Value, required: &[(&str, usize)], optional: &[(&str, usize)]) {
        let Some(map) = value.as_object() else { return self.report(at, "must be a map") };
        for (key, length) in required {
            match map.get(*key) {
                Some(field) => self.text(&child(at, key), *length, field),
                None => self.report(at, &format!("lacks `{key}`")),
            }
        }
        for (key, length) in optional {
            if let Some(field) = map.get(*key) {
                self.text(&child(at, key), *length, field);
            }
        }
    }

    fn text(&mut self, at: &str, length: usize, value: &Value) {
        match value.as_str() {
            None => self.report(at, "must be a text"),
            Some(text) => self.must(
                text.chars().count() >= length,
                at,
                &format!("must have at least {length} characters"),
            ),
        }
    }
}

fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn is_time(text: &str) -> bool {
    let pattern = b"0000-00-00T";
    text.ends_with('Z')
        && text.len() > pattern.len()
        && text.bytes().zip(pattern).all(|(c, p)| if *p == b'0' { c.is_ascii_digit() } else { c == *p })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn minimal() -> Value {
        json!({
            "buildid": "1.0", "name": "os", "ostree-version": "1.0",
            "ostree-commit": "c".repeat(64), "ostree-content-checksum": "d".repeat(64),
            "rpm-ostree-inputhash": "e".repeat(64), "ostree-timestamp": "2020-01-15T19:31:31Z"
        })
    }

    fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut meta = minimal();
        change(&mut meta);
        validate(&meta).into_iter().map(|problem| format!("{} {}", problem.pointer, problem.what)).collect()
    }

    #[test]
    fn a_minimal_one_is_valid_and_an_imported_one_needs_less() {
        assert_eq!(problems(|_| {}), [""; 0]);
        let strip = |meta: &mut Value| {
            let map = meta.as_object_mut().unwrap();
            map.remove("ostree-content-checksum");
            map.remove("rpm-ostree-inputhash");
        };
        assert_eq!(problems(strip), [" lacks `ostree-content-checksum`", " lacks `rpm-ostree-inputhash`"]);
        assert_eq!(
            problems(|meta| {
                strip(meta);
                meta["coreos-assembler.oci-imported"] = json!(true);
            }),
            [""; 0]
        );
    }

    #[test]
    fn a_real_one_is_valid_and_keeps_every_key() {
        let real: Value = serde_json::from_str(include_str!("fixtures/meta.json")).unwrap();
        assert_eq!(validate(&real), []);
        let typed = super::super::meta::Meta::from_json(&real).unwrap();
        assert_eq!(typed.to_json().unwrap(), real);
    }

    #[test]
    fn each_problem_is_named_with_its_place() {
        assert_eq!(
            problems(|meta| {
                meta["extra"] = json!(1);
                meta["ostree-commit"] = json!("abc");
                meta["ostree-timestamp"] = json!("yesterday");
                meta["coreos-assembler.overrides-active"] = json!("true");
                meta["coreos-assembler.config-dirty"] = json!(false);
                meta["coreos-assembler.image-genver"] = json!(1.5);
                meta["images"] =
                    json!({"qemu": {"path": "x", "size": "1"}, "a/b": {"path": 1, "sha256": "0"}});
                meta["coreos-assembler.container-config-git"] = json!({"commit": "1", "branch": "m"});
                meta["amis"] = json!([{"name": "a", "hvm": "b"}]);
                meta["oscontainer"] = json!({"image": "i", "tags": "t"});
            }),
            [
                "/ostree-commit must have at least 64 characters",
                "/ostree-timestamp must be a time like 2020-01-15T19:31:31Z",
                "/extra is not a key of meta.json",
                "/coreos-assembler.overrides-active must be true or false",
                "/coreos-assembler.config-dirty must be a text",
                "/coreos-assembler.image-genver must be a whole number",
                "/images lacks `ostree`",
                "/images/qemu lacks `sha256`",
                "/images/qemu/size must be a number",
                "/images/a~1b is no artifact's name: lower-case letters, digits and -",
                "/images/a~1b/path must be a text",
                "/coreos-assembler.container-config-git/commit must have at least 5 characters",
                "/coreos-assembler.container-config-git lacks `origin`",
                "/coreos-assembler.container-config-git/branch must have at least 3 characters",
                "/amis/0 lacks `snapshot`",
                "/oscontainer/tags must be a list of texts",
            ]
        );
        assert_eq!(validate(&json!([]))[0].what, "must be a map");
    }
}
