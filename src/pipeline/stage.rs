//! What a stage is, and running one through the cache.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cache::{Cache, Record};
use super::events::{Event, Reporter};
use super::history::{History, Run, StageRun};
use super::key::{Change, Digest, KeyHasher, PROGRAM, Reason, STAGE};
use crate::failure::Failure;
use crate::host::{self, Tool, fs};

/// A stage's output as later stages see it.
pub trait Artifact: Sized {
    /// Opens what a stage left in its `out` directory; cheap, for it runs on every cache hit.
    fn load(out: &Path) -> Result<Self>;

    /// Identifies the content: what later stages put into their keys.
    fn digest(&self) -> Digest;

    /// Whether what it refers to outside of `out`, in the cache's shared directories, is still there; if
    /// not, its stage runs again. Asked on every cache hit.
    fn is_whole(&self, _cache: &Cache) -> Result<bool> {
        Ok(true)
    }
}

/// One step of the build: a value that holds its inputs, typed by the stages before it.
pub trait Stage {
    /// What it makes.
    type Output: Artifact;
    /// Its name, in events and in the cache.
    const NAME: &'static str;
    /// Raised when unchanged inputs give another output.
    const VERSION: u32;

    /// Adds every input by content.
    fn key(&self, hash: &mut KeyHasher);

    /// The host's programs it runs; checked before anything runs. Their versions are part of the key.
    fn tools(&self) -> &'static [&'static Tool];

    /// Does the work: writes below [`Workspace::out`], then returns the output loaded from there.
    fn run(&self, work: &Workspace) -> Result<Self::Output>;
}

/// Where a running stage works.
pub struct Workspace {
    dir: PathBuf,
    logs: PathBuf,
    cache: Cache,
    /// Where it tells of its progress.
    pub report: Reporter,
}

impl Workspace {
    /// The output directory, empty at first.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.dir.join("out")
    }

    /// A scratch directory that is removed afterwards.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.dir.join("tmp")
    }

    /// A log file that outlives a failure.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// A directory shared by all stages and workdirs of this cache.
    pub fn shared(&self, name: &str) -> Result<PathBuf> {
        self.cache.shared(name)
    }
}

/// Runs stages through the cache and remembers why each ran.
pub struct Pipeline {
    cache: Cache,
    state: PathBuf,
    logs: PathBuf,
    report: Reporter,
    force: bool,
    history: History,
}

impl Pipeline {
    /// A pipeline over `cache`; `tmp` is the workdir's scratch directory (records of the last keys, logs).
    pub fn new(cache: Cache, tmp: &Path, report: Reporter) -> Result<Self> {
        let (state, logs) = (tmp.join("why"), tmp.join("log"));
        fs::create_dir_all(&state)?;
        fs::create_dir_all(&logs)?;
        cache.sweep()?;
        cache.settle()?;
        Ok(Self { cache, state, logs, report, force: false, history: History::new(tmp) })
    }

    /// Says which command runs these stages, for whoever asks later why they ran.
    #[must_use]
    pub fn named(self, command: &str) -> Self {
        self.history.name(command);
        self
    }

    /// Runs every stage whether its output is in the cache or not.
    #[must_use]
    pub const fn force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// The reporter.
    #[must_use]
    pub const fn report(&self) -> &Reporter {
        &self.report
    }

    /// The cache.
    #[must_use]
    pub const fn cache(&self) -> &Cache {
        &self.cache
    }

    /// A log file in the workdir, for what is no stage.
    #[must_use]
    pub fn log(&self, name: &str) -> PathBuf {
        self.logs.join(format!("{name}.log"))
    }

    /// What each stage did so far, in order.
    #[must_use]
    pub fn runs(&self) -> Vec<StageRun> {
        self.history.run().stages
    }

    /// The same with the command and its time.
    #[must_use]
    pub fn history(&self) -> Run {
        self.history.run()
    }

