//! What a user sees who made a mistake in the configuration: place, value, cure, exit code 3, and nothing
//! that was begun.

use std::fs;
use std::path::Path;

use nosa::host::{Cmd, CommandError};

/// A configuration without a mistake, as far as it is read before a package manager is asked.
const GOOD: &[(&str, &str)] = &[
    (
        "manifest.yaml",
        "ref: os/${basearch}/stable\nrojig: {name: os, summary: OS, license: MIT}\n\
         automatic-version-prefix: '1.<date:%Y%m%d>'\nrepos: [debian]\ninclude: base.yaml\n",
    ),
    ("base.yaml", "packages:\n  - bash\n"),
    ("image.yaml", "size: 10\n"),
    ("debian.sources", "Types: deb\nURIs: ${debian_mirror}\nSuites: trixie\nComponents: main\n"),
];

/// Runs `nosa fetch` over [`GOOD`] with one file changed (or removed, when `text` is empty); returns what
/// it says, and asserts that it fails as a configuration does.
fn fetch_with(file: &str, text: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("w/src/config");
    for sub in ["src/config", "builds", "cache", "tmp"] {
        fs::create_dir_all(dir.path().join("w").join(sub)).unwrap();
    }
    for (name, text) in GOOD {
        fs::write(config.join(name), text).unwrap();
    }
    if text.is_empty() {
        fs::remove_file(config.join(file)).unwrap();
    } else {
        fs::write(config.join(file), text).unwrap();
    }
    let said = run(dir.path());
    assert_eq!(fs::read_dir(dir.path().join("w/builds")).unwrap().count(), 0, "{said}");
    said
}

fn run(dir: &Path) -> String {
    let mut said = String::new();
    let error = Cmd::program(env!("CARGO_BIN_EXE_nosa"))
        .args(["-C", "w", "fetch"])
        .env("NOSA_CACHE", dir.join("downloads"))
        .dir(dir)
        .run_lines(|line| said.push_str(&format!("{line}\n")))
        .unwrap_err();
    let error = error.downcast::<CommandError>().unwrap();
    assert_eq!(error.code, Some(3), "{said}");
    said
}

#[test]
fn place_value_and_cure_of_every_kind_of_mistake() {
    let cases = [
        (
            "base.yaml",
            "package: [bash]\n",
            "base.yaml:1:1: unknown key `package`",
            "did you mean `packages`?",
        ),
        (
            "base.yaml",
            "packages:\n\t- bash\n",
            "base.yaml:2:1: YAML does not allow tabs for indentation",
            "indent with spaces",
        ),
        (
            "base.yaml",
            "packages: bash\n",
            "base.yaml:1:11: `packages` must be a list, found the text \"bash\"",
            "write each item on a line of its own: `- bash`",
        ),
        (
            "base.yaml",
            "include: manifest.yaml\n",
            "base.yaml:1:10: include goes in a circle: manifest.yaml → base.yaml → manifest.yaml",
            "remove one of these includes",
        ),
        (
            "base.yaml",
            "",
            "manifest.yaml:5:10: including `base.yaml`: no such file",
            "create base.yaml, or correct the path",
        ),
        (
            "base.yaml",
            "mutate-os-release: '${releasever}'\n",
            "base.yaml:1:20: variable `releasever` is not defined",
            "define it under `variables:`; there are: basearch",
        ),
        (
            "debian.sources",
            "",
            "manifest.yaml:4:9: repository `debian` has no definition",
            "put debian.sources (Debian) or a *.repo file with [debian] (RPM) beside manifest.yaml",
        ),
        (
            "image.yaml",
            "size: 10\nrootfs: btrfs\n",
            "image.yaml:2:9: `rootfs` must be one of ext4, xfs, found the text \"btrfs\"",
            "choose one of them",
        ),
    ];
    for (file, text, cause, cure) in cases {
        assert_eq!(fetch_with(file, text), format!("error: {cause}\n  {cure}\n"));
    }
}
