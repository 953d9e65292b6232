//! dpkg's database in a tree (`/var/lib/dpkg`): packages recorded as unpacked, so that the tree's own dpkg
//! can configure them, and the interest in triggers recorded once that is done.
//!
//! Triggers stay unknown to dpkg during the one configuration run: every file is in place before the first
//! postinst runs, so each package's `postinst configure` sees all that its triggers would tell it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::control::paragraphs;
use crate::host::fs;

/// A package's control files and list of paths.
#[derive(Debug, Clone)]
pub struct Scripts {
    /// The package's name.
    pub name: String,
    /// Its architecture.
    pub arch: String,
    /// Its control paragraph, without trailing newlines.
    pub control: String,
    /// The other control files by name.
    pub files: Vec<(String, Vec<u8>)>,
    /// Its paths.
    pub paths: Vec<String>,
}

impl Scripts {
    /// Splits a package's control files.
    pub fn new(files: Vec<(String, Vec<u8>)>, paths: Vec<String>) -> Result<Self> {
        let (control, files): (Vec<_>, Vec<_>) = files.into_iter().partition(|(name, _)| name == "control");
        let (_, control) = control.into_iter().next().context("the package has no control file")?;
        let control = String::from_utf8(control).context("the control file is not UTF-8")?;
        let paragraph = paragraphs(&control).next().context("the control file is empty")?;
        let field = |name: &str| {
            paragraph.get(name).map(str::to_owned).with_context(|| format!("the control file has no {name}"))
        };
        let (name, arch) = (field("Package")?, field("Architecture")?);
        let control = control.trim_end().to_owned();
        Ok(Self { name, arch, control, files, paths })
    }

    /// Whether the package has this script.
    #[must_use]
    pub fn has(&self, script: &str) -> bool {
        self.files.iter().any(|(name, _)| name == script)
    }

    /// The start of its files' names in `info/`: with the architecture where several may be installed.
    #[must_use]
    pub fn stem(&self) -> String {
        let paragraph = paragraphs(&self.control).next();
        let same = paragraph.and_then(|paragraph| paragraph.get("Multi-Arch")) == Some("same");
        if same { format!("{}:{}", self.name, self.arch) } else { self.name.clone() }
    }

    fn file(&self, name: &str) -> Option<String> {
        let bytes = self.files.iter().find_map(|(file, bytes)| (file == name).then_some(bytes))?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }
}

/// Writes the database: every package unpacked, none configured.
pub fn write_database(tree: &Path, arch: &str, packages: &[Scripts]) -> Result<()> {
    let dir = tree.join("var/lib/dpkg");
    for sub in ["info", "updates", "triggers", "alternatives", "parts"] {
        fs::create_dir_all(&dir.join(sub))?;
    }
    fs::write(&dir.join("arch"), format!("{arch}\n"))?;
    for empty in ["available", "diversions", "statoverride"] {
        fs::write(&dir.join(empty), "")?;
    }
    fs::write(&dir.join("info/format"), "1\n")?;
    let mut status = String::new();
    for package in packages {
        let stem = package.stem();
        let conffiles = conffiles(tree, package)?;
        let (first, rest) = package.control.split_once('\n').unwrap_or((&package.control, ""));
        writeln!(status, "{first}\nStatus: install ok unpacked\n{rest}{conffiles}\n")
            .context("composing dpkg's status")?;
        for (name, bytes) in &package.files {
            let path = dir.join("info").join(format!("{stem}.{name}"));
            fs::write(&path, bytes)?;
            let script = matches!(name.as_str(), "preinst" | "postinst" | "prerm" | "postrm" | "config");
            let mode = if script { 0o755 } else { 0o644 };
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
                .with_context(|| format!("setting the mode of {}", path.display()))?;
        }
        let mut list = package.paths.join("\n");
        list.push('\n');
        fs::write(&dir.join("info").join(format!("{stem}.list")), list)?;
    }
    fs::write(&dir.join("status"), status)
}

