//! What is wrong with an image that machines shall run: rules over the merged tree, each with an id, a cause
//! that can be seen in the tree, and a cure that can be written into a Containerfile.
//!
//! The rules know OSTree's ways: /usr is the image's and read-only, /etc is merged with the machine's, /var is
//! the machine's alone, /run and /tmp are empty at boot, and the kernel lies in /usr/lib/modules.

mod boot;
mod etc;
mod files;
mod known;
mod var;

use std::path::Path;

use serde::Serialize;

use super::view::View;
use known::Known;

/// How many paths a finding names.
const NAMED: usize = 5;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// It costs space, or may surprise.
    Warning,
    /// Machines will not boot, or will not have what the Containerfile put there.
    Error,
}

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule's id.
    pub rule: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a sentence without a full stop.
    pub cause: String,
    /// What to write into the Containerfile.
    pub cure: String,
    /// The first few paths it is about.
    pub paths: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// How many bytes they hold.
    pub bytes: u64,
}

/// A rule: an id that never changes, how bad it is, and the check.
struct Rule {
    id: &'static str,
    severity: Severity,
    check: fn(&View, &Known) -> Option<Found>,
}

/// What a check found.
#[derive(Default)]
struct Found {
    cause: String,
    cure: String,
    paths: Vec<String>,
    count: usize,
    bytes: u64,
}

const fn error(id: &'static str, check: fn(&View, &Known) -> Option<Found>) -> Rule {
    Rule { id, severity: Severity::Error, check }
}

const fn warning(id: &'static str, check: fn(&View, &Known) -> Option<Found>) -> Rule {
    Rule { id, severity: Severity::Warning, check }
}

const RULES: &[Rule] = &[
    error("kernel-missing", boot::kernel_missing),
    error("initramfs-missing", boot::initramfs_missing),
    error("several-kernels", boot::several_kernels),
    warning("initramfs-stale", boot::initramfs_stale),
    warning("boot-content", boot::boot_content),
    error("usr-etc", etc::usr_etc),
    error("machine-id", etc::machine_id),
    error("ssh-host-key", etc::ssh_host_key),
    warning("users-without-sysusers", etc::users),
    error("root-layout", files::root_layout),
    error("var-link", var::through_links),
    error("var-file", var::files),
    warning("var-directory", var::directories),
    warning("var-log", var::logs),
    warning("package-cache", var::package_cache),
    warning("run-or-tmp", files::run_or_tmp),
    error("special-file", files::special),
    warning("set-id", files::set_id),
    warning("world-writable", files::world_writable),
    warning("name-not-utf8", files::not_utf8),
];

/// What all rules find, the worst first.
pub(super) fn check(view: &View) -> Vec<Finding> {
    let known = Known::of(view);
    let mut findings: Vec<Finding> = RULES
        .iter()
        .filter_map(|rule| {
            let found = (rule.check)(view, &known)?;
            let Rule { id, severity, .. } = *rule;
            let Found { cause, cure, paths, count, bytes } = found;
            Some(Finding { rule: id, severity, cause, cure, paths, count, bytes })
        })
        .collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

impl Found {
    /// A finding about paths, if there are any.
    fn about<'v>(
        paths: impl IntoIterator<Item = (&'v Path, &'v super::view::Node)>,
        cause: &str,
        cure: &str,
    ) -> Option<Self> {
        let mut found = Self { cause: cause.to_owned(), cure: cure.to_owned(), ..Self::default() };
        for (path, node) in paths {
            if found.paths.len() < NAMED {
                found.paths.push(format!("/{}", path.display()));
            }
            found.count += 1;
            found.bytes += node.size;
        }
        (found.count > 0).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::derive::view::sample;

    /// A tree without fault.
    pub(super) const BASE: &[&str] = &[
        "boot/",
        "etc/",
        "etc/passwd=root:x:0:0::/root:/bin/sh",
        "opt@var/opt",
        "usr/",
        "usr/lib/modules/6.12/",
        "usr/lib/modules/6.12/vmlinuz",
        "usr/lib/modules/6.12/initramfs.img",
        "usr/lib/tmpfiles.d/var.conf=d /var/lib 0755 - - -\nq /var/tmp 1777 root root 30d",
        "usr/local@../var/usrlocal",
        "var/",
        "var/lib/",
        "var/tmp/",
    ];

    /// The rules that find something, with the first path each names.
    pub(super) fn found(added: &[&str]) -> Vec<(&'static str, String)> {
        let findings = check(&sample::view(BASE, added));
        findings
            .into_iter()
            .map(|finding| (finding.rule, finding.paths.first().cloned().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn a_tree_without_fault_has_no_findings() {
        assert_eq!(found(&[]), []);
        assert_eq!(found(&["usr/bin/nginx", "etc/nginx.conf", "var/lib/"]), []);
    }

    #[test]
    fn ids_are_told_apart() {
        let ids: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
        assert_eq!(ids.len(), RULES.len());
    }

    #[test]
    fn the_worst_comes_first_and_few_paths_are_named() {
        let many: Vec<String> = (0..9).map(|n| format!("var/cache/apt/{n}=abc")).collect();
        let mut added: Vec<&str> = many.iter().map(String::as_str).collect();
        added.push("usr/etc/x");
        let findings = check(&sample::view(BASE, &added));
        assert_eq!(findings[0].rule, "usr-etc");
        let cache = findings.iter().find(|finding| finding.rule == "package-cache").unwrap();
        assert_eq!((cache.count, cache.paths.len(), cache.bytes), (9, NAMED, 27));
    }
}
