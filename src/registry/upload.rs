//! Sending: blobs as streams from a layout, going on where a connection broke, and manifests byte for byte.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Body, Method, RequestBuilder, StatusCode, Url};

use super::client::Client;
use super::document::{self, Document, damaged};
use super::download;
use super::meter::Meter;
use super::trouble::Trouble;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::oci::{Blob, Layout};
use crate::pipeline::Digest;

/// How much is read at once.
const CHUNK: usize = 256 << 10;

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was there.
    There,
    /// The registry took it from another repository of its own.
    Mounted,
    /// It was sent.
    Whole,
}

/// Sends a manifest or an index under a tag or its digest.
pub(super) async fn manifest(client: &Client, document: &Document, reference: &str) -> Result<()> {
    let repository = client.repository();
    let doing =
        format!("pushing manifest sha256:{} to {}/{}", document.digest, repository.host, repository.name);
    let bytes = Bytes::from(document.bytes.clone());
    let path = format!("manifests/{reference}");
    let push = async || {
        let build = || {
            let put = client.request(Method::PUT, &path)?;
            Ok(put.header(CONTENT_TYPE, &document.media_type).body(bytes.clone()))
        };
        let answer = client.send(build).await?;
        let said = answer.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        match said.filter(|said| said.starts_with("sha256:")) {
            Some(said) if said != format!("sha256:{}", document.digest) => {
                let cause = format!("the registry stored another manifest: {said}");
                Err(Failure::new(Kind::Repository, cause, "do not use this registry: it changes images")
                    .into())
            }
            _ => Ok(()),
        }
    };
    client.persist(&doing, push).await
}

/// Whether the repository has a blob.
pub(super) async fn has(client: &Client, digest: Digest) -> Result<bool, Trouble> {
    let path = format!("blobs/sha256:{digest}");
    match client.send(|| client.request(Method::HEAD, &path)).await {
        Ok(_) => Ok(true),
        Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => Ok(false),
        Err(trouble) => Err(trouble),
    }
}

/// Where the bytes of blobs come from.
pub(super) struct Supply<'a> {
    /// The layout that holds them.
    pub(super) layout: &'a Layout,
    /// How the layout is called in messages.
    pub(super) place: &'a str,
    /// Whence they come into the layout when they are needed: a repository, the directory of the layout's blobs,
    /// and who counts the bytes.
    pub(super) fetch: Option<(&'a Client, PathBuf, &'a Meter)>,
}

/// Sees that the repository has a blob: looks, asks the registry to take it from `mount_from`, and sends it.
pub(super) async fn blob(
    client: &Client,
    supply: &Supply<'_>,
    descriptor: &Descriptor,
    mount_from: Option<&str>,
    meter: &Arc<Meter>,
) -> Result<Sent> {
    let repository = client.repository();
    let digest = document::digest(descriptor, supply.place)?;
    let doing = format!("pushing blob sha256:{digest} to {}/{}", repository.host, repository.name);
    let upload = Upload { client, supply, descriptor, digest, meter };
    let mut failed = 0;
    // How far it ever came: only beyond that a failure is the first one again.
    let mut furthest = 0;
    let mut session = Session { mount_from, ..Session::default() };
    loop {
        match upload.go_on(&mut session).await {
            Ok(sent) => {
                meter.add(descriptor.size() - session.counted);
                return Ok(sent);
            }
            Err(trouble) => {
                let trouble = upload.find_out(&mut session, trouble).await;
                failed = if session.stored > furthest { 1 } else { failed + 1 };
                furthest = furthest.max(session.stored);
                client.pause(&doing, trouble, failed).await?;
            }
        }
    }
}

