//! A QEMU machine: its arguments, its control socket, its console, its forks. It dies with its guard,
//! and knows nothing of builds, tests or Ignition.

mod accel;
mod argv;
mod boot_arguments;
mod control;
mod disk_spec;
mod fork;
mod images;
mod machine;
mod options;
mod profile;
mod running;
mod ssh;

pub use accel::{Accelerator, Choice, choose};
pub use argv::argv;
pub use boot_arguments::{BootArguments, append_arguments, read_arguments};
pub use control::Control;
pub use disk_spec::{Channel, DiskSpec, DiskSpecError, Sectors};
pub use fork::{Place, Template, TemplateMemory};
pub use images::{ImageInfo, blank, inspect, overlay, raw_copy};
pub use machine::{Console, DirectKernel, Disk, DiskFormat, Firmware, Machine, Memory, Port};
pub use profile::{CpuModels, FirmwareTable, Probe, Profile, UefiFiles};
pub use running::Vm;
pub use ssh::{KeyPair, Ssh};
