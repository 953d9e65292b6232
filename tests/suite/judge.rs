//! Programs of others that judge what nosa wrote.

use nosa::host::{Cmd, environment};

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
