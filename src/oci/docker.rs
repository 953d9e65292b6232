//! Docker's archive of an image (what `docker load` takes and `docker save` gives): the form in which podman's
//! and docker's sockets speak of images. Blobs, and a `manifest.json` that says which is what.
//!
//! What comes back holds every layer uncompressed. Those that the caller has already are read, hashed and
//! dropped, so that a large base costs no space.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::layout::{Image, Layout};
use super::tar_reader::TarReader;
use super::tarball::{Entry, Tarball};
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::{Digest, Hashing};

/// Up to this size it is not worth dropping a layer; the empty one may be added twice.
const SMALL: u64 = 64 << 10;

/// An image that a builder gave.
#[derive(Debug)]
pub struct DockerArchive {
    /// Its configuration's bytes.
    pub config: Vec<u8>,
    /// Its layers, in order.
    pub layers: Vec<DockerLayer>,
}

/// A layer of it, uncompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerLayer {
    /// Its digest.
    pub diff_id: Digest,
    /// Its size.
    pub size: u64,
    /// Where it lies, unless it is a large one that the caller has already.
    pub file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Manifest {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Writes an image so that a builder takes it, under `name`.
pub fn write_docker_archive(layout: &Layout, image: &Image, name: &str, out: impl Write) -> Result<()> {
    let config = image.manifest.config();
    let member = |digest: &dyn std::fmt::Display| digest.to_string().replace("sha256:", "");
    let layers = image.manifest.layers().iter().map(|layer| format!("{}.tar", member(layer.digest())));
    let manifest = [Manifest {
        config: format!("{}.json", member(config.digest())),
        repo_tags: Some(vec![name.to_owned()]),
        layers: layers.collect(),
    }];
    let mut tar = Tarball::new(out);
    let bytes = serde_json::to_vec(&manifest).context("encoding an archive's manifest")?;
    tar.append(&Entry::plain(EntryType::Regular, "manifest.json", 0o644), &bytes)?;
    let bytes = layout.document(config)?;
    tar.append(&Entry::plain(EntryType::Regular, &manifest[0].config, 0o644), &bytes)?;
    let mut written = BTreeSet::new();
    for (layer, path) in image.manifest.layers().iter().zip(&manifest[0].layers) {
        if !written.insert(path) {
            continue;
        }
        let mut blob = layout.blob(layer)?;
        tar.begin(&Entry { size: layer.size(), ..Entry::plain(EntryType::Regular, path, 0o644) })?;
        io::copy(&mut blob, &mut tar).context("giving a layer to the builder")?;
        blob.finish().map_err(|why| super::layout::damaged(layout.path(), &why))?;
        tar.pad(layer.size())?;
    }
    tar.finish()?.flush().context("giving an image to the builder")?;
    Ok(())
}

/// Reads what a builder gave; layers go to `scratch`, but for large ones in `known`.
pub fn read_docker_archive(
    input: impl Read,
    known: &BTreeSet<Digest>,
    scratch: &Path,
) -> Result<DockerArchive> {
    let mut members = BTreeMap::new();
    let mut tar = TarReader::new(input);
    while let Some(entry) = tar.entry().context("reading what the builder gave")? {
        if !entry.kind.is_file() {
            continue;
        }
        let file = scratch.join(format!("member-{}", members.len()));
        let mut out = Hashing::new(fs::create(&file)?);
        io::copy(&mut tar, &mut out).with_context(|| format!("writing {}", file.display()))?;
        let (digest, size, _) = out.finish();
        let kept = size <= SMALL || !known.contains(&digest);
        if !kept {
            fs::remove_file_if_exists(&file)?;
        }
        let name = String::from_utf8_lossy(&entry.path).trim_start_matches("./").to_owned();
        let layer = DockerLayer { diff_id: digest, size, file: kept.then_some(file) };
        members.insert(name, layer);
    }
    let lacking = |what: &str| -> anyhow::Error {
        let cause = format!("what the builder gave is no image: {what}");
        Failure::new(Kind::Build, cause, "is it podman's or docker's socket?").into()
    };
    let document = |name: &str| -> Result<Vec<u8>> {
        let file = members.get(name).and_then(|member| member.file.as_ref());
        fs::read(file.ok_or_else(|| lacking(&format!("{name} is missing")))?)
    };
    let manifests: Vec<Manifest> = serde_json::from_slice(&document("manifest.json")?)
        .map_err(|error| lacking(&format!("its manifest.json: {error}")))?;
    let [manifest] = manifests.as_slice() else { return Err(lacking("it holds not one image")) };
    let layer = |name: &String| -> Result<DockerLayer> {
        members.get(name).cloned().ok_or_else(|| lacking(&format!("layer {name} is missing")))
    };
    let layers = manifest.layers.iter().map(layer).collect::<Result<Vec<_>>>()?;
    Ok(DockerArchive { config: document(&manifest.config)?, layers })
}