impl Supply<'_> {
    /// Sees that the layout holds a blob.
    async fn ready(&self, descriptor: &Descriptor, digest: Digest) -> Result<()> {
        let Some((client, dir, meter)) = &self.fetch else { return Ok(()) };
        let target = dir.join(digest.to_string());
        if target.exists() {
            return Ok(());
        }
        // One that breaks off must not look like a whole one.
        let beside = dir.join(format!("{digest}.part"));
        download::blob(client, descriptor, &beside, meter).await?;
        fs::rename(&beside, &target)
    }

    /// Gives back the space of a blob that was sent.
    fn done(&self, digest: Digest) -> Result<()> {
        let Some((_, dir, _)) = &self.fetch else { return Ok(()) };
        fs::remove_file_if_exists(&dir.join(digest.to_string()))
    }
}

/// The upload of one blob.
struct Upload<'a> {
    client: &'a Client,
    supply: &'a Supply<'a>,
    descriptor: &'a Descriptor,
    digest: Digest,
    meter: &'a Arc<Meter>,
}

/// What the registry has of it so far.
#[derive(Default)]
struct Session<'a> {
    /// Where it goes on.
    location: Option<Url>,
    /// Whether it ever began.
    begun: bool,
    /// How many bytes the registry has.
    stored: u64,
    /// How many the meter has counted.
    counted: u64,
    mount_from: Option<&'a str>,
}

/// What happens to a stream while it is sent.
#[derive(Default)]
struct Stream {
    moved: AtomicU64,
    /// Why the bytes are not those that were promised.
    damage: OnceLock<String>,
}

impl Upload<'_> {
    async fn go_on(&self, session: &mut Session<'_>) -> Result<Sent, Trouble> {
        let size = self.descriptor.size();
        let mut location = match session.location.clone() {
            Some(location) => location,
            None => {
                // An answer that was lost may have been a success.
                if has(self.client, self.digest).await? {
                    return Ok(if session.begun { Sent::Whole } else { Sent::There });
                }
                match self.begin(session.mount_from.take()).await? {
                    Some(location) => location,
                    None => return Ok(Sent::Mounted),
                }
            }
        };
        session.begun = true;
        session.location = Some(location.clone());
        if session.stored < size {
            self.supply.ready(self.descriptor, self.digest).await?;
            let stream = Arc::new(Stream::default());
            let patched = self.patch(&location, session.stored, &stream).await;
            session.counted = session.stored + stream.moved.load(Ordering::Relaxed);
            if let Some(damage) = stream.damage.get() {
                return Err(Trouble::Own(damaged(self.supply.place, damage)));
            }
            location = patched?;
            session.stored = size;
            session.location = Some(location.clone());
        }
        location.query_pairs_mut().append_pair("digest", &format!("sha256:{}", self.digest));
        let build = || Ok(self.client.request_at(Method::PUT, &location).header(CONTENT_LENGTH, 0));
        self.client.send(build).await?;
        self.supply.done(self.digest)?;
        Ok(Sent::Whole)
    }

    /// Begins an upload; `None` when the registry took the blob from elsewhere instead.
    async fn begin(&self, mount_from: Option<&str>) -> Result<Option<Url>, Trouble> {
        let digest = format!("sha256:{}", self.digest);
        let build = || -> Result<RequestBuilder, Trouble> {
            let mut path = "blobs/uploads/".to_owned();
            if let Some(from) = mount_from {
                path = format!("{path}?mount={digest}&from={from}");
            }
            Ok(self.client.request(Method::POST, &path)?.header(CONTENT_LENGTH, 0))
        };
        let answer = self.client.send(build).await?;
        if answer.status() == StatusCode::CREATED {
            return Ok(None);
        }
        self.client.location(&answer).map(Some)
    }

    /// Sends what follows the first `stored` bytes; returns where the upload goes on.
    async fn patch(&self, location: &Url, stored: u64, stream: &Arc<Stream>) -> Result<Url, Trouble> {
        let size = self.descriptor.size();
        let build = || {
            // When it is sent twice, for a token that was too old, the first time does not count.
            self.meter.take_back(stream.moved.swap(0, Ordering::Relaxed));
            let blob = self.supply.layout.blob_from(self.descriptor, stored)?;
            let mut request = self
                .client
                .request_at(Method::PATCH, location)
                .header(CONTENT_TYPE, "application/octet-stream")
                .header(CONTENT_LENGTH, size - stored);
            if stored > 0 {
                request = request.header(CONTENT_RANGE, format!("{stored}-{}", size - 1));
            }
            Ok(request.body(body(blob, size - stored, Arc::clone(stream), Arc::clone(self.meter))))
        };
        let answer = self.client.send_watched(build, &stream.moved).await?;
        self.client.location(&answer)
    }

    /// After trouble: asks how much the registry has; what it cannot tell is sent anew.
    async fn find_out(&self, session: &mut Session<'_>, trouble: Trouble) -> Trouble {
        // What an upload that is gone on with refuses may succeed from its beginning.
        let refused = session.stored > 0
            && matches!(&trouble, Trouble::Answer { status, .. } if matches!(status.as_u16(), 400 | 404 | 416));
        let trouble = match trouble {
            Trouble::Answer { .. } if refused => Trouble::Line(trouble.phrase()),
            other => other,
        };
        let stored = match session.location.take() {
            Some(location) if trouble.may_pass() && !refused => self.status(&location).await,
            _ => None,
        };
        let (location, stored) = stored.map_or((None, 0), |(location, stored)| (Some(location), stored));
        self.meter.take_back(session.counted.saturating_sub(stored));
        self.meter.add(stored.saturating_sub(session.counted));
        session.counted = stored;
        session.stored = stored;
        session.location = location;
        trouble
    }

    /// How much of an upload the registry has, and where it goes on.
    async fn status(&self, location: &Url) -> Option<(Url, u64)> {
        let answer = self.client.send(|| Ok(self.client.request_at(Method::GET, location))).await.ok()?;
        let stored = stored(answer.headers().get(RANGE)?.to_str().ok()?)?;
        let location = self.client.location(&answer).unwrap_or_else(|_| location.clone());
        // With nothing in it a fresh one is safer: bytes of the broken connection may still be on their way.
        (1..=self.descriptor.size()).contains(&stored).then_some((location, stored))
    }
}

