//! Deriving an image, from the Containerfile to the archive and what is to be said of it.

use std::collections::{BTreeSet, HashMap};
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::ImageConfiguration;
use serde::Serialize;

use super::builder::Builder;
use super::lint::Finding;
use super::service::Service;
use super::steps::{self, Step, Steps};
use super::{context, lint};
use crate::compression::{self, Format};
use crate::failure::{Failure, Kind};
use crate::host::{environment, fs};
use crate::oci::{AddedLayer, DockerLayer, Image, Layout, extend};
use crate::pipeline::{Digest, Hashing, Reporter, Unit};

/// The argument by which a Containerfile says that it wants a build's image: `ARG BASE`, `FROM ${BASE}`.
const BASE: &str = "BASE";

/// What to derive, and from what.
#[derive(Debug)]
pub struct Request<'a> {
    /// The base.
    pub base: (&'a Layout, &'a Image),
    /// What the base is called in the builder's storage.
    pub base_name: &'a str,
    /// The Containerfile; the context's own if there is none.
    pub containerfile: Option<&'a Path>,
    /// The directory that COPY copies from.
    pub context: &'a Path,
    /// What the result is called in the builder's storage.
    pub name: &'a str,
    /// Arguments for the Containerfile's ARGs.
    pub arguments: &'a [(String, String)],
    /// Whether to run every instruction, whatever the builder remembers.
    pub no_cache: bool,
    /// An empty directory with room for the result.
    pub scratch: &'a Path,
    /// Where the builder's whole output goes.
    pub log: &'a Path,
}

/// What was made.
#[derive(Debug, Serialize)]
pub struct Derived {
    /// What it is called in the builder's storage.
    pub name: String,
    /// The manifest's digest.
    pub manifest: Digest,
    /// The base's manifest's digest.
    pub base: Digest,
    /// The `oci-archive`, in the scratch directory until it is placed.
    pub archive: PathBuf,
    /// What each instruction added.
    pub steps: Vec<Step>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// Derives an image and looks at it.
pub fn derive(request: &Request<'_>, report: &Reporter) -> Result<Derived> {
    let (layout, base) = request.base;
    let containerfile = context::containerfile(request.containerfile, request.context)?;
    let arguments = arguments(request, &fs::read_to_string(&containerfile)?);
    let packed = context::pack(request.context, &containerfile, &request.scratch.join("context.tar"))?;
    let service = Service::find(&request.scratch.join("podman.log"))?;
    let builder = Builder::connect(&service, report)?;
    builder.load(layout, base, request.base_name)?;
    let mut steps = Steps::new(report, request.log)?;
    builder.build(&packed, request.name, &arguments, request.no_cache, &mut steps)?;
    drop(steps);

    let diff_ids = diff_ids(&base.config)?;
    let known: BTreeSet<Digest> = diff_ids.iter().copied().collect();
    let archive = builder.export(request.name, &known, request.scratch)?;
    let config: ImageConfiguration = serde_json::from_slice(&archive.config)
        .map_err(|error| wrong(request, &format!("its configuration is not OCI's: {error}")))?;
    let found: Vec<Digest> = archive.layers.iter().map(|layer| layer.diff_id).collect();
    if self::diff_ids(&config)? != found {
        return Err(wrong(request, "its layers are not those that its configuration tells of"));
    }
    if !found.starts_with(&diff_ids) {
        return Err(wrong(request, &format!("it is not built upon {}", request.base_name)));
    }
    let layers = &archive.layers[diff_ids.len()..];
    let added = compress(layers, request.scratch, report)?;
    let written = request.scratch.join("derived.ociarchive");
    let manifest = extend(request.base, &config, &added, Some(request.name), &written)?;

    let derived = Layout::open(&written)?;
    let image = derived.image(None, environment::basearch())?;
    let findings = lint(&derived, &image, report)?;
    let sizes: Vec<(u64, u64)> =
        added.iter().zip(layers).map(|(added, layer)| (added.size, layer.size)).collect();
    Ok(Derived {
        name: request.name.to_owned(),
        manifest,
        base: base.digest,
        archive: written,
        steps: steps::sizes(&base.config, &config, &sizes),
        findings,
    })
}

impl Derived {
    /// Puts the archive where it is wanted; nothing may be there yet.
    pub fn place(&mut self, output: &Path) -> Result<()> {
        check_free(output)?;
        let mut beside = output.as_os_str().to_owned();
        beside.push(".part");
        let beside = PathBuf::from(beside);
        fs::link_or_copy(&self.archive, &beside)?;
        fs::rename(&beside, output)?;
        output.clone_into(&mut self.archive);
        Ok(())
    }
}

/// Fails when something is where an archive shall go.
pub fn check_free(output: &Path) -> Result<()> {
    if output.symlink_metadata().is_err() {
        return Ok(());
    }
    let cause = format!("{} is there already", output.display());
    Err(Failure::new(Kind::Usage, cause, "remove it, or name another --output").into())
}

/// The user's arguments, and the base's name where the Containerfile asks for it.
fn arguments(request: &Request<'_>, text: &str) -> HashMap<String, String> {
    let asks = |line: &str| {
        let mut words = line.split_whitespace();
        let is_arg = words.next().is_some_and(|word| word.eq_ignore_ascii_case("ARG"));
        is_arg && words.any(|word| word.split('=').next() == Some(BASE))
    };
    let mut arguments = HashMap::new();
    // A line may go on in the next.
    if text.replace("\\\r\n", " ").replace("\\\n", " ").lines().any(asks) {
        arguments.insert(BASE.to_owned(), request.base_name.to_owned());
    }
    arguments.extend(request.arguments.iter().cloned());
    arguments
}

fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>> {
    let parse = |id: &String| -> Result<Digest> {
        let hex = id.strip_prefix("sha256:").unwrap_or(id);
        hex.parse().with_context(|| format!("reading the diff_id {id}"))
    };
    config.rootfs().diff_ids().iter().map(parse).collect()
}

fn wrong(request: &Request<'_>, why: &str) -> anyhow::Error {
    let cause = format!("what the builder made of the Containerfile cannot be used: {why}");
    let cure = format!(
        "begin its last stage with `ARG {BASE}` and `FROM ${{{BASE}}}`, or FROM {}",
        request.base_name
    );
    Failure::new(Kind::Build, cause, cure).into()
}

/// Compresses layers as nosa compresses its own.
fn compress(layers: &[DockerLayer], scratch: &Path, report: &Reporter) -> Result<Vec<AddedLayer>> {
    let total = layers.iter().map(|layer| layer.size).sum();
    let progress = report.progress("compressing what was added", total, Unit::Bytes);
    let compress = |(index, layer): (usize, &DockerLayer)| -> Result<AddedLayer> {
        // An instruction may add what a layer of the base is, to the bit: the empty layer is such.
        let source = layer.file.as_ref().context("a layer was added that the base has")?;
        let file = scratch.join(format!("added-{index}"));
        let mut out = Hashing::new(BufWriter::with_capacity(1 << 20, fs::create(&file)?));
        let level = Format::Gzip.usual_level();
        let threads = environment::processors();
        compression::encode(
            Format::Gzip,
            level,
            threads,
            Some(layer.size),
            &mut fs::open(source)?,
            &mut out,
        )?;
        let (digest, size, out) = out.finish();
        out.into_inner().with_context(|| format!("writing {}", file.display()))?;
        progress.add(layer.size);
        Ok(AddedLayer { file, digest, size })
    };
    layers.iter().enumerate().map(compress).collect()
}
