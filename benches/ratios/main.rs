//! nosa against the field's own way, on the same input, in one run; and nosa against its own aims.
//!
//! | bench | nosa | the field |
//! |---|---|---|
//! | build | `nosa build`, cold but for downloads, once; then with nothing changed | |
//! | compose | the install stage, packages resolved and downloaded | `mmdebstrap --mode=root --variant=apt`, the same debs |
//! | commit | the composed tree into an empty bare-user repository | `ostree commit` of it into another |
//! | oci | an image of the commit, gzip and zstd | zlib-rs over the same layers by two threads; `zstd -T0` over their bytes |
//! | disk | `nosa buildextend --force qemu`: raw disk, qcow2, digest, published | `cp -a` of the composed tree |
//!
//! mmdebstrap gets the very debs of the build in a flat local archive, so that it neither downloads nor
//! chooses; `INITRD=No` keeps it from making an initramfs, which nosa does not make in this stage either.
//! It writes its tree to the same disk. One round warms up, medians of the rest count.
//!
//! ```sh
//! cargo bench                    # all; or some: cargo bench -- commit disk
//! NOSA_TEST_BUILD=DIR            # take configuration and package indexes from this workdir
//! NOSA_BENCH_RUNS=3              # measured rounds
//! ```
//!
//! Works beside `NOSA_TEST_BUILD`, else in `target/bench`; what it makes there is removed at the end.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a bench prints what it measured")]

mod archive;
mod driven;
mod image;
mod measure;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use nosa::host::{Cmd, environment, fs};

use archive::Archive;
use driven::empty;
use image::Layers;
use measure::{Cost, Subject};

/// The time of every build here.
const EPOCH: &str = "1790000000";
/// nosa's own process may not need more memory in a whole build, in MiB.
const AIM_MEMORY: f64 = 200.0;
/// By what most comparisons are judged.
const CPU: &str = "CPU s";
/// An image may not need more memory when it is ten times as large, in MiB.
const AIM_GROWTH: f64 = 16.0;
/// A build with nothing changed may not take longer, in seconds.
const AIM_UNCHANGED: f64 = 1.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = driven::serve(&args).unwrap_or_else(|| bench(&args));
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn bench(args: &[String]) -> Result<ExitCode> {
    if !rustix::process::geteuid().is_root() {
        println!("not measured: not root, and only root can give the trees' files their owners");
        return Ok(ExitCode::SUCCESS);
    }
    let wanted =
        |name: &str| args.iter().all(|arg| arg.starts_with('-')) || args.iter().any(|arg| arg == name);
    let runs = environment::var("NOSA_BENCH_RUNS").and_then(|runs| runs.parse().ok()).unwrap_or(3).max(1);
    measure::adopt_orphans()?;
    measure::verify()?;
    let place = Place::new()?;
    let mut table = Table::default();
    place.build(&mut table, runs)?;
    if wanted("commit") {
        place.commit(&mut table, runs)?;
    }
    if wanted("oci") {
        place.oci(&mut table, runs)?;
        place.oci_memory(&mut table)?;
    }
    if wanted("disk") {
        place.disk(&mut table, runs)?;
    }
    if wanted("compose") {
        place.compose(&mut table, runs)?;
    }
    table.finish();
    Ok(ExitCode::SUCCESS)
}

/// Where everything happens; removed at the end.
struct Place {
    workdir: PathBuf,
    downloads: PathBuf,
    scratch: PathBuf,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Result<Self> {
        let given = environment::var("NOSA_TEST_BUILD").map(PathBuf::from);
        let beside = match given.as_deref().and_then(Path::parent) {
            Some(parent) => parent.to_owned(),
            None => Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench"),
        };
        fs::create_dir_all(&beside)?;
        let dir = tempfile::Builder::new().prefix("nosa-bench-").tempdir_in(&beside);
        let dir = dir.with_context(|| format!("making a directory in {}", beside.display()))?;
        let downloads = environment::var_os("NOSA_CACHE")
            .map(PathBuf::from)
            .or_else(|| environment::user_cache_dir().map(|dir| dir.join("nosa")))
            .context("neither HOME nor NOSA_CACHE is set")?;
        let (workdir, scratch) = (dir.path().join("w"), dir.path().join("scratch"));
        fs::create_dir_all(&scratch)?;
        let place = Self { workdir, downloads, scratch, _dir: dir };
        let init = place.nosa(&["init"]);
        match given {
            None => init.run()?,
            Some(given) => {
                init.arg(given.join("src/config")).run()?;
                let (from, to) = (given.join("cache/apt"), place.workdir.join("cache/apt"));
                Cmd::program("cp").args(["-a", "-T"]).arg(from).arg(to).run()?;
            }
        }
        eprintln!("fetching packages");
        place.nosa(&["fetch"]).run()?;
        Ok(place)
    }

    fn nosa(&self, args: &[&str]) -> Cmd {
        Cmd::program(env!("CARGO_BIN_EXE_nosa"))
            .arg("-C")
            .arg(&self.workdir)
            .args(args)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("NOSA_CACHE", &self.downloads)
    }

