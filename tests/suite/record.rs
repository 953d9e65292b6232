//! The record of builds by the real program: list, meta, tag, prune; what is wrong is told, and what two do at
//! once, or what is killed, is not lost.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::fixture::{Work, said, shared};
use crate::small::{Small, bytes};

#[test]
fn a_list_shows_tags_and_overrides() {
    let small = Small::new();
    small.publish("1.0", &[]);
    small.publish_with("1.1", &[("metal", "metal.x86_64.raw", b"disk")], |meta, _| {
        meta.overrides_active = Some(true);
    });
    small.ok(&["tag", "update", "--tag", "stable", "--build", "1.0"]);
    small.ok(&["tag", "update", "--tag", "good", "--build", "1.0"]);
    let text = small.ok(&["list"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("1.1 x86_64  OVERRIDES  2020-01-15T19:31:31Z  "), "{text}");
    assert!(lines[1].contains("metal") && lines[1].ends_with("os-1.1-metal.x86_64.raw"), "{text}");
    assert!(text.contains("\n1.0 x86_64  [stable, good]  2020"), "{text}");
    let listed = small.json(&["list"]);
    assert_eq!((&listed[0]["id"], &listed[0]["overrides"]), (&json!("1.1"), &json!(true)));
    assert_eq!(listed[1]["tags"], json!(["stable", "good"]));
    assert_eq!(listed[1]["meta"]["images"]["ostree"]["size"], 18);
    assert_eq!(small.ok(&["basearch"]), format!("{}\n", std::env::consts::ARCH));
}

#[test]
fn meta_reads_sets_and_validates() {
    let small = Small::new();
    small.publish("1.0", &[("metal", "metal.x86_64.raw", b"disk")]);
    let get = |key: &str| small.ok(&["meta", "--get-value", key]);
    assert_eq!(small.ok(&["meta", "--get", "images.metal.size"]), "images.metal.size: 4\n");
    small.ok(&["meta", "--set", "build-url=a=b", "--set", "summary=An OS"]);
    small.ok(&["meta", "--set-int", "coreos-assembler.image-genver=7"]);
    small.ok(&["meta", "--set-bool", "coreos-assembler.overrides-active=true", "--build", "1.0"]);
    assert_eq!((get("build-url"), get("summary")), ("a=b\n".to_owned(), "An OS\n".to_owned()));
    assert_eq!((get("coreos-assembler.image-genver").as_str(), get("name").as_str()), ("7\n", "os\n"));
    assert_eq!(small.meta("1.0")["coreos-assembler.overrides-active"], true);
    small.ok(&["meta", "--set-bool", "coreos-assembler.overrides-active", "--false"]);
    assert_eq!(get("coreos-assembler.overrides-active"), "false\n");
    let path = small.dir.join("builds/1.0/x86_64/os-1.0-metal.x86_64.raw");
    assert_eq!(small.ok(&["meta", "--image-path", "metal"]), format!("{}\n", path.display()));
    let dump: serde_json::Value = serde_json::from_str(&small.ok(&["meta", "--dump"])).unwrap();
    assert_eq!(dump, small.meta("1.0"));
    small.ok(&["meta", "--set", "future=1", "--skip-validation"]);
    assert_eq!(get("future"), "1\n");
}

#[test]
fn meta_refuses_what_makes_no_sense() {
    let small = Small::new();
    let builds = small.dir.join("builds");
    let builds = builds.display();
    small.fails(
        &["meta", "--dump"],
        12,
        &format!("there is no build for x86_64 in {builds}"),
        "make one with `nosa build`",
    );
    small.publish("1.0", &[]);
    let before = small.meta("1.0");
    let see = "see `nosa list` for the builds there are";
    small.fails(&["meta", "--dump", "--build", "9"], 12, &format!("there is no build 9 in {builds}"), see);
    small.fails(
        &["meta", "--dump", "--arch", "s390x", "--build", "1.0"],
        12,
        "build 1.0 exists for x86_64, not for s390x",
        see,
    );
    small.fails(
        &["meta", "--image-path", "qemu"],
        12,
        "build 1.0 has no artifact `qemu`; it has ostree",
        "make it with `nosa buildextend qemu`",
    );
    small.fails(
        &["meta", "--get", "images.qemu"],
        12,
        "meta.json has no key `images.qemu`",
        "`images` has ostree",
    );
    let path = format!("{builds}/1.0/x86_64/meta.json");
    small.fails(
        &["meta", "--set", "tpyo=1"],
        12,
        &format!("{path} would not follow the schema: /tpyo is not a key of meta.json"),
        "correct the values that were given",
    );
    small.fails(
        &["meta", "--set", "ostree-commit=abc"],
        2,
        "`ostree-commit` cannot be changed: it identifies the build",
        "leave it out, or name the build that it belongs to: --build ID",
    );
    small.fails(
        &["meta", "--set-int", "coreos-assembler.image-genver=x"],
        2,
        "`x` for `coreos-assembler.image-genver` is no whole number",
        "write KEY=NUMBER, or use --set for a text",
    );
    small.fails(
        &["meta", "--artifact-json", "/nowhere.json"],
        2,
        "there is no file /nowhere.json",
        "name a JSON file like meta.json",
    );
    small.refused(&["meta", "--set", "name"], 2, &["`name` sets nothing"]);
    small.refused(&["meta", "--get", "name", "--dump"], 2, &["cannot be used with"]);
    assert_eq!(small.meta("1.0"), before, "nothing was written");
}

#[test]
fn a_delayed_merge_is_folded_at_the_end() {
    let small = Small::new();
    small.publish_with("1.0", &[], |meta, _| meta.delayed_meta_merge = Some(true));
    let before = small.meta("1.0");
    let part = |name: &str| {
        let path = small.dir.join(format!("{name}.json"));
        let image = json!({"path": name, "sha256": "0".repeat(64)});
        fs::write(&path, json!({"images": {name: image}}).to_string()).unwrap();
        small.ok(&["meta", "--artifact", name, "--artifact-json", path.to_str().unwrap()]);
    };
    part("qemu");
    part("metal");
    assert_eq!(small.meta("1.0"), before, "only the parts were written");
    assert!(small.files("1.0").contains(&"meta.qemu.json".to_owned()));
    small.refused(&["build-validate"], 12, &["meta.json"]);
    small.ok(&["meta", "--finalize"]);
    let images = &small.meta("1.0")["images"];
    assert!(images["qemu"].is_object() && images["metal"].is_object() && images["ostree"].is_object());
    assert!(!small.files("1.0").iter().any(|name| name.starts_with("meta.") && name != "meta.json"));
    let foreign = small.dir.join("foreign.json");
    fs::write(&foreign, json!({"ostree-commit": "f".repeat(64)}).to_string()).unwrap();
    small.fails(
        &["meta", "--artifact-json", foreign.to_str().unwrap()],
        2,
        "`ostree-commit` cannot be changed: it identifies the build",
        "leave it out, or name the build that it belongs to: --build ID",
    );
}

#[test]
fn parts_of_one_artifact_are_joined() {
    let small = Small::new();
    small.publish_with("1.0", &[], |meta, _| meta.delayed_meta_merge = Some(true));
    let write = |name: &str, part: serde_json::Value| {
        let path = small.dir.join(name);
        fs::write(&path, part.to_string()).unwrap();
        small.ok(&["meta", "--artifact", "metal", "--artifact-json", path.to_str().unwrap()]);
    };
    let stamp = |name: &str| -> u64 {
        let text = fs::read_to_string(small.dir.join("builds/1.0/x86_64").join(name)).unwrap();
        let part: serde_json::Value = serde_json::from_str(&text).unwrap();
        part["coreos-assembler.meta-stamp"].as_u64().unwrap()
    };
    let image = json!({"path": "metal", "sha256": "0".repeat(64)});
    write("a.json", json!({"images": {"metal": image}, "summary": "first"}));
    let first = stamp("meta.metal.json");
    write("b.json", json!({"build-url": "b", "summary": "second"}));
    assert!(stamp("meta.metal.json") > first);
    // What came into meta.json itself since then is newer than the part's first keys.
    let path = small.dir.join("builds/1.0/x86_64/meta.json");
    let mut meta = small.meta("1.0");
    meta["summary"] = json!("third");
    meta["coreos-assembler.meta-stamp"] = json!(stamp("meta.metal.json") + 1);
    fs::write(&path, meta.to_string()).unwrap();
    write("c.json", json!({"s3": {"bucket": "c"}}));
    small.ok(&["meta", "--finalize"]);
    let meta = small.meta("1.0");
    assert_eq!((&meta["images"]["metal"], &meta["build-url"]), (&image, &json!("b")));
    assert_eq!((&meta["summary"], &meta["s3"]["bucket"]), (&json!("third"), &json!("c")));
}

/// Two rows of processes, each of which sets keys and tags of its own: in the end all are there.
#[test]
fn two_writers_at_once_lose_no_key_and_no_tag() {
    const EACH: usize = 40;
    let small = Small::new();
    small.publish("1.0", &[]);
    std::thread::scope(|scope| {
        for writer in ["a", "b", "c"] {
            let small = &small;
            scope.spawn(move || {
                for number in 0..EACH {
                    small.ok(&["meta", "-q", "--set", &format!("s3.{writer}-{number}=x")]);
                    if number % 4 == 0 {
                        small.ok(&["tag", "-q", "update", "--tag", &format!("{writer}-{number}")]);
                    }
                }
            });
        }
        // One that puts right what others left, and must not take their work for leftovers.
        scope.spawn(|| (0..EACH).for_each(|_| drop(small.ok(&["prune", "-q", "--keep-last-n", "0"]))));
    });
    assert_eq!(small.meta("1.0")["s3"].as_object().unwrap().len(), 3 * EACH);
    assert_eq!(small.workdir.index().unwrap().tags().len(), 3 * EACH / 4);
    small.assert_whole();
    assert_eq!(small.files("1.0").iter().filter(|name| name.contains("lock")).count(), 0);
}

#[test]
fn a_lock_of_coreos_assembler_is_respected() {
    let small = Small::new();
    small.publish("1.0", &[]);
    let lock = small.dir.join("builds/1.0/x86_64/.meta.json.lock");
    let held = nosa::host::LinkLock::exclusive(&lock, Duration::ZERO).unwrap().unwrap();
    let mut waiting = small.call(&["meta", "-q", "--set", "summary=late"]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(400));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    assert!(small.meta("1.0").get("summary").is_none());
    drop(held);
    assert!(waiting.wait().unwrap().success());
    assert_eq!(small.meta("1.0")["summary"], "late");
}

#[test]
fn tags_are_made_moved_listed_and_removed() {
    let small = Small::new();
    let builds = small.dir.join("builds").display().to_string();
    small.fails(
        &["tag", "update", "--tag", "a"],
        12,
        &format!("there is no build in {builds} to tag"),
        "make one with `nosa build`",
    );
    small.publish("1.0", &[]);
    small.publish("1.1", &[]);
    small.ok(&["tag", "update", "--tag", "stable", "--build", "1.0", "--description", "the good one"]);
    small.ok(&["tag", "update", "--tag", "stable", "--build", "1.0", "--description", "still"]);
    small.fails(
        &["tag", "update", "--tag", "stable"],
        12,
        "tag `stable` exists: it names build 1.0",
        "add --force to move it, or choose another name",
    );
    small.fails(
        &["tag", "update", "--tag", "x", "--build", "7"],
        12,
        &format!("there is no build 7 in {builds} to tag"),
        "see `nosa list` for the builds there are, or add --force",
    );
    small.fails(
        &["tag", "delete", "--tag", "x"],
        12,
        "there is no tag `x`",
        "see `nosa tag list` for the tags there are",
    );
    small.ok(&["tag", "update", "--tag", "future", "--build", "7", "--force"]);
    let tags = small.json(&["tag", "list"]);
    assert_eq!((&tags[0]["description"], &tags[1]["target"]), (&json!("still"), &json!("7")));
    assert!(small.ok(&["tag", "list"]).starts_with("stable  1.0  20"));
    small.ok(&["tag", "update", "--tag", "stable", "--force"]);
    assert_eq!(small.json(&["tag", "list"])[0]["target"], "1.1");
    small.ok(&["tag", "delete", "--tag", "future"]);
    small.ok(&["tag", "delete", "--all"]);
    assert_eq!(small.json(&["tag", "list"]), json!([]));
}

#[test]
fn pruning_keeps_the_newest_and_what_has_a_tag() {
    let small = Small::new();
    for id in ["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"] {
        small.publish(id, &[]);
    }
    small.ok(&["tag", "update", "--tag", "stable", "--build", "1.0"]);
    let builds = small.dir.join("builds").display().to_string();
    small.fails(
        &["prune", "--build", "1.0"],
        12,
        "build 1.0 is tagged stable",
        "keep it, or remove the tag first: `nosa tag delete --tag stable`",
    );
    small.fails(
        &["prune", "--build", "1.4", "--build", "9"],
        12,
        &format!("there is no build 9 in {builds}"),
        "see `nosa list` for the builds there are",
    );
    let said = small.ok(&["prune", "--dry-run"]);
    assert_eq!(said, "would remove build 1.2\nwould remove build 1.1\nkept build 1.0, which has a tag\n");
    assert_eq!(small.workdir.index().unwrap().builds().len(), 6);
    let pruned = small.json(&["prune"]);
    assert_eq!(pruned["builds"]["kept"], json!(["1.5", "1.4", "1.3", "1.0"]));
    small.assert_whole();
    small.ok(&["prune", "--build", "1.5"]);
    assert_eq!(fs::read_link(small.dir.join("builds/latest")).unwrap().to_str(), Some("1.4"));
    small.ok(&["prune", "--keep-last-n", "0"]);
    assert_eq!(small.workdir.index().unwrap().builds().len(), 3);
    small.assert_whole();
}

#[test]
fn pruning_beside_a_build_loses_nothing() {
    let small = Small::new();
    small.publish("1.0", &[]);
    let lock = small.workdir.lock("nosa build").unwrap();
    small.refused(&["prune", "--keep-last-n", "1"], 10, &["is in use by nosa build, process"]);
    // What needs no lock for minutes goes on beside a build.
    small.ok(&["tag", "-q", "update", "--tag", "meanwhile"]);
    small.ok(&["meta", "-q", "--set", "summary=meanwhile"]);
    drop(lock);

    std::thread::scope(|scope| {
        let small = &small;
        let pruner = scope.spawn(move || {
            let mut pruned = 0;
            for _ in 0..60 {
                let (code, text) = said(small.call(&["prune", "-q", "--keep-last-n", "2"]));
                assert!(code == 0 || code == 10, "{text}");
                pruned += usize::from(code == 0);
            }
            pruned
        });
        let mut last = String::new();
        for number in 1..=40 {
            last = format!("2.{number}");
            small.publish(&last, &[]);
            assert!(small.workdir.index().unwrap().has(&last, "x86_64"), "{last} was lost");
        }
        assert!(pruner.join().unwrap() > 0);
        assert!(small.workdir.index().unwrap().has(&last, "x86_64"));
    });
    small.ok(&["prune", "-q", "--keep-last-n", "2"]);
    small.assert_whole();
    let ids: Vec<String> = small.workdir.index().unwrap().builds().iter().map(|b| b.id.clone()).collect();
    assert_eq!(ids, ["2.40", "2.39", "1.0"], "the newest two, and the tagged one");
}

#[test]
fn pruning_beside_a_real_build_loses_nothing() {
    let Some(shared) = shared() else { return };
    let work = Work::new(&shared);
    let log = work.dir.join("build.log");
    let mut build = work.nosa(&["build", "ostree", "--version", "1.1"]).log(&log).spawn().unwrap();
    let lock = work.dir.join("tmp/build.lock");
    let begun = || fs::read_to_string(&lock).is_ok_and(|holder| holder.starts_with("nosa build"));
    while build.try_wait().unwrap().is_none() && !begun() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut refusals = 0;
    while build.try_wait().unwrap().is_none() {
        let (code, text) = said(work.nosa(&["prune", "--keep-last-n", "1"]));
        assert!(code == 0 || code == 10, "{text}");
        refusals += usize::from(code == 10);
    }
    assert!(build.wait().unwrap().success(), "{}", fs::read_to_string(&log).unwrap());
    assert!(refusals > 0, "the build was at work meanwhile");
    work.ok(&["build-validate", "--build", "1.1"]);
    work.ok(&["prune", "--keep-last-n", "1"]);
    assert_eq!(work.builds(), ["1.1", "latest"]);
}

#[test]
fn a_prune_that_is_killed_loses_nothing_that_was_to_stay() {
    let disk = bytes(1, 200_000);
    let mut interrupted = 0;
    for round in 0..25_u64 {
        let small = Small::new();
        for number in 0..12 {
            small.publish(&format!("1.{number}"), &[("metal", "metal.x86_64.raw", &disk)]);
        }
        small.ok(&["tag", "-q", "update", "--tag", "stable", "--build", "1.0"]);
        let mut prune = small.call(&["prune", "-q", "--keep-last-n", "2"]).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(3_000 + 700 * round));
        interrupted += usize::from(prune.try_wait().unwrap().is_none());
        prune.kill();
        // Without any repair: all that is listed is whole, and what had to stay is listed.
        let listed = small.json(&["list"]);
        let ids: Vec<&str> =
            listed.as_array().unwrap().iter().map(|build| build["id"].as_str().unwrap()).collect();
        assert!(["1.11", "1.10", "1.0"].iter().all(|id| ids.contains(id)), "{ids:?}");
        for id in &ids {
            small.ok(&["build-validate", "-q", "--build", id]);
        }
        small.ok(&["prune", "-q", "--keep-last-n", "2"]);
        small.assert_whole();
        assert_eq!(small.workdir.index().unwrap().builds().len(), 3);
    }
    assert!(interrupted > 5, "only {interrupted} of 25 were still running");
}
