//! What an image-based system cannot carry: /var belongs to the machine and starts empty, so a file there
//! would be lost. Directories and links are made again at boot by tmpfiles.d(5); files are reported, each
//! with the package it is from.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::Reporter;

/// What to do about files that would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossPolicy {
    /// Tell and go on.
    #[default]
    Warn,
    /// Fail the build.
    Refuse,
}

const CURE: &str =
    "ship them in /usr and copy them at boot with tmpfiles.d (C), or remove them in postprocess";

/// How many lost files are named before the rest is counted.
const NAMED: usize = 5;

/// Turns /var into tmpfiles.d lines, empties it, and reports what is lost.
pub(super) fn empty_var(
    tree: &Path,
    owners: &BTreeMap<String, String>,
    report: &Reporter,
) -> Result<Vec<String>> {
    let mut found = Found { known: known_paths(tree)?, ..Found::default() };
    found.walk(tree, "/var")?;
    let lost = found.lost(owners);
    if !lost.is_empty() {
        report.warn(format!("{}; {CURE}", cause(&lost)));
    }
    fs::create_dir_all(&fs::inside(tree, Path::new("usr/lib/tmpfiles.d"))?)?;
    fs::write_inside(
        tree,
        "usr/lib/tmpfiles.d/nosa-autovar.conf",
        format!("# Directories and links that packages have in /var, written by nosa.\n{}", found.lines),
    )?;
    fs::remove_tree(&tree.join("var"))?;
    fs::create_dir_all(&tree.join("var"))?;
    Ok(lost)
}

/// Fails when files were lost and the policy does not allow it.
pub(super) fn check(lost: &[String], policy: LossPolicy) -> Result<()> {
    if lost.is_empty() || policy == LossPolicy::Warn {
        return Ok(());
    }
    Err(Failure::new(Kind::Build, cause(lost), CURE).into())
}

fn cause(lost: &[String]) -> String {
    let named = lost.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = match lost.len().saturating_sub(NAMED) {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    format!("files in /var are not part of an image and will be missing: {named}{more}")
}

#[derive(Default)]
struct Found {
    known: BTreeSet<String>,
    lines: String,
    lost: Vec<String>,
}

impl Found {
    fn walk(&mut self, tree: &Path, dir: &str) -> Result<()> {
        for path in fs::read_dir_sorted(&tree.join(dir.trim_start_matches('/')))? {
            let absolute = format!("{dir}/{}", path.file_name().unwrap_or_default().to_string_lossy());
            let meta =
                std::fs::symlink_metadata(&path).with_context(|| format!("reading {}", path.display()))?;
            let quoted = quote(&absolute);
            if meta.is_dir() {
                if !self.known.contains(&absolute) {
                    writeln!(
                        self.lines,
                        "d {quoted} {:04o} {} {} - -",
                        meta.mode() & 0o7777,
                        meta.uid(),
                        meta.gid()
                    )
                    .context("composing tmpfiles.d lines")?;
                }
                self.walk(tree, &absolute)?;
            } else if meta.is_symlink() {
                if !self.known.contains(&absolute) {
                    let target =
                        std::fs::read_link(&path).with_context(|| format!("reading {}", path.display()))?;
                    let target = target.to_string_lossy().into_owned();
                    writeln!(self.lines, "L {quoted} - - - - {target}")
                        .context("composing tmpfiles.d lines")?;
                }
            } else if !self.known.contains(&absolute) {
                self.lost.push(absolute);
            }
        }
        Ok(())
    }

    /// The lost files, each with whose it is.
    fn lost(&self, owners: &BTreeMap<String, String>) -> Vec<String> {
        let whose = |path: &String| match owners.get(path) {
            Some(package) => format!("{path} (package {package})"),
            None => format!("{path} (made by a script)"),
        };
        self.lost.iter().map(whose).collect()
    }
}

/// Paths that the tree's own tmpfiles.d makes already.
fn known_paths(tree: &Path) -> Result<BTreeSet<String>> {
    let dir = tree.join("usr/lib/tmpfiles.d");
    let mut known = BTreeSet::new();
    if !dir.is_dir() {
        return Ok(known);
    }
    for path in fs::read_dir_sorted(&dir)? {
        if path.extension().is_some_and(|extension| extension == "conf") {
            let text = fs::read_to_string(&path)?;
            known.extend(text.lines().filter_map(made_by).map(str::to_owned));
        }
    }
    Ok(known)
}

/// The path that a tmpfiles.d line creates.
fn made_by(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let path = words.next()?.trim_matches('"');
    (kind.starts_with(['d', 'D', 'v', 'q', 'Q', 'L', 'C', 'f', 'F', 'p']) && path.starts_with("/var"))
        .then(|| path.trim_end_matches('/'))
}

/// A path as tmpfiles.d wants it: `%` doubled, quoted where it holds blanks.
fn quote(path: &str) -> String {
    let path = path.replace('%', "%%");
    if path.contains(char::is_whitespace) { format!("\"{path}\"") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/a b")).unwrap();
        std::fs::create_dir_all(dir.path().join("var/log")).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib/tmpfiles.d")).unwrap();
        std::fs::write(dir.path().join("usr/lib/tmpfiles.d/var.conf"), "d /var/log 0755 - - -\n").unwrap();
        std::fs::write(dir.path().join("var/lib/db"), "x").unwrap();
        std::os::unix::fs::symlink("../run", dir.path().join("var/run")).unwrap();
        dir
    }

    #[test]
    fn directories_and_links_become_tmpfiles() {
        let tree = tree();
        empty_var(tree.path(), &BTreeMap::new(), &Reporter::silent()).unwrap();
        let text = std::fs::read_to_string(tree.path().join("usr/lib/tmpfiles.d/nosa-autovar.conf")).unwrap();
        assert!(text.contains("\nL /var/run - - - - ../run\n"), "{text}");
        assert!(text.contains("d \"/var/lib/a b\" 0755"), "{text}");
        assert!(!text.contains("/var/log"), "{text}");
        assert_eq!(std::fs::read_dir(tree.path().join("var")).unwrap().count(), 0);
    }

    #[test]
    fn a_lost_file_is_named_with_its_package_and_refused_on_request() {
        let tree = tree();
        let owners = BTreeMap::from([("/var/lib/db".to_owned(), "database".to_owned())]);
        let lost = empty_var(tree.path(), &owners, &Reporter::silent()).unwrap();
        check(&lost, LossPolicy::Warn).unwrap();
        let error = check(&lost, LossPolicy::Refuse).unwrap_err();
        assert_eq!(
            error.to_string(),
            "files in /var are not part of an image and will be missing: /var/lib/db (package database)"
        );
    }
}