/// A blob as the body of a request.
fn body(blob: Blob, left: u64, sent: Arc<Stream>, meter: Arc<Meter>) -> Body {
    Body::wrap_stream(stream::try_unfold(Some((blob, left)), move |state| {
        let read = state.map(|(blob, left)| read(blob, left)).transpose();
        match &read {
            Ok(Some((bytes, _))) => {
                // In this order, for what is taken back is what moved.
                meter.add(bytes.len() as u64);
                sent.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            Ok(None) => {}
            Err(error) => drop(sent.damage.set(error.to_string())),
        }
        std::future::ready(read)
    }))
}

/// How many bytes a Range header of an upload tells of: `0-99` is 100, but `0-0` is what registries say of none.
fn stored(range: &str) -> Option<u64> {
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    match last.parse().ok()? {
        0 => Some(0),
        last => u64::checked_add(last, 1),
    }
}

/// The next bytes of a blob and the rest; the last ones come only if the whole is what its digest says.
fn read(mut blob: Blob, left: u64) -> std::io::Result<(Bytes, Option<(Blob, u64)>)> {
    let mut bytes = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
    blob.read_exact(&mut bytes)?;
    let left = left - bytes.len() as u64;
    if left > 0 {
        return Ok((bytes.into(), Some((blob, left))));
    }
    blob.finish().map_err(std::io::Error::other)?;
    Ok((bytes.into(), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_tells_how_much_is_there() {
        for (range, told) in [
            ("0-0", Some(0)),
            ("0-99", Some(100)),
            ("bytes=0-99", Some(100)),
            ("1-99", None),
            ("", None),
            ("0-x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(stored(range), told, "{range}");
        }
    }
}
