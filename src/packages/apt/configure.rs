//! Installing debs into an empty tree: unpacked by nosa, several at a time, then configured by the tree's
//! own dpkg in the sandbox.
//!
//! dpkg flushes its database to disk at every step; it lies on a file system in memory meanwhile, for the
//! tree is either finished or thrown away.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use crate::failure::{Failure, Kind};
use crate::host::{CommandError, fs};
use crate::packages::backend::InstallRequest;
use crate::packages::deb::{Deb, Scripts, Tree, write_database, write_triggers};
use crate::pipeline::Unit;
use crate::sandbox::Sandbox;

/// Runs inside the tree, by its own shell. Arguments: the packages that have a preinst, first to last.
const CONFIGURE: &str = include_str!("configure.sh");

/// Programs that packages' scripts run to make an initramfs: nosa makes the one that counts, later and by
/// itself, so that these do nothing meanwhile.
const INITRAMFS_MAKERS: &[&str] = &["usr/bin/dracut", "usr/sbin/update-initramfs"];

/// Unpacks and configures the packages of a request.
pub(super) fn install(request: &InstallRequest, arch: &str) -> Result<()> {
    let packages = unpack(request)?;
    write_database(request.tree, arch, &packages)?;
    configure(request, &packages)?;
    write_triggers(request.tree, &packages)?;
    check_all_configured(request.tree)
}

fn unpack(request: &InstallRequest) -> Result<Vec<Scripts>> {
    let debs: Vec<Deb> = request.files.iter().map(|file| Deb::open(file)).collect::<Result<_>>()?;
    let control: Vec<_> = debs.par_iter().map(Deb::control).collect::<Result<Vec<_>>>()?;
    let names = request.packages.iter().map(|package| package.name.clone()).collect();
    let replaces = control.iter().map(|files| replaces(files)).collect();
    let tree = Tree::new(request.tree, names, replaces)?;
    let total = request.packages.iter().map(|package| package.size).sum();
    let progress = request.report.progress("unpacking packages", total, Unit::Bytes);
    // The largest first: nobody waits at the end for one big package.
    let mut order: Vec<usize> = (0..debs.len()).collect();
    order.sort_by_key(|&index| std::cmp::Reverse(request.packages[index].size));
    let lists: Vec<Mutex<Vec<String>>> = (0..debs.len()).map(|_| Mutex::default()).collect();
    order.par_iter().with_max_len(1).try_for_each(|&index| -> Result<()> {
        let name = &request.packages[index].name;
        let patterns: Vec<_> = request
            .remove
            .iter()
            .filter(|remove| remove.package.is_match(name))
            .flat_map(|remove| &remove.patterns)
            .collect();
        let skip = |path: &str| {
            patterns.iter().any(|pattern| pattern.is_match(path))
                || (!request.documentation && is_documentation(path))
                || request.languages.is_some_and(|languages| is_foreign(path, languages))
        };
        let unpacked = tree
            .unpack(index, debs[index].data()?, &skip)
            .with_context(|| format!("installing package {name}"))?;
        if let Ok(mut list) = lists[index].lock() {
            *list = unpacked.paths;
        }
        progress.add(request.packages[index].size);
        Ok(())
    })?;
    tree.finish()?;
    let lists = lists.into_iter().map(|list| list.into_inner().unwrap_or_default());
    control.into_iter().zip(lists).map(|(files, paths)| Scripts::new(files, paths)).collect()
}

/// Whether a file is documentation; licences are not (Debian Policy 12.5).
fn is_documentation(path: &str) -> bool {
    let dirs = ["/usr/share/doc/", "/usr/share/man/", "/usr/share/info/", "/usr/share/gtk-doc/"];
    dirs.iter().any(|dir| path.starts_with(dir)) && !path.ends_with("/copyright")
}

/// Whether a file is for another language than these, by the directories of gettext and man.
fn is_foreign(path: &str, languages: &[String]) -> bool {
    let rest = path.strip_prefix("/usr/share/locale/").or_else(|| path.strip_prefix("/usr/share/man/"));
    let Some((language, _)) = rest.and_then(|rest| rest.split_once('/')) else { return false };
    let section =
        language.strip_prefix("man").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let known = languages.iter().any(|wanted| {
        wanted == language
            || language.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.starts_with(['_', '@', '.']))
    });
    !section && !known
}

