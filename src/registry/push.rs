//! Bringing an image to a repository: blobs first, several at once, then documents, children first, and the
//! tags last, so that nobody ever finds a tag of an image that is not whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_spec::image::Descriptor;
use serde::Serialize;

use super::access::Access;
use super::client::{Action, Client};
use super::document::named;
use super::meter::Meter;
use super::pull::{AT_ONCE, block_on};
use super::source::{Parts, Source};
use super::upload::{self, Sent, Supply};
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::oci::{Layout, Repository};
use crate::pipeline::{Digest, Reporter};

/// An image that is in a registry now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pushed {
    /// The repository: `HOST/NAME`.
    pub image: String,
    /// The digest of the image's manifest or index.
    #[serde(serialize_with = "named")]
    pub digest: Digest,
    /// Its tags there.
    pub tags: Vec<String>,
    /// How many blobs it has.
    pub blobs: usize,
    /// How many of them the registry had.
    pub there: usize,
    /// How many of them the registry took from another repository of its own.
    pub mounted: usize,
    /// How many bytes of blobs were sent.
    pub sent: u64,
}

/// Pushes the only image of a layout (a directory or an archive), as `target` and under `tags` besides; blobs may
/// be taken from the repository `mount_from` of the same registry.
pub fn push(
    layout: Layout,
    place: &str,
    target: &Repository,
    tags: &[String],
    mount_from: Option<&str>,
    access: &Access,
    report: &Reporter,
) -> Result<Pushed> {
    let source = Source::Layout(layout, place.to_owned());
    block_on(async {
        let root = source.root(None).await?;
        let parts = source.parts(root).await?;
        let client = Client::open(target, access, Action::Push, report).await?;
        deliver(&source, &parts, &client, tags, mount_from).await
    })
}

/// Brings the parts of an image to a repository, under its own tag and under `tags`.
pub(super) async fn deliver(
    source: &Source,
    parts: &Parts,
    client: &Client,
    tags: &[String],
    mount_from: Option<&str>,
) -> Result<Pushed> {
    let target = client.repository();
    let root = parts.documents.last().context("an image without a manifest")?;
    if let Some(digest) = target.digest.filter(|digest| *digest != root.digest) {
        return Err(Failure::new(
            Kind::Usage,
            format!("{} has the digest sha256:{}, not sha256:{digest}", source.place(), root.digest),
            "name the target by a tag",
        )
        .into());
    }
    let counts = blobs(source, parts, client, mount_from).await?;
    let mut all: Vec<String> = target.tag.iter().chain(tags).cloned().collect();
    let mut seen = std::collections::BTreeSet::new();
    all.retain(|tag| seen.insert(tag.clone()));
    let (_, children) = parts.documents.split_last().context("an image without a manifest")?;
    for document in children {
        upload::manifest(client, document, &format!("sha256:{}", document.digest)).await?;
    }
    if all.is_empty() {
        upload::manifest(client, root, &format!("sha256:{}", root.digest)).await?;
    }
    for tag in &all {
        upload::manifest(client, root, tag).await?;
    }
    Ok(Pushed {
        image: format!("{}/{}", target.host, target.name),
        digest: root.digest,
        tags: all,
        blobs: parts.blobs.len(),
        there: counts.there.into_inner(),
        mounted: counts.mounted.into_inner(),
        sent: counts.sent.into_inner(),
    })
}

#[derive(Default)]
struct Counts {
    there: AtomicUsize,
    mounted: AtomicUsize,
    sent: AtomicU64,
}

async fn blobs(source: &Source, parts: &Parts, client: &Client, mount_from: Option<&str>) -> Result<Counts> {
    let target = client.repository();
    let place = source.place();
    let total = parts.blobs.iter().map(Descriptor::size).sum();
    let task = format!("pushing to docker://{}/{}", target.host, target.name);
    let meter = Arc::new(Meter::new(client.report(), task, total));
    let mount_from = mount_from.filter(|from| *from != target.name);
    if let Some(from) = mount_from {
        client.also_pull_from(from).await;
    }
    let scratch;
    let (fetched, passing);
    let supply = match source {
        Source::Layout(layout, _) => Supply { layout, place: &place, fetch: None },
        Source::Registry(from) => {
            scratch = tempfile::tempdir().context("creating a directory for layers")?;
            let dir = scratch.path().join("blobs/sha256");
            fs::create_dir_all(&dir)?;
            passing = Layout::of_blobs(scratch.path());
            fetched = Meter::new(client.report(), format!("fetching {place}"), total);
            Supply { layout: &passing, place: &place, fetch: Some((from, dir, &fetched)) }
        }
    };
    let counts = Counts::default();
    let (supply, meter, counted) = (&supply, &meter, &counts);
    let send = |blob: &'_ Descriptor| {
        let blob = blob.clone();
        async move {
            match upload::blob(client, supply, &blob, mount_from, meter).await? {
                Sent::There => counted.there.fetch_add(1, Ordering::Relaxed),
                Sent::Mounted => counted.mounted.fetch_add(1, Ordering::Relaxed),
                Sent::Whole => {
                    counted.sent.fetch_add(blob.size(), Ordering::Relaxed);
                    0
                }
            };
            Ok::<(), anyhow::Error>(())
        }
    };
    stream::iter(&parts.blobs).map(send).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(counts)
}
