//! The instructions of a Containerfile: which one a builder is at, what the last lines of a failing one were, and
//! what each added to the image.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use oci_spec::image::{History, ImageConfiguration};
use serde::Serialize;

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::{Progress, Reporter, Unit};

/// How many of a failing instruction's lines are shown.
const SHOWN: usize = 15;
/// The longest instruction that is shown whole.
const WIDTH: usize = 100;

/// What an instruction added to an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The instruction.
    pub instruction: String,
    /// What a machine downloads for it.
    pub compressed: u64,
    /// Its files and their metadata, as a tar stream.
    pub uncompressed: u64,
}

/// Follows a build.
pub(super) struct Steps<'a> {
    report: &'a Reporter,
    progress: Option<Progress>,
    log: File,
    log_path: PathBuf,
    line: String,
    instruction: String,
    tail: VecDeque<String>,
}

impl<'a> Steps<'a> {
    /// Begins; everything that is said goes to `log`.
    pub(super) fn new(report: &'a Reporter, log: &Path) -> Result<Self> {
        Ok(Self {
            report,
            progress: None,
            log: fs::create(log)?,
            log_path: log.to_owned(),
            line: String::new(),
            instruction: String::new(),
            tail: VecDeque::new(),
        })
    }

    /// Takes what the builder said, which need not be whole lines.
    pub(super) fn said(&mut self, text: &str) -> Result<()> {
        self.log
            .write_all(text.as_bytes())
            .with_context(|| format!("writing {}", self.log_path.display()))?;
        for c in text.chars() {
            match c {
                '\n' => self.end_line(),
                // Programs that draw a bar begin the line anew.
                '\r' => self.line.clear(),
                c => self.line.push(c),
            }
        }
        Ok(())
    }

    /// What to say of a build that failed.
    pub(super) fn failed(&mut self, error: &str) -> anyhow::Error {
        self.end_line();
        // podman repeats the instruction: building at STEP "RUN …": exit status 1.
        let error = error.trim();
        let error = error
            .strip_prefix("building at STEP ")
            .and_then(|rest| rest.rsplit_once("\": "))
            .map_or(error, |(_, why)| why);
        let mut cause = match self.instruction.as_str() {
            "" => format!("the builder refused the Containerfile: {error}"),
            instruction => format!("{instruction} failed: {error}"),
        };
        for line in &self.tail {
            cause.push_str("\n    ");
            cause.push_str(line);
        }
        let cure = format!("its whole output is in {}", self.log_path.display());
        Failure::new(Kind::Build, cause, cure).into()
    }

    fn end_line(&mut self) {
        let line = plain(&std::mem::take(&mut self.line));
        if let Some((at, of, instruction)) = step(&line) {
            self.instruction = format!("step {at}/{of}, {}", short(instruction));
            self.tail.clear();
            self.report.note(format!("  step {at}/{of}: {}", short(instruction)));
            let progress = self
                .progress
                .get_or_insert_with(|| self.report.progress("building the Containerfile", of, Unit::Items));
            progress.set(at - 1, of);
        } else if !line.trim().is_empty() {
            self.report.detail(&line);
            if self.tail.len() == SHOWN {
                self.tail.pop_front();
            }
            self.tail.push_back(line);
        }
    }
}

/// A line without what it would have a terminal do: docker colours what a program says on standard error.
fn plain(line: &str) -> String {
    let mut chars = line.chars();
    let mut text = String::with_capacity(line.len());
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                Some('[') => drop(chars.find(|c| ('@'..='~').contains(c))),
                Some(']') => drop(chars.find(|c| matches!(c, '\u{7}' | '\u{1b}'))),
                _ => {}
            },
            c if c.is_control() && c != '\t' => {}
            c => text.push(c),
        }
    }
    text
}

/// `STEP 2/5: RUN …` is podman's, `Step 2/5 : RUN …` docker's.
fn step(line: &str) -> Option<(u64, u64, &str)> {
    let rest = line.strip_prefix("STEP ").or_else(|| line.strip_prefix("Step "))?;
    let (numbers, instruction) = rest.split_once(':')?;
    let (at, of) = numbers.trim().split_once('/')?;
    let at: u64 = at.parse().ok()?;
    (at > 0).then_some((at, of.parse().ok()?, instruction.trim()))
}

/// What each instruction after the base's history added; `sizes` are those of the layers after the base's,
/// compressed and not.
pub(super) fn sizes(
    base: &ImageConfiguration,
    derived: &ImageConfiguration,
    sizes: &[(u64, u64)],
) -> Vec<Step> {
    let count = |config: &ImageConfiguration| config.history().as_ref().map_or(0, Vec::len);
    let history = derived.history().as_deref().unwrap_or_default();
    let mut sizes = sizes.iter();
    let mut steps: Vec<Step> = Vec::new();
    for entry in history.iter().skip(count(base)) {
        let empty = entry.empty_layer().unwrap_or_default();
        let (compressed, uncompressed) =
            if empty { (0, 0) } else { sizes.next().copied().unwrap_or_default() };
        steps.push(Step { instruction: instruction(entry), compressed, uncompressed });
    }
    // A builder that squashes tells of fewer layers than it made, or of more.
    let (compressed, uncompressed) = sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1));
    if uncompressed > 0 {
        steps.push(Step { instruction: "(not told which)".to_owned(), compressed, uncompressed });
    }
    steps
}

