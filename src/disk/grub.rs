//! The boot loader: GRUB images made by the tree's own grub-mkimage from the tree's own modules, and the
//! static configuration that finds the boot file system and takes its menu from OSTree's entries.
//!
//! Both images carry every module they need, so nothing is loaded from /boot but configuration.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::embed;
use super::esp::EspFile;
use super::plan::{Architecture, Plan, Role, Sector};
use super::programs::Programs;
use crate::failure::{Failure, Kind};
use crate::host::fs;

const MENU: &str = include_str!("grub/grub.cfg");
const STUB: &str = include_str!("grub/esp.cfg");
const CONSOLE_START: &str = "# CONSOLE-SETTINGS-START\n";

/// What an image cannot do without.
const REQUIRED: &[&str] = &[
    "normal",
    "configfile",
    "test",
    "echo",
    "true",
    "regexp",
    "search",
    "search_label",
    "search_fs_uuid",
    "search_fs_file",
    "loadenv",
    "part_gpt",
    "ext2",
    "linux",
    "gzio",
    "serial",
    "terminal",
];
/// What it gets where the tree's GRUB has it.
const WANTED: &[&str] =
    &["ls", "cat", "help", "sleep", "reboot", "halt", "part_msdos", "mdraid1x", "password_pbkdf2"];
/// The menu from boot loader entries: upstream's module since 2.14, and Fedora's and openEuler's before.
const MENU_MODULES: &[&str] = &["blsuki", "blscfg"];

/// One of GRUB's platforms.
struct Platform {
    /// Its name and the directory of its modules.
    name: &'static str,
    required: &'static [&'static str],
    wanted: &'static [&'static str],
    /// Where the image looks for its configuration. BIOS: partition 3 of the disk the BIOS booted from, so
    /// that a second disk with a file system labelled boot cannot win. EFI: beside itself.
    prefix: &'static str,
    file: &'static str,
}

const BIOS: Platform = Platform {
    name: "i386-pc",
    required: &["biosdisk"],
    wanted: &[],
    prefix: "(,gpt3)/grub2",
    file: "core.img",
};
const EFI: Platform = Platform {
    name: "x86_64-efi",
    required: &["fat", "efi_gop"],
    wanted: &["efifwsetup", "chain", "tpm"],
    prefix: "/EFI/BOOT",
    file: "BOOTX64.EFI",
};
const EFI_ARM: Platform = Platform { name: "arm64-efi", file: "BOOTAA64.EFI", ..EFI };

/// GRUB, ready to be written.
#[derive(Debug, Clone)]
pub(super) struct Grub {
    /// The first 440 bytes of the disk, where a BIOS can boot it.
    pub boot_code: Option<[u8; 440]>,
    /// The content of the BIOS-BOOT partition.
    pub core: Option<Vec<u8>>,
    /// The files of the EFI system partition.
    pub esp: Vec<EspFile>,
}

impl Grub {
    /// Makes GRUB's images for the disk of `plan` with the tree's own grub-mkimage.
    pub(super) fn make(programs: &Programs, architecture: Architecture, plan: &Plan) -> Result<Self> {
        let run = |platform: &Platform| mkimage(programs, platform);
        let efi = match architecture {
            Architecture::X86_64 => EFI,
            Architecture::Aarch64 => EFI_ARM,
        };
        let esp = vec![
            EspFile { path: format!("EFI/BOOT/{}", efi.file), content: run(&efi)? },
            EspFile { path: "EFI/BOOT/grub.cfg".to_owned(), content: STUB.into() },
        ];
        // A BIOS reads sectors of 512 bytes only.
        if architecture != Architecture::X86_64 || plan.sector != Sector::B512 {
            return Ok(Self { boot_code: None, core: None, esp });
        }
        let place = plan.partition(Role::Loader);
        let sector = place.offset / plan.sector.bytes();
        let boot = fs::read(&modules_of(programs, &BIOS).join("boot.img"))?;
        let boot_code = embed::boot_code(&boot, sector).context("preparing boot.img")?;
        let core = embed::core_image(run(&BIOS)?, sector, place.size).context("preparing core.img")?;
        Ok(Self { boot_code: Some(boot_code), core: Some(core), esp })
    }
}

