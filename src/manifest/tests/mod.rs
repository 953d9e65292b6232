//! Loading from files in memory: what every rule gives, and what every mistake says.

mod bad_input;
mod rules;

use std::path::Path;

use super::load::{LoadOptions, Loaded, load_from};
use super::source::memory::Memory;
use crate::failure::Failure;

/// A manifest that lacks nothing, to which a test adds what it is about.
const BASE: &str = "ref: os/${basearch}/stable\nmetadata: {name: os}\nautomatic-version-prefix: '1'\n";

/// Loads files below `/c` for x86_64; image.yaml and a repository come for free.
fn load(files: &[(&str, &str)]) -> Result<Loaded, Failure> {
    let mut all = vec![("image.yaml", "size: 10\n"), ("debian.sources", ""), ("extra.sources", "")];
    all.extend_from_slice(files);
    load_from(&Memory::new(&all), Path::new("/c"), &LoadOptions::new("x86_64"))
}

/// Loads one manifest: [`BASE`] and `more`.
fn manifest(more: &str) -> Loaded {
    load(&[("manifest.yaml", &format!("{BASE}{more}"))]).unwrap()
}

/// Cause and cure of the failure that `files` give.
fn failure(files: &[(&str, &str)]) -> String {
    let failure = load(files).unwrap_err();
    format!("{} | {}", failure.cause, failure.cure)
}

/// Cause and cure of the failure that [`BASE`] and `more` give; `more` begins in line 4.
fn fault(more: &str) -> String {
    failure(&[("manifest.yaml", &format!("{BASE}{more}"))])
}
