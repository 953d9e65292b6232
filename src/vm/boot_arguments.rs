//! Kernel arguments read from a disk, and put into a throw-away one before it boots. The boot partition (ext4) is copied out of
//! the overlay, its boot loader entries are edited by debugfs, and it is copied back: no mount, no root.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::failure::{Failure, Kind};
use crate::host::{self, Cmd, fs, tool};

/// The name of the partition that holds the entries.
const BOOT_PARTITION: &str = "boot";

/// Arguments to add.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BootArguments {
    /// To every entry, for all boots.
    pub every_boot: String,
    /// To the boot in which Ignition runs.
    pub first_boot: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Extent {
    offset: u64,
    size: u64,
}

/// Adds kernel arguments to a qcow2 disk that no machine has open; `scratch` takes the boot partition.
pub fn append_arguments(disk: &Path, arguments: &BootArguments, scratch: &Path) -> Result<()> {
    if *arguments == BootArguments::default() {
        return Ok(());
    }
    host::require(&[&tool::DEBUGFS, &tool::QEMU_IMG])
        .map_err(|error| Failure::new(Kind::Tool, error.to_string(), error.cure()))?;
    let (partition, extent) = copy_out(disk, scratch)?;
    edit(&partition, arguments, scratch)?;
    copy(disk, extent, Direction::In, &partition)?;
    fs::remove_file_if_exists(&partition)
}

/// The kernel arguments of each boot entry of a disk (qcow2, or raw if it is called so), the default one
/// first; `scratch` takes the boot partition.
pub fn read_arguments(disk: &Path, scratch: &Path) -> Result<Vec<String>> {
    host::require(&[&tool::DEBUGFS, &tool::QEMU_IMG]).map_err(Failure::from)?;
    let (partition, _) = copy_out(disk, scratch)?;
    let mut entries = list(&partition, "/loader/entries")?;
    entries.sort_by(|one, other| other.cmp(one));
    let mut arguments = Vec::new();
    for entry in entries {
        let text = debugfs(&partition, &format!("cat /loader/entries/{entry}"), false)?;
        let options = text.lines().find_map(|line| line.strip_prefix("options "));
        arguments.push(options.unwrap_or_default().trim().to_owned());
    }
    fs::remove_file_if_exists(&partition)?;
    if arguments.is_empty() {
        bail!("the boot partition has no boot loader entry");
    }
    Ok(arguments)
}

/// Copies the boot partition into `scratch`.
fn copy_out(disk: &Path, scratch: &Path) -> Result<(PathBuf, Extent)> {
    let head = scratch.join("head.raw");
    copy(disk, Extent { offset: 0, size: 1 << 20 }, Direction::Out, &head)?;
    let extent = boot_partition(&fs::read(&head)?)
        .with_context(|| format!("looking for the boot partition of {}", disk.display()))?;
    let partition = scratch.join("boot.raw");
    copy(disk, extent, Direction::Out, &partition)?;
    fs::remove_file_if_exists(&head)?;
    Ok((partition, extent))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    In,
}

fn copy(disk: &Path, extent: Extent, direction: Direction, file: &Path) -> Result<()> {
    let raw = disk.extension().is_some_and(|extension| extension == "raw");
    let window = super::options::Options::keys()
        .set("driver", "raw")
        .set("offset", extent.offset)
        .set("size", extent.size)
        .set("file.driver", if raw { "raw" } else { "qcow2" })
        .set("file.file.driver", "file")
        .path("file.file.filename", disk)
        .build();
    let cmd = Cmd::new(&tool::QEMU_IMG).arg("convert");
    let cmd = match direction {
        Direction::Out => cmd.args(["--image-opts", "-O", "raw", &window]).arg(file),
        Direction::In => {
            let source = super::options::Options::keys()
                .set("driver", "raw")
                .set("file.driver", "file")
                .path("file.filename", file)
                .build();
            cmd.args(["-n", "--image-opts", "--target-image-opts", &source, &window])
        }
    };
    cmd.run().with_context(|| format!("copying a part of {}", disk.display()))
}

