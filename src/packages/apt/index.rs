//! apt's package indexes: what the repositories offer, and what apt chose from it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::config::Repository;
use crate::failure::{Failure, Kind};
use crate::host::clock::Utc;
use crate::host::fs;
use crate::packages::backend::Request;
use crate::packages::deb::{Paragraph, paragraphs, parse_evr};
use crate::packages::model::{Package, Supply};
use crate::packages::snapshot::Snapshot;
use crate::pipeline::Digest;

/// One downloaded `Packages` file.
#[derive(Debug, Clone)]
pub(super) struct IndexFile {
    pub(super) path: PathBuf,
    pub(super) repo: String,
    pub(super) restricted: bool,
}

/// The texts of all indexes.
pub(super) struct Indexes {
    texts: Vec<(IndexFile, String)>,
}

/// Reads the indexes.
pub(super) fn read(files: &[IndexFile]) -> Result<Indexes> {
    let mut texts = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file.path).with_context(|| {
            format!("opening the index of repository {} (run `nosa fetch` once more)", file.repo)
        })?;
        texts.push((file.clone(), text));
    }
    Ok(Indexes { texts })
}

impl Indexes {
    /// Names of the packages that dpkg takes for granted; apt does not add them to an empty system.
    pub(super) fn essential(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .texts
            .iter()
            .filter(|(file, _)| !file.restricted)
            .flat_map(|(_, text)| fields(text, "Essential: yes"))
            .filter_map(|paragraph| paragraph.get("Package"))
            .map(str::to_owned)
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Refuses names that no repository has, with the nearest one that it has.
    pub(super) fn check_known(&self, request: &Request) -> Result<()> {
        let mut unknown: BTreeMap<&str, &str> = request
            .packages
            .iter()
            .map(|wanted| (wanted.name.as_str(), wanted.origin.as_str()))
            .filter(|(name, _)| {
                name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
            })
            .collect();
        for (_, text) in &self.texts {
            for line in text.lines() {
                if let Some(name) = line.strip_prefix("Package: ") {
                    unknown.remove(name);
                } else if let Some(provided) = line.strip_prefix("Provides: ") {
                    for name in provided.split(',') {
                        unknown.remove(name.split_whitespace().next().unwrap_or_default());
                    }
                }
            }
            if unknown.is_empty() {
                return Ok(());
            }
        }
        let Some((name, origin)) = unknown.iter().next() else { return Ok(()) };
        let repos: Vec<&str> = self.texts.iter().map(|(file, _)| file.repo.as_str()).collect();
        let origin = if origin.is_empty() { String::new() } else { format!("{origin}: ") };
        let mut repos = repos;
        repos.dedup();
        let others = if unknown.len() > 1 {
            format!(" (nor {})", unknown.keys().skip(1).copied().collect::<Vec<_>>().join(", "))
        } else {
            String::new()
        };
        Err(Failure::new(
            Kind::Resolve,
            format!("{origin}no repository of {} has a package {name}{others}", repos.join(", ")),
            match self.nearest(name) {
                Some(nearest) => {
                    format!("is {nearest} meant? Else correct the name, or add the repository that has it")
                }
                None => "correct the name, or add the repository that has it".to_owned(),
            },
        )
        .into())
    }

    fn nearest(&self, name: &str) -> Option<String> {
        let names = self
            .texts
            .iter()
            .flat_map(|(_, text)| text.lines().filter_map(|line| line.strip_prefix("Package: ")));
        names
            .filter(|other| other.len().abs_diff(name.len()) <= 2)
            .map(|other| (strsim::levenshtein(name, other), Reverse(common_prefix(name, other)), other))
            .filter(|(distance, _, _)| *distance <= 2)
            .min()
            .map(|(_, _, other)| other.to_owned())
    }

    /// The packages of `apt-get install --print-uris`, sorted by name.
    ///
    /// Its lines are `'URI' FILE SIZE SHA256:DIGEST`; the digest finds the paragraph in the index.
    pub(super) fn find(&self, printed: &[String]) -> Result<Vec<Package>> {
        let mut wanted: HashMap<&str, &str> = HashMap::new();
        for line in printed.iter().filter(|line| line.starts_with('\'')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[_, file, _, hash] = words.as_slice() else { bail!("apt-get printed {line:?}") };
            let hash =
                hash.strip_prefix("SHA256:").with_context(|| format!("apt-get gave no SHA-256 of {file}"))?;
            wanted.insert(hash, file);
        }
        let mut packages = Vec::with_capacity(wanted.len());
        for (file, text) in &self.texts {
            for paragraph in fields(text, "SHA256: ") {
                if let Some(digest) = paragraph.get("SHA256")
                    && wanted.remove(digest).is_some()
                {
                    packages.push(package(&paragraph, &file.repo)?);
                }
            }
        }
        if let Some(file) = wanted.values().next() {
            bail!("apt-get chose {file}, which no index describes");
        }
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(packages)
    }
}

/// The paragraphs that have a line beginning with `start`.
fn fields<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = Paragraph<'a>> {
    paragraphs(text).filter(move |paragraph| {
        paragraph
            .text()
            .match_indices(start)
            .any(|(at, _)| at == 0 || paragraph.text().as_bytes()[at - 1] == b'\n')
    })
}

