//! The partition plan: pure arithmetic, no I/O. CoreOS's layout (coreos-assembler's create_disk.sh and
//! osbuild manifests), so that its tests, Ignition and coreos-installer find what they expect:
//!
//! ```text
//!   1 MiB  BIOS-BOOT (x86_64) or reserved (aarch64)    1 MiB
//!   2 MiB  EFI-SYSTEM                                127 MiB
//! 129 MiB  boot                                      384 MiB
//! 513 MiB  root                                      as planned, grown at first boot
//!    end   backup GPT                                  1 MiB at least
//! ```

use uuid::Uuid;

use crate::failure::{Failure, Kind};
use crate::pipeline::Digest;

/// One MiB.
pub(super) const MIB: u64 = 1 << 20;
/// Partitions start here, are multiples of this, and the last one ends this far before the end.
const ALIGNMENT: u64 = MIB;

/// The disk GUID that says "not yet this machine's own": the first boot draws a new one.
pub(super) const DISK_GUID: Uuid = Uuid::from_u128(0x0000_0000_0000_4000_a000_0000_0000_0001);
/// The boot file system's UUID until the first boot draws a new one.
pub(super) const BOOT_UUID: Uuid = Uuid::from_u128(0x96d1_5588_3596_4b3c_adca_a2ff_7279_ea63);
/// The root file system's UUID until the first boot draws a new one.
pub(super) const ROOT_UUID: Uuid = Uuid::from_u128(0x9106_78ff_f77e_4a7d_8d53_86f2_ac47_a823);
/// The EFI system partition's volume id.
pub(super) const ESP_VOLUME_ID: u32 = 0x7B77_95E7;

/// Under which nosa derives its identifiers.
const NAMESPACE: Uuid = Uuid::from_u128(0x6e6f_7361_0000_5000_8000_6469_736b_0000);

const TYPE_BIOS_BOOT: Uuid = Uuid::from_u128(0x2168_6148_6449_6e6f_744e_6565_6445_4649);
const TYPE_RESERVED: Uuid = Uuid::from_u128(0x8da6_3339_0007_60c0_c436_083a_c823_0908);
const TYPE_EFI_SYSTEM: Uuid = Uuid::from_u128(0xc12a_7328_f81f_11d2_ba4b_00a0_c93e_c93b);
const TYPE_XBOOTLDR: Uuid = Uuid::from_u128(0xbc13_c2ff_59e6_4262_a352_b275_fd6f_7172);
const TYPE_ROOT_X86_64: Uuid = Uuid::from_u128(0x4f68_bce3_e8cd_4db1_96e7_fbca_f984_b709);
const TYPE_ROOT_AARCH64: Uuid = Uuid::from_u128(0xb921_b045_1df0_41c3_af44_4c6f_280d_3fae);

/// A processor architecture that nosa writes disks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// BIOS and UEFI.
    X86_64,
    /// UEFI only.
    Aarch64,
}

impl Architecture {
    /// The architecture by its base architecture name.
    pub fn from_basearch(name: &str) -> Result<Self, Failure> {
        match name {
            "x86_64" => Ok(Self::X86_64),
            "aarch64" => Ok(Self::Aarch64),
            other => Err(Failure::new(
                Kind::Config,
                format!("nosa writes no disk images for architecture {other}"),
                "build for x86_64 or aarch64",
            )),
        }
    }

    /// The base architecture name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// A disk's logical sector size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sector {
    /// 512 bytes.
    B512,
    /// 4096 bytes: no BIOS boots from such a disk.
    B4096,
}

impl Sector {
    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::B512 => 512,
            Self::B4096 => 4096,
        }
    }
}

/// How large a disk is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSize {
    /// As large as its partitions need: for images that are written to real disks.
    Fit,
    /// `size` of image.yaml in GiB: for images that a hypervisor attaches.
    Gib(u64),
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// GRUB's core image (x86_64), or nothing at all (aarch64).
    Loader,
    /// The EFI system partition.
    EfiSystem,
    /// /boot.
    Boot,
    /// The physical root.
    Root,
}

/// One partition; offset and size in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its number in the table, from 1.
    pub number: u32,
    /// Its name in the table (PARTLABEL).
    pub name: &'static str,
    /// Its type GUID.
    pub kind: Uuid,
    /// Its own GUID.
    pub guid: Uuid,
    /// Where it starts.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
}

/// A disk and its partitions in the order of their offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The logical sector size.
    pub sector: Sector,
    /// The size of the disk in bytes.
    pub size: u64,
    /// The partitions.
    pub partitions: Vec<Partition>,
}

