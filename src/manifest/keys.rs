//! What a treefile may say: every key of rpm-ostree's dialect with its shape, how it merges, and how far
//! nosa follows it. The one table that parsing, merging and the warnings are driven by.

/// What a value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// `true` or `false`.
    Bool,
    /// A text.
    Text,
    /// A text or a whole number.
    TextOrNumber,
    /// One of these texts.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of texts that hold names separated by white space, quoted where white space belongs to one.
    Packages,
    /// A map from names to true, false, whole numbers or texts.
    Variables,
    /// A map.
    Values,
    /// A list of `{repo, packages}`.
    RepoPackages,
    /// A list of `[package, regex, …]`.
    Removals,
    /// `{name, summary, license}`.
    Rojig,
    /// A list of `[source, destination]`.
    AddFiles,
    /// A map of `{type, …}`, see `accounts`.
    Accounts,
    /// A path or a list of paths.
    Include,
    /// A map from architectures to [`Shape::Include`].
    ArchInclude,
    /// A list of `{if, include}`.
    ConditionalInclude,
    /// Whatever stands there: the key is not used.
    Any,
}

/// How the values of an including and an included file become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// The including file's value stands.
    Outer,
    /// The included file's items come first.
    Vector,
    /// The union.
    Set,
    /// The union of the keys; the including file's value of a key stands.
    Map,
    /// As [`Rule::Vector`], and a later mention of a package takes it from earlier ones.
    RepoPackages,
    /// Used up while files are read.
    Consumed,
}

/// How far nosa follows a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// As rpm-ostree does.
    Full,
    /// Accepted without effect; says what that means.
    Ignored(&'static str),
    /// Accepted when it asks for this; otherwise a failure with this cure.
    Only(&'static str, &'static str),
    /// A failure with this cure, for ignoring it would build something else.
    Refused(&'static str),
}

/// One key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Its old spelling.
    pub(super) legacy: Option<&'static str>,
    /// What its value looks like.
    pub(super) shape: Shape,
    /// How it merges.
    pub(super) rule: Rule,
    /// How far it is followed.
    pub(super) support: Support,
}

const fn key(name: &'static str, shape: Shape, rule: Rule) -> Key {
    Key { name, legacy: None, shape, rule, support: Support::Full }
}

const fn legacy(name: &'static str, legacy: &'static str, shape: Shape) -> Key {
    Key { name, legacy: Some(legacy), shape, rule: Rule::Outer, support: Support::Full }
}

const fn ignored(name: &'static str, what: &'static str) -> Key {
    Key { name, legacy: None, shape: Shape::Any, rule: Rule::Outer, support: Support::Ignored(what) }
}

const fn only(name: &'static str, value: &'static str, cure: &'static str) -> Key {
    Key { name, legacy: None, shape: Shape::Any, rule: Rule::Outer, support: Support::Only(value, cure) }
}

const fn refused(name: &'static str, cure: &'static str) -> Key {
    Key { name, legacy: None, shape: Shape::Any, rule: Rule::Outer, support: Support::Refused(cure) }
}

const CLIENT: &str = "remove it: it describes a client's local changes, not a build";

