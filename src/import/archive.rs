//! Reading a layer's tar stream, entry by entry. The tar crate reads headers that precede an entry (PAX
//! records, GNU's long names) whole into memory, however large they say they are, and takes content from
//! entries that can have none, which runtimes do not: so the walk over the blocks is nosa's own, and the
//! crate decodes the fields.

use std::io::{self, Read};

use anyhow::Result;
use tar::{EntryType, Header};

use super::limits::{EXTENSION, Refused, XATTRS, refuse};
use super::path::shown;

const BLOCK: usize = 512;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// An entry; its content is read from the archive.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    /// A link's target.
    pub(super) target: Vec<u8>,
    pub(super) kind: EntryType,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permissions only.
    pub(super) mode: u32,
    pub(super) size: u64,
    /// Sorted by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A tar stream. Reading from it gives the content of the entry that came last.
pub(super) struct Archive<R> {
    stream: R,
    left: u64,
    padding: u64,
    entries: u64,
    most: u64,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> Archive<R> {
    /// A tar stream that may have `most` entries.
    pub(super) const fn new(stream: R, most: u64) -> Self {
        Self { stream, left: 0, padding: 0, entries: 0, most }
    }

    /// The number of entries so far.
    pub(super) const fn entries(&self) -> u64 {
        self.entries
    }

    /// The next entry; what is left of the last one's content is skipped.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > self.most {
                return Err(refuse(format!("it has more than {} entries", self.most)));
            }
            let size = number(header.size(), &header, "size")?;
            match header.entry_type() {
                EntryType::XHeader => extensions.pax(&self.extension(size)?)?,
                EntryType::XGlobalHeader => drop(self.extension(size)?),
                EntryType::GNULongName => extensions.path = Some(until_zero(self.extension(size)?)),
                EntryType::GNULongLink => extensions.target = Some(until_zero(self.extension(size)?)),
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// Reads up to the stream's end, where nothing but zeroes should be.
    pub(super) fn finish(mut self) -> Result<R> {
        io::copy(&mut self.stream, &mut io::sink())?;
        Ok(self.stream)
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> Result<Entry> {
        let size = extensions.size.unwrap_or(size);
        let path = extensions.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let mut kind = header.entry_type();
        if kind.is_file() && path.ends_with(b"/") {
            kind = EntryType::Directory;
        }
        if size > 0 && !(kind.is_file() || kind.is_contiguous()) {
            let what = format!("{} is of a kind that has no content, but says it has some", shown(&path));
            return Err(refuse(what));
        }
        let id = |given: Option<u64>, own: io::Result<u64>, field: &str| -> Result<u32> {
            let id = given.map_or_else(|| number(own, header, field), Ok)?;
            let large = || refuse(format!("{} has the {field} {id}, which no system has", shown(&path)));
            u32::try_from(id).map_err(|_| large())
        };
        let entry = Entry {
            uid: id(extensions.uid, header.uid(), "uid")?,
            gid: id(extensions.gid, header.gid(), "gid")?,
            mode: number(header.mode().map(u64::from), header, "mode")? as u32 & 0o7777,
            target: extensions
                .target
                .unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned()),
            xattrs: extensions.xattrs,
            path,
            kind,
            size,
        };
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(entry)
    }

    /// The next header; `None` at the end. Two blocks of zeroes end a stream, and so does its last byte.
    fn header(&mut self) -> Result<Option<Header>> {
        let skip = self.left.checked_add(self.padding).ok_or_else(|| refuse("an entry has no end"))?;
        if io::copy(&mut (&mut self.stream).take(skip), &mut io::sink())? < skip {
            return Err(cut());
        }
        (self.left, self.padding) = (0, 0);
        let mut header = Header::new_old();
        let block = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.stream.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(cut()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
        match header.cksum() {
            Ok(said) if said == sum + 8 * 32 => Ok(Some(header)),
            _ => Err(refuse("it is no tar stream: a header's checksum is wrong")),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > EXTENSION {
            return Err(refuse(format!("a header of {size} bytes precedes an entry, more than {EXTENSION}")));
        }
        let padded = size.next_multiple_of(BLOCK as u64);
        let mut bytes = Vec::new();
        (&mut self.stream).take(padded).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < padded {
            return Err(cut());
        }
        bytes.truncate(size as usize);
        Ok(bytes)
    }
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.stream).take(self.left).read(buffer)?;
        self.left -= count as u64;
        Ok(count)
    }
}

impl Extensions {
    /// Takes PAX records: `LENGTH KEY=VALUE\n`, the length counting all of it.
    fn pax(&mut self, mut bytes: &[u8]) -> Result<()> {
        let broken = || refuse("an entry's PAX records are broken");
        while !bytes.is_empty() {
            let digits = bytes.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length: usize = std::str::from_utf8(&bytes[..digits])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(broken)?;
            if length <= digits + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
                return Err(broken());
            }
            let record = &bytes[digits + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let decimal = || -> Result<u64> {
            let text = std::str::from_utf8(value).ok();
            text.and_then(|text| text.parse().ok())
                .ok_or_else(|| refuse(format!("a PAX record says {} is {}", shown(key), shown(value))))
        };
        match key {
            b"path" if !value.is_empty() => self.path = Some(value.to_vec()),
            b"linkpath" if !value.is_empty() => self.target = Some(value.to_vec()),
            b"size" => self.size = Some(decimal()?),
            b"uid" => self.uid = Some(decimal()?),
            b"gid" => self.gid = Some(decimal()?),
            _ if key.starts_with(b"GNU.sparse.") => {
                return Err(Refused::with(
                    "it has sparse entries, which no runtime reads",
                    "write the layer again with a tool for images (podman, buildah, docker)",
                )
                .into());
            }
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattr(name, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<()> {
        if name.is_empty() || name.len() > 255 || name.contains(&0) {
            return Err(refuse(format!("{} is no name of an extended attribute", shown(name))));
        }
        self.xattrs.retain(|(known, _)| known != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        self.xattrs.sort();
        let bytes: usize = self.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > XATTRS {
            return Err(refuse(format!("an entry has over {XATTRS} bytes of extended attributes")));
        }
        Ok(())
    }
}

fn number(value: io::Result<u64>, header: &Header, field: &str) -> Result<u64> {
    value.map_err(|_| refuse(format!("{} has a {field} that is no number", shown(&header.path_bytes()))))
}

fn until_zero(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn cut() -> anyhow::Error {
    refuse("it ends in the middle of an entry")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(String, u64)>> {
        let mut archive = Archive::new(bytes, 100);
        let mut found = Vec::new();
        while let Some(entry) = archive.next_entry()? {
            let mut content = Vec::new();
            archive.read_to_end(&mut content)?;
            assert_eq!(content.len() as u64, entry.size);
            found.push((String::from_utf8(entry.path)?, entry.size));
        }
        Ok(found)
    }

    fn sample() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let long = "long/".repeat(60);
        for (path, content) in [("a", &b"1234567"[..]), (&long, b""), ("b", &[7; 512])] {
            let mut header = Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_pax_extensions([("SCHILY.xattr.user.a", &b"\n=1"[..])]).unwrap();
            builder.append_data(&mut header, path, content).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn entries_have_their_long_names_and_content() {
        let found = read(&sample()).unwrap();
        assert_eq!(found, [("a".into(), 7), ("long/".repeat(60), 0), ("b".into(), 512)]);
    }

    #[test]
    fn a_stream_that_is_cut_anywhere_is_refused_or_ends_between_entries() {
        let bytes = sample();
        for length in (1..bytes.len()).step_by(64).filter(|length| length % BLOCK != 0) {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_large_extension_is_refused_before_it_is_read() {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(EXTENSION + 1);
        header.set_cksum();
        let error = read(header.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("precedes an entry"), "{error}");
    }

    #[test]
    fn records_that_do_not_add_up_are_refused() {
        for records in ["5 a=1\n", "99 path=x\n", "x path=y\n", "7 path=\n1", "0 a=b\n", "6 a=bc"] {
            assert!(Extensions::default().pax(records.as_bytes()).is_err(), "{records}");
        }
        let mut extensions = Extensions::default();
        extensions.pax(b"10 path=x\n10 size=7\n").unwrap_err();
        extensions.pax(b"9 path=x\n9 size=7\n").unwrap();
        assert_eq!((extensions.path.unwrap(), extensions.size), (b"x".to_vec(), Some(7)));
        let error = Extensions::default().pax(b"22 GNU.sparse.major=1\n").unwrap_err().to_string();
        assert!(error.contains("sparse"), "{error}");
    }
}
