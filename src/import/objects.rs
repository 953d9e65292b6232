//! The layers of an OSTree commit (`crate::oci` writes them so): only the objects count, each compared with its
//! name. The plain paths beside them are for containers and not even looked at.

use std::collections::HashMap;
use std::io::Read;

use anyhow::Result;

use super::changes::link_target;
use super::limits::{Held, OBJECT, Refused, refuse};
use super::path::{shown, text};
use super::tree::Node;
use crate::oci::{EntryKind, LayerEntry};
use crate::ostree::{Attributes, Checksum, Incoming, S_IFLNK, S_IFREG};

const PLACE: &str = "sysroot/ostree/repo/objects/";

/// Objects of an OSTree repository.
#[derive(Debug, Default)]
pub(super) struct Objects {
    /// The commit's bytes.
    pub(super) commits: HashMap<Checksum, Vec<u8>>,
    /// The bytes of directories' entries.
    pub(super) trees: HashMap<Checksum, Vec<u8>>,
    /// Directories' attributes.
    pub(super) metas: HashMap<Checksum, Attributes>,
    /// Files, which lie in the repository already, and the targets of those that are links.
    pub(super) files: HashMap<Checksum, Option<String>>,
}

/// Reads the objects of one layer.
pub(super) struct Reader<'a> {
    incoming: &'a Incoming,
    held: &'a Held,
    /// What was read so far.
    pub(super) found: Objects,
    /// Extended attributes by the checksum of their form.
    xattrs: HashMap<Checksum, Xattrs>,
    /// The file whose attributes came last, and which they are.
    next: Option<(Checksum, Checksum)>,
}

type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

impl Objects {
    /// Adds another layer's.
    pub(super) fn join(&mut self, other: Self) {
        self.commits.extend(other.commits);
        self.trees.extend(other.trees);
        self.metas.extend(other.metas);
        self.files.extend(other.files);
    }

    /// The file whose object a path of the container names.
    pub(super) fn node(&self, path: &str) -> Option<Node> {
        let (checksum, kind) = parse(path.strip_prefix(PLACE)?)?;
        let target = self.files.get(&checksum).filter(|_| kind == "file")?;
        Some(Node::file(checksum, target.clone()))
    }
}

impl<'a> Reader<'a> {
    /// Begins a layer.
    pub(super) fn new(incoming: &'a Incoming, held: &'a Held) -> Self {
        Self { incoming, held, found: Objects::default(), xattrs: HashMap::new(), next: None }
    }

    /// Takes an entry.
    pub(super) fn read(&mut self, entry: &LayerEntry, content: &mut dyn Read) -> Result<()> {
        let path = text(&entry.path)?;
        match path.strip_prefix(PLACE) {
            Some(name) if entry.kind != EntryKind::Directory => self.object(name, entry, content),
            _ => Ok(()),
        }
    }

    fn object(&mut self, name: &str, entry: &LayerEntry, content: &mut dyn Read) -> Result<()> {
        let (checksum, kind) =
            parse(name).ok_or_else(|| refuse(format!("{} is no object's name", shown(name.as_bytes()))))?;
        match kind {
            "commit" => {
                let bytes = self.metadata(checksum, entry, content)?;
                self.found.commits.insert(checksum, bytes);
            }
            "dirtree" => {
                let bytes = self.metadata(checksum, entry, content)?;
                self.found.trees.insert(checksum, bytes);
            }
            "dirmeta" => {
                let bytes = self.metadata(checksum, entry, content)?;
                let attributes = Attributes::decode(&bytes).map_err(|error| damaged(checksum, &error))?;
                self.found.metas.insert(checksum, attributes);
            }
            "file-xattrs" => {
                let bytes = self.metadata(checksum, entry, content)?;
                self.attributes(checksum, &bytes)?;
            }
            "file-xattrs-link" => self.link(checksum, entry, content)?,
            "file" => self.file(checksum, entry, content)?,
            _ => {
                let what =
                    format!("object {checksum} is of the kind {kind}, which format 1 of such images lacks");
                let cure =
                    "write the image again with ostree-ext (rpm-ostree, bootc) of 2023 or later, or nosa";
                return Err(Refused::with(what, cure).into());
            }
        }
        Ok(())
    }

