//! How a program ended: its exit, its last lines, and where its whole output lies.

use std::collections::VecDeque;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

/// How many of a failed program's last lines its error shows.
pub(super) const TAIL_LINES: usize = 20;

/// How the status of a program begins that nosa ended because a step of it took too long.
pub(super) const OVERTIME: &str = "a step that did not end within ";

/// A program that ended badly: what was called, how it ended, its last lines, and the whole log.
#[derive(Debug, Clone, thiserror::Error)]
pub struct CommandError {
    /// The call, ready to paste.
    pub command: String,
    /// The program's exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// How it ended, in words.
    pub status: String,
    /// The last lines of its output.
    pub tail: Vec<String>,
    /// Where the whole output lies.
    pub log: Option<PathBuf>,
}

impl CommandError {
    /// The time that was too short, if a step of the program took too long.
    #[must_use]
    pub fn overtime(&self) -> Option<&str> {
        self.status.strip_prefix(OVERTIME)
    }

    /// Why it failed, in one line: its last words, without what a logger writes around them.
    #[must_use]
    pub fn reason(&self) -> String {
        let last = self.tail.last().unwrap_or(&self.status);
        match last.split_once("msg=") {
            Some((_, said)) => said.trim_matches('"').replace("\\\"", "\""),
            None => last.clone(),
        }
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.command.split(' ').next().unwrap_or_default();
        write!(f, "{program} ended with {}", self.status)?;
        for line in &self.tail {
            write!(f, "\n    {line}")?;
        }
        if let Some(log) = &self.log {
            write!(f, "\n  (whole log: {})", log.display())?;
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Tail {
    pub(super) lines: VecDeque<String>,
}

impl Tail {
    pub(super) fn push(&mut self, line: &str) {
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == TAIL_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
    }
}

/// An exit status in words.
pub(super) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}
