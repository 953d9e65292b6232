//! Fetching: manifests, whose bytes are what their digest says, and blobs into files, going on where a
//! connection broke.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use reqwest::{Method, Response, StatusCode};

use super::client::Client;
use super::document::{self, Document, damaged};
use super::meter::Meter;
use super::trouble::Trouble;
use crate::host::fs;
use crate::pipeline::{Digest, Hashing};

/// A manifest by tag or digest.
pub(super) async fn manifest(client: &Client, reference: &str) -> Result<Document> {
    let doing = format!("fetching the manifest of {}", place(client, reference));
    let fetched = client.persist(&doing, async || fetch_manifest(client, reference).await).await?;
    checked(client, reference, fetched)
}

/// As [`manifest`], `None` if there is none.
pub(super) async fn manifest_if_there(client: &Client, reference: &str) -> Result<Option<Document>> {
    let doing = format!("looking for {}", place(client, reference));
    let fetched = client.persist(&doing, async || match fetch_manifest(client, reference).await {
        Err(trouble) if trouble.is(StatusCode::NOT_FOUND) => Ok(None),
        other => other.map(Some),
    });
    fetched.await?.map(|fetched| checked(client, reference, fetched)).transpose()
}

/// A manifest's bytes, and what the answer calls them: media type and digest.
type Fetched = (Vec<u8>, Option<String>, Option<String>);

fn place(client: &Client, reference: &str) -> String {
    let repository = client.repository();
    let joint = if reference.contains(':') { '@' } else { ':' };
    format!("docker://{}/{}{joint}{reference}", repository.host, repository.name)
}

async fn fetch_manifest(client: &Client, reference: &str) -> Result<Fetched, Trouble> {
    let path = format!("manifests/{reference}");
    let build = || Ok(client.request(Method::GET, &path)?.header(ACCEPT, document::ACCEPT));
    let mut response = client.send(build).await?;
    let header =
        |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let (media_type, said) = (header(CONTENT_TYPE.as_str()), header("docker-content-digest"));
    Ok((client.whole(&mut response, document::LARGEST).await?, media_type, said))
}

fn checked(client: &Client, reference: &str, (bytes, media_type, said): Fetched) -> Result<Document> {
    let place = place(client, reference);
    let digest = format!("sha256:{}", Digest::of(&bytes));
    let wanted = Some(reference).filter(|reference| reference.contains(':')).or(said.as_deref());
    if let Some(wanted) = wanted.filter(|wanted| *wanted != digest && wanted.starts_with("sha256:")) {
        return Err(damaged(
            &place,
            &format!("its manifest should be {wanted}, but has the digest {digest}"),
        ));
    }
    Document::new(bytes, media_type.as_deref(), &place)
}

/// A small blob, whole.
pub(super) async fn small(client: &Client, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let place = format!("docker://{}/{}", client.repository().host, client.repository().name);
    let wanted = document::digest(descriptor, &place)?;
    let path = format!("blobs/sha256:{wanted}");
    let fetch = async || {
        let mut response = client.send(|| client.request(Method::GET, &path)).await?;
        client.whole(&mut response, document::LARGEST).await
    };
    let bytes = client.persist(&format!("fetching blob sha256:{wanted} from {place}"), fetch).await?;
    let digest = Digest::of(&bytes);
    if digest != wanted {
        return Err(damaged(&place, &format!("blob sha256:{wanted} has the digest sha256:{digest}")));
    }
    Ok(bytes)
}

/// A blob into a new file at `target`.
pub(super) async fn blob(
    client: &Client,
    descriptor: &Descriptor,
    target: &Path,
    meter: &Meter,
) -> Result<()> {
    let repository = client.repository();
    let place = format!("docker://{}/{}", repository.host, repository.name);
    let wanted = document::digest(descriptor, &place)?;
    let doing = format!("fetching blob sha256:{wanted} from {place}");
    let mut download = Download { file: Hashing::new(fs::create(target)?), size: descriptor.size(), done: 0 };
    let mut failed = 0;
    while let Err(trouble) =
        download.go_on(client, &format!("blobs/sha256:{wanted}"), meter, &mut failed).await
    {
        failed += 1;
        client.pause(&doing, trouble, failed).await?;
    }
    let (digest, _, mut file) = download.file.finish();
    file.flush().with_context(|| format!("writing {}", target.display()))?;
    if digest != wanted {
        return Err(damaged(&place, &format!("blob sha256:{wanted} has the digest sha256:{digest}")));
    }
    Ok(())
}

/// A file on its way here.
struct Download {
    file: Hashing<File>,
    size: u64,
    done: u64,
}

impl Download {
    /// Fetches what is missing; whatever comes sets `failed` back to nothing.
    async fn go_on(
        &mut self,
        client: &Client,
        path: &str,
        meter: &Meter,
        failed: &mut u32,
    ) -> Result<(), Trouble> {
        while self.done < self.size {
            let begin = self.done;
            let build = || {
                let request = client.request(Method::GET, path)?;
                Ok(if begin == 0 { request } else { request.header(RANGE, format!("bytes={begin}-")) })
            };
            let mut response = client.send(build).await?;
            // A server that knows no ranges begins anew, and so what is here is passed over.
            let mut skip = if begin > 0 && !continues(&response, begin)? { begin } else { 0 };
            while let Some(bytes) = client.next(&mut response).await? {
                let known = skip.min(bytes.len() as u64);
                skip -= known;
                let bytes = &bytes[usize::try_from(known).unwrap_or(usize::MAX)..];
                let length = bytes.len() as u64;
                if self.done + length > self.size {
                    let what = format!("it sends more than the {} bytes that the manifest says", self.size);
                    return Err(Trouble::Own(damaged(path, &what)));
                }
                self.file.write_all(bytes).context("writing a blob")?;
                self.done += length;
                meter.add(length);
                if length > 0 {
                    *failed = 0;
                }
            }
            if self.done < self.size {
                let missing = self.size - self.done;
                return Err(Trouble::Line(format!("the connection was cut {missing} bytes before the end")));
            }
        }
        Ok(())
    }
}

/// Whether an answer begins where the request asked.
fn continues(response: &Response, begin: u64) -> Result<bool, Trouble> {
    if response.status() != StatusCode::PARTIAL_CONTENT {
        return Ok(false);
    }
    let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let first = range.and_then(|range| range.strip_prefix("bytes ")?.split('-').next()?.parse().ok());
    if first == Some(begin) {
        return Ok(true);
    }
    Err(Trouble::Line(format!("asked for what follows byte {begin}, it answered with {range:?}")))
}
