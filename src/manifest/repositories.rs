//! Repository definitions beside the manifest: which ids there are, in which files, and so which package
//! manager builds the system. What a definition says is the package manager's business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::ini;
use super::model::{RepoFile, RepoKind};
use super::notes::Notes;
use super::source::Source;
use crate::failure::{Failure, Kind};

/// All definitions in some directories.
#[derive(Debug, Default)]
pub(super) struct Repositories {
    /// The kind, if there is any definition.
    pub(super) kind: Option<RepoKind>,
    /// The files.
    pub(super) files: Vec<RepoFile>,
}

impl Repositories {
    /// Looks for `*.sources` and `*.repo` files; of an id that two directories define, the first counts.
    pub(super) fn discover(source: &dyn Source, dirs: &[&Path], notes: &mut Notes) -> Result<Self, Failure> {
        let mut this = Self::default();
        let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
        let short = |path: &Path| {
            let inside = dirs.first().and_then(|dir| path.strip_prefix(dir).ok());
            inside.unwrap_or(path).display().to_string()
        };
        for dir in dirs {
            let names = source.list(dir).map_err(|error| unreadable(&short(dir), &error))?;
            for name in names {
                let path = dir.join(&name);
                let (kind, ids) = match name.rsplit_once('.') {
                    Some((stem, "sources")) => (RepoKind::Deb, vec![stem.to_owned()]),
                    Some((_, "repo")) => {
                        let text = source.read(&path).map_err(|error| unreadable(&short(&path), &error))?;
                        (RepoKind::Rpm, ini::repositories(&short(&path), &text, notes))
                    }
                    _ => continue,
                };
                if let Some(other) = this.files.first().filter(|_| this.kind != Some(kind)) {
                    return Err(two_managers(&short(&other.path), &short(&path)));
                }
                this.kind = Some(kind);
                let mut fresh = Vec::new();
                for id in ids {
                    match seen.get(&id) {
                        Some(first) if first.parent() == Some(*dir) => {
                            let cause = format!(
                                "repository `{id}` is defined in {} and in {}",
                                short(first),
                                short(&path)
                            );
                            notes.problems.push(Failure::new(
                                Kind::Config,
                                cause,
                                "rename or remove one of them",
                            ));
                        }
                        Some(_) => {}
                        None => {
                            seen.insert(id.clone(), path.clone());
                            fresh.push(id);
                        }
                    }
                }
                if !fresh.is_empty() {
                    this.files.push(RepoFile { path, ids: fresh });
                }
            }
        }
        Ok(this)
    }

    /// Every id.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.files.iter().flat_map(|file| file.ids.iter().map(String::as_str))
    }
}

fn two_managers(one: &str, other: &str) -> Failure {
    Failure::new(
        Kind::Config,
        format!("{one} and {other} define repositories of two package managers"),
        "keep *.sources for a Debian system or *.repo for an RPM one, and remove the others",
    )
}

fn unreadable(name: &str, error: &std::io::Error) -> Failure {
    let cause = match error.kind() {
        std::io::ErrorKind::InvalidData => "not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    Failure::new(Kind::Config, format!("reading {name}: {cause}"), "make it readable")
}

#[cfg(test)]
mod tests {
    use super::super::source::memory::Memory;
    use super::*;

    fn discover(files: &[(&str, &str)]) -> Result<Repositories, Failure> {
        let mut notes = Notes::default();
        let dirs = [Path::new("/c"), Path::new("/c/yumrepos")];
        let found = Repositories::discover(&Memory::new(files), &dirs, &mut notes)?;
        notes.problems.into_iter().next().map_or(Ok(found), Err)
    }

    #[test]
    fn ids_come_from_file_names_or_sections() {
        let deb = discover(&[("debian.sources", "Types: deb"), ("debian-security.sources", "")]).unwrap();
        assert_eq!(deb.kind, Some(RepoKind::Deb));
        assert_eq!(deb.ids().collect::<Vec<_>>(), ["debian-security", "debian"]);
        let rpm = discover(&[
            ("pool.repo", "# x\n[nestos]\nbaseurl=a\n[ extra ]\nmetalink=b\n"),
            ("yumrepos/a.repo", "[nestos]\nbaseurl=a\n[more]\nbaseurl=a\n"),
            ("manifest.yaml", ""),
        ])
        .unwrap();
        assert_eq!(rpm.kind, Some(RepoKind::Rpm));
        assert_eq!(rpm.ids().collect::<Vec<_>>(), ["nestos", "extra", "more"]);
        assert_eq!(discover(&[("manifest.yaml", "")]).unwrap().kind, None);
    }

    #[test]
    fn two_package_managers_or_two_definitions_fail() {
        let mixed = discover(&[("a.repo", "[a]\nbaseurl=x"), ("b.sources", "")]).unwrap_err();
        assert_eq!(mixed.cause, "a.repo and b.sources define repositories of two package managers");
        let twice = discover(&[("a.repo", "[a]\nbaseurl=x"), ("b.repo", "[a]\nbaseurl=x")]).unwrap_err();
        assert_eq!(twice.cause, "repository `a` is defined in a.repo and in b.repo");
    }
}
