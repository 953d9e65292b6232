//! Rules about the kernel and what boots it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::view::{NodeKind, View};
use super::{Found, Known};

const MODULES: &str = "usr/lib/modules";

/// The directories that hold a kernel.
fn kernels(view: &View) -> BTreeSet<PathBuf> {
    let in_modules = |path: &Path| path.parent().and_then(Path::parent) == Some(Path::new(MODULES));
    let kernels = view.below(MODULES).filter(|(path, _)| in_modules(path) && path.ends_with("vmlinuz"));
    kernels.filter_map(|(path, _)| path.parent().map(Path::to_owned)).collect()
}

pub(super) fn kernel_missing(view: &View, _: &Known) -> Option<Found> {
    kernels(view).is_empty().then(|| Found {
        cause: "no kernel lies in /usr/lib/modules/VERSION/vmlinuz, where a machine boots it from".into(),
        cure: "begin with an image that has one, or install a kernel and move it there".into(),
        paths: vec![format!("/{MODULES}")],
        count: 1,
        bytes: 0,
    })
}

pub(super) fn initramfs_missing(view: &View, _: &Known) -> Option<Found> {
    let kernels = kernels(view);
    let without = kernels.iter().filter(|dir| view.get(dir.join("initramfs.img")).is_none());
    let nodes = without.filter_map(|dir| view.get(dir).map(|node| (dir.as_path(), node)));
    let cause = "a kernel has no initramfs.img beside it, so nothing mounts the root";
    Found::about(
        nodes,
        cause,
        "make one: dracut --no-hostonly /usr/lib/modules/VERSION/initramfs.img VERSION",
    )
}

pub(super) fn several_kernels(view: &View, _: &Known) -> Option<Found> {
    let kernels = kernels(view);
    let nodes = kernels.iter().filter_map(|dir| view.get(dir).map(|node| (dir.as_path(), node)));
    let cause = "there are several kernels, and a machine boots only one of them";
    let found =
        Found::about(nodes, cause, "remove the packages of those that are not wanted, and their directories");
    found.filter(|found| found.count > 1)
}

/// What goes into an initramfs, or says what does, changed; the initramfs did not.
pub(super) fn initramfs_stale(view: &View, _: &Known) -> Option<Found> {
    let fresh = |dir: &PathBuf| view.get(dir.join("initramfs.img")).is_some_and(|node| view.is_added(node));
    let kernels = kernels(view);
    if kernels.is_empty() || kernels.iter().all(fresh) {
        return None;
    }
    let matters = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let module = path.starts_with(MODULES) && (name.contains(".ko") || name == "vmlinuz");
        module || path.starts_with("usr/lib/dracut") || path.starts_with("etc/dracut.conf.d")
    };
    let changed = view
        .all()
        .filter(|(path, node)| view.is_added(node) && node.kind != NodeKind::Directory && matters(path));
    let cause = "what an initramfs is made of changed, but the initramfs is the base's";
    Found::about(
        changed,
        cause,
        "make it anew: dracut --force --no-hostonly /usr/lib/modules/VERSION/initramfs.img VERSION",
    )
}

pub(super) fn boot_content(view: &View, _: &Known) -> Option<Found> {
    let files = view.below("boot").filter(|(_, node)| node.kind != NodeKind::Directory);
    let cause = "files in /boot do not reach machines, whose /boot is a file system of their own";
    Found::about(files, cause, "RUN rm -rf /boot/*, with the kernel in /usr/lib/modules/VERSION")
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::tests::{BASE, found};
    use crate::derive::view::sample;

    #[test]
    fn kernels_are_counted() {
        let without: Vec<&str> = BASE.iter().copied().filter(|path| !path.contains("vmlinuz")).collect();
        assert_eq!(check(&sample::view(&without, &[]))[0].rule, "kernel-missing");
        let second = ["usr/lib/modules/6.13/", "usr/lib/modules/6.13/vmlinuz"];
        let rules: Vec<&str> = found(&second).iter().map(|(rule, _)| *rule).collect();
        assert_eq!(rules, ["initramfs-missing", "several-kernels", "initramfs-stale"]);
    }

    #[test]
    fn a_new_module_wants_a_new_initramfs() {
        let module = "usr/lib/modules/6.12/extra/x.ko.xz";
        assert_eq!(found(&[module]), [("initramfs-stale", format!("/{module}"))]);
        assert_eq!(found(&[module, "usr/lib/modules/6.12/initramfs.img"]), []);
        assert_eq!(found(&["boot/vmlinuz-6.13"]), [("boot-content", "/boot/vmlinuz-6.13".to_owned())]);
    }
}
