//! The stage that turns an image into a commit, and keeps the image beside it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use oci_spec::image::MediaType;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::base::{Base, check_version};
use super::changes::{self, Change};
use super::layer::{Layer, layers};
use super::limits::{ENTRIES, HELD, Held, OBJECT_ENTRIES, Refused, at, refuse};
use super::objects::{self, Objects};
use super::packages;
use super::system::{self, System};
use super::tree::{Dir, Tree};
use crate::host::clock::Utc;
use crate::host::{Tool, fs};
use crate::oci::{Budget, COMMIT, FINAL_DIFFID, Image, KeptImage, Layout, VERSION};
use crate::ostree::{
    Attributes, Checksum, Commit, Committed, Incoming, Metadata, OstreeCommit, PackageEntry, REPO, Repo, key,
};
use crate::pipeline::{Artifact, Digest, KeyHasher, Progress, Stage, Unit, Workspace};

const RECORD: &str = "import.json";

/// Makes a commit of an image.
pub struct Import<'a> {
    /// Where the image lies.
    pub layout: &'a Layout,
    /// The image.
    pub image: &'a Image,
    /// The branch that the build will name; the commit does not depend on it.
    pub branch: String,
}

/// What came of an image.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The commit.
    pub commit: OstreeCommit,
    /// The image, as it was.
    pub image: KeptImage,
    /// Seconds since the epoch: the commit's time.
    pub timestamp: u64,
    /// What the user should know.
    pub warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    timestamp: u64,
    warnings: Vec<String>,
}

impl Artifact for Imported {
    fn load(out: &Path) -> Result<Self> {
        let path = out.join(RECORD);
        let record: Record = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("reading {}", path.display()))?;
        Ok(Self {
            commit: OstreeCommit::load(out)?,
            image: KeptImage::in_dir(out),
            timestamp: record.timestamp,
            warnings: record.warnings,
        })
    }

    fn digest(&self) -> Digest {
        self.commit.digest()
    }

    fn is_whole(&self, cache: &crate::pipeline::Cache) -> Result<bool> {
        self.commit.is_whole(cache)
    }
}

impl Stage for Import<'_> {
    type Output = Imported;
    const NAME: &'static str = "import";
    const VERSION: u32 = 2;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("image", self.image.digest);
        hash.input("branch", &self.branch);
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[]
    }

    fn run(&self, work: &Workspace) -> Result<Imported> {
        let total = self.image.manifest.layers().iter().map(|layer| layer.size()).sum();
        let progress = work.report.progress("checking the image's blobs", total, Unit::Bytes);
        self.layout.keep(self.image, &work.out(), &progress)?;
        drop(progress);
        let repo = Repo::create(&work.shared(REPO)?)?;
        let progress = work.report.progress("reading the image's layers", 0, Unit::Bytes);
        let incoming = Incoming::new(&repo)?;
        let reader =
            Reader { layout: self.layout, image: self.image, incoming, held: Held::new(HELD), progress };
        let (committed, record) = reader.import()?;
        let object = repo.commit_object(committed.commit)?;
        let version = object.metadata.text(key::VERSION).unwrap_or_default();
        OstreeCommit::record(&work.out(), (REPO, &repo), &committed, &self.branch, version)?;
        let text = serde_json::to_string_pretty(&record).context("encoding an import's record")?;
        fs::write(&work.out().join(RECORD), text)?;
        Imported::load(&work.out())
    }
}

struct Reader<'a> {
    layout: &'a Layout,
    image: &'a Image,
    incoming: Incoming,
    held: Held,
    progress: Progress,
}

