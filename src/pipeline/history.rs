//! What a run did, stage by stage, and why: kept in the workdir for the last run and beside every build.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::key::{Change, Digest, Reason};
use crate::host::clock::{self, Utc};
use crate::host::fs;

/// What happened to one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRun {
    /// The stage's name.
    pub stage: String,
    /// The key of its inputs.
    pub key: Digest,
    /// Why it ran; `None` when its output was reused.
    pub reason: Option<Reason>,
    /// For a reused output: the inputs that differ from the stage's last use in this workdir. They made a key
    /// whose output was still there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Change>,
    /// How long it took.
    #[serde(rename = "seconds", with = "seconds")]
    pub took: Duration,
    /// Whether it ended well.
    pub success: bool,
}

impl StageRun {
    /// Why it ran or did not, in a line.
    #[must_use]
    pub fn explanation(&self) -> String {
        match &self.reason {
            Some(reason) => reason.to_string(),
            None if self.changes.is_empty() => "nothing changed".to_owned(),
            None => {
                format!("{}, and the output for that was still there", Reason::Changed(self.changes.clone()))
            }
        }
    }

    /// The inputs that changed.
    #[must_use]
    pub fn changed(&self) -> &[Change] {
        match &self.reason {
            Some(Reason::Changed(changes)) => changes,
            _ => &self.changes,
        }
    }
}

impl Change {
    /// The change in a line: `input: old → new`; long values are shortened unless `whole`.
    #[must_use]
    pub fn told(&self, whole: bool) -> String {
        let value = |value: &Option<String>, none: &str| match value {
            Some(value) if whole => value.clone(),
            Some(value) => short(value),
            None => none.to_owned(),
        };
        format!("{}: {} → {}", self.input, value(&self.old, "(not there)"), value(&self.new, "(gone)"))
    }
}

/// A value on one short line: digests by their first digits, long texts by their beginning.
fn short(value: &str) -> String {
    let words = value.split_whitespace().map(|word| match word.len() {
        64 if word.bytes().all(|byte| byte.is_ascii_hexdigit()) => word.get(..12).unwrap_or(word),
        _ => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line,
    }
}

/// What one command did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The command: `build`, `buildextend`, `fetch`.
    pub command: String,
    /// When it began.
    pub started: String,
    /// Its stages, in the order in which they ended.
    pub stages: Vec<StageRun>,
}

/// The run that is going on, written down after every stage.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    run: Mutex<Run>,
}

impl History {
    /// A history in the workdir's scratch directory.
    pub(super) fn new(tmp: &Path) -> Self {
        let started = Utc::from_epoch(clock::now()).rfc3339();
        let run = Run { command: String::new(), started, stages: Vec::new() };
        Self { path: Run::last_path(tmp), run: Mutex::new(run) }
    }

    /// Says which command it is.
    pub(super) fn name(&self, command: &str) {
        command.clone_into(&mut self.run.lock().unwrap_or_else(PoisonError::into_inner).command);
    }

    /// The run so far.
    pub(super) fn run(&self) -> Run {
        self.run.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds a stage.
    pub(super) fn add(&self, stage: StageRun) -> Result<()> {
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        run.stages.push(stage);
        let text = serde_json::to_string_pretty(&[&*run]).context("encoding what a run did")?;
        fs::write(&self.path, text)
    }
}

impl Run {
    /// The file that tells of a workdir's last run.
    #[must_use]
    pub fn last_path(tmp: &Path) -> PathBuf {
        tmp.join("last-run.json")
    }

    /// The runs that a file tells of, the first one first; none if there is no such file.
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let Some(text) = fs::read_optional(path)? else { return Ok(Vec::new()) };
        serde_json::from_str(&text).with_context(|| format!("reading {}", path.display()))
    }

    /// Adds this run to the ones that a file tells of.
    pub fn append(self, path: &Path) -> Result<()> {
        let mut runs = Self::read(path)?;
        runs.push(self);
        let text = serde_json::to_string_pretty(&runs).context("encoding what runs did")?;
        fs::write_atomic(path, text + "\n", 0o644)
    }
}

mod seconds {
    //! A duration as seconds with milliseconds.

    use std::time::Duration;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(took: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((took.as_secs_f64() * 1000.0).round() / 1000.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(reason: Option<Reason>, changes: Vec<Change>) -> StageRun {
        let took = Duration::from_millis(1500);
        StageRun { stage: "s".into(), key: Digest::of("k"), reason, changes, took, success: true }
    }

    fn change(input: &str) -> Change {
        Change { input: input.into(), old: Some("1".into()), new: Some("2".into()) }
    }

    #[test]
    fn what_a_run_did_reads_back_and_adds_up() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::new(dir.path());
        history.name("build");
        history.add(stage(Some(Reason::Changed(vec![change("a")])), Vec::new())).unwrap();
        history.add(stage(None, Vec::new())).unwrap();
        let last = Run::read(&Run::last_path(dir.path())).unwrap();
        assert_eq!(last, [history.run()]);
        assert_eq!((last[0].command.as_str(), last[0].stages.len()), ("build", 2));
        let beside = dir.path().join("stages.json");
        assert_eq!(Run::read(&beside).unwrap(), []);
        history.run().append(&beside).unwrap();
        history.run().append(&beside).unwrap();
        assert_eq!(Run::read(&beside).unwrap().len(), 2);
    }

    #[test]
    fn a_change_is_told_short_or_whole() {
        let (old, new) = (Digest::of("old").to_string(), "x ".repeat(100));
        let change = Change { input: "a".into(), old: Some(format!("644 {old}")), new: Some(new) };
        let told = change.told(false);
        assert!(told.starts_with(&format!("a: 644 {} → x x", &old[..12])) && told.ends_with('…'), "{told}");
        assert!(change.told(true).contains(&old));
        assert_eq!(Change { old: None, new: None, ..change }.told(false), "a: (not there) → (gone)");
    }

    #[test]
    fn every_stage_is_explained() {
        let explained = |reason| stage(reason, Vec::new()).explanation();
        assert_eq!(explained(Some(Reason::First)), "first run");
        assert_eq!(explained(Some(Reason::Forced)), "forced");
        assert_eq!(explained(Some(Reason::Gone)), "its output was no longer in the cache");
        assert_eq!(explained(Some(Reason::Changed(vec![change("a")]))), "a changed");
        assert_eq!(
            explained(Some(Reason::Changed(vec![change("program tar"), change("program zstd")]))),
            "the version of tar, zstd changed"
        );
        assert_eq!(explained(Some(Reason::Changed(vec![change("nosa stage")]))), "nosa's own stage changed");
        assert_eq!(explained(None), "nothing changed");
        assert_eq!(
            stage(None, vec![change("a")]).explanation(),
            "a changed, and the output for that was still there"
        );
    }
}
