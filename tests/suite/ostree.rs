//! What nosa writes into a repository, judged by the `ostree` program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nosa::failure::{Failure, Kind};
use nosa::host::Cmd;
use nosa::ostree::{
    Attributes, Checksum, Commit, CommitOptions, Committed, DirTree, Metadata, NodeObject, ObjectKind,
    OstreeCommit, Ownership, PackageEntry, Repo, TreeOptions, Value, key,
};
use nosa::pipeline::{Cache, KeyHasher, Pipeline, Reason, Reporter, Stage, Workspace};

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

#[test]
fn a_checkout_is_the_tree_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    sample::write(&root);
    let (repo, committed) = commit(&root, &dir.path().join("repo"));
    assert_eq!(
        repo.verify(committed.commit).unwrap() as u64,
        committed.stats.n_metadata_written + committed.stats.n_content_written
    );
    let out = dir.path().join("out");
    if sample::is_root() {
        repo.checkout(committed.commit, &out, Ownership::Kept).unwrap();
        let again = repo.commit(&out, TreeOptions::default(), &options()).unwrap();
        assert_eq!(again.content, committed.content, "owners, modes, attributes and all");
    }
    let mine = dir.path().join("mine");
    repo.checkout(committed.commit, &mine, Ownership::Caller).unwrap();
    Cmd::program("diff").args(["-r", "--no-dereference"]).arg(&root).arg(&mine).run().unwrap();
    assert_eq!(fs::metadata(mine.join("usr/bin/su")).unwrap().permissions().mode() & 0o7777, 0o755);
    assert_eq!(failure(repo.checkout(committed.commit, &mine, Ownership::Caller)).kind, Kind::Usage);

    let Some(ostree) = judge("ostree") else { return };
    let theirs = dir.path().join("theirs");
    run(&ostree, repo.path(), &["checkout", "-U", "test/x86_64/base", &theirs.display().to_string()]);
    Cmd::program("diff").args(["-r", "--no-dereference"]).arg(&mine).arg(&theirs).run().unwrap();
}

#[test]
fn attributes_that_the_disk_lacks_can_be_given() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/shadow"), "x").unwrap();
    let modify = |path: &Path, attributes: &mut Attributes| {
        (attributes.uid, attributes.gid) = (0, 0);
        if path == Path::new("/etc/shadow") {
            (attributes.gid, attributes.mode) = (42, 0o640);
            attributes.xattrs.push((b"security.selinux".to_vec(), b"label\0".to_vec()));
        }
    };
    let repo = Repo::create(&dir.path().join("repo")).unwrap();
    let tree = TreeOptions { modify: Some(&modify), ..TreeOptions::default() };
    let committed = repo.commit(&root, tree, &options()).unwrap();
    let file = repo.find(committed.commit, Path::new("/etc/shadow")).unwrap().unwrap();
    let attributes = repo.file(file).unwrap().attributes;
    assert_eq!((attributes.uid, attributes.gid, attributes.mode), (0, 42, 0o100_640));
    assert_eq!(attributes.xattrs, [(b"security.selinux".to_vec(), b"label\0".to_vec())]);
    assert_eq!(repo.find(committed.commit, Path::new("/etc/none")).unwrap(), None);
    if let Some(ostree) = judge("ostree") {
        run(&ostree, repo.path(), &["fsck"]);
    }
}

fn failure<T: std::fmt::Debug>(result: anyhow::Result<T>) -> Failure {
    let error = result.unwrap_err();
    error.chain().find_map(|cause| cause.downcast_ref()).cloned().unwrap_or_else(|| panic!("{error:#}"))
}

