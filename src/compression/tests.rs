//! What is compressed is the same whatever the number of threads, and the tools of others read it.

use std::io::{BufReader, Write as _};

use super::*;
use crate::host::Cmd;

/// Text that compresses, of a length that is no multiple of anything.
fn content(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        bytes.extend_from_slice(&hex::encode((state >> 20).to_be_bytes()).into_bytes()[4..]);
        if state >> 30 == 0 {
            bytes.extend_from_slice(&[0; 300]);
        }
    }
    bytes.truncate(length);
    bytes
}

fn encoded(format: Format, threads: usize, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(format, 3, threads, Some(content.len() as u64), &mut &content[..], &mut out).unwrap();
    out
}

#[test]
fn the_number_of_threads_does_not_show() {
    // More than two of xz's blocks.
    let content = content(55_000_001);
    for (name, format) in Format::ALL {
        let one = encoded(*format, 1, &content);
        assert!(one.len() < content.len() * 2 / 3, "{name}");
        assert_eq!(Format::of_bytes(&one), Some(*format));
        for threads in [2, 3] {
            assert!(encoded(*format, threads, &content) == one, "{name} with {threads} threads");
        }
        let mut back = Vec::new();
        decode(*format, BufReader::new(&one[..]), &mut back).unwrap();
        assert!(back == content, "{name}");
    }
}

#[test]
fn every_length_comes_back_and_the_usual_tools_agree() {
    for length in [0, 1, 999, 1 << 20, (1 << 20) + 1, 3 << 20, 9_000_000] {
        let content = content(length);
        for (name, format) in Format::ALL {
            let one = encoded(*format, 2, &content);
            let mut back = Vec::new();
            decode(*format, BufReader::new(&one[..]), &mut back).unwrap();
            assert!(back == content, "{name} {length}");
            let tool = Cmd::program(*name).arg("-dc").stdin(one).output();
            assert!(tool.unwrap().stdout == content, "the program {name} {length}");
        }
    }
}

#[test]
fn damage_is_an_error() {
    let content = content(2_000_000);
    for (name, format) in Format::ALL {
        let mut bytes = encoded(*format, 1, &content);
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x40;
        assert!(decode(*format, BufReader::new(&bytes[..]), &mut Vec::new()).is_err(), "{name}");
        let cut = &encoded(*format, 1, &content)[..middle];
        assert!(decode(*format, BufReader::new(cut), &mut Vec::new()).is_err(), "{name} cut short");
    }
    assert_eq!("bzip2".parse::<Format>().unwrap_err().cause, "`bzip2` is no compressor");
}

#[test]
fn zeros_become_holes() {
    use std::os::unix::fs::MetadataExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("raw");
    let mut content = vec![0; 8_000_001];
    content[5_000_000..5_000_010].fill(9);
    let mut file = SparseFile::new(std::fs::File::create(&path).unwrap());
    content.chunks(77_777).for_each(|part| file.write_all(part).unwrap());
    drop(file.finish().unwrap());
    assert!(std::fs::read(&path).unwrap() == content);
    assert!(std::fs::metadata(&path).unwrap().blocks() < 512);
}
