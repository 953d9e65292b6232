//! Every merge rule, with values worked out by hand from rpm-ostree's treefile.rs.

use super::*;
use crate::manifest::{AccountCheck, RepoKind, RepoPackages, RootFilesystem};

#[test]
fn defaults_are_rpm_ostrees() {
    let os = manifest("").manifest;
    assert_eq!((os.name.as_str(), os.reference.as_str()), ("os", "os/x86_64/stable"));
    assert!(os.recommends && os.machineid_compat && !os.tmp_is_dir);
    assert_eq!((os.releasever.as_str(), os.version_prefix.as_str()), ("", "1"));
    assert_eq!(os.repo_kind, Some(RepoKind::Deb));
    assert!(manifest("edition: '2024'\n").manifest.tmp_is_dir);
}

#[test]
fn scalars_of_the_outermost_file_stand_and_of_two_included_the_first() {
    let os = load(&[
        ("manifest.yaml", &format!("{BASE}include: [a.yaml, b.yaml]\nrecommends: false\n")),
        ("a.yaml", "recommends: true\ndefault-target: a.target\ninclude: c.yaml\n"),
        ("b.yaml", "default-target: b.target\ntmp-is-dir: true\nmachineid-compat: false\n"),
        ("c.yaml", "machineid-compat: true\ndefault-target: c.target\n"),
    ])
    .unwrap()
    .manifest;
    assert!(!os.recommends);
    assert_eq!(os.default_target.as_deref(), Some("a.target"));
    assert!(os.tmp_is_dir && os.machineid_compat);
}

#[test]
fn of_lists_included_items_come_first_and_those_of_a_later_file_before_an_earlier_ones() {
    let os = load(&[
        ("manifest.yaml", &format!("{BASE}include: [a.yaml, m/b.yaml]\npostprocess: [top]\n")),
        ("a.yaml", "include: m/c.yaml\npostprocess: [a1, a2]\n"),
        ("m/b.yaml", "postprocess:\n  - |\n    #!/bin/sh\n    b\n"),
        ("m/c.yaml", "postprocess: [c]\n"),
    ])
    .unwrap()
    .manifest;
    let scripts: Vec<_> = os.postprocess.iter().map(|s| (s.origin.as_str(), s.text.trim())).collect();
    assert_eq!(
        scripts,
        [
            ("m/b.yaml:3", "#!/bin/sh\nb"),
            ("m/c.yaml:1", "c"),
            ("a.yaml:2", "a1"),
            ("a.yaml:2", "a2"),
            ("manifest.yaml:5", "top")
        ]
    );
}

#[test]
fn packages_are_a_sorted_set_split_at_white_space_unless_quoted() {
    let os = load(&[
        (
            "manifest.yaml",
            &format!(
                "{BASE}repos: [debian]\ninclude: a.yaml\npackages:\n  - zsh bash\n  - \"'foo >= 1.0' bar 'baz = 2'\"\n\
                 packages-x86_64: [grub]\npackages-aarch64: [uboot]\nbootstrap-packages: [base]\n"
            ),
        ),
        ("a.yaml", "packages: [bash, kernel]\npackages-x86_64: [shim]\n"),
    ])
    .unwrap();
    assert_eq!(
        os.manifest.packages,
        ["bar", "base", "bash", "baz = 2", "foo >= 1.0", "grub", "kernel", "shim", "zsh"]
    );
    let place = |name: &str| os.provenance.item("packages", name).map(ToString::to_string);
    assert_eq!(place("bash").as_deref(), Some("manifest.yaml:7:5"));
    assert_eq!(place("kernel").as_deref(), Some("a.yaml:1:18"));
    assert_eq!(place("none"), None);
}

#[test]
fn maps_join_and_the_includers_key_stands() {
    let os = load(&[
        (
            "manifest.yaml",
            &format!("{BASE}include: a.yaml\nadd-commit-metadata: {{x: outer, y: '${{stream}}'}}\n"),
        ),
        ("a.yaml", "add-commit-metadata: {x: inner, z: 3}\nvariables: {stream: stable}\n"),
    ])
    .unwrap()
    .manifest;
    let metadata: Vec<_> = os.commit_metadata.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(metadata, ["x=\"outer\"", "y=\"stable\"", "z=3"]);
}

