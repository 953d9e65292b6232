//! Decompressing a stream.

use std::io::{BufRead, Read, Write};

use anyhow::{Context as _, Result};

use super::Format;

/// A reader of what `input` holds compressed.
pub fn decoder<'r>(format: Format, input: impl BufRead + 'r) -> Result<Box<dyn Read + 'r>> {
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Format::Xz => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(input)),
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(input).context("starting zstd")?;
            decoder.window_log_max(31).context("setting up zstd")?;
            Box::new(decoder)
        }
    })
}

/// Decompresses `input` into `output`.
pub fn decode(format: Format, input: impl BufRead, output: &mut impl Write) -> Result<()> {
    let mut decoder = decoder(format, input)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = decoder.read(&mut buffer).with_context(|| format!("reading {}", format.name()))?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..count]).context("writing what was decompressed")?;
    }
}
