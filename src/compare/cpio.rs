//! Reading an initramfs: archives of cpio's "new ASCII" form, one after the other with zeros between; the
//! first ones (microcode, for the kernel's earliest code) plain, the rest compressed.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context as _, Result, bail, ensure};

use super::files::Listing;
use crate::compression::{self, Format};
use crate::pipeline::{Digest, Hashing};

/// An entry's header: the magic and 13 numbers of 8 hexadecimal digits.
const HEADER: usize = 110;
const LONGEST_NAME: u64 = 4096;
/// More than any initramfs has: a crafted one must not take all memory.
const MOST_FILES: usize = 1 << 20;

/// Lists what an initramfs holds: by path, mode and digest of the content.
pub(super) fn list(input: impl Read) -> Result<Listing> {
    let mut listing = Listing::new();
    archives(Box::new(BufReader::with_capacity(1 << 16, input)), &mut listing, true)?;
    Ok(listing)
}

fn archives(mut input: Box<dyn BufRead + '_>, listing: &mut Listing, may_decode: bool) -> Result<()> {
    loop {
        skip_zeros(&mut input)?;
        let head = input.fill_buf().context("reading an initramfs")?;
        if head.is_empty() {
            return Ok(());
        }
        if head.starts_with(b"07070") {
            archive(&mut input, listing)?;
            continue;
        }
        ensure!(may_decode, "there is no cpio archive in what is compressed");
        let Some(format) = Format::of_bytes(head) else {
            let start = hex::encode(&head[..head.len().min(6)]);
            bail!("it is neither cpio nor compressed with gzip, xz or zstd: it begins with {start}");
        };
        let decoder = compression::decoder(format, input)?;
        return archives(Box::new(BufReader::with_capacity(1 << 16, decoder)), listing, false);
    }
}

fn skip_zeros(input: &mut impl BufRead) -> Result<()> {
    loop {
        let buffer = input.fill_buf().context("reading an initramfs")?;
        let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == buffer.len();
        input.consume(zeros);
        if zeros == 0 || !all {
            return Ok(());
        }
    }
}

/// Reads one archive to its end.
fn archive(input: &mut impl Read, listing: &mut Listing) -> Result<()> {
    loop {
        let mut header = [0; HEADER];
        input.read_exact(&mut header).context("a cpio archive is cut short")?;
        ensure!(header.starts_with(b"070701") || header.starts_with(b"070702"), "a cpio header is damaged");
        let number = |index: usize| -> Result<u64> {
            let digits = std::str::from_utf8(&header[6 + 8 * index..14 + 8 * index])?;
            u64::from_str_radix(digits, 16).context("a cpio header is damaged")
        };
        let (mode, size, name_length) = (number(1)?, number(6)?, number(11)?);
        ensure!(name_length <= LONGEST_NAME, "a name in a cpio archive is {name_length} long");
        let mut name = Vec::new();
        input.by_ref().take(name_length).read_to_end(&mut name)?;
        skip(input, padding(HEADER as u64 + name_length))?;
        let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        let digest = content(input, size)?;
        skip(input, padding(size))?;
        if name == "TRAILER!!!" {
            return Ok(());
        }
        ensure!(listing.len() < MOST_FILES, "an initramfs has more than {MOST_FILES} files");
        let path = format!("/{}", name.trim_start_matches("./").trim_start_matches('/'));
        let regular = mode & 0o170_000 == 0o100_000;
        listing.insert(path, (format!("{mode:o} {digest}"), regular.then_some(size)));
    }
}

fn content(input: &mut impl Read, size: u64) -> Result<Digest> {
    let mut hashing = Hashing::new(std::io::sink());
    let read = std::io::copy(&mut input.by_ref().take(size), &mut hashing).context("reading an initramfs")?;
    ensure!(read == size, "a cpio archive is cut short");
    Ok(hashing.finish().0)
}

fn skip(input: &mut impl Read, count: u64) -> Result<()> {
    std::io::copy(&mut input.by_ref().take(count), &mut std::io::sink()).context("reading an initramfs")?;
    Ok(())
}

/// Names and contents end at multiples of four.
const fn padding(length: u64) -> u64 {
    (4 - length % 4) % 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Cmd;

    /// An archive of these files by the program cpio.
    fn by_cpio(files: &[(&str, &str)]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let cpio = Cmd::program("cpio").args(["-o", "-H", "newc", "--quiet"]).dir(dir.path());
        cpio.stdin(names.join("\n") + "\n").output().unwrap().stdout
    }

    #[test]
    fn early_and_compressed_archives_are_one_listing() {
        let early = by_cpio(&[("kernel/x86/microcode", "micro")]);
        let main = by_cpio(&[("init", "#!/bin/sh"), ("etc/empty", ""), ("usr/lib/a", "abc")]);
        let expected = ["/etc/empty", "/init", "/kernel/x86/microcode", "/usr/lib/a"];
        for (name, format) in Format::ALL {
            let mut packed = Vec::new();
            compression::encode(*format, 3, 1, None, &mut &main[..], &mut packed).unwrap();
            let listing = list(&*[early.clone(), vec![0; 700], packed].concat()).unwrap();
            assert_eq!(listing.keys().collect::<Vec<_>>(), expected, "{name}");
            assert_eq!(listing["/init"].1, Some(9));
        }
        assert_eq!(list(&*main).unwrap().len(), 3, "a plain one");
        let told = |bytes: &[u8]| list(bytes).unwrap_err().to_string();
        assert_eq!(told(&main[..200]), "a cpio archive is cut short");
        assert_eq!(
            told(b"LZMA or so"),
            "it is neither cpio nor compressed with gzip, xz or zstd: it begins with 4c5a4d41206f"
        );
    }
}
