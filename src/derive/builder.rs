//! What is said to podman or docker over their socket: take this image, build this context, give the result.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context as _, Result};
use bollard::query_parameters::{BuildImageOptionsBuilder, ImportImageOptionsBuilder};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, pin_mut, stream};

use super::context::Packed;
use super::service::Service;
use super::steps::Steps;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::oci::{DockerArchive, Image, Layout, read_docker_archive, write_docker_archive};
use crate::pipeline::{Digest, Progress, Reporter, Unit};

/// Loading a large base, or an instruction that prints nothing, may take this long, in seconds.
const PATIENCE: u64 = 6 * 3600;
/// How many chunks wait between a stream and its reader.
const WAITING: usize = 8;
const CHUNK: usize = 256 << 10;

/// A connection to a builder.
pub(super) struct Builder<'a> {
    docker: Docker,
    runtime: tokio::runtime::Runtime,
    report: &'a Reporter,
}

impl<'a> Builder<'a> {
    /// Connects to the service.
    pub(super) fn connect(service: &Service, report: &'a Reporter) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting the connection to the builder")?;
        let socket = service.socket.to_string_lossy();
        let docker = runtime.block_on(async {
            Docker::connect_with_unix(&socket, PATIENCE, API_DEFAULT_VERSION)?.negotiate_version().await
        });
        let docker = docker.map_err(|error| {
            let cause = format!("{} does not speak docker's protocol: {error}", service.socket.display());
            Failure::new(Kind::Tool, cause, "is it podman's or docker's socket?")
        })?;
        Ok(Self { docker, runtime, report })
    }

    /// Has the builder know the image under `name`, unless it does already.
    pub(super) fn load(&self, layout: &Layout, image: &Image, name: &str) -> Result<()> {
        let known = self.runtime.block_on(self.docker.inspect_image(name)).ok().and_then(|found| found.id);
        let is_it = |id: &String| {
            let digests = [image.manifest.config().digest().to_string(), format!("sha256:{}", image.digest)];
            digests.iter().any(|digest| digest.ends_with(id.as_str()))
        };
        if known.as_ref().is_some_and(is_it) {
            return Ok(());
        }
        let total = image.manifest.layers().iter().map(oci_spec::image::Descriptor::size).sum();
        let progress = self.report.progress("giving the base to the builder", total, Unit::Bytes);
        let (send, receive) = tokio::sync::mpsc::channel::<io::Result<Bytes>>(WAITING);
        let chunks = stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|chunk| (chunk, receive))
        });
        thread::scope(|scope| {
            let writer = scope.spawn(move || {
                let out = BufWriter::with_capacity(CHUNK, ToStream { send, progress });
                write_docker_archive(layout, image, name, out)
            });
            let options = ImportImageOptionsBuilder::new().quiet(true).build();
            let loaded =
                self.runtime.block_on(finish(self.docker.import_image_stream(options, chunks, None)));
            // What broke the stream on this side explains the builder's complaint, unless it hung up itself.
            let written = writer.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the base was not written")));
            match (loaded, written) {
                (Err(error), _) => Err(refused("does not take the base", &error)),
                (Ok(()), written) => written,
            }
        })
    }

    /// Builds the context as `name`.
    pub(super) fn build(
        &self,
        packed: &Packed,
        name: &str,
        arguments: &HashMap<String, String>,
        no_cache: bool,
        steps: &mut Steps<'_>,
    ) -> Result<()> {
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(&packed.containerfile)
            .t(name)
            .rm(true)
            .forcerm(true)
            .nocache(no_cache)
            .buildargs(arguments)
            .build();
        let context = bollard::body_try_stream(chunks_of(&packed.file)?);
        self.runtime.block_on(async {
            let said = self.docker.build_image(options, None, Some(context));
            pin_mut!(said);
            while let Some(said) = said.next().await {
                match said {
                    Ok(said) => steps.said(&said.stream.unwrap_or_default())?,
                    Err(bollard::errors::Error::DockerStreamError { error }) => {
                        return Err(steps.failed(&error));
                    }
                    Err(error) => return Err(steps.failed(&error.to_string())),
                }
            }
            Ok(())
        })
    }

    /// The image called `name`; layers in `known` are not kept.
    pub(super) fn export(
        &self,
        name: &str,
        known: &BTreeSet<Digest>,
        scratch: &Path,
    ) -> Result<DockerArchive> {
        let found = self.runtime.block_on(self.docker.inspect_image(name));
        let size = found.map_err(|error| refused("has not what it built", &error))?.size.unwrap_or_default();
        let total = u64::try_from(size).unwrap_or_default();
        let progress = self.report.progress("taking the result from the builder", total, Unit::Bytes);
        let (send, receive) = mpsc::sync_channel::<Bytes>(WAITING);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let input = FromStream { receive, left: Bytes::new(), progress };
                read_docker_archive(input, known, scratch)
            });
            let sent = self.runtime.block_on(async {
                let chunks = self.docker.export_image(name);
                pin_mut!(chunks);
                while let Some(chunk) = chunks.next().await {
                    // The reader hangs up when it has the archive's end, or cannot go on and says why.
                    if send.send(chunk?).is_err() {
                        break;
                    }
                }
                Ok(())
            });
            drop(send);
            let read = reader.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the result was not read")));
            sent.map_err(|error: bollard::errors::Error| refused("does not give the result", &error))?;
            read
        })
    }
}

/// Reads a stream of messages to its end.
async fn finish<T>(
    said: impl Stream<Item = Result<T, bollard::errors::Error>>,
) -> Result<(), bollard::errors::Error> {
    pin_mut!(said);
    while let Some(said) = said.next().await {
        said?;
    }
    Ok(())
}

fn refused(what: &str, error: &bollard::errors::Error) -> anyhow::Error {
    let cause = format!("the builder {what}: {error}");
    Failure::new(Kind::Build, cause, "does `podman info` (or `docker info`) work, and is there room for it?")
        .into()
}

/// A file's bytes as a stream.
fn chunks_of(path: &Path) -> Result<impl Stream<Item = io::Result<Bytes>> + Send + 'static> {
    let file = fs::open(path)?;
    Ok(stream::unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK];
        match file.read(&mut chunk) {
            Ok(0) => None,
            Ok(count) => {
                chunk.truncate(count);
                Some((Ok(Bytes::from(chunk)), file))
            }
            Err(error) => Some((Err(error), file)),
        }
    }))
}

/// A writer into a stream.
struct ToStream {
    send: tokio::sync::mpsc::Sender<io::Result<Bytes>>,
    progress: Progress,
}

impl Write for ToStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the builder hung up");
        self.send.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(gone)?;
        self.progress.add(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A reader of what a stream brings.
struct FromStream {
    receive: mpsc::Receiver<Bytes>,
    left: Bytes,
    progress: Progress,
}

impl Read for FromStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.receive.recv() {
                Ok(chunk) => self.left = chunk,
                Err(_) => return Ok(0),
            }
        }
        let count = self.left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.left.split_to(count));
        self.progress.add(count as u64);
        Ok(count)
    }
}
