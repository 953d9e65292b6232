//! `nosa run`: an image on a machine for a person, with the console in the terminal or a command over SSH.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::pipeline::Reporter;
use crate::vm::{
    BootArguments, Console, Disk, DiskFormat, DiskSpec, Firmware, KeyPair, Machine, Place, Profile, Ssh, Vm,
    append_arguments, blank, choose, inspect, overlay,
};

use super::ignition::{Ignition, read_config};
use super::lab::{FirmwareKind, Lab};

/// How long a machine may take to answer by SSH, and to power off, under KVM.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const POWER_OFF_LIMIT: Duration = Duration::from_secs(30);

/// What to boot, and how.
#[derive(Debug, Clone)]
pub struct Session {
    /// The image.
    pub image: PathBuf,
    /// Its architecture.
    pub arch: String,
    /// Ignition or Butane configurations to merge in.
    pub configs: Vec<PathBuf>,
    /// Kernel arguments to add.
    pub kernel_arguments: String,
    /// What it starts with.
    pub firmware: FirmwareKind,
    /// Memory in MiB; `None` takes the profile's.
    pub memory_mib: Option<u32>,
    /// Size of the disk in GiB; `None` takes the image's.
    pub size_gib: Option<u32>,
    /// Disks beside it.
    pub disks: Vec<DiskSpec>,
    /// Whether what it writes stays in the image.
    pub persistent: bool,
    /// The user to log in as.
    pub user: String,
    /// A command line to run over SSH instead of showing the console.
    pub command: Vec<String>,
}

impl Session {
    /// Boots, stays until the machine is off or the command has ended, and returns the latter's exit code.
    pub fn run(&self, report: &Reporter) -> Result<i32> {
        let scratch =
            tempfile::Builder::new().prefix("nosa-vm-").tempdir().context("creating a directory")?;
        let place = Place { scratch: scratch.path().to_owned(), output: scratch.path().to_owned() };
        let key = KeyPair::generate(scratch.path())?;
        let machine = self.machine(&place, &key, report)?;
        let pace = machine.accelerator.slowdown();
        let mut vm = Vm::start(machine, &place.log())?;
        let mut ssh = Ssh::new(vm.host_port(22)?, &self.user, &key.private, &place.scratch);
        if self.command.is_empty() {
            report.note(format!("to log in from another terminal: {}", ssh.invitation()));
            report.note("Ctrl-A X ends the machine at once, Ctrl-A H lists what else the terminal can do");
            vm.wait()?;
            return Ok(0);
        }
        report.note("booting; the command runs as soon as the machine answers");
        ssh.connect(BOOT_LIMIT * pace, || vm.check_alive()).with_context(|| {
            format!("waiting for the machine; its console ended with:\n{}", tail(&place.console()))
        })?;
        let status = ssh.interactive(&self.command)?;
        ssh.disconnect()?;
        if self.persistent {
            // The cache has the same file, and what it has must stay as it was made.
            crate::host::fs::unshare_file(&self.image)?;
            vm.shut_down(POWER_OFF_LIMIT * pace)?;
        }
        Ok(status.code().unwrap_or(255))
    }

    fn machine(&self, place: &Place, key: &KeyPair, report: &Reporter) -> Result<Machine> {
        let profile = Profile::of(&self.arch)?;
        let choice = choose(&profile, &self.arch);
        if let Some(note) = &choice.note {
            report.note(note);
        }
        let console =
            if self.command.is_empty() { Console::Terminal } else { Console::File(place.console()) };
        let mut machine = Machine::new(profile, choice.accelerator, place.control(), console);
        let mut ignition = Ignition::new(&self.user, &key.public)
            .autologin(&machine.profile.console)
            .patient(machine.accelerator);
        for config in &self.configs {
            ignition = ignition.merge(read_config(config)?);
        }
        let config = place.scratch.join("config.ign");
        crate::host::fs::write(&config, ignition.build())?;
        machine.ignition = Some(config);
        machine.cpus = Lab::cpus();
        machine.internet = true;
        machine.memory_mib = self.memory_mib.unwrap_or(machine.memory_mib);
        if self.firmware == FirmwareKind::Uefi {
            machine.firmware = Firmware::Uefi(place.uefi(machine.profile.uefi(Path::exists)?)?);
        }
        machine.disks.push(self.primary(place)?);
        for (index, spec) in self.disks.iter().enumerate() {
            let file = place.scratch.join(format!("extra{index}.raw"));
            blank(&file, spec.size_gib.unwrap_or(1))?;
            machine.disks.push(Disk::additional(file, DiskFormat::Raw, spec));
        }
        Ok(machine)
    }

    fn primary(&self, place: &Place) -> Result<Disk> {
        if self.persistent {
            let format = inspect(&self.image)?.format;
            return Ok(Disk::primary(self.image.clone(), format));
        }
        let disk = place.scratch.join("disk.qcow2");
        overlay(&self.image, &disk, self.size_gib)?;
        let arguments =
            BootArguments { every_boot: self.kernel_arguments.clone(), first_boot: String::new() };
        append_arguments(&disk, &arguments, &place.scratch)?;
        Ok(Disk::primary(disk, DiskFormat::Qcow2))
    }
}

fn tail(file: &Path) -> String {
    let bytes = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
