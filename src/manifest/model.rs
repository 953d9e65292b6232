//! The validated configuration, as the rest of nosa sees it. Semantics are rpm-ostree's treefile's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use regex::Regex;
use serde::Serialize;

use crate::document::Position;

/// A merged and validated treefile.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The directory that `manifest.yaml` lies in: repositories, overlays and image.yaml are beside it.
    pub dir: PathBuf,
    /// The operating system's name (`rojig.name` or `metadata.name`): artifact prefix and stateroot.
    pub name: String,
    /// One line about it.
    pub summary: String,
    /// The OSTree branch, variables substituted.
    pub reference: String,
    /// `${basearch}`.
    pub basearch: String,
    /// `${releasever}`, empty when the treefile has none.
    pub releasever: String,
    /// Variables, reserved ones included.
    pub variables: BTreeMap<String, String>,
    /// Ids of the repositories that packages come from.
    pub repos: Vec<String>,
    /// Ids of the repositories that give locked packages only.
    pub lockfile_repos: Vec<String>,
    /// Packages to take from one repository, which gives nothing else unless it is in `repos` too.
    pub repo_packages: Vec<RepoPackages>,
    /// Variables of the repository definitions (`repovars`), besides `basearch` and `releasever`.
    pub repovars: BTreeMap<String, String>,
    /// Packages to install, sorted.
    pub packages: Vec<String>,
    /// Packages that must not be installed.
    pub exclude_packages: Vec<String>,
    /// Files of packages to leave out.
    pub remove_from_packages: Vec<RemoveFromPackages>,
    /// Whether weak dependencies are installed.
    pub recommends: bool,
    /// Overlay directories, in order: `overlay/05core` is `overlay.d/05core`.
    pub ostree_layers: Vec<String>,
    /// Inline scripts, in order (included files' first).
    pub postprocess: Vec<Script>,
    /// Paths removed from the tree, relative to its root.
    pub remove_files: Vec<String>,
    /// Whether /tmp is a directory (else a link to sysroot/tmp).
    pub tmp_is_dir: bool,
    /// Whether an empty /etc/machine-id is left (else none).
    pub machineid_compat: bool,
    /// The default systemd target.
    pub default_target: Option<String>,
    /// The base version that os-release's VERSION and PRETTY_NAME get the build's version for.
    pub mutate_os_release: Option<String>,
    /// `automatic-version-prefix` with variables substituted, `<date:…>` tags not yet.
    pub version_prefix: String,
    /// `automatic-version-suffix`.
    pub version_suffix: Option<char>,
    /// Extra commit metadata.
    pub commit_metadata: BTreeMap<String, serde_json::Value>,
    /// Groups that stay in /etc/group.
    pub etc_group_members: Vec<String>,
    /// The users there must be, with their ids (`check-passwd`).
    pub check_passwd: Option<AccountCheck<User>>,
    /// The groups there must be, with their ids (`check-groups`).
    pub check_groups: Option<AccountCheck<Group>>,
    /// Users that may vanish between builds; `*` for all.
    pub ignore_removed_users: Vec<String>,
    /// Groups that may vanish between builds; `*` for all.
    pub ignore_removed_groups: Vec<String>,
    /// Whether packages' documentation is installed.
    pub documentation: bool,
    /// The languages to install; all when absent.
    pub install_langs: Option<Vec<String>>,
    /// Whether executables lose their write permission.
    pub readonly_executables: bool,
    /// Units that multi-user.target wants.
    pub units: Vec<String>,
    /// Files to copy into the tree: the file on this machine, and its path in the tree without leading `/`.
    pub add_files: Vec<(PathBuf, String)>,
    /// Where `add-files` puts the client that updates machines, `${nestos_update}`: the place that asks for
    /// it, and its path in the tree without leading `/`.
    pub add_client: Option<(Position, String)>,
    /// The OCI image's default command.
    pub container_cmd: Vec<String>,
    /// Extra arguments for dracut.
    pub initramfs_args: Vec<String>,
    /// The kind of the repository definitions, and so of the packages; none without any definition.
    pub repo_kind: Option<RepoKind>,
    /// The repository definitions, in the order in which their directories are searched.
    pub repo_files: Vec<RepoFile>,
    /// image.yaml.
    pub image: ImageConfig,
    /// platforms.yaml, for `basearch`.
    pub platforms: Platforms,
}

