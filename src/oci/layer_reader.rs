//! A layer's entries, decompressed and in order, with names that cannot lead out of the tree and a digest,
//! size and `diff_id` that are compared with what the image says (image-spec's layer.md). The one door by
//! which layers of other people's images come in: the importer and the lint both go through it.
//!
//! It does not merge: what a name means when an ancestor is a symbolic link, or a hard link's target in
//! another layer, is the merging side's to decide, on a tree of its own and never on the host's.

use std::ffi::OsString;
use std::io::{self, BufReader, Read};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result};
use oci_spec::image::{Descriptor, MediaType};
use tar::EntryType;

use super::layout::{Blob, Image, Layout, damaged};
use super::tar_reader::{RawEntry, TarReader};
use crate::failure::{Failure, Kind};
use crate::pipeline::{Digest, Hashing};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Layers unpack to at most this many times their size, and [`SLACK`]: real ones stay below 20.
const RATIO: u64 = 200;
const SLACK: u64 = 256 << 20;
/// More than any operating system unpacks to.
const LARGEST: u64 = 128 << 30;
/// The most that zstd may keep of what it wrote: what its own command line allows.
const WINDOW_LOG: u32 = 27;

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Its path below the root; empty for the root itself. Only normal components.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permissions, with the set-id and sticky bits.
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u64,
    /// A regular file's size.
    pub size: u64,
    /// Extended attributes, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    Regular,
    /// A symbolic link to whatever that is.
    Symlink(PathBuf),
    /// Another name of the file at that path, which is checked as the entry's own.
    HardLink(PathBuf),
    /// A character device.
    CharDevice(u32, u32),
    /// A block device.
    BlockDevice(u32, u32),
    /// A named pipe.
    Fifo,
    /// What lower layers have at this path is gone.
    Whiteout,
    /// What lower layers have in this directory is gone.
    Opaque,
}

/// What the layers of an image may still unpack to, together: several threads take from it.
#[derive(Debug)]
pub struct Budget {
    entries: AtomicU64,
    bytes: AtomicU64,
    /// How many bytes there were.
    all: u64,
}

impl Budget {
    /// For the layers of `image`, which may have as many entries.
    #[must_use]
    pub fn of(image: &Image, entries: u64) -> Self {
        let packed =
            image.manifest.layers().iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size()));
        let all = most(packed).min(LARGEST);
        Self { entries: entries.into(), bytes: all.into(), all }
    }

    fn take(left: &AtomicU64, count: u64) -> bool {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(count)).is_ok()
    }
}

/// The most that so many compressed bytes may unpack to.
const fn most(packed: u64) -> u64 {
    packed.saturating_mul(RATIO).saturating_add(SLACK)
}

/// The decompressed stream of a layer, which ends in an error when it grows beyond its limit or the image's.
struct Stream<'b, R> {
    inner: Hashing<R>,
    limit: u64,
    left: u64,
    budget: &'b Budget,
    fault: Option<String>,
}

impl Layout {
    /// Hands every entry of the image's layer number `index` to `visit`, which may read the file's bytes, then
    /// compares the layer with what the image says of it. An error may come after entries were handed over, so
    /// what `visit` makes of them must not count before the end. Returns the size of the tar stream.
    pub fn read_layer(
        &self,
        image: &Image,
        index: usize,
        budget: &Budget,
        mut visit: impl FnMut(LayerEntry, &mut dyn Read) -> Result<()>,
    ) -> Result<u64> {
        let told = |what: String| damaged(self.path(), &format!("layer {}: {what}", index + 1));
        let layer = image.manifest.layers().get(index).context("reading a layer that is not there")?;
        let diff_id = image.config.rootfs().diff_ids().get(index).and_then(|id| digest(id));
        let diff_id = diff_id.ok_or_else(|| told("its diff_id is not a sha256 digest".to_owned()))?;
        let mut blob = self.blob(layer)?;
        let limit = most(layer.size());
        let (found, size) = {
            let inner = Hashing::new(decoder(layer, &mut blob)?);
            let mut tar = TarReader::new(Stream { inner, limit, left: limit, budget, fault: None });
            let walked = walk(&mut tar, budget, &mut visit);
            let mut stream = tar.into_inner();
            let drained = if walked.is_ok() { io::copy(&mut stream, &mut io::sink()) } else { Ok(0) };
            match (stream.fault.take(), walked) {
                // An error of the stream explains the visitor's, not the other way round.
                (Some(fault), _) => return Err(told(fault)),
                (None, Err(Walked::Wrong(what))) => return Err(told(what)),
                (None, Err(Walked::Visitor(error))) => return Err(error),
                (None, Ok(())) => {}
            }
            drained.map_err(|error| told(error.to_string()))?;
            let (found, size, _) = stream.inner.finish();
            (found, size)
        };
        blob.finish().map_err(told)?;
        if found != diff_id {
            return Err(told(format!("its content has the diff_id sha256:{found}, not sha256:{diff_id}")));
        }
        Ok(size)
    }
}

