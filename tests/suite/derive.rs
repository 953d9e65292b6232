//! Images as bases: podman runs them, apt works in them, `nosa derive` builds upon them, the lint sees what
//! machines would miss.

use std::fs;
use std::path::{Path, PathBuf};

use nosa::host::{Cmd, environment};
use nosa::oci::{Image, Layout};
use serde_json::Value;

use crate::fixture::{artifact, nosa, refused, said, shared};
use crate::podman::Podman;

fn open(archive: &Path) -> Image {
    Layout::open(archive).unwrap().image(None, environment::basearch()).unwrap()
}

/// `nosa derive` over the shared build, as JSON.
fn derive(shared: &Path, podman: &Podman, args: &[&str]) -> (i32, Value, String) {
    let out = podman.dir().join("said.json");
    // Two streams: the result, and how it went.
    let script = r#"out=$1; shift; exec "$@" > "$out""#;
    let call = Cmd::program("sh").args(["-c", script, "sh"]).arg(&out).arg(nosa()).arg("-C").arg(shared);
    let (code, said) = said(podman.over(call.args(["--json", "derive"]).args(args)));
    let json = serde_json::from_str(&fs::read_to_string(&out).unwrap_or_default()).unwrap_or_default();
    (code, json, said)
}

/// A context in podman's directory with these files.
fn context(podman: &Podman, name: &str, files: &[(&str, &str)]) -> String {
    let dir = podman.dir().join(name);
    for (path, text) in files {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    dir.display().to_string()
}

fn rules(findings: &Value) -> Vec<&str> {
    findings.as_array().unwrap().iter().map(|finding| finding["rule"].as_str().unwrap()).collect()
}

#[test]
fn podman_alone_builds_upon_an_image_and_runs_it() {
    let Some(shared) = shared() else { return };
    let Some(podman) = Podman::new(shared.parent().unwrap()) else { return };
    let base = format!("BASE=oci-archive:{}", artifact(&shared, "ostree").display());
    // On the host's network: whether podman can make one of its own here is not the question. apt finds
    // Debian without knowing the mirror of whoever built the image.
    let containerfile = "ARG BASE\nFROM ${BASE}\n\
        RUN grep -q 'URIs: mirror+file:/etc/apt/mirrors/debian.list' /etc/apt/sources.list.d/debian.sources\n\
        RUN apt-get update && apt-get install --yes tree && rm -rf /var/lib/apt /var/cache/apt\n";
    let context = context(&podman, "plain", &[("Containerfile", containerfile)]);
    let tag = "localhost/plain:1";
    podman.ok(&["build", "--network", "host", "--build-arg", &base, "-t", tag, &context]);
    assert!(podman.run(tag, &["tree", "--version"]).starts_with("tree v"));
    assert!(podman.run(tag, &["cat", "/etc/os-release"]).contains("ID=nestos"));
    let versions = podman.run(tag, &["dpkg-query", "--show", "--showformat", "${Package}\\n", "apt", "tree"]);
    assert_eq!(versions, "apt\ntree\n");
    let lint = Cmd::program(nosa()).args(["--json", "--quiet", "lint", &format!("containers-storage:{tag}")]);
    let (code, printed) = said(podman.over(lint));
    let findings: Value = serde_json::from_str(&printed).unwrap_or_default();
    assert_eq!((code, rules(&findings)), (0, vec!["var-log", "package-cache"]), "{printed}");
}

#[test]
fn a_containerfile_becomes_an_image_that_keeps_the_bases_layers() {
    let Some(shared) = shared() else { return };
    let Some(podman) = Podman::new(shared.parent().unwrap()) else { return };
    let containerfile = "ARG BASE\nFROM ${BASE}\nARG WORD\nRUN echo $WORD > /usr/share/word\nENV A=b\nCOPY . /usr/share/context\n";
    let files =
        [("Containerfile", containerfile), (".containerignore", "secret\n"), ("a", "1"), ("secret", "2")];
    let context = context(&podman, "context", &files);
    let output = podman.dir().join("derived.ociarchive");
    let out = output.display().to_string();
    let tag = "localhost/test-derived:1";
    let args = ["-t", tag, "--build-arg", "WORD=hello", "-o", &out, "--fatal-warnings", &context];
    let (code, json, told) = derive(&shared, &podman, &args);
    assert_eq!(code, 0, "{told}\n{json:#}");
    // Progress: every instruction, once.
    for step in ["step 1/5: FROM", "step 3/5: RUN echo $WORD", "step 5/5: COPY . /usr/share/context"] {
        assert_eq!(told.matches(step).count(), 1, "{told}");
    }
    let (base, derived) = (open(&artifact(&shared, "ostree")), open(&output));
    let own = base.manifest.layers().len();
    assert_eq!(derived.manifest.layers()[..own], base.manifest.layers()[..]);
    assert_eq!(derived.manifest.layers().len(), own + 2);
    assert_eq!(json["manifest"], derived.digest.to_string());
    assert_eq!(json["base"], base.digest.to_string());
    let labels = derived.config.labels_of_config().unwrap();
    assert_eq!(labels.get("ostree.final-diffid"), base.config.rootfs().diff_ids().last());
    // What each instruction added is what its layer holds.
    let sizes: Vec<u64> = derived.manifest.layers()[own..].iter().map(|layer| layer.size()).collect();
    let steps = json["steps"].as_array().unwrap();
    let told: Vec<u64> =
        steps.iter().filter_map(|step| step["compressed"].as_u64()).filter(|size| *size > 0).collect();
    assert_eq!(told, sizes, "{steps:?}");
    assert!(
        steps.iter().any(|step| step["instruction"] == "ENV A=b" && step["uncompressed"] == 0),
        "{steps:?}"
    );
    // An outside reader has it whole, and it runs.
    let copy = format!("oci:{}", podman.dir().join("copy").display());
    Cmd::program("skopeo").args(["copy", "--quiet", &format!("oci-archive:{out}"), &copy]).run().unwrap();
    assert_eq!(podman.run(tag, &["cat", "/usr/share/word"]), "hello\n");
    assert_eq!(podman.run(tag, &["ls", "-A", "/usr/share/context"]), ".containerignore\nContainerfile\na\n");
    // What is there already is not written over.
    let again = Cmd::program(nosa()).arg("-C").arg(&shared).args(["derive", "-o", &out, &context]);
    refused(podman.over(again), 2, &["derived.ociarchive is there already"]);
}

#[test]
fn a_containerfile_that_fails_says_where_and_leaves_nothing() {
    let Some(shared) = shared() else { return };
    let Some(podman) = Podman::new(shared.parent().unwrap()) else { return };
    let output = podman.dir().join("none.ociarchive");
    let out = output.display().to_string();
    let fails = |name: &str, containerfile: &str, words: &[&str]| {
        let context = context(&podman, name, &[("Containerfile", containerfile)]);
        let call = Cmd::program(nosa()).arg("-C").arg(&shared).args(["derive", "-o", &out, &context]);
        refused(podman.over(call), 7, words);
        assert!(!output.exists());
    };
    let from = "ARG BASE\nFROM ${BASE}\n";
    let lines = ["step 2/2, RUN echo one", "failed: ", "exit status 3", "    two\n", "derive.log"];
    fails("fails", &format!("{from}RUN echo one && echo two >&2 && exit 3\n"), &lines);
    fails("nonsense", &format!("{from}COOK rice\n"), &["COOK"]);
    fails(
        "elsewhere",
        "FROM scratch\nCOPY Containerfile /x\n",
        &["it is not built upon localhost/", "ARG BASE"],
    );
    // With an error of the lint there is no archive either.
    let lost = format!(
        "{from}RUN mkdir -p /var/usrlocal/bin /usr/etc && echo x > /usr/local/bin/x && echo x > /usr/etc/x\n"
    );
    fails("lost", &lost, &["usr-etc (error): ", "var-link (error): ", "/usr/local/bin/x", "has 2 errors"]);
}

#[test]
fn a_builder_that_does_not_answer_is_told() {
    let Some(shared) = shared() else { return };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("Containerfile"), "ARG BASE\nFROM ${BASE}\n").unwrap();
    let derive = || Cmd::program(nosa()).arg("-C").arg(&shared).arg("derive").arg(dir.path());
    let nowhere = derive().env("CONTAINER_HOST", "unix:///nowhere/podman.sock");
    refused(nowhere, 9, &["CONTAINER_HOST=unix:///nowhere/podman.sock: nothing answers", "podman.socket"]);
    refused(derive().env("DOCKER_HOST", "tcp://localhost:1"), 2, &["unix://PATH only"]);
    refused(derive().arg("-f").arg("/nowhere"), 2, &["there is no Containerfile: /nowhere"]);
    refused(derive().args(["--build-arg", "x"]), 2, &["NAME=VALUE"]);
}

