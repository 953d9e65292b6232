//! What a whole tree of processes costs: processor time, wall time, memory.
//!
//! - **Processor time** is what the kernel adds up for reaped children (`cutime` and `cstime` of proc(5)). A
//!   sandbox's first process outlives bwrap for a moment and nobody of ours waits for it: the bench is the
//!   subreaper (prctl(2)) of all that it starts and reaps every orphan. [`verify`] holds this against a known
//!   burner inside and outside of a process namespace.
//! - **Wall time** runs from the start of the program until its last process is gone.
//! - **Memory** is sampled: `tree`, the greatest sum of anonymous memory over all processes that live at
//!   once; `own`, the high-water mark of the largest process of the measured program itself.
//! - Other work on the machine would be measured along: a run during which others burned more than a quarter
//!   of a processor is done again, once, then marked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nosa::host::{Cmd, fs};
use rustix::process::WaitOptions;

/// How often memory is looked at.
const PERIOD: Duration = Duration::from_millis(40);
/// The share of one processor that others may use while something is measured.
const NOISE: f64 = 0.25;
/// How often a disturbed run is done again: on a busy machine more would not help.
const AGAIN: usize = 1;
/// How long orphans may live on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The cost of one run, or the medians of several.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// Processor seconds, user and system.
    pub(crate) cpu: f64,
    /// Seconds.
    pub(crate) wall: f64,
    /// Peak anonymous memory of all processes together, in MiB.
    pub(crate) tree: f64,
    /// Peak resident memory of the program's own process, in MiB.
    pub(crate) own: f64,
    /// Others used the processors meanwhile.
    pub(crate) disturbed: bool,
}

/// Something to measure: `prepare` is not.
pub(crate) struct Subject<'a> {
    /// The program.
    pub(crate) command: Cmd,
    /// Puts the starting point up.
    pub(crate) prepare: Box<dyn Fn() -> Result<()> + 'a>,
}

/// Makes this process the one that inherits orphans.
pub(crate) fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).context("becoming a subreaper")
}

/// Measures subjects in turn: one round to warm up, then `runs` rounds; returns the medians.
pub(crate) fn compare(subjects: &[Subject<'_>], runs: usize) -> Result<Vec<Cost>> {
    let mut costs: Vec<Vec<Cost>> = subjects.iter().map(|_| Vec::new()).collect();
    for round in 0..=runs {
        for (subject, costs) in subjects.iter().zip(&mut costs) {
            let cost = quiet(subject)?;
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    Ok(costs.iter().map(|costs| medians(costs)).collect())
}

/// Measures a subject; again if others used the processors meanwhile.
fn quiet(subject: &Subject<'_>) -> Result<Cost> {
    let mut cost = Cost::default();
    for _ in 0..=AGAIN {
        (subject.prepare)()?;
        // What earlier runs left to be written is not this one's.
        rustix::fs::sync();
        cost = once(&subject.command)?;
        if !cost.disturbed {
            break;
        }
    }
    Ok(cost)
}

/// Runs a burner of processor time alone and in a sandbox such as nosa's; both must cost the same.
pub(crate) fn verify() -> Result<()> {
    let burn = "i=0; while [ $i -lt 2000000 ]; do i=$((i+1)); done";
    let bare = once(&Cmd::program("sh").args(["-c", burn]))?.cpu;
    let sandbox = ["--unshare-pid", "--die-with-parent", "--bind", "/", "/", "--proc", "/proc", "--"];
    // Two shells, so that the burner is a grandchild of the namespace's first process.
    let inner = format!("sh -c '{burn}'; true");
    let boxed = once(&Cmd::program("bwrap").args(sandbox).args(["sh", "-c", &inner]))?.cpu;
    ensure!(
        bare > 0.2 && (0.7..1.4).contains(&(boxed / bare)),
        "processor time is not seen through a sandbox: {bare:.2} s outside, {boxed:.2} s inside"
    );
    Ok(())
}

fn medians(costs: &[Cost]) -> Cost {
    let median = |value: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = costs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(0.0)
    };
    Cost {
        cpu: median(|cost| cost.cpu),
        wall: median(|cost| cost.wall),
        tree: median(|cost| cost.tree),
        own: median(|cost| cost.own),
        disturbed: costs.iter().any(|cost| cost.disturbed),
    }
}

/// Measures one run.
pub(crate) fn once(command: &Cmd) -> Result<Cost> {
    let log = tempfile::NamedTempFile::new().context("making a log")?;
    let (before, machine) = (Clock::read()?, busy()?);
    let start = Instant::now();
    let mut child = command.clone().log(log.path()).spawn()?;
    let root = child.id();
    let done = AtomicBool::new(false);
    let (ended, peak) = std::thread::scope(|scope| -> Result<_> {
        let sampler = scope.spawn(|| sample(root, &done));
        let ended = child.wait().and_then(|status| {
            reap()?;
            Ok((status, start.elapsed().as_secs_f64()))
        });
        done.store(true, Ordering::Relaxed);
        let peak = sampler.join().map_err(|_| anyhow::anyhow!("the sampler panicked"))?;
        Ok((ended?, peak))
    })?;
    let (status, wall) = ended;
    let (after, total) = (Clock::read()?, busy()? - machine);
    if !status.success() {
        let said = fs::read_to_string(log.path())?;
        let last: Vec<&str> = said.lines().rev().take(20).collect();
        bail!("{command}: {status}\n{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    let cpu = after.children - before.children;
    let others = total - cpu - (after.own - before.own);
    Ok(Cost { cpu, wall, tree: peak.tree, own: peak.own, disturbed: others > NOISE * wall + 0.1 })
}

/// Waits for every process that was left behind.
fn reap() -> Result<()> {
    let start = Instant::now();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) => {}
            Err(rustix::io::Errno::CHILD) => return Ok(()),
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(1)),
            Ok(None) => bail!("a measured program left a process behind that does not end"),
            Err(error) => return Err(error).context("waiting for orphans"),
        }
    }
}

