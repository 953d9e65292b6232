//! A whole build of the default variant that tests share, and working directories beside it.
//!
//! `.ci/test` makes it once and names its directory in `NOSA_TEST_BUILD`. Without it the tests that need it
//! are skipped, visibly; in CI they fail.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nosa::host::{Cmd, CommandError, environment};
use serde_json::Value;

/// The time of every build in these tests.
pub(crate) const EPOCH: &str = "1790000000";

/// Says that a test cannot run here, and why; in CI that is a failure.
pub(crate) fn skip(reason: &str) {
    assert!(environment::var("CI").is_none(), "in CI nothing may be skipped: {reason}");
    std::io::stderr().write_all(format!("SKIPPED: {reason}\n").as_bytes()).unwrap();
}

/// The shared build's working directory.
pub(crate) fn shared() -> Option<PathBuf> {
    let dir =
        environment::var("NOSA_TEST_BUILD").map(PathBuf::from).filter(|dir| dir.join("builds").is_dir());
    if dir.is_none() {
        skip("NOSA_TEST_BUILD names no working directory with a build");
    }
    dir
}

/// Whether this test may create users, namespaces and mounts.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("not root: no mounts and no second user");
    }
    root
}

/// nosa's program.
pub(crate) fn nosa() -> &'static str {
    env!("CARGO_BIN_EXE_nosa")
}

/// A working directory of its own over the shared build's cache, with a copy of its configuration.
pub(crate) struct Work {
    /// The working directory.
    pub(crate) dir: PathBuf,
    _place: tempfile::TempDir,
}

impl Work {
    /// Makes one beside the shared build.
    pub(crate) fn new(shared: &Path) -> Self {
        let place =
            tempfile::Builder::new().prefix("nosa-test-").tempdir_in(shared.parent().unwrap()).unwrap();
        let dir = place.path().join("w");
        for sub in ["src", "builds", "tmp/why", "overrides"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        let config = shared.join("src/config").canonicalize().unwrap();
        Cmd::program("cp").arg("-a").arg(config).arg(dir.join("src/config")).run().unwrap();
        std::os::unix::fs::symlink(shared.join("cache"), dir.join("cache")).unwrap();
        Self { dir, _place: place }
    }

    /// As [`Self::new`], with what the shared workdir remembers of its last run.
    pub(crate) fn with_history(shared: &Path) -> Self {
        let work = Self::new(shared);
        let why = work.dir.join("tmp/why");
        Cmd::program("cp").arg("-aT").arg(shared.join("tmp/why")).arg(why).run().unwrap();
        work
    }

    /// A file of the configuration.
    pub(crate) fn config(&self, path: &str) -> PathBuf {
        self.dir.join("src/config").join(path)
    }

    /// Changes a file of the configuration.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(String) -> String) {
        let path = self.config(path);
        let old = fs::read_to_string(&path).unwrap_or_default();
        let new = edit(old.clone());
        assert_ne!(old, new, "{} was to be changed", path.display());
        fs::write(path, new).unwrap();
    }

    /// A call of nosa here.
    pub(crate) fn nosa(&self, args: &[&str]) -> Cmd {
        Cmd::program(nosa())
            .arg("-C")
            .arg(self.dir.as_os_str())
            .args(args)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("RUST_BACKTRACE", "0")
    }

    /// Runs nosa, which must succeed, and returns what it says.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let (code, said) = said(self.nosa(args));
        assert_eq!(code, 0, "nosa {args:?}:\n{said}");
        said
    }

    /// Runs nosa, which must fail with `code` and one message that holds `words`; no build may appear.
    pub(crate) fn fails(&self, args: &[&str], code: i32, words: &[&str]) {
        refused(self.nosa(args), code, words);
        assert_eq!(self.builds(), Vec::<String>::new(), "a failed build left something");
    }

    /// What lies in `builds/`, but for the list of builds.
    pub(crate) fn builds(&self) -> Vec<String> {
        let names = fs::read_dir(self.dir.join("builds")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> =
            names.filter(|name| name != "builds.json" && name != ".builds.json.lock").collect();
        names.sort();
        names
    }
}

/// Runs a call of nosa that must fail with `code` and one message that holds `words`.
pub(crate) fn refused(call: Cmd, code: i32, words: &[&str]) {
    let (found, said) = said(call);
    assert_eq!(found, code, "{said}");
    assert_eq!(said.matches("\nerror: ").count() + usize::from(said.starts_with("error: ")), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in:\n{said}");
    }
}

/// The exit code and everything that was printed.
pub(crate) fn said(call: Cmd) -> (i32, String) {
    let mut said = String::new();
    let result = call.run_lines(|line| said.push_str(&format!("{line}\n")));
    let code = match result {
        Ok(()) => 0,
        Err(error) => error.downcast::<CommandError>().unwrap().code.unwrap_or(-1),
    };
    (code, said)
}

/// The newest build's directory and meta.json.
pub(crate) fn latest(workdir: &Path) -> (PathBuf, Value) {
    let dir = workdir.join("builds/latest").canonicalize().unwrap().join(environment::basearch());
    let meta = serde_json::from_str(&fs::read_to_string(dir.join("meta.json")).unwrap()).unwrap();
    (dir, meta)
}

/// The path of an artifact of the newest build.
pub(crate) fn artifact(workdir: &Path, name: &str) -> PathBuf {
    let (dir, meta) = latest(workdir);
    dir.join(meta["images"][name]["path"].as_str().unwrap())
}
