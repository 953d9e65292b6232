//! The operating system's tree: the packages' tree with overlays, scripts, kernel, initramfs and layout.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::extras::{self, AddedFiles};
use super::install::InstalledTree;
use super::losses::{self, LossPolicy};
use super::overlay::Overlay;
use super::{kernel, layout, os_release, postprocess};
use crate::host::{Cmd, Tool, fs, tool};
use crate::manifest::{Manifest, RootFilesystem};
use crate::pipeline::{Artifact, Digest, KeyHasher, Stage, Unit, Workspace};

/// Makes the operating system of an installed tree.
pub struct Compose<'a> {
    /// The packages' tree.
    pub installed: &'a InstalledTree,
    /// The configuration.
    pub manifest: &'a Manifest,
    /// The overlays, in order.
    pub overlays: Vec<Overlay>,
    /// The files of `add-files`.
    pub added: AddedFiles,
    /// The version that os-release gets; empty when the key of unversioned content is wanted.
    pub version: String,
    /// The time that scripts see.
    pub epoch: u64,
}

/// A tree in OSTree's layout.
#[derive(Debug, Clone)]
pub struct RootFs {
    /// The tree's root.
    pub tree: PathBuf,
    /// The kernel's version.
    pub kernel: String,
    digest: Digest,
    lost: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Facts {
    kernel: String,
    digest: Digest,
    /// Files in /var that the image lacks, each with whose it is.
    #[serde(default)]
    lost: Vec<String>,
}

impl RootFs {
    /// Fails when files in /var are missing from the image and the policy does not allow it.
    pub fn check_losses(&self, policy: LossPolicy) -> Result<()> {
        losses::check(&self.lost, policy)
    }
}

impl Artifact for RootFs {
    fn load(out: &Path) -> Result<Self> {
        let path = out.join("facts.json");
        let facts: Facts = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { tree: out.join("tree"), kernel: facts.kernel, digest: facts.digest, lost: facts.lost })
    }

    fn digest(&self) -> Digest {
        self.digest
    }
}

impl<'a> Compose<'a> {
    /// Reads the overlays of a manifest.
    pub fn overlays(manifest: &Manifest) -> Result<Vec<Overlay>> {
        manifest
            .ostree_layers
            .iter()
            .map(|layer| Overlay::read(&manifest.dir, layer.strip_prefix("overlay/").unwrap_or(layer)))
            .collect()
    }

    /// The paths, relative to the tree, that overlays and `add-files` give content, whoever owns them.
    #[must_use]
    pub fn configured(&self) -> BTreeSet<PathBuf> {
        let overlays = self.overlays.iter().flat_map(Overlay::paths);
        overlays.chain(self.added.paths()).map(Path::to_owned).collect()
    }

    /// Identifies the content whatever version it will bear: the treefile's input hash, in rpm-ostree's
    /// sense.
    #[must_use]
    pub fn input_hash(&self) -> Digest {
        let mut hasher = KeyHasher::default();
        self.content_key(&mut hasher);
        hasher.input("stage", format_args!("{} {}", Self::NAME, Self::VERSION));
        // They reach the commit and the image, though not the tree.
        let manifest = self.manifest;
        hasher.input("ref", &manifest.reference);
        hasher.input("name", format_args!("{}: {}", manifest.name, manifest.summary));
        hasher.input("add-commit-metadata", format_args!("{:?}", manifest.commit_metadata));
        hasher.input("container-cmd", manifest.container_cmd.join(" "));
        hasher.digest()
    }

    fn content_key(&self, hash: &mut KeyHasher) {
        let manifest = self.manifest;
        hash.input("installed packages", self.installed.digest());
        for overlay in &self.overlays {
            overlay.key(hash);
        }
        hash.input("ostree-layers", manifest.ostree_layers.join(" "));
        for (index, script) in manifest.postprocess.iter().enumerate() {
            hash.input(format!("postprocess {index} ({})", script.origin), Digest::of(&script.text));
        }
        hash.input("remove-files", manifest.remove_files.join(" "));
        hash.input("tmp-is-dir", manifest.tmp_is_dir);
        hash.input("machineid-compat", manifest.machineid_compat);
        hash.input("default-target", manifest.default_target.as_deref().unwrap_or(""));
        hash.input("mutate-os-release", manifest.mutate_os_release.as_deref().unwrap_or(""));
        self.added.key(hash);
        hash.input("units", manifest.units.join(" "));
        hash.input("readonly-executables", manifest.readonly_executables);
        hash.input("initramfs-args", manifest.initramfs_args.join(" "));
        hash.input("rootfs", root_driver(manifest));
        hash.input("epoch", self.epoch);
    }
}

impl Stage for Compose<'_> {
    type Output = RootFs;
    const NAME: &'static str = "compose";
    const VERSION: u32 = 2;

    fn key(&self, hash: &mut KeyHasher) {
        self.content_key(hash);
        hash.input("version", &self.version);
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[&tool::BWRAP]
    }

    fn run(&self, work: &Workspace) -> Result<RootFs> {
        let tree = work.out().join("tree");
        copy_tree(&self.installed.tree, &tree, work)?;
        let owners = self.installed.owners()?;
        for overlay in &self.overlays {
            overlay.lay(&tree, &owners)?;
        }
        self.added.copy(&tree)?;
        extras::enable(&tree, self.manifest)?;
        if let Some(base) = &self.manifest.mutate_os_release {
            os_release::mutate(&tree, base, &self.version)?;
        }
        layout::prepare(&tree, self.manifest)?;
        postprocess::run(&self.manifest.postprocess, &tree, self.epoch, work)?;
        let kernel = kernel::settle(&tree)?;
        let args = &self.manifest.initramfs_args;
        let initramfs =
            || kernel::initramfs(&tree, &kernel, args, root_driver(self.manifest), self.epoch, work);
        match &self.manifest.mutate_os_release {
            Some(base) => os_release::hidden(&tree, base, &self.version, initramfs)?,
            None => initramfs()?,
        }
        if self.manifest.readonly_executables {
            extras::seal_executables(&tree.join("usr"))?;
        }
        let lost = losses::empty_var(&tree, &owners, &work.report)?;
        layout::finish(&tree, self.manifest, &work.report)?;
        let mut hasher = KeyHasher::default();
        self.key(&mut hasher);
        let facts = Facts { kernel, digest: hasher.digest(), lost };
        let text = serde_json::to_string(&facts).context("encoding facts about the tree")?;
        fs::write(&work.out().join("facts.json"), text)?;
        RootFs::load(&work.out())
    }
}

const fn root_driver(manifest: &Manifest) -> &'static str {
    match manifest.image.rootfs {
        RootFilesystem::Ext4 => "ext4",
        RootFilesystem::Xfs => "xfs",
    }
}

/// Copies a tree with owners, modes, links and extended attributes; a reflink where the disk can.
fn copy_tree(from: &Path, to: &Path, work: &Workspace) -> Result<()> {
    let progress = work.report.progress("copying the packages' tree", 0, Unit::Items);
    let copy = Cmd::program("cp").args(["--archive", "--reflink=auto"]).arg(from).arg(to).run();
    drop(progress);
    copy.with_context(|| format!("copying {} to {}", from.display(), to.display()))
}
