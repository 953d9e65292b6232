//! Packages of the user's own, offered to apt as one more repository: a flat one (sources.list(5)) in
//! nosa's state, trusted because the user put the files there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::config::Apt;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::packages::deb::{Deb, paragraphs};
use crate::packages::model::{OVERRIDES, Package};
use crate::pipeline::Digest;

/// The repository's origin, by which it is preferred.
pub(super) const ORIGIN: &str = "nosa-overrides";

impl Apt {
    /// Offers apt none.
    pub(super) fn withdraw_overrides(&self) -> Result<()> {
        fs::remove_tree(&self.offered())?;
        fs::remove_file_if_exists(&self.offer())
    }

    /// Where the offered overrides are indexed.
    fn offered(&self) -> PathBuf {
        self.dir.join("overrides")
    }

    /// What tells apt of them.
    fn offer(&self) -> PathBuf {
        self.dir.join("sources.list.d").join(format!("{OVERRIDES}.sources"))
    }

    /// Offers the overrides to apt and returns their names.
    pub(super) fn offer_overrides(&self) -> Result<Vec<String>> {
        let (dir, source) = (self.offered(), self.offer());
        self.withdraw_overrides()?;
        if self.overrides.is_empty() {
            return Ok(Vec::new());
        }
        self.write_config(&[])?;
        fs::create_dir_all(&dir)?;
        let (mut names, mut index) = (Vec::new(), String::new());
        for local in &self.overrides {
            let control = control(&local.path)?;
            let paragraph = paragraphs(&control).next();
            let field = |name: &str| paragraph.as_ref().and_then(|paragraph| paragraph.get(name));
            let (Some(name), Some(arch)) = (field("Package"), field("Architecture")) else {
                let cause =
                    format!("{}: its control file has no Package or Architecture", local.path.display());
                return Err(Failure::new(Kind::Config, cause, "build the package again").into());
            };
            if names.iter().any(|other| other == name) {
                let cause = format!("{}: there is another package {name} in it", local.path.display());
                return Err(Failure::new(Kind::Config, cause, "keep one of them").into());
            }
            if arch != "all" && arch != self.arch {
                let cause = format!("{}: it is for {arch}, and {} is built", local.path.display(), self.arch);
                return Err(Failure::new(Kind::Config, cause, "put the right package there").into());
            }
            names.push(name.to_owned());
            writeln!(
                index,
                "{}\nFilename: {}\nSize: {}\nSHA256: {}\n",
                control.trim_end(),
                local.file_name(),
                local.size,
                local.sha256
            )
            .context("composing an index")?;
        }
        fs::write(&dir.join("Packages"), &index)?;
        let release =
            format!("Origin: {ORIGIN}\nSHA256:\n {} {} Packages\n", Digest::of(&index), index.len());
        fs::write(&dir.join("Release"), release)?;
        let text = format!("Types: deb\nURIs: copy:{}\nSuites: ./\nTrusted: yes\n", dir.display());
        fs::write(&source, text)?;
        self.apt_get()
            .args(["update", "--error-on=any", "-o", "APT::Get::List-Cleanup=false", "-o"])
            .arg("Acquire::AllowInsecureRepositories=true")
            .arg("-o")
            .arg(format!("Dir::Etc::sourcelist={}", source.display()))
            .args(["-o", "Dir::Etc::sourceparts=/dev/null"])
            .run()
            .context("offering overrides/deb to apt")?;
        Ok(names)
    }

    /// Where a package's file lies or will lie.
    pub(super) fn place(&self, package: &Package) -> PathBuf {
        let name = package.location.trim_start_matches("./");
        let local =
            self.overrides.iter().find(|local| package.repo == OVERRIDES && local.file_name() == name);
        local.map_or_else(|| self.archives.join(super::file_name(package)), |local| local.path.clone())
    }
}

fn control(path: &Path) -> Result<String> {
    let files = Deb::open(path).and_then(|deb| deb.control()).map_err(|error| {
        let cause = format!("{}: cannot be read as a package: {}", path.display(), error.root_cause());
        Failure::new(Kind::Config, cause, "put a whole *.deb file there, or remove it")
    })?;
    let control = files.into_iter().find(|(name, _)| name == "control").map(|(_, bytes)| bytes);
    String::from_utf8(control.unwrap_or_default())
        .with_context(|| format!("reading the control file of {}", path.display()))
}
