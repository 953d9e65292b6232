//! What differs between two builds, by the real program.

use std::fs;

use nosa::host::Cmd;
use nosa::ostree::{CommitOptions, Metadata, Repo, TreeOptions, key};
use serde_json::{Value, json};

use crate::fixture::{said, skip};
use crate::small::Small;

const KERNEL: &str = "6.12.1";

/// An initramfs as dracut makes them: a plain archive before a compressed one.
fn initramfs(small: &Small, files: &[(&str, &str)]) -> Vec<u8> {
    let archive = |files: &[(&str, &str)]| {
        let dir = tempfile::tempdir_in(small.dir.join("tmp")).unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let names: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
        let cpio = Cmd::program("cpio").args(["-o", "-H", "newc", "--quiet"]).dir(dir.path());
        cpio.stdin(names.join("\n")).output().unwrap().stdout
    };
    let main = Cmd::program("zstd").args(["-q", "-c"]).stdin(archive(files)).output().unwrap().stdout;
    [archive(&[("early", "microcode")]), main].concat()
}

/// Publishes a build whose commit is real.
fn build(small: &Small, id: &str, files: &[(&str, &[u8])], packages: Value, disk: &[u8]) {
    let repo = Repo::create(&small.dir.join("cache/repo")).unwrap();
    let tree = small.dir.join("tmp/tree").join(id);
    for (path, bytes) in files {
        fs::create_dir_all(tree.join(path).parent().unwrap()).unwrap();
        fs::write(tree.join(path), bytes).unwrap();
    }
    let mut metadata = Metadata::new();
    metadata.set(key::LINUX, KERNEL);
    let options = CommitOptions { branch: "os/x/stable".to_owned(), metadata, ..CommitOptions::default() };
    let commit = repo.commit(&tree, TreeOptions::default(), &options).unwrap().commit;
    small.publish_with(id, &[("metal", "metal.x86_64.raw", disk)], |meta, commit_meta| {
        meta.ostree_commit = commit.to_string();
        commit_meta["rpmostree.rpmdb.pkglist"] = packages;
    });
}

fn two_builds() -> Small {
    let small = Small::new();
    let image = format!("usr/lib/modules/{KERNEL}/initramfs.img");
    let first = initramfs(&small, &[("init", "one"), ("gone", "x")]);
    let second = initramfs(&small, &[("init", "two"), ("new", "xy")]);
    build(
        &small,
        "1.0",
        &[("usr/a", b"old"), ("usr/gone", b"x"), ("usr/same", b"s"), (&image, &first)],
        json!([["bash", "0", "5.2", "3", "amd64"], ["jq", "0", "1.7", "1", "amd64"]]),
        b"disk",
    );
    build(
        &small,
        "1.1",
        &[("usr/a", b"newer"), ("usr/new/b", b"xy"), ("usr/same", b"s"), (&image, &second)],
        json!([["bash", "0", "5.10", "1", "amd64"], ["less", "0", "1", "1", "amd64"]]),
        b"a larger disk",
    );
    small
}

