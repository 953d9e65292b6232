//! The builds at a glance.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::build::Build;
use super::json;
use super::merge::overlay;
use super::meta::Meta;
use super::workdir::Workdir;
use crate::failure::{Failure, Kind};

/// One architecture of one build.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// The build's id.
    pub id: String,
    /// The architecture.
    pub arch: String,
    /// The build's tags.
    pub tags: Vec<String>,
    /// Whether overrides/ had a part in it.
    pub overrides: bool,
    /// Its meta.json; `None` when builds.json lists it, but it was never fetched.
    pub meta: Option<Meta>,
}

impl Workdir {
    /// All builds, newest first.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let index = self.index()?;
        let mut listed = Vec::new();
        for entry in index.builds() {
            for arch in &entry.arches {
                let build = Build::new(self, &entry.id, arch);
                let meta = if build.dir().exists() { Some(build.meta()?) } else { None };
                listed.push(Listed {
                    id: entry.id.clone(),
                    arch: arch.clone(),
                    tags: index.tags_of(&entry.id).into_iter().map(str::to_owned).collect(),
                    overrides: meta.as_ref().is_some_and(|meta| meta.overrides_active == Some(true)),
                    meta,
                });
            }
        }
        Ok(listed)
    }

    /// A build (`latest`: the newest) for every architecture that is here.
    pub fn architectures(&self, id: &str) -> Result<Vec<Build>> {
        let index = self.index()?;
        let entry = if id == "latest" { index.latest() } else { index.get(id) };
        let builds: Vec<Build> = entry
            .into_iter()
            .flat_map(|entry| entry.arches.iter().map(|arch| Build::new(self, &entry.id, arch)))
            .filter(Build::is_here)
            .collect();
        if !builds.is_empty() {
            return Ok(builds);
        }
        let dir = self.builds_dir();
        let (cause, cure) = match entry {
            Some(entry) => (
                format!("build {} is listed in builds.json, but its files are not here", entry.id),
                format!("fetch it: `nosa buildfetch --build {}`", entry.id),
            ),
            None if id == "latest" => {
                (format!("there is no build in {}", dir.display()), "make one with `nosa build`".to_owned())
            }
            None => (
                format!("there is no build {id} in {}", dir.display()),
                "see `nosa list` for the builds there are".to_owned(),
            ),
        };
        Err(Failure::new(Kind::Artifact, cause, cure).into())
    }
}

impl Workdir {
    /// The newest build of the same architecture that is older than `build` and here.
    pub fn build_before(&self, build: &Build) -> Result<Build> {
        let index = self.index()?;
        let older = index.builds().iter().skip_while(|entry| entry.id != build.id()).skip(1);
        let mut builds = older
            .filter(|entry| entry.arches.iter().any(|arch| arch == build.arch()))
            .map(|entry| Build::new(self, &entry.id, build.arch()))
            .filter(Build::is_here);
        builds.next().ok_or_else(|| {
            Failure::new(
                Kind::Artifact,
                format!("there is no build for {} before {}", build.arch(), build.id()),
                "name the two builds: --from ID --to ID",
            )
            .into()
        })
    }
}

/// Reads a file that is to be joined with meta.json.
pub fn read_part(path: &Path) -> Result<Value> {
    match json::read(path)? {
        Some(value @ Value::Object(_)) => Ok(value),
        Some(_) => Err(Failure::new(
            Kind::Artifact,
            format!("{} is no part of a meta.json: not a map", path.display()),
            "name a JSON file like meta.json",
        )
        .into()),
        None => Err(Failure::new(
            Kind::Usage,
            format!("there is no file {}", path.display()),
            "name a JSON file like meta.json",
        )
        .into()),
    }
}

/// Joins a part with a meta.json: what the part says stands.
pub fn join_part(meta: &mut Value, part: &Value) -> Result<()> {
    let before = meta.clone();
    overlay(meta, &before, part);
    Ok(())
}

/// Reads a release.json; null when there is none or it is empty.
pub fn read_release(path: &Path) -> Result<Value> {
    if std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0) {
        return Ok(Value::Null);
    }
    Ok(json::read(path)?.unwrap_or_default())
}