#[test]
fn variables_of_the_includer_stand_and_go_into_the_named_fields_only() {
    let os = load(&[
        (
            "manifest.yaml",
            "variables: {stream: next, prod: true, level: 3}\nreleasever: 40\ninclude: a.yaml\n",
        ),
        (
            "a.yaml",
            "variables: {stream: stable, id: x}\nreleasever: '39'\nref: os/${basearch}/${stream}\n\
             rojig: {name: 'os-${id}', summary: 'OS ${stream} ${level} ${prod}', license: MIT}\n\
             automatic-version-prefix: '${releasever}.<date:%Y>'\nmutate-os-release: '${releasever}'\n\
             postprocess: ['echo ${HOME} $1']\n",
        ),
    ])
    .unwrap()
    .manifest;
    assert_eq!(os.reference, "os/x86_64/next");
    assert_eq!((os.name.as_str(), os.summary.as_str()), ("os-x", "OS next 3 true"));
    assert_eq!((os.version_prefix.as_str(), os.mutate_os_release.as_deref()), ("40.<date:%Y>", Some("40")));
    assert_eq!(os.postprocess[0].text, "echo ${HOME} $1");
    let variables: Vec<_> = os.variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(
        variables,
        ["basearch=x86_64", "id=x", "level=3", "prod=true", "releasever=40", "stream=next"]
    );
}

#[test]
fn conditions_compare_typed_values_and_lists_of_them_all_must_hold() {
    let loaded = |condition: &str| {
        let text = format!(
            "{BASE}releasever: 41\nvariables: {{prod: false, stream: stable}}\nconditional-include:\n  - if: {condition}\n    include: a.yaml\n"
        );
        let files = load(&[("manifest.yaml", &text), ("a.yaml", "default-target: a.target\n")]).unwrap();
        files.manifest.default_target.is_some()
    };
    for yes in [
        "releasever >= 41",
        "releasever<=41",
        "releasever == 41",
        "releasever > 40",
        "releasever < 42",
        "releasever != 40",
        "prod == false",
        "prod != true",
        "'stream == \"stable\"'",
        "basearch != \"s390x\"",
        "['releasever > 40', 'prod == false']",
    ] {
        assert!(loaded(yes), "{yes}");
    }
    for no in ["releasever < 41", "prod == true", "stream == \"next\"", "['releasever > 40', 'prod == true']"]
    {
        assert!(!loaded(no), "{no}");
    }
}

#[test]
fn includes_go_in_the_order_plain_architecture_condition() {
    let os = load(&[
        (
            "manifest.yaml",
            &format!(
                "{BASE}variables: {{x: 1}}\nconditional-include:\n  - if: x == 1\n    include: [c.yaml]\n  - if: x == 1\n    include:\n      postprocess: [inline]\n\
                 arch-include: {{x86_64: b.yaml, aarch64: none.yaml}}\ninclude: a.yaml\n"
            ),
        ),
        ("a.yaml", "postprocess: [a]\n"),
        ("b.yaml", "postprocess: [b]\n"),
        ("c.yaml", "postprocess: [c]\n"),
    ])
    .unwrap()
    .manifest;
    // Each merges before what is there: the inline one at once, then the files in their order.
    let order: Vec<_> = os.postprocess.iter().map(|script| script.text.as_str()).collect();
    assert_eq!(order, ["c", "b", "a", "inline"]);
}

#[test]
fn repo_packages_of_the_includer_take_their_packages() {
    let os = load(&[
        (
            "manifest.yaml",
            &format!("{BASE}include: a.yaml\nrepo-packages:\n  - {{repo: extra, packages: [foo bar]}}\n"),
        ),
        (
            "a.yaml",
            "repo-packages:\n  - {repo: debian, packages: [foo, quux]}\n  - {repo: debian, packages: [bar]}\n",
        ),
    ])
    .unwrap()
    .manifest;
    let of = |repo: &str, packages: &[&str]| RepoPackages {
        repo: repo.to_owned(),
        packages: packages.iter().map(|&name| name.to_owned()).collect(),
    };
    assert_eq!(os.repo_packages, [of("debian", &["quux"]), of("extra", &["bar", "foo"])]);
}