/// What the tree's accounts are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum AccountCheck<A> {
    /// Nothing.
    None,
    /// The previous build's accounts.
    Previous,
    /// Files as /etc/passwd or /etc/group, which also give the accounts before packages' scripts run.
    File {
        /// The files.
        paths: Vec<PathBuf>,
        /// Their lines, in order, each name once.
        entries: Vec<A>,
    },
    /// A table in the treefile.
    Data {
        /// Its entries.
        entries: Vec<A>,
    },
}

impl<A> AccountCheck<A> {
    /// The accounts that are named.
    #[must_use]
    pub fn entries(&self) -> &[A] {
        match self {
            Self::None | Self::Previous => &[],
            Self::File { entries, .. } | Self::Data { entries } => entries,
        }
    }
}

/// A line of check-passwd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The primary group's number.
    pub gid: u32,
    /// The comment field, usually empty.
    pub comment: String,
    /// The home directory; none in a table of ids.
    pub home: Option<String>,
    /// The shell, if the line has one.
    pub shell: Option<String>,
    /// Where it stands: `passwd:3`.
    pub origin: String,
}

/// A line of check-groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The number.
    pub gid: u32,
    /// The members.
    pub members: Vec<String>,
    /// Where it stands: `group:3`.
    pub origin: String,
}

/// The kind of packages that repositories hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RepoKind {
    /// Debian packages, defined in deb822 `*.sources` files.
    Deb,
    /// RPM packages, defined in `*.repo` files.
    Rpm,
}

/// A file that defines repositories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepoFile {
    /// The file.
    pub path: PathBuf,
    /// The ids in it: a `*.repo` file's sections, a `*.sources` file's own name.
    pub ids: Vec<String>,
}

/// Packages that come from one repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepoPackages {
    /// The repository's id.
    pub repo: String,
    /// The packages.
    pub packages: Vec<String>,
}

/// Files of one package to leave out.
#[derive(Debug, Clone)]
pub struct RemoveFromPackages {
    /// The package's name (or, as rpm-ostree allows, a regular expression for names).
    pub package: Regex,
    /// A file goes when any of these matches its absolute path.
    pub patterns: Vec<Regex>,
}

/// A script and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Script {
    /// File and line: `manifests/base.yaml:12`.
    pub origin: String,
    /// Its text, with or without a `#!` line.
    pub text: String,
}

/// The file system of the root partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RootFilesystem {
    /// ext4.
    Ext4,
    /// XFS.
    #[default]
    Xfs,
}

/// image.yaml, flattened, defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct ImageConfig {
    /// Virtual size of cloud images in GiB (`size`).
    pub size: u64,
    /// Kernel arguments of every image.
    pub extra_kargs: Vec<String>,
    /// The root file system.
    pub rootfs: RootFilesystem,
    /// Extra mkfs arguments for the root file system.
    pub rootfs_args: String,
    /// The remote in the deployment's origin, `NONE` for none.
    pub ostree_remote: String,
    /// Default compressor of `nosa compress`.
    pub compressor: String,
    /// squashfs compression of live images.
    pub squashfs_compression: String,
}

/// One platform of platforms.yaml.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Platform {
    /// GRUB commands for the console block.
    pub grub_commands: Vec<String>,
    /// Kernel arguments.
    pub kernel_arguments: Vec<String>,
}

/// Platforms by name.
pub type Platforms = BTreeMap<String, Platform>;
