//! An image made from another by more layers: the base's blobs stay as they are, byte for byte, so that a
//! registry and a machine that have the base fetch only what was added.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageManifestBuilder, MediaType};

use super::directory::NewLayout;
use super::image::{descriptor, sorted};
use super::layout::{Image, Layout, damaged};
use crate::host::fs;
use crate::pipeline::Digest;

/// The annotation that names the base's manifest (image-spec's annotations.md).
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// A layer to add, compressed with gzip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedLayer {
    /// Where it lies.
    pub file: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// Its size.
    pub size: u64,
}

/// Writes an `oci-archive` of `base` with `added` on top at `target`; `config` tells of all layers. Returns the
/// manifest's digest.
pub fn extend(
    (layout, base): (&Layout, &Image),
    config: &ImageConfiguration,
    added: &[AddedLayer],
    name: Option<&str>,
    target: &Path,
) -> Result<Digest> {
    let new = NewLayout::beside(target)?;
    for layer in base.manifest.layers() {
        let mut blob = layout.blob(layer)?;
        let file = new.blob(blob.digest());
        std::io::copy(&mut blob, &mut fs::create(&file)?)
            .with_context(|| format!("writing {}", file.display()))?;
        blob.finish().map_err(|why| damaged(layout.path(), &why))?;
    }
    let mut layers = base.manifest.layers().clone();
    for layer in added {
        layers.push(descriptor(MediaType::ImageLayerGzip, layer.digest, layer.size)?.build()?);
        fs::link_or_copy(&layer.file, &new.blob(layer.digest))?;
    }
    let held = |media_type: MediaType, bytes: &[u8]| -> Result<Descriptor> {
        let digest = Digest::of(bytes);
        fs::write(&new.blob(digest), bytes)?;
        Ok(descriptor(media_type, digest, bytes.len() as u64)?.build()?)
    };
    let mut annotations = config.labels_of_config().cloned().unwrap_or_default();
    annotations.insert(BASE_DIGEST.to_owned(), format!("sha256:{}", base.digest));
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(held(MediaType::ImageConfig, &sorted(config)?)?)
        .layers(layers)
        .annotations(annotations)
        .build()?;
    let manifest = sorted(&manifest)?;
    let root = held(MediaType::ImageManifest, &manifest)?;
    new.into_archive(root, name)?;
    Ok(Digest::of(&manifest))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use oci_spec::image::{ConfigBuilder, ImageConfigurationBuilder, RootFsBuilder};

    use super::super::docker::{read_docker_archive, write_docker_archive};
    use super::super::image::arch;
    use super::super::layer_reader::Budget;
    use super::super::tarball::{Entry, Tarball};
    use super::*;

    /// A layer with one file, compressed.
    fn layer(dir: &Path, name: &str) -> (AddedLayer, String) {
        let mut tar = Tarball::new(Vec::new());
        tar.append(&Entry::plain(tar::EntryType::Regular, name, 0o644), name.as_bytes()).unwrap();
        let bytes = tar.finish().unwrap();
        let diff_id = format!("sha256:{}", Digest::of(&bytes));
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
        gzip.write_all(&bytes).unwrap();
        let bytes = gzip.finish().unwrap();
        let file = dir.join(name);
        std::fs::write(&file, &bytes).unwrap();
        (AddedLayer { file, digest: Digest::of(&bytes), size: bytes.len() as u64 }, diff_id)
    }

    fn config(diff_ids: &[&String]) -> ImageConfiguration {
        let diff_ids: Vec<String> = diff_ids.iter().map(|id| (*id).clone()).collect();
        ImageConfigurationBuilder::default()
            .architecture(arch("x86_64"))
            .os(oci_spec::image::Os::Linux)
            .config(ConfigBuilder::default().build().unwrap())
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build().unwrap())
            .build()
            .unwrap()
    }

    /// An image of one layer, without a base.
    fn base(dir: &Path) -> (Layout, String) {
        let (added, diff_id) = layer(dir, "base");
        let config = config(&[&diff_id]);
        let bytes = sorted(&config).unwrap();
        let layer = descriptor(MediaType::ImageLayerGzip, added.digest, added.size).unwrap().build().unwrap();
        let described =
            descriptor(MediaType::ImageConfig, Digest::of(&bytes), bytes.len() as u64).unwrap().build();
        let manifest = ImageManifestBuilder::default()
            .schema_version(2_u32)
            .media_type(MediaType::ImageManifest)
            .config(described.unwrap())
            .layers(vec![layer])
            .build()
            .unwrap();
        let manifest = sorted(&manifest).unwrap();
        let entry = descriptor(MediaType::ImageManifest, Digest::of(&manifest), manifest.len() as u64);
        let target = dir.join("base.ociarchive");
        let new = NewLayout::beside(&target).unwrap();
        std::fs::write(new.blob(Digest::of(&bytes)), &bytes).unwrap();
        std::fs::write(new.blob(Digest::of(&manifest)), &manifest).unwrap();
        std::fs::copy(&added.file, new.blob(added.digest)).unwrap();
        new.into_archive(entry.unwrap().build().unwrap(), None).unwrap();
        (Layout::open(&target).unwrap(), diff_id)
    }

    #[test]
    fn the_bases_layers_stay_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, diff_id) = base(dir.path());
        let image = layout.image(None, "x86_64").unwrap();
        let (added, added_id) = layer(dir.path(), "added");
        let target = dir.path().join("derived.ociarchive");
        let config = config(&[&diff_id, &added_id]);
        let digest = extend((&layout, &image), &config, &[added], Some("localhost/x:1"), &target).unwrap();
        let derived = Layout::open(&target).unwrap();
        let found = derived.image(Some("localhost/x:1"), "x86_64").unwrap();
        assert_eq!(found.digest, digest);
        assert_eq!(found.manifest.layers()[0], image.manifest.layers()[0]);
        let mut names = Vec::new();
        for index in 0..2 {
            let visit = |entry: super::super::LayerEntry, _: &mut dyn std::io::Read| {
                names.push(entry.path.display().to_string());
                Ok(())
            };
            derived.read_layer(&found, index, &Budget::of(&found, 10), visit).unwrap();
        }
        assert_eq!(names, ["base", "added"]);
    }

    #[test]
    fn what_a_builder_takes_it_gives_back() {
        let dir = tempfile::tempdir().unwrap();
        let (layout, _) = base(dir.path());
        let image = layout.image(None, "x86_64").unwrap();
        let mut bytes = Vec::new();
        write_docker_archive(&layout, &image, "localhost/base:1", &mut bytes).unwrap();
        let digest = image.manifest.layers()[0].digest().digest().parse().unwrap();
        let known = std::collections::BTreeSet::from([digest]);
        let archive = read_docker_archive(bytes.as_slice(), &known, dir.path()).unwrap();
        assert_eq!(archive.config, layout.document(image.manifest.config()).unwrap());
        assert_eq!((archive.layers[0].diff_id, archive.layers[0].file.is_some()), (digest, true));
        let cut = read_docker_archive(&bytes[..bytes.len() - 2000], &known, dir.path()).unwrap_err();
        assert!(format!("{cut:#}").contains("ends within"), "{cut:#}");
    }
}
