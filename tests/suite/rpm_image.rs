//! RPM systems as images from elsewhere: which packages they have is read from a database that nobody believes.

use std::fs;
use std::path::{Path, PathBuf};

use nosa::builds::CommitMeta;
use nosa::host::Cmd;
use serde_json::{Value, json};
use tar::EntryType;

use super::crafted::{Crafted, Tar};
use super::fixture::{latest, nosa, said};
use super::judge::judge;

/// A working directory, and a directory for images.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        place.ok(&["init"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ok(&self, args: &[&str]) -> String {
        let call = Cmd::program(nosa()).arg("-C").arg(self.path("w").as_os_str()).args(args);
        let (code, text) = said(call.env("NOSA_CACHE", self.path("downloads").as_os_str()));
        assert_eq!(code, 0, "nosa {args:?}:\n{text}");
        text
    }

    /// Imports a system with these more in one layer; what nosa said, and the build's commitmeta.json.
    fn import(&self, version: &str, more: impl FnOnce(Tar) -> Tar) -> (String, Value) {
        let image = Crafted::new(vec![more(Tar::default().system()).layer()]);
        let text = self.ok(&["import", "--version", version, &image.write(&self.path(version))]);
        let path = latest(&self.path("w")).0.join("commitmeta.json");
        (text, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    }
}

/// The files of a database that rpm made of packages without files.
fn database(dir: &Path, packages: &[(&str, u32, &str)]) -> Vec<u8> {
    fs::create_dir_all(dir).unwrap();
    let files = packages.iter().map(|(name, epoch, version)| {
        let mut builder = rpm::PackageBuilder::new(name, version, "MIT", "noarch", "a test");
        builder.epoch(*epoch).release("1").using_config(rpm::BuildConfig::v4());
        let path = dir.join(format!("{name}.rpm"));
        builder.build().unwrap().write_file(&path).unwrap();
        path
    });
    let rpm =
        Cmd::program("rpm").args(["--noplugins", "--define", "_db_backend sqlite", "--dbpath"]).arg(dir);
    let options = ["--install", "--justdb", "--nodeps", "--nosignature"];
    rpm.args(options).args(files).env("HOME", dir).run().unwrap();
    fs::read(dir.join("rpmdb.sqlite")).unwrap()
}

fn file(tar: Tar, path: &str, bytes: &[u8]) -> Tar {
    tar.raw(path, EntryType::Regular, 0o644, "", bytes)
}

#[test]
fn an_rpm_systems_packages_are_known_and_compared() {
    if judge("rpm").is_none() {
        return;
    }
    let place = Place::new();
    let (one, two) = (place.path("one"), place.path("two"));
    let bytes = database(&one, &[("lib", 0, "1.9"), ("app", 2, "1~rc1"), ("old", 0, "7")]);
    let (told, meta) = place.import("1", |tar| file(tar, "usr/share/rpm/rpmdb.sqlite", &bytes));
    assert!(!told.contains("warning: the image's packages"), "{told}");
    let expected = json!([
        ["app", "2", "1~rc1", "1", "noarch"],
        ["lib", "0", "1.9", "1", "noarch"],
        ["old", "0", "7", "1", "noarch"],
    ]);
    assert_eq!(meta["rpmostree.rpmdb.pkglist"], expected);
    // The commit itself follows from the image alone, not from this host's rpm.
    let repo = nosa::ostree::Repo::open(&place.path("w/cache/repo")).unwrap();
    let commit = latest(&place.path("w")).1["ostree-commit"].as_str().unwrap().parse().unwrap();
    let object = repo.commit_object(commit).unwrap().metadata.to_json();
    assert!(object.get("rpmostree.rpmdb.pkglist").is_none(), "{object}");

    // What the last transaction did is in the log beside the database only.
    let bytes = database(&two, &[("lib", 0, "1.10"), ("app", 2, "1~rc1"), ("old", 0, "7")]);
    let removal = "PRAGMA journal_mode=WAL; DELETE FROM Packages WHERE hnum = \
                   (SELECT hnum FROM Name WHERE key = 'old');";
    let sqlite = Cmd::program("sqlite3").arg(two.join("rpmdb.sqlite"));
    sqlite.args([".dbconfig no_ckpt_on_close on", removal]).run().unwrap();
    let log = fs::read(two.join("rpmdb.sqlite-wal")).unwrap();
    assert!(!log.is_empty());
    let now = fs::read(two.join("rpmdb.sqlite")).unwrap();
    assert_eq!(now.len(), bytes.len());
    let (_, meta) = place.import("2", |tar| {
        let tar = file(tar, "usr/lib/sysimage/rpm/rpmdb.sqlite", &now);
        file(tar, "usr/lib/sysimage/rpm/rpmdb.sqlite-wal", &log)
    });
    assert_eq!(CommitMeta::from_json(&meta).unwrap().packages.len(), 2);
    let diff = place.ok(&["--json", "--quiet", "diff", "--from", "1", "--to", "2"]);
    let diff: Value = serde_json::from_str(&diff).unwrap();
    let change = |name: &str, change: &str, from: Value, to: Value| json!({"name": name, "arch": "noarch", "change": change, "from": from, "to": to});
    let expected = [
        change("lib", "upgraded", "1.9-1".into(), "1.10-1".into()),
        change("old", "removed", "7-1".into(), Value::Null),
    ];
    assert_eq!(diff["packages"]["changes"], json!(expected));
}

#[test]
fn a_database_that_lies_is_told_and_the_image_imported() {
    if judge("rpm").is_none() {
        return;
    }
    let place = Place::new();
    let none = |meta: &Value| assert!(meta.get("rpmostree.rpmdb.pkglist").is_none(), "{meta}");
    let warning = "warning: the image's packages are not known";
    let (told, meta) = place.import("1", |tar| file(tar, "usr/share/rpm/rpmdb.sqlite", b"no database"));
    assert!(told.contains(warning), "{told}");
    none(&meta);
    // A link is not followed, and without a database there is nothing to say.
    let (told, meta) = place.import("2", |tar| {
        tar.dir("usr/share/rpm/").symlink("usr/share/rpm/rpmdb.sqlite", "../../../etc/os-release")
    });
    assert!(!told.contains(warning), "{told}");
    none(&meta);
    // rpm passes over a package that was changed by hand: the list would be short of it.
    let mut bytes = database(&place.path("changed"), &[("application", 0, "1"), ("library", 0, "1")]);
    let name = b"application\0";
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at..at + 4].copy_from_slice(b"\x1b[2J"));
    let (told, meta) = place.import("3", |tar| file(tar, "usr/share/rpm/rpmdb.sqlite", &bytes));
    assert!(told.contains(warning) && told.contains("skipping") && !told.contains('\u{1b}'), "{told}");
    none(&meta);
}