#[test]
fn what_a_commit_cannot_hold_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    fs::create_dir_all(root.join("run")).unwrap();
    Cmd::program("mkfifo").arg(root.join("run/pipe")).run().unwrap();
    let repo = Repo::create(&dir.path().join("repo")).unwrap();
    let failed = failure(repo.commit(&root, TreeOptions::default(), &options()));
    assert_eq!(failed.kind, Kind::Build);
    assert_eq!(failed.cause, "/run/pipe is a device, pipe or socket, which an OSTree commit cannot hold");

    fs::remove_file(root.join("run/pipe")).unwrap();
    for branch in ["", "../x", "a//b", "a b", "-x", "a/.hidden"] {
        let options = CommitOptions { branch: branch.into(), ..options() };
        let failed = failure(repo.commit(&root, TreeOptions::default(), &options));
        assert_eq!(failed.kind, Kind::Config, "{branch:?}");
    }
    let archive = dir.path().join("archive");
    fs::create_dir(&archive).unwrap();
    assert_eq!(failure(Repo::open(&archive)).kind, Kind::Artifact);
    fs::write(archive.join("config"), "[core]\nrepo_version=1\nmode=archive-z2\n").unwrap();
    assert!(failure(Repo::open(&archive)).cause.ends_with("is not in mode bare-user"));
}

#[test]
fn every_kind_of_damage_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    sample::write(&root);
    let (repo, committed) = commit(&root, &dir.path().join("repo"));
    let find = |path: &str| repo.find(committed.commit, Path::new(path)).unwrap().unwrap();
    let root_object = repo.commit_object(committed.commit).unwrap();
    let objects = [
        (committed.commit, ObjectKind::Commit),
        (root_object.tree, ObjectKind::DirTree),
        (root_object.meta, ObjectKind::DirMeta),
        (find("/usr/bin/su"), ObjectKind::File),
        (find("/usr/share/dangling"), ObjectKind::File),
    ];
    for (checksum, kind) in objects {
        let path = repo.object(checksum, kind);
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        flipped[0] ^= 1;
        let broken = [whole[..whole.len() / 2].to_vec(), Vec::new(), flipped, [&whole[..], b"x"].concat()];
        for broken in broken {
            fs::write(&path, broken).unwrap();
            let failed = failure(repo.verify(committed.commit));
            assert_eq!(failed.kind, Kind::Artifact);
            assert!(failed.cause.contains(&path.display().to_string()), "{}", failed.cause);
        }
        fs::write(&path, &whole).unwrap();
        assert!(repo.verify(committed.commit).is_ok());
        let aside = dir.path().join("aside");
        fs::rename(&path, &aside).unwrap();
        let failed = failure(repo.verify(committed.commit));
        assert!(failed.cause.contains("has no object") && failed.cause.contains(&checksum.to_string()));
        assert!(!repo.is_complete(committed.commit).unwrap());
        fs::rename(&aside, &path).unwrap();
        assert!(repo.is_complete(committed.commit).unwrap());
    }
    let path = repo.object(find("/usr/bin/su"), ObjectKind::File);
    for meta in [&[0_u8; 12][..], &[], &[0xff; 40]] {
        rustix::fs::setxattr(&path, "user.ostreemeta", meta, rustix::fs::XattrFlags::empty()).unwrap();
        assert_eq!(failure(repo.verify(committed.commit)).kind, Kind::Artifact);
    }
}

/// Writes an object as it is, whatever it says.
fn plant(repo: &Repo, kind: ObjectKind, bytes: &[u8]) -> Checksum {
    let checksum = Checksum::of(bytes);
    let path = repo.object(checksum, kind);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
    checksum
}

