//! The system as a tree in memory, as a container sees it: layers are applied to it one after the other.
//!
//! A path's directories are looked up here and nowhere else, links followed as in a running container: within
//! the image. A link that leads out of it or nowhere is refused, not followed.

use std::collections::{BTreeMap, HashSet, VecDeque};

use anyhow::Result;

use super::changes::{Change, What};
use super::limits::{DEPTH, ENTRIES, LINKS, refuse};
use super::objects::Objects;
use super::path::{parts, shown, split};
use crate::ostree::{Attributes, Checksum, DirTree, Incoming};

/// A node of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Dir(Dir),
    File(Checksum),
    /// A symbolic link and its target.
    Symlink(Checksum, String),
}

/// A directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dir {
    pub(super) attributes: Attributes,
    pub(super) entries: BTreeMap<String, Node>,
}

/// A whole tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: Dir,
    nodes: u64,
}

impl Node {
    /// A file, or a link if it has a target.
    pub(super) fn file(checksum: Checksum, target: Option<String>) -> Self {
        match target {
            Some(target) => Self::Symlink(checksum, target),
            None => Self::File(checksum),
        }
    }

    /// The directory that it is.
    pub(super) const fn dir(&self) -> Option<&Dir> {
        match self {
            Self::Dir(dir) => Some(dir),
            _ => None,
        }
    }
}

impl Dir {
    /// An empty directory.
    pub(super) const fn new(attributes: Attributes) -> Self {
        Self { attributes, entries: BTreeMap::new() }
    }

    /// The node at a path below, no link followed.
    pub(super) fn find(&self, path: &str) -> Option<&Node> {
        let (parent, name) = split(path);
        let mut dir = self;
        for part in parts(parent) {
            dir = dir.entries.get(part)?.dir()?;
        }
        dir.entries.get(name)
    }

    /// The directory at a path below, no link followed.
    pub(super) fn dir_mut(&mut self, path: &str) -> Option<&mut Self> {
        let mut dir = self;
        for part in parts(path) {
            match dir.entries.get_mut(part) {
                Some(Node::Dir(below)) => dir = below,
                _ => return None,
            }
        }
        Some(dir)
    }

    /// How many files and links there are below.
    pub(super) fn files(&self) -> usize {
        self.entries.values().map(|node| node.dir().map_or(1, Self::files)).sum()
    }

    /// Writes it and what is below as objects; `files` collects the files.
    pub(super) fn write(
        &self,
        incoming: &Incoming,
        files: &mut HashSet<Checksum>,
    ) -> Result<(Checksum, Checksum)> {
        let mut tree = DirTree::default();
        for (name, node) in &self.entries {
            match node {
                Node::Dir(dir) => {
                    let (entries, meta) = dir.write(incoming, files)?;
                    tree.dirs.push((name.clone(), entries, meta));
                }
                Node::File(checksum) | Node::Symlink(checksum, _) => {
                    files.insert(*checksum);
                    tree.files.push((name.clone(), *checksum));
                }
            }
        }
        Ok((incoming.dirtree(&mut tree)?, incoming.dirmeta(&self.attributes)?))
    }
}

impl Tree {
    /// A tree with `nodes` nodes.
    pub(super) const fn new(root: Dir, nodes: u64) -> Self {
        Self { root, nodes }
    }

