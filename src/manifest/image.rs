//! image.yaml and platforms.yaml: flattened as coreos-assembler flattens them, defaults filled in.

use std::path::{Path, PathBuf};

use super::include::Walk;
use super::keys::ARCHITECTURES;
use super::model::{ImageConfig, Platform, Platforms, RootFilesystem};
use super::notes::Notes;
use crate::document::{Entry, Map, Node, Value};
use crate::failure::{Failure, Kind};

const USED: &[&str] = &[
    "include",
    "size",
    "extra-kargs",
    "rootfs",
    "rootfs-args",
    "ostree-remote",
    "compressor",
    "squashfs-compression",
    "bootfs",
    "bootfs_metadata_csum_seed",
    "ostree-format",
];

/// Keys without effect, and what that means.
const IGNORED: &[(&str, &str)] = &[
    ("composefs", "the deployment decides by ostree's prepare-root.conf"),
    ("deploy-via-container", "disks are written from the commit"),
    ("container-imgref", "the origin names the OSTree branch"),
    ("ostree-container-inject-openshift-cvo-labels", "the image gets no OpenShift labels"),
    ("ignition-network-kcmdline", "it has had no effect for years"),
    ("sysroot-readonly", "the deployment decides by ostree's prepare-root.conf"),
    ("live-rootfs-fstype", "live images hold a squashfs"),
    ("live-rootfs-fsoptions", "live images hold a squashfs"),
    ("bootc-install-to-fs", "disks are written by nosa"),
    ("grub-script", "GRUB's configuration is nosa's own"),
];

/// Reads image.yaml and what it includes, merged.
pub(super) fn flatten(walk: &mut Walk<'_>, path: &Path) -> Map {
    let mut chain = Vec::new();
    let mut merged = Map::default();
    let mut next = Some((path.to_owned(), None));
    while let Some((path, from)) = next.take() {
        let root = walk.document(&path, from.as_ref());
        let Some(root) = walk.notes.take(root) else { break };
        let map = if root.is_null() { Ok(Map::default()) } else { root.map("image.yaml").cloned() };
        let Some(mut map) = walk.notes.take(map) else { break };
        chain.push(walk.name(&path));
        if let Some(at) = map.entries.iter().position(|entry| entry.key == "include") {
            let include = map.entries.remove(at).value;
            let target = included(&include, &path, &chain, walk);
            next = walk.notes.take(target).map(|target| (target, Some(include.position)));
        }
        walk.notes.all(map.entries.iter().map(known));
        map.entries.retain(|entry| known(entry).is_ok() && !entry.value.is_null());
        merge(&mut merged, map);
    }
    warn(&merged, &mut walk.notes.warnings);
    merged
}

fn included(include: &Node, path: &Path, chain: &[String], walk: &Walk<'_>) -> Result<PathBuf, Failure> {
    let target = path.with_file_name("").join(include.text("include")?);
    let name = walk.name(&target);
    if chain.contains(&name) {
        return Err(include.position.failure(
            format_args!("include goes in a circle: {} → {name}", chain.join(" → ")),
            "remove one of these includes",
        ));
    }
    Ok(target)
}

fn known(entry: &Entry) -> Result<(), Failure> {
    let name = entry.key.as_str();
    if USED.contains(&name)
        || IGNORED.iter().any(|(key, _)| *key == name)
        || ["aws-", "vmware-", "gcp-", "azure-"].iter().any(|cloud| name.starts_with(cloud))
    {
        return Ok(());
    }
    Err(entry.unknown(USED.iter().copied().chain(IGNORED.iter().map(|(key, _)| *key))))
}

/// The including file's values stand, and lists grow by what the included file adds.
fn merge(outer: &mut Map, inner: Map) {
    for entry in inner.entries {
        match outer.entries.iter_mut().find(|known| known.key == entry.key) {
            None => outer.entries.push(entry),
            Some(known) => match (&mut known.value.value, entry.value.value) {
                (Value::List(outer), Value::List(inner)) => {
                    for item in inner {
                        if !outer.iter().any(|known| known.value == item.value) {
                            outer.push(item);
                        }
                    }
                }
                (Value::Map(outer), Value::Map(inner)) => merge(outer, inner),
                _ => {}
            },
        }
    }
}

fn warn(map: &Map, warnings: &mut Vec<String>) {
    for entry in &map.entries {
        let what = match IGNORED.iter().find(|(key, _)| *key == entry.key) {
            Some((_, what)) => what,
            None if USED.contains(&entry.key.as_str()) => continue,
            None => "nosa makes no images for that platform",
        };
        warnings.push(format!("{}: `{}` is ignored: {what}", entry.position, entry.key));
    }
}

