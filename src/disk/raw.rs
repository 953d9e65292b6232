//! The stage that writes a raw disk.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::estimate::Usage;
use super::ext4::Ext4;
use super::grub::{self, Grub};
use super::kargs;
use super::plan::{Architecture, BOOT_UUID, DiskSize, MIB, Plan, ROOT_UUID, Role, Sector, derive_uuid};
use super::programs::Programs;
use super::sysroot::{Deployment, Sysroot};
use super::{esp, ext4, table};
use crate::failure::{Failure, Kind};
use crate::host::{Tool, fs, tool};
use crate::manifest::{ImageConfig, Platform, Platforms, RootFilesystem};
use crate::ostree::{OstreeCommit, Repo};
use crate::pipeline::{Artifact, Digest, KeyHasher, Stage, Workspace, sha256_file};

const DISK: &str = "disk.raw";
const RECORD: &str = "disk.json";
const BOOT_JOURNAL: u64 = 8 * MIB;
const ROOT_JOURNAL: u64 = 64 * MIB;
const BOOT_BYTES_PER_INODE: u64 = 16384;

/// Writes a raw disk of a commit for one platform.
#[derive(Debug, Clone)]
pub struct RawDisk {
    /// The commit.
    pub commit: OstreeCommit,
    /// The layers of the OCI image that hold the commit, and nothing else.
    pub layers: Vec<Digest>,
    /// A tree to run programs in (mke2fs, debugfs, grub-mkimage); the deployed one if none is given.
    pub tools: Option<PathBuf>,
    /// The operating system's name.
    pub name: String,
    /// The base architecture.
    pub basearch: String,
    /// image.yaml.
    pub image: ImageConfig,
    /// platforms.yaml for the architecture.
    pub platforms: Platforms,
    /// The platform's name in platforms.yaml: `qemu`, `metal`, `openstack`, …
    pub platform: String,
    /// Logical sector size.
    pub sector: Sector,
    /// How large the disk is.
    pub size: DiskSize,
    /// Seconds since 1970; no time in the image is later.
    pub epoch: u64,
}

/// A raw disk: a sparse file.
#[derive(Debug, Clone)]
pub struct RawDiskImage {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    identity: Digest,
}

#[derive(Serialize, Deserialize)]
struct Record {
    identity: Digest,
    size: u64,
}

impl RawDisk {
    /// What all derived identifiers come from, and what the image follows from.
    fn identity(&self) -> Digest {
        let mut inputs = Vec::new();
        self.describe(|name, value| inputs.push((name.to_owned(), value)));
        Digest::of(format!("{inputs:?} {}", Self::VERSION))
    }

    fn describe(&self, mut input: impl FnMut(&str, String)) {
        input("commit", self.commit.commit.to_string());
        let layers: Vec<String> = self.layers.iter().map(Digest::to_string).collect();
        input("layers", layers.join(" "));
        input("name", self.name.clone());
        input("version", self.commit.version.clone());
        input("ref", self.commit.branch.clone());
        input("basearch", self.basearch.clone());
        input("platform", self.platform.clone());
        input("platforms", self.platforms_json());
        input("kargs", self.kargs().join(" "));
        input("remote", self.image.ostree_remote.clone());
        input("rootfs", format!("{:?} {}", self.image.rootfs, self.image.rootfs_args));
        input("sector", self.sector.bytes().to_string());
        input("size", format!("{:?}", self.size));
        input("epoch", self.epoch.to_string());
    }

    fn settings(&self) -> Platform {
        self.platforms.get(&self.platform).cloned().unwrap_or_default()
    }

    fn kargs(&self) -> Vec<String> {
        kargs::compose(&self.image.extra_kargs, &self.platform, &self.settings())
    }

    fn platforms_json(&self) -> String {
        // BTreeMaps of strings always encode.
        serde_json::to_string_pretty(&self.platforms).unwrap_or_default() + "\n"
    }

    fn deployment(&self) -> Deployment {
        let aleph = serde_json::json!({
            "build": self.commit.version,
            "version": self.commit.version,
            "ref": self.commit.branch,
            "ostree-commit": self.commit.commit,
            "imgid": format!("{}-{}-{}.{}", self.name, self.commit.version, self.platform, self.basearch),
        });
        Deployment {
            commit: self.commit.commit,
            version: self.commit.version.clone(),
            name: self.name.clone(),
            branch: self.commit.branch.clone(),
            remote: Some(self.image.ostree_remote.clone()).filter(|remote| remote != "NONE"),
            layers: self.layers.clone(),
            kargs: self.kargs(),
            aleph: format!("{aleph:#}\n"),
            platforms: self.platforms_json(),
            menu: grub::menu(&self.settings().grub_commands),
        }
    }

    fn write(&self, disk: &Path, sysroot: &Sysroot, programs: &Programs) -> Result<u64> {
        let architecture = Architecture::from_basearch(&self.basearch)?;
        let usage = Usage::of_tree(&sysroot.root)?;
        let bytes_per_inode = usage.bytes_per_inode(ROOT_JOURNAL);
        let root_size = usage.file_system_size(ROOT_JOURNAL, bytes_per_inode);
        let plan = Plan::new(architecture, self.sector, self.size, root_size, self.identity())?;
        check_boot(sysroot, plan.partition(Role::Boot).size)?;
        // A fresh file: every byte that is not written is zero, and a hole.
        let writing = || format!("writing {}", disk.display());
        let file =
            OpenOptions::new().read(true).write(true).create_new(true).open(disk).with_context(writing)?;
        file.set_len(plan.size).with_context(writing)?;
        // The root file system takes as long as everything else; each writes its own part of the file.
        std::thread::scope(|scope| {
            let root = scope.spawn(|| self.write_root(disk, sysroot, programs, &plan, bytes_per_inode));
            let rest = self.write_rest(&file, disk, sysroot, programs, &plan);
            // A thread ends without a result only by a panic, which is a mistake of nosa's.
            let root = root.join().unwrap_or_else(|_| bail!("writing the root file system"));
            rest.and(root)
        })?;
        Ok(plan.size)
    }