#[test]
fn the_image_of_a_build_has_no_findings() {
    let Some(shared) = shared() else { return };
    let lint = |args: &[&str]| {
        said(Cmd::program(nosa()).arg("-C").arg(&shared).args(["--quiet", "--json", "lint"]).args(args))
    };
    assert_eq!(lint(&["--fatal-warnings"]), (0, "[]\n".to_owned()));
    let image = format!("oci-archive:{}", artifact(&shared, "ostree").display());
    assert_eq!(lint(&["--fatal-warnings", &image]), (0, "[]\n".to_owned()));
    refused(Cmd::program(nosa()).args(["lint", "oci:/nowhere"]), 12, &["there is no /nowhere"]);
}

/// The examples that ship with the variant, copied so that what they copy from outside can be put there.
fn example(podman: &Podman, name: &str, stand_ins: &[&str]) -> String {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("variants/debian-container/examples").join(name);
    let target: PathBuf = podman.dir().join("examples").join(name);
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    Cmd::program("cp").arg("-a").arg(source).arg(&target).run().unwrap();
    for program in stand_ins {
        fs::create_dir_all(target.join("bin")).unwrap();
        fs::write(target.join("bin").join(program), "#!/bin/sh\necho a stand-in\n").unwrap();
    }
    target.display().to_string()
}

