//! The tests that ship with nosa, as files.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::embedded;
use crate::host::fs;
use crate::kola::Root;

/// Unpacks them.
pub(super) fn shipped(dir: &Path) -> Result<Root> {
    fs::remove_tree(dir)?;
    fs::create_dir_all(dir)?;
    for (path, mode, bytes) in embedded::files_below("kola-tests") {
        let target = dir.join(path);
        fs::create_dir_all(target.parent().unwrap_or(dir))?;
        fs::write(&target, bytes)?;
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(mode & 0o7777))
            .with_context(|| format!("unpacking {path}"))?;
    }
    Ok(Root { dir: dir.to_owned(), prefix: "ext.nosa".to_owned() })
}
