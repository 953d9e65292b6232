//! A tar stream whose bytes depend on nothing but what it holds: POSIX headers, time 0, numeric owners, no
//! names of users, PAX records only for what a header cannot hold.

use std::io::{self, Write};

use tar::{EntryType, Header};

/// The largest number that seven octal digits hold.
const LARGEST_ID: u32 = 0o7_777_777;
/// The largest size that eleven octal digits hold.
const LARGEST_SIZE: u64 = 0o77_777_777_777;
const ZEROES: [u8; 1024] = [0; 1024];

/// What a tar entry says of its file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a str,
    pub(super) kind: EntryType,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permissions only.
    pub(super) mode: u32,
    pub(super) size: u64,
    /// A link's target, else empty.
    pub(super) target: &'a str,
    /// Extended attributes that a container should see.
    pub(super) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Entry<'a> {
    /// An entry that root owns, with nothing special to it.
    pub(super) const fn plain(kind: EntryType, path: &'a str, mode: u32) -> Self {
        Self { path, kind, uid: 0, gid: 0, mode, size: 0, target: "", xattrs: &[] }
    }
}

/// Writes a tar stream.
pub(super) struct Tarball<W> {
    out: W,
    left: u64,
}

impl<W: Write> Tarball<W> {
    pub(super) const fn new(out: W) -> Self {
        Self { out, left: 0 }
    }

    /// Writes an entry's headers; its `size` bytes follow through [`Write`], then [`Self::pad`].
    pub(super) fn begin(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut records = Vec::new();
        let mut header = Header::new_ustar();
        if !set_path(&mut header, entry.path.as_bytes()) {
            record(&mut records, b"path", entry.path.as_bytes());
        }
        if let Some(ustar) = header.as_ustar_mut() {
            let target = entry.target.as_bytes();
            let fits = target.len().min(ustar.linkname.len());
            ustar.linkname[..fits].copy_from_slice(&target[..fits]);
            if fits < target.len() {
                record(&mut records, b"linkpath", target);
            }
        }
        for (name, id) in [(&b"uid"[..], entry.uid), (b"gid", entry.gid)] {
            if id > LARGEST_ID {
                record(&mut records, name, id.to_string().as_bytes());
            }
        }
        if entry.size > LARGEST_SIZE {
            record(&mut records, b"size", entry.size.to_string().as_bytes());
        }
        // Last: readers that split records at newlines lose what follows a binary value.
        for (name, value) in entry.xattrs {
            record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        header.set_entry_type(entry.kind);
        header.set_uid(u64::from(entry.uid.min(LARGEST_ID)));
        header.set_gid(u64::from(entry.gid.min(LARGEST_ID)));
        header.set_mode(entry.mode);
        header.set_size(entry.size.min(LARGEST_SIZE));
        if !records.is_empty() {
            self.extension(&records)?;
        }
        self.header(&mut header)?;
        self.left = entry.size;
        Ok(())
    }

    /// Ends an entry with zeroes up to the next block.
    pub(super) fn pad(&mut self, size: u64) -> io::Result<()> {
        if self.left != 0 {
            return Err(io::Error::other(format!("{} bytes of {size} are missing", self.left)));
        }
        self.out.write_all(&ZEROES[..size.next_multiple_of(512).wrapping_sub(size) as usize])
    }

    /// Writes a whole entry.
    pub(super) fn append(&mut self, entry: &Entry<'_>, bytes: &[u8]) -> io::Result<()> {
        let entry = Entry { size: bytes.len() as u64, ..*entry };
        self.begin(&entry)?;
        self.write_all(bytes)?;
        self.pad(entry.size)
    }

    /// Ends the stream.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&ZEROES)?;
        Ok(self.out)
    }

    fn extension(&mut self, records: &[u8]) -> io::Result<()> {
        let mut header = Header::new_ustar();
        set_path(&mut header, b"PaxHeaders/entry");
        header.set_entry_type(EntryType::XHeader);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(0o644);
        header.set_size(records.len() as u64);
        self.header(&mut header)?;
        self.out.write_all(records)?;
        self.pad(records.len() as u64)
    }

