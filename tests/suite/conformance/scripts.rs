//! Scripts that misbehave: each is contained, and told by its package's name.

use std::path::Path;
use std::time::Duration;

use super::package::{Made, base};
use super::{Bench, Format, Tree, over_both, want};

over_both!(
    a_failing_script_is_named_with_what_it_said
    a_script_that_never_ends_is_ended_and_named
    a_process_left_behind_is_ended_and_named
    a_script_reads_no_input_and_reaches_no_network
    a_script_cannot_write_outside_its_tree
);

fn bench<F: Format>(post: &str) -> Bench<F> {
    Bench::new(&[base(), Made::new("bad", "1.0").file("/usr/share/bad", "b").post(post)])
}

fn run<F: Format>(post: &str) -> (Bench<F>, anyhow::Result<Tree>) {
    let bench = bench::<F>(post);
    let result = bench.install(&want(&["bad"]), &[]);
    (bench, result)
}

fn error<F: Format>(post: &str) -> String {
    match run::<F>(post).1 {
        Ok(_) => panic!("the script {post:?} did not fail"),
        Err(error) => format!("{error:#}"),
    }
}

fn a_failing_script_is_named_with_what_it_said<F: Format>() {
    let error = error::<F>("echo the reason of it; exit 3");
    assert!(error.contains("bad") && error.contains("the reason of it"), "{error}");
    assert!(error.contains("script"), "{error}");
}

fn a_script_that_never_ends_is_ended_and_named<F: Format>() {
    let mut bench = bench::<F>("while :; do sleep 1; done");
    bench.limit = Duration::from_secs(10);
    let error = format!("{:#}", bench.install(&want(&["bad"]), &[]).err().unwrap());
    assert!(error.contains("did not end within 10 s"), "{error}");
    assert!(error.contains("bad"), "{error}");
}

fn a_process_left_behind_is_ended_and_named<F: Format>() {
    let unusual = "86399";
    let (bench, result) = run::<F>(&format!("sleep {unusual} > /dev/null 2>&1 & sleep 1"));
    result.unwrap();
    let warnings = bench.warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("bad") && warning.contains("sleep running")),
        "{warnings:?}"
    );
    let alive = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        line.starts_with(&format!("sleep\0{unusual}")).then_some(line)
    });
    assert_eq!(alive.collect::<Vec<_>>(), Vec::<String>::new());
}

fn a_script_reads_no_input_and_reaches_no_network<F: Format>() {
    let (_bench, tree) =
        run::<F>("cat > /etc/input; cat /proc/net/dev > /etc/network; readlink /proc/self/fd/0 > /etc/stdin");
    let tree = tree.unwrap();
    assert_eq!(tree.read("etc/input"), "");
    let interfaces: Vec<String> = tree
        .read("etc/network")
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    assert_eq!(interfaces, ["lo"]);
    let error = error::<F>(
        "while read -r line; do case $line in eth*|en*) exit 0;; esac; done < /proc/net/dev; echo no network >&2; exit 1",
    );
    assert!(error.contains("no network") && error.contains("bad"), "{error}");
}

fn a_script_cannot_write_outside_its_tree<F: Format>() {
    let name = format!("nosa-escape-{}", std::process::id());
    let places = format!(
        "for place in /../../{name} /tmp/{name} /var/tmp/../../../../{name} /proc/1/root/{name} /proc/1/root/usr/{name} /proc/1/cwd/{name}; do \
         touch $place 2>/dev/null || :; done; echo x > /proc/sys/kernel/core_pattern 2>/dev/null && exit 9; \
         echo x > /sys/kernel/uevent_helper 2>/dev/null && exit 9; exit 0"
    );
    let before = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let (_bench, tree) = run::<F>(&places);
    let tree = tree.unwrap();
    for dir in ["/", "/tmp", "/usr", "/var/tmp", "/run", "/root"] {
        assert!(!Path::new(dir).join(&name).exists(), "{dir}");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap(), before);
    assert!(tree.root.join(&name).exists(), "what it can reach is its own tree");
    assert!(!tree.root.join("tmp").join(&name).exists());
}
