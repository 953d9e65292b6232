//! The variants and boot tests that ship inside the program.

/// Path below the project's directory, mode, and content (a link's target for a symbolic link).
pub type File = (&'static str, u32, &'static [u8]);

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files below `dir`, their paths relative to it.
pub fn files_below(dir: &str) -> impl Iterator<Item = File> {
    FILES.iter().filter_map(move |(path, mode, bytes)| {
        let inside = path.strip_prefix(dir)?.strip_prefix('/')?;
        Some((inside, *mode, *bytes))
    })
}

/// The names of the variants.
#[must_use]
pub fn variants() -> Vec<&'static str> {
    let mut names: Vec<&str> = files_below("variants")
        .filter_map(|(path, _, _)| path.split_once('/').map(|(name, _)| name))
        .collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_default_variant_is_there_whole() {
        assert!(super::variants().contains(&"debian-container"));
        let files: Vec<_> = super::files_below("variants/debian-container").collect();
        assert!(files.iter().any(|(path, _, _)| *path == "manifest.yaml"));
        assert!(files.iter().any(|(path, mode, _)| path.ends_with("module-setup.sh") && *mode == 0o755));
    }
}