    fn write_root(
        &self,
        disk: &Path,
        sysroot: &Sysroot,
        programs: &Programs,
        plan: &Plan,
        bytes_per_inode: u64,
    ) -> Result<()> {
        let file_system = Ext4 {
            label: "root",
            uuid: ROOT_UUID,
            hash_seed: derive_uuid(self.identity(), "root hash seed"),
            journal: ROOT_JOURNAL,
            bytes_per_inode,
            // The first boot draws a new UUID: with a seed of its own, checksums need no rewriting then.
            features: &["metadata_csum_seed"],
            arguments: &self.image.rootfs_args,
            epoch: self.epoch,
        };
        let immutable = ["/".to_owned(), format!("/{}", self.deployment().directory())];
        file_system.write(programs, &sysroot.root, disk, plan.partition(Role::Root), &immutable)
    }

    /// Everything but the root file system.
    fn write_rest(
        &self,
        mut file: &File,
        disk: &Path,
        sysroot: &Sysroot,
        programs: &Programs,
        plan: &Plan,
    ) -> Result<()> {
        let file_system = Ext4 {
            label: "boot",
            uuid: BOOT_UUID,
            hash_seed: derive_uuid(self.identity(), "boot hash seed"),
            journal: BOOT_JOURNAL,
            bytes_per_inode: BOOT_BYTES_PER_INODE,
            features: &[],
            arguments: "",
            epoch: self.epoch,
        };
        file_system.write(programs, &sysroot.boot, disk, plan.partition(Role::Boot), &[])?;
        let grub = Grub::make(programs, Architecture::from_basearch(&self.basearch)?, plan)?;
        table::write(&mut file, plan, grub.boot_code.as_ref())?;
        if let Some(core) = &grub.core {
            file.write_all_at(core, plan.partition(Role::Loader).offset)
                .with_context(|| format!("writing {}", disk.display()))?;
        }
        esp::write(&mut file, plan.partition(Role::EfiSystem), self.sector, &grub.esp)
    }
}

impl Stage for RawDisk {
    type Output = RawDiskImage;
    const NAME: &'static str = "raw-disk";
    const VERSION: u32 = 5;

    fn key(&self, hash: &mut KeyHasher) {
        // The programs and modules that write the image are files of the commit itself.
        self.describe(|name, value| hash.input(name, value));
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[&tool::BWRAP]
    }

    fn run(&self, work: &Workspace) -> Result<RawDiskImage> {
        if self.image.rootfs == RootFilesystem::Xfs {
            return Err(xfs_is_missing().into());
        }
        let repo = Repo::open(&work.shared(&self.commit.repo)?)?;
        let dir = work.tmp().join("sysroot");
        let scratch = work.tmp().join("scratch");
        fs::create_dir_all(&scratch)?;
        let deployment = self.deployment();
        let sysroot = Sysroot::make(&deployment, &repo, &dir)?;
        let tree = self.tools.clone().unwrap_or_else(|| sysroot.root.join(deployment.directory()));
        let programs = Programs { tree, scratch, log: work.log(Self::NAME) };
        if let Some(warning) = ext4::check(&programs)? {
            work.report.warn(warning);
        }
        let size = self.write(&work.out().join(DISK), &sysroot, &programs)?;
        let record = Record { identity: self.identity(), size };
        let text = serde_json::to_string(&record).context("encoding the disk's record")?;
        fs::write(&work.out().join(RECORD), text)?;
        RawDiskImage::load(&work.out())
    }
}

impl RawDiskImage {
    /// The digest of the file's bytes, holes included: for publishing it.
    pub fn sha256(&self) -> Result<Digest> {
        sha256_file(&self.path)
    }
}

impl Artifact for RawDiskImage {
    fn load(out: &Path) -> Result<Self> {
        let text = fs::read_to_string(&out.join(RECORD))?;
        let record: Record = serde_json::from_str(&text).context("reading the disk's record")?;
        Ok(Self { path: out.join(DISK), size: record.size, identity: record.identity })
    }

    /// The digest of what the image follows from: it is the same to the last bit for the same inputs, and
    /// reading gibibytes of holes would cost more than writing the image did.
    fn digest(&self) -> Digest {
        self.identity
    }
}

/// Refuses kernel and initramfs that the boot partition has no room for.
fn check_boot(sysroot: &Sysroot, room: u64) -> Result<()> {
    let needed = Usage::of_tree(&sysroot.boot)?.least_size(BOOT_JOURNAL, BOOT_BYTES_PER_INODE);
    if needed <= room {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Build,
        format!(
            "kernel and initramfs need {} MiB of the boot partition, which has {} MiB",
            needed.div_ceil(MIB),
            room / MIB
        ),
        "make the initramfs smaller: leave dracut modules or firmware out",
    )
    .into())
}

fn xfs_is_missing() -> Failure {
    Failure::new(
        Kind::Build,
        "image.yaml: rootfs: xfs: nosa writes no XFS yet (mkfs.xfs fills a file system from a tree only since 6.17)",
        "set `rootfs: ext4`",
    )
}
