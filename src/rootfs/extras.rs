//! What a treefile adds without overlays: `units` enabled, `add-files` copied, executables made read-only.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::manifest::Manifest;
use crate::pipeline::{Digest, KeyHasher, sha256_file};

const WANTS: &str = "etc/systemd/system/multi-user.target.wants";

/// The files of `add-files`, read.
#[derive(Debug, Clone, Default)]
pub struct AddedFiles(Vec<AddedFile>);

#[derive(Debug, Clone)]
struct AddedFile {
    source: PathBuf,
    target: String,
    mode: u32,
    digest: Digest,
}

impl AddedFiles {
    /// Reads a manifest's; `client` is the client that updates machines, if it is there.
    pub fn read(manifest: &Manifest, client: Option<&Path>) -> Result<Self> {
        let client = manifest.add_client.iter().map(|(place, target)| match client {
            Some(file) => Ok((file.to_owned(), target.clone())),
            None => Err(place.failure(
                "the client that updates machines is not beside nosa",
                "build it by `make client`, or name its file in NOSA_CLIENT",
            )),
        });
        let client: Vec<_> = client.collect::<Result<_, Failure>>()?;
        let files = manifest.add_files.iter().chain(&client).map(|(source, target)| {
            let digest = sha256_file(source)?;
            let meta = std::fs::metadata(source).with_context(|| format!("reading {}", source.display()))?;
            let mode = if meta.permissions().mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            Ok(AddedFile { source: source.clone(), target: target.clone(), mode, digest })
        });
        files.collect::<Result<_>>().map(Self)
    }

    pub(super) fn key(&self, hash: &mut KeyHasher) {
        for file in &self.0 {
            hash.file(format!("add-files: {}", file.target), file.mode, file.digest);
        }
    }

    /// Where they go.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|file| Path::new(file.target.trim_start_matches('/')))
    }

    /// Copies them into a tree.
    pub(super) fn copy(&self, tree: &Path) -> Result<()> {
        for AddedFile { source, target, mode, .. } in &self.0 {
            let parent = Path::new(target).parent().unwrap_or(Path::new(""));
            directories(tree, parent)?;
            let bytes = fs::read(source)?;
            fs::write_inside(tree, target, bytes)?;
            let place = fs::inside(tree, Path::new(target))?;
            std::fs::set_permissions(&place, std::fs::Permissions::from_mode(*mode))
                .with_context(|| format!("setting the mode of {}", place.display()))?;
        }
        Ok(())
    }
}

/// Makes a directory and its parents, its links resolved inside the tree.
fn directories(tree: &Path, path: &Path) -> Result<()> {
    let mut dir = PathBuf::new();
    for part in path.components() {
        dir.push(part);
        fs::create_dir_all(&fs::inside(tree, &dir)?)?;
    }
    Ok(())
}

/// Enables the units that the treefile names.
pub(super) fn enable(tree: &Path, manifest: &Manifest) -> Result<()> {
    for unit in &manifest.units {
        // An instance, getty@tty1.service, comes of its template, getty@.service.
        let name = unit_file(unit);
        let file = format!("usr/lib/systemd/system/{name}");
        let there = [file.as_str(), &format!("etc/systemd/system/{name}")]
            .iter()
            .any(|path| fs::inside(tree, Path::new(path)).is_ok_and(|place| place.is_file()));
        if !there {
            let cause = format!("units: {unit} is not among the tree's systemd units");
            return Err(Failure::new(Kind::Config, cause, "add the package or overlay that has it").into());
        }
        directories(tree, Path::new(WANTS))?;
        let link = fs::inside(tree, Path::new(&format!("{WANTS}/{unit}")))?;
        fs::symlink_atomic(Path::new(&format!("/{file}")), &link)?;
    }
    Ok(())
}

/// The file that a unit is in (systemd.unit(5)).
fn unit_file(unit: &str) -> String {
    match unit.split_once('@').zip(unit.rsplit_once('.')) {
        Some(((name, instance), (_, kind))) if !instance.starts_with('.') => format!("{name}@.{kind}"),
        _ => unit.to_owned(),
    }
}

/// Takes the write permission from every executable in /usr.
pub(super) fn seal_executables(dir: &Path) -> Result<()> {
    for path in fs::read_dir_sorted(dir)? {
        let meta = std::fs::symlink_metadata(&path).with_context(|| format!("reading {}", path.display()))?;
        let mode = meta.permissions().mode();
        if meta.is_dir() {
            seal_executables(&path)?;
        } else if meta.is_file() && mode & 0o111 != 0 && mode & 0o222 != 0 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & !0o222))
                .with_context(|| format!("setting the mode of {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_in_its_templates_file() {
        assert_eq!(unit_file("getty@tty1.service"), "getty@.service");
        assert_eq!(unit_file("getty@.service"), "getty@.service");
        assert_eq!(unit_file("a.b.timer"), "a.b.timer");
    }

    #[test]
    fn the_mode_of_an_added_file_counts() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("f");
        std::fs::write(&source, "x").unwrap();
        let key = |mode| {
            let digest = Digest::of("x");
            let mut hash = KeyHasher::default();
            AddedFiles(vec![AddedFile { source: source.clone(), target: "etc/f".into(), mode, digest }])
                .key(&mut hash);
            hash.digest()
        };
        assert_ne!(key(0o644), key(0o755));
    }
}