/// Every key.
pub(super) const KEYS: &[Key] = &[
    // Files.
    key("include", Shape::Include, Rule::Consumed),
    key("arch-include", Shape::ArchInclude, Rule::Consumed),
    key("conditional-include", Shape::ConditionalInclude, Rule::Consumed),
    key("variables", Shape::Variables, Rule::Consumed),
    key("basearch", Shape::Text, Rule::Outer),
    key("releasever", Shape::TextOrNumber, Rule::Outer),
    key("edition", Shape::Choice(&["2014", "2024"]), Rule::Outer),
    // Identity.
    key("ref", Shape::Text, Rule::Outer),
    key("rojig", Shape::Rojig, Rule::Outer),
    key("metadata", Shape::Values, Rule::Map),
    key("add-commit-metadata", Shape::Values, Rule::Map),
    legacy("automatic-version-prefix", "automatic_version_prefix", Shape::Text),
    key("automatic-version-suffix", Shape::Text, Rule::Outer),
    key("mutate-os-release", Shape::Text, Rule::Outer),
    // Packages.
    key("repos", Shape::Texts, Rule::Vector),
    key("lockfile-repos", Shape::Texts, Rule::Vector),
    key("packages", Shape::Packages, Rule::Set),
    key("bootstrap-packages", Shape::Packages, Rule::Consumed),
    key("repo-packages", Shape::RepoPackages, Rule::RepoPackages),
    key("exclude-packages", Shape::Texts, Rule::Vector),
    key("remove-from-packages", Shape::Removals, Rule::Vector),
    key("recommends", Shape::Bool, Rule::Outer),
    key("repovars", Shape::Variables, Rule::Map),
    // The tree.
    key("ostree-layers", Shape::Texts, Rule::Vector),
    key("postprocess", Shape::Texts, Rule::Vector),
    key("postprocess-script", Shape::Text, Rule::Outer),
    key("remove-files", Shape::Texts, Rule::Vector),
    legacy("boot-location", "boot_location", Shape::Choice(&["modules", "new", "kernel-install"])),
    key("tmp-is-dir", Shape::Bool, Rule::Outer),
    key("machineid-compat", Shape::Bool, Rule::Outer),
    legacy("default-target", "default_target", Shape::Text),
    key("etc-group-members", Shape::Texts, Rule::Vector),
    key("initramfs-args", Shape::Texts, Rule::Vector),
    key("container-cmd", Shape::Texts, Rule::Outer),
    key("check-passwd", Shape::Accounts, Rule::Outer),
    key("check-groups", Shape::Accounts, Rule::Outer),
    key("ignore-removed-users", Shape::Texts, Rule::Set),
    key("ignore-removed-groups", Shape::Texts, Rule::Set),
    key("documentation", Shape::Bool, Rule::Outer),
    key("install-langs", Shape::Texts, Rule::Vector),
    key("readonly-executables", Shape::Bool, Rule::Outer),
    key("units", Shape::Texts, Rule::Vector),
    key("add-files", Shape::AddFiles, Rule::Vector),
    key("rpmdb", Shape::Text, Rule::Outer),
    // Accepted without effect.
    ignored("preserve-passwd", "numeric ids are not taken from an earlier build"),
    ignored("sysusers", "accounts stay in /etc"),
    ignored("rpmdb-normalize", "package databases are always normalised"),
    ignored("repo-metadata", "no repository metadata goes into the commit"),
    ignored("advisories-metadata", "no advisories go into the commit"),
    ignored("selinux", "files get no SELinux labels"),
    ignored("selinux-label-version", "files get no SELinux labels"),
    ignored("ignore-devices", "device nodes are always left out"),
    ignored("cliwrap", "no programs are wrapped"),
    ignored("cliwrap-binaries", "no programs are wrapped"),
    Key {
        name: "gpg-key",
        legacy: Some("gpg_key"),
        shape: Shape::Any,
        rule: Rule::Outer,
        support: Support::Ignored("commits are not signed while they are built"),
    },
    // Accepted with one value.
    only("opt-usrlocal", "var", "remove it: /opt and /usr/local are links into /var"),
    only("container", "false", "remove it: nosa builds bootable systems"),
    only("no-initramfs", "false", "remove it: nosa always makes an initramfs"),
    only("ima", "false", "remove it: nosa writes no IMA signatures"),
    // Ignoring these would build something else.
    refused("ostree-override-layers", "name the directory in `ostree-layers`"),
    refused("platform-module", "remove it: modular repositories are not supported"),
    refused("base-refspec", CLIENT),
    refused("container-image-reference", CLIENT),
    refused("packages-local", CLIENT),
    refused("packages-local-fileoverride", CLIENT),
    refused("override-remove", CLIENT),
    refused("override-replace-local", CLIENT),
    refused("override-commit", CLIENT),
    refused("ex-override-replace", CLIENT),
    refused("initramfs", CLIENT),
    refused("custom", CLIENT),
    refused("unconfigured-state", CLIENT),
];

/// Architectures that `packages-ARCH` and `arch-include` may name.
pub(super) const ARCHITECTURES: &[&str] = &[
    "x86_64",
    "aarch64",
    "ppc64le",
    "s390x",
    "riscv64",
    "loongarch64",
    "i686",
    "i386",
    "armhfp",
    "armv7hl",
    "ppc64",
    "sw_64",
];

/// The key of this name, or of this old spelling.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name || key.legacy == Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_stands_twice() {
        let mut names: Vec<&str> =
            KEYS.iter().flat_map(|key| [Some(key.name), key.legacy]).flatten().collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
