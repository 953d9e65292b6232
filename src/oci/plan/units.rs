//! The files of a tree in units: what changes together.
//!
//! | unit | its files |
//! |---|---|
//! | none: the first layer, with the commit | what follows from the whole set of packages and from the version: os-release, issue, dpkg's status, ld.so.cache |
//! | `@kernel` | all files of the source package that most kernel modules are from, and the kernel itself |
//! | `@module-index` | what depmod wrote |
//! | `@initramfs` | the initramfs |
//! | `@package-database` | rpm's and dnf's databases: large, and different with every package |
//! | `@configuration` | files of overlays and of `add-files`, and those that no package owns, if they are small |
//! | `@large:/usr/lib/udev` | the large ones of a directory, but for /etc |
//! | `openssl` | the files of the binary packages of one source, with dpkg's notes on them |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::record::UnitRecord;
use crate::ostree::Checksum;
use crate::pipeline::KeyHasher;

/// A file of no package that is at least so large is a unit of its own, with its neighbours.
const LARGE: u64 = 256 << 10;
/// About what a file costs in a layer besides its bytes, before compression: headers and links.
const OVERHEAD: u64 = 2048;
/// Files that follow from the whole set of packages, or hold the version: they change with every commit. A
/// path that ends in `/` is a directory.
const EVERY_COMMIT: &[&str] = &[
    "usr/lib/os-release",
    "usr/etc/os-release",
    "usr/etc/issue",
    "usr/etc/issue.net",
    "usr/etc/ld.so.cache",
    "usr/lib/sysimage/dpkg/",
    "usr/lib/tmpfiles.d/nosa-autovar.conf",
];
/// Databases of all packages that are too large for the first layer.
const DATABASES: &[&str] = &[
    "usr/share/rpm/",
    "usr/lib/sysimage/rpm/",
    "usr/lib/sysimage/libdnf5/",
    "usr/lib/sysimage/rpm-ostree-base-db/",
];
/// Where dpkg keeps what it knows of single packages, as files `NAME[:ARCH].SUFFIX`.
const DPKG_INFO: &str = "usr/lib/sysimage/dpkg/info";
const MODULES: &str = "usr/lib/modules";

/// What changes together, and what a plan puts into layers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Unit {
    /// The kernel with its modules.
    Kernel,
    /// The indexes of the modules.
    ModuleIndex,
    /// The initramfs.
    Initramfs,
    /// The databases of all packages.
    Database,
    /// Small files that the configuration has or scripts made.
    Configuration,
    /// Large files in this directory that the configuration has or scripts made.
    Large(String),
    /// The packages of this source.
    Source(String),
}

impl Unit {
    /// Whether it has a layer of its own while there is room.
    pub(super) const fn is_alone(&self) -> bool {
        !matches!(self, Self::Large(_) | Self::Source(_))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("@kernel"),
            Self::ModuleIndex => f.write_str("@module-index"),
            Self::Initramfs => f.write_str("@initramfs"),
            Self::Database => f.write_str("@package-database"),
            Self::Configuration => f.write_str("@configuration"),
            Self::Large(dir) => write!(f, "@large:/{dir}"),
            Self::Source(name) => f.write_str(name),
        }
    }
}

/// A text that names no unit.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is no unit of a layer plan")]
pub struct UnknownUnit(String);

impl FromStr for Unit {
    type Err = UnknownUnit;

    fn from_str(text: &str) -> Result<Self, UnknownUnit> {
        Ok(match text {
            "@kernel" => Self::Kernel,
            "@module-index" => Self::ModuleIndex,
            "@initramfs" => Self::Initramfs,
            "@package-database" => Self::Database,
            "@configuration" => Self::Configuration,
            _ => match text.strip_prefix("@large:/") {
                Some(dir) => Self::Large(dir.to_owned()),
                None if text.starts_with('@') || text.is_empty() => return Err(UnknownUnit(text.to_owned())),
                None => Self::Source(text.to_owned()),
            },
        })
    }
}

impl From<Unit> for String {
    fn from(unit: Unit) -> Self {
        unit.to_string()
    }
}

impl TryFrom<String> for Unit {
    type Error = UnknownUnit;

