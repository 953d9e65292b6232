//! Installing RPM packages into an empty tree: the host's rpm, which sees of the host only /usr, unpacks
//! them and runs their scriptlets in the tree, all in the sandbox.
//!
//! rpm goes on when a %post fails, so its log is read for that; it also tells which scriptlet ran last,
//! which names the one that never ended or that left a process behind.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::rpmdb;
use crate::failure::{Failure, Kind};
use crate::host::{CommandError, fs};
use crate::packages::backend::InstallRequest;
use crate::packages::held::remove_files;
use crate::pipeline::Unit;
use crate::sandbox::Sandbox;

/// Runs inside, by the host's shell. Arguments: rpm's.
const SCRIPT: &str = include_str!("install.sh");
/// Directories that the sandbox lays over the tree's own; with their modes.
const FRESH: &[(&str, u32)] =
    &[("proc", 0o555), ("dev", 0o755), ("run", 0o755), ("tmp", 0o1777), ("sys", 0o555)];
/// What kernel packages' scriptlets would run to make an initramfs and boot entries: nosa makes those that
/// count (kernel-install(8): a link to /dev/null masks).
const KERNEL_HOOKS: &[&str] = &["50-dracut", "51-dracut-rescue", "90-loaderentry", "90-uki-copy"];
/// Where the tree lies in the sandbox.
const TREE: &str = "/run/nosa/tree";

/// Installs the packages of a request.
pub(super) fn install(request: &InstallRequest) -> Result<()> {
    for (name, mode) in FRESH {
        let dir = request.tree.join(name);
        fs::create_dir_all(&dir)?;
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(*mode))
            .with_context(|| format!("setting the mode of {}", dir.display()))?;
    }
    mask_kernel_hooks(request.tree)?;
    let scratch = request.tmp.join("rpm");
    rpmdb::write_home(&scratch.join("home"), request.languages)?;
    fs::write(&scratch.join("install.sh"), SCRIPT)?;
    run(request, &scratch)?;
    unmask_kernel_hooks(request.tree)?;
    let owners = rpmdb::owners(request.tree)?;
    remove_files(request.tree, request.remove, &owners)?;
    rpmdb::settle(request.tree)?;
    keep_alternatives(request.tree)?;
    tidy(request.tree)
}

/// Moves what alternatives(8) remembers beside the programs that it chose among, as rpm-ostree does: in /var,
/// neither an image nor a Containerfile could keep it.
fn keep_alternatives(tree: &Path) -> Result<()> {
    let own = match fs::inside(tree, Path::new("var/lib/alternatives")) {
        Ok(own) if own.symlink_metadata().is_ok_and(|meta| meta.is_dir()) => own,
        _ => return Ok(()),
    };
    let kept = fs::inside(tree, Path::new("usr/lib/alternatives"))?;
    if kept.symlink_metadata().is_err() {
        fs::rename(&own, &kept)?;
        fs::symlink_atomic(Path::new("../../usr/lib/alternatives"), &own)?;
    }
    Ok(())
}

fn mask_kernel_hooks(tree: &Path) -> Result<()> {
    let dir = tree.join("etc/kernel/install.d");
    fs::create_dir_all(&dir)?;
    let mut hooks = KERNEL_HOOKS.iter().map(|name| dir.join(format!("{name}.install")));
    hooks.try_for_each(|hook| fs::symlink_atomic(Path::new("/dev/null"), &hook))
}

/// Scriptlets have run: every link in the tree may lead anywhere, and is followed inside only.
fn unmask_kernel_hooks(tree: &Path) -> Result<()> {
    for name in KERNEL_HOOKS {
        let Ok(hook) = fs::inside(tree, &Path::new("etc/kernel/install.d").join(format!("{name}.install")))
        else {
            continue;
        };
        if std::fs::read_link(&hook).is_ok_and(|target| target == Path::new("/dev/null")) {
            fs::remove_file_if_exists(&hook)?;
        }
    }
    Ok(())
}

