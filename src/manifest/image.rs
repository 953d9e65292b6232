//! image.yaml and platforms.yaml: flattened as coreos-assembler flattens them, defaults filled in.

use std::path::Path;

use super::include::Walk;
use super::model::{ImageConfig, Platform, Platforms, RootFilesystem};
use crate::document::{Entry, Map, Node, Value};
use crate::failure::Failure;

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
    ("live-rootfs-fstype", "live images hold a squashfs"),
    ("live-rootfs-fsoptions", "live images hold a squashfs"),
    ("bootc-install-to-fs", "disks are written by nosa"),
    ("grub-script", "GRUB's configuration is nosa's own"),
];

/// Reads image.yaml and what it includes.
pub(super) fn load_image(walk: &mut Walk<'_>, path: &Path) -> Result<ImageConfig, Failure> {
    let mut chain = Vec::new();
    let mut merged = Map::default();
    let mut next = Some((path.to_owned(), None));
    while let Some((path, from)) = next.take() {
        let root = walk.document(&path, from.as_ref())?;
        let mut map = if root.is_null() { Map::default() } else { root.map("image.yaml")?.clone() };
        chain.push(walk.name(&path));
        if let Some(at) = map.entries.iter().position(|entry| entry.key == "include") {
            let include = map.entries.remove(at).value;
            let target = path.with_file_name("").join(include.text("include")?);
            let name = walk.name(&target);
            if chain.contains(&name) {
                return Err(include.position.failure(
                    format_args!("include goes in a circle: {} → {name}", chain.join(" → ")),
                    "remove one of these includes",
                ));
            }
            next = Some((target, Some(include.position)));
        }
        map.entries.iter().try_for_each(known)?;
        merge(&mut merged, map);
    }
    warn(&merged, &mut walk.warnings);
    config(&merged, path, walk)
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

fn config(map: &Map, path: &Path, walk: &Walk<'_>) -> Result<ImageConfig, Failure> {
    let text = |key: &str, default: &str, choices: &[&str]| -> Result<String, Failure> {
        let Some(node) = map.get(key) else { return Ok(default.to_owned()) };
        let text = node.text(key)?;
        if choices.is_empty() || choices.contains(&text) {
            return Ok(text.to_owned());
        }
        Err(node.expected(key, &format!("one of {}", choices.join(", ")), "choose one of them"))
    };
    let Some(size) = map.get("size") else {
        let cause = format!("{}: `size` is missing", walk.name(path));
        return Err(Failure::new(
            crate::failure::Kind::Config,
            cause,
            "add the disks' size in GB: `size: 10`",
        ));
    };
    if size.natural("size")? == 0 || size.natural("size")? > 65_536 {
        return Err(size.expected("size", "a number of GB from 1 to 65536", "write `size: 10`"));
    }
    let rootfs = match text("rootfs", "xfs", &["ext4", "xfs"])?.as_str() {
        "ext4" => RootFilesystem::Ext4,
        _ => RootFilesystem::Xfs,
    };
    text("bootfs", "ext4", &["ext4"])?;
    text("ostree-format", "oci-chunked-v1", &["oci-chunked-v1"])?;
    if let Some(node) = map.get("bootfs_metadata_csum_seed") {
        node.boolean("bootfs_metadata_csum_seed")?;
    }
    Ok(ImageConfig {
        size: size.natural("size")?,
        extra_kargs: texts(map.get("extra-kargs"), "extra-kargs")?,
        rootfs,
        rootfs_args: text("rootfs-args", "", &[])?,
        ostree_remote: text("ostree-remote", "NONE", &[])?,
        compressor: text("compressor", "gzip", &["gzip", "xz", "zstd"])?,
        squashfs_compression: text("squashfs-compression", "zstd", &["zstd", "xz", "gzip", "lz4", "lzo"])?,
    })
}

fn texts(node: Option<&Node>, what: &str) -> Result<Vec<String>, Failure> {
    Ok(match node {
        Some(node) => node.texts(what)?.into_iter().map(str::to_owned).collect(),
        None => Vec::new(),
    })
}

/// The platforms of one architecture.
pub(super) fn platforms(root: &Node, basearch: &str) -> Result<Platforms, Failure> {
    let mut platforms = Platforms::new();
    if root.is_null() {
        return Ok(platforms);
    }
    for arch in &root.map("platforms.yaml")?.entries {
        if arch.value.is_null() {
            continue;
        }
        for entry in &arch.value.map(&arch.key)?.entries {
            let mut platform = Platform::default();
            if !entry.value.is_null() {
                let map = entry.value.map(&entry.key)?;
                map.only(&["grub_commands", "kernel_arguments"])?;
                platform.grub_commands = texts(map.get("grub_commands"), "grub_commands")?;
                platform.kernel_arguments = texts(map.get("kernel_arguments"), "kernel_arguments")?;
            }
            if arch.key == basearch {
                platforms.insert(entry.key.clone(), platform);
            }
        }
    }
    Ok(platforms)
}
