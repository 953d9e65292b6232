//! A commit as an image: compresses the layers of a plan side by side, writes the archive.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::Os;
use rayon::prelude::*;

use super::archive::{self, Blob, BlobBytes};
use super::image::{self, Compression, Description, Layer};
use super::layer::{LayerFile, LayerWriter};
use super::plan::{BlobRecord, LayerPlan, LayerRecord, PlanRecord, PlannedLayer, Unit, UnitRecord};
use crate::host::fs;
use crate::ostree::{Checksum, Commit, Node, NodeObject, Repo, Value, key};
use crate::pipeline::{Digest, Hashing};

/// What an image says besides what its commit says.
#[derive(Debug, Clone, Default)]
pub struct ExportOptions {
    /// How layers are compressed.
    pub compression: Compression,
    /// The architecture: the kernel's name or OCI's.
    pub architecture: String,
    /// Labels, which win over the commit's.
    pub labels: BTreeMap<String, String>,
    /// Metadata keys of the commit that become labels when it has them as strings.
    pub copy_keys: Vec<String>,
    /// What a container runs when it is told nothing.
    pub cmd: Vec<String>,
    /// The image's name and tag within the archive.
    pub reference: Option<String>,
}

/// An image that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The manifest's digest: the image's identity.
    pub manifest: Digest,
    /// The manifest's bytes, as builds publish them.
    pub manifest_bytes: Vec<u8>,
    /// The size of the archive.
    pub size: u64,
    /// The digests of the layers before compression, in order.
    pub diff_ids: Vec<Digest>,
    /// What it is made of.
    pub plan: PlanRecord,
}

/// Writes a commit as an `oci-archive` at `target`; `scratch` is an empty directory on the same disk.
pub fn export(
    repo: &Repo,
    commit: Checksum,
    plan: &LayerPlan,
    options: &ExportOptions,
    scratch: &Path,
    target: &Path,
) -> Result<Exported> {
    let object = repo.commit_object(commit)?;
    let nodes = repo.walk(commit)?;
    let contents = contents(&nodes, plan);
    let exporter = Exporter { repo, commit, nodes: &nodes, options, scratch };
    let (mut layers, files): (Vec<Layer>, Vec<PathBuf>) =
        exporter.layers(&contents, plan)?.into_iter().unzip();
    layers[0].name = match object.subject.as_str() {
        "" => format!("ostree export of commit {commit}"),
        subject => subject.to_owned(),
    };
    for (layer, planned) in layers.iter_mut().skip(1).zip(&plan.layers) {
        layer.name.clone_from(&planned.name);
        layer.components = planned.units.keys().map(ToString::to_string).collect();
    }

    let last = layers.last().context("exporting a commit without layers")?.diff_id;
    let labels = labels(commit, &object, options, last);
    let description = Description {
        architecture: &options.architecture,
        labels: &labels,
        cmd: &options.cmd,
        created: object.timestamp,
        compression: options.compression,
    };
    let held = |bytes: Vec<u8>| Blob { digest: Digest::of(&bytes), bytes: BlobBytes::Held(bytes) };
    let config_bytes = image::configuration(&layers, &description)?;
    let config_size = config_bytes.len() as u64;
    let config = held(config_bytes);
    let manifest_bytes = image::manifest((config.digest, config_size), &layers, &description)?;
    let manifest = held(manifest_bytes.clone());
    let digest = manifest.digest;
    let documents = [
        BlobRecord { sha256: digest, size: manifest_bytes.len() as u64 },
        BlobRecord { sha256: config.digest, size: config_size },
    ];
    let architecture = image::arch(&options.architecture);
    let entry = image::entry(digest, manifest_bytes.len() as u64, architecture, Os::Linux)?;
    let index = image::index(entry, options.reference.as_deref())?;
    let mut blobs = vec![config, manifest];
    blobs.extend(
        layers
            .iter()
            .zip(files)
            .map(|(layer, file)| Blob { digest: layer.digest, bytes: BlobBytes::File(file, layer.size) }),
    );
    let size = archive::write(target, &index, blobs, None)?;
    Ok(Exported {
        manifest: digest,
        manifest_bytes,
        size,
        diff_ids: layers.iter().map(|layer| layer.diff_id).collect(),
        plan: record(options.compression, documents, &layers, plan),
    })
}

/// The file objects of each layer, in the order of the tree: neighbours compress well together. An object
/// whose paths are in several layers is in each of them: a layer depends on nothing but its own files, and
/// importers pass over what they have.
fn contents<'a>(nodes: &'a [Node], plan: &LayerPlan) -> Vec<Vec<LayerFile<'a>>> {
    let mut layer_of: HashMap<&Path, usize> = HashMap::new();
    for (index, layer) in plan.layers.iter().enumerate() {
        layer_of.extend(layer.files.iter().map(|path| (path.as_path(), index + 1)));
    }
    let mut contents: Vec<Vec<LayerFile<'a>>> = vec![Vec::new(); plan.layers.len() + 1];
    let mut places: HashMap<(usize, Checksum), usize> = HashMap::new();
    for node in nodes {
        let NodeObject::File(checksum) = node.object else { continue };
        let layer = layer_of.get(node.path.as_path()).copied().unwrap_or(0);
        let at = *places.entry((layer, checksum)).or_insert_with(|| {
            contents[layer].push(LayerFile { checksum, paths: Vec::new() });
            contents[layer].len() - 1
        });
        contents[layer][at].paths.push(&node.path);
    }
    contents
}

