//! Which files of a build context are sent: `.containerignore`, else `.dockerignore`, by Docker's rules. They are
//! not git's: a pattern begins at the context's root, `**` is any number of directories, what lies below a match
//! is matched, and of several patterns the last one counts; `!` brings back.

use std::path::Path;

use anyhow::Result;
use regex::Regex;

use crate::failure::{Failure, Kind};
use crate::host::fs;

const FILES: &[&str] = &[".containerignore", ".dockerignore"];

/// What is left out.
#[derive(Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<(Regex, bool)>,
}

impl Ignore {
    /// The rules of a context.
    pub(super) fn of(context: &Path) -> Result<Self> {
        for name in FILES {
            if let Some(text) = fs::read_optional(&context.join(name))? {
                return Self::parse(name, &text);
            }
        }
        Ok(Self::default())
    }

    fn parse(file: &str, text: &str) -> Result<Self> {
        let mut rules = Vec::new();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (pattern, out) = line.strip_prefix('!').map_or((line, true), |rest| (rest.trim(), false));
            let regex = Regex::new(&expression(pattern)).map_err(|_| {
                let cause = format!("{file}:{}: `{pattern}` is no pattern", index + 1);
                Failure::new(Kind::Usage, cause, "a [ needs its ]; \\[ is the character itself")
            })?;
            rules.push((regex, out));
        }
        Ok(Self { rules })
    }

    /// Whether the path below the context is left out.
    pub(super) fn leaves_out(&self, path: &str) -> bool {
        let last = self.rules.iter().rev().find(|(regex, _)| regex.is_match(path));
        last.is_some_and(|(_, out)| *out)
    }

    /// Whether something below a directory that is left out may be brought back.
    pub(super) fn brings_back(&self) -> bool {
        self.rules.iter().any(|(_, out)| !out)
    }
}

/// A pattern as a regular expression for a path or anything below it.
fn expression(pattern: &str) -> String {
    let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
    let pattern = parts.collect::<Vec<_>>().join("/");
    let mut out = String::from("(?s)^");
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '*' if rest.peek() == Some(&'*') => {
                rest.next();
                if rest.peek() == Some(&'/') {
                    rest.next();
                    out.push_str("(?:.*/)?");
                } else {
                    out.push_str(".*");
                }
            }
            '*' => out.push_str("[^/]*"),
            '?' => out.push_str("[^/]"),
            '[' | ']' | '-' => out.push(c),
            '^' if out.ends_with('[') => out.push(c),
            '\\' => out.push_str(&regex::escape(&rest.next().unwrap_or('\\').to_string())),
            other => out.push_str(&regex::escape(&other.to_string())),
        }
    }
    out.push_str("(?:/.*)?$");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_docker() {
        let text =
            "# comment\n/target\n*.log\n**/*.o\nsecret-?\n[ab]x\n./a b/\n!keep.log\ndocs/**\n!docs/README\n";
        let ignore = Ignore::parse(".dockerignore", text).unwrap();
        for path in
            ["target", "target/debug/x", "a.log", "src/x/y.o", "y.o", "secret-1", "ax", "a b/c", "docs/x"]
        {
            assert!(ignore.leaves_out(path), "{path}");
        }
        for path in
            ["src/target", "src/a.log", "keep.log", "secret-12", "cx", "docs/README", "x.out", "targets"]
        {
            assert!(!ignore.leaves_out(path), "{path}");
        }
        assert!(ignore.brings_back());
    }

    #[test]
    fn a_pattern_that_is_none_is_told() {
        let error = Ignore::parse(".dockerignore", "ok\n[a\n").unwrap_err().to_string();
        assert!(error.contains(".dockerignore:2: `[a` is no pattern"), "{error}");
    }
}
