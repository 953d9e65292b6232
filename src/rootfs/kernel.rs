//! The kernel in /usr/lib/modules/KVER and the initramfs beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::{Unit, Workspace};
use crate::sandbox::Sandbox;

/// Moves the kernel to /usr/lib/modules/KVER/vmlinuz, empties /boot, and returns KVER.
pub(super) fn settle(tree: &Path) -> Result<String> {
    let modules = tree.join("usr/lib/modules");
    let mut versions: Vec<String> = Vec::new();
    if modules.is_dir() {
        for dir in fs::read_dir_sorted(&modules)? {
            let version = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if dir.join("vmlinuz").is_file() || tree.join("boot").join(format!("vmlinuz-{version}")).is_file()
            {
                versions.push(version);
            }
        }
    }
    let [version] = versions.as_slice() else {
        return Err(if versions.is_empty() {
            Failure::new(
                Kind::Config,
                "the packages bring no kernel: neither /boot/vmlinuz-* nor /usr/lib/modules/*/vmlinuz is there",
                "add a kernel package (linux-image-amd64, kernel, NestOS-kernel) to packages",
            )
        } else {
            Failure::new(
                Kind::Config,
                format!("the packages bring several kernels: {}", versions.join(", ")),
                "an image has one kernel: leave out the other packages",
            )
        }
        .into());
    };
    let dir = modules.join(version);
    for (from, to) in [("vmlinuz", "vmlinuz"), ("config", "config"), ("System.map", "System.map")] {
        let source = tree.join("boot").join(format!("{from}-{version}"));
        if source.is_file() {
            fs::rename(&source, &dir.join(to))?;
        }
    }
    let boot = tree.join("boot");
    if boot.is_dir() {
        for path in fs::read_dir_sorted(&boot)? {
            fs::remove_tree(&path)?;
        }
    }
    for link in ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"] {
        fs::remove_file_if_exists(&tree.join(link))?;
    }
    Ok(version.clone())
}

/// Makes the initramfs with the tree's own dracut and checks that it can mount a root of type `driver`.
pub(super) fn initramfs(
    tree: &Path,
    version: &str,
    args: &[String],
    driver: &str,
    epoch: u64,
    work: &Workspace,
) -> Result<()> {
    let log = work.log("initramfs");
    fs::remove_file_if_exists(&log)?;
    let image = format!("/usr/lib/modules/{version}/initramfs.img");
    let progress = work.report.progress("making the initramfs", 0, Unit::Items);
    let sandbox = Sandbox::new(tree).env("SOURCE_DATE_EPOCH", epoch.to_string());
    sandbox
        .command("depmod")
        .args(["-a", version])
        .log(&log)
        .run()
        .context("listing the kernel's modules")?;
    sandbox
        .command("dracut")
        .args(["--reproducible", "--no-hostonly", "--force", "--tmpdir", "/tmp", "--add", "ostree"])
        .args(["--kver", version])
        .args(args)
        .arg(&image)
        .log(&log)
        .run_lines(|line| {
            progress.add(1);
            work.report.detail(line);
        })
        .context("making the initramfs with dracut")?;
    let path = tree.join(image.trim_start_matches('/'));
    if !path.is_file() {
        return Err(Failure::new(
            Kind::Build,
            "dracut ended well but wrote no initramfs",
            format!("see {}", log.display()),
        )
        .into());
    }
    // Any reader may see it: it holds no secret, and its mode must not depend on dracut's umask.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .with_context(|| format!("setting the mode of {}", path.display()))?;
    check(tree, version, &image, driver, &sandbox)
}

/// A root that the initramfs cannot mount shows only at boot: so look now.
fn check(tree: &Path, version: &str, image: &str, driver: &str, sandbox: &Sandbox) -> Result<()> {
    let listing = sandbox.command("lsinitrd").arg(image).output().context("listing the initramfs")?.text();
    let built_in =
        fs::read_to_string(&modules_dir(tree, version).join("modules.builtin")).unwrap_or_default();
    let has = |module: &str| holds(&listing, &built_in, module);
    if !has(driver) {
        return Err(Failure::new(
            Kind::Build,
            format!("the initramfs of kernel {version} lacks the driver {driver} of the root file system"),
            format!("add it in dracut.conf.d (add_drivers+=\" {driver} \"), or change rootfs in image.yaml"),
        )
        .into());
    }
    if !listing.contains("ostree-prepare-root") {
        return Err(Failure::new(
            Kind::Build,
            format!(
                "the initramfs of kernel {version} lacks ostree-prepare-root: it could not mount a deployment"
            ),
            "add the package that has OSTree's dracut module (Debian: ostree-boot, RPM: ostree)",
        )
        .into());
    }
    Ok(())
}

fn holds(listing: &str, built_in: &str, module: &str) -> bool {
    let file = format!("/{module}.ko");
    let found = |text: &str| {
        text.lines().any(|line| {
            line.find(&file).is_some_and(|at| {
                let rest = &line[at + file.len()..];
                rest.is_empty() || rest.starts_with('.') || rest.starts_with(' ')
            })
        })
    };
    found(listing) || found(built_in)
}

fn modules_dir(tree: &Path, version: &str) -> PathBuf {
    tree.join("usr/lib/modules").join(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_a_module_or_built_in() {
        let listing = "-rw-r--r-- 1 root root 1 Jan 1 1970 usr/lib/modules/6/kernel/fs/ext4/ext4.ko.xz\n";
        assert!(holds(listing, "", "ext4"));
        assert!(!holds(listing, "", "ext"));
        assert!(holds("", "kernel/fs/xfs/xfs.ko\n", "xfs"));
        assert!(!holds(listing, "", "xfs"));
    }

    #[test]
    fn one_kernel_exactly() {
        let tree = tempfile::tempdir().unwrap();
        let error = settle(tree.path()).unwrap_err().to_string();
        assert!(error.starts_with("the packages bring no kernel"), "{error}");
        for version in ["6.1", "6.2"] {
            std::fs::create_dir_all(tree.path().join("usr/lib/modules").join(version)).unwrap();
            std::fs::create_dir_all(tree.path().join("boot")).unwrap();
            std::fs::write(tree.path().join(format!("boot/vmlinuz-{version}")), "k").unwrap();
        }
        assert_eq!(
            settle(tree.path()).unwrap_err().to_string(),
            "the packages bring several kernels: 6.1, 6.2"
        );
        std::fs::remove_file(tree.path().join("boot/vmlinuz-6.1")).unwrap();
        assert_eq!(settle(tree.path()).unwrap(), "6.2");
        assert!(tree.path().join("usr/lib/modules/6.2/vmlinuz").is_file());
        assert_eq!(std::fs::read_dir(tree.path().join("boot")).unwrap().count(), 0);
    }
}
