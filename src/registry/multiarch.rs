//! Several architectures under one tag: an index over images that lie in layouts or in registries.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use anyhow::{Context as _, Result};
use oci_spec::image::{
    Descriptor, ImageConfiguration, ImageIndexBuilder, ImageManifest, MediaType, Platform, PlatformBuilder,
};
use serde::Serialize;

use super::access::Access;
use super::client::{Action, Client};
use super::copy::{mount_from, open};
use super::document::{Document, INDEX, all_named, damaged, named};
use super::download;
use super::pull::block_on;
use super::push::{Pushed, deliver};
use super::source::{Parts, Source};
use crate::failure::{Failure, Kind};
use crate::oci::{ImageRef, Repository};
use crate::pipeline::{Digest, Reporter};

/// An index that is in a registry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PushedIndex {
    /// The repository: `HOST/NAME`.
    pub image: String,
    /// The digest of the index.
    #[serde(serialize_with = "named")]
    pub digest: Digest,
    /// Its tags.
    pub tags: Vec<String>,
    /// The digest of each architecture's manifest, by OCI's name of the architecture.
    #[serde(serialize_with = "all_named")]
    pub images: BTreeMap<String, Digest>,
    /// How many bytes of blobs were sent.
    pub sent: u64,
    /// Whether the registry had it under all tags already.
    pub kept: bool,
}

/// One image of the index.
struct Member {
    from: ImageRef,
    source: Rc<Source>,
    document: Document,
    platform: Platform,
}

/// What is pushed, and how it is called.
pub struct IndexRequest<'a> {
    /// The images; one that is an index itself counts for all that it names.
    pub images: &'a [ImageRef],
    /// The repository.
    pub repository: &'a Repository,
    /// The tags.
    pub tags: &'a [String],
    /// The index's annotations.
    pub annotations: &'a BTreeMap<String, String>,
    /// Pushes even if the registry has it.
    pub force: bool,
}

/// Pushes images and an index over them.
pub fn push_index(request: &IndexRequest<'_>, access: &Access, report: &Reporter) -> Result<PushedIndex> {
    block_on(async {
        let mut members = Vec::new();
        for from in request.images {
            members.extend(of_image(from, access, report).await?);
        }
        members.sort_by_key(|member| member.platform.architecture().to_string());
        let index = index(&members, request.annotations)?;
        let by_digest = Repository { tag: None, digest: None, ..request.repository.clone() };
        let client = Client::open(&by_digest, access, Action::Push, report).await?;
        let kept = !request.force && holds(&client, &index, request.tags).await;
        let mut sent = 0;
        if !kept {
            for member in &members {
                let parts = member.source.parts(member.document.clone()).await?;
                let target = ImageRef::Registry(by_digest.clone());
                let pushed = deliver(&member.source, &parts, &client, &[], mount_from(&member.from, &target));
                sent += pushed.await?.sent;
            }
            let place = members.first().context("an index without images")?;
            let parts = Parts { documents: vec![index.clone()], blobs: Vec::new() };
            let pushed: Pushed = deliver(&place.source, &parts, &client, request.tags, None).await?;
            sent += pushed.sent;
        }
        let images =
            members.iter().map(|member| (member.platform.architecture().to_string(), member.document.digest));
        Ok(PushedIndex {
            image: format!("{}/{}", by_digest.host, by_digest.name),
            digest: index.digest,
            tags: request.tags.to_vec(),
            images: images.collect(),
            sent,
            kept,
        })
    })
}

/// The images at a place.
async fn of_image(from: &ImageRef, access: &Access, report: &Reporter) -> Result<Vec<Member>> {
    let name = match from {
        ImageRef::Layout(_, name) | ImageRef::Archive(_, name) => name.as_deref(),
        _ => None,
    };
    let mut members = Vec::new();
    let source = Rc::new(open(from, access, report).await?);
    let root = source.root(name).await?;
    for (_, document) in source.images(root).await? {
        let platform = platform(&source, &document).await?;
        members.push(Member { from: from.clone(), source: Rc::clone(&source), document, platform });
    }
    Ok(members)
}

/// What an image's configuration says that it runs on.
async fn platform(source: &Source, document: &Document) -> Result<Platform> {
    let place = source.place();
    if document.is_docker() || document.is_index() {
        let cause = format!("{place} is in docker's form or nested ({})", document.media_type);
        let cure = "copy it into OCI's form: skopeo copy --format oci";
        return Err(Failure::new(Kind::Artifact, cause, cure).into());
    }
    let wrong = |error: serde_json::Error| damaged(&place, &format!("its manifest is wrong: {error}"));
    let manifest: ImageManifest = serde_json::from_slice(&document.bytes).map_err(wrong)?;
    let config = match source {
        Source::Layout(layout, _) => layout.document(manifest.config())?,
        Source::Registry(client) => download::small(client, manifest.config()).await?,
    };
    let config: ImageConfiguration = serde_json::from_slice(&config).map_err(wrong)?;
    let builder =
        PlatformBuilder::default().architecture(config.architecture().clone()).os(config.os().clone());
    builder.build().context("naming an image's platform")
}

/// The index over the images.
fn index(members: &[Member], annotations: &BTreeMap<String, String>) -> Result<Document> {
    let mut known = BTreeSet::new();
    let mut manifests: Vec<Descriptor> = Vec::new();
    for member in members {
        let architecture = member.platform.architecture();
        if !known.insert(architecture.to_string()) {
            return Err(Failure::new(
                Kind::Usage,
                format!("two of the images are for {architecture}; the second is {}", member.source.place()),
                "name one image an architecture",
            )
            .into());
        }
        let mut descriptor = member.document.descriptor()?;
        descriptor.set_platform(Some(member.platform.clone()));
        manifests.push(descriptor);
    }
    let mut builder = ImageIndexBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests);
    if !annotations.is_empty() {
        builder =
            builder.annotations(annotations.clone().into_iter().collect::<std::collections::HashMap<_, _>>());
    }
    let mut value = serde_json::to_value(builder.build().context("making an index")?)?;
    value.sort_all_objects();
    Document::new(serde_json::to_vec(&value).context("encoding an index")?, Some(INDEX), "the index")
}

/// Whether the registry has the index under all these tags.
async fn holds(client: &Client, index: &Document, tags: &[String]) -> bool {
    for tag in tags {
        match download::manifest_if_there(client, tag).await {
            Ok(Some(there)) if there.digest == index.digest => {}
            _ => return false,
        }
    }
    true
}
