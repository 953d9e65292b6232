//! builds.json: which builds there are, newest first, and their tags. What nosa does not know is kept.

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Kind};
use crate::host::clock::Utc;

/// One build and the architectures it exists for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Its id.
    pub id: String,
    /// Its architectures.
    pub arches: Vec<String>,
}

/// A name for a build that keeps it from being pruned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// The name.
    pub name: String,
    /// When it was set, RFC 3339.
    pub created: String,
    /// The id of the build.
    pub target: String,
    /// What for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The content of builds.json.
#[derive(Debug, Clone, PartialEq)]
pub struct Index {
    document: Map<String, Value>,
    builds: Vec<IndexEntry>,
    tags: Vec<Tag>,
}

impl Default for Index {
    fn default() -> Self {
        let mut document = Map::new();
        document.insert("schema-version".to_owned(), json!("1.0.0"));
        document.insert("builds".to_owned(), json!([]));
        Self { document, builds: Vec::new(), tags: Vec::new() }
    }
}

impl Index {
    /// Reads the content of a file called `name` in messages.
    pub fn parse(name: &str, value: Value) -> Result<Self> {
        let damaged = |what: String| {
            Failure::new(Kind::Artifact, format!("{name} is damaged: {what}"), "restore it from a copy")
        };
        let Value::Object(document) = value else { return Err(damaged("not a map".to_owned()).into()) };
        let version = document.get("schema-version").and_then(Value::as_str).unwrap_or("0.0.1");
        if version.split('.').next() != Some("1") {
            return Err(Failure::new(
                Kind::Artifact,
                format!("{name} has schema version {version}; nosa knows version 1"),
                "use the program that wrote it",
            )
            .into());
        }
        let list = |key: &str| document.get(key).cloned().unwrap_or_else(|| json!([]));
        let builds: Vec<IndexEntry> =
            serde_json::from_value(list("builds")).map_err(|error| damaged(format!("builds: {error}")))?;
        let tags = serde_json::from_value(list("tags")).map_err(|error| damaged(format!("tags: {error}")))?;
        Ok(Self { document, builds, tags })
    }

