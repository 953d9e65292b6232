//! Fetching builds: list, records, and the artifacts that are wanted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use super::remote::Remote;
use crate::builds::{self, Artifact, Build, BuildLock, Index, Meta, Workdir, check_version};
use crate::failure::{Failure, Kind};
use crate::host::{clock, fs};
use crate::pipeline::{Digest, Reporter, sha256_file};

/// Below tmp/: where builds were fetched from last, as coreos-assembler notes it.
const SOURCE: &str = "builds-source.txt";

/// What to fetch.
#[derive(Debug, Clone)]
pub struct Fetch<'a> {
    /// The build, or the newest.
    pub build: Option<&'a str>,
    /// For which architectures; `all` for all.
    pub arches: &'a [String],
    /// Which artifacts; `all` for all, none for the records alone.
    pub artifacts: &'a [String],
}

/// What was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fetched {
    /// The build.
    pub id: String,
    /// The architecture.
    pub arch: String,
    /// The files.
    pub files: Vec<String>,
}

/// A build's files in a scratch directory, checked.
struct Checked {
    arch: String,
    meta: Value,
    files: Vec<(Option<String>, String)>,
    dir: PathBuf,
}

/// The address of the last fetch.
pub fn last_url(workdir: &Workdir) -> Result<Option<String>> {
    let text = fs::read_optional(&workdir.tmp_dir().join(SOURCE))?;
    Ok(text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
}

/// Fetches a build and joins the list there with the one here.
pub fn fetch(
    remote: &dyn Remote,
    workdir: &Workdir,
    lock: &BuildLock,
    wanted: &Fetch<'_>,
    report: &Reporter,
) -> Result<Vec<Fetched>> {
    workdir.recover(lock)?;
    let here = Scratch { remote, dir: scratch(workdir, remote)?, report };
    let index = here.index()?;
    let entry = match wanted.build {
        Some(id) => index.get(id),
        None => index.latest(),
    };
    let Some(entry) = entry else {
        let cause = match wanted.build {
            Some(id) => format!("there is no build {id} at {}", remote.address()),
            None => format!("there is no build at {}", remote.address()),
        };
        let newest: Vec<&str> = index.builds().iter().take(5).map(|build| build.id.as_str()).collect();
        let cure = if newest.is_empty() {
            "name another address".to_owned()
        } else {
            format!("the newest there are {}", newest.join(", "))
        };
        return Err(Failure::new(Kind::Artifact, cause, cure).into());
    };
    let mut arches = wanted.arches.to_vec();
    if arches.iter().any(|arch| arch == "all") {
        arches = entry.arches.clone();
    }
    if let Some(arch) = arches.iter().find(|arch| !entry.arches.contains(arch)) {
        let cause = format!(
            "build {} at {} exists for {}, not for {arch}",
            entry.id,
            remote.address(),
            entry.arches.join(" and ")
        );
        return Err(Failure::new(Kind::Artifact, cause, "name another architecture").into());
    }
    // Everything is here and checked before the first bit of it appears.
    let mut checked = Vec::new();
    for arch in &arches {
        checked.push(here.build(workdir, &entry.id, arch, wanted.artifacts)?);
    }
    workdir.edit_index(clock::now(), |own| {
        own.merge(&index);
        Ok(())
    })?;
    let mut fetched = Vec::new();
    for build in checked {
        let files = build.files.iter().map(|(_, file)| file.clone()).collect();
        build.publish(workdir, lock, &entry.id)?;
        fetched.push(Fetched { id: entry.id.clone(), arch: build.arch, files });
    }
    fs::write_atomic(&workdir.tmp_dir().join(SOURCE), format!("{}\n", remote.address()), 0o644)?;
    fs::remove_tree(&here.dir)?;
    Ok(fetched)
}

/// A place for what is on its way: the same one for the same address, so that a later run goes on.
fn scratch(workdir: &Workdir, remote: &dyn Remote) -> Result<PathBuf> {
    let dir = workdir.tmp_dir().join("fetch").join(Digest::of(remote.address()).short());
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

struct Scratch<'a> {
    remote: &'a dyn Remote,
    dir: PathBuf,
    report: &'a Reporter,
}

impl Scratch<'_> {
    fn index(&self) -> Result<Index> {
        let index = read_index(self.remote, &self.dir, self.report)?.ok_or_else(|| {
            let cause = format!("there is no builds.json at {}", self.remote.address());
            Failure::new(Kind::Repository, cause, "name the address that it is directly below")
        })?;
        for entry in index.builds() {
            // They become the names of directories.
            for name in entry.arches.iter().chain([&entry.id]) {
                check_version(name)
                    .with_context(|| format!("reading builds.json of {}", self.remote.address()))?;
            }
        }
        Ok(index)
    }

    fn build(&self, workdir: &Workdir, id: &str, arch: &str, artifacts: &[String]) -> Result<Checked> {
        let dir = self.dir.join(id).join(arch);
        fs::create_dir_all(&dir)?;
        let from = |name: &str| format!("{id}/{arch}/{name}");
        self.required(&from("meta.json"), &dir.join("meta.json"), None)?;
        let value = builds::read_part(&dir.join("meta.json"))?;
        let meta = self.check_meta(&value, id, arch)?;
        let local = workdir.build(id, arch).ok().filter(Build::is_here);
        if let Some(local) = &local {
            let ours = local.meta()?.ostree_commit;
            if ours != meta.ostree_commit {
                let theirs = &meta.ostree_commit;
                let cause = format!(
                    "build {id} for {arch} here is another one: its commit is {ours}, there {theirs}"
                );
                let cure = format!("remove the one here: `nosa prune --build {id}`");
                return Err(Failure::new(Kind::Artifact, cause, cure).into());
            }
        }
        let mut files = Vec::new();
        if local.is_none() {
            self.required(&from("commitmeta.json"), &dir.join("commitmeta.json"), None)?;
            self.required(&from("ostree-commit-object"), &dir.join("ostree-commit-object"), None)?;
            self.check(
                &dir.join("ostree-commit-object"),
                &from("ostree-commit-object"),
                &meta.ostree_commit,
                None,
            )?;
            files.extend(["commitmeta.json", "ostree-commit-object"].map(|name| (None, name.to_owned())));
            let lock = format!("manifest-lock.generated.{arch}.json");
            if self.remote.get(&from(&lock), &dir.join(&lock), None, self.report)? {
                files.push((None, lock));
            }
        }
        for (name, artifact) in choose(&meta, id, artifacts)? {
            if local.as_ref().is_some_and(|local| is_here(local, &name, &artifact)) {
                continue;
            }
            self.artifact(&from(&artifact.path), &dir.join(&artifact.path), &artifact)?;
            files.push((Some(name), artifact.path));
        }
        Ok(Checked { arch: arch.to_owned(), meta: value, files, dir })
    }

    fn required(&self, path: &str, target: &Path, size: Option<u64>) -> Result<()> {
        if self.remote.get(path, target, size, self.report)? {
            return Ok(());
        }
        let cause =
            format!("{} has no {path}, though its builds.json lists the build", self.remote.address());
        Err(Failure::new(Kind::Repository, cause, "choose another build, or ask who keeps that place").into())
    }

    fn check_meta(&self, value: &Value, id: &str, arch: &str) -> Result<Meta> {
        let bad = |what: String| {
            let cause = format!("{id}/{arch}/meta.json at {} {what}", self.remote.address());
            Failure::new(Kind::Repository, cause, "choose another build, or ask who keeps that place")
        };
        if let Some(problem) = builds::validate(value).first() {
            return Err(
                bad(format!("does not follow the schema: {} {}", problem.pointer, problem.what)).into()
            );
        }
        let meta = Meta::from_json(value)?;
        if meta.buildid != id {
            return Err(bad(format!("is of build {}", meta.buildid)).into());
        }
        if let Some(other) = meta.basearch.as_ref().filter(|other| *other != arch) {
            return Err(bad(format!("is for {other}")).into());
        }
        let mut paths = BTreeSet::new();
        for Artifact { path, .. } in meta.images.values() {
            let shown = path.escape_debug();
            if !builds::is_file_name(path) {
                return Err(bad(format!("names a file `{shown}`")).into());
            }
            if !paths.insert(path) {
                return Err(bad(format!("names the file {shown} for two artifacts")).into());
            }
        }
        Ok(meta)
    }

    /// Fetches an artifact; what does not match is fetched once more from its beginning.
    fn artifact(&self, path: &str, target: &Path, artifact: &Artifact) -> Result<()> {
        let resumed = target.exists();
        self.required(path, target, artifact.size)?;
        match self.check(target, path, &artifact.sha256, artifact.size) {
            Err(_) if resumed => {
                fs::remove_file_if_exists(target)?;
                self.required(path, target, artifact.size)?;
                self.check(target, path, &artifact.sha256, artifact.size)
            }
            checked => checked,
        }
    }

    fn check(&self, file: &Path, path: &str, sha256: &str, size: Option<u64>) -> Result<()> {
        let length = fs::open(file)?.metadata()?.len();
        let found = sha256_file(file)?.to_string();
        if found == sha256 && size.is_none_or(|size| size == length) {
            return Ok(());
        }
        fs::remove_file_if_exists(file)?;
        Err(Failure::new(
            Kind::Repository,
            format!(
                "{path} from {} is not what its meta.json says: SHA-256 {found}, not {sha256}",
                self.remote.address()
            ),
            "nothing was taken over; ask who keeps that place, or choose another build",
        )
        .into())
    }
}