    fn try_from(text: String) -> Result<Self, UnknownUnit> {
        text.parse()
    }
}

/// A package as layers know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// The source package it was built from.
    pub source: String,
    /// Its version.
    pub version: String,
}

/// What a build knows of where its files come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Which package each path of the installed tree belongs to, by absolute path.
    pub owners: BTreeMap<String, String>,
    /// The packages by name.
    pub packages: BTreeMap<String, Component>,
    /// The paths that the configuration gave content, whoever owns them, relative to the tree.
    pub configured: BTreeSet<PathBuf>,
}

impl Contents {
    /// Adds all of it to a key.
    pub(in crate::oci) fn key(&self, hash: &mut KeyHasher) {
        for (name, package) in &self.packages {
            hash.input(format!("package {name}"), format_args!("{} of {}", package.version, package.source));
        }
        let mut owners = KeyHasher::default();
        self.owners.iter().for_each(|(path, name)| owners.input(path, name));
        hash.input("owners of files", owners.digest());
        let mut configured = KeyHasher::default();
        self.configured.iter().for_each(|path| configured.input(path.display().to_string(), ""));
        hash.input("configured files", configured.digest());
    }
}

/// A file of a commit.
#[derive(Debug, Clone)]
pub(in crate::oci) struct TreeFile<'a> {
    /// Its path in the tree, with /etc at usr/etc.
    pub(in crate::oci) path: &'a Path,
    /// Its object.
    pub(in crate::oci) checksum: Checksum,
    /// Its size; 0 for a link.
    pub(in crate::oci) size: u64,
    /// A link's target.
    pub(in crate::oci) target: Option<String>,
}

/// The files of a unit.
#[derive(Debug, Default)]
pub(in crate::oci) struct UnitFiles {
    /// Their objects by path.
    pub(super) files: BTreeMap<PathBuf, Checksum>,
    /// About what they take in a layer, before compression.
    pub(super) size: u64,
    packages: BTreeMap<String, String>,
}

impl UnitFiles {
    fn add(&mut self, file: &TreeFile<'_>, package: Option<(&str, &Component)>) {
        self.files.insert(file.path.to_owned(), file.checksum);
        self.size += file.size + OVERHEAD;
        if let Some((name, package)) = package {
            self.packages.insert(name.to_owned(), package.version.clone());
        }
    }

    /// What a plan remembers of it.
    pub(super) fn record(&self) -> UnitRecord {
        let mut content = KeyHasher::default();
        self.files.iter().for_each(|(path, checksum)| content.input(path.display().to_string(), checksum));
        UnitRecord { content: content.digest(), packages: self.packages.clone() }
    }
}

/// Divides a commit's files into units; what belongs to none is left out.
pub(in crate::oci) fn divide(files: &[TreeFile<'_>], contents: &Contents) -> BTreeMap<Unit, UnitFiles> {
    let divider = Divider::new(files, contents);
    let mut units: BTreeMap<Unit, UnitFiles> = BTreeMap::new();
    for file in files {
        let owner = divider.owner(file.path);
        if let Some(unit) = divider.unit(file, owner) {
            let named = matches!(unit, Unit::Kernel | Unit::Source(_));
            units.entry(unit).or_default().add(file, owner.filter(|_| named));
        }
    }
    units
}

struct Divider<'a> {
    contents: &'a Contents,
    /// The owners by the path that the tree has: packages may ship below /bin what is below /usr/bin.
    owners: BTreeMap<PathBuf, &'a str>,
    /// The source of the kernel.
    kernel: Option<&'a str>,
}

