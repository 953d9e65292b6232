//! The stage that turns a raw disk into a qcow2 image.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::raw::RawDiskImage;
use crate::host::{Cmd, Tool, fs, tool};
use crate::pipeline::{Artifact, Digest, KeyHasher, Stage, Workspace, sha256_file};

const IMAGE: &str = "disk.qcow2";
const RECORD: &str = "disk.json";

/// Converts a raw disk.
#[derive(Debug, Clone)]
pub struct Qcow2 {
    /// The raw disk.
    pub disk: RawDiskImage,
}

/// A qcow2 image.
#[derive(Debug, Clone)]
pub struct Qcow2Image {
    /// The file.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub sha256: Digest,
    /// Its length in bytes.
    pub size: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    sha256: Digest,
    size: u64,
}

impl Stage for Qcow2 {
    type Output = Qcow2Image;
    const NAME: &'static str = "qcow2";
    const VERSION: u32 = 1;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("raw disk", self.disk.digest());
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[&tool::QEMU_IMG]
    }

    fn run(&self, work: &Workspace) -> Result<Qcow2Image> {
        let image = work.out().join(IMAGE);
        Cmd::new(&tool::QEMU_IMG)
            .args(["convert", "-f", "raw", "-O", "qcow2", "-o", "compat=1.1,lazy_refcounts=off"])
            .arg(&self.disk.path)
            .arg(&image)
            .log(&work.log("qemu-img"))
            .run()
            .context("converting the disk to qcow2")?;
        let size = fs::open(&image)?.metadata().context("reading the image's length")?.len();
        let record = Record { sha256: sha256_file(&image)?, size };
        let text = serde_json::to_string(&record).context("encoding the image's record")?;
        fs::write(&work.out().join(RECORD), text)?;
        Qcow2Image::load(&work.out())
    }
}

impl Artifact for Qcow2Image {
    fn load(out: &Path) -> Result<Self> {
        let text = fs::read_to_string(&out.join(RECORD))?;
        let record: Record = serde_json::from_str(&text).context("reading the image's record")?;
        Ok(Self { path: out.join(IMAGE), sha256: record.sha256, size: record.size })
    }

    fn digest(&self) -> Digest {
        self.sha256
    }
}