/// grub.cfg with a platform's console commands between the markers that the installer also looks for.
#[must_use]
pub(super) fn menu(console: &[String]) -> String {
    let commands: String = console.iter().map(|command| format!("{command}\n")).collect();
    MENU.replacen(CONSOLE_START, &format!("{CONSOLE_START}{commands}"), 1)
}

fn modules_of(programs: &Programs, platform: &Platform) -> PathBuf {
    programs.tree.join("usr/lib/grub").join(platform.name)
}

fn mkimage(programs: &Programs, platform: &Platform) -> Result<Vec<u8>> {
    let program = ["grub-mkimage", "grub2-mkimage"]
        .into_iter()
        .find(|name| programs.has(Path::new("usr/bin").join(name)))
        .ok_or_else(|| missing("usr/bin/grub-mkimage", platform))?;
    let modules = modules(&modules_of(programs, platform), platform)?;
    programs
        .sandbox()
        .bind(&programs.scratch, "/run/nosa")
        .command(program)
        .args(["-O", platform.name, "-d", &format!("/usr/lib/grub/{}", platform.name)])
        .args(["-o", &format!("/run/nosa/{}", platform.file), "-p", platform.prefix])
        .args(modules)
        .log(&programs.log)
        .run()
        .with_context(|| format!("making GRUB's image for {}", platform.name))?;
    fs::read(&programs.scratch.join(platform.file))
}

/// The modules of an image: those it cannot do without, and those others that the tree has.
fn modules(dir: &Path, platform: &Platform) -> Result<Vec<&'static str>> {
    let has = |module: &&'static str| dir.join(format!("{module}.mod")).is_file();
    let mut modules: Vec<&'static str> = Vec::new();
    for module in platform.required.iter().chain(REQUIRED).copied() {
        if !has(&module) {
            return Err(missing(&format!("usr/lib/grub/{}/{module}.mod", platform.name), platform).into());
        }
        modules.push(module);
    }
    let Some(menu) = MENU_MODULES.iter().copied().find(has) else {
        return Err(Failure::new(
            Kind::Build,
            format!(
                "the tree's GRUB has no blscfg command for {}: neither blsuki.mod nor blscfg.mod",
                platform.name
            ),
            "take GRUB 2.14 or later (Debian: from forky), or a GRUB with Fedora's blscfg",
        )
        .into());
    };
    modules.push(menu);
    modules.extend(platform.wanted.iter().chain(WANTED).copied().filter(has));
    Ok(modules)
}

fn missing(path: &str, platform: &Platform) -> Failure {
    Failure::new(
        Kind::Build,
        format!("the tree has no {path}, which its boot loader for {} needs", platform.name),
        "add GRUB to the packages (Debian: grub2-common grub-pc-bin grub-efi-amd64-bin; openEuler: grub2-tools grub2-pc-modules grub2-efi-x64-modules)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn console_commands_stand_between_the_markers() {
        let text = menu(&["serial --speed=115200".into(), "terminal_output serial console".into()]);
        let block = "# CONSOLE-SETTINGS-START\nserial --speed=115200\nterminal_output serial console\n# CONSOLE-SETTINGS-END\n";
        assert!(text.contains(block), "{text}");
        assert_eq!(menu(&[]), MENU);
    }

    #[test]
    fn a_tree_without_a_menu_module_says_which_grub_to_take() {
        let dir = tempfile::tempdir().unwrap();
        for module in BIOS.required.iter().chain(REQUIRED) {
            std::fs::write(dir.path().join(format!("{module}.mod")), "").unwrap();
        }
        let error = modules(dir.path(), &BIOS).unwrap_err();
        assert!(error.to_string().contains("no blscfg command"), "{error}");
        std::fs::write(dir.path().join("blscfg.mod"), "").unwrap();
        std::fs::write(dir.path().join("halt.mod"), "").unwrap();
        let modules = modules(dir.path(), &BIOS).unwrap();
        assert_eq!(modules[modules.len() - 2..], ["blscfg", "halt"]);
    }
}
