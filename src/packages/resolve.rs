//! The stage that turns a list of packages into the exact set.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::backend::{PackageBackend, Request};
use super::model::Package;
use super::snapshot::Snapshot;
use crate::host::{Tool, fs};
use crate::pipeline::{Artifact, Digest, KeyHasher, Stage, Workspace};

const FILE: &str = "packages.json";

/// Resolves a request against a snapshot of the repositories.
pub struct Resolve<'a> {
    /// The package manager.
    pub backend: &'a dyn PackageBackend,
    /// What is asked for.
    pub request: Request,
    /// What the repositories offer.
    pub snapshot: Snapshot,
}

/// The exact set of packages.
#[derive(Debug, Clone)]
pub struct ResolvedPackages {
    /// The packages, sorted by name.
    pub packages: Vec<Package>,
    digest: Digest,
}

impl Artifact for ResolvedPackages {
    fn load(out: &Path) -> Result<Self> {
        let text = fs::read_to_string(&out.join(FILE))?;
        let packages = serde_json::from_str(&text).with_context(|| format!("reading {FILE}"))?;
        Ok(Self { packages, digest: Digest::of(text) })
    }

    fn digest(&self) -> Digest {
        self.digest
    }
}

impl Stage for Resolve<'_> {
    type Output = ResolvedPackages;
    const NAME: &'static str = "resolve";
    const VERSION: u32 = 1;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("repositories", self.snapshot.digest);
        let mut wanted: Vec<&str> = self.request.packages.iter().map(|wanted| wanted.name.as_str()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        for name in wanted {
            hash.input(format!("packages: {name}"), "wanted");
        }
        for locked in &self.request.locked {
            let digest = locked.sha256.map(|digest| digest.to_string()).unwrap_or_default();
            let arch = locked.arch.as_deref().unwrap_or_default();
            hash.input(format!("lock: {}", locked.name), format_args!("{} {arch} {digest}", locked.evr));
        }
        for local in self.backend.overrides() {
            hash.input(format!("override: {}", local.file_name()), local.sha256);
        }
        hash.input("exclude-packages", self.request.exclude.join(" "));
        hash.input("recommends", self.request.recommends);
        hash.input("strict", self.request.strict);
        hash.input("pins", self.backend.identity());
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[]
    }

    fn run(&self, work: &Workspace) -> Result<ResolvedPackages> {
        crate::host::require(self.backend.tools()).map_err(crate::failure::Failure::from)?;
        let packages = self.backend.resolve(&self.request, &work.report)?;
        let text = serde_json::to_string_pretty(&packages).context("encoding the set of packages")?;
        fs::write(&work.out().join(FILE), text)?;
        ResolvedPackages::load(&work.out())
    }
}
