//! The variants that ship with nosa: each is written out by `nosa init`, good for both architectures, and
//! alike where the distributions mean the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nosa::embedded;
use nosa::host::Cmd;
use nosa::manifest::{LoadOptions, Loaded, RepoKind, examine};

const ARCHES: [&str; 2] = ["x86_64", "aarch64"];

/// Makes a working directory with a variant.
fn init(dir: &Path, variant: &str) {
    Cmd::program(env!("CARGO_BIN_EXE_nosa"))
        .args(["--quiet", "init", "--variant", variant])
        .args(["-C".as_ref(), dir.as_os_str()])
        .run()
        .unwrap();
}

/// A variant for an architecture, and what `read` makes of it.
fn with<T>(variant: &str, arch: &str, read: impl FnOnce(&Loaded, &Path) -> T) -> T {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), variant);
    let config = dir.path().join("src/config");
    let (loaded, problems) = examine(&config, &LoadOptions::new(arch));
    assert!(problems.is_empty(), "{variant} {arch}: {problems:?}");
    read(&loaded, &config)
}

fn names() -> Vec<&'static str> {
    embedded::variants().unwrap().into_iter().map(|variant| variant.name).collect()
}

#[test]
fn init_writes_every_variant_and_validate_finds_nothing() {
    for variant in names() {
        let dir = tempfile::tempdir().unwrap();
        init(dir.path(), variant);
        let mut said = String::new();
        let result = Cmd::program(env!("CARGO_BIN_EXE_nosa"))
            .args(["validate", "--arch", "x86_64", "--arch", "aarch64"])
            .dir(dir.path())
            .run_lines(|line| said.push_str(&format!("{line}\n")));
        assert!(result.is_ok(), "{variant}: {said}");
        // Nothing else: no warning either.
        assert!(said.ends_with("src/config is good for x86_64, aarch64\n"), "{variant}: {said}");
        assert_eq!(said.lines().count(), 1, "{variant}: {said}");
    }
}

#[test]
fn init_lists_them() {
    let list = |json: &[&str]| {
        let program = Cmd::program(env!("CARGO_BIN_EXE_nosa")).args(json).args(["init", "--list"]);
        program.output().unwrap().text()
    };
    let text = list(&[]);
    assert!(text.starts_with("debian-container  NestOS For Container's shape on Debian 13"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&list(&["--json"])).unwrap();
    let listed: Vec<&str> =
        json.as_array().unwrap().iter().map(|variant| variant["name"].as_str().unwrap()).collect();
    assert_eq!(listed, names());
}

#[test]
fn every_variant_has_a_kernel_and_a_boot_loader_for_both_architectures() {
    let kernels = BTreeMap::from([
        (("debian", "x86_64"), ["linux-image-amd64", "grub-efi-amd64-bin"]),
        (("debian", "aarch64"), ["linux-image-arm64", "grub-efi-arm64-bin"]),
        (("nestos", "x86_64"), ["NestOS-kernel", "grub2-efi-x64"]),
        (("nestos", "aarch64"), ["NestOS-kernel", "grub2-efi-aa64"]),
    ]);
    for variant in names() {
        let distribution = variant.split('-').next().unwrap();
        for arch in ARCHES {
            with(variant, arch, |loaded, _| {
                let os = &loaded.manifest;
                for package in kernels[&(distribution, arch)] {
                    assert!(os.packages.iter().any(|name| name == package), "{variant} {arch}: {package}");
                }
                let kind = if distribution == "debian" { RepoKind::Deb } else { RepoKind::Rpm };
                assert_eq!(os.repo_kind, Some(kind));
                assert!(os.reference.contains(arch) && os.platforms.contains_key("qemu"), "{variant} {arch}");
                assert!(!os.recommends && os.tmp_is_dir && !os.machineid_compat);
            });
        }
    }
}

#[test]
fn variants_of_one_purpose_share_overlays_policy_and_kernel_arguments() {
    for (debian, openeuler, overlay) in
        [("debian-container", "nestos-container", "20container"), ("debian-virt", "nestos-virt", "25virt")]
    {
        let read = |variant: &str| {
            with(variant, "x86_64", |loaded, config| {
                let tree = |name: &str| {
                    let dir = config.join("overlay.d").join(name);
                    assert!(
                        loaded.manifest.ostree_layers.contains(&format!("overlay/{name}")),
                        "{variant} {name}"
                    );
                    let mut files = BTreeMap::new();
                    read_tree(&dir, &dir, &mut files);
                    assert!(!files.is_empty());
                    files
                };
                let kargs: BTreeSet<String> = loaded
                    .manifest
                    .image
                    .extra_kargs
                    .iter()
                    .filter(|arg| *arg != "selinux=0")
                    .cloned()
                    .collect();
                (tree("05core"), tree(overlay), kargs, loaded.manifest.etc_group_members.clone())
            })
        };
        let (one, other) = (read(debian), read(openeuler));
        assert_eq!((&one.0, &one.1, &one.2), (&other.0, &other.1, &other.2), "{debian} and {openeuler}");
        for group in ["sudo", "adm", "systemd-journal"] {
            assert!(one.3.iter().any(|name| name == group) && other.3.iter().any(|name| name == group));
        }
    }
}

fn read_tree(root: &Path, dir: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_tree(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().display().to_string();
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

#[test]
fn nestos_has_its_own_numbers_for_accounts_and_a_mirror_that_can_be_changed() {
    with("nestos-container", "x86_64", |loaded, config| {
        let os = &loaded.manifest;
        let users = os.check_passwd.as_ref().unwrap().entries();
        let groups = os.check_groups.as_ref().unwrap().entries();
        assert!(users.iter().any(|user| user.name == "chrony" && user.uid == 994));
        for group in ["sudo", "docker", "isula", "wheel"] {
            assert!(groups.iter().any(|known| known.name == group), "{group}");
        }
        // Each user's own group is among the groups, and no number is given twice.
        for user in users {
            assert!(groups.iter().any(|group| group.gid == user.gid), "{}", user.origin);
        }
        let numbers: BTreeSet<u32> = groups.iter().map(|group| group.gid).collect();
        assert_eq!(numbers.len(), groups.len());
        let numbers: BTreeSet<u32> = users.iter().map(|user| user.uid).collect();
        assert_eq!(numbers.len(), users.len());
        assert_eq!(os.repovars["openeuler_mirror"], "https://repo.openeuler.org");
        let definition = fs::read_to_string(config.join("nestos.repo")).unwrap();
        assert!(definition.contains("baseurl=$openeuler_mirror/openEuler-$releasever/OS/$basearch/\n"));
    });
}

#[test]
fn definitions_in_yumrepos_count_as_those_beside_the_manifest() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path(), "nestos-container");
    let validate = || {
        let mut said = String::new();
        let call = Cmd::program(env!("CARGO_BIN_EXE_nosa")).arg("validate").dir(dir.path());
        let good = call.run_lines(|line| said.push_str(&format!("{line}\n"))).is_ok();
        (good, said)
    };
    let config = dir.path().join("src/config");
    let place = dir.path().join("src/yumrepos");
    fs::create_dir(&place).unwrap();
    fs::rename(config.join("nestos.repo"), place.join("nestos.repo")).unwrap();
    let (good, said) = validate();
    assert!(good, "{said}");
    fs::remove_dir_all(&place).unwrap();
    let (good, said) = validate();
    assert!(!good && said.contains("repository `nestos` has no definition"), "{said}");
}
