//! What a plain layer does to the tree below it: what it adds, and by whiteouts what it removes. Contents
//! become objects on the way.

use std::io::Read;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;

use super::limits::{Held, PATH, Refused, XATTRS, bytes_of, refuse};
use super::path::{shown, text};
use crate::oci::{EntryKind, LayerEntry};
use crate::ostree::{Attributes, Checksum, Incoming, S_IFDIR, S_IFLNK, S_IFREG};

/// Where a running system mounts its own: devices there are not the image's.
const MOUNTED: &[&str] = &["dev", "proc", "run", "sys"];

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The path; the root's is empty.
    pub(super) path: String,
    pub(super) what: What,
}

/// What becomes of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// It is a directory, and keeps what it holds.
    Directory(Attributes),
    /// It is this file.
    File(Checksum),
    /// It is this link with this target.
    Symlink(Checksum, String),
    /// It is the same file as another path.
    Same(String),
    /// It is removed, if it was there before this layer.
    Removed,
    /// It is a directory without what it held before this layer.
    Emptied,
}

/// The change that an entry is; `None` for what a running system makes by itself.
pub(super) fn read(
    entry: &LayerEntry,
    content: &mut dyn Read,
    incoming: &Incoming,
    held: &Held,
) -> Result<Option<Change>> {
    let path = text(&entry.path)?;
    let attributes = |kind: u32, mode: u32| attributes(entry, kind | mode);
    let what = match &entry.kind {
        EntryKind::Whiteout => What::Removed,
        EntryKind::Opaque => What::Emptied,
        EntryKind::Directory => What::Directory(attributes(S_IFDIR, entry.mode)?),
        EntryKind::Regular => {
            What::File(incoming.regular(content, entry.size, &attributes(S_IFREG, entry.mode)?)?)
        }
        EntryKind::Symlink(target) => {
            let target = link_target(&entry.path, target)?;
            What::Symlink(incoming.symlink(&target, &attributes(S_IFLNK, 0o777)?)?, target)
        }
        EntryKind::HardLink(target) => What::Same(text(target)?),
        EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) | EntryKind::Fifo => {
            if MOUNTED.contains(&path.split('/').next().unwrap_or_default()) {
                return Ok(None);
            }
            return Err(Refused::with(
                format!("{path:?} is a device or pipe, which an OSTree commit cannot hold"),
                "remove it in the image; systemd-tmpfiles can make it at boot",
            )
            .into());
        }
    };
    let of_what = match &what {
        What::Directory(attributes) => bytes_of(&attributes.xattrs),
        What::Symlink(_, target) | What::Same(target) => target.len(),
        What::File(_) | What::Removed | What::Emptied => 0,
    };
    held.add(path.len() + of_what)?;
    Ok(Some(Change { path, what }))
}

fn attributes(entry: &LayerEntry, mode: u32) -> Result<Attributes> {
    let own = |(name, value): &&(Vec<u8>, Vec<u8>)| belongs(name) && !value.is_empty();
    let xattrs: Vec<(Vec<u8>, Vec<u8>)> = entry.xattrs.iter().filter(own).cloned().collect();
    let bytes = bytes_of(&xattrs);
    let proper = |(name, _): &(Vec<u8>, Vec<u8>)| name.len() <= 255 && !name.contains(&0);
    if bytes > XATTRS || !xattrs.iter().all(proper) {
        let shown = shown(entry.path.as_os_str().as_bytes());
        return Err(refuse(format!("{shown} has extended attributes of {bytes} bytes that no system has")));
    }
    Ok(Attributes { uid: entry.uid, gid: entry.gid, mode, xattrs })
}

/// A symbolic link's target.
pub(super) fn link_target(path: &Path, target: &Path) -> Result<String> {
    let (path, target) = (|| shown(path.as_os_str().as_bytes()), target.as_os_str().as_bytes());
    if target.is_empty() || target.len() >= PATH {
        return Err(refuse(format!("{} is a link with a target of {} bytes", path(), target.len())));
    }
    String::from_utf8(target.to_vec()).map_err(|_| {
        refuse(format!("{} links to a name that is not UTF-8, which OSTree cannot hold", path()))
    })
}

/// Whether an extended attribute is the file's own: labels and the storage driver's marks are the host's.
fn belongs(name: &[u8]) -> bool {
    let user = name.starts_with(b"user.")
        && ![&b"user.overlay."[..], b"user.ostreemeta", b"user.containers."]
            .iter()
            .any(|mark| name.starts_with(mark));
    user || name == b"security.capability" || name == b"security.ima"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_marks_of_the_host_stay_there() {
        for (name, expected) in [
            ("user.mine", true),
            ("security.capability", true),
            ("security.selinux", false),
            ("trusted.overlay.opaque", false),
            ("user.overlay.opaque", false),
            ("user.ostreemeta", false),
        ] {
            assert_eq!(belongs(name.as_bytes()), expected, "{name}");
        }
    }
}