enum Walked {
    Wrong(String),
    Visitor(anyhow::Error),
}

fn walk<R: Read>(
    tar: &mut TarReader<R>,
    budget: &Budget,
    visit: &mut impl FnMut(LayerEntry, &mut dyn Read) -> Result<()>,
) -> Result<(), Walked> {
    while let Some(raw) = tar.entry().map_err(|error| Walked::Wrong(error.to_string()))? {
        if !Budget::take(&budget.entries, 1) {
            return Err(Walked::Wrong("the image has more entries than any operating system".to_owned()));
        }
        let entry = checked(raw).map_err(Walked::Wrong)?;
        visit(entry, tar).map_err(Walked::Visitor)?;
    }
    Ok(())
}

fn decoder<'b>(layer: &Descriptor, blob: &'b mut Blob) -> Result<Box<dyn Read + 'b>> {
    let gzip = |blob: &'b mut Blob| -> Box<dyn Read + 'b> {
        Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, blob)))
    };
    Ok(match layer.media_type() {
        MediaType::ImageLayer => Box::new(blob),
        MediaType::ImageLayerGzip => gzip(blob),
        MediaType::ImageLayerZstd => {
            let mut decoder = zstd::stream::read::Decoder::new(blob).context("starting zstd")?;
            decoder.window_log_max(WINDOW_LOG).context("setting up zstd")?;
            Box::new(decoder)
        }
        other => {
            let cure = "copy the image into OCI's form: skopeo copy --format oci";
            let what = format!("a layer has the media type {other}, which is not one of OCI's");
            return Err(Failure::new(Kind::Artifact, what, cure).into());
        }
    })
}

impl<R: Read> Read for Stream<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer).inspect_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::UnexpectedEof => "its compressed stream ends too early".to_owned(),
                _ => format!("it cannot be decompressed: {error}"),
            };
            self.fault.get_or_insert(what);
        })?;
        let what = match self.left.checked_sub(count as u64) {
            Some(left) if Budget::take(&self.budget.bytes, count as u64) => {
                self.left = left;
                return Ok(count);
            }
            Some(_) => format!("the image unpacks to more than {} bytes", self.budget.all),
            None => format!("it unpacks to more than {} bytes", self.limit),
        };
        self.fault.get_or_insert_with(|| what.clone());
        Err(io::Error::other(what))
    }
}

/// The entry, if its names stay below the root and its kind is one that a tree has.
fn checked(raw: RawEntry) -> Result<LayerEntry, String> {
    let path = normal(&raw.path).map_err(|why| format!("{} {why}", shown(&raw.path)))?;
    let link = || {
        let target = normal(&raw.target).map_err(|why| format!("the hard link {} {why}", shown(&raw.target)));
        target.and_then(|target| match target.as_os_str().is_empty() {
            true => Err(format!("{} is a hard link to the root", shown(&raw.path))),
            false => Ok(target),
        })
    };
    let (major, minor) = raw.device;
    let kind = match raw.kind {
        EntryType::Regular => EntryKind::Regular,
        EntryType::Directory => EntryKind::Directory,
        EntryType::Symlink if raw.target.contains(&0) => {
            return Err(format!("the target of {} has a zero byte", shown(&raw.path)));
        }
        EntryType::Symlink => EntryKind::Symlink(OsString::from_vec(raw.target.clone()).into()),
        EntryType::Link => EntryKind::HardLink(link()?),
        EntryType::Char => EntryKind::CharDevice(major, minor),
        EntryType::Block => EntryKind::BlockDevice(major, minor),
        EntryType::Fifo => EntryKind::Fifo,
        other => return Err(format!("{} is of the unknown type {other:?}", shown(&raw.path))),
    };
    // A ./ that names a directory as a file would otherwise take the root's place.
    if path.as_os_str().is_empty() && kind != EntryKind::Directory {
        return Err(format!("{} takes the root's place", shown(&raw.path)));
    }
    let id = |id: u64| u32::try_from(id).map_err(|_| format!("{} belongs to the id {id}", shown(&raw.path)));
    let (path, kind) = whiteout(path, kind)?;
    let (uid, gid) = (id(raw.uid)?, id(raw.gid)?);
    let RawEntry { mode, mtime, size, .. } = raw;
    Ok(LayerEntry { path, kind, mode, uid, gid, mtime, size, xattrs: raw.xattrs })
}

