//! gzip with several cores: the input is cut into pieces of one size, each is compressed by itself up to a
//! byte boundary, and their concatenation is one valid deflate stream (RFC 1951), so that every reader of
//! gzip reads one member. Each piece begins with its predecessor's last 32 KiB as dictionary, so that the
//! cuts cost almost nothing.

use std::io::{Read, Write};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use rayon::prelude::*;

const PIECE: usize = 1 << 20;
const DICTIONARY: usize = 32 << 10;
/// Magic, deflate, no flags, no time, level not told, Unix.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];

/// A piece and what came before it.
struct Piece {
    bytes: Vec<u8>,
    before: Vec<u8>,
    last: bool,
}

pub(super) fn encode(
    level: u32,
    threads: usize,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<()> {
    let pool =
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().context("starting gzip's threads")?;
    output.write_all(&HEADER).context("writing gzip")?;
    let mut crc = Crc::new();
    let mut next = read_piece(input)?;
    let mut before = Vec::new();
    let mut ended = false;
    while !ended {
        let mut batch = Vec::new();
        while batch.len() < 4 * threads && !ended {
            let bytes = next;
            next = if bytes.len() == PIECE { read_piece(input)? } else { Vec::new() };
            ended = next.is_empty();
            crc.update(&bytes);
            let tail = bytes[bytes.len().saturating_sub(DICTIONARY)..].to_vec();
            batch.push(Piece { bytes, before: std::mem::replace(&mut before, tail), last: ended });
        }
        let done: Vec<Result<Vec<u8>>> =
            pool.install(|| batch.par_iter().map(|piece| deflate(level, piece)).collect());
        for bytes in done {
            output.write_all(&bytes?).context("writing gzip")?;
        }
    }
    output.write_all(&crc.sum().to_le_bytes()).context("writing gzip")?;
    output.write_all(&crc.amount().to_le_bytes()).context("writing gzip")
}

fn deflate(level: u32, piece: &Piece) -> Result<Vec<u8>> {
    let mut compress = Compress::new(Compression::new(level), false);
    if !piece.before.is_empty() {
        compress.set_dictionary(&piece.before).context("setting gzip's dictionary")?;
    }
    let flush = if piece.last { FlushCompress::Finish } else { FlushCompress::Sync };
    let mut out = Vec::with_capacity(piece.bytes.len() / 2 + 1024);
    loop {
        let rest = &piece.bytes[usize::try_from(compress.total_in())?..];
        let before = out.len();
        let status = compress.compress_vec(rest, &mut out, flush).context("compressing with gzip")?;
        let all_read = compress.total_in() as usize == piece.bytes.len();
        let full = out.len() == out.capacity();
        match status {
            Status::StreamEnd => return Ok(out),
            // With room left over, a flush is complete.
            _ if !piece.last && all_read && !full => return Ok(out),
            _ => ensure!(full || out.len() > before, "gzip makes no progress"),
        }
        out.reserve(64 << 10);
    }
}

fn read_piece(input: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(PIECE);
    input.take(PIECE as u64).read_to_end(&mut bytes).context("reading what is to be compressed")?;
    Ok(bytes)
}