    /// Applies a layer: first all that it removes, for a whiteout is about what lies below its layer.
    pub(super) fn apply(&mut self, changes: Vec<Change>, objects: &Objects) -> Result<()> {
        for change in &changes {
            match change.what {
                What::Removed => self.remove(&change.path)?,
                What::Emptied => self.empty(&change.path)?,
                _ => {}
            }
        }
        for change in changes {
            let node = match change.what {
                What::Removed | What::Emptied => continue,
                What::Directory(attributes) => {
                    self.directory_with(&change.path, attributes)?;
                    continue;
                }
                What::File(checksum) => Node::File(checksum),
                What::Symlink(checksum, target) => Node::Symlink(checksum, target),
                What::Same(target) => self.same(&change.path, &target, objects)?,
            };
            self.put(&change.path, node)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        if let Some(dir) = self.root.dir_mut(&parent.join("/")) {
            dir.entries.remove(name);
        }
        Ok(())
    }

    /// Empties a directory. A link that lies below a layer's directory of that name is not followed: whoever
    /// puts a directory in place of a link (`rm /opt && mkdir /opt`) marks the directory so.
    fn empty(&mut self, path: &str) -> Result<()> {
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        let dir = self.root.dir_mut(&parent.join("/")).and_then(|dir| dir.entries.get_mut(name));
        if let Some(Node::Dir(dir)) = dir {
            dir.entries.clear();
        }
        Ok(())
    }

    /// Makes a path a directory, or gives the one that is there other attributes. Labels and the like, which
    /// a container does not see, stay.
    fn directory_with(&mut self, path: &str, mut attributes: Attributes) -> Result<()> {
        let (parent, name) = split(path);
        let parents = self.directory(parent)?;
        let dir = self.make(&parents)?;
        let old = match dir.entries.get_mut(name) {
            _ if name.is_empty() => dir,
            Some(Node::Dir(old)) => old,
            _ => return self.put(path, Node::Dir(Dir::new(attributes))),
        };
        let seen = |name: &[u8]| name.starts_with(b"user.") || name == b"security.capability";
        let hidden = old.attributes.xattrs.drain(..).filter(|(name, _)| !seen(name));
        attributes.xattrs.extend(hidden);
        attributes.xattrs.sort();
        attributes.xattrs.dedup_by(|a, b| a.0 == b.0);
        old.attributes = attributes;
        Ok(())
    }

    fn put(&mut self, path: &str, node: Node) -> Result<()> {
        let (parent, name) = split(path);
        if name.is_empty() {
            return Err(refuse("the root is no directory"));
        }
        let parents = self.directory(parent)?;
        let dir = self.make(&parents)?;
        dir.entries.insert(name.to_owned(), node);
        self.count()
    }

    /// The node that a hard link at `path` names.
    fn same(&self, path: &str, target: &str, objects: &Objects) -> Result<Node> {
        let (parent, name) = split(target);
        let parent = self.directory(parent)?.join("/");
        let found = if parent.is_empty() {
            self.root.find(name)
        } else {
            self.root.find(&format!("{parent}/{name}"))
        };
        match found {
            Some(Node::Dir(_)) => {
                Err(refuse(format!("{} is a hard link to a directory", shown(path.as_bytes()))))
            }
            Some(node) => Ok(node.clone()),
            None => objects.node(target).ok_or_else(|| {
                let (path, target) = (shown(path.as_bytes()), shown(target.as_bytes()));
                refuse(format!("{path} is a hard link to {target}, which is not in the image"))
            }),
        }
    }

    /// Where a directory's path leads, from the root; the end of it need not exist.
    fn directory(&self, path: &str) -> Result<Vec<String>> {
        let shown = || shown(path.as_bytes());
        let mut rest: VecDeque<(&str, bool)> = parts(path).map(|part| (part, false)).collect();
        let (mut at, mut dirs) = (Vec::new(), vec![&self.root]);
        let mut links = 0;
        while let Some((part, linked)) = rest.pop_front() {
            let Some(dir) = dirs.last() else { break };
            match (part, dir.entries.get(part)) {
                ("" | ".", _) => {}
                ("..", _) => {
                    if at.pop().is_none() {
                        return Err(refuse(format!("{} leads out of the image by a link", shown())));
                    }
                    dirs.pop();
                }
                (_, Some(Node::Dir(dir))) => {
                    at.push(part);
                    dirs.push(dir);
                }
                (_, Some(Node::Symlink(_, target))) => {
                    links += 1;
                    if links > LINKS {
                        return Err(refuse(format!("{} leads through links without end", shown())));
                    }
                    if target.starts_with('/') {
                        at.clear();
                        dirs.truncate(1);
                    }
                    target.split('/').rev().for_each(|part| rest.push_front((part, true)));
                }
                (_, Some(Node::File(_))) => {
                    let cause = format!("{} lies below {part:?}, which is a file", shown());
                    return Err(refuse(cause));
                }
                (_, None) if linked || rest.iter().any(|(_, linked)| *linked) => {
                    let cause = format!("{} leads through a link to what is not in the image", shown());
                    return Err(refuse(cause));
                }
                (_, None) => {
                    at.push(part);
                    at.extend(rest.drain(..).map(|(part, _)| part));
                }
            }
        }
        if at.len() >= DEPTH {
            return Err(refuse(format!("{} lies more than {DEPTH} directories deep", shown())));
        }
        Ok(at.into_iter().map(str::to_owned).collect())
    }

    /// The directory at these parts from the root, made as far as it is missing.
    fn make(&mut self, parts: &[String]) -> Result<&mut Dir> {
        let (mut dir, mut made) = (&mut self.root, 0);
        for part in parts {
            let entry = dir.entries.entry(part.clone()).or_insert_with(|| {
                made += 1;
                Node::Dir(Dir::new(Attributes::directory()))
            });
            match entry {
                Node::Dir(below) => dir = below,
                _ => return Err(refuse(format!("{part:?} is no directory"))),
            }
        }
        self.nodes += made;
        Ok(dir)
    }

    fn count(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > ENTRIES {
            return Err(refuse(format!("the image has more than {ENTRIES} files and directories")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ostree::S_IFDIR;

    fn sum(text: &str) -> Checksum {
        Checksum::of(text.as_bytes())
    }

    fn file(path: &str) -> Change {
        Change { path: path.into(), what: What::File(sum(path)) }
    }

    fn link(path: &str, target: &str) -> Change {
        Change { path: path.into(), what: What::Symlink(sum(path), target.into()) }
    }

    fn change(path: &str, what: What) -> Change {
        Change { path: path.into(), what }
    }

    fn dir(path: &str, mode: u32) -> Change {
        change(path, What::Directory(Attributes { mode: S_IFDIR | mode, ..Attributes::directory() }))
    }

    fn tree(layers: Vec<Vec<Change>>) -> Result<Tree> {
        let mut tree = Tree::new(Dir::new(Attributes::directory()), 1);
        layers.into_iter().try_for_each(|layer| tree.apply(layer, &Objects::default()))?;
        Ok(tree)
    }

    fn refused(layers: Vec<Vec<Change>>, why: &str) {
        let error = tree(layers).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn paths_below_a_link_are_where_it_leads() {
        let base = vec![dir("usr/lib", 0o755), link("lib", "usr/lib"), link("usr/abs", "/usr/lib")];
        let tree = tree(vec![base, vec![file("lib/a"), file("usr/abs/b")]]).unwrap();
        assert_eq!(tree.root.find("usr/lib/a"), Some(&Node::File(sum("lib/a"))));
        assert_eq!(tree.root.find("usr/lib/b"), Some(&Node::File(sum("usr/abs/b"))));
        assert!(matches!(tree.root.find("lib"), Some(Node::Symlink(..))));
    }

    #[test]
    fn links_out_of_the_image_or_to_nowhere_are_refused() {
        refused(vec![vec![link("a", "../.."), file("a/x")]], "leads out of the image");
        refused(vec![vec![link("a", "/outside"), file("a/x")]], "not in the image");
        refused(vec![vec![link("a", "b"), link("b", "a"), file("a/x")]], "links without end");
        refused(vec![vec![file("a"), file("a/x")]], "which is a file");
        refused(vec![vec![link("a", "usr/../../etc"), dir("usr", 0o755), file("a/x")]], "leads out");
    }

    #[test]
    fn whiteouts_are_about_the_layers_below() {
        let base = vec![file("opt/a"), file("opt/b"), file("usr/x/1")];
        let top = vec![
            file("opt/a2"),
            change("opt/a", What::Removed),
            change("usr/x", What::Emptied),
            file("usr/x/2"),
            change("nowhere/at/all", What::Removed),
        ];
        let tree = tree(vec![base, top]).unwrap();
        let names = |path: &str| -> Vec<String> {
            tree.root.find(path).unwrap().dir().unwrap().entries.keys().cloned().collect()
        };
        assert_eq!((names("opt"), names("usr/x")), (vec!["a2".into(), "b".into()], vec!["2".into()]));
        assert!(tree.root.find("nowhere").is_none());
    }

    #[test]
    fn a_directory_in_place_of_a_link_leaves_where_that_led() {
        let base =
            vec![dir("usr/lib", 0o755), file("usr/lib/x"), link("lib", "usr/lib"), link("opt", "var/opt")];
        let over =
            |path: &str| vec![dir(path, 0o755), change(path, What::Emptied), file(&format!("{path}/y"))];
        let tree = tree(vec![base, over("lib"), over("opt")]).unwrap();
        assert_eq!(tree.root.find("usr/lib/x"), Some(&Node::File(sum("usr/lib/x"))));
        assert_eq!(tree.root.find("lib/y"), Some(&Node::File(sum("lib/y"))));
        assert_eq!(tree.root.find("opt/y"), Some(&Node::File(sum("opt/y"))));
    }

    #[test]
    fn a_directory_keeps_what_it_holds_and_what_a_container_does_not_see() {
        let hidden = (b"security.selinux".to_vec(), b"label".to_vec());
        let shown = (b"user.old".to_vec(), b"1".to_vec());
        let labelled = Attributes { xattrs: vec![hidden.clone(), shown], ..Attributes::directory() };
        let base = vec![change("usr", What::Directory(labelled)), file("usr/x")];
        let tree = tree(vec![base, vec![dir("usr", 0o700)]]).unwrap();
        let usr = tree.root.find("usr").unwrap().dir().unwrap();
        assert_eq!((usr.attributes.permissions(), usr.entries.len()), (0o700, 1));
        assert_eq!(usr.attributes.xattrs, [hidden]);
    }

    #[test]
    fn a_hard_link_is_what_it_names() {
        let same = |path: &str, target: &str| change(path, What::Same(target.into()));
        let found = tree(vec![vec![file("a")], vec![same("b/c", "a"), same("d", "b/c")]]).unwrap();
        assert_eq!(found.root.find("d"), Some(&Node::File(sum("a"))));
        refused(vec![vec![same("b", "nowhere")]], "not in the image");
        refused(vec![vec![dir("d", 0o755), same("b", "d")]], "to a directory");
    }
}
