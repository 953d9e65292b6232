//! What may be at the top of an OSTree system, and what becomes of the rest.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;

use super::path::parts;
use super::tree::{Dir, Node};
use crate::ostree::{Attributes, Incoming, S_IFLNK, S_IFREG};

/// Directories that belong to the running system: empty in an image.
const EMPTY: &[&str] = &["boot", "dev", "proc", "run", "sys", "sysroot"];
/// What the image may have at its top besides.
const KEPT: &[&str] = &["bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "tmp", "usr", "var"];
/// Links to what belongs to the machine, and what makes that at boot.
const LINKS: &[(&str, &str, &str)] = &[
    ("home", "var/home", "d /var/home 0755 root root - -"),
    ("media", "run/media", "d /run/media 0755 root root - -"),
    ("mnt", "var/mnt", "d /var/mnt 0755 root root - -"),
    ("opt", "var/opt", "d /var/opt 0755 root root - -"),
    ("ostree", "sysroot/ostree", ""),
    ("root", "var/roothome", "d /var/roothome 0700 root root - -"),
    ("srv", "var/srv", "d /var/srv 0755 root root - -"),
];
/// Directories whose files the image may keep: programs, not data.
const PROGRAMS: &[&str] = &["opt"];
/// The largest prepare-root.conf that is read.
const LARGEST_CONF: u64 = 64 << 10;

/// Empties the directories of the running system; what was in /boot is worth a warning.
pub(super) fn empty(root: &mut Dir, warnings: &mut Vec<String>) {
    for name in EMPTY.iter().chain(&["tmp"]) {
        match root.entries.get_mut(*name) {
            Some(Node::Dir(dir)) => {
                if *name == "boot" && dir.files() > 0 {
                    warnings.push(format!(
                        "left out {} files in /boot: a deployment's kernel is the one in /usr/lib/modules",
                        dir.files()
                    ));
                }
                dir.entries.clear();
            }
            Some(Node::Symlink(..)) if *name == "tmp" => {}
            None if *name == "tmp" => {}
            _ => {
                let _previous =
                    root.entries.insert((*name).to_owned(), Node::Dir(Dir::new(Attributes::directory())));
            }
        }
    }
}

/// Gives a system that never was an OSTree commit the links to /var that its machines need.
pub(super) fn link(root: &mut Dir, incoming: &Incoming, warnings: &mut Vec<String>) -> Result<()> {
    let attributes = |mode: u32| Attributes { mode, ..Attributes::directory() };
    let mut tmpfiles = String::new();
    let mut made = |dir: &mut Dir, name: &str, target: &str, line: &str| -> Result<()> {
        let checksum = incoming.symlink(target, &attributes(S_IFLNK | 0o777))?;
        dir.entries.insert(name.to_owned(), Node::Symlink(checksum, target.to_owned()));
        if !line.is_empty() {
            writeln!(tmpfiles, "{line}")?;
        }
        Ok(())
    };
    for (name, target, line) in LINKS {
        match root.entries.get(*name) {
            None => made(root, name, target, line)?,
            Some(Node::Dir(dir)) => {
                let files = data_files(dir);
                if files > 0 && PROGRAMS.contains(name) {
                    continue;
                }
                if files > 0 {
                    warnings.push(format!(
                        "left out {files} files in /{name}, which belongs to the machine: ship them below /usr"
                    ));
                }
                made(root, name, target, line)?;
            }
            Some(_) => {}
        }
    }
    if let Some(usr) = root.dir_mut("usr")
        && usr.entries.get("local").and_then(Node::dir).is_some_and(|local| local.files() == 0)
    {
        made(usr, "local", "../var/usrlocal", "d /var/usrlocal 0755 root root - -")?;
    }
    if tmpfiles.is_empty() {
        return Ok(());
    }
    let text = format!("# What the links at the top point to, written by nosa import.\n{tmpfiles}");
    let checksum = incoming.regular(&mut text.as_bytes(), text.len() as u64, &attributes(S_IFREG | 0o644))?;
    let mut dir = root;
    for part in parts("usr/lib/tmpfiles.d") {
        let below = dir
            .entries
            .entry(part.to_owned())
            .or_insert_with(|| Node::Dir(Dir::new(Attributes::directory())));
        match below {
            Node::Dir(below) => dir = below,
            _ => {
                return Err(super::limits::refuse(format!(
                    "/usr/lib/tmpfiles.d leads through {part:?}, a file"
                )));
            }
        }
    }
    dir.entries.insert("nosa-import.conf".to_owned(), Node::File(checksum));
    Ok(())
}

/// Files below a directory but for the shell's start-up files, which every home gets.
fn data_files(dir: &Dir) -> usize {
    let skeleton = [".bashrc", ".profile", ".bash_profile", ".bash_logout", ".cshrc", ".tcshrc"];
    let skipped = dir.entries.keys().filter(|name| skeleton.contains(&name.as_str())).count();
    dir.files() - skipped
}

/// Leaves out what has no place at the top, as `ostree container` does on machines: unless the root is one
/// that has a place for everything (composefs, a transient root), or the OSTree commit had it.
pub(super) fn leave_out(
    root: &mut Dir,
    before: &BTreeSet<String>,
    incoming: &Incoming,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let known = |name: &str| {
        EMPTY.contains(&name) || KEPT.contains(&name) || LINKS.iter().any(|(link, ..)| *link == name)
    };
    let others: Vec<String> =
        root.entries.keys().filter(|name| !known(name) && !before.contains(*name)).cloned().collect();
    if others.is_empty() || holds_all(root, incoming)? {
        return Ok(());
    }
    for name in others {
        let node = root.entries.remove(&name);
        // What container engines leave behind.
        if name != ".dockerenv" && name != ".containerenv" {
            let files = node.as_ref().and_then(Node::dir).map_or(1, Dir::files);
            warnings.push(format!(
                "left out /{name} ({files} files): `ostree container` keeps /usr and /etc only; ship it below /usr"
            ));
        }
    }
    Ok(())
}

/// Whether the system's root holds more than /usr and /etc, as ostree-ext reads ostree/prepare-root.conf.
fn holds_all(root: &Dir, incoming: &Incoming) -> Result<bool> {
    for path in ["etc/ostree/prepare-root.conf", "usr/lib/ostree/prepare-root.conf"] {
        if let Some(Node::File(checksum)) = root.find(path) {
            let bytes = incoming.content(*checksum, LARGEST_CONF)?;
            return Ok(is_overlay(&String::from_utf8_lossy(&bytes)));
        }
    }
    Ok(false)
}

fn is_overlay(conf: &str) -> bool {
    let mut section = "";
    for line in conf.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = line.split_once('=') {
            let yes = ["yes", "true", "1", "maybe", "signed"].contains(&value.trim());
            match (section, key.trim()) {
                ("composefs", "enabled") | ("root", "transient") if yes => return true,
                _ => {}
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_that_holds_everything_says_so() {
        for (conf, expected) in [
            ("[composefs]\nenabled = yes\n", true),
            ("[composefs]\nenabled=signed\n", true),
            ("[root]\ntransient=true", true),
            ("[composefs]\nenabled=no\n[root]\ntransient=false", false),
            ("[other]\nenabled=yes", false),
            ("", false),
        ] {
            assert_eq!(is_overlay(conf), expected, "{conf}");
        }
    }
}
