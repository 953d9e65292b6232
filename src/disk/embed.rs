//! GRUB on a BIOS disk: the bytes that `grub-install` would write, computed without a device.
//!
//! boot.img is the first 440 bytes of the disk; it loads one sector, the first of core.img, which loads
//! the rest by a list of sector runs that grows down from that sector's end. (Facts: GRUB's
//! include/grub/i386/pc/boot.h and grub-core/boot/i386/pc/{boot,diskboot}.S.)
//!
//! | where | what |
//! |---|---|
//! | boot.img 0x5c, u64 | sector of core.img |
//! | boot.img 0x66, 2 bytes | a jump over the check of the drive number; two NOPs for hard disks |
//! | core.img 0x1f4, u64, u16, u16 | first run: start, sectors, segment it is loaded to |
//! | core.img 0x1e8, 12 bytes | second run; zero ends the list |

use anyhow::{Result, bail};

const SECTOR: usize = 512;
/// The part of the first sector that is code: partition table and disk signature follow.
const CODE: usize = 440;
const KERNEL_SECTOR: usize = 0x5c;
const DRIVE_CHECK: usize = 0x66;
const DRIVE_CHECK_JUMP: [u8; 2] = [0xeb, 0x05];
const NOPS: [u8; 2] = [0x90, 0x90];
const FIRST_RUN: usize = 0x1f4;
const SECOND_RUN: usize = FIRST_RUN - 12;

/// boot.img as the disk's first 440 bytes, loading core.img from `sector`.
pub(super) fn boot_code(boot: &[u8], sector: u64) -> Result<[u8; CODE]> {
    if boot.len() != SECTOR || number(boot, KERNEL_SECTOR, 8) != 1 {
        bail!(
            "boot.img is not GRUB's: {} bytes, core image at sector {}",
            boot.len(),
            number(boot, KERNEL_SECTOR, 8)
        );
    }
    if boot[DRIVE_CHECK..DRIVE_CHECK + 2] != DRIVE_CHECK_JUMP {
        bail!("boot.img has no drive check where GRUB's has one");
    }
    let mut code = [0; CODE];
    code.copy_from_slice(&boot[..CODE]);
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&sector.to_le_bytes());
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&NOPS);
    Ok(code)
}

/// core.img for a place of `room` bytes that starts at `sector`, padded to whole sectors.
pub(super) fn core_image(mut core: Vec<u8>, sector: u64, room: u64) -> Result<Vec<u8>> {
    let sectors = core.len().div_ceil(SECTOR);
    if core.len() <= SECTOR || (sectors * SECTOR) as u64 > room {
        bail!("core.img has {} bytes, its place {room}", core.len());
    }
    let (start, length) = (number(&core, FIRST_RUN, 8), number(&core, FIRST_RUN + 8, 2));
    if start != 2 || length != sectors as u64 - 1 || core[SECOND_RUN..FIRST_RUN].iter().any(|byte| *byte != 0)
    {
        bail!("core.img's sector list is not as grub-mkimage writes it: start {start}, {length} sectors");
    }
    core[FIRST_RUN..FIRST_RUN + 8].copy_from_slice(&(sector + 1).to_le_bytes());
    core.resize(sectors * SECTOR, 0);
    Ok(core)
}

/// A little-endian number of `width` bytes; 0 beyond the end.
fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    let bytes = bytes.get(at..at + width).unwrap_or_default();
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot() -> Vec<u8> {
        let mut boot = vec![0x11; SECTOR];
        boot[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&1u64.to_le_bytes());
        boot[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&DRIVE_CHECK_JUMP);
        boot
    }

    fn core(length: usize) -> Vec<u8> {
        let mut core = vec![0; length];
        core[FIRST_RUN..FIRST_RUN + 8].copy_from_slice(&2u64.to_le_bytes());
        let sectors = u16::try_from(length.div_ceil(SECTOR) - 1).unwrap();
        core[FIRST_RUN + 8..FIRST_RUN + 10].copy_from_slice(&sectors.to_le_bytes());
        core
    }

    #[test]
    fn boot_code_points_at_the_core_image() {
        let code = boot_code(&boot(), 2048).unwrap();
        assert_eq!(number(&code, KERNEL_SECTOR, 8), 2048);
        assert_eq!(code[DRIVE_CHECK..DRIVE_CHECK + 2], NOPS);
        assert_eq!(code[439], 0x11);
    }

    #[test]
    fn the_core_image_continues_in_the_sector_after_its_first() {
        let patched = core_image(core(1300), 2048, 1 << 20).unwrap();
        assert_eq!(patched.len(), 3 * SECTOR);
        assert_eq!((number(&patched, FIRST_RUN, 8), number(&patched, FIRST_RUN + 8, 2)), (2049, 2));
    }

    #[test]
    fn images_that_are_not_grubs_are_refused() {
        assert!(boot_code(&[0; 512], 2048).is_err());
        assert!(boot_code(&boot()[..500], 2048).is_err());
        assert!(core_image(core(1300), 2048, 1024).is_err());
        let mut twice = core(1300);
        twice[SECOND_RUN] = 1;
        assert!(core_image(twice, 2048, 1 << 20).is_err());
        assert!(core_image(vec![], 2048, 1 << 20).is_err());
    }
}
