//! One build on disk: reading it, and changing its meta.json.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::json;
use super::merge::{STAMP, apply_changes, fold, keeps_identity, merge_meta};
use super::meta::{Artifact, CommitMeta, Meta, check};
use super::workdir::Workdir;
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// A build of one architecture that builds.json lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    pub(super) id: String,
    arch: String,
    pub(super) dir: PathBuf,
    workdir: Workdir,
}

/// Says that writers leave files of their own.
const DELAYED: &str = "coreos-assembler.delayed-meta-merge";

/// Where a change of meta.json goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// Into meta.json, whatever it says of delays.
    Final,
    /// Into `meta.NAME.json`, if meta.json asks for that.
    Delayable(Option<&'a str>),
}

impl Workdir {
    /// The build with this id, or the newest one for `latest`.
    pub fn build(&self, id: &str, arch: &str) -> Result<Build> {
        let index = self.index()?;
        if id == "latest" {
            // The newest that is here; builds.json may list others that were never fetched.
            let of_arch =
                index.builds().iter().filter(|entry| entry.arches.iter().any(|known| known == arch));
            let mut builds = of_arch.map(|entry| Build::new(self, &entry.id, arch));
            let newest = builds.clone().next();
            return match builds.find(Build::is_here).or(newest) {
                Some(build) => Ok(build),
                None => Err(Failure::new(
                    Kind::Artifact,
                    format!("there is no build for {arch} in {}", self.builds_dir().display()),
                    "make one with `nosa build`",
                )
                .into()),
            };
        }
        if index.has(id, arch) {
            return Ok(Build::new(self, id, arch));
        }
        let cause = match index.get(id) {
            Some(entry) => format!("build {id} exists for {}, not for {arch}", entry.arches.join(" and ")),
            None => format!("there is no build {id} in {}", self.builds_dir().display()),
        };
        Err(Failure::new(Kind::Artifact, cause, "see `nosa list` for the builds there are").into())
    }
}

/// The least stamp that is later than a meta.json's.
fn next_stamp(meta: &Value) -> u64 {
    meta.get(STAMP).and_then(Value::as_u64).unwrap_or(0).saturating_add(1)
}

