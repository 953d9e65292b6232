//! What an update of an image costs: only what changed, and just what is printed. skopeo, Debian's registry
//! and ostree-ext are the judges.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nosa::host::Cmd;
use nosa::oci::{
    Component, Compression, Contents, Encapsulate, OciArchive, PlanRecord, Planning, UpdateCost,
};
use nosa::ostree::{CommitOptions, CommitTree};
use nosa::pipeline::{Cache, Digest, Pipeline, Reporter};

use crate::conformance::Format as _;
use crate::conformance::deb::Debs;
use crate::conformance::package::Made;
use crate::fixture::{Work, artifact, latest, refused, shared};
use crate::judge::{judge, ostree_ext};
use crate::registry_server::Registry;
use crate::small::bytes;

/// A system of small packages: a name, and what decides its content.
#[derive(Clone)]
struct System(BTreeMap<String, u64>);

impl System {
    fn new() -> Self {
        Self((0..40).map(|number| (format!("p{number:02}"), number)).collect())
    }

    fn with(&self, name: &str, seed: u64) -> Self {
        let mut packages = self.0.clone();
        packages.insert(name.to_owned(), seed);
        Self(packages)
    }

    fn without(&self, name: &str) -> Self {
        let mut packages = self.0.clone();
        packages.remove(name).unwrap();
        Self(packages)
    }

    /// Incompressible, of a size that the package's name decides.
    fn content(name: &str, seed: u64) -> Vec<u8> {
        let number: usize = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or(20);
        bytes(1 + seed, 2_000 + number * number * 100)
    }

    fn write(&self, root: &Path, version: u64) -> Contents {
        let mut contents = Contents::default();
        let file = |path: &str, bytes: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        for (name, seed) in &self.0 {
            let path = format!("usr/lib/{name}/data");
            file(&path, &Self::content(name, *seed));
            file(&format!("usr/share/doc/{name}/copyright"), b"the same for all");
            contents.owners.insert(format!("/{path}"), name.clone());
            contents.owners.insert(format!("/usr/share/doc/{name}/copyright"), name.clone());
            let component = Component { source: name.clone(), version: seed.to_string() };
            contents.packages.insert(name.clone(), component);
        }
        file("usr/lib/os-release", format!("VERSION={version}\n").as_bytes());
        file("usr/lib/sysimage/dpkg/status", format!("{:?}", self.0).as_bytes());
        file("usr/lib/modules/6.1/vmlinuz", &bytes(1, 90_000));
        file("usr/lib/modules/6.1/initramfs.img", &bytes(2, 90_000));
        file("usr/etc/motd", b"welcome");
        fs::create_dir_all(root.join("var")).unwrap();
        contents
    }
}

/// A pipeline of its own, which makes images.
struct Images {
    place: tempfile::TempDir,
    pipeline: Pipeline,
}

impl Images {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::open(&place.path().join("cache")).unwrap();
        let pipeline = Pipeline::new(cache, &place.path().join("tmp"), Reporter::silent()).unwrap();
        Self { place, pipeline }
    }

    fn image(&self, system: &System, version: u64, planning: Planning) -> (OciArchive, PlanRecord) {
        let tree = self.place.path().join(format!("tree-{version}"));
        let contents = system.write(&tree, version);
        let options = CommitOptions { branch: "test".into(), timestamp: version, ..CommitOptions::default() };
        let digest = Digest::of(format!("{version} {:?}", system.0));
        let commit = CommitTree { tree: tree.clone(), digest, version: version.to_string(), options };
        let commit = self.pipeline.run(&commit).unwrap();
        fs::remove_dir_all(tree).unwrap();
        let encapsulate = Encapsulate {
            commit,
            architecture: "x86_64".into(),
            labels: BTreeMap::new(),
            copy_keys: Vec::new(),
            cmd: Vec::new(),
            contents,
            planning,
            compression: Compression::Gzip,
        };
        let archive = self.pipeline.run(&encapsulate).unwrap();
        let plan = archive.plan().unwrap();
        (archive, plan)
    }
}

fn following(plan: &PlanRecord) -> Planning {
    Planning { max_layers: 16, lock: plan.lock(), changes: BTreeMap::new() }
}

fn first() -> Planning {
    Planning { max_layers: 16, ..Planning::default() }
}

