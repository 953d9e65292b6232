//! Running the chosen tests: as many machines at a time as processors and memory allow, boots while the
//! template boots, forks as soon as it is frozen, and a second try for what failed if that is wanted.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::host::{environment, fs};
use crate::pipeline::Reporter;
use crate::vm::Accelerator;

use super::case;
use super::denylist::{Circumstances, Denylist, Verdict};
use super::discovery::Body;
use super::header::Needs;
use super::ignition::{Ignition, read_config};
use super::kit::Slot;
use super::lab::{Frozen, Guest, Lab, Order};
use super::plan::{Case, Job, Origin, plan};
use super::report::{Outcome, Report, TestResult};
use super::selection::Selected;

/// How a run goes about it.
#[derive(Debug, Clone)]
pub struct Manner {
    /// Machines at a time; `None` lets processors and memory decide.
    pub parallel: Option<usize>,
    /// Whether tests that need no machine of their own get forks of one.
    pub fork: bool,
    /// Whether a failed test is tried once more.
    pub rerun: bool,
}

/// Runs tests and writes their reports below the lab's output directory.
pub fn run(
    lab: &Lab,
    selected: Vec<Selected>,
    manner: &Manner,
    denylist: (&Denylist, &Circumstances),
    report: &Reporter,
) -> Result<Report> {
    fs::create_dir_all(&lab.output)?;
    let mut results: Vec<TestResult> = selected.iter().filter_map(skipped).collect();
    results.iter().for_each(|result| report.note(result.lines()));
    let jobs = plan(selected, manner.fork);
    let workers = manner.parallel.unwrap_or_else(|| workers(lab)).clamp(1, jobs.len().max(1));
    let (forks, boots) = jobs.into_iter().partition(|job| job.origin == Origin::Fork);
    let runner = Runner {
        lab,
        denylist,
        report,
        rerun: manner.rerun,
        queue: Mutex::new(Queue { boots, forks, template: Stand::Missing, running: 0, results: Vec::new() }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| runner.work());
        }
    });
    let queue = runner.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.extend(queue.results);
    let report = Report::new(results, &denylist.1.platform, &denylist.1.version);
    report.write(&lab.output)?;
    Ok(report)
}

/// Machines at a time, as long as four fifths of the free memory hold them: one a processor under KVM. An
/// emulated machine keeps all its processors busy while it boots, and systemd in it gives devices no more
/// time for that, so emulated machines never share processors.
fn workers(lab: &Lab) -> usize {
    let meminfo = fs::read_to_string(std::path::Path::new("/proc/meminfo")).unwrap_or_default();
    let free_kib = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let by_memory =
        free_kib.map_or(usize::MAX, |kib| (kib / 1024 * 4 / 5 / u64::from(lab.memory_mib)) as usize);
    let by_processors = match lab.accelerator {
        Accelerator::Kvm => environment::processors(),
        Accelerator::Tcg => environment::processors() / Lab::cpus() as usize,
    };
    by_processors.min(by_memory).max(1)
}

fn skipped(selected: &Selected) -> Option<TestResult> {
    match &selected.verdict {
        Verdict::Skip(why) => Some(TestResult::new(&selected.test.name, Outcome::Skip, Duration::ZERO, why)),
        _ => None,
    }
}

struct Runner<'r> {
    lab: &'r Lab,
    denylist: (&'r Denylist, &'r Circumstances),
    report: &'r Reporter,
    rerun: bool,
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    boots: VecDeque<Job>,
    forks: VecDeque<Job>,
    template: Stand,
    running: usize,
    results: Vec<TestResult>,
}

/// Where the template stands.
#[derive(Clone)]
enum Stand {
    Missing,
    Booting,
    Ready(Arc<Original>),
    Failed(String),
}

struct Original {
    frozen: Frozen,
    /// What is wrong with the template's machine, and so with all its forks.
    problems: Vec<String>,
}

enum Task {
    Template,
    Job(Job, Stand),
    Nothing,
}

