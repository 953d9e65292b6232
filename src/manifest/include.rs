//! Following includes: which files make up a treefile, in which order they merge, and with which
//! variables. The order is rpm-ostree's: `include`, then `arch-include`, then what conditions add; each
//! file merges into the including one as it returns, so of two included files the first gives the scalars
//! and the later one's list items come first.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::condition::{Condition, Variable, Variables};
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
    /// What was accepted without effect.
    pub(super) warnings: Vec<String>,
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
            warnings: Vec::new(),
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

    /// Reads a treefile and all it includes, merged.
    pub(super) fn treefile(&mut self, path: &Path, from: Option<&Position>) -> Result<Treefile, Failure> {
        let name = self.name(path);
        let canonical = self.source.canonical(path).map_err(|error| self.unreadable(path, from, &error))?;
        self.enter(&canonical, &name, from)?;
        let root = self.document(path, from)?;
        let mut file = Treefile::new(&root, self.basearch, &mut self.warnings)?;
        self.define(&file)?;
        let mut includes = Vec::new();
        if let Some(include) = file.values.remove("include") {
            includes.extend(texts_of(&include).into_iter().cloned());
        }
        if let Some(node) = file.values.remove("arch-include")
            && let Some(include) = node.map("arch-include")?.get(self.basearch)
        {
            includes.extend(texts_of(include).into_iter().cloned());
        }
        if let Some(node) = file.values.remove("conditional-include") {
            for item in node.list("conditional-include")? {
                self.conditional(item.map("conditional-include")?, &mut file, &mut includes)?;
            }
        }
        for include in includes {
            if self.open.len() > MAX_DEPTH {
                return Err(include.position.failure(
                    format_args!("includes are nested deeper than {MAX_DEPTH} files"),
                    "include the files side by side",
                ));
            }
            let target = path.with_file_name("").join(include.text("include")?);
            let included = self.treefile(&target, Some(&include.position))?;
            file.merge(included);
        }
        self.open.pop();
        Ok(file)
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
    fn define(&mut self, file: &Treefile) -> Result<(), Failure> {
        if let Some(node) = file.values.get("basearch")
            && node.text("basearch")? != self.basearch
        {
            return Err(node.position.failure(
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
        let Some(node) = file.values.get("variables") else { return Ok(()) };
        for entry in &node.map("variables")?.entries {
            if matches!(entry.key.as_str(), "basearch" | "releasever") {
                return Err(entry.position.failure(
                    format_args!("variable `{}` is reserved", entry.key),
                    format!("write `{}:` outside of `variables`", entry.key),
                ));
            }
            self.variables.entry(entry.key.clone()).or_insert_with(|| Variable::of(&entry.value));
        }
        Ok(())
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
        Treefile::new(node, self.basearch, &mut self.warnings)
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
        let cause = match error.kind() {
            io::ErrorKind::NotFound => "no such file".to_owned(),
            io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
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
            None => format!("create {name}, or correct the path"),
        };
        (name, cause, cure)
    }
}
