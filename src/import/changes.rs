//! What a plain layer does to the tree below it (image-spec's layer.md): what it adds, and by whiteouts
//! (`.wh.NAME`, `.wh..wh..opq`) what it removes. Contents become objects on the way.

use std::io::Read;

use anyhow::Result;
use tar::EntryType;

use super::archive::{Archive, Entry};
use super::limits::{PATH, Refused, refuse};
use super::path::{normalise, shown, split};
use crate::ostree::{Attributes, Checksum, Incoming, S_IFDIR, S_IFLNK, S_IFREG};

const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// What union file systems kept for themselves in old layers.
const RESERVED: &str = ".wh..wh.";
/// Where a running system mounts its own: devices there are not the image's.
const MOUNTED: &[&str] = &["dev", "proc", "run", "sys"];

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The path, normalised.
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

/// Reads all changes of a layer.
pub(super) fn read(archive: &mut Archive<impl Read>, incoming: &Incoming) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    while let Some(entry) = archive.next_entry()? {
        let path = normalise(&entry.path)?;
        if let Some(change) = whiteout(&path)? {
            changes.extend(change);
            continue;
        }
        if let Some(what) = what(entry, archive, incoming)? {
            changes.push(Change { path, what });
        }
    }
    Ok(changes)
}

/// Whether the path is a whiteout (`Some`), and what it does, if anything.
fn whiteout(path: &str) -> Result<Option<Option<Change>>> {
    let (parent, name) = split(path);
    if parent.split('/').any(|part| part.starts_with(WHITEOUT)) {
        return Err(refuse(format!("{} lies in a whiteout", shown(path.as_bytes()))));
    }
    let Some(removed) = name.strip_prefix(WHITEOUT) else { return Ok(None) };
    let change = |path: String, what| Ok(Some(Some(Change { path, what })));
    match removed {
        _ if name == OPAQUE && parent.is_empty() => Err(refuse("a whiteout removes the root")),
        _ if name == OPAQUE => change(parent.to_owned(), What::Emptied),
        _ if name.starts_with(RESERVED) => Ok(Some(None)),
        "" | "." | ".." => {
            Err(refuse(format!("whiteout {} removes its own directory or more", shown(path.as_bytes()))))
        }
        removed if parent.is_empty() => change(removed.to_owned(), What::Removed),
        removed => change(format!("{parent}/{removed}"), What::Removed),
    }
}

/// What an entry makes of its path; `None` for what a running system makes by itself.
fn what(entry: Entry, archive: &mut Archive<impl Read>, incoming: &Incoming) -> Result<Option<What>> {
    let attributes = |kind: u32, mode: u32| Attributes {
        uid: entry.uid,
        gid: entry.gid,
        mode: kind | mode,
        xattrs: entry
            .xattrs
            .iter()
            .filter(|(name, value)| belongs(name) && !value.is_empty())
            .cloned()
            .collect(),
    };
    Ok(Some(match entry.kind {
        EntryType::Directory => What::Directory(attributes(S_IFDIR, entry.mode)),
        EntryType::Regular | EntryType::Continuous => {
            What::File(incoming.regular(archive, entry.size, &attributes(S_IFREG, entry.mode))?)
        }
        EntryType::Symlink => {
            let target = link_target(&entry)?;
            What::Symlink(incoming.symlink(&target, &attributes(S_IFLNK, 0o777))?, target)
        }
        EntryType::Link => What::Same(normalise(&entry.target).map_err(|error| {
            refuse(format!("{} is a hard link, but its target {error}", shown(&entry.path)))
        })?),
        EntryType::Char | EntryType::Block | EntryType::Fifo => {
            let path = normalise(&entry.path)?;
            if MOUNTED.contains(&path.split('/').next().unwrap_or_default()) {
                return Ok(None);
            }
            return Err(Refused::with(
                format!("{} is a device or pipe, which an OSTree commit cannot hold", shown(&entry.path)),
                "remove it in the image; systemd-tmpfiles can make it at boot",
            )
            .into());
        }
        other => {
            let kind = char::from(other.as_byte()).escape_default();
            return Err(refuse(format!(
                "{} is a tar entry of the unknown kind '{kind}'",
                shown(&entry.path)
            )));
        }
    }))
}

/// A symbolic link's target.
pub(super) fn link_target(entry: &Entry) -> Result<String> {
    let path = || shown(&entry.path);
    if entry.target.is_empty() || entry.target.len() >= PATH || entry.target.contains(&0) {
        return Err(refuse(format!("{} is a link with a target of {} bytes", path(), entry.target.len())));
    }
    String::from_utf8(entry.target.clone()).map_err(|_| {
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
    fn whiteouts_remove_what_they_name_and_never_the_root() {
        let change = |path: &str, what| Change { path: path.into(), what };
        assert_eq!(whiteout("usr/bin/true").unwrap(), None);
        assert_eq!(whiteout("usr/bin/.wh.true").unwrap(), Some(Some(change("usr/bin/true", What::Removed))));
        assert_eq!(whiteout(".wh.opt").unwrap(), Some(Some(change("opt", What::Removed))));
        assert_eq!(whiteout("opt/.wh..wh..opq").unwrap(), Some(Some(change("opt", What::Emptied))));
        assert_eq!(whiteout("usr/.wh..wh.plnk").unwrap(), Some(None));
        for path in [".wh..wh..opq", ".wh.", "usr/.wh.", "usr/.wh..", "usr/.wh...", ".wh.usr/bin"] {
            assert!(whiteout(path).is_err(), "{path}");
        }
    }

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
