//! Is a build what its record says? Every file's size and digest, and that the records agree.

use std::path::Path;

use anyhow::Result;
use rayon::prelude::*;
use serde::Serialize;

use crate::builds::{self, Artifact, Build, Meta};
use crate::host::{Cmd, fs, tool};
use crate::pipeline::{Reporter, Unit, sha256_file};

/// What was found of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The artifact's name, or the file's where it is no artifact.
    pub subject: String,
    /// The file.
    pub path: String,
    /// What is wrong; `None` when nothing is.
    pub problem: Option<String>,
}

/// Checks a build: one finding a file, the records first.
pub fn validate(build: &Build, report: &Reporter) -> Result<Vec<Finding>> {
    let meta = build.meta()?;
    let mut findings = vec![
        finding("meta.json", "meta.json", meta_problem(build, &meta)?),
        finding("commitmeta.json", "commitmeta.json", commit_meta_problem(build, &meta)),
        finding("ostree-commit-object", "ostree-commit-object", commit_problem(build, &meta)?),
    ];
    let total = meta.images.values().filter_map(|artifact| artifact.size).sum();
    let progress = report.progress("reading artifacts", total, Unit::Bytes);
    let images: Vec<(&String, &Artifact)> = meta.images.iter().collect();
    let found: Result<Vec<Finding>> = images
        .par_iter()
        .map(|(name, artifact)| {
            let problem = artifact_problem(&build.dir().join(&artifact.path), artifact)?;
            progress.add(artifact.size.unwrap_or(0));
            Ok(finding(name, &artifact.path, problem))
        })
        .collect();
    findings.extend(found?);
    Ok(findings)
}

fn finding(subject: &str, path: &str, problem: Option<String>) -> Finding {
    Finding { subject: subject.to_owned(), path: path.to_owned(), problem }
}

fn meta_problem(build: &Build, meta: &Meta) -> Result<Option<String>> {
    let problems = builds::validate(&build.meta_json()?);
    if !problems.is_empty() {
        let list: Vec<String> = problems
            .iter()
            .map(|problem| format!("{} {}", problem.pointer, problem.what).trim().to_owned())
            .collect();
        return Ok(Some(format!("does not follow the schema: {}", list.join("; "))));
    }
    if meta.buildid != build.id() {
        return Ok(Some(format!("is of build {}, builds.json says {}", meta.buildid, build.id())));
    }
    if let Some(arch) = meta.basearch.as_deref().filter(|arch| *arch != build.arch()) {
        return Ok(Some(format!("is for {arch}, builds.json says {}", build.arch())));
    }
    let parts = build.parts()?;
    if !parts.is_empty() {
        let count = parts.len();
        return Ok(Some(format!("{count} parts wait to be folded into it: run `nosa meta --finalize`")));
    }
    Ok(None)
}

fn commit_meta_problem(build: &Build, meta: &Meta) -> Option<String> {
    let commit = match build.commit_meta() {
        Ok(commit) => commit,
        Err(error) => return Some(error.to_string()),
    };
    if commit.version != meta.ostree_version {
        let ours = &meta.ostree_version;
        return Some(format!("`version` is {}, `ostree-version` of meta.json {ours}", commit.version));
    }
    match (&commit.inputhash, &meta.rpm_ostree_inputhash) {
        (Some(one), Some(other)) if one != other => {
            Some(format!("`rpmostree.inputhash` is {one}, `rpm-ostree-inputhash` of meta.json {other}"))
        }
        _ => None,
    }
}

fn commit_problem(build: &Build, meta: &Meta) -> Result<Option<String>> {
    let path = build.dir().join("ostree-commit-object");
    if !path.is_file() {
        return Ok(Some("is missing".to_owned()));
    }
    let found = sha256_file(&path)?.to_string();
    Ok((found != meta.ostree_commit)
        .then(|| format!("its checksum is {found}, `ostree-commit` of meta.json is {}", meta.ostree_commit)))
}

fn artifact_problem(path: &Path, artifact: &Artifact) -> Result<Option<String>> {
    if !path.is_file() {
        return Ok(Some("is missing".to_owned()));
    }
    let size = fs::open(path)?.metadata()?.len();
    if let Some(expected) = artifact.size.filter(|expected| *expected != size) {
        return Ok(Some(format!("has {size} bytes, meta.json says {expected}")));
    }
    let found = sha256_file(path)?.to_string();
    if found != artifact.sha256 {
        return Ok(Some(format!("its SHA-256 is {found}, meta.json says {}", artifact.sha256)));
    }
    if path.extension().is_some_and(|extension| extension == "qcow2") {
        let check = Cmd::new(&tool::QEMU_IMG).args(["check", "-q", "-f", "qcow2"]).arg(path).run();
        return Ok(check.err().map(|error| format!("{error:#}")));
    }
    Ok(None)
}
