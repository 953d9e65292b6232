//! Bytes that moved, of all blobs together; what a broken connection lost is taken back.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::pipeline::{Progress, Reporter, Unit};

/// Counts bytes for the progress view.
pub(super) struct Meter {
    progress: Progress,
    done: AtomicU64,
    total: u64,
}

impl Meter {
    pub(super) fn new(report: &Reporter, task: String, total: u64) -> Self {
        Self { progress: report.progress(task, total, Unit::Bytes), done: AtomicU64::new(0), total }
    }

    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.set(done, self.total.max(done));
    }

    pub(super) fn take_back(&self, bytes: u64) {
        let less = |done: u64| Some(done.saturating_sub(bytes));
        let before = self.done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        self.progress.set(before.unwrap_or_default().saturating_sub(bytes), self.total);
    }
}
