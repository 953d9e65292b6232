//! A flat package archive (sources.list(5)) of exactly the packages of a build, for mmdebstrap: no network,
//! one version of each package, nothing to choose.
//!
//! The entries are those of the signed indexes that nosa resolved from; the files are nosa's downloads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nosa::host::fs;
use nosa::packages::deb::paragraphs;
use serde_json::Value;

/// The archive's directory and the packages' names.
pub(crate) struct Archive {
    dir: PathBuf,
    names: BTreeSet<String>,
}

impl Archive {
    /// Makes the archive in `dir`: the packages of a build's lock, by the indexes of `apt`, nosa's apt state,
    /// from the files in `debs`.
    pub(crate) fn make(dir: &Path, lock: &Value, apt: &Path, debs: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let mut wanted = BTreeMap::new();
        for (name, entry) in lock["packages"].as_object().context("a lock without packages")? {
            let digest = entry["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:"));
            wanted.insert(digest.context("a locked package without digest")?.to_owned(), name.clone());
        }
        let mut index = String::new();
        let mut names = BTreeSet::new();
        for list in indexes(apt)? {
            let text = fs::read_to_string(&list)?;
            for paragraph in paragraphs(&text) {
                let Some(name) = paragraph.get("SHA256").and_then(|digest| wanted.get(digest)) else {
                    continue;
                };
                if !names.insert(name.clone()) {
                    continue;
                }
                let field = |field: &str| paragraph.get(field).unwrap_or_default().replace(':', "%3a");
                let file = format!("{name}_{}_{}.deb", field("Version"), field("Architecture"));
                fs::link_or_copy(&debs.join(file), &dir.join(format!("{name}.deb")))?;
                for line in paragraph.text().lines().filter(|line| !line.starts_with("Filename:")) {
                    index.push_str(line);
                    index.push('\n');
                }
                index.push_str(&format!("Filename: ./{name}.deb\n\n"));
            }
        }
        ensure!(names.len() == wanted.len(), "the indexes have {} of {} packages", names.len(), wanted.len());
        fs::write(&dir.join("Packages"), index)?;
        Ok(Self { dir: dir.to_owned(), names })
    }

    /// The archive as a line of sources.list.
    pub(crate) fn source(&self) -> String {
        format!("deb [trusted=yes] copy://{} ./", self.dir.display())
    }

    /// All packages, as mmdebstrap's `--include` wants them.
    pub(crate) fn include(&self) -> String {
        self.names.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    /// Fails unless the tree has exactly these packages, configured.
    pub(crate) fn check(&self, tree: &Path) -> Result<()> {
        let status = fs::read_to_string(&tree.join("var/lib/dpkg/status"))?;
        let installed: BTreeSet<String> = paragraphs(&status)
            .filter(|paragraph| paragraph.get("Status") == Some("install ok installed"))
            .filter_map(|paragraph| paragraph.get("Package").map(str::to_owned))
            .collect();
        let differ: Vec<&String> = installed.symmetric_difference(&self.names).collect();
        ensure!(differ.is_empty(), "{} and the build differ in {differ:?}", tree.display());
        Ok(())
    }
}

fn indexes(apt: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for state in fs::read_dir_sorted(apt)? {
        let lists = state.join("lists");
        if lists.is_dir() {
            found.extend(
                fs::read_dir_sorted(&lists)?
                    .into_iter()
                    .filter(|path| path.to_string_lossy().ends_with("_Packages")),
            );
        }
    }
    Ok(found)
}
