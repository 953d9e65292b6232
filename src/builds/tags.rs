//! Tags: names for builds in builds.json; a build that has one is never pruned.

use anyhow::Result;

use super::index::Tag;
use super::workdir::Workdir;
use crate::failure::{Failure, Kind};
use crate::host::clock::Utc;

impl Workdir {
    /// Sets tag `name` to `build` (`None`: the newest), at `now` in seconds since 1970. With `force` the build
    /// need not exist, and a tag of that name may move.
    pub fn set_tag(
        &self,
        name: &str,
        build: Option<&str>,
        description: Option<&str>,
        force: bool,
        now: u64,
    ) -> Result<Tag> {
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            let cause = format!("{name:?} cannot be the name of a tag");
            return Err(Failure::new(Kind::Usage, cause, "give it a name of printable characters").into());
        }
        self.edit_index(now, |index| {
            let newest = || index.latest().map(|build| build.id.as_str());
            let Some(target) = build.filter(|id| *id != "latest").or_else(newest) else {
                let cause = format!("there is no build in {} to tag", self.builds_dir().display());
                return Err(Failure::new(Kind::Artifact, cause, "make one with `nosa build`").into());
            };
            if index.get(target).is_none() && !force {
                return Err(Failure::new(
                    Kind::Artifact,
                    format!("there is no build {target} in {} to tag", self.builds_dir().display()),
                    "see `nosa list` for the builds there are, or add --force",
                )
                .into());
            }
            let known = index.tags().iter().find(|tag| tag.name == name);
            if let Some(known) = known.filter(|known| known.target != target && !force) {
                return Err(Failure::new(
                    Kind::Artifact,
                    format!("tag `{name}` exists: it names build {}", known.target),
                    "add --force to move it, or choose another name",
                )
                .into());
            }
            let tag = Tag {
                name: name.to_owned(),
                created: Utc::from_epoch(now).rfc3339(),
                target: target.to_owned(),
                description: description.map(str::to_owned),
            };
            index.set_tag(tag.clone());
            Ok(tag)
        })
    }

    /// Removes tag `name`, or all with `None`; returns those that were there.
    pub fn delete_tags(&self, name: Option<&str>, now: u64) -> Result<Vec<Tag>> {
        self.edit_index(now, |index| {
            let goes = |tag: &Tag| name.is_none_or(|name| tag.name == name);
            let gone: Vec<Tag> = index.tags().iter().filter(|tag| goes(tag)).cloned().collect();
            if let Some(name) = name.filter(|_| gone.is_empty()) {
                return Err(Failure::new(
                    Kind::Artifact,
                    format!("there is no tag `{name}`"),
                    "see `nosa tag list` for the tags there are",
                )
                .into());
            }
            index.retain_tags(|tag| !goes(tag));
            Ok(gone)
        })
    }
}
