//! Rules about /var: the machine's, which starts empty and which no update touches.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::super::view::{Node, NodeKind, View};
use super::{Found, Known, NAMED};

/// How many lines a cure has.
const SHOWN_LINES: usize = 20;
/// What package managers keep for their next run, with its directories. Other files in /var/cache count as
/// well; other directories there belong to services.
const CACHES: &[&str] = &[
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/dnf",
    "var/cache/ldconfig",
    "var/cache/libdnf5",
    "var/cache/yum",
    "var/lib/apt",
    "var/lib/dnf",
    "var/lib/ucf",
    "var/log/apt",
    "var/roothome/.cache",
];
/// What dpkg's helpers remember of what they enabled: no machine has it, and none misses it.
const UNMISSED: &[&str] = &[
    "var/lib/systemd/deb-systemd-helper-enabled",
    "var/lib/systemd/deb-systemd-helper-masked",
    "var/lib/systemd/deb-systemd-user-helper-enabled",
    "var/lib/systemd/deb-systemd-user-helper-masked",
];
/// Where the links of the root lead to, and what people write there.
const LINKED: &[(&str, &str)] = &[
    ("var/usrlocal", "/usr/local"),
    ("var/opt", "/opt"),
    ("var/srv", "/srv"),
    ("var/home", "/home"),
    ("var/mnt", "/mnt"),
    ("var/roothome", "/root"),
];

pub(super) fn package_cache(view: &View, known: &Known) -> Option<Found> {
    let files = content(view, known).filter(|(path, node)| is_file(node) && is_cache(path, node));
    let files: Vec<(&Path, &Node)> = files.collect();
    let cause = "package managers left what they need no more: no machine has it, every download does";
    let dirs: BTreeSet<&str> = files.iter().map(|(path, _)| cache_of(path)).collect();
    let within = |dir: &str| dirs.iter().any(|above| *above != dir && Path::new(dir).starts_with(above));
    let dirs: Vec<String> = dirs.iter().filter(|dir| !within(dir)).map(|dir| format!("/{dir}")).collect();
    // Directories stay: some are of packages, and not everything makes its own again.
    let cure = format!("end the same RUN with: && find {} -type f -delete", dirs.join(" "));
    Found::about(files, cause, &cure)
}

/// The directory of a cache's file that can be emptied.
fn cache_of(path: &Path) -> &'static str {
    CACHES.iter().find(|cache| path.starts_with(cache)).copied().unwrap_or("var/cache")
}

pub(super) fn logs(view: &View, known: &Known) -> Option<Found> {
    let files = content(view, known).filter(|(path, node)| is_log(path, node));
    let cause = "logs of the build are in the image";
    Found::about(files, cause, "end the same RUN with: && find /var/log -type f -delete")
}

pub(super) fn through_links(view: &View, known: &Known) -> Option<Found> {
    let files = content(view, known)
        .filter(|(path, node)| is_file(node) && linked(path).is_some() && !is_cache(path, node));
    let mut found = Found::about(
        files,
        "/usr/local, /opt, /srv, /home and /root are links into /var, so machines will not have this",
        "install below /usr (/usr/bin, /usr/lib/NAME); /usr/local and /opt are for what a machine adds itself",
    )?;
    for path in &mut found.paths {
        if let Some((dir, name)) = linked(Path::new(path.trim_start_matches('/'))) {
            let rest = path[dir.len() + 1..].to_owned();
            *path = format!("{name}{rest}");
        }
    }
    Some(found)
}

pub(super) fn files(view: &View, known: &Known) -> Option<Found> {
    let files = own(view, known).filter(|(_, node)| node.kind == NodeKind::Regular);
    let cause = "files in /var do not reach machines: /var is each machine's own";
    let cure = "put the file into /usr/share/NAME and copy it at boot with a line in /usr/lib/tmpfiles.d/NAME.conf: \
                C /var/lib/NAME/FILE - - - - /usr/share/NAME/FILE";
    Found::about(files, cause, cure)
}

pub(super) fn directories(view: &View, known: &Known) -> Option<Found> {
    let mut lines: BTreeMap<&Path, String> = own(view, known)
        .filter(|(_, node)| !matches!(node.kind, NodeKind::Regular | NodeKind::Special))
        .map(|(path, node)| (path, tmpfiles_line(path, node)))
        .collect();
    // A package's directory is missed as well if the Containerfile removed it.
    for path in packaged(view) {
        let counts = !known.makes(path) && !CACHES.iter().any(|cache| path.starts_with(cache));
        if counts && view.get(path).is_none() {
            lines.insert(path, format!("d /{} 0755 root root -", path.display()));
        }
    }
    if lines.is_empty() {
        return None;
    }
    let mut found = Found { count: lines.len(), ..Found::default() };
    found.cause = "directories in /var are not made on machines, and services that count on them fail".into();
    found.paths = lines.keys().take(NAMED).map(|path| format!("/{}", path.display())).collect();
    found.cure = format!(
        "write into /usr/lib/tmpfiles.d/NAME.conf:\n    {}",
        lines.into_values().take(SHOWN_LINES).collect::<Vec<_>>().join("\n    ")
    );
    Some(found)
}

