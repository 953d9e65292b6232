//! Compressing a stream.

use std::io::{Read, Write};

use anyhow::{Context as _, Result};

use super::{Format, gzip};

/// xz's blocks: three times the dictionary of level 6, as its own tool chooses.
const XZ_BLOCK: u64 = 24 << 20;

/// Compresses `input` into `output`; `size` is its length if that is known.
pub fn encode(
    format: Format,
    level: u32,
    threads: usize,
    size: Option<u64>,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<()> {
    let threads = threads.max(1);
    match format {
        Format::Gzip => gzip::encode(level, threads, input, output),
        Format::Xz => xz(level, threads, input, output),
        Format::Zstd => zstd(level, threads, size, input, output),
    }
}

fn xz(level: u32, threads: usize, input: &mut impl Read, output: &mut impl Write) -> Result<()> {
    // The encoder for several threads also with one: the other one makes a single block.
    let stream = liblzma::stream::MtStreamBuilder::new()
        .preset(level)
        .block_size(XZ_BLOCK)
        .check(liblzma::stream::Check::Crc64)
        .threads(u32::try_from(threads).unwrap_or(1))
        .encoder()
        .context("starting xz")?;
    let mut encoder = liblzma::write::XzEncoder::new_stream(output, stream);
    copy(input, &mut encoder)?;
    encoder.finish().context("finishing xz")?;
    Ok(())
}

fn zstd(
    level: u32,
    threads: usize,
    size: Option<u64>,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<()> {
    let level = i32::try_from(level).unwrap_or_default();
    let mut encoder = zstd::stream::write::Encoder::new(output, level).context("starting zstd")?;
    // With workers, even one, jobs are cut by size alone.
    encoder.multithread(u32::try_from(threads).unwrap_or(1)).context("setting zstd's threads")?;
    encoder.include_checksum(true).context("setting up zstd")?;
    encoder.set_pledged_src_size(size).context("setting up zstd")?;
    copy(input, &mut encoder)?;
    encoder.finish().context("finishing zstd")?;
    Ok(())
}

fn copy(input: &mut impl Read, output: &mut impl Write) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = input.read(&mut buffer).context("reading what is to be compressed")?;
        if count == 0 {
            return Ok(());
        }
        output.write_all(&buffer[..count]).context("writing what is compressed")?;
    }
}
