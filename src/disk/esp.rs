//! The EFI system partition: a FAT file system with fixed label, volume id and dates.

use std::io::{Read, Seek, Write};

use anyhow::{Context as _, Result};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use fscommon::{BufStream, StreamSlice};

use super::plan::{ESP_VOLUME_ID, Partition, Sector};

const LABEL: [u8; 11] = *b"EFI-SYSTEM ";

/// A file of the partition.
#[derive(Debug, Clone)]
pub(super) struct EspFile {
    /// Its path, e.g. `EFI/BOOT/BOOTX64.EFI`; the directories are made.
    pub path: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// Formats the partition and writes the files. Dates are FAT's first day: fatfs is built without a clock.
///
/// FAT32, except with 4096-byte sectors: then 127 MiB have too few clusters for it, and FAT16 it is.
pub(super) fn write<D: Read + Write + Seek>(
    disk: &mut D,
    partition: &Partition,
    sector: Sector,
    files: &[EspFile],
) -> Result<()> {
    let slice = StreamSlice::new(disk, partition.offset, partition.offset + partition.size)
        .context("seeking to the EFI system partition")?;
    let mut stream = BufStream::new(slice);
    let (kind, bytes) = match sector {
        Sector::B512 => (FatType::Fat32, 512),
        Sector::B4096 => (FatType::Fat16, 4096),
    };
    let options = FormatVolumeOptions::new()
        .fat_type(kind)
        .bytes_per_sector(bytes)
        .volume_id(ESP_VOLUME_ID)
        .volume_label(LABEL);
    fatfs::format_volume(&mut stream, options).context("formatting the EFI system partition")?;
    let system = FileSystem::new(stream, FsOptions::new()).context("opening the EFI system partition")?;
    for file in files {
        write_file(&system, file)
            .with_context(|| format!("writing {} to the EFI system partition", file.path))?;
    }
    // Counts the free clusters, which FAT32 stores; without it fsck.fat asks for the summary.
    system.stats().context("counting the EFI system partition's clusters")?;
    system.unmount().context("finishing the EFI system partition")
}

fn write_file<D: Read + Write + Seek>(system: &FileSystem<D>, file: &EspFile) -> std::io::Result<()> {
    let mut dir = system.root_dir();
    let mut parts = file.path.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_some() {
            dir = dir.create_dir(part)?;
        } else {
            let mut target = dir.create_file(part)?;
            target.truncate()?;
            target.write_all(&file.content)?;
            target.flush()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Architecture, DiskSize, MIB, Plan, Role};
    use super::*;
    use crate::pipeline::Digest;
    use std::io::Cursor;

    #[test]
    fn files_read_back_from_the_slice_alone() {
        for sector in [Sector::B512, Sector::B4096] {
            let plan = Plan::new(Architecture::X86_64, sector, DiskSize::Fit, MIB, Digest::of("x")).unwrap();
            let esp = plan.partition(Role::EfiSystem);
            let mut disk = Cursor::new(vec![0xAAu8; usize::try_from(plan.size).unwrap()]);
            // What is not written must be zero, as on the fresh file this is meant for.
            disk.get_mut()[usize::try_from(esp.offset).unwrap()..].fill(0);
            let files = [
                EspFile { path: "EFI/BOOT/BOOTX64.EFI".into(), content: vec![7; 100_000] },
                EspFile { path: "EFI/BOOT/grub.cfg".into(), content: b"configfile x\n".to_vec() },
            ];
            write(&mut disk, esp, sector, &files).unwrap();
            assert!(disk.get_ref()[..usize::try_from(esp.offset).unwrap()].iter().all(|byte| *byte == 0xAA));
            let slice = StreamSlice::new(disk, esp.offset, esp.offset + esp.size).unwrap();
            let system = FileSystem::new(slice, FsOptions::new()).unwrap();
            assert_eq!(system.volume_id(), ESP_VOLUME_ID);
            let mut text = String::new();
            system.root_dir().open_file("efi/boot/GRUB.CFG").unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "configfile x\n");
        }
    }
}
