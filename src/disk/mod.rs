//! Disk images written in user space: partition table, boot loader, file systems. It knows nothing of
//! packages and QEMU.
//!
//! No loop device, no mount outside a sandbox, no virtual machine: the table and the EFI system partition
//! are written by nosa itself; the file systems by the tree's own mke2fs at an offset of the disk file; the
//! boot loader by the tree's own grub-mkimage and a few patched bytes.

mod bootentry;
mod copy;
mod embed;
mod esp;
mod estimate;
mod ext4;
mod grub;
mod kargs;
mod plan;
mod programs;
mod qcow2;
mod raw;
mod sysroot;
mod table;

pub use plan::{Architecture, DiskSize, Partition, Plan, Role, Sector};
pub use qcow2::{Qcow2, Qcow2Image};
pub use raw::{RawDisk, RawDiskImage};
pub use sysroot::{Deployment, Sysroot};
