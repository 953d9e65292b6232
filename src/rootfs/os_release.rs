//! `mutate-os-release`: the build's version in os-release(5), but not in the initramfs, which dracut may tell
//! it: else every version would have another initramfs, and every update ship it.

use std::path::Path;

use anyhow::Result;

use crate::host::fs;

const PATH: &str = "usr/lib/os-release";

/// Replaces `base` by `version` in VERSION and PRETTY_NAME and adds OSTREE_VERSION.
pub(super) fn mutate(tree: &Path, base: &str, version: &str) -> Result<()> {
    let text = fs::read_to_string(&fs::inside(tree, Path::new(PATH))?)?;
    fs::write_inside(tree, PATH, mutated(&text, base, version))
}

/// Does `work` while os-release says `base` in place of the version.
pub(super) fn hidden<T>(
    tree: &Path,
    base: &str,
    version: &str,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    let file = fs::inside(tree, Path::new(PATH))?;
    let text = fs::read_to_string(&file)?;
    fs::write(&file, unversioned(&text, base, version))?;
    let done = work();
    fs::write(&file, text)?;
    done
}

fn unversioned(text: &str, base: &str, version: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("OSTREE_VERSION="));
    lines.map(|line| line.replace(version, base) + "\n").collect()
}

fn mutated(text: &str, base: &str, version: &str) -> String {
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with("OSTREE_VERSION=")) {
        if line.starts_with("VERSION=") || line.starts_with("PRETTY_NAME=") {
            out.push_str(&line.replace(base, version));
        } else {
            out.push_str(line);
        }
        out.push('\n');
    }
    out.push_str(&format!("OSTREE_VERSION='{version}'\n"));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_takes_the_bases_place() {
        let text = "NAME=\"Debian\"\nVERSION_ID=\"13\"\nVERSION=\"13 (trixie)\"\nPRETTY_NAME=\"Debian 13\"\n";
        assert_eq!(
            super::mutated(text, "13", "13.20261123.0"),
            "NAME=\"Debian\"\nVERSION_ID=\"13\"\nVERSION=\"13.20261123.0 (trixie)\"\n\
             PRETTY_NAME=\"Debian 13.20261123.0\"\nOSTREE_VERSION='13.20261123.0'\n"
        );
        assert_eq!(
            super::unversioned(&super::mutated(text, "13", "13.20261123.0"), "13", "13.20261123.0"),
            text
        );
    }
}
