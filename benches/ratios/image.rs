//! The OCI image of a commit against compressing the same bytes: the layers of the build's own image as tar
//! files, and their plan, taken from its archive.

use std::collections::BTreeMap;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nosa::host::{Cmd, fs};
use nosa::oci::{Compression, ExportOptions, LayerPlan, PlannedLayer, export};
use nosa::ostree::Repo;
use rayon::prelude::*;
use serde_json::Value;

/// The tar streams of an image's layers, as files beside each other and as one.
pub(crate) struct Layers {
    /// A file a layer.
    pub(crate) dir: PathBuf,
    /// All of them in one file.
    pub(crate) whole: PathBuf,
    /// The files of each layer but the first, by path, as JSON.
    pub(crate) plan: PathBuf,
}

impl Layers {
    /// Unpacks an `oci-archive` with gzip layers.
    pub(crate) fn of(archive: &Path, scratch: &Path) -> Result<Self> {
        let (layout, dir) = (scratch.join("layout"), scratch.join("layers"));
        fs::create_dir_all(&layout)?;
        fs::create_dir_all(&dir)?;
        Cmd::program("tar").arg("-xf").arg(archive).arg("-C").arg(&layout).run()?;
        let read = |path: &Path| -> Result<Value> { Ok(serde_json::from_str(&fs::read_to_string(path)?)?) };
        let blob = |value: &Value| -> Result<PathBuf> {
            let digest = value.as_str().and_then(|digest| digest.strip_prefix("sha256:"));
            Ok(layout.join("blobs/sha256").join(digest.context("a descriptor without digest")?))
        };
        let index = read(&layout.join("index.json"))?;
        let manifest = read(&blob(&index["manifests"][0]["digest"])?)?;
        let layers = Self { dir, whole: scratch.join("layers.tar"), plan: scratch.join("plan.json") };
        let mut whole = BufWriter::new(fs::create(&layers.whole)?);
        let mut plan = Vec::new();
        for (number, layer) in manifest["layers"].as_array().into_iter().flatten().enumerate() {
            let path = layers.dir.join(format!("{number:03}.tar"));
            let packed = flate2::bufread::GzDecoder::new(BufReader::new(fs::open(&blob(&layer["digest"])?)?));
            std::io::copy(&mut { packed }, &mut fs::create(&path)?)?;
            std::io::copy(&mut fs::open(&path)?, &mut whole)?;
            if number > 0 {
                plan.push(paths(&path)?);
            }
        }
        whole.flush()?;
        fs::remove_tree(&layout)?;
        fs::write(&layers.plan, serde_json::to_string(&plan)?)?;
        Ok(layers)
    }
}

/// The paths in the commit of a layer's files.
fn paths(layer: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(BufReader::new(fs::open(layer)?)).entries()? {
        let path = entry?.path()?.to_string_lossy().into_owned();
        if !path.starts_with("sysroot/") {
            found.push(path.strip_prefix("etc/").map(|below| format!("usr/etc/{below}")).unwrap_or(path));
        }
    }
    Ok(found)
}

/// Writes an image of a commit, as nosa's stage does; `how` is gzip or zstd.
pub(crate) fn write(repo: &Path, commit: &str, plan: &Path, how: &str, out: &Path) -> Result<()> {
    let files: Vec<Vec<PathBuf>> = serde_json::from_str(&fs::read_to_string(plan)?)?;
    let layer = |files: Vec<PathBuf>| PlannedLayer {
        size: files.len() as u64,
        files: files.into_iter().collect(),
        ..PlannedLayer::default()
    };
    let plan = LayerPlan { layers: files.into_iter().map(layer).collect() };
    let options = ExportOptions {
        compression: if how == "zstd" { Compression::Zstd } else { Compression::Gzip },
        architecture: "x86_64".to_owned(),
        labels: BTreeMap::new(),
        ..ExportOptions::default()
    };
    let scratch = out.join("scratch");
    fs::create_dir_all(&scratch)?;
    let target = out.join("image.ociarchive");
    export(&Repo::open(repo)?, commit.parse()?, &plan, &options, &scratch, &target)?;
    Ok(())
}

/// Compresses every file of a directory with zlib-rs at gzip's usual level, two at a time.
pub(crate) fn compress(dir: &Path, out: &Path) -> Result<()> {
    let mut files: Vec<(u64, PathBuf)> = Vec::new();
    for path in fs::read_dir_sorted(dir)? {
        files.push((fs::open(&path)?.metadata()?.len(), path));
    }
    files.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
    ensure!(!files.is_empty(), "{} has no layers", dir.display());
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build()?;
    pool.install(|| {
        files.into_iter().par_bridge().try_for_each(|(_, path)| -> Result<()> {
            let target = out.join(path.file_name().unwrap_or_default());
            let target = BufWriter::new(fs::create(&target)?);
            let mut encoder = flate2::write::GzEncoder::new(target, flate2::Compression::new(6));
            std::io::copy(&mut fs::open(&path)?, &mut encoder)?;
            Ok(encoder.finish()?.flush()?)
        })
    })
}
