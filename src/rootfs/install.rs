//! The tree that the packages alone give.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::accounts;
use crate::host::{Tool, environment, fs, tool};
use crate::manifest::Manifest;
use crate::packages::{InstallRequest, Package, PackageBackend, RemovedFiles};
use crate::pipeline::{Artifact, Digest, KeyHasher, Stage, Workspace};

/// The time that packages' scripts see, whatever `SOURCE_DATE_EPOCH` says: 1970-01-02. It must not depend on
/// when or from which commit somebody builds, or nothing could be reused, and every update would ship another
/// initramfs (it holds /etc/shadow, with the day); it is not the epoch itself because shadow(5) takes day 0
/// for an expired password.
pub const TREE_EPOCH: u64 = 86_400;

/// Downloads and installs packages into a fresh tree.
pub struct Install<'a> {
    /// The package manager.
    pub backend: &'a dyn PackageBackend,
    /// The exact packages.
    pub packages: &'a [Package],
    /// Files of packages to leave out.
    pub remove: Vec<RemovedFiles>,
    /// The configuration: its accounts, documentation and languages.
    pub manifest: &'a Manifest,
    /// The time that scripts see.
    pub epoch: u64,
}

/// A tree with configured packages.
#[derive(Debug, Clone)]
pub struct InstalledTree {
    /// The tree's root.
    pub tree: PathBuf,
    digest: Digest,
    owners: PathBuf,
}

impl InstalledTree {
    /// Which package each path belongs to.
    pub fn owners(&self) -> Result<BTreeMap<String, String>> {
        let text = fs::read_to_string(&self.owners)?;
        serde_json::from_str(&text).with_context(|| format!("reading {}", self.owners.display()))
    }
}

impl Artifact for InstalledTree {
    fn load(out: &Path) -> Result<Self> {
        let digest = fs::read_to_string(&out.join("digest"))?;
        let digest = digest.trim().parse().context("reading the digest of an installed tree")?;
        Ok(Self { tree: out.join("tree"), digest, owners: out.join("owners.json") })
    }

    fn digest(&self) -> Digest {
        self.digest
    }
}

impl Install<'_> {
    /// Identifies the tree by what it is made of: reading it all again would cost more than it tells.
    fn identity(&self) -> Digest {
        let mut hasher = KeyHasher::default();
        self.key(&mut hasher);
        hasher.digest()
    }
}

impl Stage for Install<'_> {
    type Output = InstalledTree;
    const NAME: &'static str = "install";
    const VERSION: u32 = 1;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("package manager", self.backend.name());
        if self.backend.generation() > 1 {
            hash.input("how it installs", self.backend.generation());
        }
        for package in self.packages {
            hash.input(
                format!("package {}", package.name),
                format_args!("{} {}", package.evr, package.sha256),
            );
        }
        for (index, remove) in self.remove.iter().enumerate() {
            let patterns: Vec<&str> = remove.patterns.iter().map(regex::Regex::as_str).collect();
            hash.input(
                format!("remove-from-packages {index}"),
                format_args!("{} {}", remove.package, patterns.join(" ")),
            );
        }
        hash.input("documentation", self.manifest.documentation);
        hash.input("install-langs", format_args!("{:?}", self.manifest.install_langs));
        accounts::key(self.manifest, hash);
        hash.input("epoch", self.epoch);
    }

    fn tools(&self) -> &'static [&'static Tool] {
        // What they print or how they download does not shape the tree: not in the key, so not here.
        &[]
    }

    fn run(&self, work: &Workspace) -> Result<InstalledTree> {
        crate::host::require(&[&tool::BWRAP]).map_err(crate::failure::Failure::from)?;
        let files = self.backend.download(self.packages, &work.report)?;
        let tree = work.out().join("tree");
        fs::create_dir_all(&tree)?;
        accounts::seed(&tree, self.manifest)?;
        self.backend.install(&InstallRequest {
            packages: self.packages,
            files: &files,
            tree: &tree,
            tmp: &work.tmp(),
            log: &work.log("install"),
            epoch: self.epoch,
            remove: &self.remove,
            documentation: self.manifest.documentation,
            languages: self.manifest.install_langs.as_deref(),
            limit: Duration::from_secs(environment::script_limit()),
            report: &work.report,
        })?;
        accounts::check(&tree, self.manifest, &work.report)?;
        let owners = self.backend.owners(&tree)?;
        let owners = serde_json::to_string(&owners).context("encoding the owners of paths")?;
        fs::write(&work.out().join("owners.json"), owners)?;
        fs::write(&work.out().join("digest"), self.identity().to_string())?;
        InstalledTree::load(&work.out())
    }
}