/// Processor seconds of this process and of its reaped children.
struct Clock {
    own: f64,
    children: f64,
}

impl Clock {
    fn read() -> Result<Self> {
        let text = fs::read_to_string(Path::new("/proc/self/stat"))?;
        let fields = after_name(&text);
        let field = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
        let sum = |first: usize| Some((field(first)? + field(first + 1)?) / ticks());
        // utime is field 14 of proc_pid_stat(5), counted from 1; the state, first after the name, is 3.
        let clock = sum(11).zip(sum(13)).context("reading /proc/self/stat")?;
        Ok(Self { own: clock.0, children: clock.1 })
    }
}

/// Processor seconds that the whole machine used since it started.
fn busy() -> Result<f64> {
    let text = fs::read_to_string(Path::new("/proc/stat"))?;
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    // user, nice, system, idle, iowait, irq, softirq
    Ok([0, 1, 2, 5, 6].iter().filter_map(|index| fields.get(*index)).sum::<f64>() / ticks())
}

fn ticks() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

/// The fields of a stat file that come after the name, which may hold anything.
fn after_name(stat: &str) -> Vec<&str> {
    stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default()
}

#[derive(Debug, Default)]
struct Peak {
    tree: f64,
    own: f64,
}

/// Watches the memory of all processes below this one until `done`.
fn sample(root: u32, done: &AtomicBool) -> Peak {
    let mut peak = Peak::default();
    let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut program = String::new();
    while !done.load(Ordering::Relaxed) {
        let mut sum = 0.0;
        for pid in descendants(std::process::id()) {
            // A process may end at any moment: then it has no memory.
            let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            sum += field(&status, "RssAnon:");
            let called = name(pid);
            if pid == root {
                program.clone_from(&called);
            }
            if called == program {
                peak.own = peak.own.max(field(&status, "VmHWM:"));
            }
        }
        peak.tree = peak.tree.max(sum);
        std::thread::sleep(PERIOD);
    }
    peak
}

/// A field of proc_pid_status(5) in MiB.
fn field(status: &str, name: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok());
    kib.unwrap_or(0.0) / 1024.0
}

fn descendants(ancestor: u32) -> BTreeSet<u32> {
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(parent) = after_name(&stat).get(1).and_then(|field| field.parse().ok()) {
            parents.insert(pid, parent);
        }
    }
    let mut found = BTreeSet::new();
    let mut front = vec![ancestor];
    while let Some(parent) = front.pop() {
        for (pid, _) in parents.iter().filter(|(_, of)| **of == parent) {
            if found.insert(*pid) {
                front.push(*pid);
            }
        }
    }
    found
}
