//! Paths of layers as text: they are checked and taken apart, never given to the system.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use anyhow::Result;

use super::limits::{DEPTH, NAME, PATH, refuse};

/// A path of a layer, which has normal parts only, as text; the root's is empty.
pub(super) fn text(path: &Path) -> Result<String> {
    let bytes = path.as_os_str().as_bytes();
    let shown = shown(bytes);
    if bytes.len() > PATH {
        return Err(refuse(format!("{shown} is a path of {} bytes, more than {PATH}", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| refuse(format!("{shown} is a name that is not UTF-8, which OSTree cannot hold")))?;
    if parts(text).any(|part| part.len() > NAME) {
        return Err(refuse(format!("{shown} has a name of more than {NAME} bytes")));
    }
    if parts(text).count() > DEPTH {
        return Err(refuse(format!("{shown} lies more than {DEPTH} directories deep")));
    }
    Ok(text.to_owned())
}

/// The parts of a path.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The directory of a path, and the last part.
pub(super) fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

/// A path for people: quoted, escaped and not too long.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 120;
    let text = String::from_utf8_lossy(bytes);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn a_path_that_no_system_has_is_refused() {
        assert_eq!(text(Path::new("usr/größe")).unwrap(), "usr/größe");
        let deep = "d/".repeat(DEPTH + 1);
        let long = "n".repeat(NAME + 1);
        let path = "n/".repeat(PATH);
        for (path, why) in [
            (deep.as_bytes(), "directories deep"),
            (long.as_bytes(), "more than 255 bytes"),
            (path.as_bytes(), "more than 4096"),
            (b"a/\xff", "not UTF-8"),
        ] {
            let error = text(Path::new(OsStr::from_bytes(path))).unwrap_err().to_string();
            assert!(error.contains(why) && error.len() < 250, "{error}");
        }
    }
}