/// What a name that begins with `.wh.` stands for.
fn whiteout(path: PathBuf, kind: EntryKind) -> Result<(PathBuf, EntryKind), String> {
    use std::os::unix::ffi::OsStrExt as _;
    let marked = |part: Component<'_>| part.as_os_str().as_bytes().starts_with(WHITEOUT);
    let parent = path.parent().unwrap_or(Path::new("")).to_owned();
    if parent.components().any(marked) {
        return Err(format!("{} lies below a whiteout", path.display()));
    }
    let name = path.file_name().unwrap_or_default().as_bytes();
    match name.strip_prefix(WHITEOUT) {
        None => Ok((path, kind)),
        Some(b"" | b"." | b"..") => Err(format!("{} whites out no name", path.display())),
        Some(_) if name == OPAQUE && parent.as_os_str().is_empty() => {
            Err("it whites out the root, and so all layers below".to_owned())
        }
        Some(_) if name == OPAQUE => Ok((parent, EntryKind::Opaque)),
        Some(gone) if gone.starts_with(WHITEOUT) => {
            Err(format!("{} is no whiteout that OCI knows", path.display()))
        }
        Some(gone) => Ok((parent.join(OsString::from_vec(gone.to_vec())), EntryKind::Whiteout)),
    }
}

/// A name as a path below the root.
fn normal(name: &[u8]) -> Result<PathBuf, &'static str> {
    if name.is_empty() {
        return Err("is an empty name");
    }
    if name.contains(&0) {
        return Err("has a zero byte");
    }
    let named = PathBuf::from(OsString::from_vec(name.to_vec()));
    let mut path = PathBuf::new();
    for component in named.components() {
        match component {
            // Some makers write names from the root on; they mean the image's.
            Component::RootDir | Component::CurDir => {}
            Component::Normal(part) => path.push(part),
            Component::ParentDir | Component::Prefix(_) => return Err("leads out of the tree"),
        }
    }
    Ok(path)
}

fn shown(name: &[u8]) -> String {
    let mut name = String::from_utf8_lossy(name).escape_debug().to_string();
    if name.len() > 200 {
        name = name.chars().take(200).chain(['…']).collect();
    }
    format!("\"{name}\"")
}

fn digest(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(path: &str, kind: EntryType) -> RawEntry {
        RawEntry {
            kind,
            path: path.into(),
            target: b"a".to_vec(),
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn names_stay_below_the_root() {
        let path = |name: &[u8]| normal(name).map(|path| path.display().to_string());
        assert_eq!(path(b"./usr//bin/./x/").unwrap(), "usr/bin/x");
        assert_eq!(path(b"/etc/x").unwrap(), "etc/x");
        assert_eq!(path(b"./").unwrap(), "");
        for (name, why) in [
            (&b"../x"[..], "leads out of the tree"),
            (b"a/../../x", "leads out of the tree"),
            (b"a/..", "leads out of the tree"),
            (b"", "is an empty name"),
            (b"a\0b", "has a zero byte"),
        ] {
            assert_eq!(path(name).unwrap_err(), why);
        }
    }

    #[test]
    fn whiteouts_say_what_is_gone() {
        let found = |name: &str| checked(raw(name, EntryType::Regular)).map(|entry| (entry.path, entry.kind));
        assert_eq!(found("a/.wh.b").unwrap(), ("a/b".into(), EntryKind::Whiteout));
        assert_eq!(found("a/.wh..wh..opq").unwrap(), ("a".into(), EntryKind::Opaque));
        for (name, why) in [
            (".wh..wh..opq", "whites out the root"),
            (".wh.", "no name"),
            ("a/.wh..", "no name"),
            ("a/.wh...", "no name"),
            ("a/.wh..wh.plnk", "no whiteout that OCI knows"),
            ("a/.wh.b/c", "below a whiteout"),
            ("./", "the root's place"),
        ] {
            let error = found(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
    }

    #[test]
    fn links_and_kinds_are_checked() {
        let target = |kind, target: &[u8]| checked(RawEntry { target: target.to_vec(), ..raw("x", kind) });
        assert_eq!(target(EntryType::Link, b"./a/b").unwrap().kind, EntryKind::HardLink("a/b".into()));
        assert!(target(EntryType::Link, b"../etc/shadow").unwrap_err().contains("leads out"));
        assert!(target(EntryType::Link, b"/").unwrap_err().contains("to the root"));
        // Whatever a symbolic link says, it is only kept.
        assert_eq!(
            target(EntryType::Symlink, b"../../x").unwrap().kind,
            EntryKind::Symlink("../../x".into())
        );
        assert!(target(EntryType::Symlink, b"a\0b").unwrap_err().contains("zero byte"));
        assert!(target(EntryType::new(b'Z'), b"").unwrap_err().contains("unknown type"));
        let large = RawEntry { uid: 1 << 40, ..raw("x", EntryType::Regular) };
        assert!(checked(large).unwrap_err().contains("belongs to the id"));
    }
}
