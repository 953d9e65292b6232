//! Uploading a build: its files, then its record, and last the list, so that nobody finds a build that is
//! not whole.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::fetch::read_index;
use super::remote::Remote;
use crate::builds::{Build, Index, Workdir};
use crate::failure::{Failure, Kind};
use crate::host::{clock, fs};
use crate::pipeline::{Reporter, sha256_file};

/// How often the list is written when others write it at the same time.
const ATTEMPTS: usize = 5;

/// What to upload.
#[derive(Debug, Clone)]
pub struct Upload<'a> {
    /// The build, for each of its architectures.
    pub builds: &'a [Build],
    /// Which artifacts; all if empty.
    pub artifacts: &'a [String],
    /// Whether what is there already is uploaded again.
    pub force: bool,
    /// Whether to leave the list alone.
    pub skip_builds_json: bool,
    /// Whether to only say what would be done.
    pub dry_run: bool,
}

/// A file and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Uploaded {
    /// Its path there.
    pub path: String,
    /// Whether it was there already.
    pub kept: bool,
}

/// Uploads a build.
pub fn upload(
    remote: &dyn Remote,
    workdir: &Workdir,
    wanted: &Upload<'_>,
    report: &Reporter,
) -> Result<Vec<Uploaded>> {
    remote.check_target()?;
    let mut files = Vec::new();
    for build in wanted.builds {
        files.extend(files_of(build, wanted.artifacts)?);
    }
    let mut uploaded = Vec::new();
    for File { source, path, sha256 } in files {
        let record = path.ends_with("/meta.json");
        let size = fs::open(&source)?.metadata()?.len();
        let kept = !record && !wanted.force && remote.has(&path, size, &sha256)?;
        if !kept && !wanted.dry_run {
            remote.put(&source, &path, &sha256, report)?;
        }
        uploaded.push(Uploaded { path, kept });
    }
    if !wanted.skip_builds_json {
        if !wanted.dry_run {
            list(remote, workdir, wanted.builds, report)?;
        }
        uploaded.push(Uploaded { path: "builds.json".to_owned(), kept: false });
    }
    Ok(uploaded)
}

struct File {
    source: PathBuf,
    path: String,
    sha256: String,
}

/// The files of a build, meta.json last; artifacts must be what it says.
fn files_of(build: &Build, only: &[String]) -> Result<Vec<File>> {
    let images = build.meta()?.images;
    for name in only {
        build.artifact(name)?;
    }
    let at = |file: &str| format!("{}/{}/{file}", build.id(), build.arch());
    let mut files = Vec::new();
    let mut others: Vec<PathBuf> = fs::read_dir_sorted(build.dir())?;
    others.retain(|path| path.is_file() && !name_of(path).starts_with('.') && name_of(path) != "meta.json");
    for (name, artifact) in &images {
        let signature = format!("{}.sig", artifact.path);
        others.retain(|path| name_of(path) != artifact.path);
        if !only.is_empty() && !only.contains(name) {
            others.retain(|path| name_of(path) != signature);
            continue;
        }
        let (source, _) = build.artifact(name)?;
        let found = sha256_file(&source)?.to_string();
        if found != artifact.sha256 {
            return Err(Failure::new(
                Kind::Artifact,
                format!(
                    "{} is damaged: its SHA-256 is {found}, meta.json says {}",
                    source.display(),
                    artifact.sha256
                ),
                "nothing was uploaded; fetch or make that artifact again",
            )
            .into());
        }
        files.push(File { source, path: at(&artifact.path), sha256: found });
    }
    for source in others.into_iter().chain([build.dir().join("meta.json")]) {
        let (path, sha256) = (at(&name_of(&source)), sha256_file(&source)?.to_string());
        files.push(File { source, path, sha256 });
    }
    Ok(files)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Lists the build there. Where no lock is possible, the list is read again: another writer may have put his
/// over ours.
fn list(remote: &dyn Remote, workdir: &Workdir, builds: &[Build], report: &Reporter) -> Result<()> {
    let own = workdir.index()?;
    let scratch = workdir.tmp_dir().join(format!("upload.{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let listed = |index: &Index| builds.iter().all(|build| index.has(build.id(), build.arch()));
    let mut write = || -> Result<()> {
        for _ in 0..ATTEMPTS {
            let mut index = read_index(remote, &scratch, report)?.unwrap_or_default();
            for build in builds {
                index.adopt(&own, build.id(), build.arch());
            }
            index.touch(clock::now());
            let file = scratch.join("builds.json");
            fs::write(&file, serde_json::to_string_pretty(&index.to_json())? + "\n")?;
            remote.put(&file, "builds.json", &sha256_file(&file)?.to_string(), report)?;
            if read_index(remote, &scratch, report)?.is_some_and(|index| listed(&index)) {
                return Ok(());
            }
        }
        let cause = format!("others write builds.json at {} at the same time", remote.address());
        Err(Failure::new(Kind::Busy, cause, "wait until they have finished, and run it again").into())
    };
    let result = remote.locked(&mut write);
    fs::remove_tree(&scratch)?;
    result
}
