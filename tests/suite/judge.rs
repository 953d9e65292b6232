//! Programs of others that judge what nosa wrote.

use std::path::{Path, PathBuf};

use nosa::host::{Cmd, environment};

use crate::fixture::{nosa, skip};

/// A judge, or `None` (and a line that says so) when this machine lacks it; in CI it may not be missing.
#[expect(clippy::print_stderr, reason = "a test that judges nothing says so")]
pub(crate) fn judge(program: &str) -> Option<Cmd> {
    let found = Cmd::program(program).arg("--version").output().is_ok();
    if !found {
        assert!(
            environment::var_os("CI").is_none_or(|ci| ci != "true"),
            "CI lacks {program}, which judges here"
        );
        eprintln!("SKIPPED: {program} is not installed, so nobody judged this");
    }
    found.then(|| Cmd::program(program))
}

/// ostree-ext's own program: the client of our machines under the name that ostree knows, which is put into `dir`.
pub(crate) fn ostree_ext(dir: &Path) -> Option<Cmd> {
    let named = environment::var_os("NOSA_CLIENT").map(PathBuf::from);
    let beside = Path::new(nosa()).with_file_name("../libexec/nosa/nestos-update");
    let Some(program) = [named, Some(beside)].into_iter().flatten().find(|file| file.is_file()) else {
        skip("nestos-update, which imports images as machines do, is not built (make client)");
        return None;
    };
    let link = dir.join("ostree-container");
    std::os::unix::fs::symlink(program.canonicalize().unwrap(), &link).unwrap();
    Some(Cmd::program(link))
}
