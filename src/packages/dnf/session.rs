//! One question to dnf's Python API: a request as JSON in, lines of JSON out (`dnf.py` has the protocol).

use std::fmt;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::config::Dnf;
use super::failure;
use crate::failure::{Failure, Kind};
use crate::host::{Cmd, CommandError, fs, tool};

const SCRIPT: &str = include_str!("dnf.py");

/// dnf's refusal, in its own terms.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Refusal {
    /// What it is about.
    pub(super) kind: String,
    /// The rest.
    #[serde(flatten)]
    pub(super) more: serde_json::Map<String, Value>,
}

impl Refusal {
    /// A text of it.
    pub(super) fn text(&self, key: &str) -> &str {
        self.more.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dnf: {} {}", self.kind, self.text("text"))
    }
}

impl std::error::Error for Refusal {}

/// One line of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Progress(u64),
    Result(Value),
    Error(Refusal),
}

impl Dnf {
    /// Asks for `what`; `progress` is told of bytes as they come.
    pub(super) fn ask<T: DeserializeOwned>(
        &self,
        what: &str,
        mut request: Value,
        mut progress: impl FnMut(u64),
    ) -> Result<T> {
        let common = json!({
            "do": what,
            "installroot": self.dir.join("root"),
            "cachedir": self.dir.join("cache"),
            "reposdir": self.dir.join("repos.d"),
            "basearch": self.basearch,
            "releasever": self.releasever,
            "repos": self.repositories,
        });
        if let (Value::Object(request), Value::Object(common)) = (&mut request, common) {
            request.extend(common);
        }
        let script = self.dir.join("dnf.py");
        fs::write_atomic(&script, SCRIPT, 0o644)?;
        let mut last = None;
        let asked = Cmd::program(interpreter()?)
            .arg("-I")
            .arg(&script)
            .env("HOME", self.dir.join("home"))
            .stdin(request.to_string())
            .log(&self.log)
            .run_lines(|line| match serde_json::from_str(line) {
                Ok(Line::Progress(amount)) => progress(amount),
                Ok(answer) => last = Some(answer),
                Err(_) => {}
            });
        match (last, asked) {
            (Some(Line::Result(value)), Ok(())) => {
                serde_json::from_value(value).with_context(|| format!("reading dnf's answer to {what}"))
            }
            (Some(Line::Error(refusal)), Ok(())) => Err(failure::of_repository(refusal, &self.repositories)),
            (_, Err(error)) if error.downcast_ref::<CommandError>().is_some() => {
                Err(error.context(format!("asking dnf to {what}")))
            }
            (_, Err(error)) => Err(error),
            (_, Ok(())) => anyhow::bail!("dnf gave no answer to {what}: see {}", self.log.display()),
        }
    }
}

/// The Python that dnf itself runs on: another one on the search path would not have its modules.
fn interpreter() -> Result<String> {
    let missing = |cause: String| Failure::new(Kind::Tool, cause, "install: apt-get install dnf");
    let found = tool::DNF.look();
    let path = found.path.ok_or_else(|| missing("dnf-3 is not installed".to_owned()))?;
    let text = fs::read_to_string(&path)?;
    let line = text.lines().next().and_then(|line| line.strip_prefix("#!"));
    let program = line.and_then(|line| line.split_whitespace().next());
    let program = program.ok_or_else(|| missing(format!("{} is not a Python program", path.display())))?;
    Ok(program.to_owned())
}
