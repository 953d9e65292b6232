//! Manifests and indexes as a registry holds them: bytes that are never written anew, and what they name.

use std::collections::BTreeMap;

use anyhow::Result;
use oci_spec::image::{
    Descriptor, DescriptorBuilder, Digest as OciDigest, ImageIndex, ImageManifest, MediaType,
};
use serde::Serializer;
use serde_json::Value;

use crate::failure::{Failure, Kind};
use crate::pipeline::Digest;

pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What nosa takes for a manifest, as the Accept header says it.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";
/// The largest document: registries refuse manifests over 4 MiB.
pub(super) const LARGEST: usize = 8 << 20;
/// How deep indexes may lead to indexes.
pub(super) const DEPTH: usize = 4;

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) media_type: String,
    pub(super) bytes: Vec<u8>,
    pub(super) digest: Digest,
}

/// What a document names.
#[derive(Debug)]
pub(super) enum Content {
    /// Other documents.
    Index(Vec<Descriptor>),
    /// A configuration and layers.
    Manifest(Vec<Descriptor>),
}

impl Document {
    /// A document of the media type that its carrier says, else of the one that it says itself.
    pub(super) fn new(bytes: Vec<u8>, said: Option<&str>, place: &str) -> Result<Self> {
        let own = serde_json::from_slice::<Value>(&bytes)
            .map_err(|error| damaged(place, &format!("its manifest is not JSON: {error}")))?;
        let own = own["mediaType"].as_str().map(str::to_owned);
        let said = said.map(|said| said.split(';').next().unwrap_or_default().trim().to_owned());
        let media_type = match (said, own) {
            // One that is called otherwise than it calls itself is a trap for other readers.
            (Some(said), Some(own)) if said != own && said != "application/json" => {
                return Err(damaged(
                    place,
                    &format!("its manifest is called {said}, but says that it is {own}"),
                ));
            }
            (_, Some(own)) => own,
            (Some(said), None) => said,
            (None, None) => MANIFEST.to_owned(),
        };
        let digest = Digest::of(&bytes);
        Ok(Self { media_type, bytes, digest })
    }

    /// What it names.
    pub(super) fn content(&self, place: &str) -> Result<Content> {
        let wrong = |error: serde_json::Error| damaged(place, &format!("its manifest is wrong: {error}"));
        let content = match self.media_type.as_str() {
            INDEX | DOCKER_INDEX => {
                let index: ImageIndex = serde_json::from_slice(&self.bytes).map_err(wrong)?;
                Content::Index(index.manifests().clone())
            }
            MANIFEST | DOCKER_MANIFEST => {
                let manifest: ImageManifest = serde_json::from_slice(&self.bytes).map_err(wrong)?;
                let layers = manifest.layers().iter().cloned();
                Content::Manifest([manifest.config().clone()].into_iter().chain(layers).collect())
            }
            other => {
                return Err(Failure::new(
                    Kind::Artifact,
                    format!("{place} holds a manifest of type {other}, which is no image"),
                    "name an image, or copy this by a program that knows it",
                )
                .into());
            }
        };
        let (Content::Index(named) | Content::Manifest(named)) = &content;
        named.iter().try_for_each(|descriptor| digest(descriptor, place).map(|_| ()))?;
        Ok(content)
    }

    pub(super) fn is_docker(&self) -> bool {
        [DOCKER_INDEX, DOCKER_MANIFEST].contains(&self.media_type.as_str())
    }

    pub(super) fn is_index(&self) -> bool {
        [INDEX, DOCKER_INDEX].contains(&self.media_type.as_str())
    }

    /// The descriptor by which an index names it.
    pub(super) fn descriptor(&self) -> Result<Descriptor> {
        let digest: OciDigest = format!("sha256:{}", self.digest).parse()?;
        let builder = DescriptorBuilder::default().media_type(MediaType::from(self.media_type.as_str()));
        Ok(builder.digest(digest).size(self.bytes.len() as u64).build()?)
    }
}

/// The digest of a descriptor.
pub(super) fn digest(descriptor: &Descriptor, place: &str) -> Result<Digest> {
    let text = descriptor.digest().to_string();
    let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    digest.ok_or_else(|| damaged(place, &format!("{text} is not a sha256 digest")))
}

/// Writes a digest as OCI does: `sha256:…`.
pub(super) fn named<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("sha256:{digest}"))
}

/// As [`named`], of several.
pub(super) fn all_named<S: Serializer>(
    digests: &BTreeMap<String, Digest>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(digests.iter().map(|(name, digest)| (name, format!("sha256:{digest}"))))
}

/// A failure of something that is not what it says.
pub(super) fn damaged(place: &str, what: &str) -> anyhow::Error {
    Failure::new(
        Kind::Artifact,
        format!("{place} is damaged: {what}"),
        "make or push the image again; do not trust where it came from",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_is_what_both_say() {
        let new = |bytes: &str, said: Option<&str>| {
            Document::new(bytes.as_bytes().to_vec(), said, "docker://h/r").map(|document| document.media_type)
        };
        let own = format!(r#"{{"mediaType": "{INDEX}"}}"#);
        assert_eq!(new(&own, Some(INDEX)).unwrap(), INDEX);
        assert_eq!(new(&own, Some("application/json; charset=utf-8")).unwrap(), INDEX);
        assert_eq!(new(&own, None).unwrap(), INDEX);
        assert_eq!(new("{}", Some(DOCKER_MANIFEST)).unwrap(), DOCKER_MANIFEST);
        assert_eq!(new("{}", None).unwrap(), MANIFEST);
        let error = new(&own, Some(MANIFEST)).unwrap_err().to_string();
        assert!(error.contains("but says that it is"), "{error}");
        assert!(new("<html>", Some(MANIFEST)).unwrap_err().to_string().contains("not JSON"));
    }

    #[test]
    fn a_document_of_another_type_or_digest_is_told() {
        let helm = r#"{"mediaType": "application/vnd.cncf.helm"}"#;
        let document = Document::new(helm.into(), None, "docker://h/r").unwrap();
        assert_eq!(
            document.content("docker://h/r").unwrap_err().to_string(),
            "docker://h/r holds a manifest of type application/vnd.cncf.helm, which is no image"
        );
        let index = format!(
            r#"{{"schemaVersion": 2, "manifests": [{{"mediaType": "{MANIFEST}", "size": 1,
                "digest": "sha512:{}"}}]}}"#,
            "a".repeat(128)
        );
        let document = Document::new(index.into(), Some(INDEX), "docker://h/r").unwrap();
        let error = document.content("docker://h/r").unwrap_err().to_string();
        assert!(error.ends_with("is not a sha256 digest"), "{error}");
    }
}
