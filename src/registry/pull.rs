//! Fetching an image into a layout, whole or not at all.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use oci_spec::image::Descriptor;
use serde::Serialize;

use super::access::Access;
use super::client::{Action, Client};
use super::document::{self, Document, named};
use super::download;
use super::meter::Meter;
use super::source::{Parts, Source};
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::oci::{NewLayout, Repository};
use crate::pipeline::{Digest, Reporter};

/// How many blobs move at once.
pub(super) const AT_ONCE: usize = 4;

/// An image that was fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pulled {
    /// The digest of its manifest, or of its index where all of that was fetched.
    #[serde(serialize_with = "named")]
    pub digest: Digest,
    /// How many bytes its blobs have.
    pub bytes: u64,
}

/// Fetches an image into a new layout at `into`: the one for `basearch`, or with `None` all that its index names.
///
/// Every digest is checked. The directory appears when all of it is there.
pub fn pull(
    source: &Repository,
    access: &Access,
    basearch: Option<&str>,
    into: &Path,
    report: &Reporter,
) -> Result<Pulled> {
    let layout = NewLayout::beside(into)?;
    block_on(async {
        let client = Client::open(source, access, Action::Pull, report).await?;
        let source = Source::Registry(Box::new(client));
        let mut root = source.root(None).await?;
        if let Some(basearch) = basearch {
            root = source.select(root, basearch).await?;
        }
        refuse_docker(&root, &source.place())?;
        let parts = source.parts(root.clone()).await?;
        let bytes = fill(&source, &parts, &layout, report).await?;
        layout.into_directory(root.descriptor()?, None)?;
        Ok(Pulled { digest: root.digest, bytes })
    })
}

/// A layout holds OCI's documents only.
pub(super) fn refuse_docker(root: &Document, place: &str) -> Result<()> {
    if !root.is_docker() {
        return Ok(());
    }
    let cause =
        format!("{place} is in docker's form ({}), which an OCI layout does not hold", root.media_type);
    Err(Failure::new(Kind::Artifact, cause, "copy it into OCI's form: skopeo copy --format oci").into())
}

/// Puts all parts of an image into a layout, several blobs at once; returns the blobs' size.
pub(super) async fn fill(
    source: &Source,
    parts: &Parts,
    layout: &NewLayout,
    report: &Reporter,
) -> Result<u64> {
    let place = source.place();
    for document in &parts.documents {
        fs::write(&layout.blob(document.digest), &document.bytes)?;
    }
    let total = parts.blobs.iter().map(Descriptor::size).sum();
    let meter = Meter::new(report, format!("fetching {place}"), total);
    let (meter, place) = (&meter, &place);
    let fetch = |blob: &'_ Descriptor| {
        let blob = blob.clone();
        async move {
            let target = layout.blob(document::digest(&blob, place)?);
            match source {
                Source::Registry(client) => download::blob(client, &blob, &target, meter).await,
                Source::Layout(layout, _) => {
                    let mut stream = layout.blob(&blob)?;
                    let mut file = fs::create(&target)?;
                    let copied = std::io::copy(&mut stream, &mut file)
                        .with_context(|| format!("copying a blob of {place}"))?;
                    meter.add(copied);
                    stream.finish().map_err(|why| document::damaged(place, &why))
                }
            }
        }
    };
    stream::iter(&parts.blobs).map(fetch).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(total)
}

/// Runs what waits on the network to its end.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.context("starting the runtime")?.block_on(work)
}
