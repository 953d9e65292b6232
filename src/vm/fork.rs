//! Forks of a booted machine: boot once, then any number of copies that go on from there in seconds.
//!
//! The template's memory is a file that it shares; when it is frozen, QEMU saves the devices' state (a few
//! MB) and leaves the memory in its file. A fork maps that file privately, puts overlays on the disks,
//! loads the state and runs. All forks of a template have its kernel arguments, devices, host keys and
//! machine id.
//!
//! ```text
//! <memory dir>/ram      the template's memory        <dir>/state   its devices
//! <dir>/vars.fd         its UEFI variables           its disks stay where they are, read-only from now on
//! ```

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::host::fs;

use super::images;
use super::machine::{Console, DiskFormat, Firmware, Machine, Memory, Port};
use super::profile::UefiFiles;
use super::running::Vm;

/// Where a template's memory lies while it boots and while forks exist.
#[derive(Debug)]
pub struct TemplateMemory {
    dir: TempDir,
}

/// A frozen machine that forks go on from.
#[derive(Debug)]
pub struct Template {
    machine: Machine,
    state: PathBuf,
    _memory: TemplateMemory,
}

/// Where a machine keeps what is its own.
#[derive(Debug, Clone)]
pub struct Place {
    /// Scratch: sockets, overlays, variables. Its path must be short: a socket's has 107 bytes at most.
    pub scratch: PathBuf,
    /// What outlives it: console and ports.
    pub output: PathBuf,
}

impl TemplateMemory {
    /// Makes room for `mib` MiB: on /dev/shm if that has them, else in the directory for temporary files.
    pub fn new(mib: u32) -> Result<Self> {
        let shm = Path::new("/dev/shm");
        let mut builder = tempfile::Builder::new();
        builder.prefix("nosa-ram-");
        let roomy = rustix::fs::statvfs(shm)
            .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) > u64::from(mib) << 20);
        let dir = if roomy { builder.tempdir_in(shm) } else { builder.tempdir() };
        Ok(Self { dir: dir.context("creating a directory for a machine's memory")? })
    }

    /// What a template's [`Machine::memory`] must be.
    #[must_use]
    pub fn shared(&self) -> Memory {
        Memory::File { path: self.file(), shared: true }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ram")
    }
}

impl Template {
    /// Freezes a machine that was started with `memory`. Close what is connected to it first.
    pub fn freeze(mut vm: Vm, memory: TemplateMemory, dir: &Path) -> Result<Self> {
        let state = dir.join("state");
        vm.control().stop().context("halting the template")?;
        vm.control().save_state(&state).context("saving the template's state")?;
        let machine = vm.machine().clone();
        vm.quit().context("ending the template")?;
        Ok(Self { machine, state, _memory: memory })
    }

    /// The machine that was frozen.
    #[must_use]
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// A machine that goes on from the template, with everything that it writes in `place`.
    pub fn fork(&self, place: &Place) -> Result<Machine> {
        let mut machine = self.machine.clone();
        if let Memory::File { shared, .. } = &mut machine.memory {
            *shared = false;
        }
        machine.incoming = Some(self.state.clone());
        machine.control = place.control();
        machine.console = Console::File(place.console());
        for (index, disk) in machine.disks.iter_mut().enumerate() {
            let overlay = place.scratch.join(format!("disk{index}.qcow2"));
            images::overlay(&disk.file, &overlay, None)?;
            disk.file = overlay;
            disk.format = DiskFormat::Qcow2;
        }
        for port in &mut machine.ports {
            *port = place.port(&port.name);
        }
        if let Firmware::Uefi(files) = &machine.firmware {
            machine.firmware = Firmware::Uefi(place.uefi(files)?);
        }
        Ok(machine)
    }
}

impl Place {
    /// The control socket.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.scratch.join("control")
    }

    /// The console's file.
    #[must_use]
    pub fn console(&self) -> PathBuf {
        self.output.join("console.txt")
    }

    /// QEMU's own messages.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.output.join("qemu.txt")
    }

    /// A virtio-serial port; its file is the port's name, `mantlejournal` being the journal.
    #[must_use]
    pub fn port(&self, name: &str) -> Port {
        let file = match name {
            "mantlejournal" => "journal.txt".to_owned(),
            "com.coreos.ignition.journal" => "ignition-virtio-dump.txt".to_owned(),
            other => format!("{other}.txt"),
        };
        Port { name: name.to_owned(), file: self.output.join(file) }
    }

    /// UEFI firmware with this machine's own copy of the variables.
    pub fn uefi(&self, files: &UefiFiles) -> Result<UefiFiles> {
        let vars = self.scratch.join("vars.fd");
        fs::copy_sparse(&files.vars, &vars)?;
        Ok(UefiFiles { code: files.code.clone(), vars })
    }
}