    fn header(&mut self, header: &mut Header) -> io::Result<()> {
        header.set_mtime(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

impl<W: Write> Write for Tarball<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            return Err(io::Error::other("an entry is larger than its header says"));
        }
        let written = self.out.write(bytes)?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Puts a path into the name field, or splits it over prefix and name; false when it fits neither way (its
/// end is there then, for readers that know no PAX).
fn set_path(header: &mut Header, path: &[u8]) -> bool {
    let Some(ustar) = header.as_ustar_mut() else { return false };
    let (name, prefix) = (ustar.name.len(), ustar.prefix.len());
    if path.len() <= name {
        ustar.name[..path.len()].copy_from_slice(path);
        return true;
    }
    let split = (path.len() - name - 1..path.len()).find(|at| path[*at] == b'/');
    match split {
        Some(at) if at <= prefix && at > 0 && at + 1 < path.len() => {
            ustar.prefix[..at].copy_from_slice(&path[..at]);
            ustar.name[..path.len() - at - 1].copy_from_slice(&path[at + 1..]);
            true
        }
        _ => {
            ustar.name.copy_from_slice(&path[path.len() - name..]);
            false
        }
    }
}

/// Adds a PAX record: its own length in decimal, a space, key, `=`, value, newline.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    records.extend_from_slice(length.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn entries_read_back_by_another_reader() {
        let long = format!("{}/{}", "d".repeat(120), "n".repeat(90));
        let longer = format!("usr/{}", "größe".repeat(40));
        let xattrs = vec![(b"security.capability".to_vec(), vec![1, 0, b'\n', b'=', 0])];
        let mut tarball = Tarball::new(Vec::new());
        for path in ["./", "short", &long, &longer] {
            let entry = Entry::plain(EntryType::Regular, path, 0o4755);
            let entry = Entry { uid: 5, gid: 3_000_000, xattrs: &xattrs, ..entry };
            tarball.append(&entry, b"content").unwrap();
        }
        let link = Entry { target: &longer, ..Entry::plain(EntryType::Symlink, "link", 0o777) };
        tarball.append(&link, b"").unwrap();
        let bytes = tarball.finish().unwrap();
        assert_eq!(bytes.len() % 512, 0);

        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut paths = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            paths.push(String::from_utf8(entry.path_bytes().into_owned()).unwrap());
            if entry.header().entry_type() == EntryType::Symlink {
                assert_eq!(entry.link_name_bytes().unwrap(), longer.as_bytes());
                continue;
            }
            assert_eq!((entry.header().uid().unwrap(), entry.header().mode().unwrap()), (5, 0o4755));
            let records = entry.pax_extensions().unwrap().unwrap();
            let all: Vec<(String, Vec<u8>)> = records
                .filter_map(Result::ok)
                .map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec()))
                .collect();
            assert!(all.contains(&("gid".into(), b"3000000".to_vec())), "{all:?}");
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
        assert_eq!(paths, ["./", "short", &long, &longer, "link"]);
    }

    #[test]
    fn records_count_their_own_length() {
        for (value, length) in [(1, "6 "), (4, "9 "), (5, "11 "), (93, "99 "), (94, "101 ")] {
            let mut records = Vec::new();
            record(&mut records, b"k", &vec![b'v'; value]);
            assert!(records.starts_with(length.as_bytes()), "{value}: {}", String::from_utf8_lossy(&records));
        }
    }

    #[test]
    fn an_entry_of_another_size_is_an_error() {
        let mut tarball = Tarball::new(Vec::new());
        tarball.begin(&Entry { size: 3, ..Entry::plain(EntryType::Regular, "a", 0o644) }).unwrap();
        assert!(tarball.write_all(b"four").is_err());
        tarball.write_all(b"tw").unwrap();
        assert!(tarball.pad(3).is_err());
    }
}
