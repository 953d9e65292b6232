//! Disk images written in user space: partition table, boot loader, file systems. It knows nothing of
//! packages and QEMU.
