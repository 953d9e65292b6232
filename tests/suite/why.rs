//! `nosa why` over runs of a stage that does nothing: each reason there can be, for the last run and for a
//! build, as a table and as JSON.

use std::fs;
use std::path::Path;

use anyhow::Result;
use nosa::host::{Cmd, Tool};
use nosa::pipeline::{Artifact, Cache, Digest, KeyHasher, Pipeline, Reason, Reporter, Run, Stage, Workspace};
use serde_json::{Value, json};

use crate::fixture::{nosa, refused, said};

/// A stage that writes its input to a file; an empty input fails.
struct Toy<'a>(&'a str);

struct Toyed(Digest);

impl Artifact for Toyed {
    fn load(out: &Path) -> Result<Self> {
        Ok(Self(Digest::of(fs::read(out.join("file"))?)))
    }

    fn digest(&self) -> Digest {
        self.0
    }
}

impl Stage for Toy<'_> {
    type Output = Toyed;
    const NAME: &'static str = "toy";
    const VERSION: u32 = 1;

    fn key(&self, hash: &mut KeyHasher) {
        hash.input("overlay.d/05core/etc/toy", self.0);
    }

    fn tools(&self) -> &'static [&'static Tool] {
        &[]
    }

    fn run(&self, work: &Workspace) -> Result<Toyed> {
        anyhow::ensure!(!self.0.is_empty(), "an empty toy");
        fs::write(work.out().join("file"), self.0)?;
        Toyed::load(&work.out())
    }
}

/// A working directory and a way to run the stage in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().unwrap());
        said(Cmd::program(nosa()).args(["-q", "init", "-C"]).arg(this.0.path().as_os_str()));
        this
    }

    /// Runs the stage as a command of its own would; what that run did.
    fn run(&self, input: &str, force: bool) -> Run {
        let cache = Cache::open(&self.0.path().join("cache")).unwrap();
        let pipeline = Pipeline::new(cache, &self.0.path().join("tmp"), Reporter::silent()).unwrap();
        let pipeline = pipeline.force(force).named("build");
        let ended = pipeline.run(&Toy(input));
        assert_eq!(ended.is_ok(), !input.is_empty());
        pipeline.history()
    }

    fn why(&self, args: &[&str]) -> String {
        let (code, text) = said(Cmd::program(nosa()).args(["-C"]).arg(self.0.path().as_os_str()).args(args));
        assert_eq!(code, 0, "{text}");
        text
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.why(&[&["--json", "why"], args].concat())).unwrap()
    }
}

#[test]
fn every_reason_is_told_with_the_old_and_the_new_value() {
    let place = Place::new();
    let lines = |input: &str, force: bool| -> Vec<String> {
        place.run(input, force);
        place.why(&["why"]).lines().skip(1).map(|line| line.trim().to_owned()).collect()
    };
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let first = lines("1", false);
    assert!(line(&first[0]).starts_with("toy ran 0.0 s first run"), "{first:?}");
    let reused = lines("1", false);
    assert_eq!(line(&reused[0]), "toy reused nothing changed");
    let changed = lines("2", false);
    assert!(changed[0].ends_with("overlay.d/05core/etc/toy changed"), "{changed:?}");
    assert_eq!(changed[1], "overlay.d/05core/etc/toy: 1 → 2");
    let back = lines("1", false);
    assert_eq!(
        line(&back[0]),
        "toy reused overlay.d/05core/etc/toy changed, and the output for that was still there"
    );
    assert_eq!(back[1], "overlay.d/05core/etc/toy: 2 → 1");
    let forced = lines("1", true);
    assert!(forced[0].ends_with("forced"), "{forced:?}");
    fs::remove_dir_all(place.0.path().join("cache/stages")).unwrap();
    let gone = lines("1", false);
    assert!(gone[0].ends_with("its output was no longer in the cache"), "{gone:?}");
    let failed = lines("", false);
    assert!(
        line(&failed[0]).starts_with("toy failed after 0.0 s overlay.d/05core/etc/toy changed"),
        "{failed:?}"
    );
}

#[test]
fn as_json_a_run_is_whole_and_reads_back() {
    let place = Place::new();
    place.run("1", false);
    let run = place.run("2", false);
    let told = place.json(&[]);
    assert_eq!(told[0]["command"], "build");
    let stage = &told[0]["stages"][0];
    assert_eq!(stage["key"], run.stages[0].key.to_string());
    assert_eq!(
        stage["reason"],
        json!({"kind": "changed", "changes": [{"input": "overlay.d/05core/etc/toy", "old": "1", "new": "2"}]})
    );
    assert_eq!((&stage["success"], stage["seconds"].is_f64()), (&json!(true), true));
    let read: Vec<Run> = serde_json::from_value(told).unwrap();
    assert_eq!(read[0].stages[0].reason, run.stages[0].reason);
    assert!(matches!(run.stages[0].reason, Some(Reason::Changed(_))));
    assert_eq!(place.json(&["--stage", "toy"])[0]["stages"][0]["stage"], "toy");
}

#[test]
fn a_build_keeps_what_was_run_for_it_and_an_unknown_one_is_named() {
    let place = Place::new();
    let call = |args: &[&str]| Cmd::program(nosa()).args(["-C"]).arg(place.0.path().as_os_str()).args(args);
    refused(call(&["why"]), 12, &["nothing was run in this working directory yet", "nosa build"]);
    let run = place.run("1", false);
    refused(call(&["why", "--stage", "tow"]), 2, &["no stage tow took part; there were toy"]);
    refused(call(&["why", "41.1"]), 12, &["there is no build 41.1"]);
    // As a build has it: one run by `build`, another by `buildextend`.
    let arch = nosa::host::environment::basearch();
    let dir = place.0.path().join("builds/41.1").join(arch);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("meta.json"), "{}").unwrap();
    let index = json!({
        "schema-version": "1.0.0", "builds": [{"id": "41.1", "arches": [arch]}],
        "timestamp": "2026-01-01T00:00:00Z"
    });
    fs::write(place.0.path().join("builds/builds.json"), index.to_string()).unwrap();
    refused(call(&["why", "41.1"]), 12, &["build 41.1 does not tell how it was made"]);
    run.clone().append(&dir.join("stages.json")).unwrap();
    let extended = Run { command: "buildextend".to_owned(), ..run };
    extended.append(&dir.join("stages.json")).unwrap();
    let told = place.json(&["41.1"]);
    let commands: Vec<&str> =
        told.as_array().unwrap().iter().map(|run| run["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["build", "buildextend"]);
    assert_eq!(place.json(&["latest"]), told);
}
