//! A machine as a value: everything that decides QEMU's arguments, and nothing that changes while it runs.

use std::path::PathBuf;

use super::accel::Accelerator;
use super::disk_spec::{Channel, DiskSpec, Sectors};
use super::profile::{Profile, UefiFiles};

/// A machine to be started.
#[derive(Debug, Clone)]
pub struct Machine {
    /// What its architecture prescribes.
    pub profile: Profile,
    /// What executes the guest.
    pub accelerator: Accelerator,
    /// What it starts with.
    pub firmware: Firmware,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Where the memory lies.
    pub memory: Memory,
    /// Processors.
    pub cpus: u32,
    /// Disks; the first bootable one is the primary disk.
    pub disks: Vec<Disk>,
    /// Network interfaces beside the first.
    pub extra_nics: u32,
    /// Whether the guest may reach the outside.
    pub internet: bool,
    /// Guest TCP ports reachable on 127.0.0.1 of the host, each by a port the kernel chooses.
    pub forwards: Vec<u16>,
    /// The guest's name as its DHCP lease has it.
    pub hostname: String,
    /// The Ignition configuration, handed over by `fw_cfg`.
    pub ignition: Option<PathBuf>,
    /// The serial console.
    pub console: Console,
    /// virtio-serial ports, each written to a file.
    pub ports: Vec<Port>,
    /// The control socket.
    pub control: PathBuf,
    /// A kernel to start instead of the disk's boot loader.
    pub kernel: Option<DirectKernel>,
    /// The saved state that it goes on from instead of starting.
    pub incoming: Option<PathBuf>,
}

/// What a machine starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// QEMU's own BIOS.
    Bios,
    /// UEFI, with the machine's own copy of the variables.
    Uefi(UefiFiles),
}

/// Where a machine's memory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// In QEMU's own memory.
    Anonymous,
    /// In a file; `shared` writes to it, else the file is only where the memory starts from.
    File {
        /// The file, best on a tmpfs.
        path: PathBuf,
        /// Whether the guest's writes reach the file.
        shared: bool,
    },
}

/// A disk as QEMU is to open it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub file: PathBuf,
    /// Its format: `qcow2` or `raw` (required for multipath).
    pub format: DiskFormat,
    /// Sector size shown to the guest.
    pub sectors: Sectors,
    /// The bus it hangs on.
    pub channel: Channel,
    /// Whether it is reached by two paths.
    pub multipath: bool,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its world-wide name.
    pub wwn: Option<u64>,
    /// Its place in the boot order.
    pub boot_index: Option<u32>,
}

/// Formats of disk files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFormat {
    /// qcow2.
    Qcow2,
    /// Raw.
    Raw,
}

/// Where the serial console goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Console {
    /// Into a file.
    File(PathBuf),
    /// To nosa's own terminal.
    Terminal,
}

/// A virtio-serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name in the guest, below /dev/virtio-ports.
    pub name: String,
    /// The file that takes what the guest writes.
    pub file: PathBuf,
}

/// A kernel started without a boot loader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectKernel {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's arguments.
    pub arguments: String,
}

impl Machine {
    /// A machine with one processor, the profile's memory, no disks and no network peers.
    #[must_use]
    pub fn new(profile: Profile, accelerator: Accelerator, control: PathBuf, console: Console) -> Self {
        Self {
            memory_mib: profile.memory_mib,
            profile,
            accelerator,
            firmware: Firmware::Bios,
            memory: Memory::Anonymous,
            cpus: 1,
            disks: Vec::new(),
            extra_nics: 0,
            internet: false,
            forwards: vec![22],
            hostname: "nosa".to_owned(),
            ignition: None,
            console,
            ports: Vec::new(),
            control,
            kernel: None,
            incoming: None,
        }
    }
}

impl Disk {
    /// The disk that the machine boots from.
    #[must_use]
    pub fn primary(file: PathBuf, format: DiskFormat) -> Self {
        Self {
            serial: Some("primary-disk".to_owned()),
            boot_index: Some(1),
            ..Self::additional(file, format, &DiskSpec::default())
        }
    }

    /// A further disk as `spec` describes it.
    #[must_use]
    pub fn additional(file: PathBuf, format: DiskFormat, spec: &DiskSpec) -> Self {
        Self {
            file,
            format,
            sectors: spec.sectors,
            channel: spec.channel,
            multipath: spec.multipath,
            serial: spec.serial.clone(),
            wwn: spec.wwn,
            boot_index: None,
        }
    }
}

impl DiskFormat {
    /// QEMU's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}
