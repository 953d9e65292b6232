//! The map of README as a test: which room may use which, and that no file is without its purpose.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each room may use. A room that is not named here may use nothing of nosa.
const ALLOWED: &[(&str, &[&str])] = &[
    ("failure", &["host"]),
    ("document", &["failure"]),
    ("embedded", &["document", "failure"]),
    ("host", &[]),
    ("pipeline", &["failure", "host"]),
    ("sandbox", &["failure", "host"]),
    ("manifest", &["document", "failure", "host"]),
    ("packages", &["document", "failure", "host", "pipeline", "sandbox"]),
    ("rootfs", &["failure", "host", "manifest", "packages", "pipeline", "sandbox"]),
    ("ostree", &["failure", "host", "pipeline", "sandbox"]),
    ("oci", &["failure", "host", "ostree", "pipeline"]),
    ("disk", &["failure", "host", "manifest", "ostree", "pipeline", "sandbox"]),
    ("live", &["failure", "host", "manifest", "ostree", "disk", "pipeline", "sandbox"]),
    ("vm", &["failure", "host"]),
    ("kola", &["document", "failure", "host", "pipeline", "vm"]),
    ("builds", &["failure", "host"]),
    ("compression", &["failure", "host"]),
    ("release", &["builds", "compression", "failure", "host", "ostree", "pipeline"]),
    ("compare", &["builds", "compression", "failure", "host", "ostree", "pipeline", "vm"]),
    ("transfer", &["builds", "failure", "host", "pipeline"]),
    ("registry", &["failure", "host", "oci", "pipeline"]),
    ("import", &["compression", "failure", "host", "oci", "ostree", "pipeline"]),
    ("derive", &["compression", "failure", "host", "oci", "pipeline"]),
    ("client", &[]),
    ("recipe", &["*"]),
    ("cli", &["*"]),
    ("lib", &["*"]),
    ("main", &["cli"]),
];

fn sources() -> Vec<PathBuf> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        let mut entries: Vec<PathBuf> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for place in ["src", "client"] {
        walk(&root.join(place), &mut found);
    }
    found
}

fn relative(path: &Path) -> String {
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    path.strip_prefix("src").unwrap_or(path).display().to_string()
}

fn room(path: &Path) -> String {
    let relative = relative(path);
    relative.split('/').next().unwrap().trim_end_matches(".rs").to_owned()
}

/// The rooms named by `crate::x` paths in code (comments and doc links left out).
fn uses(text: &str) -> Vec<String> {
    let code =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let word = |tail: &str| -> String {
        tail.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
    };
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let tail = &code[at + "crate::".len()..];
        if let Some(group) = tail.strip_prefix('{') {
            let mut depth = 1;
            let mut start = true;
            for (index, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => start = true,
                    c if start && c.is_ascii_alphabetic() => {
                        found.push(word(&group[index..]));
                        start = false;
                    }
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
            }
        } else {
            found.push(word(tail));
        }
    }
    found
}

#[test]
fn no_room_uses_what_the_map_forbids() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    for path in sources() {
        let own = room(&path);
        let list = allowed.get(own.as_str()).copied().unwrap_or(&[]);
        for used in uses(&fs::read_to_string(&path).unwrap()) {
            if used != own && !list.contains(&"*") && !list.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", relative(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows that the map forbids:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_its_purpose() {
    let without: Vec<String> = sources()
        .iter()
        .filter(|path| !fs::read_to_string(path).unwrap().starts_with("//! "))
        .map(|path| relative(path))
        .collect();
    assert!(without.is_empty(), "files that do not open with `//!`: {without:?}");
}

#[test]
fn files_stay_small() {
    let large: Vec<String> = sources()
        .iter()
        .filter_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let production = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap().lines().count();
            let reasoned = text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .any(|line| line.contains("Long because"));
            (production > 400 && !reasoned).then(|| format!("{} has {production} lines", relative(path)))
        })
        .collect();
    assert!(large.is_empty(), "over 400 lines without `Long because` in the module doc: {large:?}");
}

#[test]
fn the_reader_of_arrows_sees_them() {
    let text = "use crate::host::fs;\nuse crate::{failure::Failure, pipeline::{a, b}};\n// crate::disk\n";
    assert_eq!(uses(text), ["host", "failure", "pipeline"]);
}

#[test]
fn no_test_file_is_forgotten() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    let main = fs::read_to_string(dir.join("main.rs")).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(
            name == "main" || main.contains(&format!("mod {name};")),
            "tests/suite/main.rs lacks mod {name}"
        );
    }
}
