//! JSON as coreos-assembler writes it: indented by four, whole or absent.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;
use serde_json::ser::PrettyFormatter;

use crate::failure::{Failure, Kind};
use crate::host::fs;

/// The text of a value.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut serializer =
        serde_json::Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b"    "));
    value.serialize(&mut serializer).context("encoding JSON")?;
    text.push(b'\n');
    Ok(text)
}

/// Writes a file, mode 0644.
pub(super) fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    fs::write_atomic(path, encode(value)?, 0o644)
}

/// Reads a file; a missing one is `None`, a broken one a failure.
pub(super) fn read(path: &Path) -> Result<Option<Value>> {
    let Some(text) = fs::read_optional(path)? else { return Ok(None) };
    match serde_json::from_str(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(Failure::new(
            Kind::Artifact,
            format!("{} is damaged: {error}", path.display()),
            "restore it from a copy, or remove the build it belongs to",
        )
        .into()),
    }
}
