//! The only reader of environment variables and of facts about the running process.

use std::ffi::OsString;
use std::path::PathBuf;

/// The value of an environment variable, if it is set and not empty.
#[must_use]
pub fn var(name: &str) -> Option<String> {
    var_os(name).and_then(|value| value.into_string().ok())
}

/// As [`var`], for values that need not be UTF-8.
#[must_use]
pub fn var_os(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "this is the reader")]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// All variables whose names begin with `prefix` and that are not empty.
pub fn vars_with_prefix(prefix: &str) -> impl Iterator<Item = (OsString, OsString)> {
    let begins = move |name: &OsString| name.as_encoded_bytes().starts_with(prefix.as_bytes());
    std::env::vars_os().filter(move |(name, value)| begins(name) && !value.is_empty())
}

/// The user's cache directory (XDG Base Directory Specification), `None` without a home.
#[must_use]
pub fn user_cache_dir() -> Option<PathBuf> {
    match var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()) {
        Some(path) => Some(path),
        None => var_os("HOME").map(|home| PathBuf::from(home).join(".cache")),
    }
}

/// The client that updates machines: the file that `NOSA_CLIENT` names, else the one that was installed with
/// this program, beside it or in ../libexec/nosa.
#[must_use]
pub fn client() -> Option<PathBuf> {
    if let Some(file) = var_os("NOSA_CLIENT").map(PathBuf::from) {
        return Some(file);
    }
    let program = std::env::current_exe().ok()?;
    let bin = program.parent()?;
    let places = [bin.join("nestos-update"), bin.join("../libexec/nosa/nestos-update")];
    places.into_iter().find(|file| file.is_file())
}

/// Where large files may lie for a while: `TMPDIR`, else `/var/tmp`, since `/tmp` is often memory.
#[must_use]
pub fn temp_dir() -> PathBuf {
    var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}

/// `SOURCE_DATE_EPOCH` (reproducible-builds.org), if it holds a number of seconds.
#[must_use]
pub fn source_date_epoch() -> Option<u64> {
    var("SOURCE_DATE_EPOCH").and_then(|value| value.parse().ok())
}

/// How many seconds a package's or the configuration's script may take: `NOSA_SCRIPT_LIMIT`,
/// else 15 minutes.
#[must_use]
pub fn script_limit() -> u64 {
    var("NOSA_SCRIPT_LIMIT").and_then(|value| value.parse().ok()).filter(|limit| *limit > 0).unwrap_or(900)
}

/// The base architecture in rpm's and OSTree's spelling: `x86_64`, `aarch64`, …
#[must_use]
pub const fn basearch() -> &'static str {
    std::env::consts::ARCH
}

/// The number of processors to use.
#[must_use]
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
