//! Publishing interrupted after every step: the old build stays whole, the new one is whole or absent.

use std::fs as raw;

use super::super::build::Build;
use super::super::fixture::{assert_whole, meta, stage, workdir};
use super::super::meta::Artifact;
use super::*;
use crate::failure::classify;

const STEPS: &[Step] =
    &[Step::Written, Step::Announced, Step::Moved, Step::Listed, Step::Linked, Step::Finished];

/// Publishes, stopping dead after `stop`.
fn publish_until(workdir: &Workdir, lock: &BuildLock, id: &str, stop: Step) -> Result<Build> {
    let mut hook = |step| if step == stop { anyhow::bail!("killed") } else { Ok(()) };
    stage(workdir, lock, id).publish_stepwise(&meta(id).to_json()?, 0, &mut hook)
}

/// The names below `builds`, sorted.
fn names(workdir: &Workdir) -> Vec<String> {
    fs::read_dir_sorted(&workdir.builds_dir()).unwrap().iter().filter_map(|path| name_of(path)).collect()
}

#[test]
fn a_published_build_is_listed_linked_and_readable() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
    assert_eq!((build.id(), build.arch()), ("1.0", "x86_64"));
    assert_whole(&workdir, "1.0");
    assert_eq!(names(&workdir), ["1.0", "builds.json", "latest"]);
    assert_eq!(raw::read_link(workdir.builds_dir().join("latest")).unwrap(), Path::new("1.0"));
    assert_eq!(
        raw::read_to_string(workdir.builds_dir().join("builds.json")).unwrap(),
        "{\n    \"schema-version\": \"1.0.0\",\n    \"builds\": [\n        {\n            \"id\": \"1.0\",\n            \
         \"arches\": [\n                \"x86_64\"\n            ]\n        }\n    ],\n    \
         \"timestamp\": \"1970-01-01T00:00:00Z\"\n}\n"
    );
    assert_eq!(workdir.recover(&lock).unwrap(), Recovery::default());
}

#[test]
fn killed_after_any_step_old_is_whole_and_new_is_whole_or_absent() {
    for &stop in STEPS {
        for first in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let workdir = workdir(dir.path());
            let lock = workdir.lock("test").unwrap();
            if !first {
                stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
            }
            publish_until(&workdir, &lock, "1.1", stop).unwrap_err();
            workdir.recover(&lock).unwrap();

            let listed = matches!(stop, Step::Listed | Step::Linked | Step::Finished);
            let latest = raw::read_link(workdir.builds_dir().join("latest")).ok();
            let mut expected: Vec<&str> = Vec::new();
            if !first {
                assert_whole(&workdir, "1.0");
                expected.push("1.0");
            }
            if listed {
                assert_whole(&workdir, "1.1");
                assert_eq!(latest.as_deref(), Some(Path::new("1.1")), "{stop:?}");
                expected.push("1.1");
            } else {
                assert!(workdir.build("1.1", "x86_64").is_err());
                assert_eq!(latest.as_deref(), (!first).then_some(Path::new("1.0")), "{stop:?}");
            }
            if !expected.is_empty() {
                expected.extend(["builds.json", "latest"]);
            }
            assert_eq!(names(&workdir), expected, "{stop:?}, first: {first}");

            let next = if listed { "1.2" } else { "1.1" };
            stage(&workdir, &lock, next).publish(&meta(next), 0).unwrap();
            assert_whole(&workdir, next);
        }
    }
}

#[test]
fn another_architecture_of_an_interrupted_build_survives() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    let staging = workdir.stage(&lock, "1.0", "aarch64").unwrap();
    raw::write(staging.path().join("os.ociarchive"), "1.0").unwrap();
    staging.publish(&meta("1.0"), 0).unwrap();
    publish_until(&workdir, &lock, "1.0", Step::Moved).unwrap_err();
    let recovery = workdir.recover(&lock).unwrap();
    assert_eq!(recovery.removed, [workdir.builds_dir().join("1.0/x86_64")]);
    assert!(workdir.build("1.0", "aarch64").unwrap().meta().is_ok());
    let failure = classify(&workdir.build("1.0", "x86_64").unwrap_err());
    assert_eq!(failure.cause, "build 1.0 exists for aarch64, not for x86_64");
}

#[test]
fn an_abandoned_build_leaves_nothing_and_an_invalid_one_is_not_published() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    drop(stage(&workdir, &lock, "1.0"));
    let failure = classify(&stage(&workdir, &lock, "1.0").publish(&Meta::default(), 0).unwrap_err());
    assert_eq!(failure.kind, Kind::Artifact);
    assert!(
        failure.cause.starts_with("meta.json would not follow the schema: lacks `ostree-content-checksum`")
    );
    assert_eq!(names(&workdir), [""; 0]);
}