impl Runner<'_> {
    fn work(&self) {
        loop {
            match self.next() {
                Task::Nothing => return,
                Task::Template => {
                    let stand = match self.make_template() {
                        Ok(original) => Stand::Ready(Arc::new(original)),
                        Err(error) => Stand::Failed(format!("{error:#}")),
                    };
                    self.lock().template = stand;
                    self.changed.notify_all();
                }
                Task::Job(job, stand) => self.run_job(&job, &stand),
            }
        }
    }

    fn next(&self) -> Task {
        let mut queue = self.lock();
        loop {
            match queue.template.clone() {
                Stand::Missing if !queue.forks.is_empty() => {
                    queue.template = Stand::Booting;
                    return Task::Template;
                }
                stand @ (Stand::Ready(_) | Stand::Failed(_)) => {
                    if let Some(job) = queue.forks.pop_front() {
                        queue.running += 1;
                        return Task::Job(job, stand);
                    }
                }
                Stand::Missing | Stand::Booting => {}
            }
            if let Some(job) = queue.boots.pop_front() {
                queue.running += 1;
                return Task::Job(job, Stand::Missing);
            }
            // A running job may come back for its second try.
            if queue.forks.is_empty() && (queue.running == 0 || !self.rerun) {
                return Task::Nothing;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn make_template(&self) -> Result<Original> {
        let begun = Instant::now();
        let ignition = self.ignition().build();
        let needs = Needs::default();
        let order =
            Order { name: "template", attempt: 1, needs: &needs, internet: false, ignition: &ignition };
        let (mut guest, memory) = self.lab.boot_template(&order)?;
        let mut problems = guest.base_checks()?;
        problems.extend(guest.findings()?.iter().map(ToString::to_string));
        guest.ssh.disconnect()?;
        let booted = begun.elapsed();
        let frozen = guest.freeze(memory)?;
        self.report.note(format!("the machine to fork from was ready after {:.1} s", booted.as_secs_f64()));
        Ok(Original { frozen, problems })
    }

    fn run_job(&self, job: &Job, stand: &Stand) {
        let mut done = Vec::new();
        if let Err(error) = self.run_cases(job, stand, &mut done) {
            let why = format!("{error:#}");
            for case in &job.cases[done.len()..] {
                done.push(TestResult::new(&case.test.name, Outcome::Fail, Duration::ZERO, &why));
            }
        }
        let mut queue = self.lock();
        for (case, mut result) in job.cases.iter().zip(done) {
            if let (Outcome::Fail, Some(why)) = (result.result, &case.warn) {
                result.result = Outcome::Warn;
                result.output = format!("{why}\n{}", result.output);
            }
            if result.result == Outcome::Fail && self.rerun && job.attempt == 1 {
                self.report.note(format!("{}: trying again", result.lines()));
                let again = job.again(case);
                match again.origin {
                    Origin::Fork => queue.forks.push_back(again),
                    Origin::Boot => queue.boots.push_back(again),
                }
                continue;
            }
            if job.attempt > 1 && result.result == Outcome::Pass {
                result.result = Outcome::Warn;
                "failed at first, passed when it ran again".clone_into(&mut result.output);
            }
            self.report.note(result.lines());
            queue.results.push(result);
        }
        queue.running -= 1;
        drop(queue);
        self.changed.notify_all();
    }

    fn run_cases(&self, job: &Job, stand: &Stand, done: &mut Vec<TestResult>) -> Result<()> {
        let begun = Instant::now();
        let (mut guest, mut problems) = self.guest(job, stand)?;
        let sharing = job.cases.len() > 1;
        let mut mark = begun;
        for (index, case) in job.cases.iter().enumerate() {
            let number = sharing.then_some(index);
            let ended = case::run(&mut guest, &case.test, number, self.denylist)?;
            let mut result = TestResult::new(&case.test.name, ended.outcome, mark.elapsed(), ended.output);
            result.subtests = ended.subtests;
            mark = Instant::now();
            done.push(result);
        }
        if job.skips_base_checks() {
            return Ok(());
        }
        for finding in guest.findings()? {
            if !finding.warning {
                problems.push(finding.to_string());
            }
        }
        for result in done.iter_mut().filter(|_| !problems.is_empty()) {
            let own = if result.result == Outcome::Fail { "" } else { "the test itself passed; " };
            result.output =
                format!("{}\n{own}its machine has problems:\n{}", result.output, problems.join("\n"))
                    .trim_start()
                    .to_owned();
            result.result = Outcome::Fail;
        }
        Ok(())
    }

    /// The machine of a job, and what is wrong with it before any test ran.
    fn guest(&self, job: &Job, stand: &Stand) -> Result<(Guest, Vec<String>)> {
        let mut order = Order {
            name: &job.name,
            attempt: job.attempt,
            needs: job.needs(),
            internet: job.internet(),
            ignition: "",
        };
        match stand {
            Stand::Ready(original) => {
                let guest = self.lab.fork(&original.frozen.template, &order)?;
                Ok((guest, original.problems.clone()))
            }
            Stand::Failed(why) => anyhow::bail!("the machine to fork from did not come up: {why}"),
            Stand::Missing | Stand::Booting => {
                let ignition = self.job_ignition(job)?;
                order.ignition = &ignition;
                let guest = self.lab.boot(&order)?;
                let problems = if job.skips_base_checks() { Vec::new() } else { guest.base_checks()? };
                Ok((guest, problems))
            }
        }
    }

    fn ignition(&self) -> Ignition {
        Ignition::new(&self.lab.user, &self.lab.key.public).stream_journal().patient(self.lab.accelerator)
    }

    fn job_ignition(&self, job: &Job) -> Result<String> {
        let sharing = job.cases.len() > 1;
        let mut ignition = self.ignition();
        let mut merged = Vec::new();
        for (index, Case { test, .. }) in job.cases.iter().enumerate() {
            let Body::External(external) = &test.body else { continue };
            let slot = Slot::new(&test.name, external, sharing.then_some(index));
            ignition = ignition.unit(&slot.unit(), &slot.unit_text());
            if let Some(config) = &external.config
                && !merged.contains(&config)
            {
                ignition =
                    ignition.merge(read_config(config).with_context(|| format!("preparing {}", test.name))?);
                merged.push(config);
            }
        }
        Ok(ignition.build())
    }
}