    /// The output of a stage.
    fn stage(&self, name: &str) -> Result<PathBuf> {
        let dir = self.workdir.join("cache/stages").join(name);
        let entry = fs::read_dir_sorted(&dir)?.pop();
        Ok(entry.with_context(|| format!("no output of stage {name}"))?.join("out"))
    }

    fn build(&self, table: &mut Table, runs: usize) -> Result<()> {
        eprintln!("build");
        // Only once: a build that is done again finds its stages in the cache.
        rustix::fs::sync();
        let cold = measure::once(&self.nosa(&["build"]))?;
        table.own("build, cold: CPU s", cold, cold.cpu, None);
        table.own("build, cold: wall s", cold, cold.wall, None);
        table.own("build, cold: MiB of nosa's process", cold, cold.own, Some(AIM_MEMORY));
        let again = Subject { command: self.nosa(&["build"]), prepare: Box::new(|| Ok(())) };
        let unchanged = measure::compare(&[again], runs)?[0];
        table.own("build, unchanged: CPU s", unchanged, unchanged.cpu, None);
        table.own("build, unchanged: wall s", unchanged, unchanged.wall, Some(AIM_UNCHANGED));
        Ok(())
    }

    fn commit(&self, table: &mut Table, runs: usize) -> Result<()> {
        eprintln!("commit");
        let tree = self.stage("compose")?.join("tree");
        let (ours, theirs) = (self.scratch.join("nosa-repo"), self.scratch.join("ostree-repo"));
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        let ostree = |verb: &str| Cmd::program("ostree").arg(verb).arg(option("repo", &theirs));
        let subjects = [
            Subject { command: driven::commit(&tree, &ours)?, prepare: Box::new(|| empty(&ours)) },
            Subject {
                command: ostree("commit")
                    .args(["--branch", driven::BRANCH, "--subject", driven::BRANCH])
                    .arg(format!("--tree=dir={}", tree.display())),
                prepare: Box::new(|| {
                    empty(&theirs)?;
                    ostree("init").arg("--mode=bare-user").run()
                }),
            },
        ];
        let costs = measure::compare(&subjects, runs)?;
        ensure!(
            driven::content(&ours)? == driven::content(&theirs)?,
            "nosa and ostree committed different trees"
        );
        table.against("commit", "ostree commit", &costs, CPU, 0.5);
        empty(&ours)?;
        empty(&theirs)
    }

    fn oci(&self, table: &mut Table, runs: usize) -> Result<()> {
        eprintln!("oci");
        let (scratch, out) = (self.scratch.join("oci"), self.scratch.join("oci-out"));
        empty(&scratch)?;
        let stage = self.stage("oci-archive")?;
        let layers = Layers::of(&stage.join("image.ociarchive"), &scratch)?;
        let record = fs::read_to_string(&self.stage("commit")?.join("commit.json"))?;
        let record: serde_json::Value =
            serde_json::from_str(&record).context("reading the commit's record")?;
        let commit = record["commit"].as_str().context("a record without commit")?;
        let repo = self.workdir.join("cache/repo");
        let fresh = || empty(&out);
        let zstd = Cmd::program("zstd").args(["-T0", "-3", "-q", "-f"]).arg(&layers.whole).arg("-o");
        let pairs = [
            ("gzip", "zlib-rs, 2 threads", driven::zlib_rs(&layers.dir, &out)?),
            ("zstd", "zstd -T0", zstd.arg(out.join("layers.tar.zst"))),
        ];
        for (how, other, command) in pairs {
            let ours = driven::image(&repo, commit, &layers.plan, how, &out)?;
            let subjects = [
                Subject { command: ours, prepare: Box::new(fresh) },
                Subject { command, prepare: Box::new(fresh) },
            ];
            let costs = measure::compare(&subjects, runs)?;
            table.against(&format!("oci, {how}"), other, &costs, "wall s", 1.5);
        }
        empty(&scratch)?;
        empty(&out)
    }

    /// The memory that images of two sizes need: each commit is one large file.
    fn oci_memory(&self, table: &mut Table) -> Result<()> {
        let (scratch, out) = (self.scratch.join("oci"), self.scratch.join("oci-out"));
        let (repo, plan) = (scratch.join("repo"), scratch.join("plan.json"));
        fs::write(&plan, "[]")?;
        let mut least: Option<f64> = None;
        for mib in [100_u64, 1000] {
            let tree = scratch.join(format!("tree-{mib}"));
            fs::create_dir_all(&tree)?;
            fs::create(&tree.join("large"))?.set_len(mib << 20).context("making a large file")?;
            driven::commit(&tree, &repo)?.run()?;
            let commit = nosa::ostree::Repo::open(&repo)?.resolve(driven::BRANCH)?.context("no commit")?;
            empty(&out)?;
            let cost = measure::once(&driven::image(&repo, &commit.to_string(), &plan, "gzip", &out)?)?;
            let aim = least.map(|least| least + AIM_GROWTH);
            table.own(&format!("oci, {mib} MiB of files: MiB of nosa's process"), cost, cost.own, aim);
            least = Some(cost.own);
        }
        empty(&scratch)?;
        empty(&out)
    }