fn package(paragraph: &Paragraph<'_>, repo: &str) -> Result<Package> {
    let field = |name: &str| {
        paragraph.get(name).map(str::to_owned).with_context(|| {
            format!("the index has no {name} of {}", paragraph.get("Package").unwrap_or("a package"))
        })
    };
    let name = field("Package")?;
    let source =
        paragraph.get("Source").map_or(name.as_str(), |source| source.split(' ').next().unwrap_or(source));
    Ok(Package {
        source: source.to_owned(),
        evr: parse_evr(&field("Version")?),
        arch: field("Architecture")?,
        repo: repo.to_owned(),
        location: field("Filename")?,
        size: field("Size")?.parse().context("reading a package's size")?,
        sha256: field("SHA256")?.parse().context("reading a package's digest")?,
        name,
    })
}

/// apt preferences (apt_preferences(5)) that say what may come from where and at which version.
pub(super) fn pins(
    repositories: &[Repository],
    repo_packages: &[(String, Vec<String>)],
    request: &Request,
    overrides: &[String],
) -> Vec<String> {
    let mut pins = Vec::new();
    let mut pin = |package: &str, what: &str, priority: i32| {
        pins.push(format!("Package: {package}\nPin: {what}\nPin-Priority: {priority}\n"));
    };
    if !overrides.is_empty() {
        pin(&overrides.join(" "), &format!("release o={}", super::local::ORIGIN), 1003);
    }
    for locked in request.locked.iter().filter(|locked| !overrides.contains(&locked.name)) {
        pin(&locked.name, &format!("version {}", locked.evr), 1002);
    }
    for repository in repositories {
        let only: Vec<&str> = repo_packages
            .iter()
            .filter(|(repo, _)| *repo == repository.id)
            .flat_map(|(_, packages)| packages.iter().map(String::as_str))
            .collect();
        for suite in &repository.suites {
            for by in ["n", "a"] {
                if !only.is_empty() {
                    pin(&only.join(" "), &format!("release {by}={suite}"), 1001);
                }
                if repository.supply == Supply::Named
                    || (repository.supply == Supply::Locked && !request.locked.is_empty())
                {
                    pin("*", &format!("release {by}={suite}"), -1);
                }
            }
        }
    }
    for name in &request.exclude {
        pin(name, "release *", -1);
    }
    pins
}

