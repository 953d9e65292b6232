//! What is wrong with a configuration and what was accepted without effect: collected, so that somebody
//! who mends it sees all of it at once.

use crate::failure::Failure;

/// Complaints, in the order in which they were found.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// What was accepted without effect.
    pub(super) warnings: Vec<String>,
    /// What cannot stand.
    pub(super) problems: Vec<Failure>,
}

impl Notes {
    /// The value, or none and a problem more.
    pub(super) fn take<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        result.map_err(|failure| self.problems.push(failure)).ok()
    }

    /// The value, or its type's default and a problem more.
    pub(super) fn or_default<T: Default>(&mut self, result: Result<T, Failure>) -> T {
        self.take(result).unwrap_or_default()
    }

    /// The good items; each of the others is a problem more.
    pub(super) fn all<T>(&mut self, results: impl IntoIterator<Item = Result<T, Failure>>) -> Vec<T> {
        results.into_iter().filter_map(|result| self.take(result)).collect()
    }
}
