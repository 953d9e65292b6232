//! What a console or journal must not contain: kola's table of panics, crashes and dead machines.

use std::sync::OnceLock;

use regex::Regex;

/// Something bad in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it means.
    pub meaning: &'static str,
    /// The line.
    pub line: String,
    /// Whether it only warns.
    pub warning: bool,
    /// Whether the machine will not go on.
    pub fatal: bool,
}

struct Row {
    meaning: &'static str,
    pattern: &'static str,
    kind: RowKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RowKind {
    Fatal,
    Error,
    Warning,
}

const TABLE: &[Row] = &[
    row(
        "emergency shell",
        r"Press Enter for emergency shell|Starting Emergency Shell|You are in emergency mode",
        RowKind::Fatal,
    ),
    row("dracut gave up", r"dracut: Refusing to continue", RowKind::Fatal),
    row("kernel panic", r"Kernel panic - not syncing: .*", RowKind::Fatal),
    row("kernel oops", r"Oops:", RowKind::Error),
    row("kernel warning", r"WARNING: CPU: \d+ PID: \d+ at .+", RowKind::Error),
    row("soft lockup", r"watchdog: BUG: soft lockup - CPU", RowKind::Warning),
    row("disk went offline", r"rejecting I/O to offline device", RowKind::Error),
    row("ext4 lost data", r"EXT4-fs \([^)]+\): Delayed block allocation failed", RowKind::Error),
    row("GRUB memory corruption", r"(alloc|free) magic (is )?broken", RowKind::Fatal),
    row(
        "Ignition was cancelled",
        r"ignition\[[0-9]+\]: failed to fetch config: context canceled",
        RowKind::Error,
    ),
    row(
        "initrd-cleanup was killed",
        r"initrd-cleanup\.service: Main process exited, code=killed, status=15/TERM",
        RowKind::Error,
    ),
    row("Go program panicked", r"^(?:.*\]: )?panic: .*", RowKind::Error),
    row("segmentation fault", r"SIGSEGV|=11/SEGV", RowKind::Error),
    row("core dump", r"[Cc]ore dump(?:ed)?\b", RowKind::Error),
    row("unit ordering cycle", r"Ordering cycle found", RowKind::Error),
    row("out of memory", r"invoked oom-killer", RowKind::Error),
    row(
        "generator failed",
        r"/.*/system-generators/.* (failed with exit status|terminated by signal|failed due to unknown reason)",
        RowKind::Error,
    ),
];

/// How often the bonding driver may say it before it is stuck.
const BONDING_LIMIT: usize = 10;
const BONDING: &str = "link status definitely";

const fn row(meaning: &'static str, pattern: &'static str, kind: RowKind) -> Row {
    Row { meaning, pattern, kind }
}

/// Everything bad in a log, each row of the table once, at its first line.
#[must_use]
pub fn scan(log: &str) -> Vec<Finding> {
    static COMPILED: OnceLock<Vec<(&'static Row, Regex)>> = OnceLock::new();
    let table = COMPILED.get_or_init(|| {
        TABLE
            .iter()
            .map(|row| (row, Regex::new(row.pattern).expect("the table's patterns are tested")))
            .collect()
    });
    let mut findings: Vec<Finding> = table
        .iter()
        .filter_map(|(row, regex)| {
            let line = log.lines().find(|line| regex.is_match(line))?;
            Some(finding(row, line))
        })
        .collect();
    if log.lines().filter(|line| line.contains(BONDING)).count() >= BONDING_LIMIT {
        let line = format!("{BONDING} (at least {BONDING_LIMIT} times)");
        findings.push(Finding { meaning: "bonding flaps", line, warning: false, fatal: false });
    }
    findings
}

/// The first sign in a log that the machine will not go on.
#[must_use]
pub fn dead(log: &str) -> Option<Finding> {
    scan(log).into_iter().find(|finding| finding.fatal)
}

fn finding(row: &Row, line: &str) -> Finding {
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    Finding {
        meaning: row.meaning,
        line: line.trim().to_owned(),
        warning: row.kind == RowKind::Warning,
        fatal: row.kind == RowKind::Fatal,
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.meaning, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_finds_its_line() {
        let cases = [
            ("You are in emergency mode. After logging in", "emergency shell"),
            ("dracut: Refusing to continue", "dracut gave up"),
            ("[ 1.0] Kernel panic - not syncing: Attempted to kill init!", "kernel panic"),
            ("[ 1.0] Oops: 0000 [#1] SMP", "kernel oops"),
            ("WARNING: CPU: 1 PID: 12 at kernel/x.c:1 foo", "kernel warning"),
            ("watchdog: BUG: soft lockup - CPU#0 stuck", "soft lockup"),
            ("sd 0:0:0:0: rejecting I/O to offline device", "disk went offline"),
            ("EXT4-fs (vda4): Delayed block allocation failed for inode 1", "ext4 lost data"),
            ("error: alloc magic is broken at 0x7", "GRUB memory corruption"),
            ("ignition[7]: failed to fetch config: context canceled", "Ignition was cancelled"),
            (
                "initrd-cleanup.service: Main process exited, code=killed, status=15/TERM",
                "initrd-cleanup was killed",
            ),
            ("podman[3]: panic: runtime error", "Go program panicked"),
            ("x.service: Main process exited, code=dumped, status=11/SEGV", "segmentation fault"),
            ("systemd-coredump[1]: Process 2 (x) dumped core. core dump", "core dump"),
            ("systemd[1]: Ordering cycle found, skipping x", "unit ordering cycle"),
            ("stress invoked oom-killer: gfp_mask", "out of memory"),
            ("/usr/lib/systemd/system-generators/x failed with exit status 1.", "generator failed"),
        ];
        assert_eq!(cases.len(), TABLE.len());
        for (line, meaning) in cases {
            let findings = scan(&format!("fine\n{line}\nfine\n"));
            assert!(findings.iter().any(|finding| finding.meaning == meaning), "{line}: {findings:?}");
        }
        assert!(scan("link status definitely up\n".repeat(10).as_str())[0].meaning == "bonding flaps");
    }

    #[test]
    fn an_ordinary_boot_is_clean() {
        let log = "Kernel command line: panic=30 quiet\nStarting systemd-coredump.socket\n[  OK  ] Reached target\nemergency.target: dependency\n";
        assert_eq!(scan(log), []);
    }
}