fn run(request: &InstallRequest, scratch: &Path) -> Result<()> {
    fs::remove_file_if_exists(request.log)?;
    let mut sandbox = Sandbox::of_host(&scratch.join("host"))?
        .bind(request.tree, TREE)
        .system_dirs(TREE)
        .bind_ro(scratch, "/run/nosa/rpm")
        .bind(&scratch.join("home"), "/run/nosa/home")
        .env("HOME", "/run/nosa/home")
        .env("SOURCE_DATE_EPOCH", request.epoch.to_string());
    let mut dirs: BTreeMap<&Path, String> = BTreeMap::new();
    let mut inside: Vec<String> = Vec::new();
    for file in request.files {
        let dir = file.parent().unwrap_or(Path::new("/"));
        let next = format!("/run/nosa/packages/{}", dirs.len());
        let place = dirs.entry(dir).or_insert(next);
        inside.push(format!("{place}/{}", file.file_name().unwrap_or_default().to_string_lossy()));
    }
    for (dir, place) in &dirs {
        sandbox = sandbox.bind_ro(dir, place);
    }
    // rpm orders what its dependencies leave open by the order of its arguments.
    inside.sort_unstable();
    let mut command = sandbox.command("/usr/bin/sh").args(["/run/nosa/rpm/install.sh", "--upgrade", "-vv"]);
    command = command.args(["--noplugins", "--nosignature", "--root", TREE, "--dbpath", rpmdb::PATH]);
    if !request.documentation {
        command = command.arg("--excludedocs");
    }
    let progress = request.report.progress("installing packages", inside.len() as u64, Unit::Items);
    let mut story = Story::default();
    let result = command.args(inside).log(request.log).run_steps(request.limit, |line| {
        if line.starts_with("D:   install: ") {
            progress.add(1);
        }
        story.hear(line);
        if !line.starts_with("D: ") {
            request.report.detail(line);
        }
        // Whatever rpm itself says means that it goes on; a scriptlet's own words do not.
        line.starts_with("D: ")
    });
    drop(progress);
    for (process, scriptlet) in &story.left {
        request.report.warn(format!("{scriptlet} left the process {process} running; it was ended"));
    }
    match result {
        Err(error) => Err(story.explain(error, request.log)),
        Ok(()) => story.judge(request.log),
    }
}

/// What rpm tells of its scriptlets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Story {
    /// The scriptlet that runs, or ran last.
    current: Option<String>,
    running: bool,
    /// Scriptlets by the first process of each.
    started: BTreeMap<u32, String>,
    /// The last lines that scriptlets printed.
    said: Vec<String>,
    /// What must not be passed over.
    complaints: Vec<String>,
    /// Owners of files that no account has.
    ownerless: BTreeSet<String>,
    /// Processes that outlived the transaction, each with its scriptlet.
    left: Vec<(String, String)>,
}

impl Story {
    fn hear(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("nosa: left running: ") {
            let (pid, name) = rest.split_once(' ').unwrap_or((rest, ""));
            let pid: u32 = pid.parse().unwrap_or(0);
            let scriptlet = self.started.range(..=pid).next_back().map(|(_, scriptlet)| scriptlet.clone());
            self.left.push((name.to_owned(), scriptlet.unwrap_or_else(|| "a scriptlet".to_owned())));
            return;
        }
        let Some(debug) = line.strip_prefix("D: ") else {
            if line.contains("scriptlet failed") {
                self.complaints.append(&mut self.said);
                self.complaints.push(line.to_owned());
            } else if line.ends_with("does not exist - using root") {
                self.ownerless.insert(line.trim_start_matches("warning: ").to_owned());
            } else if self.running {
                self.said.push(line.to_owned());
                let surplus = self.said.len().saturating_sub(5);
                self.said.drain(..surplus);
            }
            return;
        };
        let Some((name, what)) = debug.split_once("): ").filter(|_| debug.starts_with('%')) else { return };
        let name = format!("{})", name.replace("%prein(", "%pre(").replace("%postin(", "%post("));
        if what.starts_with("scriptlet start") || what.starts_with("running <lua>") {
            (self.current, self.running) = (Some(name), true);
            self.said.clear();
        } else if let Some(pid) = what.split(" pid ").nth(1).and_then(|pid| pid.trim().parse().ok()) {
            self.started.insert(pid, name);
        } else if what.starts_with("waitpid(") {
            self.running = false;
        }
    }

    /// What rpm passed over and nosa does not.
    fn judge(&self, log: &Path) -> Result<()> {
        let log = format!("the whole output is in {}", log.display());
        let (cause, cure) = if !self.complaints.is_empty() {
            (format!("a scriptlet failed:\n    {}", self.complaints.join("\n    ")), log)
        } else if !self.ownerless.is_empty() {
            let owners: Vec<&str> = self.ownerless.iter().map(String::as_str).collect();
            let cause =
                format!("files of packages have owners that no account has:\n    {}", owners.join("\n    "));
            let cure = "add them to check-passwd and check-groups if those are used, else the package that makes them";
            (cause, format!("{cure}; {log}"))
        } else {
            return Ok(());
        };
        Err(Failure::new(Kind::Build, cause, cure).into())
    }