impl Plan {
    /// Plans a disk whose root partition has room for `root` bytes; `identity` is what the partitions'
    /// GUIDs are derived from.
    pub fn new(
        architecture: Architecture,
        sector: Sector,
        size: DiskSize,
        root: u64,
        identity: Digest,
    ) -> Result<Self, Failure> {
        let (loader, loader_kind, root_kind) = match architecture {
            Architecture::X86_64 => ("BIOS-BOOT", TYPE_BIOS_BOOT, TYPE_ROOT_X86_64),
            Architecture::Aarch64 => ("reserved", TYPE_RESERVED, TYPE_ROOT_AARCH64),
        };
        let rows = [
            (Role::Loader, loader, loader_kind, MIB),
            (Role::EfiSystem, "EFI-SYSTEM", TYPE_EFI_SYSTEM, 127 * MIB),
            (Role::Boot, "boot", TYPE_XBOOTLDR, 384 * MIB),
            (Role::Root, "root", root_kind, root.next_multiple_of(ALIGNMENT)),
        ];
        let mut offset = ALIGNMENT;
        let mut partitions = Vec::with_capacity(rows.len());
        for (number, (role, name, kind, size)) in (1..).zip(rows) {
            let guid = derive_uuid(identity, name);
            partitions.push(Partition { role, number, name, kind, guid, offset, size });
            offset += size;
        }
        let needed = offset + ALIGNMENT;
        let size = match size {
            DiskSize::Fit => needed,
            DiskSize::Gib(gib) => gib << 30,
        };
        if size < needed {
            return Err(Failure::new(
                Kind::Build,
                format!(
                    "the image size of {} MiB is too small for the tree: it needs a root partition of {} MiB and a disk of {} MiB",
                    size / MIB,
                    root.div_ceil(MIB),
                    needed / MIB
                ),
                format!(
                    "raise `size` in image.yaml to {} or more, or take packages out",
                    needed.div_ceil(1 << 30)
                ),
            ));
        }
        Ok(Self { sector, size, partitions })
    }

    /// The partition for `role`.
    #[must_use]
    pub fn partition(&self, role: Role) -> &Partition {
        // Every plan has one partition of each role, in the order of `Role`.
        &self.partitions[role as usize]
    }
}

/// A UUID (version 5) that follows from an image's content and the name of what it is for.
#[must_use]
pub(super) fn derive_uuid(identity: Digest, name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, format!("{identity} {name}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(architecture: Architecture, size: DiskSize, root: u64) -> Result<Plan, Failure> {
        Plan::new(architecture, Sector::B512, size, root, Digest::of("commit"))
    }

    #[test]
    fn partitions_are_contiguous_and_named_as_coreos_names_them() {
        let plan = plan(Architecture::X86_64, DiskSize::Gib(10), 1500 * MIB + 1).unwrap();
        let rows: Vec<_> = plan.partitions.iter().map(|p| (p.name, p.offset / MIB, p.size / MIB)).collect();
        assert_eq!(
            rows,
            [("BIOS-BOOT", 1, 1), ("EFI-SYSTEM", 2, 127), ("boot", 129, 384), ("root", 513, 1501)]
        );
        assert_eq!(plan.size, 10 << 30);
        assert_eq!(plan.partition(Role::Root).number, 4);
    }

    #[test]
    fn aarch64_has_a_reserved_partition_and_its_own_root_type() {
        let plan = plan(Architecture::Aarch64, DiskSize::Fit, MIB).unwrap();
        assert_eq!(plan.partition(Role::Loader).name, "reserved");
        assert_eq!(plan.partition(Role::Root).kind, TYPE_ROOT_AARCH64);
        assert_eq!(plan.size, (513 + 1 + 1) * MIB);
    }

    #[test]
    fn a_tree_that_does_not_fit_names_both_sizes_and_the_cure() {
        let failure = plan(Architecture::X86_64, DiskSize::Gib(2), 1700 * MIB).unwrap_err();
        assert_eq!(failure.kind, Kind::Build);
        assert!(failure.cause.contains("2048 MiB") && failure.cause.contains("1700 MiB"), "{failure}");
        assert!(failure.cure.contains("`size` in image.yaml to 3"), "{}", failure.cure);
        assert!(plan(Architecture::X86_64, DiskSize::Gib(2), (2048 - 514) * MIB).is_ok());
    }

    #[test]
    fn guids_follow_from_the_content() {
        let guid = |content: &str, name| derive_uuid(Digest::of(content), name);
        assert_eq!(guid("a", "root"), guid("a", "root"));
        assert_ne!(guid("a", "root"), guid("b", "root"));
        assert_ne!(guid("a", "root"), guid("a", "boot"));
        assert_eq!(guid("a", "root").get_version_num(), 5);
    }
}
