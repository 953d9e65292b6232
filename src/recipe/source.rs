//! Setting up the package manager that a configuration's repositories ask for.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::manifest::{Manifest, RepoKind};
use crate::packages::{Apt, Dnf, LocalPackage, Mirrors, PackageBackend, Repository, Supply, YumRepository};
use crate::pipeline::Pipeline;

/// The backend for a manifest; `downloads` outlives workdirs.
pub(super) fn backend(
    pipeline: &Pipeline,
    manifest: &Manifest,
    downloads: &Path,
    mirrors: &Mirrors,
    overrides: Vec<LocalPackage>,
) -> Result<Box<dyn PackageBackend>> {
    match manifest.repo_kind {
        Some(RepoKind::Deb) => Ok(Box::new(apt(pipeline, manifest, downloads, mirrors, overrides)?)),
        Some(RepoKind::Rpm) => Ok(Box::new(dnf(pipeline, manifest, downloads, overrides)?)),
        None => Err(Failure::new(
            Kind::Config,
            format!("{}: no repository is defined", manifest.dir.display()),
            "add a deb822 *.sources file (Debian packages) or a *.repo file (RPM) beside manifest.yaml",
        )
        .into()),
    }
}

/// The repositories that the manifest uses: id, file, what each may give, and what comes from it alone.
fn chosen(manifest: &Manifest) -> impl Iterator<Item = (&str, &Path, Supply, Vec<String>)> {
    let files = manifest.repo_files.iter().flat_map(|file| file.ids.iter().map(move |id| (id, file)));
    files.filter_map(|(id, file)| {
        let named = manifest.repo_packages.iter().filter(|packages| packages.repo == *id);
        let packages: Vec<String> = named.flat_map(|packages| packages.packages.clone()).collect();
        let supply = if manifest.repos.contains(id) {
            Supply::All
        } else if manifest.lockfile_repos.contains(id) {
            Supply::Locked
        } else if !packages.is_empty() {
            Supply::Named
        } else {
            return None;
        };
        Some((id.as_str(), file.path.as_path(), supply, packages))
    })
}

fn apt(
    pipeline: &Pipeline,
    manifest: &Manifest,
    downloads: &Path,
    mirrors: &Mirrors,
    overrides: Vec<LocalPackage>,
) -> Result<Apt> {
    let (mut repositories, mut only) = (Vec::new(), Vec::new());
    for (id, path, supply, packages) in chosen(manifest) {
        repositories.push(Repository::new(id, path, fs::read_to_string(path)?, supply)?);
        only.push((id.to_owned(), packages));
    }
    Apt::new(
        &pipeline.cache().shared("apt").context("preparing apt's state")?,
        downloads,
        &pipeline.log("apt"),
        &manifest.basearch,
        repositories,
        only,
        (Mirrors::of_host(mirrors.clone()), overrides),
    )
}

fn dnf(
    pipeline: &Pipeline,
    manifest: &Manifest,
    downloads: &Path,
    overrides: Vec<LocalPackage>,
) -> Result<Dnf> {
    let repositories = chosen(manifest)
        .map(|(id, path, supply, packages)| {
            let text = with_variables(&fs::read_to_string(path)?, manifest);
            YumRepository::new(id, path, &text, supply, packages)
        })
        .collect::<Result<Vec<_>>>()?;
    Dnf::new(
        &pipeline.cache().shared("dnf").context("preparing dnf's state")?,
        downloads,
        &pipeline.log("dnf"),
        (&manifest.basearch, &manifest.releasever),
        repositories,
        overrides,
    )
}

/// Puts the values of `repovars` into a definition, as dnf does with its own variables.
fn with_variables(text: &str, manifest: &Manifest) -> String {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut parts = text.split('$');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let braced = part.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (name, rest) = braced.unwrap_or_else(|| {
            let end = part.find(|c| !is_name(c)).unwrap_or(part.len());
            part.split_at(end)
        });
        match manifest.repovars.get(name) {
            Some(value) => out.extend([value.as_str(), rest]),
            None => out.extend(["$", part]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use crate::manifest::{LoadOptions, examine};

    #[test]
    fn repovars_go_into_a_definition_by_their_whole_names() {
        let empty = tempfile::tempdir().unwrap();
        let mut manifest = examine(empty.path(), &LoadOptions::new("x86_64")).0.manifest;
        for (name, value) in [("mirror", "https://a"), ("mirror_key", "https://k"), ("base", "no")] {
            manifest.repovars.insert(name.to_owned(), value.to_owned());
        }
        let text = "baseurl=$mirror/os/$basearch ${mirror}/more\ngpgkey=$mirror_key\n".to_owned();
        assert_eq!(
            super::with_variables(&text, &manifest),
            "baseurl=https://a/os/$basearch https://a/more\ngpgkey=https://k\n"
        );
    }
}
