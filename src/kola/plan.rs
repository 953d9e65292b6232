//! Which tests get which machine: forks for those that need nothing special, boots for the others, and
//! shared machines for non-exclusive tests where nothing is forked. Pure.

use super::denylist::Verdict;
use super::discovery::{Body, Test};
use super::header::Needs;
use super::selection::Selected;

/// Tests and the machine they run on.
#[derive(Debug, Clone)]
pub(super) struct Job {
    /// Names the machine's directory: the test, or the bucket.
    pub(super) name: String,
    /// Where the machine comes from.
    pub(super) origin: Origin,
    /// The tests, run one after the other.
    pub(super) cases: Vec<Case>,
    /// Which try it is, from 1.
    pub(super) attempt: u32,
}

/// Where a machine comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Forked from the template.
    Fork,
    /// Booted.
    Boot,
}

/// A test that runs.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) test: Test,
    /// Why its failure only warns, if it does.
    pub(super) warn: Option<String>,
}

impl Job {
    /// Whether any of its tests needs the internet.
    pub(super) fn internet(&self) -> bool {
        self.cases.iter().any(|case| has_tag(&case.test, "needs-internet"))
    }

    /// Whether none of its tests minds failed units and bad lines on the console.
    pub(super) fn skips_base_checks(&self) -> bool {
        self.cases.iter().all(|case| has_tag(&case.test, "skip-base-checks"))
    }

    /// What its machine must have.
    pub(super) fn needs(&self) -> &Needs {
        &self.cases[0].test.header.needs
    }

    /// The job that tries one of its tests again, on a machine of its own.
    pub(super) fn again(&self, case: &Case) -> Self {
        let attempt = self.attempt + 1;
        Self { name: case.test.name.clone(), origin: self.origin, cases: vec![case.clone()], attempt }
    }
}

/// Makes the jobs of the tests that are to run.
pub(super) fn plan(selected: Vec<Selected>, fork: bool) -> Vec<Job> {
    let cases: Vec<Case> = selected.into_iter().filter_map(case).collect();
    let forkable = cases.iter().filter(|case| forkable(&case.test)).count();
    // A template pays from the second test on.
    let fork = fork && forkable > 1;
    let mut jobs = Vec::new();
    let mut buckets: Vec<Job> = Vec::new();
    for case in cases {
        if fork && self::forkable(&case.test) {
            jobs.push(Job {
                name: case.test.name.clone(),
                origin: Origin::Fork,
                cases: vec![case],
                attempt: 1,
            });
        } else if case.test.header.exclusive {
            jobs.push(Job {
                name: case.test.name.clone(),
                origin: Origin::Boot,
                cases: vec![case],
                attempt: 1,
            });
        } else {
            put(&mut buckets, case);
        }
    }
    jobs.extend(buckets);
    jobs
}

fn case(selected: Selected) -> Option<Case> {
    let Selected { test, verdict } = selected;
    match verdict {
        Verdict::Run => Some(Case { test, warn: None }),
        Verdict::Warn(why) => Some(Case { test, warn: Some(why) }),
        Verdict::Skip(_) => None,
    }
}

fn forkable(test: &Test) -> bool {
    let config = match &test.body {
        Body::Basic => None,
        Body::External(external) => external.config.as_ref(),
    };
    test.header.needs == Needs::default() && config.is_none()
}

/// Puts a non-exclusive test into the first bucket that it has no conflict with.
fn put(buckets: &mut Vec<Job>, case: Case) {
    let conflict = |other: &Case| {
        other.test.header.conflicts.contains(&case.test.name)
            || case.test.header.conflicts.contains(&other.test.name)
    };
    match buckets.iter_mut().find(|bucket| !bucket.cases.iter().any(conflict)) {
        Some(bucket) => bucket.cases.push(case),
        None => {
            let name = format!("non-exclusive-test-bucket-{}", buckets.len());
            buckets.push(Job { name, origin: Origin::Boot, cases: vec![case], attempt: 1 });
        }
    }
}

fn has_tag(test: &Test, tag: &str) -> bool {
    test.header.tags.iter().any(|own| own == tag)
}

#[cfg(test)]
mod tests {
    use super::super::discovery::External;
    use super::super::header::Header;
    use super::*;

    fn selected(name: &str, header: Header, config: bool) -> Selected {
        let config = config.then(|| "/t/config.ign".into());
        let body = Body::External(External { program: "/t/x".into(), data: None, config });
        Selected { test: Test { name: name.into(), header, body }, verdict: Verdict::Run }
    }

    fn shared(conflicts: &[&str]) -> Header {
        let conflicts = conflicts.iter().map(|name| (*name).to_owned()).collect();
        Header { exclusive: false, conflicts, ..Header::default() }
    }

    fn shown(jobs: &[Job]) -> Vec<String> {
        jobs.iter()
            .map(|job| {
                let names: Vec<&str> = job.cases.iter().map(|case| case.test.name.as_str()).collect();
                format!("{:?} {}", job.origin, names.join("+"))
            })
            .collect()
    }

    fn tests() -> Vec<Selected> {
        let large =
            Header { needs: Needs { memory_mib: Some(4096), ..Needs::default() }, ..Header::default() };
        vec![
            selected("plain", Header::default(), false),
            selected("large", large, false),
            selected("config", Header::default(), true),
            selected("a", shared(&[]), false),
            selected("b", shared(&["a"]), false),
            selected("c", shared(&[]), true),
        ]
    }

    #[test]
    fn what_needs_nothing_special_is_forked() {
        assert_eq!(
            shown(&plan(tests(), true)),
            ["Fork plain", "Boot large", "Boot config", "Fork a", "Fork b", "Boot c"]
        );
    }

    #[test]
    fn without_forks_shared_tests_fill_buckets() {
        assert_eq!(
            shown(&plan(tests(), false)),
            ["Boot plain", "Boot large", "Boot config", "Boot a+c", "Boot b"]
        );
    }

    #[test]
    fn one_test_alone_is_booted() {
        assert_eq!(shown(&plan(vec![selected("plain", Header::default(), false)], true)), ["Boot plain"]);
    }
}