#[test]
fn the_examples_are_built_without_findings_kubelet_and_agent_being_stand_ins() {
    let Some(shared) = shared() else { return };
    let Some(podman) = Podman::new(shared.parent().unwrap()) else { return };
    let examples: [(&str, &[&str], &[&str]); 3] = [
        ("nginx", &[], &["nginx.service"]),
        ("kubernetes-node", &["kubelet", "kubeadm", "kubectl"], &["containerd.service", "kubelet.service"]),
        ("agent", &["agent"], &["agent.service"]),
    ];
    for (name, stand_ins, units) in examples {
        let context = example(&podman, name, stand_ins);
        let tag = format!("localhost/{name}:1");
        let (code, json, told) = derive(&shared, &podman, &["-t", &tag, "--fatal-warnings", &context]);
        assert_eq!((code, rules(&json["findings"])), (0, vec![]), "{name}:\n{told}\n{json:#}");
        for unit in units {
            assert_eq!(podman.run(&tag, &["systemctl", "is-enabled", unit]), "enabled\n", "{name}: {unit}");
        }
        // Units and their companions are what systemd takes.
        let check = "systemd-analyze verify --man=no /usr/lib/systemd/system/$0 2>&1 && systemd-tmpfiles --create --prefix=/var 2>&1 && systemd-sysusers --dry-run 2>&1";
        for unit in units {
            podman.run(&tag, &["sh", "-c", check, unit]);
        }
    }
    assert!(podman.run("localhost/nginx:1", &["nginx", "-t"]).contains("test is successful"));
    let config = podman.run("localhost/kubernetes-node:1", &["containerd", "config", "dump"]);
    assert!(config.contains("SystemdCgroup = true"), "{config}");
    assert_eq!(podman.run("localhost/agent:1", &["agent"]), "a stand-in\n");
}
