//! The variants and boot tests that ship inside the program.
//!
//! A variant is its own directory and those of `variants/shared` that its `variant.yaml` names, as one:
//!
//! ```text
//! variants/NAME/variant.yaml    summary, and `shared: [base, debian, container]`
//! variants/NAME/…               what is its own
//! variants/shared/GROUP/…       what several have in common
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

use crate::document::parse;
use crate::failure::{Failure, Kind};

/// Path below the project's directory, mode, and content (a link's target for a symbolic link).
pub type File = (&'static str, u32, &'static [u8]);

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// What a variant says of itself; no part of the configuration that it is.
const DESCRIPTION: &str = "variant.yaml";

/// A variant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// What it is, in a line.
    pub summary: String,
    /// The shared groups that it is made with.
    pub shared: Vec<String>,
}

/// The files below `dir`, their paths relative to it.
pub fn files_below(dir: &str) -> impl Iterator<Item = File> {
    FILES.iter().filter_map(move |(path, mode, bytes)| {
        let inside = path.strip_prefix(dir)?.strip_prefix('/')?;
        Some((inside, *mode, *bytes))
    })
}

/// The variants, by name.
pub fn variants() -> Result<Vec<Variant>, Failure> {
    files_below("variants")
        .filter_map(|(path, _, bytes)| {
            let (name, file) = path.split_once('/')?;
            (file == DESCRIPTION).then(|| describe(name, bytes))
        })
        .collect()
}

fn describe(name: &'static str, bytes: &[u8]) -> Result<Variant, Failure> {
    let file = format!("variants/{name}/{DESCRIPTION}");
    let root = parse(&file, &String::from_utf8_lossy(bytes))?;
    let map = root.map("variant")?;
    map.only(&["summary", "shared"])?;
    let lacking = || root.position.failure("`summary` or `shared` is missing", "add them");
    let summary = map.get("summary").ok_or_else(lacking)?.text("summary")?.to_owned();
    let shared = map.get("shared").ok_or_else(lacking)?.texts("shared")?;
    Ok(Variant { name, summary, shared: shared.into_iter().map(str::to_owned).collect() })
}

/// The files of the variant of this name.
pub fn files_named(name: &str) -> Result<Vec<File>, Failure> {
    let variants = variants()?;
    match variants.iter().find(|variant| variant.name == name) {
        Some(variant) => files_of(variant),
        None => {
            let known = variants.iter().map(|variant| variant.name).collect::<Vec<_>>().join(", ");
            let cause = format!("nosa has no variant {name}; it has {known}");
            Err(Failure::new(Kind::Usage, cause, "choose one of these, or give a configuration"))
        }
    }
}

/// The files of a variant, its own and shared ones, sorted; no path is there twice.
pub fn files_of(variant: &Variant) -> Result<Vec<File>, Failure> {
    let mut files: BTreeMap<&str, (String, File)> = BTreeMap::new();
    let own = format!("variants/{}", variant.name);
    let groups = variant.shared.iter().map(|group| format!("variants/shared/{group}"));
    for dir in groups.chain([own]) {
        let before = files.len();
        for file in files_below(&dir).filter(|(path, _, _)| *path != DESCRIPTION) {
            if let Some((other, _)) = files.insert(file.0, (dir.clone(), file)) {
                let cause = format!("{dir}/{} is in {other} as well", file.0);
                return Err(Failure::new(Kind::Config, cause, "keep one of the two"));
            }
        }
        if files.len() == before {
            let cause = format!("variant {} is made with {dir}, which is empty", variant.name);
            return Err(Failure::new(Kind::Config, cause, "correct its variant.yaml"));
        }
    }
    Ok(files.into_values().map(|(_, file)| file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_is_there_whole_and_no_path_twice() {
        let variants = variants().unwrap();
        let names: Vec<&str> = variants.iter().map(|variant| variant.name).collect();
        assert_eq!(names, ["debian-container", "debian-virt", "nestos-container", "nestos-virt"]);
        for variant in &variants {
            let files = files_of(variant).unwrap();
            let has = |path: &str| files.iter().any(|(file, _, _)| *file == path);
            assert!(has("manifest.yaml") && has("image.yaml") && has("platforms.yaml"), "{variant:?}");
            assert!(!has(DESCRIPTION));
            assert!(files.iter().any(|(path, mode, _)| path.ends_with("module-setup.sh") && *mode == 0o755));
        }
    }

    #[test]
    fn every_shared_group_is_of_use_to_somebody() {
        let used: Vec<String> = variants().unwrap().into_iter().flat_map(|variant| variant.shared).collect();
        for (path, _, _) in files_below("variants/shared") {
            let group = path.split('/').next().unwrap();
            assert!(used.iter().any(|name| name == group), "nobody is made with shared/{group}");
        }
    }

    #[test]
    fn a_path_that_two_groups_have_is_refused() {
        let shared = ["debian".to_owned(), "openeuler".to_owned()].to_vec();
        let variant = Variant { name: "debian-container", summary: String::new(), shared };
        assert_eq!(
            files_of(&variant).unwrap_err().cause,
            "variants/shared/openeuler/manifests/bootable.yaml is in variants/shared/debian as well"
        );
        let variant = Variant { shared: vec!["none".to_owned()], ..variant };
        assert_eq!(
            files_of(&variant).unwrap_err().cause,
            "variant debian-container is made with variants/shared/none, which is empty"
        );
    }
}
