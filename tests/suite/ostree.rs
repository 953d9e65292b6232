//! What nosa writes into a repository, judged by the `ostree` program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nosa::host::Cmd;
use nosa::ostree::{Checksum, CommitOptions, Committed, PackageEntry, Repo, TreeOptions, Value, key};

use crate::judge::judge;
use crate::sample;

fn options() -> CommitOptions {
    CommitOptions {
        branch: "test/x86_64/base".into(),
        subject: "subject".into(),
        body: "body".into(),
        timestamp: 1_700_000_000,
        ..CommitOptions::default()
    }
}

fn commit(root: &Path, repo: &Path) -> (Repo, Committed) {
    let repo = Repo::create(repo).unwrap();
    let committed = repo.commit(root, TreeOptions::default(), &options()).unwrap();
    (repo, committed)
}

fn run(ostree: &Cmd, repo: &Path, args: &[&str]) -> String {
    let repo = format!("--repo={}", repo.display());
    ostree.clone().arg(repo).args(args).output().unwrap_or_else(|error| panic!("{error:#}")).text()
}

fn judged(ostree: &Cmd, root: &Path, theirs: &Path, extra: &[&str]) -> Checksum {
    run(ostree, theirs, &["init", "--mode=bare-user"]);
    let tree = format!("--tree=dir={}", root.display());
    let mut args = vec!["commit", "-b", "test/x86_64/base", "-s", "subject", "-m", "body", &tree];
    args.push("--timestamp=@1700000000");
    args.extend(extra);
    run(ostree, theirs, &args).trim().parse().unwrap()
}

#[test]
fn a_commit_is_the_same_as_ostree_s_and_passes_its_fsck() {
    let Some(ostree) = judge("ostree") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (root, ours, theirs) = (dir.path().join("t"), dir.path().join("ours"), dir.path().join("theirs"));
    sample::write(&root);
    let (_, committed) = commit(&root, &ours);
    let judged = judged(&ostree, &root, &theirs, &[]);
    run(&ostree, &ours, &["fsck"]);
    let listing = |repo: &Path| run(&ostree, repo, &["ls", "-R", "-C", "-X", "test/x86_64/base"]);
    let (ours_text, theirs_text) = (listing(&ours), listing(&theirs));
    let differences: Vec<_> =
        ours_text.lines().zip(theirs_text.lines()).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    assert_eq!(committed.commit, judged);

    let ours = objects(&ours);
    assert_eq!(ours.len(), objects(&theirs).len());
    for (ours, theirs) in ours.iter().zip(objects(&theirs)) {
        assert_eq!(ours.0, theirs.0);
        assert!(*ours == theirs, "{} differs in mode, bytes or attributes", ours.0);
    }
}

/// The files of a repository's objects: name, mode, bytes, owner and attributes as the repository keeps them.
fn objects(repo: &Path) -> Vec<(String, u32, Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    for dir in fs::read_dir(repo.join("objects")).unwrap() {
        for file in fs::read_dir(dir.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            let mut meta = vec![0; 8192];
            let length = rustix::fs::getxattr(&path, "user.ostreemeta", &mut meta).unwrap_or(0);
            meta.truncate(length);
            let name = path.strip_prefix(repo).unwrap().display().to_string();
            found.push((name, mode, fs::read(&path).unwrap(), meta));
        }
    }
    found.sort();
    found
}

#[test]
fn metadata_is_what_ostree_reads() {
    let Some(ostree) = judge("ostree") else { return };
    let dir = tempfile::tempdir().unwrap();
    let (root, repo) = (dir.path().join("t"), dir.path().join("repo"));
    fs::create_dir(&root).unwrap();
    let mut options = options();
    options.metadata.set(key::VERSION, "41.0");
    options.metadata.set_bootable("6.12.0");
    let bash = PackageEntry {
        name: "bash".into(),
        epoch: 2,
        version: "5.2".into(),
        release: "1".into(),
        arch: "amd64".into(),
    };
    options.metadata.set(key::PACKAGES, vec![bash]);
    let nested = serde_json::json!({"stream": "stable", "numbers": [1, true], "names": ["a", "b"]});
    options.metadata.set("nosa", Value::from_json(&nested).unwrap());
    let committed = Repo::create(&repo).unwrap().commit(&root, TreeOptions::default(), &options).unwrap();
    let show = |key: &str| {
        let arg = format!("--print-metadata-key={key}");
        run(&ostree, &repo, &["show", &arg, &committed.commit.to_string()]).trim().to_owned()
    };
    assert_eq!(show(key::VERSION), "'41.0'");
    assert_eq!(show(key::BOOTABLE), "true");
    assert_eq!(show(key::LINUX), "'6.12.0'");
    assert_eq!(show(key::PACKAGES), "[('bash', '2', '5.2', '1', 'amd64')]");
    assert_eq!(show(key::REF_BINDING), "['test/x86_64/base']");
    let nested = show("nosa");
    for part in ["'stream': <'stable'>", "'names': <['a', 'b']>", "'numbers': <[<int64 ", "<true>]>"] {
        assert!(nested.contains(part), "{nested}");
    }
    let log = run(&ostree, &repo, &["log", "test/x86_64/base"]);
    for part in ["Date:  2023-11-14 22:13:20 +0000", "Version: 41.0", "    subject", "    body"] {
        assert!(log.contains(part), "{log}");
    }
}

#[test]
fn a_second_commit_writes_nothing_but_itself() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    sample::write(&root);
    let (repo, first) = commit(&root, &dir.path().join("repo"));
    assert!(first.stats.n_content_written < first.stats.n_content_total, "hard links are one object");
    fs::write(root.join("usr/share/new"), "new").unwrap();
    let mut options = options();
    options.parent = Some(first.commit);
    let second = repo.commit(&root, TreeOptions::default(), &options).unwrap();
    let stats = second.stats;
    assert_eq!((stats.n_content_written, stats.content_bytes_written), (1, 3));
    // The commit, and the entries of /usr/share, /usr and /.
    assert_eq!(stats.n_metadata_written, 4);
    assert_eq!(repo.resolve("test/x86_64/base").unwrap(), Some(second.commit));
    assert_eq!(repo.commit_object(second.commit).unwrap().parent, Some(first.commit));
    assert_eq!(fs::read_dir(repo.path().join("tmp")).unwrap().count(), 1, "only tmp/cache is left");
}