#[test]
fn removals_match_names_literally_or_as_expressions() {
    let os =
        manifest("remove-from-packages:\n  - [libstdc++, /usr/share/doc/.*]\n  - ['linux-.*', '\\.ko$']\n");
    let [literal, expression] = &os.manifest.remove_from_packages[..] else { panic!() };
    assert!(literal.package.is_match("libstdc++") && !literal.package.is_match("libstdc++6"));
    assert!(literal.patterns[0].is_match("/usr/share/doc/x"));
    assert!(expression.package.is_match("linux-image") && !expression.package.is_match("xlinux-image"));
}

#[test]
fn ignored_keys_warn_with_place_and_meaning() {
    let loaded = manifest("rpmdb: db4\nselinux: false\nopt-usrlocal: var\n");
    assert_eq!(
        loaded.warnings,
        [
            "manifest.yaml:5:1: `selinux` is ignored: files get no SELinux labels",
            "manifest.yaml:4:8: `rpmdb` is ignored: the text \"db4\" is none of sqlite, target, host, bdb, ndb",
        ]
    );
}

#[test]
fn a_json_treefile_and_a_script_of_its_own() {
    let loaded = load(&[
        (
            "manifest.json",
            "{\n\t\"comment\": \"x\",\n\t\"ref\": \"os/x\",\n\t\"rojig\": {\"name\": \"os\"},\n\t\"automatic_version_prefix\": \"1\",\n\t\"postprocess-script\": \"last.sh\",\n\t\"postprocess\": [\"first\"]\n}",
        ),
        ("last.sh", "#!/bin/sh\n"),
    ])
    .unwrap();
    let origins: Vec<_> = loaded.manifest.postprocess.iter().map(|s| s.origin.as_str()).collect();
    assert_eq!(origins, ["manifest.json:7", "last.sh"]);
    assert_eq!(loaded.warnings, ["manifest.json:2:2: `comment` is ignored: it is not a key of treefiles"]);
}

#[test]
fn every_file_read_is_listed() {
    let loaded = load(&[
        ("manifest.yaml", &format!("{BASE}include: m/a.yaml\n")),
        ("m/a.yaml", "include: ../b.yaml\n"),
        ("b.yaml", ""),
        ("platforms.yaml", "x86_64: {}\n"),
    ])
    .unwrap();
    let names: Vec<_> = loaded.files.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(
        names,
        [
            "/c/manifest.yaml",
            "/c/m/a.yaml",
            "/c/m/../b.yaml",
            "/c/image.yaml",
            "/c/platforms.yaml",
            "/c/debian.sources",
            "/c/extra.sources"
        ]
    );
}

#[test]
fn a_variant_has_its_own_manifest_and_image() {
    let files =
        [("manifest-v.yaml", BASE), ("image-v.yaml", "size: 20"), ("manifest.yaml", ""), ("image.yaml", "")];
    let options = LoadOptions { variant: Some("v".to_owned()), ..LoadOptions::new("x86_64") };
    let loaded = load_from(&Memory::new(&files), Path::new("/c"), &options).unwrap();
    assert_eq!(loaded.manifest.image.size, 20);
}

#[test]
fn image_yaml_flattens_and_fills_in() {
    let loaded = load(&[
        ("manifest.yaml", BASE),
        ("image.yaml", "include: m/base.yaml\nextra-kargs: [a, b]\nrootfs: ext4\n"),
        (
            "m/base.yaml",
            "size: 8\nrootfs: xfs\nextra-kargs: [b, c]\ncomposefs: true\nvmware-os-type: x\nostree-format: oci\n\
             sysroot-readonly: true\n",
        ),
    ])
    .unwrap();
    let image = &loaded.manifest.image;
    assert_eq!((image.size, image.rootfs), (8, RootFilesystem::Ext4));
    assert_eq!(image.extra_kargs, ["a", "b", "c"]);
    assert_eq!(
        [&image.rootfs_args, &image.ostree_remote, &image.compressor, &image.squashfs_compression],
        ["", "NONE", "gzip", "zstd"]
    );
    assert_eq!(
        loaded.warnings,
        [
            "m/base.yaml:4:1: `composefs` is ignored: the deployment decides by ostree's prepare-root.conf",
            "m/base.yaml:5:1: `vmware-os-type` is ignored: nosa makes no images for that platform",
            "m/base.yaml:7:1: `sysroot-readonly` is ignored: the deployment decides by ostree's prepare-root.conf",
            "m/base.yaml:6:16: `oci` is taken as `oci-chunked-v1`: images have a layer a group of packages",
        ]
    );
    assert_eq!(manifest("").manifest.image.rootfs, RootFilesystem::Xfs);
}

