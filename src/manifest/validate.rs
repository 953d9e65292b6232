//! From the merged treefile to the [`Manifest`]: variables substituted, values checked beyond their shape.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;

use super::condition::{Variables, substitute};
use super::include::Walk;
use super::model::{ImageConfig, Manifest, Platforms, RemoveFromPackages, RepoPackages, Script};
use super::repositories::Repositories;
use super::source::Source;
use super::treefile::Treefile;
use crate::document::{Node, Position, Value, nearest};
use crate::failure::{Failure, Kind};

/// What a manifest is made from.
pub(super) struct Parts<'p> {
    /// The merged treefile.
    pub(super) treefile: &'p Treefile,
    /// Its variables.
    pub(super) variables: &'p Variables,
    /// The name of its outermost file.
    pub(super) name: &'p str,
    /// The directory of the configuration.
    pub(super) dir: &'p Path,
    /// The architecture.
    pub(super) basearch: &'p str,
    /// The repository definitions.
    pub(super) repositories: Repositories,
    /// image.yaml.
    pub(super) image: ImageConfig,
    /// platforms.yaml.
    pub(super) platforms: Platforms,
}

impl Parts<'_> {
    pub(super) fn node(&self, key: &str) -> Option<&Node> {
        self.treefile.values.get(key)
    }

    pub(super) fn items(&self, key: &str) -> &[Node] {
        match self.node(key).map(|node| &node.value) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    pub(super) fn texts(&self, key: &str) -> Result<Vec<String>, Failure> {
        self.items(key).iter().map(|node| Ok(node.text(key)?.to_owned())).collect()
    }

    fn boolean(&self, key: &str, default: bool) -> Result<bool, Failure> {
        self.node(key).map_or(Ok(default), |node| node.boolean(key))
    }

    fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        self.node(key).map(|node| substitute(node.text(key)?, &node.position, self.variables)).transpose()
    }

    fn missing(&self, key: &str, cure: &str) -> Failure {
        Failure::new(Kind::Config, format!("{}: `{key}` is missing", self.name), cure)
    }

    /// The manifest.
    pub(super) fn manifest(self, walk: &mut Walk<'_>, source: &dyn Source) -> Result<Manifest, Failure> {
        let modern = self.node("edition").is_some_and(|node| node.to_json() == "2024");
        self.boot_location()?;
        self.repositories_exist()?;
        let (name, summary) = self.identity()?;
        let postprocess = self.scripts(walk, source)?;
        let check_passwd = self.accounts("check-passwd", walk, source)?;
        let check_groups = self.accounts("check-groups", walk, source)?;
        let add_files = self.add_files(walk, source)?;
        self.database(walk)?;
        Ok(Manifest {
            dir: self.dir.to_owned(),
            name,
            summary,
            reference: self.reference()?,
            basearch: self.basearch.to_owned(),
            releasever: self.variables.get("releasever").map(ToString::to_string).unwrap_or_default(),
            variables: self.variables.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
            repos: self.texts("repos")?,
            lockfile_repos: self.texts("lockfile-repos")?,
            repo_packages: self.repo_packages()?,
            packages: self.packages()?,
            exclude_packages: self.texts("exclude-packages")?,
            remove_from_packages: self.removals()?,
            recommends: self.boolean("recommends", true)?,
            ostree_layers: self.layers(source)?,
            postprocess,
            remove_files: self.remove_files()?,
            tmp_is_dir: self.boolean("tmp-is-dir", modern)?,
            machineid_compat: self.boolean("machineid-compat", true)?,
            default_target: self.default_target()?,
            mutate_os_release: self.text("mutate-os-release")?,
            version_prefix: self
                .text("automatic-version-prefix")?
                .ok_or_else(|| {
                    self.missing(
                        "automatic-version-prefix",
                        "add what versions begin with: `automatic-version-prefix: \"${releasever}.<date:%Y%m%d>\"`",
                    )
                })?,
            version_suffix: self.version_suffix()?,
            commit_metadata: self.commit_metadata()?,
            etc_group_members: self.texts("etc-group-members")?,
            check_passwd,
            check_groups,
            ignore_removed_users: self.texts("ignore-removed-users")?,
            ignore_removed_groups: self.texts("ignore-removed-groups")?,
            documentation: self.boolean("documentation", true)?,
            install_langs: self.node("install-langs").map(|_| self.texts("install-langs")).transpose()?,
            readonly_executables: self.boolean("readonly-executables", false)?,
            units: self.units()?,
            add_files,
            container_cmd: self.texts("container-cmd")?,
            initramfs_args: self.texts("initramfs-args")?,
            repo_kind: self.repositories.kind,
            repo_files: self.repositories.files,
            image: self.image,
            platforms: self.platforms,
        })
    }

    fn identity(&self) -> Result<(String, String), Failure> {
        let value = |key: &str| -> Result<Option<(String, &Position)>, Failure> {
            for place in ["rojig", "metadata"] {
                if let Some(node) = self.node(place).and_then(|node| node.map(place).ok()?.get(key)) {
                    let text = substitute(node.text(key)?, &node.position, self.variables)?;
                    return Ok(Some((text, &node.position)));
                }
            }
            Ok(None)
        };
        let cure = "add the system's name: `metadata: {name: myos, summary: My OS}`";
        let (name, position) = value("name")?.ok_or_else(|| self.missing("metadata.name", cure))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            return Err(position.failure(
                format_args!("the name `{name}` cannot be part of file names"),
                "use letters, digits, `-`, `_` and `.`",
            ));
        }
        Ok((name, value("summary")?.map(|(text, _)| text).unwrap_or_default()))
    }

    fn reference(&self) -> Result<String, Failure> {
        let reference = self
            .text("ref")?
            .ok_or_else(|| self.missing("ref", "add the OSTree branch: `ref: myos/${basearch}/stable`"))?;
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || "-._".contains(c))
        };
        match self.node("ref") {
            Some(node) if !reference.split('/').all(part) => Err(node.position.failure(
                format_args!("`{reference}` is not an OSTree branch"),
                "write words of letters, digits, `-`, `_` and `.`, separated by `/`",
            )),
            _ => Ok(reference),
        }
    }

    fn version_suffix(&self) -> Result<Option<char>, Failure> {
        let Some(node) = self.node("automatic-version-suffix") else { return Ok(None) };
        let mut chars = node.text("automatic-version-suffix")?.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if c.is_ascii() && c != '/' && !c.is_ascii_whitespace() => Ok(Some(c)),
            _ => {
                Err(node.expected("automatic-version-suffix", "one ASCII character", "write one, as `\".\"`"))
            }
        }
    }

    fn boot_location(&self) -> Result<(), Failure> {
        match self.node("boot-location") {
            Some(node) if node.text("boot-location")? != "modules" => Err(node.expected(
                "boot-location",
                "`modules`",
                "write `boot-location: modules`: the kernel lies in /usr/lib/modules only",
            )),
            _ => Ok(()),
        }
    }

    /// Every repository that is named has a definition.
    fn repositories_exist(&self) -> Result<(), Failure> {
        let named = self.items("repos").iter().chain(self.items("lockfile-repos"));
        let of_packages =
            self.items("repo-packages").iter().filter_map(|item| item.map("repo-packages").ok()?.get("repo"));
        for node in named.chain(of_packages) {
            let id = node.text("repos")?;
            if self.repositories.ids().any(|known| known == id) {
                continue;
            }
            let cure = match nearest(id, self.repositories.ids()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "put {id}.sources (Debian) or a *.repo file with [{id}] (RPM) beside {}",
                    self.name
                ),
            };
            return Err(node.position.failure(format_args!("repository `{id}` has no definition"), cure));
        }
        if let Some(first) = self.items("packages").first()
            && self.items("repos").is_empty()
            && self.items("lockfile-repos").is_empty()
        {
            return Err(first.position.failure(
                "there are packages but no repository to take them from",
                format!(
                    "name repositories in `repos:`; defined are: {}",
                    self.repositories.ids().collect::<Vec<_>>().join(", ")
                ),
            ));
        }
        Ok(())
    }

    fn packages(&self) -> Result<Vec<String>, Failure> {
        let mut sorted = BTreeSet::new();
        for node in self.items("packages") {
            let name = node.text("packages")?;
            let excluded = self.items("exclude-packages").iter().find(|other| other.value == node.value);
            if let Some(excluded) = excluded {
                return Err(node.position.failure(
                    format_args!("package `{name}` is also excluded, at {}", excluded.position),
                    "remove it from `packages` or from `exclude-packages`",
                ));
            }
            sorted.insert(name.to_owned());
        }
        Ok(sorted.into_iter().collect())
    }

    fn repo_packages(&self) -> Result<Vec<RepoPackages>, Failure> {
        let mut result = Vec::new();
        for item in self.items("repo-packages") {
            let map = item.map("repo-packages")?;
            if let (Some(repo), Some(packages)) = (map.get("repo"), map.get("packages")) {
                let mut packages: Vec<String> =
                    packages.texts("packages")?.into_iter().map(str::to_owned).collect();
                packages.sort();
                result.push(RepoPackages { repo: repo.text("repo")?.to_owned(), packages });
            }
        }
        Ok(result)
    }

    fn removals(&self) -> Result<Vec<RemoveFromPackages>, Failure> {
        let regex = |node: &Node, text: &str| {
            Regex::new(text).map_err(|error| {
                let message = error.to_string();
                let last =
                    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                node.position.failure(
                    format_args!("not a regular expression: {}: {last}", node.found()),
                    "correct it, or escape what is meant literally by `\\`",
                )
            })
        };
        let mut result = Vec::new();
        for item in self.items("remove-from-packages") {
            if let [package, patterns @ ..] = item.list("remove-from-packages")? {
                let name = package.text("remove-from-packages")?;
                // `libstdc++` is a name first, though as an expression it would mean something else.
                let escaped = regex::escape(name);
                let package = match Regex::new(name) {
                    Ok(_) => regex(package, &format!("^(?:{escaped}|{name})$"))?,
                    Err(_) => regex(package, &format!("^{escaped}$"))?,
                };
                let patterns = patterns
                    .iter()
                    .map(|node| regex(node, node.text("remove-from-packages")?))
                    .collect::<Result<_, _>>()?;
                result.push(RemoveFromPackages { package, patterns });
            }
        }
        Ok(result)
    }

    fn layers(&self, source: &dyn Source) -> Result<Vec<String>, Failure> {
        for node in self.items("ostree-layers") {
            let layer = node.text("ostree-layers")?;
            let Some(name) = layer.strip_prefix("overlay/").filter(|name| !name.is_empty() && *name != "..")
            else {
                return Err(node.position.failure(
                    format_args!("`{layer}` is not an overlay"),
                    "write `overlay/NAME` for the directory overlay.d/NAME",
                ));
            };
            let dirs = self.dir.join("overlay.d");
            if !source.is_dir(&dirs.join(name)) {
                let names = source.list(&dirs).unwrap_or_default();
                let cure = match nearest(name, names.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `overlay/{near}`?"),
                    None => format!("create the directory overlay.d/{name}, or remove the layer"),
                };
                let cause = format!("overlay.d/{name} does not exist");
                return Err(node.position.failure(cause, cure));
            }
        }
        self.texts("ostree-layers")
    }

    fn scripts(&self, walk: &mut Walk<'_>, source: &dyn Source) -> Result<Vec<Script>, Failure> {
        let mut scripts = Vec::new();
        for node in self.items("postprocess") {
            scripts.push(Script { origin: node.position.line(), text: node.text("postprocess")?.to_owned() });
        }
        if let Some(node) = self.node("postprocess-script") {
            let relative = Path::new(&*node.position.file).with_file_name(node.text("postprocess-script")?);
            let path: PathBuf = self.dir.join(&relative);
            let text =
                source.read(&path).map_err(|error| walk.unreadable_file(&path, &node.position, &error))?;
            scripts.push(Script { origin: walk.name(&path), text });
            walk.files.push(path);
        }
        Ok(scripts)
    }

    fn remove_files(&self) -> Result<Vec<String>, Failure> {
        for node in self.items("remove-files") {
            let path = node.text("remove-files")?;
            let bad = path.split('/').any(|part| part == "..");
            if bad || path.starts_with('/') || path.trim_matches(['/', '.']).is_empty() {
                return Err(node.position.failure(
                    format_args!("`remove-files` takes paths relative to the root, found {path:?}"),
                    "write it without leading `/` and without `..`, as `usr/share/doc`",
                ));
            }
        }
        self.texts("remove-files")
    }

    fn default_target(&self) -> Result<Option<String>, Failure> {
        let Some(node) = self.node("default-target") else { return Ok(None) };
        let target = node.text("default-target")?;
        if target.contains('/') || !target.ends_with(".target") {
            return Err(node.expected(
                "default-target",
                "a target unit",
                "write `default-target: multi-user.target`",
            ));
        }
        Ok(Some(target.to_owned()))
    }

    fn commit_metadata(&self) -> Result<BTreeMap<String, serde_json::Value>, Failure> {
        let Some(node) = self.node("add-commit-metadata") else { return Ok(BTreeMap::new()) };
        node.map("add-commit-metadata")?
            .entries
            .iter()
            .map(|entry| {
                let value = match &entry.value.value {
                    Value::Text(text) => substitute(text, &entry.value.position, self.variables)?.into(),
                    _ => entry.value.to_json(),
                };
                Ok((entry.key.clone(), value))
            })
            .collect()
    }
}
