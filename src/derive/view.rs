//! An image as one merged tree, as far as the lint needs it: what lies at each path, which layer put it
//! there, how large it is, and the text of the few files that rules read. File content is not kept.

use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::io::Read;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::oci::{Budget, EntryKind, Image, Layout};
use crate::pipeline::{Reporter, Unit};

/// More than any operating system: the layers of a commit name each file up to four times.
const ENTRIES: u64 = 4_000_000;
/// Texts that rules read are small.
const LARGEST_TEXT: u64 = 256 << 10;
/// Where an encapsulated commit has its objects; the real paths are hard links to them.
const OBJECTS: &str = "sysroot/ostree/repo";

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    /// Whether it has file capabilities.
    pub(super) capable: bool,
    /// The layer that put it there.
    pub(super) layer: usize,
    /// Its content, if it is a file that rules read.
    pub(super) text: Option<String>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    Regular,
    Symlink(PathBuf),
    /// A device, pipe or socket.
    Special,
}

/// A merged image.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    nodes: BTreeMap<PathBuf, Node>,
    /// How many layers are the base's; `None` when the image does not tell.
    base: Option<usize>,
    /// What those had at paths that later layers changed.
    before: BTreeMap<PathBuf, Node>,
    /// The last file object read: its hard links follow it.
    object: Option<(PathBuf, Node)>,
}

impl View {
    /// Reads all layers of an image.
    pub(super) fn read(layout: &Layout, image: &Image, report: &Reporter) -> Result<Self> {
        let diff_ids = image.config.rootfs().diff_ids();
        let mut view = Self { base: image.commit_layers(), ..Self::default() };
        let budget = Budget::of(image, ENTRIES);
        let progress = report.progress("reading the image's layers", diff_ids.len() as u64, Unit::Items);
        for index in 0..diff_ids.len() {
            layout
                .read_layer(image, index, &budget, |entry, content| view.take(index, entry, content))
                .with_context(|| format!("reading layer {} of {}", index + 1, layout.path().display()))?;
            progress.add(1);
        }
        Ok(view)
    }

    /// Everything, by path.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Path, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_path(), node))
    }

    /// What lies at `path`.
    pub(super) fn get(&self, path: impl AsRef<Path>) -> Option<&Node> {
        self.nodes.get(path.as_ref())
    }

    /// What lies below `dir`, by path.
    pub(super) fn below(&self, dir: impl AsRef<Path>) -> impl Iterator<Item = (&Path, &Node)> {
        let dir = dir.as_ref().to_owned();
        let from: Range<'_, PathBuf, Node> =
            self.nodes.range((Bound::Excluded(dir.clone()), Bound::Unbounded));
        from.take_while(move |(path, _)| path.starts_with(&dir)).map(|(path, node)| (path.as_path(), node))
    }

    /// Whether it is known what the base was, so that rules can tell what was added to it.
    pub(super) const fn has_base(&self) -> bool {
        self.base.is_some()
    }

    /// Whether a layer above the base put the node there.
    pub(super) fn is_added(&self, node: &Node) -> bool {
        self.base.is_some_and(|base| node.layer >= base)
    }

    /// What the base had at a path that was changed or removed since.
    pub(super) fn before(&self, path: impl AsRef<Path>) -> Option<&Node> {
        self.before.get(path.as_ref())
    }

    fn take(&mut self, layer: usize, entry: crate::oci::LayerEntry, content: &mut dyn Read) -> Result<()> {
        let kind = match entry.kind {
            EntryKind::Whiteout => {
                self.remove(&entry.path, layer, true);
                return Ok(());
            }
            EntryKind::Opaque => {
                self.remove(&entry.path, layer, false);
                return Ok(());
            }
            EntryKind::HardLink(target) => {
                let linked = self.object.as_ref().filter(|(path, _)| *path == target).map(|(_, node)| node);
                if let Some(node) = linked.or_else(|| self.nodes.get(&target)).cloned() {
                    let text = node.text.clone().filter(|_| is_read(&entry.path));
                    self.put(entry.path, Node { layer, text, ..node });
                }
                return Ok(());
            }
            EntryKind::Directory => NodeKind::Directory,
            EntryKind::Regular => NodeKind::Regular,
            EntryKind::Symlink(target) => NodeKind::Symlink(target),
            EntryKind::CharDevice(..) | EntryKind::BlockDevice(..) | EntryKind::Fifo => NodeKind::Special,
        };
        let is_object = entry.path.starts_with(OBJECTS);
        let mut text = None;
        if kind == NodeKind::Regular && entry.size <= LARGEST_TEXT && (is_object || is_read(&entry.path)) {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            text = String::from_utf8(bytes).ok();
        }
        let capable = entry.xattrs.iter().any(|(name, _)| name == b"security.capability");
        let (mode, uid, gid, size) = (entry.mode, entry.uid, entry.gid, entry.size);
        let node = Node { kind, mode, uid, gid, size, capable, layer, text };
        if is_object {
            if node.kind != NodeKind::Directory {
                let kept = Node { text: None, ..node.clone() };
                self.object = Some((entry.path.clone(), node));
                self.put(entry.path, kept);
            }
            return Ok(());
        }
        self.put(entry.path, node);
        Ok(())
    }

    fn put(&mut self, path: PathBuf, node: Node) {
        // What is no directory any more has nothing below it.
        if node.kind != NodeKind::Directory
            && self.nodes.get(&path).is_some_and(|old| old.kind == NodeKind::Directory)
        {
            self.remove(&path, node.layer, false);
        }
        let layer = node.layer;
        if let Some(old) = self.nodes.insert(path.clone(), node) {
            self.remember(path, old, layer);
        }
    }

    fn remove(&mut self, path: &Path, layer: usize, itself: bool) {
        let mut gone: Vec<PathBuf> = self.below(path).map(|(path, _)| path.to_owned()).collect();
        if itself {
            gone.push(path.to_owned());
        }
        for path in gone {
            // A layer's whiteouts speak of the layers below it, wherever in it they are.
            if self.nodes.get(&path).is_some_and(|node| node.layer < layer)
                && let Some(old) = self.nodes.remove(&path)
            {
                self.remember(path, old, layer);
            }
        }
    }

    fn remember(&mut self, path: PathBuf, old: Node, layer: usize) {
        if self.base.is_some_and(|base| layer >= base && old.layer < base) {
            self.before.entry(path).or_insert(old);
        }
    }
}