impl Build {
    pub(super) fn new(workdir: &Workdir, id: &str, arch: &str) -> Self {
        let dir = workdir.builds_dir().join(id).join(arch);
        Self { id: id.to_owned(), arch: arch.to_owned(), dir, workdir: workdir.clone() }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its architecture.
    #[must_use]
    pub fn arch(&self) -> &str {
        &self.arch
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its meta.json with types.
    pub fn meta(&self) -> Result<Meta> {
        Meta::from_json(&self.meta_json()?).with_context(|| format!("reading {}", self.meta_path().display()))
    }

    /// Its meta.json as it stands.
    pub fn meta_json(&self) -> Result<Value> {
        self.required("meta.json")
    }

    /// Its commitmeta.json.
    pub fn commit_meta(&self) -> Result<CommitMeta> {
        CommitMeta::from_json(&self.required("commitmeta.json")?)
    }

    fn meta_path(&self) -> PathBuf {
        self.dir.join("meta.json")
    }

    fn required(&self, name: &str) -> Result<Value> {
        json::read(&self.dir.join(name))?.ok_or_else(|| {
            if !self.dir.exists() {
                let cause = format!("build {} is listed in builds.json, but its files are not here", self.id);
                let cure = format!("fetch it: `nosa buildfetch --build {}`", self.id);
                return Failure::new(Kind::Artifact, cause, cure).into();
            }
            Failure::new(Kind::Artifact, format!("build {} has no {name}", self.id), "restore it from a copy")
                .into()
        })
    }

    /// An artifact and where it lies.
    pub fn artifact(&self, name: &str) -> Result<(PathBuf, Artifact)> {
        let meta = self.meta()?;
        let missing = |cause: String, cure: String| Failure::new(Kind::Artifact, cause, cure);
        let Some(artifact) = meta.images.get(name) else {
            let there: Vec<&str> = meta.images.keys().map(String::as_str).collect();
            return Err(missing(
                format!("build {} has no artifact `{name}`; it has {}", self.id, there.join(", ")),
                format!("make it with `nosa buildextend {name}`"),
            )
            .into());
        };
        let path = self.dir.join(&artifact.path);
        if !path.is_file() {
            return Err(missing(
                format!("{} is missing, though meta.json lists it as `{name}`", path.display()),
                format!("make it again with `nosa buildextend {name} --force`"),
            )
            .into());
        }
        Ok((path, artifact.clone()))
    }

    /// Whether its directory is here: builds.json may list builds that were never fetched.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.meta_path().is_file()
    }

    /// Changes meta.json. If somebody else wrote it since `change` saw it, both changes are joined by
    /// coreos-assembler's rule. `now_nanos` is in nanoseconds since 1970.
    pub fn update(&self, now_nanos: u64, change: impl FnOnce(&mut Meta) -> Result<()>) -> Result<Meta> {
        self.update_at(Target::Delayable(None), now_nanos, change)
    }

    pub(super) fn update_at(
        &self,
        target: Target<'_>,
        now_nanos: u64,
        change: impl FnOnce(&mut Meta) -> Result<()>,
    ) -> Result<Meta> {
        let merged = self.edit(target, now_nanos, true, |value| {
            let mut meta = Meta::from_json(value)?;
            let known = meta.to_json()?;
            change(&mut meta)?;
            apply_changes(value, &known, &meta.to_json()?);
            Ok(())
        })?;
        Meta::from_json(&merged)
    }

    /// Changes meta.json as JSON; problems that `change` adds are refused unless `validated` is false. A build
    /// whose merge is delayed gets the change as `meta.PART.json` (`part`, else the time).
    pub fn update_json(
        &self,
        part: Option<&str>,
        now_nanos: u64,
        validated: bool,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Value> {
        self.edit(Target::Delayable(part), now_nanos, validated, change)
    }

    fn edit(
        &self,
        target: Target<'_>,
        now_nanos: u64,
        validated: bool,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Value> {
        let path = self.meta_path();
        let _record = self.workdir.record(&path)?;
        let known = self.meta_json()?;
        // A clock that went back must not make the newer side look like the older one.
        let mut now_nanos = now_nanos.max(next_stamp(&known));
        let part = match target {
            Target::Delayable(part) if known.get(DELAYED) == Some(&Value::Bool(true)) => {
                let part = part.map_or_else(|| now_nanos.to_string(), str::to_owned);
                Some(self.part_path(&part)?)
            }
            _ => None,
        };
        // What an earlier writer of this part left in it stays.
        let mut before = known.clone();
        if let Some(path) = &part
            && let Some(earlier) = json::read(path)?
        {
            fold(&mut before, &known, &earlier).with_context(|| format!("folding {}", path.display()))?;
            now_nanos = now_nanos.max(next_stamp(&earlier));
            before[STAMP] = known.get(STAMP).cloned().unwrap_or_else(|| 0.into());
        }
        let mut mine = before.clone();
        change(&mut mine)?;
        if mine == before {
            return Ok(before);
        }
        keeps_identity(&before, &mine)?;
        let merged = merge_meta(&self.meta_json()?, &mine, now_nanos)?;
        if validated {
            check(&path.display().to_string(), &merged, Some(&before))?;
        }
        json::write(part.as_ref().unwrap_or(&path), &merged)?;
        Ok(merged)
    }

    fn part_path(&self, part: &str) -> Result<PathBuf> {
        if part.is_empty() || part.contains(['/', '\0']) {
            let cause = format!("`{part}` cannot be the name of a part of meta.json");
            return Err(Failure::new(Kind::Usage, cause, "name an artifact: qemu, metal, …").into());
        }
        Ok(self.dir.join(format!("meta.{part}.json")))
    }

    /// The parts of meta.json that writers left to be folded into it, oldest first.
    pub fn parts(&self) -> Result<Vec<PathBuf>> {
        let mut parts = Vec::new();
        for path in fs::read_dir_sorted(&self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("meta.") && name.ends_with(".json") && name != "meta.json" {
                let stamp = json::read(&path)?.and_then(|part| part.get(STAMP).and_then(Value::as_f64));
                parts.push((stamp.unwrap_or(0.0), path));
            }
        }
        parts.sort_by(|one, other| one.0.total_cmp(&other.0).then_with(|| one.1.cmp(&other.1)));
        Ok(parts.into_iter().map(|(_, path)| path).collect())
    }

    /// Folds the parts of meta.json into it and removes them; folding one twice changes nothing.
    pub fn finalize(&self, now_nanos: u64, validated: bool) -> Result<Vec<PathBuf>> {
        let path = self.meta_path();
        let _record = self.workdir.record(&path)?;
        let parts = self.parts()?;
        if parts.is_empty() {
            return Ok(parts);
        }
        let disk = self.meta_json()?;
        let mut folded = disk.clone();
        for part in &parts {
            let value = json::read(part)?.unwrap_or_default();
            fold(&mut folded, &disk, &value).with_context(|| format!("folding {}", part.display()))?;
        }
        folded[STAMP] = now_nanos.into();
        if validated {
            check(&path.display().to_string(), &folded, Some(&disk))?;
        }
        json::write(&path, &folded)?;
        parts.iter().try_for_each(|part| fs::remove_file_if_exists(part))?;
        Ok(parts)
    }
}
