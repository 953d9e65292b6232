//! Disk files, by qemu-img: what an image is, throw-away overlays on it, blank disks.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::failure::{Failure, Kind};
use crate::host::{Cmd, fs, tool};

use super::machine::DiskFormat;

/// What qemu-img says of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its format.
    pub format: DiskFormat,
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
}

/// Looks at an image.
pub fn inspect(image: &Path) -> Result<ImageInfo> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Info {
        format: String,
        virtual_size: u64,
    }
    if !image.is_file() {
        return Err(Failure::new(
            Kind::Artifact,
            format!("there is no disk image {}", image.display()),
            "build one with `nosa build`, or name another with --image",
        )
        .into());
    }
    // -U: a running machine may hold the image, which its description does not mind.
    let output = Cmd::new(&tool::QEMU_IMG).args(["info", "-U", "--output=json"]).arg(image).output()?;
    let info: Info = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("reading what {} is", image.display()))?;
    let format = match info.format.as_str() {
        "qcow2" => DiskFormat::Qcow2,
        "raw" => DiskFormat::Raw,
        other => {
            return Err(Failure::new(
                Kind::Artifact,
                format!("{} is a {other} image", image.display()),
                "give a qcow2 or raw image",
            )
            .into());
        }
    };
    Ok(ImageInfo { format, virtual_size: info.virtual_size })
}

/// Makes a qcow2 file that takes the writes meant for `base`, at least `size_gib` large.
pub fn overlay(base: &Path, overlay: &Path, size_gib: Option<u32>) -> Result<()> {
    let info = inspect(base)?;
    let base = std::path::absolute(base).with_context(|| format!("finding {}", base.display()))?;
    let mut create = Cmd::new(&tool::QEMU_IMG)
        .args(["create", "-q", "-f", "qcow2", "-F", info.format.name(), "-b"])
        .arg(base)
        .arg(overlay);
    let wanted = size_gib.map(|gib| u64::from(gib) << 30);
    if let Some(size) = wanted.filter(|size| *size > info.virtual_size) {
        create = create.arg(size.to_string());
    }
    create.run().with_context(|| format!("creating overlay {}", overlay.display()))
}

/// Makes an empty sparse disk.
pub fn blank(path: &Path, size_gib: u32) -> Result<()> {
    fs::create(path)?.set_len(u64::from(size_gib) << 30).with_context(|| format!("sizing {}", path.display()))
}

/// Copies an image into a raw file, for a disk that QEMU must open twice.
pub fn raw_copy(image: &Path, copy: &Path) -> Result<()> {
    Cmd::new(&tool::QEMU_IMG)
        .args(["convert", "-O", "raw"])
        .arg(image)
        .arg(copy)
        .run()
        .with_context(|| format!("copying {}", image.display()))
}