#[test]
fn hostile_trees_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let repo = Repo::create(&dir.path().join("repo")).unwrap();
    let meta = plant(&repo, ObjectKind::DirMeta, &Attributes::directory().encode());
    let empty = plant(&repo, ObjectKind::DirTree, &DirTree::default().encode());
    let plant_commit = |tree: Checksum| {
        let (metadata, parent) = (Metadata::new(), None);
        let (subject, body) = (String::new(), String::new());
        let commit = Commit { metadata, parent, subject, body, timestamp: 0, tree, meta };
        plant(&repo, ObjectKind::Commit, &commit.encode())
    };
    let out = dir.path().join("out");
    for name in ["..", ".", "", "../escaped", "/escaped", "a/b"] {
        let mut tree = DirTree { files: Vec::new(), dirs: vec![(name.into(), empty, meta)] };
        let commit = plant_commit(plant(&repo, ObjectKind::DirTree, &tree.encode()));
        let failed = failure(repo.checkout(commit, &out, Ownership::Caller));
        assert_eq!(failed.kind, Kind::Artifact, "{name:?}");
        assert!(!out.exists() && !dir.path().join("escaped").exists(), "{name:?}");
    }
    // Thirty objects that describe 2^30 directories.
    let mut tree = empty;
    for _ in 0..30 {
        let dirs = vec![("a".into(), tree, meta), ("b".into(), tree, meta)];
        tree = plant(&repo, ObjectKind::DirTree, &DirTree { files: Vec::new(), dirs }.encode());
    }
    assert_eq!(failure(repo.walk(plant_commit(tree))).kind, Kind::Artifact);
    // And a chain that is too deep.
    let mut deep = empty;
    for _ in 0..300 {
        let dirs = vec![("a".into(), deep, meta)];
        deep = plant(&repo, ObjectKind::DirTree, &DirTree { files: Vec::new(), dirs }.encode());
    }
    assert_eq!(failure(repo.walk(plant_commit(deep))).kind, Kind::Artifact);
}

#[test]
fn attributes_larger_than_a_block_are_kept_where_the_file_system_holds_them() {
    let Ok(dir) = tempfile::tempdir_in("/dev/shm") else { return };
    let root = dir.path().join("t");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("f"), "x").unwrap();
    let value = vec![b'v'; 20_000];
    let set = rustix::fs::lsetxattr(root.join("f"), "user.big", &value, rustix::fs::XattrFlags::empty());
    if set.is_err() {
        return;
    }
    let (repo, committed) = commit(&root, &dir.path().join("repo"));
    repo.verify(committed.commit).unwrap();
    let nodes = repo.walk(committed.commit).unwrap();
    let NodeObject::File(file) = nodes[1].object else { panic!("{nodes:?}") };
    assert_eq!(repo.file(file).unwrap().attributes.xattrs, [(b"user.big".to_vec(), value)]);
    if let Some(ostree) = judge("ostree") {
        run(&ostree, repo.path(), &["fsck"]);
    }
}

struct CommitStage<'a>(&'a Path);

impl Stage for CommitStage<'_> {
    type Output = OstreeCommit;
    const NAME: &'static str = "commit";
    const VERSION: u32 = 1;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("tree", "the same");
    }

    fn tools(&self) -> &'static [&'static nosa::host::Tool] {
        &[]
    }

    fn run(&self, work: &Workspace) -> anyhow::Result<OstreeCommit> {
        let repo = Repo::create(&work.shared("repo")?)?;
        let committed = repo.commit(self.0, TreeOptions::default(), &options())?;
        OstreeCommit::record(&work.out(), ("repo", &repo), &committed, &options().branch, "1")
    }
}

#[test]
fn a_cached_commit_whose_objects_are_gone_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("t");
    sample::write(&root);
    let cache = Cache::open(&dir.path().join("cache")).unwrap();
    let run = || {
        let pipeline = Pipeline::new(cache.clone(), &dir.path().join("tmp"), Reporter::silent()).unwrap();
        let commit = pipeline.run(&CommitStage(&root)).unwrap();
        (commit, pipeline.runs()[0].reason.clone())
    };
    let (first, reason) = run();
    assert_eq!(reason, Some(Reason::First));
    assert_eq!(run(), (first.clone(), None));
    let repo = first.open_repo(&cache).unwrap();
    let lost = repo.find(first.commit, Path::new("/usr/bin/su")).unwrap().unwrap();
    fs::remove_file(repo.object(lost, ObjectKind::File)).unwrap();
    let (again, reason) = run();
    assert_eq!((again.commit, again.stats.n_content_written, reason), (first.commit, 1, Some(Reason::Gone)));
    fs::remove_dir_all(repo.path()).unwrap();
    assert_eq!(run().1, Some(Reason::Gone));
    assert_eq!(run().1, None);
}