impl Reader<'_> {
    fn import(self) -> Result<(Committed, Record)> {
        let kind = self.image.manifest.config().media_type();
        if *kind != MediaType::ImageConfig {
            let cure = "name an image that runs as a container; this is another kind of artifact";
            return Err(Refused::with(format!("its configuration is {kind}"), cure).at("the image").into());
        }
        let labels = self.image.labels();
        let layers = layers(self.layout, self.image);
        let (own, others) = split(&layers, self.image)?;
        let objects = self.objects(own)?;
        let layers = self.changes(others)?;
        let mut tree = Tree::new(Dir::new(Attributes::directory()), 1);
        let mut base = None;
        let mut before = None;
        if !own.is_empty() {
            let place = |error| at("the image's OSTree layers", error);
            let found = Base::find(&objects, labels.get(COMMIT).map(String::as_str)).map_err(place)?;
            tree = found.tree(&objects, &self.held).map_err(place)?;
            system::as_container(&mut tree.root);
            before = Some(tree.root.entries.keys().cloned().collect::<BTreeSet<String>>());
            base = Some(found);
        }
        if others.is_empty()
            && let Some(base) = base
        {
            return self.unchanged(tree, &base);
        }
        for (layer, changes) in others.iter().zip(layers) {
            tree.apply(changes, &objects).map_err(|error| layer.at(error))?;
        }
        drop(objects);
        let packages = packages::read(&tree.root, &self.incoming)?;
        let system = system::settle(&mut tree.root, before.as_ref(), &self.incoming)
            .map_err(|error| at("the image", error))?;
        self.commit(tree, base.as_ref(), (system, packages), &labels)
    }

    /// The objects of the layers that are an OSTree commit; each layer by itself, on all cores.
    fn objects(&self, layers: &[Layer<'_>]) -> Result<Objects> {
        let budget = Budget::of(self.image, OBJECT_ENTRIES);
        let read = |layer: &Layer<'_>| {
            let reader = objects::Reader::new(&self.incoming, &self.held);
            layer.read(&budget, &self.progress, reader, |reader, entry, content| reader.read(entry, content))
        };
        let found = layers.par_iter().with_max_len(1).map(read).collect::<Result<Vec<_>>>()?;
        let mut all = Objects::default();
        found.into_iter().for_each(|reader| all.join(reader.found));
        Ok(all)
    }

    /// What the other layers change.
    fn changes(&self, layers: &[Layer<'_>]) -> Result<Vec<Vec<Change>>> {
        let budget = Budget::of(self.image, ENTRIES);
        let read = |layer: &Layer<'_>| {
            layer.read(&budget, &self.progress, Vec::new(), |changes, entry, content| {
                changes.extend(changes::read(entry, content, &self.incoming, &self.held)?);
                Ok(())
            })
        };
        layers.par_iter().with_max_len(1).map(read).collect()
    }

    /// The image's own commit, which nothing was added to.
    fn unchanged(self, tree: Tree, base: &Base) -> Result<(Committed, Record)> {
        system::kernel(&tree.root).map_err(|error| at("the image", error))?;
        let mut tree = tree;
        system::as_commit(&mut tree.root).map_err(|error| at("the image", error))?;
        let mut files = HashSet::new();
        let written = tree.root.write(&self.incoming, &mut files)?;
        if written != (base.commit.tree, base.commit.meta) {
            let what = format!("commit {} is not in its canonical form", base.checksum);
            return Err(at("the image's OSTree layers", refuse(what)));
        }
        let commit = self.incoming.commit_bytes(&base.bytes)?;
        self.finish(commit, &base.commit, &files, Vec::new())
    }

    fn commit(
        self,
        tree: Tree,
        base: Option<&Base>,
        (system, packages): (System, Option<Vec<PackageEntry>>),
        labels: &BTreeMap<String, String>,
    ) -> Result<(Committed, Record)> {
        let mut files = HashSet::new();
        let (entries, meta) = tree.root.write(&self.incoming, &mut files)?;
        let mut metadata = Metadata::new();
        if let Some(version) = labels.get(VERSION) {
            check_version(version).map_err(|error| at("the image", error))?;
            metadata.set(key::VERSION, version.as_str());
        }
        metadata.set_bootable(&system.kernel);
        if let Some(packages) = packages {
            metadata.set(key::PACKAGES, packages);
        }
        // By these, ostree-ext knows which image a deployment is.
        metadata.set("ostree.manifest-digest", format!("sha256:{}", self.image.digest));
        metadata.set("ostree.manifest", self.text(&self.image.manifest_bytes)?);
        let config = self.layout.document(self.image.manifest.config())?;
        metadata.set("ostree.container.image-config", self.text(&config)?);
        let commit = Commit {
            metadata,
            parent: None,
            subject: format!("Image sha256:{}", self.image.digest),
            body: base
                .map_or_else(String::new, |base| format!("It is derived from commit {}.", base.checksum)),
            timestamp: created(self.image),
            tree: entries,
            meta,
        };
        let checksum = self.incoming.commit(&commit)?;
        self.finish(checksum, &commit, &files, system.warnings)
    }

    fn text(&self, bytes: &[u8]) -> Result<String> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        text.map(str::to_owned).ok_or_else(|| at("the image", refuse("a document of it is not UTF-8")))
    }

    fn finish(
        self,
        checksum: Checksum,
        commit: &Commit,
        files: &HashSet<Checksum>,
        warnings: Vec<String>,
    ) -> Result<(Committed, Record)> {
        let stats = self.incoming.publish(files)?;
        let committed = Committed { commit: checksum, content: commit.content_checksum(), stats };
        Ok((committed, Record { timestamp: commit.timestamp, warnings }))
    }
}

/// The layers of the image's own commit, and those after it.
fn split<'l, 'a>(layers: &'l [Layer<'a>], image: &Image) -> Result<(&'l [Layer<'a>], &'l [Layer<'a>])> {
    let labels = image.labels();
    if labels.contains_key(COMMIT) && !labels.contains_key(FINAL_DIFFID) {
        let what =
            format!("label {COMMIT} is there, but {FINAL_DIFFID} is not: which layers are the commit's?");
        return Err(Refused::with(what, "keep both labels in the Containerfile").at("the image").into());
    }
    // Of an image that was squashed the files count.
    Ok(layers.split_at(image.commit_layers().unwrap_or(0)))
}

/// When the image was made, in seconds since the epoch.
fn created(image: &Image) -> u64 {
    let text = image.config.created().as_deref().unwrap_or_default();
    let whole = text.split_once('.').map_or_else(|| text.to_owned(), |(whole, _)| format!("{whole}Z"));
    Utc::parse(&whole).map_or(0, |time| time.to_epoch())
}
