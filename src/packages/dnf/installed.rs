//! Which packages a database lists that came from elsewhere. Nothing in it is believed: the host's rpm reads a
//! copy, sees nothing else of the host than /usr, has no right and no network, and must be done in time.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::failure::Failure;
use crate::host::{self, tool};
use crate::packages::model::{Evr, Installed};
use crate::sandbox::Sandbox;

/// The file of a database.
pub const RPM_DATABASE: &str = "rpmdb.sqlite";
/// The file beside it where the last transaction may still be.
pub const RPM_WRITTEN_LAST: &str = "rpmdb.sqlite-wal";
/// Every line of rpm's that is an answer begins so; rpm's complaints do not.
const ANSWER: &str = "package\t";
/// How long rpm may take: a second is usual.
const PATIENCE: Duration = Duration::from_secs(60);
/// More packages than any system has.
const MOST: usize = 100_000;
/// What rpm lists keys as.
const KEYS: &str = "gpg-pubkey";
/// Where the database lies in the sandbox.
const PLACE: &str = "/run/nosa/database";

/// The packages that rpm's database in the directory `database` lists, sorted; rpm may write there. `scratch`
/// is an empty directory. Nothing is logged: an answer without end must not fill the disk.
pub fn installed(database: &Path, scratch: &Path) -> Result<Vec<Installed>> {
    host::require(&[&tool::RPM, &tool::BWRAP]).map_err(Failure::from)?;
    let rpm = Sandbox::of_host(scratch)?.powerless().bind(database, PLACE).command("/usr/bin/rpm");
    let format = format!("{ANSWER}%{{NAME}}\\t%{{EPOCHNUM}}\\t%{{VERSION}}\\t%{{RELEASE}}\\t%{{ARCH}}\\n");
    let rpm = rpm.args(["--noplugins", "--dbpath", PLACE, "--query", "--all", "--queryformat", &format]);
    let mut found = Vec::new();
    let mut wrong = None;
    let mut complain = |what: String| wrong = wrong.take().or(Some(what));
    rpm.run_steps(PATIENCE, |line| {
        if let Some(fields) = line.strip_prefix(ANSWER) {
            match parse(fields) {
                Some(package) if found.len() < MOST => found.push(package),
                _ => complain(format!("it lists what is no package: {fields}")),
            }
        } else if line.starts_with("error: ") {
            // rpm goes on without the package that is damaged.
            complain(line.to_owned());
        }
        false
    })?;
    if let Some(what) = wrong {
        anyhow::bail!("{what}");
    }
    ensure!(!found.is_empty(), "it lists no packages");
    found.retain(|package| package.name != KEYS);
    found.sort();
    Ok(found)
}

/// A package as rpm was asked to write it, if it is written as names and versions are.
fn parse(line: &str) -> Option<Installed> {
    let fields: Vec<&str> = line.split('\t').collect();
    let &[name, epoch, version, release, arch] = fields.as_slice() else { return None };
    let plain = |text: &&str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    if ![name, version, release, arch].iter().all(plain) {
        return None;
    }
    let evr = Evr { epoch: epoch.parse().ok()?, version: version.to_owned(), release: release.to_owned() };
    Some(Installed { name: name.to_owned(), evr, arch: arch.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_package_is_one() {
        let found = parse("bash\t2\t5.2~rc\t3.oe\tx86_64").unwrap();
        assert_eq!((found.name.as_str(), found.evr.to_string()), ("bash", "2:5.2~rc-3.oe".to_owned()));
        for line in [
            "bash\t0\t5\t1",
            "bash\tx\t5\t1\tnoarch",
            "ba sh\t0\t5\t1\tnoarch",
            "b\u{1b}[2J\t0\t5\t1\tnoarch",
        ] {
            assert_eq!(parse(line), None, "{line:?}");
        }
    }
}