/// builds.json of a place, if there is one.
pub(super) fn read_index(remote: &dyn Remote, dir: &Path, report: &Reporter) -> Result<Option<Index>> {
    let target = dir.join("builds.json");
    if !remote.get("builds.json", &target, None, report)? {
        return Ok(None);
    }
    let name = format!("{}/builds.json", remote.address());
    let text = fs::read_to_string(&target)?;
    let value = serde_json::from_str(&text).map_err(|error| {
        let cause = format!("{name} is damaged: {error}");
        Failure::new(Kind::Repository, cause, "ask who keeps that place")
    })?;
    Index::parse(&name, value).map(Some)
}

fn is_here(build: &Build, name: &str, artifact: &Artifact) -> bool {
    build.artifact(name).is_ok_and(|(_, here)| here.sha256 == artifact.sha256)
}

/// The artifacts that were asked for.
fn choose(meta: &Meta, id: &str, names: &[String]) -> Result<Vec<(String, Artifact)>> {
    if names.iter().any(|name| name == "all") {
        return Ok(meta.images.clone().into_iter().collect());
    }
    let find = |name: &String| match meta.images.get(name) {
        Some(artifact) => Ok((name.clone(), artifact.clone())),
        None => {
            let there: Vec<&str> = meta.images.keys().map(String::as_str).collect();
            let cause = format!("build {id} has no artifact `{name}`; it has {}", there.join(", "));
            Err(Failure::new(Kind::Artifact, cause, "name one of those, or `all`").into())
        }
    };
    names.iter().map(find).collect()
}

impl Checked {
    fn publish(&self, workdir: &Workdir, lock: &BuildLock, id: &str) -> Result<()> {
        let existing = workdir.build(id, &self.arch)?;
        if existing.is_here() {
            let images = Meta::from_json(&self.meta)?.images;
            for (name, file) in &self.files {
                let artifact = name.as_ref().and_then(|name| Some((name, images.get(name)?)));
                if let Some((name, artifact)) = artifact {
                    let now = u64::try_from(clock::now_nanos()).unwrap_or(u64::MAX);
                    fs::link_or_copy(&self.dir.join(file), &existing.beside(file)?)?;
                    existing.switch_artifact(lock, name, artifact, now, &mut |_| Ok(()))?;
                }
            }
            return Ok(());
        }
        let staging = workdir.stage_listed(lock, id, &self.arch)?;
        for (_, file) in &self.files {
            fs::link_or_copy(&self.dir.join(file), &staging.path().join(file))?;
        }
        staging.publish_json(&self.meta, clock::now())?;
        Ok(())
    }
}