#[test]
fn what_somebody_put_there_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
    let stray = workdir.builds_dir().join("0.9/x86_64");
    raw::create_dir_all(&stray).unwrap();
    raw::write(stray.join("meta.json"), "{}").unwrap();
    // coreos-assembler leaves this file empty.
    raw::write(workdir.builds_dir().join(JOURNAL), "").unwrap();
    let recovery = workdir.recover(&lock).unwrap();
    assert_eq!(recovery, Recovery { unlisted: vec![stray.clone()], ..Recovery::default() });
    let failure = classify(&workdir.stage(&lock, "0.9", "x86_64").unwrap_err());
    assert_eq!(failure.cause, format!("{} exists, though builds.json does not list it", stray.display()));
    let failure = classify(&workdir.stage(&lock, "1.0", "x86_64").unwrap_err());
    assert_eq!(failure.cause, "build 1.0 for x86_64 exists already");
    raw::remove_file(workdir.builds_dir().join("builds.json")).unwrap();
    let failure = classify(&workdir.recover(&lock).unwrap_err());
    assert!(failure.cause.ends_with("builds.json is missing, though there are builds"), "{}", failure.cause);
    assert!(workdir.builds_dir().join("1.0/x86_64/meta.json").exists());
}

/// The artifact `qemu` with this content, as a source file and its entry.
fn disk(dir: &Path, text: &str) -> (PathBuf, Artifact) {
    let source = dir.join(format!("source-{text}"));
    raw::write(&source, text).unwrap();
    (source, Artifact { path: "os.qcow2".to_owned(), sha256: format!("{text:0>64}"), ..Artifact::default() })
}

#[test]
fn an_added_artifact_is_old_new_or_absent_after_any_step() {
    for stop in ["written", "unlisted", "moved", "listed", "never"] {
        for replacing in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let workdir = workdir(&dir.path().join("w"));
            let lock = workdir.lock("test").unwrap();
            let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
            if replacing {
                let (source, artifact) = disk(dir.path(), "old");
                build.add_artifact(&lock, "qemu", &source, &artifact, 1).unwrap();
            }
            let (source, artifact) = disk(dir.path(), "new");
            let mut hook = |step: &str| if step == stop { anyhow::bail!("killed") } else { Ok(()) };
            let result = build.add_artifact_stepwise(&lock, "qemu", &source, &artifact, 2, &mut hook);
            assert_eq!(result.is_ok(), stop == "never" || (stop == "unlisted" && !replacing));
            workdir.recover(&lock).unwrap();
            assert_whole(&workdir, "1.0");
            assert!(!build.dir().join(".os.qcow2.new").exists());
            if let Ok((path, artifact)) = build.artifact("qemu") {
                let text = raw::read_to_string(path).unwrap();
                assert_eq!(artifact.sha256, format!("{text:0>64}"), "{stop}, replacing: {replacing}");
            }
            build.add_artifact(&lock, "qemu", &source, &artifact, 3).unwrap();
            let (path, _) = build.artifact("qemu").unwrap();
            assert_eq!(raw::read_to_string(&path).unwrap(), "new");
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(raw::metadata(&path).unwrap().permissions().mode() & 0o222, 0);
        }
    }
}

#[test]
fn a_switched_artifact_is_the_old_one_or_the_new_one_after_any_step() {
    for stop in ["announced", "moved", "listed", "finished", "never"] {
        let dir = tempfile::tempdir().unwrap();
        let workdir = workdir(&dir.path().join("w"));
        let lock = workdir.lock("test").unwrap();
        let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
        let (source, old) = disk(dir.path(), "old");
        build.add_artifact(&lock, "qemu", &source, &old, 1).unwrap();
        let new = Artifact { path: "os.qcow2.gz".to_owned(), sha256: "f".repeat(64), ..old.clone() };
        raw::write(build.beside(&new.path).unwrap(), "new").unwrap();
        let mut hook = |step: &str| if step == stop { anyhow::bail!("killed") } else { Ok(()) };
        let result = build.switch_artifact(&lock, "qemu", &new, 2, &mut hook);
        assert_eq!(result.is_ok(), stop == "never");
        // Even before anything is put right, what is listed is there.
        let (path, listed) = build.artifact("qemu").unwrap();
        let text = raw::read_to_string(path).unwrap();
        assert_eq!(text, if listed == new { "new" } else { "old" }, "{stop}");
        assert_eq!(listed == old, ["announced", "moved"].contains(&stop), "{stop}");
        workdir.recover(&lock).unwrap();
        let other = if listed == new { &old.path } else { &new.path };
        assert!(!build.dir().join(other).exists(), "{stop}");
        let hidden = |path: &PathBuf| name_of(path).unwrap().starts_with('.');
        assert!(!fs::read_dir_sorted(build.dir()).unwrap().iter().any(hidden), "{stop}");
        assert_eq!(build.artifact("qemu").unwrap().1, listed);
    }
}

