//! Where an image comes from, and all that belongs to it: its documents, children first, and its blobs.

use std::collections::BTreeSet;

use anyhow::Result;
use oci_spec::image::{Descriptor, Platform};

use super::client::Client;
use super::document::{self, Content, DEPTH, Document, damaged};
use super::download;
use crate::failure::{Failure, Kind};
use crate::oci::{Layout, architecture};

/// The most documents that an index may lead to.
const DOCUMENTS: usize = 1000;

/// Where an image comes from.
pub(super) enum Source {
    /// A layout, and how it is called in messages.
    Layout(Layout, String),
    /// A repository.
    Registry(Box<Client>),
}

/// All of an image.
#[derive(Debug)]
pub(super) struct Parts {
    /// Children before those that name them; the root is the last.
    pub(super) documents: Vec<Document>,
    /// Configurations and layers, each once.
    pub(super) blobs: Vec<Descriptor>,
}

impl Source {
    /// How it is called in messages.
    pub(super) fn place(&self) -> String {
        match self {
            Self::Layout(_, place) => place.clone(),
            Self::Registry(client) => format!("docker://{}", client.repository()),
        }
    }

    /// The document of that tag, digest or name.
    pub(super) async fn root(&self, name: Option<&str>) -> Result<Document> {
        match self {
            Self::Layout(layout, _) => self.document(&layout.entry(name)?).await,
            Self::Registry(client) => {
                let repository = client.repository();
                let digest = repository.digest.map(|digest| format!("sha256:{digest}"));
                let reference = digest.or_else(|| repository.tag.clone());
                download::manifest(client, &reference.unwrap_or_else(|| "latest".to_owned())).await
            }
        }
    }

    /// The document that a descriptor names.
    pub(super) async fn document(&self, descriptor: &Descriptor) -> Result<Document> {
        let place = self.place();
        let media_type = descriptor.media_type().to_string();
        match self {
            Self::Layout(layout, _) => Document::new(layout.document(descriptor)?, Some(&media_type), &place),
            Self::Registry(client) => {
                let digest = document::digest(descriptor, &place)?;
                let document = download::manifest(client, &format!("sha256:{digest}")).await?;
                if document.bytes.len() as u64 != descriptor.size() || document.media_type != media_type {
                    let what =
                        format!("manifest sha256:{digest} is not of the size or type that its index says");
                    return Err(damaged(&place, &what));
                }
                Ok(document)
            }
        }
    }

    /// Everything that belongs to `root`.
    pub(super) async fn parts(&self, root: Document) -> Result<Parts> {
        let place = self.place();
        let mut level = vec![root];
        let mut documents = Vec::new();
        let mut blobs: Vec<Descriptor> = Vec::new();
        let mut known = BTreeSet::new();
        for depth in 0.. {
            let mut next = Vec::new();
            for document in &level {
                match document.content(&place)? {
                    Content::Manifest(named) => {
                        blobs
                            .extend(named.into_iter().filter(|blob| known.insert(blob.digest().to_string())));
                    }
                    Content::Index(named) => {
                        if depth == DEPTH || documents.len() + level.len() + named.len() > DOCUMENTS {
                            return Err(damaged(&place, "its indexes lead to too many others"));
                        }
                        for child in &named {
                            next.push(self.document(child).await?);
                        }
                    }
                }
            }
            documents.extend(level);
            if next.is_empty() {
                break;
            }
            level = next;
        }
        documents.reverse();
        let mut seen = BTreeSet::new();
        documents.retain(|document| seen.insert(document.digest));
        Ok(Parts { documents, blobs })
    }

    /// The images that `root` names with their architectures; itself, without one, if it is no index.
    pub(super) async fn images(&self, root: Document) -> Result<Vec<(Option<String>, Document)>> {
        let Content::Index(named) = root.content(&self.place())? else { return Ok(vec![(None, root)]) };
        let mut images = Vec::new();
        for child in named {
            let architecture = child.platform().as_ref().map(|platform| platform.architecture().to_string());
            // Attestations are for a platform that nobody has.
            if architecture.as_deref() != Some("unknown") {
                images.push((architecture, self.document(&child).await?));
            }
        }
        Ok(images)
    }

    /// The one manifest of `root` for a base architecture: itself, or the one that an index names.
    pub(super) async fn select(&self, root: Document, basearch: &str) -> Result<Document> {
        let place = self.place();
        let mut document = root;
        for _ in 0..=DEPTH {
            let Content::Index(named) = document.content(&place)? else { return Ok(document) };
            let fits = |platform: &Platform| {
                *platform.architecture() == architecture(basearch) && platform.os().to_string() == "linux"
            };
            // One that names no platform may be anything's: its configuration tells.
            let chosen = named
                .iter()
                .find(|child| child.platform().as_ref().is_some_and(fits))
                .or_else(|| named.iter().find(|child| child.platform().is_none()));
            let Some(chosen) = chosen else {
                let others: BTreeSet<String> = named
                    .iter()
                    .filter_map(|child| child.platform().as_ref())
                    .map(|platform| platform.architecture().to_string())
                    .collect();
                let others: Vec<String> = others.into_iter().collect();
                return Err(Failure::new(
                    Kind::Artifact,
                    format!(
                        "{place} has no image for {basearch} ({}), only for {}",
                        architecture(basearch),
                        others.join(", ")
                    ),
                    "name an image for this architecture",
                )
                .into());
            };
            document = self.document(chosen).await?;
        }
        Err(damaged(&place, "its indexes lead to too many others"))
    }
}