/// The names in a package's `Replaces` field.
fn replaces(control: &[(String, Vec<u8>)]) -> Vec<String> {
    let text =
        control.iter().find(|(name, _)| name == "control").map(|(_, bytes)| String::from_utf8_lossy(bytes));
    let field = text.as_deref().and_then(|text| {
        crate::packages::deb::paragraphs(text).next().and_then(|paragraph| paragraph.get_folded("Replaces"))
    });
    field
        .unwrap_or_default()
        .split(',')
        .filter_map(|item| item.split_whitespace().next())
        .map(|name| name.split(':').next().unwrap_or(name).to_owned())
        .collect()
}

fn configure(request: &InstallRequest, packages: &[Scripts]) -> Result<()> {
    let scratch = request.tmp.join("configure");
    fs::create_dir_all(&scratch)?;
    fs::write(&scratch.join("configure.sh"), CONFIGURE)?;
    let preinsts = packages.iter().filter(|package| package.has("preinst"));
    let sandbox = Sandbox::new(request.tree)
        .tmpfs("/var/lib/dpkg")
        .bind(&request.tree.join("var/lib/dpkg"), "/run/nosa/dpkg")
        .bind_ro(&scratch, "/run/nosa/scripts")
        .env("SOURCE_DATE_EPOCH", request.epoch.to_string())
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
        .env("DPKG_MAINTSCRIPT_NAME", "preinst");
    let nothing = scratch.join("nothing");
    fs::write(&nothing, "#!/bin/sh\nexit 0\n")?;
    std::fs::set_permissions(&nothing, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .with_context(|| format!("making {} executable", nothing.display()))?;
    let makers = INITRAMFS_MAKERS.iter().filter(|path| request.tree.join(path).is_file());
    let sandbox = makers.fold(sandbox, |sandbox, path| sandbox.bind_ro(&nothing, &format!("/{path}")));
    let progress = request.report.progress("configuring packages", packages.len() as u64, Unit::Items);
    let mut current = String::new();
    let result = sandbox
        .command("/bin/sh")
        .args(["/run/nosa/scripts/configure.sh"])
        .args(preinsts.map(Scripts::stem))
        .log(request.log)
        .run_steps(request.limit, |line| {
            if line.starts_with("Setting up ") {
                progress.add(1);
            }
            let begins = begun(line);
            if let Some(name) = begins {
                current = name.to_owned();
            }
            if let Some(left) = line.strip_prefix("nosa: left running: ") {
                let (package, process) = left.split_once(' ').unwrap_or((left, ""));
                request.report.warn(format!(
                    "a script of package {package} left the process {process} running; it was ended"
                ));
            }
            request.report.detail(line);
            begins.is_some()
        });
    result.map_err(|error| script_failure(error, &current, request.log))
}

/// The package whose scripts begin with this line of output.
fn begun(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("Setting up ").or_else(|| line.strip_prefix("nosa: running preinst of "))?;
    let name = rest.split_whitespace().next()?;
    Some(name.split(':').next().unwrap_or(name))
}

/// Names the package whose script failed, if dpkg told.
fn script_failure(error: anyhow::Error, current: &str, log: &Path) -> anyhow::Error {
    let Some(command) = error.downcast_ref::<CommandError>() else { return error };
    if let Some(limit) = command.overtime().filter(|_| !current.is_empty()) {
        let cause = format!("a script of package {current} did not end within {limit}");
        let cure =
            format!("NOSA_SCRIPT_LIMIT=SECONDS gives more time; the whole output is in {}", log.display());
        return Failure::new(Kind::Build, cause, cure).into();
    }
    let named = command.tail.iter().find_map(|line| {
        line.strip_prefix("dpkg: error processing package ")
            .and_then(|rest| rest.split_whitespace().next())
            .or_else(|| {
                line.strip_prefix("nosa: preinst of ").and_then(|rest| rest.split_whitespace().next())
            })
    });
    let Some(package) = named else { return error };
    let last: Vec<&str> = command.tail.iter().rev().take(6).rev().map(String::as_str).collect();
    Failure::new(
        Kind::Build,
        format!("a script of package {package} failed:\n    {}", last.join("\n    ")),
        format!("the whole output is in {}", log.display()),
    )
    .into()
}

/// dpkg's own word on the result: its exit code says nothing about packages it never reached.
fn check_all_configured(tree: &Path) -> Result<()> {
    let status = fs::read_to_string(&tree.join("var/lib/dpkg/status"))?;
    let unfinished: BTreeSet<&str> = crate::packages::deb::paragraphs(&status)
        .filter(|paragraph| paragraph.get("Status") != Some("install ok installed"))
        .filter_map(|paragraph| paragraph.get("Package"))
        .collect();
    if unfinished.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = unfinished.into_iter().collect();
    Err(Failure::new(
        Kind::Build,
        format!("dpkg left packages unconfigured: {}", names.join(", ")),
        "see the log of the install stage",
    )
    .into())
}