/// How many layers of `old` are not in `new`, besides the commit's.
fn lost(old: &PlanRecord, new: &PlanRecord) -> usize {
    let there: BTreeSet<Digest> = new.layers.iter().map(|layer| layer.sha256).collect();
    old.layers[1..].iter().filter(|layer| !there.contains(&layer.sha256)).count()
}

fn push(skopeo: &Cmd, archive: &Path, image: &str) {
    let call = skopeo.clone().args(["copy", "-q", "--dest-tls-verify=false"]);
    call.arg(format!("oci-archive:{}", archive.display())).arg(image).run().unwrap();
}

#[test]
fn an_update_ships_what_changed_and_nothing_else() {
    let images = Images::new();
    let system = System::new();
    let (_, old) = images.image(&system, 1, first());
    assert!(old.layers.len() <= 16);

    // One package changes.
    for name in ["p00", "p07", "p39"] {
        let (_, new) = images.image(&system.with(name, 99), 2, following(&old));
        assert_eq!(lost(&old, &new), 1, "{name}");
        let cost = UpdateCost::between(&old, &new);
        let why: Vec<String> = cost.layers.iter().map(|layer| layer.why()).collect();
        let change = format!("{name} {} -> 99", system.0[name]);
        assert!(why.len() == 2 && why.contains(&change) && why.contains(&"metadata".to_owned()), "{why:?}");
    }
    // One comes: a layer of its own, or one that was there.
    let (_, more) = images.image(&system.with("q20", 5), 3, following(&old));
    assert_eq!(lost(&old, &more), 0);
    let full = Planning { max_layers: old.layers.len(), ..following(&old) };
    let (_, more) = images.image(&system.with("q20", 5), 4, full);
    assert_eq!((lost(&old, &more), more.layers.len()), (1, old.layers.len()));
    // One goes.
    let (_, fewer) = images.image(&system.without("p07"), 5, following(&old));
    assert_eq!(lost(&old, &fewer), 1);
    // All change, again and again: everything stays in its place.
    let mut plan = old.clone();
    for round in 6..9 {
        let packages = system.0.keys().map(|name| (name.clone(), round * 100)).collect();
        let (_, next) = images.image(&System(packages), round, following(&plan));
        assert_eq!(next.lock(), plan.lock());
        plan = next;
    }
    // Without the plan, a package that grew would move.
    let (_, again) = images.image(&system, 1, first());
    assert_eq!(again, old);
}

#[test]
fn the_number_of_threads_and_the_place_change_nothing() {
    let system = System::new();
    let of = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let images = Images::new();
            let (archive, plan) = images.image(&system, 1, first());
            (fs::read(&archive.path).unwrap(), plan)
        })
    };
    let one = of(1);
    assert!(one == of(4) && one == of(2));
    // An image's own plan leads to the same image: it is all that another machine needs.
    let images = Images::new();
    let (_, again) = images.image(&system, 1, following(&one.1));
    assert_eq!(again, one.1);
}

#[test]
fn the_cost_is_what_a_registry_gets() {
    let Some(skopeo) = judge("skopeo") else { return };
    let Some(registry) = Registry::start() else { return };
    let images = Images::new();
    let system = System::new();
    let (archive, old) = images.image(&system, 1, first());
    push(&skopeo, &archive.path, &registry.image("os:1"));
    let whole: u64 = registry.blobs().values().sum();
    let layers: u64 = old.layers.iter().map(|layer| layer.size).sum();
    assert_eq!(whole, layers + old.manifest.size + old.config.size);
    let updates = [system.with("p20", 99), system.with("q10", 1).without("p03")];
    for (number, changed) in updates.iter().enumerate() {
        let before: u64 = registry.blobs().values().sum();
        let (archive, new) = images.image(changed, 2 + number as u64, following(&old));
        push(&skopeo, &archive.path, &registry.image("os:2"));
        let after: u64 = registry.blobs().values().sum();
        assert_eq!(UpdateCost::between(&old, &new).total, after - before);
    }
}

