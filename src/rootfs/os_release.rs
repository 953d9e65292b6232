//! `mutate-os-release`: the build's version in os-release(5).

use std::path::Path;

use anyhow::Result;

use crate::host::fs;

/// Replaces `base` by `version` in VERSION and PRETTY_NAME and adds OSTREE_VERSION.
pub(super) fn mutate(tree: &Path, base: &str, version: &str) -> Result<()> {
    let text = fs::read_to_string(&fs::inside(tree, Path::new("usr/lib/os-release"))?)?;
    fs::write_inside(tree, "usr/lib/os-release", mutated(&text, base, version))
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
    }
}
