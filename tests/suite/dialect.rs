//! `nosa manifest` on a configuration with the constructs that published ones use: what rpm-ostree's rules
//! make of each key, worked out by hand, and where each value stands.

use std::path::{Path, PathBuf};

use nosa::host::Cmd;
use nosa::manifest::{AccountCheck, LoadOptions, load};
use serde_json::{Value, json};

fn dialect() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs/dialect")
}

/// What `nosa manifest --json` says of it.
fn manifest(arch: &str) -> Value {
    let output = Cmd::program(env!("CARGO_BIN_EXE_nosa"))
        .args(["--quiet", "--json", "manifest", "--arch", arch])
        .arg(dialect())
        .output()
        .unwrap();
    serde_json::from_str(&output.text()).unwrap()
}

#[test]
fn every_key_is_what_rpm_ostrees_rules_make_of_it() {
    let merged = manifest("x86_64");
    let treefile = &merged["treefile"];
    let expected = json!({
        // The including file's scalars stand, and the variables are folded before they are substituted.
        "ref": "lab/x86_64/next",
        "releasever": 41,
        "recommends": false,
        "automatic-version-prefix": "41.<date:%Y%m%d>.3",
        "mutate-os-release": "41",
        "variables": {"stream": "next", "prod": false, "level": 3, "osversion": "forty one"},
        "rojig": {"name": "lab", "summary": "Lab forty one", "license": "MIT", "description": "Ignored"},
        // Scalars that only an included file has.
        "documentation": false,
        "tmp-is-dir": true,
        "machineid-compat": false,
        "default-target": "multi-user.target",
        "readonly-executables": true,
        "rpmdb": "sqlite",
        "container-cmd": ["/usr/bin/bash"],
        // Sets: packages of this architecture, of files of this architecture, of conditions that hold.
        "packages": [
            "bash", "filesystem", "grub2", "kernel >= 6", "less", "microcode", "rsync", "strace", "vim"
        ],
        "ignore-removed-users": ["news", "games", "root"],
        // Lists: each included file comes before what there is, so the file read last comes first.
        "exclude-packages": ["nodejs", "dnf", "python3"],
        "ostree-layers": ["overlay/05core", "overlay/10virt"],
        "remove-files": ["usr/share/man", "usr/share/info"],
        "install-langs": ["en_US", "de_DE"],
        "units": ["early.socket", "late.service"],
        "add-files": [["../files/inner", "usr/lib/inner"], ["files/outer", "/etc/outer"]],
        "postprocess": ["echo intel", "echo base", "echo inline", "#!/bin/bash\necho outer\n"],
        // Maps: key by key, the including file's stand.
        "add-commit-metadata": {"lab.stream": "next", "lab.level": 3, "lab.base": "yes please"},
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&treefile[key], value, "{key}");
    }
    assert_eq!(
        merged["image"]["extra-kargs"],
        json!(["quiet", "ignition.platform.id=lab", "mitigations=auto,nosmt"])
    );
    assert_eq!((&merged["image"]["size"], &merged["image"]["compressor"]), (&json!(12), &json!("xz")));
    assert_eq!(merged["platforms"]["qemu"]["kernel_arguments"][1], "console=ttyS0,115200n8");
}

#[test]
fn the_other_architecture_takes_its_own_files_packages_and_platforms() {
    let merged = manifest("aarch64");
    let treefile = &merged["treefile"];
    assert_eq!(treefile["ref"], "lab/aarch64/next");
    assert_eq!(
        treefile["packages"],
        json!(["bash", "filesystem", "kernel >= 6", "less", "rsync", "strace", "uboot-tools", "vim"])
    );
    // manifests/base.yaml came before manifests/arm.yaml, so its scalar stands.
    assert_eq!(treefile["default-target"], "multi-user.target");
    assert_eq!(treefile["postprocess"][0], "echo arm");
    assert_eq!(merged["platforms"], json!({"qemu": {"kernel_arguments": ["console=ttyAMA0"]}}));
}

#[test]
fn every_value_has_the_place_it_stands_at() {
    let merged = manifest("x86_64");
    let places = &merged["provenance"]["treefile"];
    for (pointer, place) in [
        ("/ref", "manifest.yaml:3"),
        ("/variables/stream", "manifest.yaml:10"),
        ("/variables/osversion", "manifests/base.yaml:4"),
        ("/releasever", "manifest.yaml:13"),
        ("/packages/0", "manifests/base.yaml:9"),
        ("/packages/2", "manifests/intel.yaml:1"),
        ("/packages/6", "manifest.yaml:25"),
        ("/postprocess/1", "manifests/base.yaml:26"),
        ("/add-commit-metadata/lab.base", "manifests/base.yaml:32"),
        ("/exclude-packages/0", "manifests/debug.yaml:3"),
    ] {
        assert_eq!(places[pointer], place, "{pointer}");
    }
    assert_eq!(merged["provenance"]["image"]["/size"], "image.yaml:5");
    assert_eq!(merged["provenance"]["image"]["/extra-kargs/2"], "image-base.yaml:3");
    // Every value has one, and every place is a value's.
    for part in ["treefile", "image", "platforms"] {
        let places = merged["provenance"][part].as_object().unwrap();
        assert!(!places.is_empty());
        for pointer in places.keys() {
            assert!(merged[part].pointer(pointer).is_some(), "{part}{pointer}");
        }
    }
}

#[test]
fn what_stages_are_given_is_checked_and_typed() {
    let loaded = load(&dialect(), &LoadOptions::new("x86_64")).unwrap();
    let os = loaded.manifest;
    let Some(AccountCheck::File { paths, entries }) = &os.check_passwd else { panic!() };
    assert_eq!(paths, &[dialect().join("manifests/passwd")]);
    assert_eq!(entries[1].origin, "manifests/passwd:3");
    assert_eq!(
        (entries[1].name.as_str(), entries[1].uid, entries[1].home.as_deref()),
        ("sshd", 74, Some("/usr/share/empty.sshd"))
    );
    let groups = os.check_groups.unwrap();
    assert_eq!(groups.entries().iter().map(|group| group.gid).collect::<Vec<_>>(), [0, 4]);
    assert_eq!(os.add_files[0], (dialect().join("manifests/../files/inner"), "usr/lib/inner".to_owned()));
    assert_eq!(os.install_langs.unwrap(), ["en_US", "de_DE"]);
    assert_eq!(os.repo_packages[0].packages, ["ignition"]);
    assert!(os.remove_from_packages[0].package.is_match("filesystem"));
    assert_eq!(
        loaded.warnings,
        [
            "manifests/base.yaml:17:1: `selinux` is ignored: files get no SELinux labels",
            "image-base.yaml:8:1: `vmware-os-type` is ignored: nosa makes no images for that platform",
        ]
    );
}

#[test]
fn the_printed_treefile_is_a_treefile() {
    let printed = Cmd::program(env!("CARGO_BIN_EXE_nosa"))
        .args(["--quiet", "manifest"])
        .arg(dialect())
        .output()
        .unwrap();
    let treefile = printed.text().split("--- # image").next().unwrap().to_owned();
    let root = nosa::document::parse("printed.yaml", &treefile).unwrap();
    let merged = manifest(nosa::host::environment::basearch());
    assert_eq!(root.to_json(), merged["treefile"]);
    assert!(treefile.contains("\nrecommends: false  # manifest.yaml:29\n"), "{treefile}");
}
