//! OSTree's root layout: what is a directory, what is a link into /var, and /etc as /usr/etc.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::manifest::Manifest;
use crate::pipeline::Reporter;

/// Directories that are empty in the image.
const EMPTY: &[&str] = &["boot", "dev", "proc", "run", "sys", "sysroot"];
/// Links at the top of the tree.
const LINKS: &[(&str, &str)] = &[
    ("home", "var/home"),
    ("media", "run/media"),
    ("mnt", "var/mnt"),
    ("opt", "var/opt"),
    ("ostree", "sysroot/ostree"),
    ("root", "var/roothome"),
    ("srv", "var/srv"),
];
/// What may be at the top besides.
const KEPT: &[&str] = &["bin", "etc", "lib", "lib32", "lib64", "libx32", "sbin", "tmp", "usr", "var"];
/// What the links into /var need at boot.
const TMPFILES: &str = "# What the links at the top of an OSTree system point to, written by nosa.
d /var/home 0755 root root - -
d /var/mnt 0755 root root - -
d /var/opt 0755 root root - -
d /var/roothome 0700 root root - -
d /var/srv 0755 root root - -
d /var/usrlocal 0755 root root - -
d /var/usrlocal/bin 0755 root root - -
d /var/usrlocal/etc 0755 root root - -
d /var/usrlocal/include 0755 root root - -
d /var/usrlocal/lib 0755 root root - -
d /var/usrlocal/sbin 0755 root root - -
d /var/usrlocal/share 0755 root root - -
d /var/usrlocal/src 0755 root root - -
d /run/media 0755 root root - -
";

/// What must be so before the postprocess scripts see the tree.
pub(super) fn prepare(tree: &Path, manifest: &Manifest) -> Result<()> {
    if let Some(target) = &manifest.default_target {
        let dir = tree.join("usr/lib/systemd/system");
        fs::create_dir_all(&dir)?;
        fs::symlink_atomic(Path::new(target), &dir.join("default.target"))?;
    }
    for path in &manifest.remove_files {
        // A directory that is not there has nothing to remove.
        if let Ok(place) = fs::inside(tree, Path::new(path)) {
            fs::remove_tree(&place)?;
        }
    }
    Ok(())
}

/// Gives the finished tree its layout; /var is empty already.
pub(super) fn finish(tree: &Path, manifest: &Manifest, report: &Reporter) -> Result<()> {
    machine_id(tree, manifest)?;
    for name in EMPTY {
        fs::remove_tree(&tree.join(name))?;
        fs::create_dir_all(&tree.join(name))?;
    }
    for (name, target) in LINKS {
        give_up(tree, name, report)?;
        link(tree, name, target)?;
    }
    give_up(tree, "usr/local", report)?;
    link(tree, "usr/local", "../var/usrlocal")?;
    fs::remove_tree(&tree.join("tmp"))?;
    if manifest.tmp_is_dir {
        fs::create_dir_all(&tree.join("tmp"))?;
        std::fs::set_permissions(tree.join("tmp"), std::fs::Permissions::from_mode(0o1777))
            .context("setting the mode of /tmp")?;
    } else {
        link(tree, "tmp", "sysroot/tmp")?;
    }
    for path in fs::read_dir_sorted(tree)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = EMPTY.contains(&name.as_str())
            || KEPT.contains(&name.as_str())
            || LINKS.iter().any(|(link, _)| *link == name);
        if !known {
            return Err(Failure::new(
                Kind::Build,
                format!("/{name} has no place at the top of an OSTree system"),
                "move it below /usr or remove it in postprocess",
            )
            .into());
        }
    }
    fs::write_inside(tree, "usr/lib/tmpfiles.d/nosa-toplevel.conf", TMPFILES)?;
    std::fs::set_permissions(tree, std::fs::Permissions::from_mode(0o755))
        .context("setting the mode of /")?;
    fs::rename(&tree.join("etc"), &tree.join("usr/etc"))
}

fn machine_id(tree: &Path, manifest: &Manifest) -> Result<()> {
    if manifest.machineid_compat {
        fs::write_inside(tree, "etc/machine-id", "")
    } else {
        fs::remove_file_if_exists(&fs::inside(tree, Path::new("etc/machine-id"))?)
    }
}

/// Removes a directory that becomes a link, and says so when it held files.
fn give_up(tree: &Path, name: &str, report: &Reporter) -> Result<()> {
    let path = tree.join(name);
    if path.is_dir() && !path.is_symlink() && holds_files(&path)? {
        report.warn(format!(
            "/{name} belongs to the machine: what packages or scripts put there is left out of the image; \
             ship it below /usr"
        ));
    }
    fs::remove_tree(&path)
}

/// Whether there are files below a directory; shell start-up files that every home gets do not count.
fn holds_files(dir: &Path) -> Result<bool> {
    for path in fs::read_dir_sorted(dir)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files = if path.is_dir() && !path.is_symlink() {
            holds_files(&path)?
        } else {
            // Debian's base-files puts /usr/local/man there as a link, and /root gets a profile.
            !path.is_symlink() && ![".bashrc", ".profile"].contains(&name.as_str())
        };
        if files {
            return Ok(true);
        }
    }
    Ok(false)
}

fn link(tree: &Path, name: &str, target: &str) -> Result<()> {
    std::os::unix::fs::symlink(target, tree.join(name))
        .with_context(|| format!("linking /{name} to {target}"))
}
