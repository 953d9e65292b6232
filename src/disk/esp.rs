//! The EFI system partition: a FAT file system with fixed label, volume id and dates.

use std::io::{Read, Seek, SeekFrom, Write};

use anyhow::{Context as _, Result};
use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use fscommon::{BufStream, StreamSlice};

use super::plan::{ESP_VOLUME_ID, Partition, Sector};

/// The size of a directory entry.
const ENTRY: usize = 32;
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
    format(&mut stream, sector)?;
    let system =
        FileSystem::new(&mut stream, FsOptions::new()).context("opening the EFI system partition")?;
    for file in files {
        write_file(&system, file)
            .with_context(|| format!("writing {} to the EFI system partition", file.path))?;
    }
    // Counts the free clusters, which FAT32 stores; without it fsck.fat asks for the summary.
    system.stats().context("counting the EFI system partition's clusters")?;
    system.unmount().context("finishing the EFI system partition")?;
    correct_parents(&mut stream).context("correcting the EFI system partition")?;
    stream.flush().context("writing the EFI system partition")
}

fn format<D: Read + Write + Seek>(stream: &mut D, sector: Sector) -> Result<()> {
    let (kind, bytes) = match sector {
        Sector::B512 => (FatType::Fat32, 512),
        Sector::B4096 => (FatType::Fat16, 4096),
    };
    let options = FormatVolumeOptions::new()
        .fat_type(kind)
        .bytes_per_sector(bytes)
        .volume_id(ESP_VOLUME_ID)
        .volume_label(LABEL);
    fatfs::format_volume(stream, options).context("formatting the EFI system partition")
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

/// Has the directories in the root name no cluster as their parent.
///
/// The FAT specification wants 0 where the parent is the root; fatfs writes FAT32's root cluster there,
/// and fsck.fat objects.
fn correct_parents<D: Read + Write + Seek>(stream: &mut D) -> std::io::Result<()> {
    let mut boot = [0; 64];
    read_at(stream, 0, &mut boot)?;
    let short = |at: usize| u64::from(u16::from_le_bytes([boot[at], boot[at + 1]]));
    let long =
        |at: usize| u64::from(u32::from_le_bytes([boot[at], boot[at + 1], boot[at + 2], boot[at + 3]]));
    let (sector, per_cluster, reserved, tables) =
        (short(11), u64::from(boot[13]), short(14), u64::from(boot[16]));
    let (table, root) = (long(36), long(44));
    if short(22) != 0 {
        // FAT16: its root has no cluster, and fatfs writes 0.
        return Ok(());
    }
    let place = |cluster: u64| (reserved + tables * table + (cluster - 2) * per_cluster) * sector;
    let mut listing = vec![0; usize::try_from(per_cluster * sector).unwrap_or_default()];
    read_at(stream, place(root), &mut listing)?;
    for entry in listing.chunks_exact(ENTRY).take_while(|entry| entry[0] != 0) {
        // Directories only; a long name's entry has all four low bits of the attributes.
        if entry[11] & 0x18 == 0x10 {
            let high = u64::from(u16::from_le_bytes([entry[20], entry[21]]));
            let parent =
                place(high << 16 | u64::from(u16::from_le_bytes([entry[26], entry[27]]))) + ENTRY as u64;
            for at in [20, 26] {
                stream.seek(SeekFrom::Start(parent + at))?;
                stream.write_all(&[0, 0])?;
            }
        }
    }
    Ok(())
}

fn read_at<D: Read + Seek>(stream: &mut D, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
    stream.seek(SeekFrom::Start(offset))?;
    stream.read_exact(buffer)
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
