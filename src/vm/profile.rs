//! Machine profiles: what differs between architectures, as data in `qemu/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::failure::{Failure, Kind};

use super::accel::Accelerator;

/// What a QEMU machine of one architecture is made of.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The program that emulates it.
    pub program: String,
    /// Machine type.
    pub machine: String,
    /// Options of the machine type.
    #[serde(default)]
    pub machine_options: BTreeMap<String, String>,
    /// CPU model for each accelerator.
    pub cpu: CpuModels,
    /// The kernel's name of the serial console.
    pub console: String,
    /// Memory of a machine that asks for none in particular, in MiB.
    pub memory_mib: u32,
    /// Firmware that it can start with.
    pub firmware: FirmwareTable,
    /// Whether Ignition reads its configuration from `fw_cfg`.
    pub fw_cfg: bool,
    /// How KVM is tried out before it is trusted.
    pub probe: Probe,
}

/// CPU model for each accelerator.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct CpuModels {
    /// Under KVM.
    pub kvm: String,
    /// Under TCG: complete enough for x86-64-v2, and quick to emulate.
    pub tcg: String,
}

/// Firmware that a machine can start with.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct FirmwareTable {
    /// Whether QEMU's built-in firmware is a BIOS that boots disks.
    pub bios: bool,
    /// Where distributions put UEFI firmware, best first.
    pub uefi: Vec<UefiFiles>,
    /// The Debian package that has it.
    pub uefi_package: String,
}

/// UEFI firmware: its code and the template of its variables.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct UefiFiles {
    /// The code, mapped read-only.
    pub code: PathBuf,
    /// The variables that a new machine starts with.
    pub vars: PathBuf,
}

/// How KVM is tried out before it is trusted.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// By booting a boot sector through the BIOS.
    BiosBootSector,
    /// Not at all: the device must be there.
    None,
}

impl Profile {
    /// The profile of an architecture.
    pub fn of(arch: &str) -> Result<Self> {
        let text = match arch {
            "x86_64" => include_str!("../../qemu/x86_64.json"),
            "aarch64" => include_str!("../../qemu/aarch64.json"),
            _ => {
                return Err(Failure::new(
                    Kind::Usage,
                    format!("nosa has no machine profile for {arch}"),
                    "use x86_64 or aarch64",
                )
                .into());
            }
        };
        Self::parse(text).with_context(|| format!("reading the machine profile of {arch}"))
    }

    /// Reads a profile from its text.
    pub fn parse(text: &str) -> Result<Self> {
        Ok(serde_json::from_str(text)?)
    }

    /// The CPU model under an accelerator.
    #[must_use]
    pub fn cpu(&self, accelerator: Accelerator) -> &str {
        match accelerator {
            Accelerator::Kvm => &self.cpu.kvm,
            Accelerator::Tcg => &self.cpu.tcg,
        }
    }

    /// The first UEFI firmware of the table that `exists`.
    pub fn uefi(&self, exists: impl Fn(&Path) -> bool) -> Result<&UefiFiles> {
        self.firmware.uefi.iter().find(|files| exists(&files.code) && exists(&files.vars)).ok_or_else(|| {
            let looked: Vec<String> =
                self.firmware.uefi.iter().map(|files| files.code.display().to_string()).collect();
            Failure::new(
                Kind::Tool,
                format!("no UEFI firmware for QEMU (looked for {})", looked.join(", ")),
                format!("install: apt-get install {}", self.firmware.uefi_package),
            )
            .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_that_ship_are_valid() {
        for arch in ["x86_64", "aarch64"] {
            assert!(Profile::of(arch).unwrap().program.ends_with(arch));
        }
        assert!(Profile::of("vax").is_err());
    }

    #[test]
    fn uefi_comes_from_the_first_place_that_has_it() {
        let profile = Profile::of("x86_64").unwrap();
        let files = profile.uefi(|path| path.starts_with("/usr/share/edk2")).unwrap();
        assert_eq!(files.code, Path::new("/usr/share/edk2/ovmf/OVMF_CODE.fd"));
        assert!(profile.uefi(|_| false).unwrap_err().to_string().contains("no UEFI firmware"));
    }
}
