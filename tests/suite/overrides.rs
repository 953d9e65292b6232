//! `overrides/`: packages and files of a developer's own in a build, which says so.

use std::fs;

use serde_json::Value;

use crate::conformance::Format as _;
use crate::conformance::deb::Debs;
use crate::conformance::package::Made;
use crate::fixture::{Work, latest, shared};

#[test]
fn a_package_and_a_file_stand_in_and_the_build_says_so() {
    let Some(shared) = shared() else { return };
    let work = Work::with_history(&shared);
    let (debs, rootfs) = (work.dir.join("overrides/deb"), work.dir.join("overrides/rootfs/etc"));
    fs::create_dir_all(&debs).unwrap();
    fs::create_dir_all(&rootfs).unwrap();
    let mut nano =
        Made::new("nano", "99.0").file("/usr/bin/nano", "#!/bin/sh\necho mine\n").with(0o755, ("root", 0));
    nano.depends.clear();
    Debs::write(&debs, &nano);
    let mut unwanted = Made::new("nobody-asks", "1.0").file("/usr/share/nobody", "n");
    unwanted.depends.clear();
    Debs::write(&debs, &unwanted);
    fs::write(rootfs.join("locale.conf"), "LANG=mine\n").unwrap();

    // A lock is for everybody: it holds what the repositories have.
    let said = work.ok(&["fetch", "--update-lockfile"]);
    assert!(said.contains("overrides/ is left out"), "{said}");
    let file = work.config("manifest-lock.x86_64.json");
    assert!(!fs::read_to_string(&file).unwrap().contains("99.0-1"));
    fs::remove_file(file).unwrap();

    let said = work.ok(&["build", "ostree"]);
    let active = "OVERRIDES are active, and the build is not what its configuration says: \
                  nano_99.0-1_amd64.deb, nobody-asks_1.0-1_amd64.deb, 1 files in overrides/rootfs";
    assert!(said.contains(active), "{said}");
    assert!(
        said.contains("override nobody-asks_1.0-1_amd64.deb is not used: no package asks for it"),
        "{said}"
    );
    let (build, meta) = latest(&work.dir);
    assert_eq!(meta["coreos-assembler.overrides-active"], true);
    let lock = fs::read_to_string(build.join("manifest-lock.generated.x86_64.json")).unwrap();
    let lock: Value = serde_json::from_str(&lock).unwrap();
    assert_eq!(lock["packages"]["nano"]["evra"], "99.0-1.amd64");
    assert!(work.ok(&["list"]).contains("OVERRIDES"));
    let why = work.ok(&["why"]);
    assert!(why.contains("override: nano_99.0-1_amd64.deb"), "{why}");
    let tree = fs::read_dir(work.dir.join("cache/stages/compose"))
        .unwrap()
        .map(|entry| entry.unwrap().path().join("out/tree"));
    let mine = tree.filter(|tree| {
        fs::read(tree.join("usr/bin/nano")).is_ok_and(|text| text.starts_with(b"#!/bin/sh\necho mine"))
    });
    // The cache is shared with other tests, and with earlier runs of this one.
    let locales: Vec<String> =
        mine.map(|tree| fs::read_to_string(tree.join("usr/etc/locale.conf")).unwrap()).collect();
    assert!(locales.iter().any(|text| text == "LANG=mine\n"), "{locales:?}");

    // Without them it is another build, and says nothing of the kind.
    fs::remove_dir_all(work.dir.join("overrides")).unwrap();
    let said = work.ok(&["build", "ostree"]);
    assert!(!said.contains("OVERRIDES"), "{said}");
    assert_eq!(latest(&work.dir).1["coreos-assembler.overrides-active"], Value::Null);
}

#[test]
fn what_is_no_package_is_refused() {
    let Some(shared) = shared() else { return };
    for (path, words) in [
        ("deb/x.deb", &["overrides/deb/x.deb: cannot be read as a package"][..]),
        ("deb/notes.txt", &["overrides/deb/notes.txt is no deb package", "*.deb files"]),
        ("rpm/x.rpm", &["overrides/rpm/x.rpm is no deb package", "and this configuration is made of those"]),
    ] {
        let work = Work::new(&shared);
        let path = work.dir.join("overrides").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        work.fails(&["build"], 3, words);
    }
}
