//! What of a deployment lies on the boot file system: kernel and initramfs under a checksum of both, and
//! the boot loader entry that names them, as libostree's ostree-sysroot-deploy.c writes them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::{Digest as _, Sha256};

use crate::failure::{Failure, Kind};
use crate::host::fs;

/// The kernel of a tree.
#[derive(Debug, Clone)]
pub(super) struct Kernel {
    /// Files to copy: where they lie, and their names on the boot file system.
    pub(super) files: Vec<(PathBuf, String)>,
    /// The checksum that names their directory.
    pub(super) checksum: String,
}

impl Kernel {
    /// Finds the kernel of the tree at `root`.
    pub(super) fn find(root: &Path) -> Result<Self> {
        let modules = root.join("usr/lib/modules");
        let dirs = if modules.is_dir() { fs::read_dir_sorted(&modules)? } else { Vec::new() };
        let kernels: Vec<&PathBuf> = dirs.iter().filter(|dir| dir.join("vmlinuz").is_file()).collect();
        let [dir] = kernels[..] else {
            return Err(Failure::new(
                Kind::Build,
                format!("the tree has {} kernels in usr/lib/modules/*/vmlinuz, not one", kernels.len()),
                "have the packages install exactly one kernel",
            )
            .into());
        };
        for name in ["devicetree", "dtb"] {
            if dir.join(name).exists() {
                return Err(Failure::new(
                    Kind::Build,
                    format!(
                        "nosa installs no device trees yet, but the tree has {}",
                        dir.join(name).display()
                    ),
                    "remove them with `remove-files` if the machines bring their own",
                )
                .into());
            }
        }
        let version = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = vec![(dir.join("vmlinuz"), format!("vmlinuz-{version}"))];
        let mut hash = Sha256::new_with_prefix(fs::read(&dir.join("vmlinuz"))?);
        let initramfs = dir.join("initramfs.img");
        if initramfs.is_file() {
            hash.update(fs::read(&initramfs)?);
            files.push((initramfs, format!("initramfs-{version}.img")));
        }
        // For FIPS mode; not part of the checksum.
        let hmac = dir.join(".vmlinuz.hmac");
        if hmac.is_file() {
            files.push((hmac, format!(".vmlinuz-{version}.hmac")));
        }
        Ok(Self { files, checksum: hex::encode(hash.finalize()) })
    }

    /// The boot loader entry, for files in `directory` of the boot file system.
    pub(super) fn entry(&self, title: &str, options: &str, directory: &str) -> String {
        let mut text = format!("title {title}\nversion 1\noptions {options}\n");
        for (key, prefix) in [("linux", "vmlinuz-"), ("initrd", "initramfs-")] {
            if let Some((_, name)) = self.files.iter().find(|(_, name)| name.starts_with(prefix)) {
                text += &format!("{key} /boot/{directory}/{name}\n");
            }
        }
        text
    }
}

/// The entry's title: the system's name from os-release, and the version unless the name holds it.
pub(super) fn title(os_release: &str, version: &str) -> String {
    let value = |key: &str| {
        os_release
            .lines()
            .filter_map(|line| line.split_once('='))
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value.trim_matches(['"', '\'']).to_owned())
    };
    let name = value("PRETTY_NAME").or_else(|| value("ID")).unwrap_or_else(|| "Linux".to_owned());
    let version = if name.contains(version) { String::new() } else { format!(" {version}") };
    format!("{name}{version} (ostree:0)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_names_a_version_once() {
        assert_eq!(title("ID=x\nPRETTY_NAME=\"Sample 1.0\"\n", "2.0"), "Sample 1.0 2.0 (ostree:0)");
        assert_eq!(title("PRETTY_NAME='Sample 1.0'\n", "1.0"), "Sample 1.0 (ostree:0)");
        assert_eq!(title("ID=sample\n", ""), "sample (ostree:0)");
    }

    #[test]
    fn a_tree_without_a_kernel_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Kernel::find(dir.path()).unwrap_err().to_string().contains("0 kernels"));
        let modules = dir.path().join("usr/lib/modules/1.0");
        std::fs::create_dir_all(&modules).unwrap();
        std::fs::write(modules.join("vmlinuz"), "k").unwrap();
        std::fs::write(modules.join("initramfs.img"), "i").unwrap();
        let kernel = Kernel::find(dir.path()).unwrap();
        assert_eq!(kernel.checksum, hex::encode(Sha256::digest("ki")));
        assert_eq!(
            kernel.entry("t", "o", "ostree/x"),
            "title t\nversion 1\noptions o\nlinux /boot/ostree/x/vmlinuz-1.0\ninitrd /boot/ostree/x/initramfs-1.0.img\n"
        );
    }
}
