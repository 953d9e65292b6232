//! Paths of layers as text: they are checked and taken apart, never given to the system.

use anyhow::Result;

use super::limits::{DEPTH, NAME, PATH, refuse};

/// A path from the root, without `.`, `..`, empty parts or a leading slash; the root's is empty.
pub(super) fn normalise(bytes: &[u8]) -> Result<String> {
    let shown = shown(bytes);
    if bytes.len() > PATH {
        return Err(refuse(format!("{shown} is a path of {} bytes, more than {PATH}", bytes.len())));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|_| refuse(format!("{shown} is a name that is not UTF-8, which OSTree cannot hold")))?;
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(refuse(format!("{shown} leads out of the image"))),
            part if part.contains('\0') => {
                return Err(refuse(format!("{shown} has a zero byte in its name")));
            }
            part if part.len() > NAME => {
                return Err(refuse(format!("{shown} has a name of more than {NAME} bytes")));
            }
            part => parts.push(part),
        }
    }
    if parts.len() > DEPTH {
        return Err(refuse(format!("{shown} lies more than {DEPTH} directories deep")));
    }
    Ok(parts.join("/"))
}

/// The parts of a path that was normalised.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// The directory of a path that was normalised, and the last part.
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
    use super::*;

    #[test]
    fn a_path_is_what_a_runtime_makes_of_it() {
        for (path, expected) in [
            ("./usr//bin/true", "usr/bin/true"),
            ("/etc/passwd", "etc/passwd"),
            ("./", ""),
            ("usr/", "usr"),
            ("a/./b", "a/b"),
            ("...", "..."),
        ] {
            assert_eq!(normalise(path.as_bytes()).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn a_path_that_leads_out_or_is_no_name_is_refused() {
        let deep = "d/".repeat(DEPTH + 1);
        let long = "n".repeat(NAME + 1);
        let path = "n/".repeat(PATH);
        for (path, why) in [
            ("../x", "leads out"),
            ("usr/../../x", "leads out"),
            ("usr/..", "leads out"),
            ("a\0b", "zero byte"),
            (&deep, "directories deep"),
            (&long, "more than 255 bytes"),
            (&path, "more than 4096"),
        ] {
            let error = normalise(path.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why) && error.len() < 250, "{error}");
        }
        assert!(normalise(b"\xff").unwrap_err().to_string().contains("not UTF-8"));
    }
}
