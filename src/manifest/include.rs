//! Following includes: which files make up a treefile, in which order they merge, and with which
//! variables. The order is rpm-ostree's: `include`, then `arch-include`, then what conditions add; each
//! file merges into the including one as it returns, so of two included files the first gives the scalars
//! and the later one's list items come first.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::condition::{Condition, Variable, Variables};
use super::notes::Notes;
use super::source::{Source, normalize};
use super::treefile::{Treefile, texts_of};
use crate::document::{Map, Node, Position, Value, nearest, parse};
use crate::failure::{Failure, Kind};

/// rpm-ostree's limit.
const MAX_DEPTH: usize = 50;

/// Reads files and remembers which.
pub(super) struct Walk<'s> {
    source: &'s dyn Source,
    dir: &'s Path,
    basearch: &'s str,
    /// Variables so far; the outermost definition stands.
    pub(super) variables: Variables,
    /// Every file read.
    pub(super) files: Vec<PathBuf>,
    /// Where each variable is defined.
    pub(super) definitions: Map,
    /// Complaints so far.
    pub(super) notes: Notes,
    seen: BTreeMap<PathBuf, Option<Position>>,
    open: Vec<(PathBuf, String)>,
}

impl<'s> Walk<'s> {
    /// Begins in `dir`, which names in messages are relative to.
    pub(super) fn new(source: &'s dyn Source, dir: &'s Path, basearch: &'s str) -> Self {
        Self {
            source,
            dir,
            basearch,
            variables: Variables::new(),
            files: Vec::new(),
            definitions: Map::default(),
            notes: Notes::default(),
            seen: BTreeMap::new(),
            open: Vec::new(),
        }
    }