#[test]
fn machines_and_a_second_reader_import_the_image() {
    let images = Images::new();
    let (archive, _) = images.image(&System::new(), 1, first());
    let place = images.place.path();
    let cache = place.join("cache");
    let commit = nosa::ostree::Repo::open(&cache.join("repo")).unwrap().resolve("test").unwrap().unwrap();
    imports(place, &archive.path, &commit.to_string());
    let Some(cfsctl) = judge("cfsctl") else { return };
    let store = place.join("store").display().to_string();
    let cfsctl = cfsctl.args(["--insecure", "--repo", &store]);
    cfsctl.clone().arg("init").run().unwrap();
    let image = format!("oci-archive:{}", archive.path.display());
    cfsctl.args(["oci", "pull", &image, "small"]).run().unwrap();
}

/// The default variant with one package changed, as `nosa build` makes and tells it.
#[test]
fn a_changed_package_of_a_whole_system_costs_little() {
    let Some(shared) = shared() else { return };
    let Some(skopeo) = judge("skopeo") else { return };
    let Some(registry) = Registry::start() else { return };
    let work = Work::with_history(&shared);
    work.ok(&["build", "ostree"]);
    push(&skopeo, &artifact(&work.dir, "ostree"), &registry.image("os:1"));
    let before: u64 = registry.blobs().values().sum();
    let (dir, _) = latest(&work.dir);
    let old = PlanRecord::read(&dir.join("oci-plan.json")).unwrap().unwrap();

    let debs = work.dir.join("overrides/deb");
    fs::create_dir_all(&debs).unwrap();
    let content = bytes(5, 300_000).iter().fold(String::new(), |text, byte| text + &byte.to_string());
    let mut nano = Made::new("nano", "99.0").file("/usr/bin/nano", &content).with(0o755, ("root", 0));
    nano.depends.clear();
    Debs::write(&debs, &nano);
    // Too much for the budget: told by cause, and nothing is there.
    let there = work.builds();
    let call = work.nosa(&["build", "ostree", "--max-update-size", "100KiB"]);
    refused(call, 13, &["--max-update-size allows 0.1 MiB: ", "for nano ", "-> 99.0-1", "for metadata"]);
    assert_eq!(work.builds(), there);
    assert_eq!(work.builds().len(), 2);

    let said = work.ok(&["build", "ostree", "--max-update-size", "20MiB"]);
    push(&skopeo, &artifact(&work.dir, "ostree"), &registry.image("os:2"));
    let transferred = registry.blobs().values().sum::<u64>() - before;
    let told: serde_json::Value = serde_json::from_str(&work.ok(&["-q", "oci", "plan", "--json"])).unwrap();
    assert_eq!(told["update"]["total"], transferred);
    assert!(said.contains(" downloads ") && said.contains("-> 99.0-1"), "{said}");

    let (dir, meta) = latest(&work.dir);
    let new = PlanRecord::read(&dir.join("oci-plan.json")).unwrap().unwrap();
    let layer = |plan: &PlanRecord, unit: &str| {
        let unit = unit.parse().unwrap();
        plan.layers.iter().find(|layer| layer.units.contains_key(&unit)).unwrap().clone()
    };
    for unit in ["@kernel", "@initramfs", "podman"] {
        assert_eq!(layer(&old, unit), layer(&new, unit), "{unit}");
    }
    // This nano has no script that makes it an alternative: those links are in the configuration's layer.
    assert_eq!(lost(&old, &new), 2);
    let metadata = new.layers[0].size + new.manifest.size + new.config.size;
    assert!(metadata < 2 << 20, "{metadata}");
    assert!(transferred <= 3 * (layer(&new, "nano").size + metadata) / 2, "{transferred}");
    imports(&work.dir, &artifact(&work.dir, "ostree"), meta["ostree-commit"].as_str().unwrap());
}

/// ostree-ext imports the image, finds our commit in it, and leaves a repository that ostree takes as sound.
fn imports(workdir: &Path, archive: &Path, commit: &str) {
    let Some(client) = ostree_ext(workdir) else { return };
    let repo = workdir.join("imported");
    let option = format!("--repo={}", repo.display());
    Cmd::program("ostree").args([&option, "init", "--mode=bare-user"]).run().unwrap();
    let image = format!("ostree-unverified-image:oci-archive:{}", archive.display());
    client.args(["image", "pull"]).arg(repo.as_os_str()).arg(image).run().unwrap();
    Cmd::program("ostree").args([&option, "fsck", "--quiet"]).run().unwrap();
    // The image is a merge commit over ours; ours is the first layer's.
    Cmd::program("ostree").args([&option, "show", commit]).run().unwrap();
}