    /// The content to write, unknown keys included.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = self.document.clone();
        document.insert("builds".to_owned(), keep_unknown(document.get("builds"), &self.builds, "id"));
        if !self.tags.is_empty() || document.contains_key("tags") {
            document.insert("tags".to_owned(), keep_unknown(document.get("tags"), &self.tags, "name"));
        }
        Value::Object(document)
    }

    /// The builds, newest first.
    #[must_use]
    pub fn builds(&self) -> &[IndexEntry] {
        &self.builds
    }

    /// The tags.
    #[must_use]
    pub fn tags(&self) -> &[Tag] {
        &self.tags
    }

    /// The newest build.
    #[must_use]
    pub fn latest(&self) -> Option<&IndexEntry> {
        self.builds.first()
    }

    /// The newest build of an architecture.
    #[must_use]
    pub fn latest_for(&self, arch: &str) -> Option<&IndexEntry> {
        self.builds.iter().find(|build| build.arches.iter().any(|known| known == arch))
    }

    /// A build by its id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&IndexEntry> {
        self.builds.iter().find(|build| build.id == id)
    }

    /// Whether a build exists for an architecture.
    #[must_use]
    pub fn has(&self, id: &str, arch: &str) -> bool {
        self.get(id).is_some_and(|build| build.arches.iter().any(|known| known == arch))
    }

    /// Adds a build as the newest, or an architecture to a build that is there.
    pub fn insert(&mut self, id: &str, arch: &str) -> Result<()> {
        match self.builds.iter_mut().find(|build| build.id == id) {
            Some(build) if build.arches.iter().any(|known| known == arch) => Err(Failure::new(
                Kind::Artifact,
                format!("build {id} for {arch} exists already"),
                "give another version by --version, or remove that build",
            )
            .into()),
            Some(build) => {
                build.arches.push(arch.to_owned());
                Ok(())
            }
            None => {
                self.builds.insert(0, IndexEntry { id: id.to_owned(), arches: vec![arch.to_owned()] });
                Ok(())
            }
        }
    }

    /// Removes builds.
    pub fn remove(&mut self, ids: &[String]) {
        self.builds.retain(|build| !ids.contains(&build.id));
    }

    /// The names of the tags of a build.
    #[must_use]
    pub fn tags_of(&self, id: &str) -> Vec<&str> {
        self.tags.iter().filter(|tag| tag.target == id).map(|tag| tag.name.as_str()).collect()
    }

    /// Sets a tag, in the place of one of the same name.
    pub(super) fn set_tag(&mut self, tag: Tag) {
        match self.tags.iter_mut().find(|known| known.name == tag.name) {
            Some(known) => *known = tag,
            None => self.tags.push(tag),
        }
    }

    /// Removes tags.
    pub(super) fn retain_tags(&mut self, keep: impl FnMut(&Tag) -> bool) {
        self.tags.retain(keep);
    }

    /// Adds the builds and tags of `other` that are not here. Both orders are kept; where they leave it open,
    /// what was here comes first. A tag of a name that is here stays as it is.
    pub fn merge(&mut self, other: &Self) {
        let mut merged: Vec<IndexEntry> = Vec::new();
        let mut own = std::mem::take(&mut self.builds).into_iter().peekable();
        let theirs = |id: &str| other.get(id).is_some();
        for entry in &other.builds {
            let already = merged.iter().any(|known| known.id == entry.id);
            if !already && own.clone().any(|known| known.id == entry.id) {
                // Up to the one that both have, whatever else is in between.
                for known in own.by_ref() {
                    let found = known.id == entry.id;
                    merged.push(known);
                    if found {
                        break;
                    }
                }
            } else if !already {
                while let Some(known) = own.next_if(|known| !theirs(&known.id)) {
                    merged.push(known);
                }
                merged.push(entry.clone());
            }
            if let Some(known) = merged.iter_mut().find(|known| known.id == entry.id) {
                let new: Vec<String> =
                    entry.arches.iter().filter(|arch| !known.arches.contains(arch)).cloned().collect();
                known.arches.extend(new);
            }
        }
        merged.extend(own);
        self.builds = merged;
        for tag in &other.tags {
            if self.tags.iter().all(|known| known.name != tag.name) {
                self.tags.push(tag.clone());
            }
        }
    }

    /// Adds one build of `own`, at the place that it has there, with its tags; where the order is open, it goes
    /// before what is here.
    pub fn adopt(&mut self, own: &Self, id: &str, arch: &str) {
        let mut merged = own.clone();
        merged.builds.retain(|entry| entry.id == id || self.get(&entry.id).is_some());
        for entry in &mut merged.builds {
            let known = self.get(&entry.id).map(|known| known.arches.clone()).unwrap_or_default();
            entry.arches = known;
            if entry.id == id && !entry.arches.iter().any(|known| known == arch) {
                entry.arches.push(arch.to_owned());
            }
        }
        merged.merge(self);
        self.builds = merged.builds;
        for tag in own.tags.iter().filter(|tag| tag.target == id) {
            if self.tags.iter().all(|known| known.name != tag.name) {
                self.tags.push(tag.clone());
            }
        }
    }

    /// Notes the time of a change, seconds since 1970.
    pub fn touch(&mut self, now: u64) {
        self.document.insert("timestamp".to_owned(), Utc::from_epoch(now).rfc3339().into());
    }
}

