//! Results in words: a diff of two builds, what is wrong with an image.

use super::render;
use crate::compare::{Compared, Diff, FileChange, FileDiff, KargsChange, PackageChange, SizeChange};
use crate::derive::{Derived, Finding, Severity};

/// Prints a diff.
pub(super) fn diff(diff: &Diff) {
    render::print(&format!("from {} to {} ({})", diff.from, diff.to, diff.arch));
    part("packages", &diff.packages, |changes| changes.iter().map(package).collect());
    part("files", &diff.files, files);
    part("sizes", &diff.sizes, |changes| changes.iter().map(size).collect());
    part("initramfs", &diff.initramfs, files);
    part("kernel arguments", &diff.kargs, |changes| changes.iter().flat_map(kargs).collect());
}

/// Prints what each instruction of a Containerfile added, and what is wrong with the result.
pub(super) fn derived(derived: &Derived) {
    let mut rows = vec![["download", "unpacked", "instruction"].map(str::to_owned).to_vec()];
    for step in &derived.steps {
        let sizes = [step.compressed, step.uncompressed].map(render::bytes);
        rows.push(vec![sizes[0].clone(), sizes[1].clone(), step.instruction.clone()]);
    }
    render::print_table(&rows);
    findings(&derived.findings);
    render::print(&format!("{}  sha256:{}", derived.name, derived.manifest));
}

/// Prints what is wrong with an image.
pub(super) fn findings(findings: &[Finding]) {
    for finding in findings {
        let Finding { rule, cause, cure, paths, count, bytes, .. } = finding;
        let word = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        render::print(&format!("{rule} ({word}): {cause}"));
        let more =
            if *count > paths.len() { format!(" and {} more", count - paths.len()) } else { String::new() };
        let size = if *bytes > 0 { format!(" ({})", render::bytes(*bytes)) } else { String::new() };
        render::print(&format!("    {}{more}{size}", paths.join(" ")));
        render::print(&format!("  {cure}"));
    }
    if findings.is_empty() {
        render::print("no findings");
    }
}

fn part<T>(title: &str, part: &Compared<T>, rows: impl FnOnce(&T) -> Vec<Vec<String>>) {
    match part {
        Compared::Skipped => {}
        Compared::Unavailable(why) => render::print(&format!("{title}: not compared: {why}")),
        Compared::Changes(changes) => {
            let rows = rows(changes);
            let none = if rows.is_empty() { " no difference" } else { "" };
            render::print(&format!("{title}:{none}"));
            render::print_table(&rows);
        }
    }
}

fn row(sign: &str, cells: &[&str]) -> Vec<String> {
    let mut row = vec![format!("  {sign}")];
    row.extend(cells.iter().map(|cell| (*cell).to_owned()));
    row
}

fn package(change: &PackageChange) -> Vec<String> {
    use crate::compare::PackageMove::{Added, Downgraded, Removed, Upgraded};
    let sign = match change.change {
        Added => "+",
        Removed => "-",
        Upgraded => "^",
        Downgraded => "v",
    };
    let versions: Vec<&str> = [&change.from, &change.to].into_iter().flatten().map(String::as_str).collect();
    row(sign, &[&change.name, &change.arch, &versions.join(" -> ")])
}

fn files(diff: &FileDiff) -> Vec<Vec<String>> {
    let lists = [("+", &diff.added), ("-", &diff.removed), ("~", &diff.changed)];
    let all = lists.into_iter().flat_map(|(sign, list)| list.iter().map(move |change| (sign, change)));
    all.map(|(sign, change)| file(sign, change)).collect()
}

fn file(sign: &str, change: &FileChange) -> Vec<String> {
    let size = |size: Option<u64>| size.map(render::bytes);
    let sizes = match (size(change.from_size), size(change.to_size)) {
        (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
        (from, to) => to.or(from).unwrap_or_default(),
    };
    row(sign, &[&change.path, &sizes])
}

fn size(change: &SizeChange) -> Vec<String> {
    let text = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), render::bytes);
    let delta = match (change.from, change.to) {
        (Some(from), Some(to)) if from > to => format!("-{}", render::bytes(from - to)),
        (Some(from), Some(to)) if from < to => format!("+{}", render::bytes(to - from)),
        (Some(_), Some(_)) => "=".to_owned(),
        _ => String::new(),
    };
    row("", &[&change.artifact, &text(change.from), &text(change.to), &delta])
}

fn kargs(change: &KargsChange) -> Vec<Vec<String>> {
    let lists = [("+", &change.added), ("-", &change.removed)];
    let all = lists.into_iter().flat_map(|(sign, list)| list.iter().map(move |word| (sign, word)));
    all.map(|(sign, word)| row(sign, &[&change.artifact, word])).collect()
}
