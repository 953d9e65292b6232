//! What the core tells while it works. Whoever renders it (`cli/render.rs`) implements [`Sink`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::key::Reason;

/// What a progress count counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes: shown with a rate.
    Bytes,
    /// Things: packages, files, tests.
    Items,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A stage began to run, and why.
    StageStarted {
        /// The stage.
        stage: &'static str,
        /// Why it could not be reused.
        reason: Reason,
    },
    /// A stage's output was found in the cache.
    StageReused {
        /// The stage.
        stage: &'static str,
    },
    /// A stage ended.
    StageFinished {
        /// The stage.
        stage: &'static str,
        /// How long it ran.
        took: Duration,
        /// Whether it succeeded.
        success: bool,
    },
    /// A task within a stage advanced. The first event of an `id` opens it, `done == total` closes it.
    Progress {
        /// Tells concurrent tasks apart.
        id: u64,
        /// What is being done: `downloading packages`.
        task: String,
        /// How much of it is done.
        done: u64,
        /// How much there is; 0 when that is not known.
        total: u64,
        /// What is counted.
        unit: Unit,
    },
    /// Something the user should know and may act on.
    Warning(String),
    /// Something worth a line.
    Note(String),
    /// A line of a program's output, shown only when asked for.
    Detail(String),
}

/// Takes events.
pub trait Sink: Send + Sync {
    /// Takes one event; called from any thread.
    fn emit(&self, event: &Event);
}

/// A sink that drops everything, for tests and `--quiet`.
#[derive(Debug, Default)]
pub struct Silent;

impl Sink for Silent {
    fn emit(&self, _: &Event) {}
}

/// A cheap handle on the sink.
#[derive(Clone)]
pub struct Reporter {
    sink: Arc<dyn Sink>,
}

impl Reporter {
    /// A reporter into `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink }
    }

    /// A reporter into nothing.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(Arc::new(Silent))
    }

    /// Emits an event.
    pub fn emit(&self, event: &Event) {
        self.sink.emit(event);
    }

    /// Tells something worth a line.
    pub fn note(&self, text: impl Into<String>) {
        self.emit(&Event::Note(text.into()));
    }

    /// Tells something the user may have to act on.
    pub fn warn(&self, text: impl Into<String>) {
        self.emit(&Event::Warning(text.into()));
    }

    /// Passes on a line of a program's output.
    pub fn detail(&self, text: impl Into<String>) {
        self.emit(&Event::Detail(text.into()));
    }

    /// Opens a task of `total` units (0 when not known).
    #[must_use]
    pub fn progress(&self, task: impl Into<String>, total: u64, unit: Unit) -> Progress {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let progress = Progress {
            reporter: self.clone(),
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            task: task.into(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(total),
            unit,
        };
        progress.tell(0);
        progress
    }
}

/// A task under way; it closes when dropped.
pub struct Progress {
    reporter: Reporter,
    id: u64,
    task: String,
    done: AtomicU64,
    total: AtomicU64,
    unit: Unit,
}

impl Progress {
    /// Counts `amount` more; may be called from several threads.
    pub fn add(&self, amount: u64) {
        let done = self.done.fetch_add(amount, Ordering::Relaxed) + amount;
        self.tell(done);
    }

    /// Sets what is done and what there is.
    pub fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
        self.tell(done);
    }

    fn tell(&self, done: u64) {
        let total = self.total.load(Ordering::Relaxed);
        self.reporter.emit(&Event::Progress {
            id: self.id,
            task: self.task.clone(),
            done,
            total,
            unit: self.unit,
        });
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let done = self.done.load(Ordering::Relaxed).max(1);
        self.total.store(done, Ordering::Relaxed);
        self.tell(done);
    }
}
