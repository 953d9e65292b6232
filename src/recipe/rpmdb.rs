//! The packages of an imported RPM system. They are in commitmeta.json only, not in the commit: that follows
//! from the image alone, and this also from the rpm of whoever imports it.

use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::publish::Publisher;
use crate::host::fs;
use crate::ostree::{Checksum, Content, Repo};
use crate::packages::{Installed, RPM_DATABASE, RPM_WRITTEN_LAST, installed_rpms};
use crate::pipeline::Unit;

/// Where a commit may have rpm's database.
const PLACES: &[&str] = &["usr/share/rpm", "usr/lib/sysimage/rpm", "var/lib/rpm"];
/// The largest file of a database that is read: a whole desktop has 100 MB.
const LARGEST: u64 = 512 << 20;

impl Publisher<'_> {
    /// The packages of a commit, as commitmeta.json has them; `None` without a database, or with one that
    /// cannot be read: the system may well boot all the same.
    pub(super) fn rpm_packages(&self, repo: &Repo, commit: Checksum) -> Option<Value> {
        let report = self.recipe.pipeline.report();
        let progress = report.progress("reading rpm's database", 0, Unit::Items);
        let packages = read(repo, commit);
        drop(progress);
        match packages {
            Ok(packages) => Some(packages?.into_iter().map(row).collect()),
            Err(error) => {
                // Whatever rpm repeats of the database is not the terminal's to follow.
                let why = format!("{error:#}").replace(|c: char| c.is_control() && c != '\n', "?");
                report.warn(format!(
                    "the image's packages are not known, so `nosa diff` cannot compare them: {why}"
                ));
                None
            }
        }
    }
}

fn row(package: Installed) -> Value {
    let evr = package.evr;
    Value::from(vec![package.name, evr.epoch.to_string(), evr.version, evr.release, package.arch])
}

fn read(repo: &Repo, commit: Checksum) -> Result<Option<Vec<Installed>>> {
    let place = tempfile::Builder::new().prefix("nosa-rpmdb-").tempdir().context("making a directory")?;
    let (database, scratch) = (place.path().join("database"), place.path().join("host"));
    fs::create_dir_all(&database)?;
    for dir in PLACES {
        let take = |name: &str| match repo.find(commit, &Path::new(dir).join(name))? {
            Some(file) => copy(repo, file, &database.join(name)).with_context(|| format!("reading {name}")),
            None => Ok(false),
        };
        if take(RPM_DATABASE)? {
            take(RPM_WRITTEN_LAST)?;
            return installed_rpms(&database, &scratch).context("asking rpm").map(Some);
        }
    }
    Ok(None)
}

/// Copies a file's content; false if it is a link.
fn copy(repo: &Repo, checksum: Checksum, target: &Path) -> Result<bool> {
    let Content::Regular(mut file, size) = repo.file(checksum)?.content else { return Ok(false) };
    anyhow::ensure!(size <= LARGEST, "it has {size} bytes");
    let mut bytes = (&mut file).take(size);
    std::io::copy(&mut bytes, &mut fs::create(target)?)
        .with_context(|| format!("writing {}", target.display()))?;
    Ok(true)
}