/// Finds the boot partition in the first MiB of a disk, by its name in the GPT (512 or 4096-byte sectors).
fn boot_partition(head: &[u8]) -> Result<Extent> {
    let number = |at: usize, length: usize| -> Result<u64> {
        let bytes = head.get(at..at + length).context("the partition table is cut off")?;
        Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let Some(sector) =
        [512_usize, 4096].into_iter().find(|at| head.get(*at..at + 8) == Some(b"EFI PART".as_slice()))
    else {
        bail!("the disk has no GPT");
    };
    let entries =
        usize::try_from(number(sector + 72, 8)?)?.checked_mul(sector).context("a wild partition table")?;
    let (count, size) = (number(sector + 80, 4)? as usize, number(sector + 84, 4)? as usize);
    for index in 0..count.min(128) {
        let at = entries + index * size;
        let Some(name) = head.get(at + 56..at + 128) else { break };
        let name: Vec<u16> = name.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        if String::from_utf16_lossy(&name).trim_end_matches('\0') == BOOT_PARTITION {
            let (first, last) = (number(at + 32, 8)?, number(at + 40, 8)?);
            let sectors = last.checked_sub(first).context("a wild partition table")? + 1;
            return Ok(Extent { offset: first * sector as u64, size: sectors * sector as u64 });
        }
    }
    bail!("the disk has no partition called {BOOT_PARTITION}")
}

fn edit(partition: &Path, arguments: &BootArguments, scratch: &Path) -> Result<()> {
    if !arguments.every_boot.is_empty() {
        let entries = list(partition, "/loader/entries")?;
        if entries.is_empty() {
            bail!("the boot partition has no boot loader entry");
        }
        for entry in entries {
            let path = format!("/loader/entries/{entry}");
            let text = debugfs(partition, &format!("cat {path}"), false)?;
            replace(partition, &path, &with_options(&text, &arguments.every_boot), scratch)?;
        }
    }
    if !arguments.first_boot.is_empty() {
        let text = format!("set ignition_network_kcmdline='{}'\n", arguments.first_boot);
        replace(partition, "/ignition.firstboot", &text, scratch)?;
    }
    Ok(())
}

/// An entry with more options.
fn with_options(entry: &str, more: &str) -> String {
    entry.lines().fold(String::new(), |text, line| {
        if line.starts_with("options") {
            text + line.trim_end() + " " + more.trim() + "\n"
        } else {
            text + line + "\n"
        }
    })
}

/// The names of the entries in a directory; debugfs follows links that stand in a path.
fn list(partition: &Path, dir: &str) -> Result<Vec<String>> {
    let listing = debugfs(partition, &format!("ls -p {dir}"), false)?;
    Ok(listing
        .lines()
        .filter_map(|line| line.split('/').nth(5))
        .filter(|name| name.ends_with(".conf"))
        .map(str::to_owned)
        .collect())
}

fn replace(partition: &Path, path: &str, text: &str, scratch: &Path) -> Result<()> {
    let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
    let file = scratch.join("entry");
    fs::write(&file, text)?;
    debugfs(partition, &format!("rm {path}"), true)?;
    // `write` puts the file into the current directory, under a name without a path.
    let script = scratch.join("debugfs-commands");
    fs::write(
        &script,
        format!("cd {}/\nwrite {} {name}\n", if dir.is_empty() { "" } else { dir }, file.display()),
    )?;
    Cmd::new(&tool::DEBUGFS)
        .args(["-w", "-f"])
        .arg(&script)
        .arg(partition)
        .output()
        .context("editing a boot entry")?;
    // debugfs ends with 0 whatever happened.
    let found = debugfs(partition, &format!("cat {path}"), false)?;
    if found != text {
        bail!("debugfs did not write {path}");
    }
    Ok(())
}

fn debugfs(partition: &Path, command: &str, write: bool) -> Result<String> {
    let mut cmd = Cmd::new(&tool::DEBUGFS);
    if write {
        cmd = cmd.arg("-w");
    }
    let output = cmd.args(["-R", command]).arg(partition).output().context("reading the boot partition")?;
    Ok(output.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_grow_and_nothing_else_changes() {
        let entry = "title x\noptions root=LABEL=root $ignition_firstboot\nlinux /vmlinuz\n";
        assert_eq!(
            with_options(entry, "a=b c"),
            "title x\noptions root=LABEL=root $ignition_firstboot a=b c\nlinux /vmlinuz\n"
        );
    }

    /// A GPT whose only entry is a boot partition, for either sector size.
    fn table(sector: usize, first: u64, last: u64) -> Vec<u8> {
        let mut head = vec![0; 1 << 20];
        head[sector..sector + 8].copy_from_slice(b"EFI PART");
        head[sector + 72..sector + 80].copy_from_slice(&2_u64.to_le_bytes());
        head[sector + 80..sector + 84].copy_from_slice(&128_u32.to_le_bytes());
        head[sector + 84..sector + 88].copy_from_slice(&128_u32.to_le_bytes());
        let at = 2 * sector + 128;
        head[at + 32..at + 40].copy_from_slice(&first.to_le_bytes());
        head[at + 40..at + 48].copy_from_slice(&last.to_le_bytes());
        for (index, byte) in b"boot".iter().enumerate() {
            head[at + 56 + 2 * index] = *byte;
        }
        head
    }

    #[test]
    fn the_boot_partition_is_found_by_name() {
        assert_eq!(
            boot_partition(&table(512, 2048, 4095)).unwrap(),
            Extent { offset: 1 << 20, size: 1 << 20 }
        );
        assert_eq!(
            boot_partition(&table(4096, 256, 511)).unwrap(),
            Extent { offset: 1 << 20, size: 1 << 20 }
        );
        assert!(boot_partition(&vec![0; 1 << 20]).is_err());
    }

    #[test]
    fn an_entry_inside_a_disk_is_edited() {
        let tools = [&tool::DEBUGFS, &tool::QEMU_IMG];
        if host::require(&tools).is_err() || Cmd::program("mke2fs").arg("-V").run().is_err() {
            println!("skipped: no debugfs, qemu-img or mke2fs");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(path("fs/loader.1/entries")).unwrap();
        std::fs::write(path("fs/loader.1/entries/ostree-1.conf"), "title x\noptions quiet\n").unwrap();
        std::fs::write(path("fs/ignition.firstboot"), "").unwrap();
        std::os::unix::fs::symlink("loader.1", path("fs/loader")).unwrap();
        Cmd::program("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .arg(path("fs"))
            .arg(path("boot"))
            .arg("8M")
            .run()
            .unwrap();
        let mut disk = table(512, 2048, 2048 + 16383);
        disk.extend(std::fs::read(path("boot")).unwrap());
        std::fs::write(path("disk.raw"), disk).unwrap();
        let overlay = path("a,b.qcow2");
        super::super::overlay(&path("disk.raw"), &overlay, None).unwrap();

        assert_eq!(read_arguments(&path("disk.raw"), dir.path()).unwrap(), ["quiet"]);
        let arguments = BootArguments { every_boot: "more=1".into(), first_boot: "ip=dhcp".into() };
        append_arguments(&overlay, &arguments, dir.path()).unwrap();

        assert_eq!(read_arguments(&overlay, dir.path()).unwrap(), ["quiet more=1"]);
        let after = path("after.raw");
        copy(&overlay, Extent { offset: 1 << 20, size: 8 << 20 }, Direction::Out, &after).unwrap();
        Cmd::program("e2fsck").args(["-fn"]).arg(&after).run().unwrap();
        assert_eq!(
            debugfs(&after, "cat /loader/entries/ostree-1.conf", false).unwrap(),
            "title x\noptions quiet more=1\n"
        );
        assert_eq!(
            debugfs(&after, "cat /ignition.firstboot", false).unwrap(),
            "set ignition_network_kcmdline='ip=dhcp'\n"
        );
    }
}
