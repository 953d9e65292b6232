//! The keys that put accounts, units and files into the tree: values checked beyond their shape.

use std::path::PathBuf;

use super::accounts::{self, Account};
use super::include::Walk;
use super::model::AccountCheck;
use super::notes::Notes;
use super::source::Source;
use super::validate::Parts;
use crate::document::{Node, Position};
use crate::failure::Failure;

/// Where add-files may write, as rpm-ostree has it.
const ADDED: &[&str] = &["usr/", "etc/", "bin/", "sbin/", "lib/", "lib64/"];

/// What stands for the client that updates machines, which comes with nosa.
const CLIENT: &str = "${nestos_update}";

/// The kinds of units.
const UNITS: &[&str] =
    &["service", "socket", "timer", "path", "target", "mount", "automount", "slice", "swap"];

/// What rpm-ostree took for `rpmdb` at some time; all mean the one format that a package manager reads.
const DATABASES: &[&str] = &["sqlite", "target", "host", "bdb", "ndb"];

impl Parts<'_> {
    /// check-passwd or check-groups.
    pub(super) fn accounts<A: Account>(
        &self,
        key: &str,
        walk: &mut Walk<'_>,
        source: &dyn Source,
    ) -> Result<Option<AccountCheck<A>>, Failure> {
        self.node(key).map(|node| accounts::check(key, node, walk, source)).transpose()
    }

    /// `units`.
    pub(super) fn units(&self, notes: &mut Notes) -> Vec<String> {
        notes.all(self.items("units").iter().map(|node| {
            let unit = node.text("units")?;
            let good =
                unit.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && UNITS.contains(&kind));
            if !good || unit.contains('/') || unit.contains(char::is_whitespace) {
                return Err(node.position.failure(
                    format_args!("`{unit}` is not the name of a unit"),
                    "write name and kind, as `sshd.service`",
                ));
            }
            Ok(unit.to_owned())
        }))
    }

    /// `add-files`, but for the client.
    pub(super) fn add_files(&self, walk: &mut Walk<'_>, source: &dyn Source) -> Vec<(PathBuf, String)> {
        let mut files = Vec::new();
        for item in self.items("add-files").iter().filter(|item| client_of(item).is_none()) {
            let added = added(item, walk, source);
            files.extend(walk.notes.take(added));
        }
        files
    }

    /// Where `add-files` puts the client.
    pub(super) fn add_client(&self, notes: &mut Notes) -> Option<(Position, String)> {
        let mut places = notes.all(
            self.items("add-files")
                .iter()
                .filter_map(client_of)
                .map(|(from, to)| destination(to).map(|destination| (from.position.clone(), destination))),
        );
        places.pop()
    }

    /// `rpmdb` has one effect at most: a warning.
    pub(super) fn database(&self, walk: &mut Walk<'_>) -> Result<(), Failure> {
        if let Some(node) = self.node("rpmdb")
            && !DATABASES.contains(&node.text("rpmdb")?)
        {
            let place = &node.position;
            walk.notes.warnings.push(format!(
                "{place}: `rpmdb` is ignored: {} is none of {}",
                node.found(),
                DATABASES.join(", ")
            ));
        }
        Ok(())
    }
}

/// The two nodes of an item that stands for the client.
fn client_of(item: &Node) -> Option<(&Node, &Node)> {
    match item.list("add-files") {
        Ok([from, to]) if from.text("add-files").is_ok_and(|text| text == CLIENT) => Some((from, to)),
        _ => None,
    }
}

fn added(item: &Node, walk: &mut Walk<'_>, source: &dyn Source) -> Result<(PathBuf, String), Failure> {
    let [from, to] = item.list("add-files")? else {
        return Err(item.expected("add-files", "a file and its path", "write `- [file, /usr/share/file]`"));
    };
    let destination = destination(to)?;
    let path = walk.beside(&from.position, from.text("add-files")?);
    if source.is_dir(&path) {
        let cause = format!("`{}` is a directory", walk.name(&path));
        return Err(from.position.failure(cause, "name the files in it, or make it an overlay"));
    }
    source.canonical(&path).map_err(|error| walk.unreadable_file(&path, &from.position, &error))?;
    walk.files.push(path.clone());
    Ok((path, destination))
}

fn destination(node: &Node) -> Result<String, Failure> {
    let text = node.text("add-files")?;
    let path = text.trim_start_matches('/');
    let inside = ADDED.iter().any(|prefix| path.starts_with(prefix)) && !path.starts_with("usr/local/");
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if inside && plain {
        return Ok(path.to_owned());
    }
    Err(node.position.failure(
        format_args!("`add-files` cannot write {text}"),
        "write a path of a file below /usr (but not /usr/local) or /etc",
    ))
}
