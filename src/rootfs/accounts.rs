//! Users and groups with numbers that the configuration fixes (`check-passwd`, `check-groups`): there
//! before the packages' scripts run, so that these find them, and compared afterwards.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::manifest::Manifest;
use crate::pipeline::{KeyHasher, Reporter};

/// passwd(5), group(5), shadow(5) and gshadow(5) of the accounts that the configuration fixes.
struct Files {
    passwd: String,
    group: String,
    shadow: String,
    gshadow: String,
}

fn files(manifest: &Manifest) -> Result<Files> {
    let mut files =
        Files { passwd: String::new(), group: String::new(), shadow: String::new(), gshadow: String::new() };
    for user in manifest.check_passwd.iter().flat_map(|check| check.entries()) {
        let home = user.home.as_deref().unwrap_or("/");
        let shell = user.shell.as_deref().unwrap_or("/usr/sbin/nologin");
        writeln!(files.passwd, "{}:x:{}:{}:{}:{home}:{shell}", user.name, user.uid, user.gid, user.comment)
            .context("composing /etc/passwd")?;
        // Locked, and never changed as far as anybody knows: as rpm-ostree writes it.
        writeln!(files.shadow, "{}:*::0:99999:7:::", user.name).context("composing /etc/shadow")?;
    }
    for group in manifest.check_groups.iter().flat_map(|check| check.entries()) {
        let members = group.members.join(",");
        writeln!(files.group, "{}:x:{}:{members}", group.name, group.gid).context("composing /etc/group")?;
        writeln!(files.gshadow, "{}:::{members}", group.name).context("composing /etc/gshadow")?;
    }
    Ok(files)
}

/// Adds what the tree's accounts depend on to a key.
pub(super) fn key(manifest: &Manifest, hash: &mut KeyHasher) {
    for user in manifest.check_passwd.iter().flat_map(|check| check.entries()) {
        let place = (user.uid, user.gid, &user.comment, &user.home, &user.shell);
        hash.input(format!("check-passwd: {}", user.name), format_args!("{place:?}"));
    }
    for group in manifest.check_groups.iter().flat_map(|check| check.entries()) {
        let place = (group.gid, &group.members);
        hash.input(format!("check-groups: {}", group.name), format_args!("{place:?}"));
    }
}

/// Puts the accounts into an empty tree.
pub(super) fn seed(tree: &Path, manifest: &Manifest) -> Result<()> {
    let files = files(manifest)?;
    let etc = tree.join("etc");
    for (name, text, mode) in [
        ("passwd", files.passwd, 0o644),
        ("group", files.group, 0o644),
        ("shadow", files.shadow, 0o600),
        ("gshadow", files.gshadow, 0o600),
    ] {
        if text.is_empty() {
            continue;
        }
        fs::create_dir_all(&etc)?;
        let path = etc.join(name);
        fs::write(&path, text)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
            .with_context(|| format!("setting the mode of {}", path.display()))?;
    }
    Ok(())
}

/// Compares the accounts of an installed tree with what the configuration fixes.
pub(super) fn check(tree: &Path, manifest: &Manifest, report: &Reporter) -> Result<()> {
    if let Some(check) = &manifest.check_passwd {
        let found = numbers(tree, "etc/passwd")?;
        let wanted = check
            .entries()
            .iter()
            .map(|user| (user.name.as_str(), format!("{}:{}", user.uid, user.gid), user.origin.as_str()));
        compare("user", wanted.collect(), &found, &manifest.ignore_removed_users, report)?;
    }
    if let Some(check) = &manifest.check_groups {
        let found = numbers(tree, "etc/group")?;
        let wanted = check
            .entries()
            .iter()
            .map(|group| (group.name.as_str(), group.gid.to_string(), group.origin.as_str()));
        compare("group", wanted.collect(), &found, &manifest.ignore_removed_groups, report)?;
    }
    Ok(())
}

/// Names with their numbers: `uid:gid` in /etc/passwd, the third field in /etc/group.
fn numbers(tree: &Path, path: &str) -> Result<BTreeMap<String, String>> {
    let text = fs::read_optional(&fs::inside(tree, Path::new(path))?)?.unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let numbers = if path.ends_with("passwd") {
            format!("{}:{}", fields.get(2)?, fields.get(3)?)
        } else {
            (*fields.get(2)?).to_owned()
        };
        Some((fields.first()?.to_string(), numbers))
    });
    Ok(lines.collect())
}

fn compare(
    what: &str,
    wanted: Vec<(&str, String, &str)>,
    found: &BTreeMap<String, String>,
    ignored: &[String],
    report: &Reporter,
) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    for (name, numbers, origin) in &wanted {
        let may_vanish = ignored.iter().any(|ignored| ignored == name || ignored == "*");
        let (cause, cure) = match found.get(*name) {
            Some(is) if is == numbers => continue,
            None if may_vanish => continue,
            Some(is) => (
                format!("{origin}: {what} {name} is to be {numbers}, and the packages made it {is}"),
                format!("give it the number {is} there, or find the package that insists on it"),
            ),
            None => (
                format!("{origin}: {what} {name} is to be {numbers}, and it is gone from the tree"),
                format!("remove the line, or name it in ignore-removed-{what}s"),
            ),
        };
        return Err(Failure::new(Kind::Config, cause, cure).into());
    }
    let new: Vec<String> = found
        .iter()
        .filter(|(name, _)| !wanted.iter().any(|(wanted, _, _)| wanted == name))
        .map(|(name, numbers)| format!("{name} ({numbers})"))
        .collect();
    if !new.is_empty() {
        report.warn(format!(
            "the numbers of these {what}s are not fixed and may change with the packages: {}",
            new.join(", ")
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_differ_or_vanish_are_refused() {
        let found = BTreeMap::from([("root".to_owned(), "0:0".to_owned()), ("a".into(), "5:5".into())]);
        let report = Reporter::silent();
        let run = |wanted: (&str, &str), ignored: &[String]| {
            let wanted = vec![(wanted.0, wanted.1.to_owned(), "passwd:3")];
            compare("user", wanted, &found, ignored, &report).map_err(|error| error.to_string())
        };
        assert_eq!(run(("root", "0:0"), &[]), Ok(()));
        let error = "passwd:3: user a is to be 6:6, and the packages made it 5:5";
        assert_eq!(run(("a", "6:6"), &[]), Err(error.to_owned()));
        let error = "passwd:3: user b is to be 6:6, and it is gone from the tree";
        assert_eq!(run(("b", "6:6"), &[]), Err(error.to_owned()));
        assert_eq!(run(("b", "6:6"), &["b".to_owned()]), Ok(()));
    }
}
