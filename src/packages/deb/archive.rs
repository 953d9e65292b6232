//! A .deb file: an ar archive of `debian-binary`, `control.tar[.*]` and `data.tar[.*]` (deb(5)).

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use crate::host::fs;

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER: usize = 60;

/// An opened package file.
#[derive(Debug)]
pub struct Deb {
    path: PathBuf,
    control: Member,
    data: Member,
}

#[derive(Debug)]
struct Member {
    name: String,
    offset: u64,
    size: u64,
}

impl Deb {
    /// Opens a package and finds its members.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(path).with_context(|| format!("reading package {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let mut file = fs::open(path)?;
        let members = members(&mut file)?;
        let [binary, control, data] = <[Member; 3]>::try_from(members).map_err(|members| {
            anyhow::anyhow!("a package has three members, this one has {}", members.len())
        })?;
        ensure!(binary.name == "debian-binary", "the first member is {}, not debian-binary", binary.name);
        ensure!(control.name.starts_with("control.tar"), "the second member is {}", control.name);
        ensure!(data.name.starts_with("data.tar"), "the third member is {}", data.name);
        Ok(Self { path: path.to_owned(), control, data })
    }

    /// The files of the control archive by name, `./` removed.
    pub fn control(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut archive = tar::Archive::new(self.member(&self.control)?);
        let mut files = Vec::new();
        let context = || format!("reading {} of {}", self.control.name, self.path.display());
        for entry in archive.entries().with_context(context)? {
            let mut entry = entry.with_context(context)?;
            if entry.header().entry_type().is_file() {
                let name = entry.path().with_context(context)?.to_string_lossy().into_owned();
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes).with_context(context)?;
                files.push((name.trim_start_matches("./").to_owned(), bytes));
            }
        }
        Ok(files)
    }

    /// The data archive, decompressed.
    pub fn data(&self) -> Result<Box<dyn Read>> {
        self.member(&self.data)
    }

    fn member(&self, member: &Member) -> Result<Box<dyn Read>> {
        let mut file = fs::open(&self.path)?;
        file.seek(SeekFrom::Start(member.offset))
            .with_context(|| format!("reading {}", self.path.display()))?;
        let raw = BufReader::with_capacity(1 << 17, file.take(member.size));
        Ok(match member.name.rsplit_once(".tar").map_or("", |(_, suffix)| suffix) {
            "" => Box::new(raw),
            ".xz" => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(raw)),
            ".gz" => Box::new(flate2::bufread::GzDecoder::new(raw)),
            ".zst" => Box::new(zstd::stream::read::Decoder::with_buffer(raw).context("starting zstd")?),
            other => bail!(
                "{}: {} is compressed as {other}, which nosa cannot read",
                self.path.display(),
                member.name
            ),
        })
    }
}

fn members(file: &mut File) -> Result<Vec<Member>> {
    let mut magic = [0; 8];
    file.read_exact(&mut magic).context("reading the archive's first bytes")?;
    ensure!(magic == *MAGIC, "this is no ar archive");
    let length = file.metadata().context("asking for the size")?.len();
    let mut offset = MAGIC.len() as u64;
    let mut members = Vec::new();
    while offset < length {
        let mut header = [0; HEADER];
        file.read_exact(&mut header).context("the archive is cut off in a member's header")?;
        ensure!(header[58..] == *b"`\n", "a member's header at byte {offset} is damaged");
        let field = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim().to_owned();
        let size: u64 =
            field(48..58).parse().with_context(|| format!("the size of the member at byte {offset}"))?;
        let name = field(0..16).trim_end_matches('/').to_owned();
        offset += HEADER as u64;
        ensure!(offset + size <= length, "the archive is cut off in member {name}");
        // Members whose name starts with an underscore are reserved and skipped (deb(5)).
        if !name.starts_with('_') {
            members.push(Member { name, offset, size });
        }
        offset += size + size % 2;
        file.seek(SeekFrom::Start(offset)).context("seeking in the archive")?;
    }
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(bytes: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        match Deb::open(file.path()) {
            Ok(_) => "opened".into(),
            Err(error) => error.root_cause().to_string(),
        }
    }

    fn member(name: &str, size: usize) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 100_644).into_bytes();
        bytes.extend(std::iter::repeat_n(b'x', size + size % 2));
        bytes
    }

    #[test]
    fn damaged_packages_are_told_apart() {
        let deb = |parts: &[Vec<u8>]| [MAGIC.to_vec(), parts.concat()].concat();
        assert_eq!(open(b"PK\x03\x04 something else"), "this is no ar archive");
        assert_eq!(open(&deb(&[member("debian-binary", 4)])), "a package has three members, this one has 1");
        let three = [member("debian-binary", 4), member("control.tar.xz", 5), member("data.tar.zst", 6)];
        assert_eq!(open(&deb(&three)), "opened");
        let swapped = [member("debian-binary", 4), member("data.tar", 5), member("control.tar", 6)];
        assert_eq!(open(&deb(&swapped)), "the second member is data.tar");
        let mut cut = deb(&three);
        cut.truncate(cut.len() - 1);
        assert_eq!(open(&cut), "the archive is cut off in member data.tar.zst");
        let reserved =
            [member("debian-binary", 4), member("_x", 1), member("control.tar", 5), member("data.tar", 6)];
        assert_eq!(open(&deb(&reserved)), "opened");
    }
}