    /// The stages that this workdir ran last, and their keys.
    pub fn last_keys(&self) -> Result<Vec<(String, Digest)>> {
        let mut keys = Vec::new();
        for path in fs::read_dir_sorted(&self.state)? {
            let text = fs::read_optional(&path)?.unwrap_or_default();
            if let Ok(record) = serde_json::from_str::<Record>(&text) {
                keys.push((record.stage, record.key));
            }
        }
        Ok(keys)
    }

    /// Returns a stage's output, from the cache if its key is known there.
    pub fn run<S: Stage>(&self, stage: &S) -> Result<S::Output> {
        let record = record_of(stage);
        let reason = match self.cache.lookup(S::NAME, record.key) {
            Some(out) if !self.force => {
                let opening = || format!("opening the cached {}", S::NAME);
                let output = S::Output::load(&out).with_context(opening)?;
                if output.is_whole(&self.cache).with_context(opening)? {
                    self.report.emit(&Event::StageReused { stage: S::NAME });
                    let last = self.last(S::NAME)?;
                    let changes = last.map(|last| Change::between(&last.inputs, &record.inputs));
                    self.remember(&record)?;
                    self.history.add(StageRun {
                        stage: S::NAME.to_owned(),
                        key: record.key,
                        reason: None,
                        changes: changes.unwrap_or_default(),
                        took: Duration::ZERO,
                        success: true,
                    })?;
                    return Ok(output);
                }
                Reason::Gone
            }
            Some(_) => Reason::Forced,
            None => match self.last(S::NAME)? {
                Some(last) => Reason::compare(&last.inputs, &record.inputs),
                None => Reason::First,
            },
        };
        self.report.emit(&Event::StageStarted { stage: S::NAME, reason: reason.clone() });
        let start = Instant::now();
        let result = self.make(stage, &record);
        let took = start.elapsed();
        self.report.emit(&Event::StageFinished { stage: S::NAME, took, success: result.is_ok() });
        self.history.add(StageRun {
            stage: S::NAME.to_owned(),
            key: record.key,
            reason: Some(reason),
            changes: Vec::new(),
            took,
            success: result.is_ok(),
        })?;
        let output = result?;
        self.remember(&record)?;
        Ok(output)
    }

    fn make<S: Stage>(&self, stage: &S, record: &Record) -> Result<S::Output> {
        host::require(stage.tools()).map_err(Failure::from)?;
        let dir = self.cache.begin(S::NAME)?;
        let work = Workspace {
            dir: dir.clone(),
            logs: self.logs.clone(),
            cache: self.cache.clone(),
            report: self.report.clone(),
        };
        match stage.run(&work) {
            Ok(output) => {
                drop(output);
                let out = self.cache.commit(&dir, record)?;
                S::Output::load(&out)
            }
            Err(error) => {
                fs::remove_tree(&dir)?;
                Err(error)
            }
        }
    }

    /// The record of the key that this workdir used last.
    fn last(&self, stage: &str) -> Result<Option<Record>> {
        let text = fs::read_optional(&self.state.join(format!("{stage}.json")))?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    fn remember(&self, record: &Record) -> Result<()> {
        let path = self.state.join(format!("{}.json", record.stage));
        let text = serde_json::to_string_pretty(record).context("encoding a stage's record")?;
        if fs::read_optional(&path)?.as_deref() != Some(&text) {
            fs::write(&path, text)?;
        }
        Ok(())
    }
}

fn record_of<S: Stage>(stage: &S) -> Record {
    let mut hasher = KeyHasher::default();
    hasher.input(STAGE, format_args!("{} {}", S::NAME, S::VERSION));
    for tool in stage.tools() {
        hasher.input(format!("{PROGRAM}{}", tool.name), tool.look().version.unwrap_or_default());
    }
    stage.key(&mut hasher);
    let (key, inputs) = hasher.finish();
    Record { stage: S::NAME.to_owned(), key, inputs }
}
