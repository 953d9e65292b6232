//! Which accelerator executes guests. A /dev/kvm that opens may still hang or crash every guest, so KVM is
//! tried with a boot sector on the real machine type before it is trusted. One answer per process.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::host::{Cmd, Ending, environment, fs};

use super::profile::{Probe, Profile};

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// The accelerator in use, and why it is not KVM when it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The accelerator.
    pub accelerator: Accelerator,
    /// A sentence for the user; `None` under KVM.
    pub note: Option<String>,
}

/// How long a boot sector may take: a working KVM needs a third of a second.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

/// QEMU's exit code after the boot sector wrote 0x10 to the debug port: `(0x10 << 1) | 1`.
const PROBE_EXIT: i32 = 33;

/// Counts down from 2^25, writes 0x10 to port 0xf4 and halts: a blink for a processor, far beyond the limit
/// for a KVM that emulates each instruction (such a one boots the BIOS and dies of the kernel's first
/// unusual instruction).
const BOOT_CODE: &[u8] = &[
    0x66, 0xb9, 0x00, 0x00, 0x00, 0x02, // mov ecx, 1 << 25
    0x66, 0x49, // dec ecx
    0x75, 0xfc, // jnz, back to dec
    0xba, 0xf4, 0x00, // mov dx, 0xf4
    0xb0, 0x10, // mov al, 0x10
    0xee, // out dx, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp, back to hlt
];

impl Accelerator {
    /// How much longer a guest may take for anything than under KVM.
    #[must_use]
    pub const fn slowdown(self) -> u32 {
        match self {
            Self::Kvm => 1,
            Self::Tcg => 4,
        }
    }
}

/// The accelerator for guests of `arch`.
#[must_use]
pub fn choose(profile: &Profile, arch: &str) -> Choice {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    if arch != environment::basearch() {
        return tcg(format!("guests of {arch} are emulated on {}", environment::basearch()));
    }
    CHOICE.get_or_init(|| probe(profile)).clone()
}

fn probe(profile: &Profile) -> Choice {
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return tcg(format!("/dev/kvm: {error}"));
    }
    if profile.probe == Probe::None {
        return Choice { accelerator: Accelerator::Kvm, note: None };
    }
    match boot_sector_runs(profile) {
        Ok(Ending::Exit(PROBE_EXIT)) => Choice { accelerator: Accelerator::Kvm, note: None },
        Ok(Ending::TimedOut) => tcg(format!(
            "/dev/kvm opens, but a guest under it hung or crawled for {} s",
            PROBE_LIMIT.as_secs()
        )),
        Ok(ending) => tcg(format!("a guest under KVM did not run ({ending:?})")),
        Err(error) => tcg(format!("KVM could not be tried: {error:#}")),
    }
}

fn tcg(why: String) -> Choice {
    let note = format!("{why}: using TCG, several times slower");
    Choice { accelerator: Accelerator::Tcg, note: Some(note) }
}

fn boot_sector_runs(profile: &Profile) -> Result<Ending> {
    let dir = tempfile::tempdir().context("creating a directory for the KVM probe")?;
    let disk = dir.path().join("boot.raw");
    fs::write(&disk, boot_disk())?;
    Ok(Cmd::program(&profile.program)
        .args(probe_argv(profile, "kvm", &disk))
        .finish(PROBE_LIMIT, || true)?
        .ending)
}

/// A disk of 1 MiB (the BIOS reads none that is a single sector) with the boot sector.
fn boot_disk() -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    disk[..BOOT_CODE.len()].copy_from_slice(BOOT_CODE);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

fn probe_argv(profile: &Profile, accelerator: &str, disk: &Path) -> Vec<String> {
    let drive = super::options::Options::keys()
        .set("if", "none")
        .set("id", "disk0")
        .set("format", "raw")
        .set("readonly", "on")
        .path("file", disk)
        .build();
    let machine = profile.machine.as_str();
    [
        ["-accel", accelerator],
        ["-machine", machine],
        ["-m", "64"],
        ["-display", "none"],
        ["-drive", drive.as_str()],
        ["-device", "virtio-blk-pci,drive=disk0,bootindex=1"],
        ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x4"],
    ]
    .into_iter()
    .flatten()
    .chain(["-nodefaults", "-no-user-config"])
    .map(str::to_owned)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_sector_ends_qemu_with_its_code() {
        let profile = Profile::of("x86_64").unwrap();
        if crate::host::require(&[&crate::host::tool::QEMU_X86_64]).is_err() {
            println!("skipped: no QEMU");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let disk = dir.path().join("a,b.raw");
        std::fs::write(&disk, boot_disk()).unwrap();
        let done = Cmd::program(&profile.program)
            .args(probe_argv(&profile, "tcg", &disk))
            .finish(Duration::from_secs(30), || true)
            .unwrap();
        assert_eq!(done.ending, Ending::Exit(PROBE_EXIT), "{}", done.stderr);
    }

    #[test]
    fn a_foreign_architecture_is_emulated() {
        let profile = Profile::of("x86_64").unwrap();
        let choice = choose(&profile, "vax");
        assert_eq!(choice.accelerator, Accelerator::Tcg);
        assert!(choice.note.unwrap().contains("vax"));
    }
}