#[test]
fn packages_files_sizes_and_initramfs_are_compared() {
    let small = two_builds();
    let diff = small.json(&["diff", "-q"]);
    assert_eq!((&diff["from"], &diff["to"], &diff["arch"]), (&json!("1.0"), &json!("1.1"), &json!("x86_64")));
    let packages: Vec<(&str, &str)> = diff["packages"]["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["change"].as_str().unwrap()))
        .collect();
    assert_eq!(packages, [("bash", "upgraded"), ("jq", "removed"), ("less", "added")]);
    let paths = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    let files = &diff["files"]["changes"];
    assert_eq!(paths(&files["added"]), ["/usr/new", "/usr/new/b"]);
    assert_eq!(paths(&files["removed"]), ["/usr/gone"]);
    assert_eq!(paths(&files["changed"]), ["/usr/a", "/usr/lib/modules/6.12.1/initramfs.img"]);
    assert_eq!(files["changed"][0], json!({"path": "/usr/a", "from_size": 3, "to_size": 5}));
    let initramfs = &diff["initramfs"]["changes"];
    assert_eq!(
        (paths(&initramfs["added"]), paths(&initramfs["removed"]), paths(&initramfs["changed"])),
        (vec!["/new".to_owned()], vec!["/gone".to_owned()], vec!["/init".to_owned()])
    );
    assert_eq!(diff["sizes"]["changes"][0], json!({"artifact": "metal", "from": 4, "to": 13}));
    assert!(diff["kargs"]["unavailable"].as_str().unwrap().contains("has no boot entry that can be read"));

    let back = small.ok(&["diff", "-q", "--from", "1.1", "--to", "1.0", "--packages", "--sizes"]);
    assert_eq!(
        back,
        "from 1.1 to 1.0 (x86_64)\n\
         packages:\n  v  bash  amd64  5.10-1 -> 5.2-3\n  +  jq    amd64  1.7-1\n  -  less  amd64  1-1\n\
         sizes:\n    metal   13 B  4 B   -9 B\n    ostree  18 B  18 B  =\n"
    );
    assert!(small.json(&["diff", "-q", "--sizes"]).get("files").is_none());
}

#[test]
fn what_cannot_be_compared_is_told() {
    let small = Small::new();
    small.publish("1.0", &[]);
    small.fails(
        &["diff"],
        12,
        "there is no build for x86_64 before 1.0",
        "name the two builds: --from ID --to ID",
    );
    small.publish("1.1", &[]);
    small.fails(
        &["diff", "--from", "7"],
        12,
        &format!("there is no build 7 in {}", small.dir.join("builds").display()),
        "see `nosa list` for the builds there are",
    );
    let commit = small.meta("1.0")["ostree-commit"].as_str().unwrap().to_owned();
    small.fails(
        &["diff", "--files"],
        12,
        &format!("the cache has no commit {commit} of build 1.0"),
        "compare builds that were made here, or only --packages, --sizes or --kargs",
    );
    small.fails(
        &["diff", "--kargs"],
        12,
        "builds 1.0 and 1.1 have no disk image of one kind",
        "compare without --kargs",
    );
    let text = small.ok(&["diff", "-q"]);
    assert!(text.contains("packages: no difference\nfiles: not compared: the cache has no commit"), "{text}");
}

#[test]
fn pruning_the_cache_leaves_what_builds_that_stay_need() {
    let small = two_builds();
    let repo = Repo::open(&small.dir.join("cache/repo")).unwrap();
    let commit = |id: &str| small.meta(id)["ostree-commit"].as_str().unwrap().parse().unwrap();
    let (old, new) = (commit("1.0"), commit("1.1"));
    // A stage's output that no run remembers, and one that the last run used.
    let entry = |key: &str| small.dir.join("cache/stages/compose").join(key);
    for key in ["a", "b", "c", "d", "e"] {
        let key = key.repeat(64);
        fs::create_dir_all(entry(&key).join("out")).unwrap();
        fs::write(entry(&key).join("out/file"), vec![1; 10_000]).unwrap();
        fs::write(entry(&key).join("record.json"), "{}").unwrap();
    }
    fs::create_dir_all(small.dir.join("tmp/why")).unwrap();
    let record = json!({"stage": "compose", "key": "b".repeat(64), "inputs": {}});
    fs::write(small.dir.join("tmp/why/compose.json"), record.to_string()).unwrap();

    // What the build that goes was made from, the one that stays, and a stage that failed.
    let run = |key: &str, success: bool| {
        let stage = json!({
            "stage": "compose", "key": key.repeat(64), "reason": null, "seconds": 1.0, "success": success
        });
        json!([{"command": "build", "started": "2020-01-15T19:31:31Z", "stages": [stage]}]).to_string()
    };
    fs::write(small.dir.join("builds/1.0/x86_64/stages.json"), run("c", true)).unwrap();
    fs::write(small.dir.join("builds/1.1/x86_64/stages.json"), run("d", true)).unwrap();
    fs::write(small.dir.join("tmp/last-run.json"), run("e", false)).unwrap();
    let (code, text) = said(small.call(&["prune", "-q", "--cache", "--dry-run"]));
    if code == 9 && text.contains("has no range of 65536 subordinate ids") {
        return skip("this user has no subordinate ids, and trees in the cache have owners of their own");
    }
    let would = small.json(&["prune", "-q", "--keep-last-n", "1", "--cache", "--dry-run"]);
    assert!(repo.is_complete(old).unwrap() && entry(&"a".repeat(64)).exists());
    let did = small.json(&["prune", "-q", "--keep-last-n", "1", "--cache"]);
    assert_eq!((&would["builds"], &would["cache"]), (&did["builds"], &did["cache"]));
    assert_eq!(did["cache"]["entries"], 3);
    assert!(
        did["cache"]["bytes"].as_u64().unwrap() >= 10_000 && did["cache"]["objects"].as_u64().unwrap() > 3
    );
    assert!(!repo.is_complete(old).unwrap() && repo.is_complete(new).unwrap());
    let left = ["a", "b", "c", "d", "e"].map(|key| entry(&key.repeat(64)).exists());
    assert_eq!(left, [false, true, false, true, false]);
    Cmd::program("ostree").arg(format!("--repo={}", repo.path().display())).arg("fsck").run().unwrap();
    let again = small.json(&["prune", "-q", "--cache"]);
    assert_eq!(again["cache"], json!({"entries": 0, "objects": 0, "bytes": 0}));
}