/// What the image is made of, for those who plan and compare.
fn record(
    compression: Compression,
    [manifest, config]: [BlobRecord; 2],
    layers: &[Layer],
    plan: &LayerPlan,
) -> PlanRecord {
    let none = BTreeMap::new();
    let units = std::iter::once(&none).chain(plan.layers.iter().map(|layer| &layer.units));
    let record = |(layer, units): (&Layer, &BTreeMap<Unit, UnitRecord>)| LayerRecord {
        name: layer.name.clone(),
        sha256: layer.digest,
        diff_id: layer.diff_id,
        size: layer.size,
        units: units.clone(),
    };
    PlanRecord::new(compression, manifest, config, layers.iter().zip(units).map(record).collect())
}

/// The image's labels: the commit's own, those copied from its metadata, and the caller's over them.
fn labels(
    commit: Checksum,
    object: &Commit,
    options: &ExportOptions,
    last: Digest,
) -> BTreeMap<String, String> {
    let metadata = &object.metadata;
    let mut labels = BTreeMap::new();
    let copied = options.copy_keys.iter().map(String::as_str).chain([key::LINUX]);
    for name in copied {
        if let Some(text) = metadata.text(name) {
            labels.insert(name.to_owned(), text.to_owned());
        }
    }
    if let Some(version) = metadata.text(key::VERSION) {
        labels.insert(image::VERSION.to_owned(), version.to_owned());
    }
    if let Some(Value::Bool(bootable)) = metadata.get(key::BOOTABLE) {
        labels.insert(key::BOOTABLE.to_owned(), bootable.to_string());
        labels.insert("containers.bootc".to_owned(), "1".to_owned());
    }
    labels.extend(options.labels.iter().map(|(name, value)| (name.clone(), value.clone())));
    // What importers rely on is not the caller's to say.
    labels.insert(image::COMMIT.to_owned(), commit.to_string());
    labels.insert(image::FINAL_DIFFID.to_owned(), format!("sha256:{last}"));
    labels
}

struct Exporter<'a> {
    repo: &'a Repo,
    commit: Checksum,
    nodes: &'a [Node],
    options: &'a ExportOptions,
    scratch: &'a Path,
}

/// A compressed layer on its way to disk, hashed behind the compression.
type Blobfile = Hashing<BufWriter<File>>;

impl Exporter<'_> {
    /// Writes the layers, the largest first: the last to end is then a small one.
    fn layers(&self, contents: &[Vec<LayerFile<'_>>], plan: &LayerPlan) -> Result<Vec<(Layer, PathBuf)>> {
        let sizes: Vec<u64> = std::iter::once(u64::MAX)
            .chain(plan.layers.iter().map(|layer: &PlannedLayer| layer.size))
            .collect();
        let mut order: Vec<usize> = (0..contents.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(sizes[*index]));
        let mut layers = order
            .into_iter()
            .par_bridge()
            .map(|index| Ok((index, self.layer(index, &contents[index])?)))
            .collect::<Result<Vec<(usize, (Layer, PathBuf))>>>()?;
        layers.sort_by_key(|(index, _)| *index);
        Ok(layers.into_iter().map(|(_, layer)| layer).collect())
    }

    fn layer(&self, index: usize, files: &[LayerFile<'_>]) -> Result<(Layer, PathBuf)> {
        let path = self.scratch.join(format!("layer-{index}"));
        let blob = Hashing::new(BufWriter::with_capacity(1 << 18, fs::create(&path)?));
        let write = || -> Result<(Digest, Blobfile)> {
            match self.options.compression {
                Compression::Gzip => {
                    let level = flate2::Compression::new(6);
                    let (diff_id, encoder) =
                        self.stream(index, files, flate2::write::GzEncoder::new(blob, level))?;
                    Ok((diff_id, encoder.finish()?))
                }
                Compression::Zstd => {
                    let mut encoder = zstd::stream::write::Encoder::new(blob, 3)?;
                    encoder.include_checksum(true)?;
                    let (diff_id, encoder) = self.stream(index, files, encoder)?;
                    Ok((diff_id, encoder.finish()?))
                }
            }
        };
        let (diff_id, blob) = write().with_context(|| format!("writing layer {index}"))?;
        let (digest, size, mut file) = blob.finish();
        file.flush().with_context(|| format!("writing {}", path.display()))?;
        Ok((Layer { digest, size, diff_id, name: String::new(), components: Vec::new() }, path))
    }

    fn stream<W: Write>(&self, index: usize, files: &[LayerFile<'_>], out: W) -> Result<(Digest, W)> {
        let mut layer = LayerWriter::new(self.repo, Hashing::new(out));
        if index == 0 {
            layer.structure(self.commit, self.nodes)?;
        } else {
            layer.repository()?;
        }
        for file in files {
            layer.file(file)?;
        }
        let (diff_id, _, out) = layer.finish()?.finish();
        Ok((diff_id, out))
    }
}
