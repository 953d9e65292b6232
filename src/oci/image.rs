//! An image's documents: configuration, manifest and index. Pure; keys are sorted, so that the bytes depend
//! on nothing but the values.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, Digest as OciDigest, HistoryBuilder,
    ImageConfigurationBuilder, ImageIndexBuilder, ImageManifest, ImageManifestBuilder, MediaType, Os,
    PlatformBuilder, RootFsBuilder,
};
use serde::{Deserialize, Serialize};

use crate::host::clock::Utc;
use crate::ostree::Checksum;
use crate::pipeline::Digest;

/// The label and annotation that names the commit in an image.
pub const COMMIT: &str = "ostree.commit";
/// The label that names the last layer of that commit.
pub const FINAL_DIFFID: &str = "ostree.final-diffid";
/// The label that says which version an image is of.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The annotation of a layer that names its packages.
const COMPONENTS: &str = "ostree.components";
/// The annotation of an index's entry that names the image.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// How layers are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// One gzip member at level 6: what every client reads.
    #[default]
    Gzip,
    /// One zstd frame at level 3: a quarter of the time and smaller, for clients of recent years.
    Zstd,
}

/// A layer that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
    pub(super) name: String,
    pub(super) components: Vec<String>,
}

/// What the documents say besides the layers.
pub(super) struct Description<'a> {
    pub(super) architecture: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) cmd: &'a [String],
    pub(super) created: u64,
    pub(super) compression: Compression,
}

/// The configuration's bytes.
pub(super) fn configuration(layers: &[Layer], description: &Description<'_>) -> Result<Vec<u8>> {
    let created = Utc::from_epoch(description.created).rfc3339();
    let mut config = ConfigBuilder::default().labels(map(description.labels));
    if !description.cmd.is_empty() {
        config = config.cmd(description.cmd.to_vec());
    }
    let history = |layer: &Layer| {
        HistoryBuilder::default().created(created.clone()).created_by(layer.name.clone()).build()
    };
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let configuration = ImageConfigurationBuilder::default()
        .created(created.clone())
        .architecture(arch(description.architecture))
        .os(Os::Linux)
        .config(config.build()?)
        .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
        .history(layers.iter().map(history).collect::<Result<Vec<_>, _>>()?)
        .build()?;
    sorted(&configuration)
}

/// The manifest's bytes.
pub(super) fn manifest(
    config: (Digest, u64),
    layers: &[Layer],
    description: &Description<'_>,
) -> Result<Vec<u8>> {
    let media_type = match description.compression {
        Compression::Gzip => MediaType::ImageLayerGzip,
        Compression::Zstd => MediaType::ImageLayerZstd,
    };
    let layer = |layer: &Layer| -> Result<Descriptor> {
        let mut builder = descriptor(media_type.clone(), layer.digest, layer.size)?;
        if !layer.components.is_empty() {
            let components = (COMPONENTS.to_owned(), layer.components.join(","));
            builder = builder.annotations(HashMap::from([components]));
        }
        Ok(builder.build()?)
    };
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, config.0, config.1)?.build()?)
        .layers(layers.iter().map(layer).collect::<Result<Vec<_>>>()?)
        .annotations(map(description.labels))
        .build()?;
    sorted(&manifest)
}

/// The layers of an image that hold `commit` and nothing else: none if it is another commit's, or a derived one.
pub fn layers_of(manifest: &[u8], commit: Checksum) -> Result<Vec<Digest>> {
    let manifest: ImageManifest = serde_json::from_slice(manifest).context("reading an image's manifest")?;
    let label = |name: &str| manifest.annotations().as_ref().and_then(|all| all.get(name));
    if label(COMMIT).is_none_or(|of| *of != commit.to_string()) {
        return Ok(Vec::new());
    }
    let digest = |layer: &Descriptor| {
        let text = layer.digest().to_string();
        let hex = text.strip_prefix("sha256:").with_context(|| format!("reading the digest {text}"))?;
        Ok(hex.parse()?)
    };
    manifest.layers().iter().map(digest).collect()
}

/// An index's entry for a manifest.
pub(super) fn entry(digest: Digest, size: u64, architecture: Arch, os: Os) -> Result<Descriptor> {
    let platform = PlatformBuilder::default().architecture(architecture).os(os).build()?;
    Ok(descriptor(MediaType::ImageManifest, digest, size)?.platform(platform).build()?)
}

/// The bytes of an index that leads to one image (or index), which may have a name.
pub(super) fn index(mut root: Descriptor, name: Option<&str>) -> Result<Vec<u8>> {
    let mut annotations = root.annotations().clone().unwrap_or_default();
    annotations.remove(REF_NAME);
    annotations.extend(name.map(|name| (REF_NAME.to_owned(), name.to_owned())));
    root.set_annotations((!annotations.is_empty()).then_some(annotations));
    let index = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests([root])
        .build()?;
    sorted(&index)
}

pub(super) fn descriptor(media_type: MediaType, digest: Digest, size: u64) -> Result<DescriptorBuilder> {
    let digest: OciDigest = format!("sha256:{digest}").parse()?;
    Ok(DescriptorBuilder::default().media_type(media_type).digest(digest).size(size))
}

/// OCI's name of an architecture, from the kernel's.
#[must_use]
pub fn arch(name: &str) -> Arch {
    let name = match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "loongarch64" => "loong64",
        other => other,
    };
    Arch::from(name)
}

fn map(labels: &BTreeMap<String, String>) -> HashMap<String, String> {
    labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// A document with all keys sorted: oci-spec keeps labels in maps without an order.
pub(super) fn sorted(document: &impl Serialize) -> Result<Vec<u8>> {
    let mut value = serde_json::to_value(document).context("encoding an image's document")?;
    value.sort_all_objects();
    serde_json::to_vec(&value).context("encoding an image's document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_always_the_same() {
        let labels: BTreeMap<String, String> =
            (0..20).map(|n| (format!("label-{n}"), n.to_string())).collect();
        let digest = Digest::of("layer");
        let layer =
            Layer { digest, size: 5, diff_id: digest, name: "all".into(), components: vec!["a".into()] };
        let description = Description {
            architecture: "x86_64",
            labels: &labels,
            cmd: &["/bin/bash".to_owned()],
            created: 0,
            compression: Compression::Gzip,
        };
        let make = || {
            let config = configuration(std::slice::from_ref(&layer), &description).unwrap();
            let manifest =
                manifest((Digest::of(&config), 1), std::slice::from_ref(&layer), &description).unwrap();
            let index =
                index(entry(Digest::of(&manifest), 2, arch("x86_64"), Os::Linux).unwrap(), Some("nosa"))
                    .unwrap();
            (config, manifest, index)
        };
        let (config, manifest, index) = make();
        assert_eq!((config.clone(), manifest.clone(), index.clone()), make());
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        assert_eq!(config["architecture"], "amd64");
        assert_eq!(config["created"], "1970-01-01T00:00:00Z");
        assert_eq!(config["config"]["Cmd"], serde_json::json!(["/bin/bash"]));
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        assert_eq!(manifest["annotations"]["label-7"], "7");
        assert_eq!(manifest["layers"][0]["annotations"]["ostree.components"], "a");
    }
}