fn tmpfiles_line(path: &Path, node: &Node) -> String {
    match &node.kind {
        NodeKind::Symlink(target) => format!("L /{} - - - - {}", path.display(), target.display()),
        _ => {
            let name = |id: u32| if id == 0 { "root".to_owned() } else { id.to_string() };
            format!("d /{} {:04o} {} {} -", path.display(), node.mode, name(node.uid), name(node.gid))
        }
    }
}

/// What packages that were added have in /var, by dpkg's lists, which name directories before what is in them.
fn packaged(view: &View) -> impl Iterator<Item = &Path> {
    let lists = view.all().filter(|(path, node)| view.is_added(node) && view.before(path).is_none());
    let lists = lists.filter(|(path, _)| path.extension().is_some_and(|extension| extension == "list"));
    let lines = lists.flat_map(|(_, node)| node.text.as_deref().unwrap_or_default().lines());
    lines.filter_map(|line| line.strip_prefix('/')).filter(|line| line.starts_with("var/")).map(Path::new)
}

/// What lies in /var and is not made at boot.
fn content<'v>(view: &'v View, known: &'v Known) -> impl Iterator<Item = (&'v Path, &'v Node)> {
    let unmissed = |path: &Path| UNMISSED.iter().any(|dir| path.starts_with(dir));
    // Of a commit's own layers machines take the objects; the rest is for containers.
    let counts = |node: &Node| !view.has_base() || view.is_added(node);
    view.below("var").filter(move |(path, node)| {
        counts(node) && !known.makes(path) && !path.starts_with("var/tmp") && !unmissed(path)
    })
}

/// As [`content`], without what other rules speak of.
fn own<'v>(view: &'v View, known: &'v Known) -> impl Iterator<Item = (&'v Path, &'v Node)> {
    content(view, known)
        .filter(|(path, node)| !is_cache(path, node) && !is_log(path, node) && linked(path).is_none())
}

fn is_cache(path: &Path, node: &Node) -> bool {
    CACHES.iter().any(|cache| path.starts_with(cache)) || (is_file(node) && path.starts_with("var/cache"))
}

/// A directory for logs is something that a service wants.
fn is_log(path: &Path, node: &Node) -> bool {
    is_file(node) && path.starts_with("var/log")
}

fn is_file(node: &Node) -> bool {
    node.kind != NodeKind::Directory
}

fn linked(path: &Path) -> Option<(&'static str, &'static str)> {
    LINKED.iter().copied().find(|(dir, _)| path.starts_with(dir))
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::super::tests::{BASE, found};
    use crate::derive::view::sample;

    #[test]
    fn what_machines_will_not_have_is_told() {
        assert_eq!(found(&["var/lib/x/", "var/lib/x/db"])[0], ("var-file", "/var/lib/x/db".to_owned()));
        assert_eq!(found(&["var/usrlocal/bin/x"]), [("var-link", "/usr/local/bin/x".to_owned())]);
        assert_eq!(found(&["var/opt/a/x"]), [("var-link", "/opt/a/x".to_owned())]);
        assert_eq!(found(&["var/lib/apt/lists/x"]), [("package-cache", "/var/lib/apt/lists/x".to_owned())]);
        assert_eq!(found(&["var/lib/systemd/deb-systemd-helper-enabled/x.service"]), []);
        assert_eq!(found(&["usr/share/rpm/rpmdb.sqlite-shm", "usr/share/rpm/.rpm.lock"]), []);
        assert_eq!(found(&["var/log/dpkg.log"]), [("var-log", "/var/log/dpkg.log".to_owned())]);
    }

    #[test]
    fn each_package_managers_leftovers_have_their_own_cure() {
        let cure = |added: &[&str]| check(&sample::view(BASE, added)).remove(0).cure;
        let dnf = ["var/cache/dnf/base/x.solv", "var/cache/dnf/y", "var/lib/dnf/history.sqlite"];
        assert_eq!(cure(&dnf), "end the same RUN with: && find /var/cache/dnf /var/lib/dnf -type f -delete");
        let apt = ["var/cache/apt/x.bin", "var/cache/man/index.db", "var/lib/apt/lists/x"];
        assert_eq!(cure(&apt), "end the same RUN with: && find /var/cache /var/lib/apt -type f -delete");
    }

    #[test]
    fn directories_are_cured_by_lines_that_can_be_pasted() {
        let findings = check(&sample::view(BASE, &["var/lib/x/", "var/lib/y@x"]));
        assert_eq!(findings[0].rule, "var-directory");
        assert!(findings[0].cure.contains("\n    d /var/lib/x 0755 root root -\n"), "{}", findings[0].cure);
        assert!(findings[0].cure.ends_with("    L /var/lib/y - - - - x"), "{}", findings[0].cure);
        let made = "usr/lib/tmpfiles.d/x.conf=d /var/lib/x 0755 - - -\nL /var/lib/y - - - - x";
        assert_eq!(found(&["var/lib/x/", "var/lib/y@x", made]), []);
    }

    #[test]
    fn a_packages_directory_is_missed_even_if_it_was_removed() {
        let list = "usr/lib/sysimage/dpkg/info/x.list=/.\n/var\n/var/lib\n/var/lib/x\n/usr/bin/x";
        assert_eq!(found(&[list]), [("var-directory", "/var/lib/x".to_owned())]);
        assert_eq!(found(&[list, "usr/lib/tmpfiles.d/x.conf=d /var/lib/x 0755 - - -"]), []);
    }
}