    fn disk(&self, table: &mut Table, runs: usize) -> Result<()> {
        eprintln!("disk");
        let tree = self.stage("compose")?.join("tree");
        let copy = self.scratch.join("copy");
        let subjects = [
            Subject {
                command: self.nosa(&["buildextend", "--force", "qemu"]),
                prepare: Box::new(|| {
                    fs::remove_tree(&self.workdir.join("cache/stages/raw-disk"))?;
                    fs::remove_tree(&self.workdir.join("cache/stages/qcow2"))
                }),
            },
            Subject {
                command: Cmd::program("cp").args(["-a", "--reflink=never"]).arg(&tree).arg(&copy),
                prepare: Box::new(|| fs::remove_tree(&copy)),
            },
        ];
        let costs = measure::compare(&subjects, runs)?;
        table.against("disk", "cp -a", &costs, CPU, 3.0);
        fs::remove_tree(&copy)
    }

    fn compose(&self, table: &mut Table, runs: usize) -> Result<()> {
        eprintln!("compose");
        let (flat, tree) = (self.scratch.join("archive"), self.scratch.join("mmdebstrap"));
        let arch = environment::basearch();
        let lock = format!("builds/latest/{arch}/manifest-lock.generated.{arch}.json");
        let lock = serde_json::from_str(&fs::read_to_string(&self.workdir.join(lock))?)
            .context("reading the lock")?;
        let archive =
            Archive::make(&flat, &lock, &self.workdir.join("cache/apt"), &self.downloads.join("debs"))?;
        let subjects = [
            Subject {
                command: driven::install(&self.workdir, &self.downloads)?,
                prepare: Box::new(|| fs::remove_tree(&self.workdir.join("cache/stages/install"))),
            },
            Subject {
                command: Cmd::program("mmdebstrap")
                    .env("INITRD", "No")
                    .args(["--mode=root", "--variant=apt"])
                    .arg(format!("--include={}", archive.include()))
                    .arg("trixie")
                    .arg(&tree)
                    .arg(archive.source()),
                prepare: Box::new(|| fs::remove_tree(&tree)),
            },
        ];
        let costs = measure::compare(&subjects, runs)?;
        archive.check(&tree)?;
        archive.check(&self.stage("install")?.join("tree"))?;
        table.against("compose", "mmdebstrap", &costs, CPU, 0.7);
        fs::remove_tree(&tree)
    }
}

/// Prints each figure as soon as it is there: who interrupts the bench keeps what was measured.
#[derive(Default)]
struct Table {
    started: bool,
    disturbed: bool,
}

impl Table {
    /// A figure of nosa alone, with what it should not exceed.
    fn own(&mut self, what: &str, cost: Cost, value: f64, aim: Option<f64>) {
        let aim = aim.map(|aim| format!("≤ {aim:.0}, {}", if value <= aim { "met" } else { "missed" }));
        self.row(what, [&figure(value), "", "", aim.as_deref().unwrap_or("")], cost.disturbed);
    }

    /// nosa's cost and another program's, and the ratio that nosa aims at in `judged`.
    fn against(&mut self, what: &str, other: &str, costs: &[Cost], judged: &str, aim: f64) {
        let [ours, theirs] = costs else { return };
        let disturbed = ours.disturbed || theirs.disturbed;
        let rows = [
            (CPU, ours.cpu, theirs.cpu),
            ("wall s", ours.wall, theirs.wall),
            ("peak MiB", ours.tree, theirs.tree),
        ];
        for (unit, ours, theirs) in rows {
            let ratio = ours / theirs;
            let verdict = if unit == judged {
                format!("≤ {aim}, {}", if ratio <= aim { "met" } else { "missed" })
            } else {
                String::new()
            };
            let cells = [figure(ours), figure(theirs), format!("{ratio:.2}"), verdict];
            let cells = cells.each_ref().map(String::as_str);
            self.row(&format!("{what} / {other}: {unit}"), cells, disturbed);
        }
    }

    fn row(&mut self, what: &str, cells: [&str; 4], disturbed: bool) {
        if !std::mem::replace(&mut self.started, true) {
            print_row("what", ["nosa", "other", "ratio", "aim"]);
        }
        self.disturbed |= disturbed;
        print_row(&format!("{what}{}", if disturbed { " *" } else { "" }), cells);
    }

    fn finish(&self) {
        if self.disturbed {
            println!("* other work used the processors meanwhile: measure again on a quiet machine");
        }
    }
}

fn print_row(what: &str, [ours, theirs, ratio, aim]: [&str; 4]) {
    println!("{}", format!("{what:40} {ours:>8} {theirs:>8} {ratio:>6}  {aim}").trim_end());
}

fn figure(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}
