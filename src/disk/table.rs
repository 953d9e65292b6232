//! The partition table: GPT, primary and backup, under a protective MBR that may carry boot code.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{Read, Seek, Write};

use anyhow::{Context as _, Result};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{OperatingSystem, Type};

use super::plan::{DISK_GUID, Plan, Sector};

/// Writes the table of `plan` to a disk of its size; `boot_code` is what a BIOS runs.
pub(super) fn write<D: Read + Write + Seek + Debug>(
    disk: &mut D,
    plan: &Plan,
    boot_code: Option<&[u8; 440]>,
) -> Result<()> {
    let sector = match plan.sector {
        Sector::B512 => LogicalBlockSize::Lb512,
        Sector::B4096 => LogicalBlockSize::Lb4096,
    };
    let sectors = plan.size / plan.sector.bytes();
    let mut mbr = ProtectiveMBR::with_lb_size(u32::try_from(sectors - 1).unwrap_or(u32::MAX));
    if let Some(code) = boot_code {
        mbr.set_bootcode(*code);
    }
    mbr.overwrite_lba0(disk).context("writing the protective MBR")?;
    let mut table = GptConfig::new()
        .writable(true)
        .logical_block_size(sector)
        .create_from_device(disk, Some(DISK_GUID))
        .context("planning the partition table")?;
    table.update_partitions(entries(plan)).context("planning the partition table")?;
    table.write().context("writing the partition table")?;
    Ok(())
}

fn entries(plan: &Plan) -> BTreeMap<u32, gpt::partition::Partition> {
    let bytes = plan.sector.bytes();
    plan.partitions
        .iter()
        .map(|partition| {
            let entry = gpt::partition::Partition {
                part_type_guid: Type { guid: partition.kind, os: OperatingSystem::None },
                part_guid: partition.guid,
                first_lba: partition.offset / bytes,
                last_lba: (partition.offset + partition.size) / bytes - 1,
                flags: 0,
                name: partition.name.to_owned(),
            };
            (partition.number, entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Architecture, DiskSize, MIB};
    use super::*;
    use crate::pipeline::Digest;
    use std::io::Cursor;

    #[test]
    fn both_tables_read_back_and_the_boot_code_is_kept() {
        for sector in [Sector::B512, Sector::B4096] {
            let plan = Plan::new(Architecture::X86_64, sector, DiskSize::Fit, MIB, Digest::of("x")).unwrap();
            let mut disk = Cursor::new(vec![0; usize::try_from(plan.size).unwrap()]);
            write(&mut disk, &plan, Some(&[0xEB; 440])).unwrap();
            assert_eq!(&disk.get_ref()[..440], &[0xEB; 440]);
            assert_eq!(&disk.get_ref()[510..512], &[0x55, 0xAA]);
            let sector = LogicalBlockSize::try_from(sector.bytes()).unwrap();
            let read = GptConfig::new()
                .logical_block_size(sector)
                .only_valid_headers(true)
                .open_from_device(disk)
                .unwrap();
            assert_eq!(*read.guid(), DISK_GUID);
            assert_eq!(read.partitions(), &{
                let mut wanted = entries(&plan);
                for (number, entry) in &mut wanted {
                    entry.part_type_guid = read.partitions()[number].part_type_guid.clone();
                    assert_eq!(entry.part_type_guid.guid, plan.partitions[*number as usize - 1].kind);
                }
                wanted
            });
        }
    }
}
