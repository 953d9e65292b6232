//! One test on one machine, as a state machine: prepare, run, perhaps reboot and run again, judge.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::host::{Ending, Finished};

use super::denylist::{Circumstances, Denylist, Verdict};
use super::discovery::{Body, Test};
use super::kit::{self, Slot};
use super::lab::{Guest, root};
use super::report::{Outcome, TestResult};

/// How long a test may take when it does not say, under KVM.
const EXCLUSIVE_LIMIT: Duration = Duration::from_secs(600);
const SHARED_LIMIT: Duration = Duration::from_secs(60);

/// How many of a failed test's last lines its result shows.
const SHOWN_LINES: usize = 40;

/// How a test's body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) output: String,
    pub(super) subtests: Vec<TestResult>,
}

/// What the machine told when a test's unit stopped or asked for something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Passed,
    Failed(String),
    Reboot(String),
}

/// Where a case stands.
enum State {
    Run { mark: String },
    Reboot { mark: String },
    Done(Ended),
}

/// Runs a test's body on a machine that answers.
pub(super) fn run(
    guest: &mut Guest,
    test: &Test,
    number: Option<usize>,
    denylist: (&Denylist, &Circumstances),
) -> Result<Ended> {
    let external = match &test.body {
        Body::Basic => return basic(guest, denylist),
        Body::External(external) => external,
    };
    let slot = Slot::new(&test.name, external, number);
    guest.ssh.unpack(slot.archive()?, guest.command_limit())?;
    guest.sudo("systemctl daemon-reload")?;
    let deadline = Instant::now() + limit(test) * guest.pace();
    let mut state = State::Run { mark: String::new() };
    loop {
        state = match state {
            State::Run { mark } => match start(guest, &slot, &mark, deadline)? {
                Step::Passed => State::Done(Ended::passed()),
                Step::Failed(why) => State::Done(failed(guest, &slot, &why)),
                Step::Reboot(_) if number.is_some() => {
                    let why = "the test asks for a reboot, but shares its machine (exclusive: false)";
                    State::Done(failed(guest, &slot, why))
                }
                Step::Reboot(mark) => State::Reboot { mark },
            },
            State::Reboot { mark } => {
                reboot(guest)?;
                State::Run { mark }
            }
            State::Done(ended) => return Ok(ended),
        };
    }
}

/// How long a test may take under KVM.
fn limit(test: &Test) -> Duration {
    match test.header.timeout_min {
        Some(minutes) => Duration::from_secs(minutes * 60),
        None if test.header.exclusive => EXCLUSIVE_LIMIT,
        None => SHARED_LIMIT,
    }
}

fn start(guest: &Guest, slot: &Slot<'_>, mark: &str, deadline: Instant) -> Result<Step> {
    let quoted = mark.replace('\'', "");
    let script = format!(
        "umask 022; printf \"AUTOPKGTEST_REBOOT_MARK=%s\\n\" \"'{quoted}'\" > /run/kola-runext-env; exec sh {} {}",
        kit::RUN_UNIT,
        slot.unit()
    );
    let mut console = guest.console_watch();
    let mut death = None;
    let left = deadline.saturating_duration_since(Instant::now());
    let done = guest.ssh.run_with(&root(&script), Vec::new(), left, || {
        death = console.dead();
        death.is_none()
    })?;
    if let Some(finding) = death {
        return Ok(Step::Failed(format!("the machine died: {finding}")));
    }
    Ok(read_step(&done))
}

fn read_step(done: &Finished) -> Step {
    match done.ending {
        Ending::Exit(0) => {}
        Ending::TimedOut => return Step::Failed("the test's time is up".to_owned()),
        ending => {
            let why = done.stderr.lines().last().unwrap_or_default();
            return Step::Failed(format!("the connection to the machine ended with {ending:?}: {why}"));
        }
    }
    let value = |key: &str| {
        done.stdout.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default()
    };
    if done.stdout.lines().any(|line| line.starts_with("Reboot=")) {
        return Step::Reboot(value("Reboot").to_owned());
    }
    let status = value("ExecMainStatus");
    match (value("ActiveState"), value("SubState"), value("ExecMainCode")) {
        ("active", "exited", _) if status == "0" => Step::Passed,
        (_, _, "1") => Step::Failed(format!("exit code {status}")),
        (_, _, "2" | "3") => Step::Failed(format!("killed by signal {status}")),
        (active, sub, _) => Step::Failed(format!("the test's unit is {active} ({sub}): {}", value("Result"))),
    }
}