impl<'a> Divider<'a> {
    fn new(files: &[TreeFile<'_>], contents: &'a Contents) -> Self {
        let top = |file: &&TreeFile<'_>| file.path.components().count() == 1;
        let links: BTreeMap<&Path, &str> =
            files.iter().filter(top).filter_map(|file| Some((file.path, file.target.as_deref()?))).collect();
        let mut owners = BTreeMap::new();
        for (path, name) in &contents.owners {
            let path = Path::new(path.trim_start_matches('/'));
            let mut parts = path.components();
            let link = parts.next().and_then(|first| links.get(Path::new(first.as_os_str())));
            let path = link.map_or_else(|| path.to_owned(), |target| Path::new(target).join(parts.as_path()));
            owners.insert(path, name.as_str());
        }
        let mut divider = Self { contents, owners, kernel: None };
        divider.kernel = divider.kernel_source(files);
        divider
    }

    fn kernel_source(&self, files: &[TreeFile<'_>]) -> Option<&'a str> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for file in files.iter().filter(|file| file.path.starts_with(MODULES)) {
            if let Some((_, package)) = self.owner(file.path) {
                *counts.entry(package.source.as_str()).or_default() += 1;
            }
        }
        counts.into_iter().max_by_key(|(source, count)| (*count, *source)).map(|(source, _)| source)
    }

    /// The package that a path belongs to.
    fn owner(&self, path: &Path) -> Option<(&'a str, &'a Component)> {
        let name = match self.owners.get(&shipped(path)) {
            Some(name) => name,
            None => match path.strip_prefix(DPKG_INFO) {
                Ok(note) => note.to_str()?.rsplit_once('.')?.0.split(':').next()?,
                Err(_) => self.owners.get(&compiled_from(path)?)?,
            },
        };
        self.contents.packages.get_key_value(name).map(|(name, package)| (name.as_str(), package))
    }

    fn unit(&self, file: &TreeFile<'_>, owner: Option<(&str, &Component)>) -> Option<Unit> {
        let path = file.path;
        let within = |list: &[&str]| {
            list.iter().any(|known| match known.strip_suffix('/') {
                Some(dir) => path.starts_with(dir),
                None => path == Path::new(known),
            })
        };
        if within(EVERY_COMMIT) && !(owner.is_some() && path.starts_with(DPKG_INFO)) {
            return None;
        }
        if within(DATABASES) {
            return Some(Unit::Database);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.starts_with(MODULES) && name == "initramfs.img" {
            return Some(Unit::Initramfs);
        }
        let shipped = shipped(path);
        let large = file.size >= LARGE && !path.starts_with("usr/etc");
        let of_directory = || Unit::Large(path.parent().unwrap_or(path).display().to_string());
        if [path, shipped.as_path()].into_iter().any(|path| self.contents.configured.contains(path)) {
            return Some(if large { of_directory() } else { Unit::Configuration });
        }
        Some(match owner {
            Some((_, package)) if Some(package.source.as_str()) == self.kernel => Unit::Kernel,
            Some((_, package)) => Unit::Source(package.source.clone()),
            None if path.starts_with(MODULES) => {
                if name.starts_with("modules.") {
                    Unit::ModuleIndex
                } else {
                    Unit::Kernel
                }
            }
            None if large => of_directory(),
            None => Unit::Configuration,
        })
    }
}

/// A path as packages and overlays have it: /usr/etc is their /etc.
fn shipped(path: &Path) -> PathBuf {
    path.strip_prefix("usr/etc").map_or_else(|_| path.to_owned(), |below| Path::new("etc").join(below))
}

/// The module that Python compiled into this file.
fn compiled_from(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(".pyc")?;
    let cache = path.parent().filter(|dir| dir.ends_with("__pycache__"))?;
    Some(cache.parent()?.join(format!("{}.py", name.split('.').next()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        let owners = [
            ("/bin/sh", "dash"),
            ("/etc/dash.conf", "dash"),
            ("/etc/dash.overlaid", "dash"),
            ("/lib/modules/6/kernel/a.ko", "linux-image"),
            ("/lib/modules/6/kernel/b.ko", "linux-image"),
            ("/lib/modules/6/updates/c.ko", "extra-driver"),
            ("/boot/vmlinuz-6", "linux-image"),
            ("/usr/share/doc/linux-image/copyright", "linux-image"),
            ("/usr/lib/python3/a.py", "python-a"),
            ("/usr/lib/os-release", "base-files"),
            ("/usr/bin/lost", "not-in-the-set"),
        ];
        let packages = [
            ("dash", "dash"),
            ("linux-image", "linux"),
            ("extra-driver", "extra"),
            ("python-a", "a"),
            ("libdash1.2", "dash"),
            ("base-files", "base-files"),
        ];
        Contents {
            owners: owners.map(|(path, name)| (path.to_owned(), name.to_owned())).into(),
            packages: packages
                .map(|(name, source)| {
                    (name.to_owned(), Component { source: source.to_owned(), version: "1".to_owned() })
                })
                .into(),
            configured: BTreeSet::from([PathBuf::from("etc/dash.overlaid"), "usr/bin/own".into()]),
        }
    }

    #[test]
    fn every_file_is_in_the_unit_that_it_changes_with() {
        let cases: &[(&str, u64, &str)] = &[
            ("usr/bin/sh", 9, "dash"),
            ("usr/etc/dash.conf", 9, "dash"),
            ("usr/etc/dash.overlaid", 9, "@configuration"),
            ("usr/bin/own", LARGE, "@large:/usr/bin"),
            ("usr/lib/modules/6/kernel/a.ko", 9, "@kernel"),
            ("usr/lib/modules/6/kernel/b.ko", 9, "@kernel"),
            ("usr/lib/modules/6/updates/c.ko", 9, "extra"),
            ("usr/lib/modules/6/vmlinuz", 9, "@kernel"),
            ("usr/lib/modules/6/modules.dep", LARGE, "@module-index"),
            ("usr/lib/modules/6/initramfs.img", LARGE, "@initramfs"),
            ("usr/share/doc/linux-image/copyright", 9, "@kernel"),
            ("usr/lib/udev/hwdb.bin", LARGE, "@large:/usr/lib/udev"),
            ("usr/lib/udev/small", LARGE - 1, "@configuration"),
            ("usr/etc/large", LARGE, "@configuration"),
            ("usr/lib/python3/__pycache__/a.cpython-313.pyc", LARGE, "a"),
            ("usr/lib/python3/__pycache__/b.cpython-313.pyc", 9, "@configuration"),
            ("usr/lib/sysimage/dpkg/info/libdash1.2:amd64.md5sums", 9, "dash"),
            ("usr/lib/sysimage/dpkg/info/dash.list", 9, "dash"),
            ("usr/lib/sysimage/dpkg/info/format", 9, ""),
            ("usr/lib/sysimage/dpkg/status", LARGE, ""),
            ("usr/lib/os-release", 9, ""),
            ("usr/etc/ld.so.cache", 9, ""),
            ("usr/share/rpm/rpmdb.sqlite", LARGE, "@package-database"),
            ("usr/bin/lost", 9, "@configuration"),
        ];
        let sum = Checksum::of(b"");
        let mut files: Vec<TreeFile<'_>> = cases
            .iter()
            .map(|(path, size, _)| TreeFile {
                path: Path::new(path),
                checksum: sum,
                size: *size,
                target: None,
            })
            .collect();
        for (path, target) in [("bin", "usr/bin"), ("lib", "usr/lib")] {
            let target = Some(target.to_owned());
            files.push(TreeFile { path: Path::new(path), checksum: sum, size: 0, target });
        }
        let units = divide(&files, &contents());
        for (path, _, expected) in cases {
            let mut found = units.iter().filter(|(_, files)| files.files.contains_key(Path::new(path)));
            let unit = found.next().map(|(unit, _)| unit.to_string()).unwrap_or_default();
            assert_eq!(unit, *expected, "{path}");
            assert!(found.next().is_none(), "{path} twice");
        }
        let record = units[&Unit::Source("dash".into())].record();
        assert_eq!(record.packages.keys().collect::<Vec<_>>(), ["dash", "libdash1.2"]);
        assert!(units[&Unit::Configuration].record().packages.is_empty());
    }

    #[test]
    fn a_unit_is_spelled_as_it_is_read() {
        let units = [
            Unit::Kernel,
            Unit::ModuleIndex,
            Unit::Initramfs,
            Unit::Database,
            Unit::Configuration,
            Unit::Large("usr/lib/udev".into()),
            Unit::Source("kernel".into()),
        ];
        for unit in units {
            assert_eq!(unit.to_string().parse::<Unit>().unwrap(), unit);
        }
        assert!("@unknown".parse::<Unit>().is_err() && "".parse::<Unit>().is_err());
    }
}
