//! The stage that wraps a commit as an image.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::artifact::OciArchive;
use super::export::{ExportOptions, export};
use super::image::Compression;
use super::plan::{Contents, LayerPlan, Planning, TreeFile, divide};
use crate::host::{Tool, fs};
use crate::ostree::{Content, NodeObject, OstreeCommit, Repo};
use crate::pipeline::{Artifact as _, KeyHasher, Stage, Unit, Workspace};

/// Wraps a commit as an `oci-archive`.
pub struct Encapsulate {
    /// The commit.
    pub commit: OstreeCommit,
    /// The base architecture.
    pub architecture: String,
    /// Labels besides those that follow from the commit.
    pub labels: BTreeMap<String, String>,
    /// Metadata keys of the commit that become labels.
    pub copy_keys: Vec<String>,
    /// What a container runs when it is told nothing.
    pub cmd: Vec<String>,
    /// Where the commit's files come from.
    pub contents: Contents,
    /// What the plan of its layers depends on besides.
    pub planning: Planning,
    /// How layers are compressed.
    pub compression: Compression,
}

impl Encapsulate {
    fn plan(&self, repo: &Repo) -> Result<LayerPlan> {
        let nodes = repo.walk(self.commit.commit)?;
        let mut files = Vec::new();
        for node in &nodes {
            let NodeObject::File(checksum) = node.object else { continue };
            let (size, target) = match repo.file(checksum)?.content {
                Content::Regular(_, size) => (size, None),
                Content::Symlink(target) => (0, Some(target)),
            };
            files.push(TreeFile { path: &node.path, checksum, size, target });
        }
        Ok(LayerPlan::of(divide(&files, &self.contents), &self.planning))
    }
}

impl Stage for Encapsulate {
    type Output = OciArchive;
    const NAME: &'static str = "oci-archive";
    const VERSION: u32 = 4;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("commit", self.commit.digest());
        hash.input("architecture", &self.architecture);
        for (label, value) in &self.labels {
            hash.input(format!("label {label}"), value);
        }
        hash.input("copied metadata", self.copy_keys.join(" "));
        hash.input("container-cmd", format_args!("{:?}", self.cmd));
        hash.input("compression", format_args!("{:?}", self.compression));
        self.contents.key(hash);
        self.planning.key(hash);
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[]
    }

    fn run(&self, work: &Workspace) -> Result<OciArchive> {
        let repo = Repo::open(&work.shared(&self.commit.repo)?)?;
        let progress = work.report.progress("compressing the image's layers", 0, Unit::Items);
        let options = ExportOptions {
            compression: self.compression,
            architecture: self.architecture.clone(),
            labels: self.labels.clone(),
            copy_keys: self.copy_keys.clone(),
            cmd: self.cmd.clone(),
            reference: None,
        };
        let scratch = work.tmp().join("layers");
        fs::create_dir_all(&scratch)?;
        let target = OciArchive::archive_path(&work.out());
        let plan = self.plan(&repo)?;
        let exported = export(&repo, self.commit.commit, &plan, &options, &scratch, &target)
            .with_context(|| format!("wrapping commit {} as an image", self.commit.commit))?;
        drop(progress);
        OciArchive::record(&work.out(), &exported)
    }
}