fn reboot(guest: &mut Guest) -> Result<()> {
    let old = guest.boot_id()?;
    // The test goes on when it reads from its FIFO; the answer may not outlive the machine.
    let acknowledge = root("rm -f /run/kolet-reboot; echo > /run/kolet-reboot-ack");
    drop(guest.ssh.run(&acknowledge, guest.command_limit())?);
    guest.wait_for_reboot(&old)?;
    guest.ssh.unpack(kit::scripts()?, guest.command_limit())
}

fn failed(guest: &Guest, slot: &Slot<'_>, why: &str) -> Ended {
    let journal = format!("journalctl -q -b --no-pager -o cat -n {SHOWN_LINES} -u {}", slot.unit());
    // A machine that does not answer any more has its console to show.
    let lines = guest.sudo(&journal).unwrap_or_default();
    Ended { outcome: Outcome::Fail, output: format!("{why}\n{lines}"), subtests: Vec::new() }
}

fn basic(guest: &Guest, (denylist, now): (&Denylist, &Circumstances)) -> Result<Ended> {
    guest.ssh.unpack(kit::scripts()?, guest.command_limit())?;
    let printed = guest.sudo(&format!("sh {}", kit::BASIC))?;
    Ok(read_basic(&printed, denylist, now))
}

fn read_basic(printed: &str, denylist: &Denylist, now: &Circumstances) -> Ended {
    let mut ended = Ended::passed();
    for line in printed.lines() {
        let (outcome, rest) = match line.split_once(' ') {
            Some(("PASS", rest)) => (Outcome::Pass, rest),
            Some(("FAIL", rest)) => (Outcome::Fail, rest),
            _ => continue,
        };
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let (outcome, why) = match denylist.verdict(&format!("basic/{name}"), now) {
            Verdict::Skip(reason) => (Outcome::Skip, reason),
            Verdict::Warn(reason) if outcome == Outcome::Fail => (Outcome::Warn, format!("{why} ({reason})")),
            _ => (outcome, why.to_owned()),
        };
        if matches!(outcome, Outcome::Fail | Outcome::Warn) {
            ended.output.push_str(&format!("{name}: {why}\n"));
            ended.outcome = ended.outcome.max(outcome);
        }
        ended.subtests.push(TestResult::new(name, outcome, Duration::ZERO, why));
    }
    if ended.subtests.is_empty() {
        ended.outcome = Outcome::Fail;
        "the checks printed no result".clone_into(&mut ended.output);
    }
    ended
}

impl Ended {
    fn passed() -> Self {
        Self { outcome: Outcome::Pass, output: String::new(), subtests: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(ending: Ending, stdout: &str) -> Step {
        read_step(&Finished { ending, stdout: stdout.to_owned(), stderr: "Broken pipe\n".to_owned() })
    }

    #[test]
    fn what_systemd_says_of_a_test() {
        let shown = |active: &str, sub: &str, result: &str, code: u8, status: u8| {
            format!(
                "ActiveState={active}\nSubState={sub}\nResult={result}\nExecMainCode={code}\nExecMainStatus={status}\n"
            )
        };
        let exit = Ending::Exit(0);
        assert_eq!(step(exit, &shown("active", "exited", "success", 1, 0)), Step::Passed);
        assert_eq!(
            step(exit, &shown("failed", "failed", "exit-code", 1, 3)),
            Step::Failed("exit code 3".into())
        );
        assert_eq!(
            step(exit, &shown("failed", "failed", "signal", 2, 9)),
            Step::Failed("killed by signal 9".into())
        );
        assert_eq!(step(exit, "Reboot=second\n"), Step::Reboot("second".into()));
        assert!(matches!(step(Ending::TimedOut, ""), Step::Failed(why) if why.contains("time is up")));
        assert!(matches!(step(Ending::Exit(255), ""), Step::Failed(why) if why.contains("Broken pipe")));
    }

    #[test]
    fn the_basic_checks_and_their_denylist() {
        let list = Denylist::parse("d", "- pattern: basic/UserAdd\n  warn: true\n").unwrap();
        let printed = "PASS OSTree\nFAIL UserAdd: no home\n";
        let ended = read_basic(printed, &list, &Circumstances::default());
        assert_eq!((ended.outcome, ended.subtests.len()), (Outcome::Warn, 2));
        let ended = read_basic(printed, &Denylist::default(), &Circumstances::default());
        assert_eq!((ended.outcome, ended.output.as_str()), (Outcome::Fail, "UserAdd: no home\n"));
        assert_eq!(read_basic("", &list, &Circumstances::default()).outcome, Outcome::Fail);
    }
}
