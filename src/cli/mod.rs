//! The command line: one file a command. It does not know how any artifact is made.

use std::process::ExitCode;

/// Parses the command line, runs the command and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    ExitCode::SUCCESS
}
