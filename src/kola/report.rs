//! Results, and the two files that machines read them from: kola's report.json and JUnit's XML.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::host::fs;

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// As it should.
    Pass,
    /// Not run, for a reason.
    Skip,
    /// Badly, in a way that was announced or healed by running it again.
    Warn,
    /// Badly.
    Fail,
}

/// A test's result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestResult {
    /// The test.
    pub name: String,
    /// The results of its parts.
    pub subtests: Vec<TestResult>,
    /// How it ended.
    pub result: Outcome,
    /// How long it took, in nanoseconds.
    pub duration: u64,
    /// Why it did not pass, and the lines that show it.
    pub output: String,
}

/// The results of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// A result a test, sorted by name.
    pub tests: Vec<TestResult>,
    /// The worst of them.
    pub result: Outcome,
    /// What the machines were.
    pub platform: String,
    /// The version of the operating system, empty if unknown.
    pub version: String,
}

impl Outcome {
    /// As reports have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Skip => "SKIP",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

impl TestResult {
    /// A result without parts.
    #[must_use]
    pub fn new(name: &str, result: Outcome, took: Duration, output: impl Into<String>) -> Self {
        let duration = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        Self { name: name.to_owned(), subtests: Vec::new(), result, duration, output: output.into() }
    }

    /// One line, and below it, for a test that did not pass, why.
    #[must_use]
    pub fn lines(&self) -> String {
        let mut text = format!("{} {} ({:.1} s)", self.result.word(), self.name, self.duration as f64 / 1e9);
        if self.result != Outcome::Pass {
            for line in self.output.lines() {
                write!(text, "\n    {line}").unwrap_or_default();
            }
        }
        text
    }
}

impl Report {
    /// A report of results.
    #[must_use]
    pub fn new(mut tests: Vec<TestResult>, platform: &str, version: &str) -> Self {
        tests.sort_by(|a, b| a.name.cmp(&b.name));
        let failed = tests.iter().any(|test| test.result == Outcome::Fail);
        let warned = tests.iter().any(|test| test.result == Outcome::Warn);
        let result = match (failed, warned) {
            (true, _) => Outcome::Fail,
            (false, true) => Outcome::Warn,
            (false, false) => Outcome::Pass,
        };
        Self { tests, result, platform: platform.to_owned(), version: version.to_owned() }
    }

    /// How many tests ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.tests.iter().filter(|test| test.result == outcome).count()
    }

    /// Writes `reports/report.json` and `reports/junit.xml` below a directory.
    pub fn write(&self, dir: &Path) -> Result<()> {
        let reports = dir.join("reports");
        fs::create_dir_all(&reports)?;
        fs::write_atomic(
            &reports.join("report.json"),
            format!("{}\n", serde_json::to_string_pretty(self)?),
            0o644,
        )?;
        fs::write_atomic(&reports.join("junit.xml"), self.junit(), 0o644)
    }

    /// JUnit's XML.
    #[must_use]
    pub fn junit(&self) -> String {
        let (total, failed) = (self.tests.len(), self.count(Outcome::Fail));
        let skipped = self.count(Outcome::Skip);
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let seconds: f64 = self.tests.iter().map(|test| test.duration as f64 / 1e9).sum();
        write!(
            xml,
            "<testsuites>\n  <testsuite name=\"kola\" tests=\"{total}\" failures=\"{failed}\" errors=\"0\" skipped=\"{skipped}\" time=\"{seconds:.3}\">\n"
        )
        .unwrap_or_default();
        for test in &self.tests {
            let (name, time) = (escape(&test.name), test.duration as f64 / 1e9);
            let output = escape(&test.output);
            let body = match test.result {
                Outcome::Pass => String::new(),
                Outcome::Skip => format!("<skipped message=\"{output}\"/>"),
                Outcome::Warn => format!("<system-err>{output}</system-err>"),
                Outcome::Fail => {
                    let first = escape(test.output.lines().next().unwrap_or_default());
                    format!("<failure message=\"{first}\">{output}</failure>")
                }
            };
            writeln!(
                xml,
                "    <testcase classname=\"kola\" name=\"{name}\" time=\"{time:.3}\">{body}</testcase>"
            )
            .unwrap_or_default();
        }
        xml.push_str("  </testsuite>\n</testsuites>\n");
        xml
    }
}

/// Escapes text for XML; characters that XML 1.0 cannot hold become spaces.
fn escape(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || ('\u{fffe}'..='\u{ffff}').contains(&c) => out.push(' '),
            c => out.push(c),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let took = Duration::from_millis(1500);
        let mut basic = TestResult::new("basic", Outcome::Pass, took, "");
        basic.subtests.push(TestResult::new("UserAdd", Outcome::Pass, Duration::ZERO, ""));
        let tests = vec![
            TestResult::new("ext.b", Outcome::Fail, took, "exit code 1\n<oops> & \u{1b}[0m"),
            TestResult::new("ext.c", Outcome::Skip, Duration::ZERO, "not for x86_64"),
            basic,
        ];
        Report::new(tests, "qemu", "13.20261123.0")
    }

    #[test]
    fn json_is_kolas() {
        insta::assert_snapshot!(serde_json::to_string_pretty(&report()).unwrap());
    }

    #[test]
    fn junit_is_well_formed_whatever_a_test_prints() {
        insta::assert_snapshot!(report().junit());
    }

    #[test]
    fn the_worst_result_counts() {
        assert_eq!(report().result, Outcome::Fail);
        assert_eq!(Report::new(Vec::new(), "qemu", "").result, Outcome::Pass);
    }
}
