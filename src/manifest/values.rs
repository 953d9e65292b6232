//! The values of a merged treefile, checked beyond their shape: one method a key.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use super::condition::Variable;
use super::include::Walk;
use super::model::{RemoveFromPackages, RepoPackages, Script};
use super::notes::Notes;
use super::source::Source;
use super::validate::Parts;
use crate::document::{Node, Position, Value, nearest};
use crate::failure::Failure;

impl Parts<'_> {
    /// Name and summary.
    pub(super) fn identity(&self) -> Result<(String, String), Failure> {
        let value = |key: &str| -> Result<Option<(String, &Position)>, Failure> {
            for place in ["rojig", "metadata"] {
                if let Some(node) = self.node(place).and_then(|node| node.map(place).ok()?.get(key)) {
                    return Ok(Some((self.substitute(node.text(key)?, &node.position)?, &node.position)));
                }
            }
            Ok(None)
        };
        let cure = "add the system's name: `metadata: {name: myos, summary: My OS}`";
        let Some((name, position)) = self.required(value("name")?, "metadata.name", cure)? else {
            return Ok(Default::default());
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(plain) {
            return Err(position.failure(
                format_args!("the name `{name}` cannot be part of file names"),
                "use letters, digits, `-`, `_` and `.`",
            ));
        }
        Ok((name, value("summary")?.map(|(text, _)| text).unwrap_or_default()))
    }

    /// The OSTree branch.
    pub(super) fn reference(&self) -> Result<String, Failure> {
        let cure = "add the OSTree branch: `ref: myos/${basearch}/stable`";
        let reference = self.required(self.text("ref")?, "ref", cure)?.unwrap_or_default();
        let part = |part: &str| {
            part.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || "-._".contains(c))
        };
        match self.node("ref") {
            // A variable that is still there belongs to a file that could not be read.
            Some(node) if !reference.contains("${") && !reference.split('/').all(part) => {
                Err(node.position.failure(
                    format_args!("`{reference}` is not an OSTree branch"),
                    "write words of letters, digits, `-`, `_` and `.`, separated by `/`",
                ))
            }
            _ => Ok(reference),
        }
    }

    /// What versions begin with.
    pub(super) fn version_prefix(&self) -> Result<String, Failure> {
        let cure =
            "add what versions begin with: `automatic-version-prefix: \"${releasever}.<date:%Y%m%d>\"`";
        let prefix =
            self.required(self.text("automatic-version-prefix")?, "automatic-version-prefix", cure)?;
        Ok(prefix.unwrap_or_default())
    }

    /// The character before a version's last number.
    pub(super) fn version_suffix(&self) -> Result<Option<char>, Failure> {
        let Some(node) = self.node("automatic-version-suffix") else { return Ok(None) };
        let mut chars = node.text("automatic-version-suffix")?.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if c.is_ascii() && c != '/' && !c.is_ascii_whitespace() => Ok(Some(c)),
            _ => {
                Err(node.expected("automatic-version-suffix", "one ASCII character", "write one, as `\".\"`"))
            }
        }
    }

    /// `releasever` goes into addresses of repositories and into versions.
    pub(super) fn release(&self) -> Result<(), Failure> {
        let Some(node) = self.node("releasever") else { return Ok(()) };
        let Value::Text(text) = &node.value else { return Ok(()) };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+~".contains(c);
        if text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(plain) {
            return Ok(());
        }
        Err(node.expected(
            "releasever",
            "a release of letters, digits and - _ . + ~",
            "write it as the repositories' addresses have it, as `releasever: \"24.03-LTS\"`",
        ))
    }

    /// The kernel lies in /usr/lib/modules.
    pub(super) fn boot_location(&self) -> Result<(), Failure> {
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
    pub(super) fn repositories_exist(&self, notes: &mut Notes) {
        let Some(repositories) = &self.repositories else { return };
        let named = self.items("repos").iter().chain(self.items("lockfile-repos"));
        let of_packages =
            self.items("repo-packages").iter().filter_map(|item| item.map("repo-packages").ok()?.get("repo"));
        let results = named.chain(of_packages).map(|node| {
            let id = node.text("repos")?;
            if repositories.ids().any(|known| known == id) {
                return Ok(());
            }
            let cure = match nearest(id, repositories.ids()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "put {id}.sources (Debian) or a *.repo file with [{id}] (RPM) beside {}",
                    self.name
                ),
            };
            Err(node.position.failure(format_args!("repository `{id}` has no definition"), cure))
        });
        notes.all(results);
        if let Some(first) = self.items("packages").first()
            && self.items("repos").is_empty()
            && self.items("lockfile-repos").is_empty()
            && self.whole
        {
            notes.problems.push(first.position.failure(
                "there are packages but no repository to take them from",
                format!(
                    "name repositories in `repos:`; defined are: {}",
                    repositories.ids().collect::<Vec<_>>().join(", ")
                ),
            ));
        }
    }

    /// The packages, sorted.
    pub(super) fn packages(&self, notes: &mut Notes) -> Vec<String> {
        let excluded = self.items("exclude-packages");
        let names = self.items("packages").iter().map(|node| {
            let name = node.text("packages")?;
            match excluded.iter().find(|other| other.value == node.value) {
                Some(excluded) => Err(node.position.failure(
                    format_args!("package `{name}` is also excluded, at {}", excluded.position),
                    "remove it from `packages` or from `exclude-packages`",
                )),
                None => Ok(name.to_owned()),
            }
        });
        let sorted: BTreeSet<String> = notes.all(names).into_iter().collect();
        sorted.into_iter().collect()
    }

    /// Which packages come from which repository only.
    pub(super) fn repo_packages(&self) -> Result<Vec<RepoPackages>, Failure> {
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

    /// The variables of repository definitions.
    pub(super) fn repovars(&self) -> Result<BTreeMap<String, String>, Failure> {
        let Some(node) = self.node("repovars") else { return Ok(BTreeMap::new()) };
        let entries = node.map("repovars")?.entries.iter();
        entries
            .map(|entry| {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                if entry.key.is_empty() || !entry.key.chars().all(word) {
                    return Err(entry.position.failure(
                        format_args!("`{}` is not a variable's name", entry.key),
                        "use letters, digits and `_`",
                    ));
                }
                Ok((entry.key.clone(), Variable::of(&entry.value).to_string()))
            })
            .collect()
    }

    /// Which files of which packages are left out.
    pub(super) fn removals(&self, notes: &mut Notes) -> Vec<RemoveFromPackages> {
        notes.all(self.items("remove-from-packages").iter().filter_map(|item| removal(item).transpose()))
    }

    /// The overlays, each of which must be there.
    pub(super) fn layers(&self, source: &dyn Source, notes: &mut Notes) -> Vec<String> {
        notes.all(self.items("ostree-layers").iter().map(|node| self.layer(node, source)))
    }

    fn layer(&self, node: &Node, source: &dyn Source) -> Result<String, Failure> {
        let layer = node.text("ostree-layers")?;
        let name = layer.strip_prefix("overlay/");
        let Some(name) = name.filter(|name| !name.is_empty() && !name.contains('/') && *name != "..") else {
            return Err(node.position.failure(
                format_args!("`{layer}` is not an overlay"),
                "write `overlay/NAME` for the directory overlay.d/NAME",
            ));
        };
        let dirs = self.dir.join("overlay.d");
        if source.is_dir(&dirs.join(name)) {
            return Ok(layer.to_owned());
        }
        let names = source.list(&dirs).unwrap_or_default();
        let cure = match nearest(name, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `overlay/{near}`?"),
            None => format!("create the directory overlay.d/{name}, or remove the layer"),
        };
        Err(node.position.failure(format_args!("overlay.d/{name} does not exist"), cure))
    }

    /// The scripts, in order.
    pub(super) fn scripts(&self, walk: &mut Walk<'_>, source: &dyn Source) -> Vec<Script> {
        let inline = self.items("postprocess").iter().map(|node| {
            let text = node.text("postprocess")?.to_owned();
            interpreter(&text, &node.position)?;
            Ok(Script { origin: node.position.line(), text })
        });
        let mut scripts = walk.notes.all(inline);
        if let Some(node) = self.node("postprocess-script") {
            let script = postprocess_script(node, walk, source);
            scripts.extend(walk.notes.take(script));
        }
        scripts
    }

    /// What is removed from the tree.
    pub(super) fn remove_files(&self, notes: &mut Notes) -> Vec<String> {
        notes.all(self.items("remove-files").iter().map(|node| {
            let path = node.text("remove-files")?;
            let bad = path.split('/').any(|part| part == "..");
            if bad || path.starts_with('/') || path.trim_matches(['/', '.']).is_empty() {
                return Err(node.position.failure(
                    format_args!("`remove-files` takes paths relative to the root, found {path:?}"),
                    "write it without leading `/` and without `..`, as `usr/share/doc`",
                ));
            }
            Ok(path.to_owned())
        }))
    }

    /// systemd's default target.
    pub(super) fn default_target(&self) -> Result<Option<String>, Failure> {
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

    /// Metadata for the commit.
    pub(super) fn commit_metadata(&self) -> Result<BTreeMap<String, serde_json::Value>, Failure> {
        let Some(node) = self.node("add-commit-metadata") else { return Ok(BTreeMap::new()) };
        node.map("add-commit-metadata")?
            .entries
            .iter()
            .map(|entry| {
                let value = match &entry.value.value {
                    Value::Text(text) => self.substitute(text, &entry.value.position)?.into(),
                    _ => entry.value.to_json(),
                };
                Ok((entry.key.clone(), value))
            })
            .collect()
    }
}

fn removal(item: &Node) -> Result<Option<RemoveFromPackages>, Failure> {
    let [package, patterns @ ..] = item.list("remove-from-packages")? else { return Ok(None) };
    let name = package.text("remove-from-packages")?;
    // `libstdc++` is a name first, though as an expression it would mean something else.
    let escaped = regex::escape(name);
    let package = match Regex::new(name) {
        Ok(_) => expression(package, &format!("^(?:{escaped}|{name})$"))?,
        Err(_) => expression(package, &format!("^{escaped}$"))?,
    };
    let patterns = patterns
        .iter()
        .map(|node| expression(node, node.text("remove-from-packages")?))
        .collect::<Result<_, _>>()?;
    Ok(Some(RemoveFromPackages { package, patterns }))
}

fn expression(node: &Node, text: &str) -> Result<Regex, Failure> {
    Regex::new(text).map_err(|error| {
        let message = error.to_string();
        let last = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        node.position.failure(
            format_args!("not a regular expression: {}: {last}", node.found()),
            "correct it, or escape what is meant literally by `\\`",
        )
    })
}

fn postprocess_script(node: &Node, walk: &mut Walk<'_>, source: &dyn Source) -> Result<Script, Failure> {
    let path = walk.beside(&node.position, node.text("postprocess-script")?);
    let text = source.read(&path).map_err(|error| walk.unreadable_file(&path, &node.position, &error))?;
    let origin = walk.name(&path);
    interpreter(&text, &Position { file: origin.as_str().into(), line: 1, column: 1 })?;
    walk.files.push(path);
    Ok(Script { origin, text })
}

/// A script without `#!` is the shell's; one with it names a program by its absolute path.
fn interpreter(text: &str, position: &Position) -> Result<(), Failure> {
    let cure = "begin it with `#!/bin/bash` or another program's absolute path";
    let first = text.lines().next().unwrap_or_default();
    if text.trim().is_empty() {
        return Err(position.failure("the script is empty", "write it, or remove the item"));
    }
    match first.strip_prefix("#!") {
        Some(program) if !program.trim_start().starts_with('/') => {
            Err(position.failure(format_args!("`{first}` names no program"), cure))
        }
        Some(_) if first.ends_with('\r') => {
            Err(position.failure("the script's lines end in CR LF", "save it with Unix line ends"))
        }
        None if text.trim_start().starts_with("#!") => {
            Err(position.failure("`#!` does not stand at the beginning of the script", cure))
        }
        _ => Ok(()),
    }
}