#[test]
fn platforms_are_those_of_the_architecture() {
    let loaded = load(&[
        ("manifest.yaml", BASE),
        (
            "platforms.yaml",
            "x86_64:\n  qemu:\n    grub_commands: [serial]\n    kernel_arguments: [console=ttyS0]\n  metal:\n\
             aarch64:\n  qemu:\n    kernel_arguments: [console=ttyAMA0]\n",
        ),
    ])
    .unwrap();
    let platforms = loaded.manifest.platforms;
    assert_eq!(platforms.keys().collect::<Vec<_>>(), ["metal", "qemu"]);
    assert_eq!(platforms["qemu"].kernel_arguments, ["console=ttyS0"]);
    assert_eq!(platforms["qemu"].grub_commands, ["serial"]);
}

#[test]
fn accounts_come_from_files_beside_their_treefile_or_from_the_treefile() {
    let loaded = load(&[
        ("manifest.yaml", &format!("{BASE}include: m/a.yaml\nignore-removed-users: [b, a]\n")),
        (
            "m/a.yaml",
            "check-passwd: {type: file, filename: passwd}\ncheck-groups: {type: data, entries: {root: 0, adm: [4]}}\n\
             ignore-removed-users: [a, c]\n",
        ),
        ("m/passwd", "# base\nroot:x:0:0:root:/root:/bin/bash\n\n_x.y$:x:11:12::/:\n"),
    ])
    .unwrap();
    let Some(AccountCheck::File { paths, entries }) = &loaded.manifest.check_passwd else { panic!() };
    assert_eq!(paths, &[Path::new("/c/m/passwd")]);
    assert!(loaded.files.contains(&paths[0]));
    let users: Vec<_> = entries
        .iter()
        .map(|u| (u.name.as_str(), u.uid, u.gid, u.shell.as_deref(), u.origin.as_str()))
        .collect();
    assert_eq!(
        users,
        [("root", 0, 0, Some("/bin/bash"), "m/passwd:2"), ("_x.y$", 11, 12, None, "m/passwd:4")]
    );
    let groups = loaded.manifest.check_groups.unwrap();
    let groups: Vec<_> = groups.entries().iter().map(|g| (g.name.as_str(), g.gid)).collect();
    assert_eq!(groups, [("root", 0), ("adm", 4)]);
    assert_eq!(loaded.manifest.ignore_removed_users, ["b", "a", "c"]);
    let ids =
        manifest("check-passwd: {type: data, entries: {a: 1, b: [2, 3]}}\ncheck-groups: {type: previous}\n");
    let users = ids.manifest.check_passwd.unwrap();
    assert_eq!(users.entries().iter().map(|u| (u.uid, u.gid)).collect::<Vec<_>>(), [(1, 1), (2, 3)]);
    assert_eq!(ids.manifest.check_groups, Some(AccountCheck::Previous));
}

#[test]
fn what_goes_into_the_tree_adds_up_with_the_included_first() {
    let os = load(&[
        (
            "manifest.yaml",
            &format!(
                "{BASE}include: m/a.yaml\nunits: [b.timer]\ndocumentation: false\n\
                 add-files: [[motd, /etc/motd], ['${{nestos_update}}', /usr/bin/u]]\n\
                 install-langs: [de]\nreadonly-executables: true\n"
            ),
        ),
        ("m/a.yaml", "units: [a.service]\nadd-files: [[x, usr/share/x]]\ndocumentation: true\ninstall-langs: [en_US]\n"),
        ("motd", ""),
        ("m/x", ""),
    ])
    .unwrap()
    .manifest;
    assert_eq!(os.units, ["a.service", "b.timer"]);
    let files: Vec<_> = os.add_files.iter().map(|(s, d)| (s.to_str().unwrap(), d.as_str())).collect();
    assert_eq!(files, [("/c/m/x", "usr/share/x"), ("/c/motd", "etc/motd")]);
    assert_eq!(os.add_client.map(|(_, path)| path).as_deref(), Some("usr/bin/u"));
    assert!(!os.documentation && os.readonly_executables);
    assert_eq!(os.install_langs.unwrap(), ["en_US", "de"]);
    let plain = manifest("").manifest;
    assert!(plain.documentation && !plain.readonly_executables && plain.install_langs.is_none());
}
