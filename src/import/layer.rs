//! A layer's stream: decompressed, hashed and measured on the way. What the manifest and the configuration say
//! of it is compared at its end.

use std::io::{self, BufReader, Read};

use anyhow::Result;
use oci_spec::image::{Descriptor, MediaType};

use super::archive::Archive;
use super::limits::{RATIO, Refused, SMALL_LAYER, at};
use crate::compression::Format;
use crate::oci::{Blob, Image, Layout};
use crate::pipeline::{Digest, Hashing, Progress};

/// A layer of an image.
#[derive(Clone)]
pub(super) struct Layer<'a> {
    layout: &'a Layout,
    descriptor: &'a Descriptor,
    /// The digest that its uncompressed stream has.
    pub(super) diff_id: Digest,
    /// Its name in messages: `layer 3 of 7`.
    pub(super) name: String,
    format: Option<Format>,
}

/// The layers of an image, in order.
pub(super) fn layers<'a>(layout: &'a Layout, image: &'a Image) -> Result<Vec<Layer<'a>>> {
    let descriptors = image.manifest.layers();
    let diff_ids = image.config.rootfs().diff_ids();
    let mut layers = Vec::new();
    for (index, (descriptor, diff_id)) in descriptors.iter().zip(diff_ids).enumerate() {
        let name = format!("layer {} of {}", index + 1, descriptors.len());
        let hex = diff_id.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
        let diff_id = hex.ok_or_else(|| {
            Refused::new(format!("its diff_id {diff_id:?} is not a sha256 digest")).at(&name)
        })?;
        let format = format_of(descriptor.media_type()).map_err(|error| at(&name, error))?;
        layers.push(Layer { layout, descriptor, diff_id, name, format });
    }
    Ok(layers)
}

/// How a layer of this media type is compressed.
fn format_of(kind: &MediaType) -> Result<Option<Format>> {
    use MediaType as Kind;
    Ok(match kind {
        Kind::ImageLayer | Kind::ImageLayerNonDistributable => None,
        Kind::ImageLayerGzip | Kind::ImageLayerNonDistributableGzip => Some(Format::Gzip),
        Kind::ImageLayerZstd | Kind::ImageLayerNonDistributableZstd => Some(Format::Zstd),
        Kind::Other(kind) if kind == "application/vnd.docker.image.rootfs.diff.tar.gzip" => {
            Some(Format::Gzip)
        }
        Kind::Other(kind) if kind == "application/vnd.docker.image.rootfs.diff.tar" => None,
        other => {
            let cure =
                "nosa reads layers that are tar, tar+gzip or tar+zstd; copy the image into one of them";
            return Err(Refused::with(format!("its media type {other} is not a layer's"), cure).into());
        }
    })
}

impl Layer<'_> {
    /// The size of its blob.
    pub(super) fn size(&self) -> u64 {
        self.descriptor.size()
    }

    /// Reads the layer: `read` takes what it wants from at most `most` entries; then the whole stream is
    /// compared with its digests.
    pub(super) fn read<T>(
        &self,
        most: u64,
        progress: &Progress,
        read: impl FnOnce(&mut Archive<&mut Stream<'_>>) -> Result<T>,
    ) -> Result<T> {
        let mut counted = Counted { blob: self.layout.blob(self.descriptor)?, progress };
        let (found, digest) = self.stream(most, &mut counted, read)?;
        if digest != self.diff_id {
            let what = format!(
                "its content has the digest sha256:{digest}, but its diff_id is sha256:{}",
                self.diff_id
            );
            return Err(Refused::new(what).at(&self.name).into());
        }
        counted.blob.finish().map_err(|what| Refused::new(what).at(&self.name))?;
        Ok(found)
    }

    /// Reads the whole stream, and returns its digest besides what was found.
    fn stream<T>(
        &self,
        most: u64,
        blob: &mut Counted<'_>,
        read: impl FnOnce(&mut Archive<&mut Stream<'_>>) -> Result<T>,
    ) -> Result<(T, Digest)> {
        let mut stream = Stream {
            inner: Hashing::new(decoder(self.format, BufReader::with_capacity(1 << 18, blob))?),
            count: 0,
            largest: SMALL_LAYER.max(self.size().saturating_mul(RATIO)),
            compressed: self.size(),
            fault: None,
        };
        let mut archive = Archive::new(&mut stream, most);
        let result = read(&mut archive).and_then(|found| archive.finish().map(|_| found));
        let Stream { inner, fault, .. } = stream;
        let found = result.map_err(|error| at(&self.name, fault.map_or(error, Into::into)))?;
        Ok((found, inner.finish().0))
    }
}

/// A reader of what `input` holds. zstd's frames may ask for a window of at most 128 MiB.
fn decoder<'r>(format: Option<Format>, input: BufReader<impl Read + 'r>) -> Result<Box<dyn Read + 'r>> {
    Ok(match format {
        None => Box::new(input),
        Some(Format::Zstd) => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Some(format) => crate::compression::decoder(format, input)?,
    })
}

/// Tells of the progress through a blob.
struct Counted<'a> {
    blob: Blob,
    progress: &'a Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.blob.read(buffer)?;
        self.progress.add(count as u64);
        Ok(count)
    }
}

/// A layer's uncompressed stream.
pub(super) struct Stream<'a> {
    inner: Hashing<Box<dyn Read + 'a>>,
    count: u64,
    largest: u64,
    compressed: u64,
    /// Why reading failed, if the layer is to blame.
    fault: Option<Refused>,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = match self.inner.read(buffer) {
            Ok(count) => count,
            // What the system says has a number; what a decompressor says has none.
            Err(error) if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::Interrupted => {
                return Err(error);
            }
            Err(error) => {
                self.fault = Some(Refused::new(format!("it cannot be decompressed: {error}")));
                return Err(error);
            }
        };
        self.count += count as u64;
        if self.count > self.largest {
            let what = format!(
                "its {} bytes give more than {}, over {RATIO} times as many: a decompression bomb",
                self.compressed, self.largest
            );
            self.fault = Some(Refused::new(what));
            return Err(io::Error::other("the layer is too large"));
        }
        Ok(count)
    }
}