/// What the signed indexes in apt's lists directory amount to.
pub(super) fn snapshot(lists: &Path) -> Result<Snapshot> {
    let mut identity = String::new();
    let mut date = 0;
    for path in fs::read_dir_sorted(lists)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with("_InRelease") && !name.ends_with("_Release") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        // The host part of the name is left out: two mirrors of one archive are the same snapshot.
        let suite = name.split_once("_dists_").map_or(name.as_str(), |(_, suite)| suite);
        identity.push_str(&format!("{suite} {}\n", Digest::of(&text)));
        let line = text.lines().find_map(|line| line.strip_prefix("Date:"));
        date = date.max(line.and_then(parse_date).unwrap_or(0));
    }
    Ok(Snapshot { digest: Digest::of(identity), date })
}

/// Seconds since the epoch of `Sat, 15 Nov 2026 09:12:33 UTC` (RFC 5322, always UTC in the archive).
fn parse_date(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let mut words = text.split_whitespace().skip(1);
    let day = words.next()?.parse().ok()?;
    let month = MONTHS.find(words.next()?)? as u32 / 3 + 1;
    let year = words.next()?.parse().ok()?;
    let time: Vec<u32> = words.next()?.split(':').map_while(|part| part.parse().ok()).collect();
    let &[hour, minute, second] = time.as_slice() else { return None };
    Some(Utc { year, month, day, hour, minute, second }.to_epoch())
}

/// How many letters two names begin with in common.
fn common_prefix(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::Wanted;

    fn indexes() -> Indexes {
        let digest = Digest::of("jq");
        let text = format!(
            "Package: jq\nSource: jq-src (1.0)\nVersion: 1.7-1\nArchitecture: amd64\nProvides: json-tool, x (= 1)\n\
             Filename: pool/jq.deb\nSize: 10\nSHA256: {digest}\n\nPackage: bash\nEssential: yes\nVersion: 5\n"
        );
        let file = IndexFile { path: "x".into(), repo: "debian".into(), restricted: false };
        Indexes { texts: vec![(file, text)] }
    }

    fn want(name: &str) -> Request {
        let wanted = Wanted { name: name.into(), origin: "manifest.yaml:7".into() };
        Request { packages: vec![wanted], ..Request::default() }
    }

    #[test]
    fn what_apt_printed_is_found_in_the_index() {
        let printed = [
            "Reading…".to_owned(),
            format!("'http://x/pool/jq.deb' jq_1.7-1_amd64.deb 10 SHA256:{}", Digest::of("jq")),
        ];
        let packages = indexes().find(&printed).unwrap();
        assert_eq!((packages[0].name.as_str(), packages[0].source.as_str()), ("jq", "jq-src"));
        assert_eq!(indexes().essential(), ["bash"]);
    }

    #[test]
    fn an_unknown_package_is_named_with_its_place_and_its_neighbour() {
        assert!(indexes().check_known(&want("json-tool")).is_ok());
        let failure = indexes().check_known(&want("bassh")).unwrap_err().downcast::<Failure>().unwrap();
        assert_eq!(failure.cause, "manifest.yaml:7: no repository of debian has a package bassh");
        assert!(failure.cure.starts_with("is bash meant?"), "{}", failure.cure);
    }

    #[test]
    fn a_restricted_repository_gives_only_what_is_named() {
        let repository = Repository {
            id: "forky".into(),
            file: "forky.sources".into(),
            dir: "/".into(),
            definition: String::new(),
            suites: vec!["forky".into()],
            supply: Supply::Named,
        };
        let pins = pins(&[repository], &[("forky".into(), vec!["grub2".into()])], &Request::default(), &[]);
        assert_eq!(pins[0], "Package: grub2\nPin: release n=forky\nPin-Priority: 1001\n");
        assert_eq!(pins[1], "Package: *\nPin: release n=forky\nPin-Priority: -1\n");
    }

    #[test]
    fn dates_of_the_archive() {
        assert_eq!(parse_date(" Thu, 01 Jan 1970 00:00:10 UTC"), Some(10));
        assert_eq!(parse_date(" Mon, 23 Nov 2026 02:03:04 UTC"), Some(1_795_399_384));
    }
}