    /// The bytes of an object whose name is the digest of nothing else.
    fn metadata(
        &mut self,
        checksum: Checksum,
        entry: &LayerEntry,
        content: &mut dyn Read,
    ) -> Result<Vec<u8>> {
        let bytes = self.bytes(checksum, entry, content)?;
        let found = Checksum::of(&bytes);
        if found != checksum {
            return Err(refuse(format!("object {checksum} has the checksum {found}")));
        }
        Ok(bytes)
    }

    fn bytes(&mut self, checksum: Checksum, entry: &LayerEntry, content: &mut dyn Read) -> Result<Vec<u8>> {
        if entry.kind != EntryKind::Regular || entry.size > OBJECT {
            return Err(refuse(format!("object {checksum} is no file of at most {OBJECT} bytes")));
        }
        self.held.add(usize::try_from(entry.size).unwrap_or(usize::MAX))?;
        let mut bytes = Vec::new();
        content.read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < entry.size {
            return Err(refuse("it ends in the middle of an entry"));
        }
        Ok(bytes)
    }

    fn attributes(&mut self, checksum: Checksum, bytes: &[u8]) -> Result<()> {
        let xattrs = Attributes::decode_xattrs(bytes).map_err(|error| damaged(checksum, &error))?;
        self.xattrs.insert(checksum, xattrs);
        Ok(())
    }

    /// Which attributes the file that follows has: a hard link to them, or once a file has too many names,
    /// the attributes themselves.
    fn link(&mut self, file: Checksum, entry: &LayerEntry, content: &mut dyn Read) -> Result<()> {
        let xattrs = if let EntryKind::HardLink(target) = &entry.kind {
            let target = text(target)?;
            match target.strip_prefix(PLACE).and_then(parse) {
                Some((checksum, "file-xattrs")) => checksum,
                _ => {
                    let what = shown(target.as_bytes());
                    return Err(refuse(format!("the attributes of object {file} are {what}")));
                }
            }
        } else {
            let bytes = self.bytes(file, entry, content)?;
            let checksum = Checksum::of(&bytes);
            self.attributes(checksum, &bytes)?;
            checksum
        };
        self.next = Some((file, xattrs));
        Ok(())
    }

    fn file(&mut self, checksum: Checksum, entry: &LayerEntry, content: &mut dyn Read) -> Result<()> {
        let xattrs = match self.next.take() {
            Some((file, xattrs)) if file == checksum => self.xattrs.get(&xattrs),
            _ => None,
        };
        let xattrs = xattrs
            .ok_or_else(|| refuse(format!("object {checksum} comes without its attributes before it")))?;
        let attributes = |kind: u32, mode: u32| Attributes {
            uid: entry.uid,
            gid: entry.gid,
            mode: kind | mode,
            xattrs: xattrs.clone(),
        };
        let (found, target) = match &entry.kind {
            EntryKind::Regular => {
                (self.incoming.regular(content, entry.size, &attributes(S_IFREG, entry.mode))?, None)
            }
            EntryKind::Symlink(target) => {
                let target = link_target(&entry.path, target)?;
                (self.incoming.symlink(&target, &attributes(S_IFLNK, 0o777))?, Some(target))
            }
            _ => return Err(refuse(format!("object {checksum} is neither a file nor a symbolic link"))),
        };
        if found != checksum {
            return Err(refuse(format!("object {checksum} has the checksum {found}")));
        }
        self.held.add(target.as_ref().map_or(0, String::len))?;
        self.found.files.insert(checksum, target);
        Ok(())
    }
}

/// The checksum and the kind in `ab/cdef….kind`.
fn parse(name: &str) -> Option<(Checksum, &str)> {
    let (first, rest) = name.split_once('/')?;
    let (rest, kind) = rest.split_once('.')?;
    if first.len() != 2 || rest.len() != 62 {
        return None;
    }
    Some((format!("{first}{rest}").parse().ok()?, kind))
}

fn damaged(checksum: Checksum, error: &anyhow::Error) -> anyhow::Error {
    refuse(format!("object {checksum} is damaged: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_s_name_is_taken_apart() {
        let rest = "b".repeat(62);
        let checksum: Checksum = format!("aa{rest}").parse().unwrap();
        assert_eq!(parse(&format!("aa/{rest}.file-xattrs")), Some((checksum, "file-xattrs")));
        for name in ["", "aa", &format!("aa/{rest}"), &format!("a/a{rest}.file"), "zz/1.file"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
