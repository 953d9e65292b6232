//! A build context as the tar archive that a builder takes: the directory's files but for those that its ignore
//! file names, all owned by root, and the Containerfile.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use tar::{Builder, EntryType, Header, HeaderMode};

use super::ignore::Ignore;
use crate::failure::{Failure, Kind};
use crate::host::fs;

/// Where a Containerfile goes that is not in the context.
const FOREIGN: &str = ".nosa.Containerfile";
/// What a Containerfile is called where none was named.
const USUAL: &[&str] = &["Containerfile", "Dockerfile"];

/// A context that was packed.
#[derive(Debug)]
pub(super) struct Packed {
    /// The archive.
    pub(super) file: PathBuf,
    /// The Containerfile's path within.
    pub(super) containerfile: String,
}

/// The Containerfile: the one that was named, else the context's.
pub(super) fn containerfile(named: Option<&Path>, context: &Path) -> Result<PathBuf> {
    let candidates: Vec<PathBuf> = match named {
        Some(named) => vec![named.to_owned()],
        None => USUAL.iter().map(|name| context.join(name)).collect(),
    };
    match candidates.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => {
            let looked: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
            let cause = format!("there is no Containerfile: {} is not a file", looked.join(" or "));
            Err(Failure::new(Kind::Usage, cause, "name one with -f FILE").into())
        }
    }
}

/// Packs `context` into `target`.
pub(super) fn pack(context: &Path, containerfile: &Path, target: &Path) -> Result<Packed> {
    if !context.is_dir() {
        let cause = format!("the context {} is not a directory", context.display());
        return Err(Failure::new(Kind::Usage, cause, "name the directory that COPY copies from").into());
    }
    let text = fs::read(containerfile)?;
    let real = |path: &Path| path.canonicalize().with_context(|| format!("finding {}", path.display()));
    let (root, file) = (real(context)?, real(containerfile)?);
    let own = file.strip_prefix(&root).ok().and_then(Path::to_str).map(str::to_owned);
    let ignore = Ignore::of(&root)?;
    let mut tar = Builder::new(BufWriter::new(fs::create(target)?));
    tar.mode(HeaderMode::Complete);
    tar.follow_symlinks(false);
    add(&mut tar, &root, "", &ignore)?;
    // Last, so that it is there even if the ignore file names it.
    let name = own.unwrap_or_else(|| FOREIGN.to_owned());
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, &name, text.as_slice()).context("packing the Containerfile")?;
    tar.into_inner().and_then(|mut out| out.flush()).context("packing the context")?;
    Ok(Packed { file: target.to_owned(), containerfile: name })
}

fn add(tar: &mut Builder<impl Write>, root: &Path, dir: &str, ignore: &Ignore) -> Result<()> {
    for path in fs::read_dir_sorted(&root.join(dir))? {
        let packing = || format!("packing {}", path.display());
        let name = path.file_name().unwrap_or_default().to_str();
        let name = name.with_context(|| format!("packing {}: its name is not UTF-8", path.display()))?;
        let name = if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") };
        let out = ignore.leaves_out(&name);
        let metadata = path.symlink_metadata().with_context(packing)?;
        if metadata.is_dir() {
            if !out {
                append(tar, &path, &name, &metadata).with_context(packing)?;
            }
            if !out || ignore.brings_back() {
                add(tar, root, &name, ignore)?;
            }
        } else if !out {
            append(tar, &path, &name, &metadata).with_context(packing)?;
        }
    }
    Ok(())
}

fn append(
    tar: &mut Builder<impl Write>,
    path: &Path,
    name: &str,
    metadata: &std::fs::Metadata,
) -> Result<()> {
    let mut header = Header::new_gnu();
    header.set_metadata_in_mode(metadata, HeaderMode::Complete);
    // Whoever builds, the image's files are root's.
    header.set_uid(0);
    header.set_gid(0);
    if metadata.is_symlink() {
        let target = std::fs::read_link(path)?;
        header.set_size(0);
        tar.append_link(&mut header, name, target)?;
    } else if metadata.is_dir() {
        header.set_size(0);
        tar.append_data(&mut header, format!("{name}/"), std::io::empty())?;
    } else if metadata.is_file() {
        tar.append_data(&mut header, name, fs::open(path)?)?;
    }
    // Sockets and pipes mean nothing elsewhere.
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_has_what_is_not_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let context = dir.path().join("c");
        std::fs::create_dir_all(context.join("target/keep")).unwrap();
        for (path, text) in [
            ("a", "1"),
            ("target/b", "2"),
            ("target/keep/c", "3"),
            (".containerignore", "target\n!target/keep/c\nContainerfile\n"),
            ("Containerfile", "FROM scratch\n"),
        ] {
            std::fs::write(context.join(path), text).unwrap();
        }
        std::os::unix::fs::symlink("a", context.join("link")).unwrap();
        let names = |containerfile: &Path| {
            let packed = pack(&context, containerfile, &dir.path().join("t.tar")).unwrap();
            let mut archive = tar::Archive::new(std::fs::File::open(&packed.file).unwrap());
            let entries = archive.entries().unwrap();
            let names: Vec<String> = entries
                .map(|entry| {
                    let entry = entry.unwrap();
                    assert_eq!(entry.header().uid().unwrap(), 0);
                    entry.path().unwrap().display().to_string()
                })
                .collect();
            (names, packed.containerfile)
        };
        let (found, name) = names(&context.join("Containerfile"));
        assert_eq!(found, [".containerignore", "a", "link", "target/keep/c", "Containerfile"]);
        assert_eq!(name, "Containerfile");
        let other = dir.path().join("Other");
        std::fs::write(&other, "FROM scratch\n").unwrap();
        let (found, name) = names(&other);
        assert_eq!((found.last().unwrap().as_str(), name.as_str()), (FOREIGN, FOREIGN));
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = containerfile(None, dir.path()).unwrap_err().to_string();
        assert!(error.contains("Containerfile or ") && error.contains("Dockerfile is not a file"), "{error}");
        assert!(containerfile(Some(Path::new("/nowhere")), dir.path()).is_err());
    }
}
