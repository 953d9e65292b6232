//! A workdir with small builds, for this room's tests.

use std::fs as raw;
use std::path::Path;

use super::build::Build;
use super::meta::{Artifact, Meta};
use super::publish::Staging;
use super::workdir::{BuildLock, ConfigSource, EmbeddedFile, Workdir};

pub(super) fn workdir(root: &Path) -> Workdir {
    let file = |path| EmbeddedFile { path, mode: 0o644, bytes: b"" };
    Workdir::init(root, false, None, ConfigSource::Embedded(&[file("manifest.yaml"), file("image.yaml")]))
        .unwrap()
}

pub(super) fn meta(id: &str) -> Meta {
    let artifact =
        Artifact { path: "os.ociarchive".to_owned(), sha256: "0".repeat(64), ..Artifact::default() };
    Meta {
        buildid: id.to_owned(),
        name: "os".to_owned(),
        ostree_version: id.to_owned(),
        ostree_commit: "c".repeat(64),
        ostree_content_checksum: Some("d".repeat(64)),
        rpm_ostree_inputhash: Some("e".repeat(64)),
        ostree_timestamp: "2020-01-15T19:31:31Z".to_owned(),
        images: [("ostree".to_owned(), artifact)].into(),
        ..Meta::default()
    }
}

pub(super) fn stage<'w>(workdir: &'w Workdir, lock: &BuildLock, id: &str) -> Staging<'w> {
    let staging = workdir.stage(lock, id, "x86_64").unwrap();
    raw::write(staging.path().join("os.ociarchive"), id).unwrap();
    staging
}

pub(super) fn assert_whole(workdir: &Workdir, id: &str) {
    let build = workdir.build(id, "x86_64").unwrap();
    assert_eq!(build.meta().unwrap().buildid, id);
    let (path, _) = build.artifact("ostree").unwrap();
    assert_eq!(raw::read_to_string(path).unwrap(), id);
}

pub(super) fn publish(workdir: &Workdir, lock: &BuildLock, id: &str) -> Build {
    stage(workdir, lock, id).publish(&meta(id), 0).unwrap()
}