/// The list `typed`, each item with the keys that the item of the same `id` had before and nosa has no name for.
fn keep_unknown(before: Option<&Value>, typed: &[impl Serialize], id: &str) -> Value {
    let old: &[Value] = before.and_then(Value::as_array).map_or(&[], Vec::as_slice);
    typed
        .iter()
        .map(|item| {
            let mut item = json!(item);
            if let Some(Value::Object(old)) = old.iter().find(|old| old.get(id) == item.get(id))
                && let Value::Object(new) = &mut item
            {
                for (key, value) in old {
                    if !new.contains_key(key) && key != "description" {
                        new.insert(key.clone(), value.clone());
                    }
                }
            }
            item
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_go_in_front_and_architectures_to_their_build() {
        let mut index = Index::default();
        index.insert("1.0", "x86_64").unwrap();
        index.insert("1.1", "x86_64").unwrap();
        index.insert("1.0", "aarch64").unwrap();
        let error = index.insert("1.0", "aarch64").unwrap_err();
        assert_eq!(error.to_string(), "build 1.0 for aarch64 exists already");
        index.touch(0);
        assert_eq!(
            index.to_json(),
            json!({
                "schema-version": "1.0.0",
                "builds": [
                    {"id": "1.1", "arches": ["x86_64"]},
                    {"id": "1.0", "arches": ["x86_64", "aarch64"]}
                ],
                "timestamp": "1970-01-01T00:00:00Z"
            })
        );
        assert_eq!(index.latest().unwrap().id, "1.1");
        assert_eq!(index.latest_for("aarch64").unwrap().id, "1.0");
        assert!(index.latest_for("s390x").is_none() && index.has("1.0", "aarch64"));
    }

    #[test]
    fn what_is_not_known_stays() {
        let text = json!({
            "schema-version": "1.2.0",
            "builds": [{"id": "1", "arches": ["x86_64"], "policy-cleanup": {"images": true}}],
            "tags": [{"name": "stable", "created": "2025-01-14T00:00:00Z", "target": "1"}],
            "future": [1]
        });
        let mut index = Index::parse("builds.json", text.clone()).unwrap();
        assert_eq!(index.to_json(), text);
        assert_eq!(index.tags()[0].target, "1");
        index.insert("2", "x86_64").unwrap();
        assert_eq!(index.to_json()["builds"][1], text["builds"][0]);
    }

    #[test]
    fn two_lists_are_merged_in_order() {
        let list = |ids: &str| {
            let builds: Vec<Value> = ids
                .split(' ')
                .map(|id| json!({"id": id, "arches": [if id == "C" { "a" } else { "b" }]}))
                .collect();
            Index::parse("builds.json", json!({"schema-version": "1.0.0", "builds": builds})).unwrap()
        };
        let merged = |own: &str, other: &str| {
            let mut index = list(own);
            index.merge(&list(other));
            index.builds().iter().map(|build| build.id.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(merged("L1 C L2", "R1 C R2"), "L1 R1 C L2 R2");
        assert_eq!(merged("L", "R"), "L R");
        assert_eq!(merged("A B", "A B"), "A B");
        assert_eq!(merged("A B", "B A"), "A B");
        assert_eq!(merged("B", "A B C"), "A B C");
        let adopted = |there: &str, own: &str, id: &str| {
            let mut index = list(there);
            index.adopt(&list(own), id, "new");
            index.builds().iter().map(|build| build.id.as_str()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(adopted("A", "C B A", "C"), "C A");
        assert_eq!(adopted("A", "C", "C"), "C A");
        assert_eq!(adopted("C A", "C B A", "B"), "C B A");
        assert_eq!(adopted("A", "A", "A"), "A");
        let mut index = list("C");
        let mut other = list("C");
        other.builds[0].arches = vec!["x".to_owned(), "a".to_owned()];
        index.merge(&other);
        assert_eq!(index.builds()[0].arches, ["a", "x"]);
    }

    #[test]
    fn another_schema_or_damage_fails() {
        let cause = |value: Value| Index::parse("builds.json", value).unwrap_err().to_string();
        assert_eq!(
            cause(json!({"builds": []})),
            "builds.json has schema version 0.0.1; nosa knows version 1"
        );
        assert_eq!(cause(json!([])), "builds.json is damaged: not a map");
        assert_eq!(
            cause(json!({"schema-version": "1.0.0", "builds": [{"id": 3}]})),
            "builds.json is damaged: builds: invalid type: integer `3`, expected a string"
        );
    }
}