/// image.yaml's values, with defaults; what is wrong is noted. `name` is the file's.
pub(super) fn config(map: &Map, name: &str, notes: &mut Notes) -> ImageConfig {
    let text = |key: &str, default: &str, choices: &[&str]| -> Result<String, Failure> {
        let Some(node) = map.get(key) else { return Ok(default.to_owned()) };
        let text = node.text(key)?;
        if choices.is_empty() || choices.contains(&text) {
            return Ok(text.to_owned());
        }
        Err(node.expected(key, &format!("one of {}", choices.join(", ")), "choose one of them"))
    };
    let size = notes.or_default(size(map, name));
    let extra_kargs = notes.or_default(arguments(map.get("extra-kargs"), "extra-kargs"));
    let rootfs = match notes.or_default(text("rootfs", "xfs", &["ext4", "xfs"])).as_str() {
        "ext4" => RootFilesystem::Ext4,
        _ => RootFilesystem::Xfs,
    };
    notes.take(text("bootfs", "ext4", &["ext4"]));
    let format = notes.or_default(text("ostree-format", "oci-chunked-v1", &["oci-chunked-v1", "oci"]));
    if let Some(node) = map.get("ostree-format").filter(|_| format == "oci") {
        let place = &node.position;
        notes.warnings.push(format!(
            "{place}: `oci` is taken as `oci-chunked-v1`: images have a layer a group of packages"
        ));
    }
    if let Some(node) = map.get("bootfs_metadata_csum_seed") {
        notes.take(node.boolean("bootfs_metadata_csum_seed"));
    }
    ImageConfig {
        size,
        extra_kargs,
        rootfs,
        rootfs_args: notes.or_default(text("rootfs-args", "", &[])),
        ostree_remote: notes.or_default(text("ostree-remote", "NONE", &[])),
        compressor: notes.or_default(text("compressor", "gzip", &["gzip", "xz", "zstd"])),
        squashfs_compression: notes.or_default(text(
            "squashfs-compression",
            "zstd",
            &["zstd", "xz", "gzip", "lz4", "lzo"],
        )),
    }
}

fn size(map: &Map, name: &str) -> Result<u64, Failure> {
    let Some(size) = map.get("size") else {
        let cause = format!("{name}: `size` is missing");
        return Err(Failure::new(Kind::Config, cause, "add the disks' size in GB: `size: 10`"));
    };
    match size.natural("size")? {
        number @ 1..=65_536 => Ok(number),
        _ => Err(size.expected("size", "a number of GB from 1 to 65536", "write `size: 10`")),
    }
}

/// Kernel arguments: one each, for they are joined by blanks into one line.
fn arguments(node: Option<&Node>, what: &str) -> Result<Vec<String>, Failure> {
    let Some(node) = node else { return Ok(Vec::new()) };
    for item in node.list(what)? {
        let text = item.text(what)?;
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(item.position.failure(
                format_args!("{text:?} is not one kernel argument"),
                "write each argument as an item of its own, without blanks",
            ));
        }
    }
    texts(Some(node), what)
}

fn texts(node: Option<&Node>, what: &str) -> Result<Vec<String>, Failure> {
    Ok(match node {
        Some(node) => node.texts(what)?.into_iter().map(str::to_owned).collect(),
        None => Vec::new(),
    })
}

/// The platforms of one architecture; what is wrong with any is noted.
pub(super) fn platforms(root: &Node, basearch: &str, notes: &mut Notes) -> Platforms {
    let mut platforms = Platforms::new();
    if root.is_null() {
        return platforms;
    }
    let arches = root.map("platforms.yaml").map(|map| map.entries.as_slice());
    for arch in notes.take(arches).unwrap_or_default() {
        if !ARCHITECTURES.contains(&arch.key.as_str()) {
            notes.problems.push(arch.unknown(ARCHITECTURES.iter().copied()));
        }
        if arch.value.is_null() {
            continue;
        }
        let entries = arch.value.map(&arch.key).map(|map| map.entries.as_slice());
        for entry in notes.take(entries).unwrap_or_default() {
            if let Some(platform) = notes.take(platform(entry))
                && arch.key == basearch
            {
                platforms.insert(entry.key.clone(), platform);
            }
        }
    }
    platforms
}

fn platform(entry: &Entry) -> Result<Platform, Failure> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if entry.key.is_empty() || !entry.key.chars().all(plain) {
        return Err(entry.position.failure(
            format_args!("`{}` is not a platform's name", entry.key),
            "use lower-case letters, digits, `-` and `_`, as `qemu`",
        ));
    }
    if entry.value.is_null() {
        return Ok(Platform::default());
    }
    let map = entry.value.map(&entry.key)?;
    map.only(&["grub_commands", "kernel_arguments"])?;
    for node in map.get("grub_commands").map_or(Ok(&[][..]), |node| node.list("grub_commands"))? {
        if node.text("grub_commands")?.contains('\n') {
            return Err(node.expected("grub_commands", "commands of one line each", "make each an item"));
        }
    }
    Ok(Platform {
        grub_commands: texts(map.get("grub_commands"), "grub_commands")?,
        kernel_arguments: arguments(map.get("kernel_arguments"), "kernel_arguments")?,
    })
}
