//! Rules about files wherever they are, and about the root's layout.

use std::path::Path;

use super::super::view::{Node, NodeKind, View};
use super::{Found, Known};

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
const WRITABLE_BY_ALL: u32 = 0o002;

/// Links of the root that lead into /var or /run.
const LINKS: &[&str] = &["home", "media", "mnt", "opt", "root", "srv", "usr/local"];

pub(super) fn root_layout(view: &View, _: &Known) -> Option<Found> {
    let replaced = LINKS.iter().filter_map(|link| {
        let node = view.get(link).filter(|node| !matches!(node.kind, NodeKind::Symlink(_)))?;
        let was_link = matches!(view.before(link)?.kind, NodeKind::Symlink(_));
        was_link.then_some((Path::new(*link), node))
    });
    let cause = "a link of the root's layout became something else, which hides what machines have there";
    Found::about(replaced, cause, "leave the link, and put files into /usr/bin, /usr/lib or /usr/share")
}

pub(super) fn run_or_tmp(view: &View, _: &Known) -> Option<Found> {
    // What a builder mounts over, it leaves behind.
    let builders = |path: &Path| path.starts_with("run/.containerenv") || path.starts_with("run/secrets");
    let files = ["run", "tmp", "var/tmp"].into_iter().flat_map(|dir| view.below(dir));
    let files = files.filter(|(path, node)| node.kind != NodeKind::Directory && !builders(path));
    let cause = "/run and /tmp are empty on every machine that boots";
    Found::about(
        files,
        cause,
        "remove it in the instruction that makes it, or give a line in /usr/lib/tmpfiles.d",
    )
}

pub(super) fn special(view: &View, _: &Known) -> Option<Found> {
    let nodes = view.all().filter(|(path, node)| node.kind == NodeKind::Special && !path.starts_with("dev"));
    Found::about(
        nodes,
        "a commit cannot hold devices and pipes",
        "make it at boot, by a line in /usr/lib/tmpfiles.d",
    )
}

pub(super) fn set_id(view: &View, _: &Known) -> Option<Found> {
    let is_set = |node: &Node| node.kind == NodeKind::Regular && (node.mode & SET_ID != 0 || node.capable);
    let nodes = added(view).filter(|(path, node)| is_set(node) && !view.before(path).is_some_and(is_set));
    let cause = "programs that run with other rights than their caller's were added";
    Found::about(nodes, cause, "RUN chmod a-s FILE, unless it is wanted")
}

pub(super) fn world_writable(view: &View, _: &Known) -> Option<Found> {
    let open = |node: &Node| match node.kind {
        NodeKind::Regular => node.mode & WRITABLE_BY_ALL != 0,
        NodeKind::Directory => node.mode & WRITABLE_BY_ALL != 0 && node.mode & STICKY == 0,
        NodeKind::Symlink(_) | NodeKind::Special => false,
    };
    let nodes = added(view).filter(|(_, node)| open(node));
    Found::about(nodes, "everybody may change it", "RUN chmod o-w FILE")
}

pub(super) fn not_utf8(view: &View, _: &Known) -> Option<Found> {
    let nodes = view.all().filter(|(path, _)| path.to_str().is_none());
    Found::about(nodes, "a commit's names are UTF-8, and this one's is not", "rename it")
}

fn added(view: &View) -> impl Iterator<Item = (&Path, &Node)> {
    view.all().filter(|(_, node)| view.is_added(node))
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::tests::{BASE, found};
    use crate::derive::view::sample;

    #[test]
    fn rights_that_were_added_are_told() {
        let rules = |mode: u32| -> Vec<&str> {
            let view = sample::with_mode(sample::view(BASE, &["usr/bin/x"]), "usr/bin/x", mode);
            check(&view).iter().map(|finding| finding.rule).collect()
        };
        assert_eq!(rules(0o755), Vec::<&str>::new());
        assert_eq!(rules(0o4755), ["set-id"]);
        assert_eq!(rules(0o666), ["world-writable"]);
    }

    #[test]
    fn what_vanishes_at_boot_is_told() {
        assert_eq!(found(&["run/x"]), [("run-or-tmp", "/run/x".to_owned())]);
        assert_eq!(found(&["tmp/", "tmp/x"]), [("run-or-tmp", "/tmp/x".to_owned())]);
        assert_eq!(found(&["run/.containerenv"]), []);
    }

    #[test]
    fn the_roots_links_stay() {
        assert_eq!(found(&["opt/", "opt/x"]), [("root-layout", "/opt".to_owned())]);
        assert_eq!(found(&["opt@var/opt"]), []);
    }
}
