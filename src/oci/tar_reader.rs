//! Reading a tar stream that may have been made to do harm: POSIX headers with PAX records or GNU's long names.
//!
//! The tar crate parses the blocks. It is not asked for entries, since it reads an extension of any size into
//! memory and splits PAX records at newlines, which binary attributes contain.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// The extensions of an entry together: longer than any path, and than all attributes that Linux keeps for a file.
const LARGEST_EXTENSION: u64 = 1 << 20;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What a tar stream says of an entry; nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawEntry {
    pub(super) kind: EntryType,
    pub(super) path: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: u64,
    /// Of a regular file; other kinds have none, whatever the header says, as Go's reader holds it.
    pub(super) size: u64,
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads a tar stream entry by entry.
pub(super) struct TarReader<R> {
    input: R,
    left: u64,
    padding: u64,
}

/// What extensions say of the entry that follows them.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    long_target: Option<Vec<u8>>,
    pax: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry; its bytes are what the reader reads until the next call.
    pub(super) fn entry(&mut self) -> io::Result<Option<RawEntry>> {
        self.skip()?;
        let mut extensions = Extensions::default();
        let mut room = LARGEST_EXTENSION;
        while let Some(header) = self.header()? {
            let size = header.entry_size()?;
            match header.entry_type() {
                EntryType::XHeader => extensions.pax.extend(records(&self.extension(size, &mut room)?)?),
                // It speaks of all entries that follow; no maker of images says anything in it.
                EntryType::XGlobalHeader => drop(self.extension(size, &mut room)?),
                EntryType::GNULongName => extensions.long_name = Some(text(self.extension(size, &mut room)?)),
                EntryType::GNULongLink => {
                    extensions.long_target = Some(text(self.extension(size, &mut room)?))
                }
                kind => return self.begin(kind, &header, extensions).map(Some),
            }
        }
        Ok(None)
    }

    /// The input, of which the end may not have been read.
    pub(super) fn into_inner(self) -> R {
        self.input
    }

    fn begin(&mut self, kind: EntryType, header: &Header, mut said: Extensions) -> io::Result<RawEntry> {
        if said.pax.keys().any(|key| key.starts_with(b"GNU.sparse.")) || kind.is_gnu_sparse() {
            return Err(wrong("it holds a sparse file"));
        }
        let kind = if kind.is_contiguous() { EntryType::Regular } else { kind };
        let size = number(&said.pax, b"size")?.map_or_else(|| header.entry_size(), Ok)?;
        let size = if kind.is_file() { size } else { 0 };
        self.start(size)?;
        // Other kinds may leave these fields blank.
        let device = match kind {
            EntryType::Char | EntryType::Block => {
                (header.device_major()?.unwrap_or_default(), header.device_minor()?.unwrap_or_default())
            }
            _ => (0, 0),
        };
        let path = said.pax.remove(b"path".as_slice()).or(said.long_name);
        let target = said.pax.remove(b"linkpath".as_slice()).or(said.long_target);
        let entry = RawEntry {
            kind,
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            target: target
                .unwrap_or_else(|| header.link_name_bytes().map_or_else(Vec::new, |name| name.into_owned())),
            mode: header.mode()? & 0o7777,
            uid: number(&said.pax, b"uid")?.map_or_else(|| header.uid(), Ok)?,
            gid: number(&said.pax, b"gid")?.map_or_else(|| header.gid(), Ok)?,
            mtime: header.mtime().unwrap_or_default(),
            size,
            device,
            xattrs: said
                .pax
                .into_iter()
                .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_vec(), value)))
                .collect(),
        };
        Ok(entry)
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(wrong("it ends within a header")),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        let own: u32 = block[148..156].iter().map(|byte| u32::from(*byte)).sum();
        let header = Header::from_byte_slice(&block).clone();
        if header.cksum().ok() != Some(sum - own + 8 * u32::from(b' ')) {
            return Err(wrong("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64, room: &mut u64) -> io::Result<Vec<u8>> {
        let left = room.checked_sub(size);
        *room = left.ok_or_else(|| wrong("the extended headers of an entry are larger than 1 MiB"))?;
        self.start(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        self.skip()?;
        Ok(bytes)
    }

    fn start(&mut self, size: u64) -> io::Result<()> {
        let padded =
            size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| wrong("a size is too large"))?;
        (self.left, self.padding) = (size, padded - size);
        Ok(())
    }

    /// Skips what is left of an entry.
    fn skip(&mut self) -> io::Result<()> {
        let rest = self.left + self.padding;
        (self.left, self.padding) = (0, 0);
        if io::copy(&mut self.input.by_ref().take(rest), &mut io::sink())? == rest {
            return Ok(());
        }
        Err(wrong("it ends within a file"))
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(wrong("it ends within a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// PAX records: `LENGTH KEY=VALUE\n`, where LENGTH counts the whole record.
fn records(bytes: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let record = || -> Option<(&[u8], &[u8], usize)> {
            let digits = rest.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
            let body = rest.get(digits + 1..length)?.strip_suffix(b"\n")?;
            // An attribute's name may have an `=`, as far as the kernel cares; nobody writes such.
            let equals = body.iter().position(|byte| *byte == b'=')?;
            Some((&body[..equals], &body[equals + 1..], length))
        };
        let (key, value, length) = record().ok_or_else(|| wrong("a PAX record is malformed"))?;
        found.insert(key.to_vec(), value.to_vec());
        rest = &rest[length..];
    }
    Ok(found)
}

fn number(pax: &BTreeMap<Vec<u8>, Vec<u8>>, key: &[u8]) -> io::Result<Option<u64>> {
    let Some(value) = pax.get(key) else { return Ok(None) };
    let parsed = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    parsed.map(Some).ok_or_else(|| wrong("a number in a PAX record is none"))
}

/// GNU's long names end with a zero byte.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header block with the sum over it.
    fn block(kind: EntryType, path: &str, size: u64) -> Vec<u8> {
        let mut header = Header::new_ustar();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        header.as_bytes().to_vec()
    }

    fn padded(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
        let body = [b" ", key, b"=", value, b"\n"].concat();
        let length = (body.len()..).find(|n| n.to_string().len() + body.len() == *n).unwrap();
        [length.to_string().into_bytes(), body].concat()
    }

    fn extended(records: &[u8], path: &str, bytes: &[u8]) -> Vec<u8> {
        [
            block(EntryType::XHeader, "pax", records.len() as u64),
            padded(records),
            block(EntryType::Regular, path, bytes.len() as u64),
            padded(bytes),
        ]
        .concat()
    }

    #[test]
    fn an_attribute_with_newlines_hides_nothing_that_follows_it() {
        let binary = b"\x01\n12 path=../x\n";
        let records =
            [record(b"SCHILY.xattr.security.capability", binary), record(b"path", b"real")].concat();
        let bytes = [extended(&records, "other", b"abc"), vec![0; 1024]].concat();
        let mut tar = TarReader::new(bytes.as_slice());
        let entry = tar.entry().unwrap().unwrap();
        assert_eq!(entry.path, b"real");
        assert_eq!(entry.xattrs, [(b"security.capability".to_vec(), binary.to_vec())]);
        let mut content = String::new();
        tar.read_to_string(&mut content).unwrap();
        assert_eq!(content, "abc");
        assert!(tar.entry().unwrap().is_none());
    }

    #[test]
    fn what_is_malformed_is_told() {
        let first = |bytes: &[u8]| TarReader::new(bytes).entry().map(drop).unwrap_err().to_string();
        assert!(first(&extended(b"999 path=x\n", "a", b"")).contains("PAX record"));
        assert!(first(&extended(b"x path=x\n", "a", b"")).contains("PAX record"));
        assert!(first(&extended(&record(b"size", b"-1"), "a", b"")).contains("a number"));
        assert!(first(&extended(&record(b"GNU.sparse.major", b"1"), "a", b"")).contains("sparse"));
        assert!(first(&block(EntryType::XHeader, "pax", 2 << 20)).contains("1 MiB"));
        let many = |key: u8| {
            let records = record(&[key], &vec![b'x'; 400 << 10]);
            [block(EntryType::XHeader, "pax", records.len() as u64), padded(&records)].concat()
        };
        assert!(first(&[many(b'a'), many(b'b'), many(b'c')].concat()).contains("1 MiB"));
        assert!(first(&block(EntryType::Regular, "a", 5)[..100]).contains("within a header"));
        let mut bent = block(EntryType::Regular, "a", 5);
        bent[0] = b'b';
        assert!(first(&bent).contains("checksum"));
        let short = block(EntryType::Regular, "a", 5);
        let mut tar = TarReader::new(short.as_slice());
        tar.entry().unwrap();
        assert!(tar.entry().unwrap_err().to_string().contains("within a file"));
        let huge = extended(&record(b"size", u64::MAX.to_string().as_bytes()), "a", b"");
        assert!(first(&huge).contains("too large"));
    }

    #[test]
    fn a_link_has_no_bytes_whatever_its_header_says() {
        let bytes = [block(EntryType::Link, "a", 512), block(EntryType::Regular, "b", 0)].concat();
        let mut tar = TarReader::new(bytes.as_slice());
        assert_eq!(tar.entry().unwrap().unwrap().size, 0);
        assert_eq!(tar.entry().unwrap().unwrap().path, b"b");
    }
}