/// Whether rules read the file at this path.
fn is_read(path: &Path) -> bool {
    let conf = path.extension().is_some_and(|extension| extension == "conf");
    let below = |dirs: &[&str]| dirs.iter().any(|dir| path.parent() == Some(Path::new(dir)));
    let unit = path.extension().is_some_and(|extension| extension == "service");
    let list = path.extension().is_some_and(|extension| extension == "list");
    (list && below(&["usr/lib/sysimage/dpkg/info", "var/lib/dpkg/info"]))
        || (unit && below(&["usr/lib/systemd/system", "etc/systemd/system"]))
        || (conf && below(&["usr/lib/tmpfiles.d", "etc/tmpfiles.d", "usr/lib/sysusers.d", "etc/sysusers.d"]))
        || ["etc/passwd", "etc/group", "etc/machine-id"].iter().any(|name| path == Path::new(name))
}

#[cfg(test)]
pub(super) mod sample {
    //! Trees for the rules' tests.

    use super::*;

    /// A view of a base and what was added to it, each written as `PATH`, `PATH/`, `PATH=TEXT` or
    /// `PATH@TARGET`.
    pub(in crate::derive) fn view(base: &[&str], added: &[&str]) -> View {
        let mut view = View { base: Some(1), ..View::default() };
        for (layer, entries) in [base, added].into_iter().enumerate() {
            for entry in entries {
                let (path, node) = node(entry, layer);
                view.put(path, node);
            }
        }
        view
    }

    fn node(entry: &str, layer: usize) -> (PathBuf, Node) {
        let (path, kind, text) = if let Some((path, text)) = entry.split_once('=') {
            (path, NodeKind::Regular, Some(text.to_owned()))
        } else if let Some((path, target)) = entry.split_once('@') {
            (path, NodeKind::Symlink(target.into()), None)
        } else if let Some(path) = entry.strip_suffix('/') {
            (path, NodeKind::Directory, None)
        } else {
            (entry, NodeKind::Regular, None)
        };
        let mode = if kind == NodeKind::Directory { 0o755 } else { 0o644 };
        let size = text.as_ref().map_or(1, String::len) as u64;
        (path.into(), Node { kind, mode, uid: 0, gid: 0, size, capable: false, layer, text })
    }

    /// As [`view`], with one node's mode changed.
    pub(in crate::derive) fn with_mode(mut view: View, path: &str, mode: u32) -> View {
        view.nodes.get_mut(Path::new(path)).unwrap().mode = mode;
        view
    }
}