/// The instruction as it was written, as far as history has it.
fn instruction(entry: &History) -> String {
    let text = entry.created_by().as_deref().unwrap_or_default();
    let text = text.split_once(" # buildkit").map_or(text, |(text, _)| text);
    // With arguments: `|1 NAME=VALUE /bin/sh -c …`.
    let text =
        if text.starts_with('|') { text.find("/bin/sh -c ").map_or(text, |at| &text[at..]) } else { text };
    let text = match text.strip_prefix("/bin/sh -c ") {
        Some(nop) if nop.starts_with("#(nop)") => nop.trim_start_matches("#(nop)").trim().to_owned(),
        Some(command) => format!("RUN {command}"),
        None => text.to_owned(),
    };
    // What COPY and ADD copied is told by digest.
    let words = text.split_whitespace();
    let digest = |word: &&str| ["file:", "dir:", "multi:"].iter().any(|kind| word.starts_with(kind));
    short(&words.map(|word| if digest(&word) { "…" } else { word }).collect::<Vec<_>>().join(" "))
}

/// In one line that is not too long.
fn short(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= WIDTH { text } else { text.chars().take(WIDTH - 1).chain(['…']).collect() }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{HistoryBuilder, ImageConfigurationBuilder, RootFsBuilder};

    use super::*;

    #[test]
    fn steps_are_read_from_what_builders_say() {
        assert_eq!(step("STEP 2/5: RUN a: b"), Some((2, 5, "RUN a: b")));
        assert_eq!(step("Step 2/5 : COPY x y"), Some((2, 5, "COPY x y")));
        for line in ["STEP x/5: RUN", "--> 123", "STEP 0/1: a", "Steps 1/2: a"] {
            assert_eq!(step(line), None, "{line}");
        }
    }

    #[test]
    fn nothing_that_is_said_commands_the_terminal() {
        assert_eq!(plain("\u{1b}[91mtwo\ta \u{1b}[1;31mé\u{1b}[0m"), "two\ta é");
        assert_eq!(plain("a\u{1b}]0;title\u{7}b\u{8}c\u{1b}"), "abc");
    }

    #[test]
    fn a_failing_step_shows_its_last_lines_only() {
        let dir = tempfile::tempdir().unwrap();
        let report = Reporter::silent();
        let mut steps = Steps::new(&report, &dir.path().join("log")).unwrap();
        steps.said("STEP 1/2: FROM x\nearlier\nSTEP 2/2: RUN false\n10%\r20%\r").unwrap();
        steps.said("done\nE: Unable to loc").unwrap();
        steps.said("ate\n").unwrap();
        let error = steps.failed("building at STEP \"RUN false\": exit status 100\n").to_string();
        assert_eq!(error, "step 2/2, RUN false failed: exit status 100\n    done\n    E: Unable to locate");
        assert!(std::fs::read_to_string(dir.path().join("log")).unwrap().contains("earlier"));
    }

    #[test]
    fn sizes_belong_to_the_instructions_that_made_layers() {
        let config = |history: &[(&str, bool)]| {
            let entry = |(text, empty): &(&str, bool)| {
                HistoryBuilder::default().created_by(*text).empty_layer(*empty).build().unwrap()
            };
            ImageConfigurationBuilder::default()
                .architecture("amd64")
                .os("linux")
                .rootfs(RootFsBuilder::default().diff_ids(Vec::<String>::new()).build().unwrap())
                .history(history.iter().map(entry).collect::<Vec<_>>())
                .build()
                .unwrap()
        };
        let base = config(&[("base", false)]);
        let derived = config(&[
            ("base", false),
            ("|1 A=b /bin/sh -c apt-get  install x", false),
            ("|1 A=b /bin/sh -c #(nop) ENV A=b", true),
            ("/bin/sh -c #(nop) COPY file:1 in /x ", false),
        ]);
        let found = sizes(&base, &derived, &[(1, 10), (2, 20), (3, 30)]);
        let found: Vec<(&str, u64, u64)> = found
            .iter()
            .map(|step| (step.instruction.as_str(), step.compressed, step.uncompressed))
            .collect();
        assert_eq!(
            found,
            [
                ("RUN apt-get install x", 1, 10),
                ("ENV A=b", 0, 0),
                ("COPY … in /x", 2, 20),
                ("(not told which)", 3, 30)
            ]
        );
    }
}
