//! One test body over both package managers: the same small packages, made here as RPMs and as debs, are
//! resolved, locked, downloaded, unpacked and configured, and the trees are compared with what was asked.

mod body;
pub(crate) mod deb;
pub(crate) mod package;
mod rpm;
mod scripts;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nosa::packages::{InstallRequest, LocalPackage, Package, PackageBackend, RemovedFiles, Request, Wanted};
use nosa::pipeline::{Event, Reporter, Sink, sha256_file};
use package::Made;

/// A kind of packages: how they are written, published, and which backend takes them.
pub(crate) trait Format {
    /// The ending of a package file.
    const ENDING: &'static str;
    /// Writes one package and returns its file.
    fn write(dir: &Path, package: &Made) -> PathBuf;
    /// Makes a repository of a directory's packages.
    fn publish(dir: &Path);
    /// A backend over the repository in `repo`.
    fn backend(state: &Path, repo: &Path, overrides: Vec<LocalPackage>) -> Box<dyn PackageBackend>;
    /// How the version `1.0`, release `1` reads.
    fn evr(version: &str) -> String {
        format!("{version}-1")
    }
}

/// What a backend told.
#[derive(Default)]
pub(crate) struct Told(Mutex<Vec<String>>);

impl Sink for Told {
    fn emit(&self, event: &Event) {
        if let Event::Warning(text) = event {
            self.0.lock().unwrap().push(text.clone());
        }
    }
}

/// A repository and a backend's state.
pub(crate) struct Bench<F> {
    place: tempfile::TempDir,
    told: Arc<Told>,
    /// How long a script may take: longer than any does, but for those that never end.
    pub(crate) limit: Duration,
    format: std::marker::PhantomData<F>,
}

impl<F: Format> Bench<F> {
    /// A bench over these packages.
    pub(crate) fn new(packages: &[Made]) -> Self {
        let this = Self {
            place: tempfile::tempdir().unwrap(),
            told: Arc::default(),
            limit: Duration::from_secs(600),
            format: std::marker::PhantomData,
        };
        std::fs::create_dir(this.repo()).unwrap();
        this.publish(packages);
        this
    }

    pub(crate) fn repo(&self) -> PathBuf {
        self.place.path().join("repo")
    }

    /// Adds packages to the repository.
    pub(crate) fn publish(&self, packages: &[Made]) {
        for package in packages {
            F::write(&self.repo(), package);
        }
        F::publish(&self.repo());
    }

    pub(crate) fn backend(&self) -> Box<dyn PackageBackend> {
        self.backend_with(&[])
    }

    /// A backend with packages of the user's own.
    pub(crate) fn backend_with(&self, overrides: &[Made]) -> Box<dyn PackageBackend> {
        let dir = self.place.path().join("overrides");
        std::fs::create_dir_all(&dir).unwrap();
        let local = overrides.iter().map(|package| {
            let path = F::write(&dir, package);
            let size = std::fs::metadata(&path).unwrap().len();
            LocalPackage { sha256: sha256_file(&path).unwrap(), size, path }
        });
        F::backend(&self.place.path().join("state"), &self.repo(), local.collect())
    }

    pub(crate) fn report(&self) -> Reporter {
        Reporter::new(self.told.clone())
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        self.told.0.lock().unwrap().clone()
    }

    /// Resolves, downloads and installs; the tree, and the packages.
    pub(crate) fn install(&self, request: &Request, remove: &[RemovedFiles]) -> anyhow::Result<Tree> {
        let backend = self.backend();
        backend.refresh(&self.report())?;
        let packages = backend.resolve(request, &self.report())?;
        let files = backend.download(&packages, &self.report())?;
        let place = tempfile::tempdir_in(self.place.path()).unwrap();
        let (root, tmp) = (place.path().join("tree"), place.path().join("tmp"));
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(&tmp).unwrap();
        backend.install(&InstallRequest {
            packages: &packages,
            files: &files,
            tree: &root,
            tmp: &tmp,
            log: &place.path().join("log"),
            epoch: 86_400,
            remove,
            documentation: true,
            languages: None,
            limit: self.limit,
            report: &self.report(),
        })?;
        let owners = backend.owners(&root)?;
        Ok(Tree { root, owners, _place: place })
    }
}

/// An installed tree.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) owners: std::collections::BTreeMap<String, String>,
    _place: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// A request for packages by name, each from a line of its own.
pub(crate) fn want(names: &[&str]) -> Request {
    let wanted = |(index, name): (usize, &&str)| Wanted {
        name: (*name).to_owned(),
        origin: format!("manifest.yaml:{}", index + 1),
    };
    Request { packages: names.iter().enumerate().map(wanted).collect(), ..Request::default() }
}

/// The names and versions of packages, without what every system has.
pub(crate) fn listed(packages: &[Package]) -> Vec<String> {
    let own = packages.iter().filter(|package| package.name != "base");
    own.map(|package| format!("{} {}", package.name, package.evr)).collect()
}

/// Instantiates each test for both kinds of packages.
macro_rules! over_both {
    ($($name:ident)*) => {
        mod apt {
            $(#[test] fn $name() {
                if crate::fixture::is_root() { super::$name::<crate::conformance::deb::Debs>(); }
            })*
        }
        mod dnf {
            $(#[test] fn $name() {
                if crate::fixture::is_root() { super::$name::<crate::conformance::rpm::Rpms>(); }
            })*
        }
    };
}
pub(crate) use over_both;
