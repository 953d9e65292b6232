//! Loading a configuration directory: all of it, or a failure that points at the place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::image;
use super::include::Walk;
use super::model::{ImageConfig, Manifest};
use super::repositories::Repositories;
use super::source::{Disk, Source};
use super::treefile::Treefile;
use super::validate::Parts;
use crate::document::{Map, Position, Value};
use crate::failure::Failure;

/// How to load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// The architecture to build for.
    pub basearch: String,
    /// The variant: `manifest-V.yaml` and `image-V.yaml` instead of the plain names.
    pub variant: Option<String>,
    /// Further directories with repository definitions (`src/yumrepos`).
    pub repo_dirs: Vec<PathBuf>,
}

impl LoadOptions {
    /// For `basearch`, without variant.
    #[must_use]
    pub fn new(basearch: impl Into<String>) -> Self {
        Self { basearch: basearch.into(), ..Self::default() }
    }
}

/// A loaded configuration.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What it says.
    pub manifest: Manifest,
    /// What was accepted without effect, each with its place.
    pub warnings: Vec<String>,
    /// Every file that was read, repository definitions and scripts included, in order and once.
    pub files: Vec<PathBuf>,
    /// Where things stand.
    pub provenance: Provenance,
    /// The merged files, every value with its place.
    pub merged: Merged,
}

/// The configuration's files as one treefile, one image.yaml and one architecture's platforms.
#[derive(Debug, Clone, Default)]
pub struct Merged {
    /// The treefile, variables substituted where they are.
    pub treefile: Map,
    /// image.yaml, without defaults.
    pub image: Map,
    /// platforms.yaml of the architecture.
    pub platforms: Map,
}

/// Where the values of a manifest stand, for messages of later steps.
#[derive(Debug, Clone, Default)]
pub struct Provenance {
    keys: BTreeMap<String, Position>,
    items: BTreeMap<(String, String), Position>,
}

impl Provenance {
    fn of(treefile: &Treefile) -> Self {
        let mut this = Self::default();
        for (key, node) in &treefile.values {
            this.keys.insert((*key).to_owned(), node.position.clone());
            if let Value::List(items) = &node.value {
                for item in items {
                    if let Value::Text(text) = &item.value {
                        let place = ((*key).to_owned(), text.clone());
                        this.items.entry(place).or_insert_with(|| item.position.clone());
                    }
                }
            }
        }
        this
    }

    /// Where the value of a key stands (the outermost file's, if several have one).
    #[must_use]
    pub fn key(&self, key: &str) -> Option<&Position> {
        self.keys.get(key)
    }

    /// Where a package is asked for, in whichever list.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&Position> {
        let mut lists = self.items.iter().filter(|((key, _), _)| key.starts_with("packages"));
        lists.find(|((_, text), _)| text.split_whitespace().any(|word| word == name)).map(|(_, place)| place)
    }

    /// Where an item of a list stands: `item("packages", "bash")`.
    #[must_use]
    pub fn item(&self, key: &str, text: &str) -> Option<&Position> {
        self.items.get(&(key.to_owned(), text.to_owned()))
    }
}

/// Loads the configuration in `dir`: manifest.yaml (or .json), image.yaml, platforms.yaml and all they name.
pub fn load(dir: &Path, options: &LoadOptions) -> Result<Loaded> {
    Ok(load_from(&Disk, dir, options)?)
}

/// Loads as much of the configuration in `dir` as can be, with everything that is wrong with it.
#[must_use]
pub fn examine(dir: &Path, options: &LoadOptions) -> (Loaded, Vec<Failure>) {
    examine_from(&Disk, dir, options)
}

/// As [`load`], from any file tree.
pub(super) fn load_from(source: &dyn Source, dir: &Path, options: &LoadOptions) -> Result<Loaded, Failure> {
    let (loaded, problems) = examine_from(source, dir, options);
    problems.into_iter().next().map_or(Ok(loaded), Err)
}

/// As [`examine`], from any file tree.
pub(super) fn examine_from(source: &dyn Source, dir: &Path, options: &LoadOptions) -> (Loaded, Vec<Failure>) {
    let file = |stem: &str, extension: &str| match &options.variant {
        Some(variant) if variant != "default" => dir.join(format!("{stem}-{variant}.{extension}")),
        _ => dir.join(format!("{stem}.{extension}")),
    };
    let mut walk = Walk::new(source, dir, &options.basearch);
    let json = file("manifest", "json");
    let path = file("manifest", "yaml");
    let path = if source.canonical(&path).is_err() && source.canonical(&json).is_ok() { json } else { path };
    let treefile = walk.treefile(&path, None);
    let whole = walk.notes.problems.is_empty();
    let image_path = file("image", "yaml");
    let image_map = image::flatten(&mut walk, &image_path);
    let image_name = walk.name(&image_path);
    // Of a file that could not be read, nothing can be missing.
    let image = if image_map.entries.is_empty() && !walk.notes.problems.is_empty() {
        ImageConfig::default()
    } else {
        image::config(&image_map, &image_name, &mut walk.notes)
    };
    let platforms_path = dir.join("platforms.yaml");
    let (platforms, platforms_map) = if source.canonical(&platforms_path).is_ok() {
        let root = walk.document(&platforms_path, None);
        let root = walk.notes.take(root);
        let of_arch = root.as_ref().and_then(|root| root.map("").ok()?.get(&options.basearch)?.map("").ok());
        let platforms = root.as_ref().map(|root| image::platforms(root, &options.basearch, &mut walk.notes));
        (platforms.unwrap_or_default(), of_arch.cloned().unwrap_or_default())
    } else {
        Default::default()
    };
    let dirs: Vec<&Path> =
        std::iter::once(dir).chain(options.repo_dirs.iter().map(PathBuf::as_path)).collect();
    let repositories = Repositories::discover(source, &dirs, &mut walk.notes);
    let repositories = walk.notes.take(repositories);
    walk.files.extend(repositories.iter().flat_map(|all| &all.files).map(|file| file.path.clone()));
    let variables = walk.variables.clone();
    let parts = Parts {
        treefile: &treefile,
        variables: &variables,
        name: &walk.name(&path),
        dir,
        basearch: &options.basearch,
        repositories,
        whole,
    };
    let manifest = Manifest { image, platforms, ..parts.manifest(&mut walk, source) };
    let provenance = Provenance::of(&treefile);
    let treefile = treefile.into_map(walk.definitions, &variables);
    let merged = Merged { treefile, image: image_map, platforms: platforms_map };
    let loaded = Loaded { manifest, warnings: walk.notes.warnings, files: walk.files, provenance, merged };
    (loaded, walk.notes.problems)
}
