//! rpm's database: where it lies (/usr/share/rpm, as rpm-ostree has it), the macros that say so, who owns
//! which path, and the form in which it can be shipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::failure::{Failure, Kind};
use crate::host::{Cmd, fs, tool};

/// The database's directory in a tree.
pub(super) const PATH: &str = "/usr/share/rpm";

/// Writes a home directory with rpm's macros: Debian's rpm takes its database's place from there.
pub(super) fn write_home(home: &Path, languages: Option<&[String]>) -> Result<()> {
    fs::create_dir_all(home)?;
    let mut macros = format!(
        "%_dbpath {PATH}\n%_db_backend sqlite\n%_netsharedpath /proc:/sys:/dev:/run:/tmp\n\
         %_pkgverify_level digest\n"
    );
    if let Some(languages) = languages {
        macros.push_str(&format!("%_install_langs {}\n", languages.join(":")));
    }
    fs::write(&home.join(".rpmmacros"), macros)
}

/// Which package each path belongs to.
pub(super) fn owners(tree: &Path) -> Result<BTreeMap<String, String>> {
    let file = database(tree)?;
    let home = tempfile::tempdir().context("making a home for rpm")?;
    let printed = Cmd::new(&tool::RPM)
        .args([
            "--noplugins",
            "--query",
            "--all",
            "--queryformat",
            "[%{FILENAMES}\\t%{=NAME}\\n]",
            "--dbpath",
        ])
        .arg(file.parent().unwrap_or(Path::new("/")))
        .env("HOME", home.path())
        .output()
        .context("listing the packages' files")?
        .text();
    let owner = |line: &str| line.split_once('\t').map(|(path, name)| (path.to_owned(), name.to_owned()));
    let mut owners = BTreeMap::new();
    for (path, name) in printed.lines().filter_map(owner) {
        // Directories have many owners: the first by name, whatever the order of installation.
        let place = owners.entry(path).or_insert_with(|| name.clone());
        if name < *place {
            *place = name;
        }
    }
    Ok(owners)
}

/// The database's file. Scriptlets have run: it must be a file of the tree, whatever links there are.
fn database(tree: &Path) -> Result<PathBuf> {
    let file = fs::inside(tree, &Path::new(PATH).join("rpmdb.sqlite"))?;
    if std::fs::symlink_metadata(&file).is_ok_and(|meta| meta.is_file()) {
        return Ok(file);
    }
    let cause = format!("{PATH}/rpmdb.sqlite is gone from the tree, or is no file");
    Err(Failure::new(Kind::Build, cause, "find the scriptlet that moves rpm's database").into())
}

/// Gives the database the form in which it is shipped: one file without a write-ahead log, which rpm can
/// read on a read-only /usr, and says to the system's own rpm where it is.
pub(super) fn settle(tree: &Path) -> Result<()> {
    let file = database(tree)?;
    let dir = file.parent().unwrap_or(Path::new("/"));
    Cmd::new(&tool::SQLITE3)
        .arg(&file)
        .arg("PRAGMA journal_mode=DELETE; VACUUM;")
        .output()
        .with_context(|| format!("settling {}", file.display()))?;
    for name in [".rpm.lock", "rpmdb.sqlite-wal", "rpmdb.sqlite-shm"] {
        fs::remove_file_if_exists(&dir.join(name))?;
    }
    link(tree, "usr/lib/sysimage/rpm", "../../share/rpm")?;
    link(tree, "var/lib/rpm", "../../usr/share/rpm")?;
    fs::create_dir_all(&fs::inside(tree, Path::new("usr/lib/rpm"))?)?;
    fs::create_dir_all(&fs::inside(tree, Path::new("usr/lib/rpm/macros.d"))?)?;
    let macros = format!("# The database is part of the image (nosa).\n%_dbpath {PATH}\n");
    fs::write_inside(tree, "usr/lib/rpm/macros.d/macros.nosa", macros)
}

/// Puts a link where the database used to be.
fn link(tree: &Path, path: &str, target: &str) -> Result<()> {
    let parent = Path::new(path).parent().unwrap_or(Path::new(""));
    fs::create_dir_all(&fs::inside(tree, parent)?)?;
    let place = fs::inside(tree, Path::new(path))?;
    fs::remove_tree(&place)?;
    fs::symlink_atomic(Path::new(target), &place)
}
