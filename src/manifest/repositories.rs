//! Repository definitions beside the manifest: which ids there are, in which files, and so which package
//! manager builds the system. What a definition says is the package manager's business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::model::{RepoFile, RepoKind};
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
    pub(super) fn discover(source: &dyn Source, dirs: &[&Path]) -> Result<Self, Failure> {
        let mut this = Self::default();
        let mut seen: BTreeMap<String, PathBuf> = BTreeMap::new();
        for dir in dirs {
            let names = source.list(dir).map_err(|error| unreadable(dir, &error))?;
            for name in names {
                let path = dir.join(&name);
                let (kind, ids) = match name.rsplit_once('.') {
                    Some((stem, "sources")) => (RepoKind::Deb, vec![stem.to_owned()]),
                    Some((_, "repo")) => {
                        let text = source.read(&path).map_err(|error| unreadable(&path, &error))?;
                        (RepoKind::Rpm, sections(&text))
                    }
                    _ => continue,
                };
                this.add(RepoFile { path, ids }, kind, dir, &mut seen)?;
            }
        }
        Ok(this)
    }

    fn add(
        &mut self,
        file: RepoFile,
        kind: RepoKind,
        dir: &Path,
        seen: &mut BTreeMap<String, PathBuf>,
    ) -> Result<(), Failure> {
        if let (Some(first), Some(other)) = (self.kind, self.files.first())
            && first != kind
        {
            return Err(Failure::new(
                Kind::Config,
                format!(
                    "{} and {} define repositories of two package managers",
                    other.path.display(),
                    file.path.display()
                ),
                "keep *.sources for a Debian system or *.repo for an RPM one, and remove the others",
            ));
        }
        let RepoFile { path, mut ids } = file;
        let mut fresh = Vec::new();
        for id in ids.drain(..) {
            match seen.get(&id) {
                Some(first) if first.parent() == Some(dir) => {
                    return Err(Failure::new(
                        Kind::Config,
                        format!(
                            "repository `{id}` is defined in {} and in {}",
                            first.display(),
                            path.display()
                        ),
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
        self.kind = Some(kind);
        if !fresh.is_empty() {
            self.files.push(RepoFile { path, ids: fresh });
        }
        Ok(())
    }

    /// Every id.
    pub(super) fn ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.files.iter().flat_map(|file| file.ids.iter().map(String::as_str))
    }
}

/// The `[section]` names of a yum-style definition.
fn sections(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix('[')?.split_once(']'))
        .map(|(id, _)| id.trim().to_owned())
        .filter(|id| !id.is_empty() && id != "main")
        .collect()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(Kind::Config, format!("reading {}: {error}", path.display()), "make it readable")
}

#[cfg(test)]
mod tests {
    use super::super::source::memory::Memory;
    use super::*;

    fn discover(files: &[(&str, &str)]) -> Result<Repositories, Failure> {
        Repositories::discover(&Memory::new(files), &[Path::new("/c"), Path::new("/c/yumrepos")])
    }

    #[test]
    fn ids_come_from_file_names_or_sections() {
        let deb = discover(&[("debian.sources", "Types: deb"), ("debian-security.sources", "")]).unwrap();
        assert_eq!(deb.kind, Some(RepoKind::Deb));
        assert_eq!(deb.ids().collect::<Vec<_>>(), ["debian-security", "debian"]);
        let rpm = discover(&[
            ("pool.repo", "# x\n[nestos]\nname=a\n[ extra ]\n"),
            ("yumrepos/a.repo", "[nestos]\n[more]\n"),
            ("manifest.yaml", ""),
        ])
        .unwrap();
        assert_eq!(rpm.kind, Some(RepoKind::Rpm));
        assert_eq!(rpm.ids().collect::<Vec<_>>(), ["nestos", "extra", "more"]);
        assert_eq!(discover(&[("manifest.yaml", "")]).unwrap().kind, None);
    }

    #[test]
    fn two_package_managers_or_two_definitions_fail() {
        let mixed = discover(&[("a.repo", "[a]"), ("b.sources", "")]).unwrap_err();
        assert_eq!(mixed.cause, "/c/a.repo and /c/b.sources define repositories of two package managers");
        let twice = discover(&[("a.repo", "[a]"), ("b.repo", "[a]")]).unwrap_err();
        assert_eq!(twice.cause, "repository `a` is defined in /c/a.repo and in /c/b.repo");
    }
}