    /// The directory of the configuration.
    pub(super) const fn dir(&self) -> &'s Path {
        self.dir
    }

    /// The name of a file in messages.
    pub(super) fn name(&self, path: &Path) -> String {
        let path = normalize(path);
        path.strip_prefix(normalize(self.dir)).unwrap_or(&path).display().to_string()
    }

    /// Reads and parses a file that `from` asks for.
    pub(super) fn document(&mut self, path: &Path, from: Option<&Position>) -> Result<Node, Failure> {
        let name = self.name(path);
        let text = self.source.read(path).map_err(|error| self.unreadable(path, from, &error))?;
        self.files.push(path.to_owned());
        parse(&name, &text)
    }

    /// Reads a treefile and all it includes, merged; what is wrong is noted and left out.
    pub(super) fn treefile(&mut self, path: &Path, from: Option<&Position>) -> Treefile {
        let name = self.name(path);
        let canonical = self.source.canonical(path).map_err(|error| self.unreadable(path, from, &error));
        let entered = canonical.and_then(|canonical| self.enter(&canonical, &name, from));
        if self.notes.take(entered).is_none() {
            return Treefile::default();
        }
        let root = self.document(path, from);
        let file = match self.notes.take(root) {
            Some(root) => self.merged(&root, path),
            None => Treefile::default(),
        };
        self.open.pop();
        file
    }

    /// A parsed treefile with all it includes.
    fn merged(&mut self, root: &Node, path: &Path) -> Treefile {
        let mut file = Treefile::new(root, self.basearch, &mut self.notes);
        self.define(&file);
        let mut includes = Vec::new();
        if let Some(include) = file.values.remove("include") {
            includes.extend(texts_of(&include).into_iter().cloned());
        }
        if let Some(node) = file.values.remove("arch-include")
            && let Ok(map) = node.map("arch-include")
            && let Some(include) = map.get(self.basearch)
        {
            includes.extend(texts_of(include).into_iter().cloned());
        }
        if let Some(node) = file.values.remove("conditional-include") {
            for item in node.list("conditional-include").unwrap_or_default() {
                let taken = item
                    .map("conditional-include")
                    .and_then(|item| self.conditional(item, &mut file, &mut includes));
                self.notes.take(taken);
            }
        }
        for include in includes {
            let target = self.target(&include, path);
            if let Some(target) = self.notes.take(target) {
                let included = self.treefile(&target, Some(&include.position));
                file.merge(included);
            }
        }
        file
    }

    /// The file that an include names.
    fn target(&self, include: &Node, path: &Path) -> Result<PathBuf, Failure> {
        if self.open.len() > MAX_DEPTH {
            return Err(include.position.failure(
                format_args!("includes are nested deeper than {MAX_DEPTH} files"),
                "include the files side by side",
            ));
        }
        let text = include.text("include")?;
        if text.starts_with('/') {
            return Err(include.position.failure(
                format_args!("`include` takes paths relative to the including file, found {text}"),
                "copy the file into the configuration, and include that",
            ));
        }
        Ok(path.with_file_name("").join(text))
    }

    fn enter(&mut self, canonical: &Path, name: &str, from: Option<&Position>) -> Result<(), Failure> {
        if let Some(from) = from {
            if let Some(start) = self.open.iter().position(|(path, _)| path == canonical) {
                let chain: Vec<&str> =
                    self.open[start..].iter().map(|(_, name)| name.as_str()).chain([name]).collect();
                return Err(from.failure(
                    format_args!("include goes in a circle: {}", chain.join(" → ")),
                    "remove one of these includes",
                ));
            }
            if let Some(first) = self.seen.get(canonical) {
                let first = first.as_ref().map_or_else(|| "the command".to_owned(), ToString::to_string);
                return Err(from.failure(
                    format_args!("`{name}` is included twice; the first time at {first}"),
                    "keep one of the two includes",
                ));
            }
        }
        self.seen.insert(canonical.to_owned(), from.cloned());
        self.open.push((canonical.to_owned(), name.to_owned()));
        Ok(())
    }

    /// Takes up a file's variables; those of the files around it stand.
    fn define(&mut self, file: &Treefile) {
        if let Some(node) = file.values.get("basearch")
            && node.text("basearch").is_ok_and(|arch| arch != self.basearch)
        {
            self.notes.problems.push(node.position.failure(
                format_args!("`basearch` is {}, and this build is for {}", node.found(), self.basearch),
                "remove `basearch`, or build on that architecture",
            ));
        }
        self.variables
            .entry("basearch".to_owned())
            .or_insert_with(|| Variable::Text(self.basearch.to_owned()));
        if let Some(node) = file.values.get("releasever") {
            self.variables.entry("releasever".to_owned()).or_insert_with(|| Variable::of(node));
        }
        let map = file.values.get("variables").and_then(|node| node.map("variables").ok());
        for entry in map.map(|map| map.entries.as_slice()).unwrap_or_default() {
            if matches!(entry.key.as_str(), "basearch" | "releasever") {
                self.notes.problems.push(entry.position.failure(
                    format_args!("variable `{}` is reserved", entry.key),
                    format!("write `{}:` outside of `variables`", entry.key),
                ));
            } else if !self.variables.contains_key(&entry.key) {
                self.variables.insert(entry.key.clone(), Variable::of(&entry.value));
                self.definitions.entries.push(entry.clone());
            }
        }
    }

    fn conditional(
        &mut self,
        item: &Map,
        file: &mut Treefile,
        includes: &mut Vec<Node>,
    ) -> Result<(), Failure> {
        let mut holds = true;
        // All are evaluated, so that a mistake in one shows whatever the others say.
        for condition in item.get("if").map(texts_of).unwrap_or_default() {
            holds &= Condition::parse(condition)?.holds(&self.variables)?;
        }
        let Some(include) = item.get("include") else { return Ok(()) };
        if let Value::Map(map) = &include.value {
            // Checked whether it holds or not: a typo should not wait for its day.
            let inline = self.inline(map, include)?;
            if holds {
                file.merge(inline);
            }
        } else if holds {
            includes.extend(texts_of(include).into_iter().cloned());
        }
        Ok(())
    }

    fn inline(&mut self, map: &Map, node: &Node) -> Result<Treefile, Failure> {
        const OUTSIDE: &[&str] =
            &["include", "arch-include", "conditional-include", "variables", "basearch", "releasever"];
        if let Some(entry) = map.entries.iter().find(|entry| OUTSIDE.contains(&entry.key.as_str())) {
            return Err(entry.position.failure(
                format_args!("`{}` has no effect in an inline treefile", entry.key),
                "move the inline treefile to a file of its own and include that",
            ));
        }
        Ok(Treefile::new(node, self.basearch, &mut self.notes))
    }

    /// The failure for a treefile that cannot be read.
    fn unreadable(&self, path: &Path, from: Option<&Position>, error: &io::Error) -> Failure {
        let (name, cause, cure) = self.why_unreadable(path, error);
        match from {
            Some(from) => from.failure(format_args!("including `{name}`: {cause}"), cure),
            None => Failure::new(Kind::Config, format!("reading {}: {cause}", path.display()), cure),
        }
    }

    /// The failure for another file that a value names and that cannot be read.
    pub(super) fn unreadable_file(&self, path: &Path, from: &Position, error: &io::Error) -> Failure {
        let (name, cause, cure) = self.why_unreadable(path, error);
        from.failure(format_args!("reading `{name}`: {cause}"), cure)
    }

    fn why_unreadable(&self, path: &Path, error: &io::Error) -> (String, String, String) {
        let name = self.name(path);
        let (cause, cure) = match error.kind() {
            io::ErrorKind::NotFound => ("no such file", format!("create {name}, or correct the path")),
            io::ErrorKind::InvalidData => ("not UTF-8 text", "save it in UTF-8".to_owned()),
            io::ErrorKind::IsADirectory => ("it is a directory", "name a file".to_owned()),
            io::ErrorKind::PermissionDenied => ("permission denied", "make it readable for you".to_owned()),
            _ => return (name, error.to_string(), "make it readable".to_owned()),
        };
        if error.kind() != io::ErrorKind::NotFound {
            return (name, cause.to_owned(), cure);
        }
        let near = path.parent().zip(path.file_stem()).and_then(|(parent, stem)| {
            let mut names: Vec<PathBuf> =
                self.source.list(parent).ok()?.into_iter().map(PathBuf::from).collect();
            // The extension is no likeness.
            names.retain(|name| name.extension() == path.extension());
            let stems = names.iter().filter_map(|name| name.file_stem()?.to_str());
            let near = nearest(&stem.to_string_lossy(), stems)?.to_owned();
            names.into_iter().find(|name| name.file_stem().is_some_and(|stem| stem == near.as_str()))
        });
        let near = near.filter(|near| Some(near.as_os_str()) != path.file_name());
        let cure = match near {
            Some(near) => format!("did you mean `{}`?", self.name(&path.with_file_name(near))),
            None => cure,
        };
        (name, cause.to_owned(), cure)
    }
}
