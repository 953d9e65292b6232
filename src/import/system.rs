//! What makes a tree an operating system that OSTree deploys: one kernel with its initramfs, and /etc as
//! /usr/etc.

use std::collections::BTreeSet;

use anyhow::Result;

use super::limits::Refused;
use super::toplevel;
use super::tree::{Dir, Node};
use crate::ostree::Incoming;

/// What came out of settling a tree.
#[derive(Debug, Default)]
pub(super) struct System {
    /// The kernel's version.
    pub(super) kernel: String,
    /// What the user should know.
    pub(super) warnings: Vec<String>,
}

/// Shows a commit's tree as its container does: /usr/etc at /etc.
pub(super) fn as_container(root: &mut Dir) {
    if root.entries.contains_key("etc") {
        return;
    }
    let etc = root.dir_mut("usr").and_then(|usr| usr.entries.remove("etc"));
    root.entries.extend(etc.map(|etc| ("etc".to_owned(), etc)));
}

/// The other way round.
pub(super) fn as_commit(root: &mut Dir) -> Result<()> {
    let Some(usr) = root.dir_mut("usr") else {
        return Err(no_system("it has no /usr"));
    };
    if usr.entries.get("etc").and_then(Node::dir).is_some_and(|etc| etc.files() == 0) {
        usr.entries.remove("etc");
    }
    if usr.entries.contains_key("etc") {
        let cure = "write to /etc in the Containerfile: /usr/etc is made of it, and belongs to OSTree";
        return Err(Refused::with("the image has files in /usr/etc besides /etc", cure).into());
    }
    match root.entries.remove("etc") {
        Some(Node::Dir(etc)) => {
            if let Some(usr) = root.dir_mut("usr") {
                usr.entries.insert("etc".to_owned(), Node::Dir(etc));
            }
            Ok(())
        }
        _ => Err(no_system("it has no directory /etc")),
    }
}

/// Settles a tree as a container sees it. `before` is what was at the top of the image's own commit, if it has
/// one.
pub(super) fn settle(
    root: &mut Dir,
    before: Option<&BTreeSet<String>>,
    incoming: &Incoming,
) -> Result<System> {
    let mut warnings = Vec::new();
    let kernel = kernel(root)?;
    if before.is_none() {
        toplevel::link(root, incoming, &mut warnings)?;
    }
    toplevel::leave_out(root, before.unwrap_or(&BTreeSet::new()), incoming, &mut warnings)?;
    toplevel::empty(root, &mut warnings);
    let var = root.find("var").and_then(Node::dir).map_or(0, Dir::files);
    if var > 0 {
        warnings.push(format!(
            "{var} files in /var reach new machines only: an update leaves a machine's /var as it is"
        ));
    }
    as_commit(root)?;
    Ok(System { kernel, warnings })
}

/// The kernel's version: there is one, with its initramfs.
pub(super) fn kernel(root: &Dir) -> Result<String> {
    let modules = root.find("usr/lib/modules").and_then(Node::dir);
    let dirs =
        modules.into_iter().flat_map(|dir| &dir.entries).filter_map(|(name, node)| Some((name, node.dir()?)));
    let kernels: Vec<(&String, &Dir)> = dirs.filter(|(_, dir)| dir.entries.contains_key("vmlinuz")).collect();
    match kernels.as_slice() {
        [] => Err(no_system("it has no kernel: no /usr/lib/modules/*/vmlinuz")),
        [(version, dir)] if dir.entries.contains_key("initramfs.img") => Ok((*version).clone()),
        [(version, _)] => {
            let what =
                format!("kernel {version} has no initramfs: no /usr/lib/modules/{version}/initramfs.img");
            Err(Refused::with(what, "make one in the Containerfile: RUN dracut --no-hostonly …").into())
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(version, _)| version.as_str()).collect();
            let what = format!("it has several kernels: {}", names.join(", "));
            Err(Refused::with(what, "remove all but one in the Containerfile").into())
        }
    }
}

fn no_system(what: &str) -> anyhow::Error {
    Refused::with(what, "import an image that is made to boot: derived from nosa's, or one for bootc").into()
}
