//! What went wrong in a way that a user can act on: a kind (it decides the exit code), the cause, and
//! the cure. Everything else is an `anyhow` chain and counts as internal.

use std::fmt;
use std::io::ErrorKind;

/// The kinds of failure that callers and scripts tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something nosa did not foresee.
    Internal,
    /// The command line makes no sense.
    Usage,
    /// The configuration (treefile, image.yaml, overlays) is wrong.
    Config,
    /// The packages asked for cannot be had together.
    Resolve,
    /// A package repository or a container registry cannot be reached or trusted, or refuses.
    Repository,
    /// A lock and reality disagree.
    Lock,
    /// A step of the build failed on valid input.
    Build,
    /// The machine ran out of something: disk, memory, file handles.
    Resource,
    /// A program that nosa needs is missing or too old.
    Tool,
    /// Another nosa works in the same workdir.
    Busy,
    /// Boot tests ran and some failed.
    TestsFailed,
    /// A build or artifact that was named does not exist or is damaged.
    Artifact,
    /// An update would cost more than it may.
    OverBudget,
    /// The user interrupted.
    Interrupted,
}

impl Kind {
    /// All kinds, in the order of their exit codes.
    pub const ALL: &[Self] = &[
        Self::Internal,
        Self::Usage,
        Self::Config,
        Self::Resolve,
        Self::Repository,
        Self::Lock,
        Self::Build,
        Self::Resource,
        Self::Tool,
        Self::Busy,
        Self::TestsFailed,
        Self::Artifact,
        Self::OverBudget,
        Self::Interrupted,
    ];

    /// The process exit code: a public contract, printed by `nosa --help` and in README.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Config => 3,
            Self::Resolve => 4,
            Self::Repository => 5,
            Self::Lock => 6,
            Self::Build => 7,
            Self::Resource => 8,
            Self::Tool => 9,
            Self::Busy => 10,
            Self::TestsFailed => 11,
            Self::Artifact => 12,
            Self::OverBudget => 13,
            Self::Interrupted => 130,
        }
    }

    /// One line for the table of exit codes.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Internal => "unforeseen error (please report it)",
            Self::Usage => "wrong command line",
            Self::Config => "configuration is wrong: file, line and value are named",
            Self::Resolve => "packages are unknown or conflict",
            Self::Repository => "package repository or registry unreachable, refusing or not trusted",
            Self::Lock => "lockfile and repository disagree",
            Self::Build => "a build step failed",
            Self::Resource => "disk, memory or file handles ran out",
            Self::Tool => "a needed program is missing or too old",
            Self::Busy => "another nosa works in this workdir",
            Self::TestsFailed => "boot tests failed",
            Self::Artifact => "build or artifact missing or damaged",
            Self::OverBudget => "an update would be larger than --max-update-size",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A failure with its kind, its cause in one line, and what the user can do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// File, line, value and cause, in one sentence without a full stop.
    pub cause: String,
    /// What to do, as an imperative; empty when there is nothing to add.
    pub cure: String,
}

impl Failure {
    /// A failure of `kind` with its cause and cure.
    pub fn new(kind: Kind, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { kind, cause: cause.into(), cure: cure.into() }
    }
}

impl From<crate::host::ToolError> for Failure {
    fn from(error: crate::host::ToolError) -> Self {
        Self::new(Kind::Tool, error.to_string(), error.cure())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Failure {}

/// Returns the failure in `error`'s chain, or an internal one that carries the whole chain as cause.
///
/// A full disk or exhausted file table anywhere in the chain counts as [`Kind::Resource`], whatever the
/// step that met it made of it.
#[must_use]
pub fn classify(error: &anyhow::Error) -> Failure {
    for cause in error.chain() {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        let errno = cause.downcast_ref::<rustix::io::Errno>().map(|errno| errno.raw_os_error());
        let full =
            cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::StorageFull);
        if full || io.or(errno).is_some_and(is_exhaustion) {
            return Failure::new(
                Kind::Resource,
                format!("{error:#}"),
                "free some space (`nosa clean --all` in workdirs you no longer need), or give a larger disk or TMPDIR, and run it again",
            );
        }
    }
    // One that was given as context is in the chain under another type.
    let found = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    match found.or_else(|| error.downcast_ref::<Failure>()) {
        Some(failure) => failure.clone(),
        None => Failure::new(Kind::Internal, format!("{error:#}"), ""),
    }
}

fn is_exhaustion(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::NOSPC, Errno::DQUOT, Errno::NOMEM, Errno::MFILE, Errno::NFILE]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn exit_codes_are_distinct() {
        let mut codes: Vec<u8> = Kind::ALL.iter().map(|kind| kind.exit_code()).collect();
        codes.dedup();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[test]
    fn a_full_disk_is_a_resource_failure_whoever_met_it() {
        let error = anyhow::Error::from(std::io::Error::from(std::io::ErrorKind::StorageFull))
            .context(Failure::new(Kind::Build, "writing disk.raw", ""));
        assert_eq!(classify(&error).kind, Kind::Resource);
    }

    #[test]
    fn running_out_of_file_handles_is_one_too_from_any_library() {
        for error in [
            anyhow::Error::from(std::io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error())),
            anyhow::Error::from(rustix::io::Errno::NOSPC),
        ] {
            assert_eq!(classify(&error.context("creating the file")).kind, Kind::Resource);
        }
    }

    #[test]
    fn a_failure_given_as_context_keeps_its_kind() {
        let failure = Failure::new(Kind::Artifact, "no layout", "name one");
        let error = Err::<(), _>(anyhow::anyhow!("cut short")).context(failure.clone()).context("opening x");
        assert_eq!(classify(&error.unwrap_err()), failure);
        let error = None::<()>.context(failure.clone()).unwrap_err();
        assert_eq!(classify(&error), failure);
    }

    #[test]
    fn an_unforeseen_error_keeps_its_chain() {
        let error = Err::<(), _>(anyhow::anyhow!("no such thing")).context("reading x").unwrap_err();
        let failure = classify(&error);
        assert_eq!((failure.kind, failure.cause.as_str()), (Kind::Internal, "reading x: no such thing"));
    }
}
