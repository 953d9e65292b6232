//! From the merged treefile to the [`Manifest`]: every value taken up, what is wrong noted.

use std::path::Path;

use super::condition::{Variables, substitute};
use super::include::Walk;
use super::model::{ImageConfig, Manifest, Platforms};
use super::repositories::Repositories;
use super::source::Source;
use super::treefile::Treefile;
use crate::document::{Node, Position, Value};
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
    /// The repository definitions; none when they cannot be told.
    pub(super) repositories: Option<Repositories>,
    /// Whether every treefile could be read to its end: else what seems to be missing need not be.
    pub(super) whole: bool,
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

    pub(super) fn boolean(&self, key: &str, default: bool) -> Result<bool, Failure> {
        self.node(key).map_or(Ok(default), |node| node.boolean(key))
    }

    /// A text with its variables substituted.
    pub(super) fn text(&self, key: &str) -> Result<Option<String>, Failure> {
        self.node(key).map(|node| self.substitute(node.text(key)?, &node.position)).transpose()
    }

    /// A text with its variables substituted; of those that a file which could not be read may define,
    /// nothing is said.
    pub(super) fn substitute(&self, text: &str, position: &Position) -> Result<String, Failure> {
        match substitute(text, position, self.variables) {
            Err(_) if !self.whole => Ok(text.to_owned()),
            other => other,
        }
    }

    /// A value that must be there: none, without complaint, if a file that could not be read may have it.
    pub(super) fn required<T>(&self, value: Option<T>, key: &str, cure: &str) -> Result<Option<T>, Failure> {
        if value.is_none() && self.whole {
            return Err(Failure::new(Kind::Config, format!("{}: `{key}` is missing", self.name), cure));
        }
        Ok(value)
    }

    /// The manifest, without image.yaml and platforms.yaml; what is wrong is noted and left out.
    pub(super) fn manifest(self, walk: &mut Walk<'_>, source: &dyn Source) -> Manifest {
        let modern = self.node("edition").is_some_and(|node| node.to_json() == "2024");
        let database = self.database(walk);
        walk.notes.all([self.boot_location(), self.release(), database]);
        self.repositories_exist(&mut walk.notes);
        let (name, summary) = walk.notes.or_default(self.identity());
        let reference = walk.notes.or_default(self.reference());
        let version_prefix = walk.notes.or_default(self.version_prefix());
        let postprocess = self.scripts(walk, source);
        let check_passwd = self.accounts("check-passwd", walk, source);
        let check_passwd = walk.notes.or_default(check_passwd);
        let check_groups = self.accounts("check-groups", walk, source);
        let check_groups = walk.notes.or_default(check_groups);
        let add_files = self.add_files(walk, source);
        let add_client = self.add_client(&mut walk.notes);
        let notes = &mut walk.notes;
        Manifest {
            dir: self.dir.to_owned(),
            name,
            summary,
            reference,
            basearch: self.basearch.to_owned(),
            releasever: self.variables.get("releasever").map(ToString::to_string).unwrap_or_default(),
            variables: self.variables.iter().map(|(name, value)| (name.clone(), value.to_string())).collect(),
            repos: notes.or_default(self.texts("repos")),
            lockfile_repos: notes.or_default(self.texts("lockfile-repos")),
            repo_packages: notes.or_default(self.repo_packages()),
            repovars: notes.or_default(self.repovars()),
            packages: self.packages(notes),
            exclude_packages: notes.or_default(self.texts("exclude-packages")),
            remove_from_packages: self.removals(notes),
            recommends: notes.or_default(self.boolean("recommends", true)),
            ostree_layers: self.layers(source, notes),
            postprocess,
            remove_files: self.remove_files(notes),
            tmp_is_dir: notes.or_default(self.boolean("tmp-is-dir", modern)),
            machineid_compat: notes.or_default(self.boolean("machineid-compat", true)),
            default_target: notes.or_default(self.default_target()),
            mutate_os_release: notes.or_default(self.text("mutate-os-release")),
            version_prefix,
            version_suffix: notes.or_default(self.version_suffix()),
            commit_metadata: notes.or_default(self.commit_metadata()),
            etc_group_members: notes.or_default(self.texts("etc-group-members")),
            check_passwd,
            check_groups,
            ignore_removed_users: notes.or_default(self.texts("ignore-removed-users")),
            ignore_removed_groups: notes.or_default(self.texts("ignore-removed-groups")),
            documentation: notes.or_default(self.boolean("documentation", true)),
            install_langs: notes
                .or_default(self.node("install-langs").map(|_| self.texts("install-langs")).transpose()),
            readonly_executables: notes.or_default(self.boolean("readonly-executables", false)),
            units: self.units(notes),
            add_files,
            add_client,
            container_cmd: notes.or_default(self.texts("container-cmd")),
            initramfs_args: notes.or_default(self.texts("initramfs-args")),
            repo_kind: self.repositories.as_ref().and_then(|all| all.kind),
            repo_files: self.repositories.map(|all| all.files).unwrap_or_default(),
            image: ImageConfig::default(),
            platforms: Platforms::new(),
        }
    }
}