#[test]
fn an_artifact_takes_no_place_but_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(&dir.path().join("w"));
    let lock = workdir.lock("test").unwrap();
    let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
    let victim = dir.path().join("victim.switch");
    raw::write(&victim, "precious").unwrap();
    let (source, disk) = disk(dir.path(), "new");
    let at = |path: &str| Artifact { path: path.to_owned(), ..disk.clone() };
    for (name, path, cause) in [
        ("/../../../../victim", "new", "`/../../../../victim` cannot name an artifact"),
        ("Qemu", "new", "`Qemu` cannot name an artifact"),
        ("-", "new", "`-` cannot name an artifact"),
        ("qemu", "meta.json", "`meta.json` cannot name an artifact's file"),
        ("qemu", "meta.metal.json", "`meta.metal.json` cannot name an artifact's file"),
        ("qemu", "stages.json", "`stages.json` cannot name an artifact's file"),
        ("qemu", "a\nb", "`a\\nb` cannot name an artifact's file"),
        (
            "qemu",
            "os.ociarchive",
            "os.ociarchive of build 1.0 is the file of artifact `ostree`, not of `qemu`",
        ),
    ] {
        let added = build.add_artifact(&lock, name, &source, &at(path), 1).unwrap_err();
        raw::write(build.beside(path).unwrap(), "new").unwrap();
        let switched = build.switch_artifact(&lock, name, &at(path), 1, &mut |_| Ok(())).unwrap_err();
        assert_eq!((added.to_string().as_str(), switched.to_string().as_str()), (cause, cause));
    }
    workdir.recover(&lock).unwrap();
    assert_whole(&workdir, "1.0");
    assert_eq!(raw::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(fs::read_dir_sorted(build.dir()).unwrap().len(), 2, "meta.json and os.ociarchive");
}

#[test]
fn a_meta_json_that_changed_meanwhile_is_joined() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
    let merged = build
        .update(7, |meta| {
            meta.build_url = Some("mine".to_owned());
            // Somebody who knows no lock.
            let mut theirs = build.meta_json()?;
            theirs["summary"] = "theirs".into();
            theirs["coreos-assembler.meta-stamp"] = 5.into();
            json::write(&build.dir().join("meta.json"), &theirs)
        })
        .unwrap();
    assert_eq!((merged.summary.as_deref(), merged.build_url.as_deref()), (Some("theirs"), Some("mine")));
    assert_eq!(merged.meta_stamp, Some(7.into()));
}

#[test]
fn what_a_newer_program_wrote_stays_in_meta_json() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
    let mut value = build.meta_json().unwrap();
    value["future"] = 1.into();
    value["images"]["ostree"]["future"] = 2.into();
    json::write(&build.dir().join("meta.json"), &value).unwrap();
    let measured = |meta: &mut Meta| {
        meta.images.entry("ostree".to_owned()).or_default().size = Some(3);
        Ok(())
    };
    build.update(1, measured).unwrap();
    let value = build.meta_json().unwrap();
    assert_eq!((&value["future"], &value["images"]["ostree"]["future"]), (&1.into(), &2.into()));
    assert_eq!(value["images"]["ostree"]["size"], 3);
    let emptied = |meta: &mut Meta| {
        meta.summary = Some(String::new());
        Ok(())
    };
    let wrong = build.update(2, emptied).unwrap_err();
    assert!(wrong.to_string().ends_with("schema: /summary must have at least 1 characters"), "{wrong}");
}

#[test]
fn what_is_not_there_is_named_with_its_cure() {
    let dir = tempfile::tempdir().unwrap();
    let workdir = workdir(dir.path());
    let lock = workdir.lock("test").unwrap();
    let said = |result: Result<Build>| {
        let failure = classify(&result.unwrap_err());
        format!("{} | {}", failure.cause, failure.cure)
    };
    let builds = workdir.builds_dir();
    assert_eq!(
        said(workdir.build("latest", "x86_64")),
        format!("there is no build for x86_64 in {} | make one with `nosa build`", builds.display())
    );
    let build = stage(&workdir, &lock, "1.0").publish(&meta("1.0"), 0).unwrap();
    assert_eq!(
        said(workdir.build("2.0", "x86_64")),
        format!("there is no build 2.0 in {} | see `nosa list` for the builds there are", builds.display())
    );
    let failure = classify(&build.artifact("qemu").unwrap_err());
    assert_eq!(failure.cause, "build 1.0 has no artifact `qemu`; it has ostree");
    raw::remove_file(build.dir().join("os.ociarchive")).unwrap();
    let failure = classify(&build.artifact("ostree").unwrap_err());
    assert!(failure.cause.ends_with("os.ociarchive is missing, though meta.json lists it as `ostree`"));
}