/// Records which package wants to hear of which trigger, for later installations into the tree.
pub fn write_triggers(tree: &Path, packages: &[Scripts]) -> Result<()> {
    let dir = tree.join("var/lib/dpkg/triggers");
    let mut by_file = String::new();
    let mut by_name: BTreeMap<String, String> = BTreeMap::new();
    for package in packages {
        for line in package.file("triggers").unwrap_or_default().lines() {
            let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
            let (Some(directive), Some(trigger)) = (words.next(), words.next()) else { continue };
            let noawait = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            let stem = package.stem();
            if trigger.starts_with('/') {
                writeln!(by_file, "{trigger} {stem}{noawait}").context("composing triggers")?;
            } else {
                writeln!(by_name.entry(trigger.to_owned()).or_default(), "{stem}{noawait}")
                    .context("composing triggers")?;
            }
        }
    }
    fs::write(&dir.join("File"), by_file)?;
    fs::write(&dir.join("Unincorp"), "")?;
    by_name.iter().try_for_each(|(name, text)| fs::write(&dir.join(name), text))
}

/// The `Conffiles` field: each configuration file with the MD5 sum it was shipped with.
fn conffiles(tree: &Path, package: &Scripts) -> Result<String> {
    use md5::Digest as _;
    let mut field = String::new();
    for line in package.file("conffiles").unwrap_or_default().lines() {
        let path = line.trim();
        // `remove-on-upgrade /path` and the like name files that this version does not ship.
        if !path.starts_with('/') {
            continue;
        }
        let file = tree.join(path.trim_start_matches('/'));
        let sum = match std::fs::read(&file) {
            Ok(bytes) => hex::encode(md5::Md5::digest(&bytes)),
            Err(_) => "newconffile".to_owned(),
        };
        write!(field, "\n {path} {sum}").context("composing the Conffiles field")?;
    }
    Ok(if field.is_empty() { field } else { format!("\nConffiles:{field}") })
}

/// Which package each path of the tree belongs to (directories belong to nobody in particular).
pub fn owners(tree: &Path) -> Result<BTreeMap<String, String>> {
    let mut owners = BTreeMap::new();
    for dir in ["var/lib/dpkg/info", "usr/lib/sysimage/dpkg/info"] {
        let dir = tree.join(dir);
        if !dir.is_dir() {
            continue;
        }
        for path in fs::read_dir_sorted(&dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".list") else { continue };
            let package = stem.split(':').next().unwrap_or(stem).to_owned();
            let mut text = String::new();
            fs::open(&path)?
                .read_to_string(&mut text)
                .with_context(|| format!("reading {}", path.display()))?;
            owners.extend(text.lines().map(|line| (line.to_owned(), package.clone())));
        }
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_package_as_dpkg_wants_to_find_it() {
        let dir = tempfile::tempdir().unwrap();
        let files = vec![
            (
                "control".to_owned(),
                b"Package: a\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\n".to_vec(),
            ),
            ("conffiles".to_owned(), b"/etc/a.conf\nremove-on-upgrade /etc/old\n".to_vec()),
            ("triggers".to_owned(), b"interest-noawait /usr/lib/x\ninterest y\nactivate z\n".to_vec()),
            ("postinst".to_owned(), b"#!/bin/sh\n".to_vec()),
        ];
        let package = Scripts::new(files, vec!["/.".into(), "/etc".into(), "/etc/a.conf".into()]).unwrap();
        write_database(dir.path(), "amd64", std::slice::from_ref(&package)).unwrap();
        write_triggers(dir.path(), &[package]).unwrap();
        let read = |path: &str| std::fs::read_to_string(dir.path().join("var/lib/dpkg").join(path)).unwrap();
        let status = read("status");
        assert!(status.starts_with("Package: a\nStatus: install ok unpacked\nVersion: 1\n"), "{status}");
        assert!(status.ends_with("Conffiles:\n /etc/a.conf newconffile\n\n"), "{status}");
        assert_eq!(read("triggers/File"), "/usr/lib/x a:amd64/noawait\n");
        assert_eq!(read("triggers/y"), "a:amd64\n");
        assert_eq!(owners(dir.path()).unwrap()["/etc/a.conf"], "a");
    }
}