    fn explain(&self, error: anyhow::Error, log: &Path) -> anyhow::Error {
        let Some(command) = error.downcast_ref::<CommandError>() else { return error };
        let cure = format!("the whole output is in {}", log.display());
        let cause = match &self.current {
            Some(scriptlet) if command.overtime().is_some() => {
                let limit = command.overtime().unwrap_or_default();
                return Failure::new(
                    Kind::Build,
                    format!("{scriptlet} did not end within {limit}"),
                    format!("NOSA_SCRIPT_LIMIT=SECONDS gives more time; {cure}"),
                )
                .into();
            }
            _ if !self.complaints.is_empty() => {
                format!("a scriptlet failed:\n    {}", self.complaints.join("\n    "))
            }
            _ => {
                let lines = command.tail.iter().filter(|line| !line.starts_with("D: "));
                let lines: Vec<&str> = lines.map(String::as_str).collect();
                let first = lines.len().saturating_sub(6);
                format!("rpm ended with {}:\n    {}", command.status, lines[first..].join("\n    "))
            }
        };
        Failure::new(Kind::Build, cause, cure).into()
    }
}

/// What rpm and account tools leave behind.
fn tidy(tree: &Path) -> Result<()> {
    // Accounts that were there before their package: what it brings has been merged by name.
    for name in ["passwd", "group", "shadow", "gshadow"] {
        for ending in ["-", ".rpmnew"] {
            fs::remove_file_if_exists(&fs::inside(tree, Path::new(&format!("etc/{name}{ending}")))?)?;
        }
    }
    for name in ["etc/subuid-", "etc/subgid-", "etc/.pwd.lock"] {
        fs::remove_file_if_exists(&fs::inside(tree, Path::new(name))?)?;
    }
    // rpm keeps scriptlets' texts when it is asked to tell much.
    if let Ok(tmp) = fs::inside(tree, Path::new("var/tmp/."))
        && tmp.is_dir()
    {
        for path in fs::read_dir_sorted(&tmp)? {
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("rpm-tmp.")) {
                fs::remove_file_if_exists(&path)?;
            }
        }
    }
    for name in ["var/lib/dnf", "var/cache/dnf", "var/cache/ldconfig"] {
        if let Ok(place) = fs::inside(tree, Path::new(name)) {
            fs::remove_tree(&place)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[&str]) -> Story {
        let mut story = Story::default();
        lines.iter().for_each(|line| story.hear(line));
        story
    }

    #[test]
    fn a_failed_scriptlet_is_told_with_what_it_said() {
        let story = heard(&[
            "D: %post(a-1-1.noarch): scriptlet start",
            "D: %post(a-1-1.noarch): execv(/bin/sh) pid 12",
            "+ false",
            "cannot go on",
            "D: %post(a-1-1.noarch): waitpid(12) rc 12 status 100",
            "warning: %post(a-1-1.noarch) scriptlet failed, exit status 1",
        ]);
        assert_eq!(
            story.complaints,
            ["+ false", "cannot go on", "warning: %post(a-1-1.noarch) scriptlet failed, exit status 1"]
        );
    }

    #[test]
    fn owners_without_an_account_are_told_together() {
        let line = "warning: group shadow does not exist - using root";
        let error = heard(&[line, "warning: user a does not exist - using root", line]);
        let error = error.judge(Path::new("/log")).unwrap_err().to_string();
        assert_eq!(
            error,
            "files of packages have owners that no account has:\n    group shadow does not exist - using root\n    user a does not exist - using root"
        );
    }

    #[test]
    fn a_process_left_running_belongs_to_the_scriptlet_before_it() {
        let story = heard(&[
            "D: %prein(a-1-1.noarch): execv(/bin/sh) pid 12",
            "D: %post(b-1-1.noarch): execv(/bin/sh) pid 20",
            "nosa: left running: 15 sleep",
        ]);
        assert_eq!(story.left, [("sleep".to_owned(), "%pre(a-1-1.noarch)".to_owned())]);
    }
}
