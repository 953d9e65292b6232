//! `nosa validate` on configurations that are broken in one way each: place, value, cause and cure of what
//! it says, word for word, and everything at once where several things are wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nosa::host::{Cmd, CommandError};

/// A configuration without a mistake.
const GOOD: &[(&str, &str)] = &[
    (
        "manifest.yaml",
        "ref: os/${basearch}/stable\nrojig: {name: os, summary: OS, license: MIT}\n\
         automatic-version-prefix: '1.<date:%Y%m%d>'\nreleasever: '1'\nrepos: [debian]\ninclude: base.yaml\n\
         ostree-layers: [overlay/05core]\n",
    ),
    ("base.yaml", "packages:\n  - bash\n"),
    ("image.yaml", "size: 10\n"),
    (
        "debian.sources",
        "Types: deb\nURIs: ${debian_mirror}\nSuites: trixie\nComponents: main\nSigned-By: /k.gpg\n",
    ),
    ("overlay.d/05core/etc/motd", "hello\n"),
];

/// How a case differs from [`GOOD`].
enum Edit {
    /// The file is not there.
    Remove(&'static str),
    /// A text in the file is another.
    Replace(&'static str, &'static str, &'static str),
    /// The file says this.
    Write(&'static str, &'static [u8]),
    /// The same, and it can be run.
    Program(&'static str, &'static str),
}

use Edit::{Program, Remove, Replace, Write};

/// A broken configuration and what is said of it.
struct Case {
    name: &'static str,
    edits: &'static [Edit],
    /// Cause and cure of each problem.
    said: &'static [(&'static str, &'static str)],
}

/// Writes [`GOOD`] with edits into `dir`.
fn write(dir: &Path, edits: &[Edit]) {
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    GOOD.iter().for_each(|(name, text)| put(name, text.as_bytes()));
    for edit in edits {
        match edit {
            Remove(name) => fs::remove_file(dir.join(name)).unwrap(),
            Write(name, bytes) => put(name, bytes),
            Program(name, text) => {
                put(name, text.as_bytes());
                fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
            }
            Replace(name, old, new) => {
                let text = fs::read_to_string(dir.join(name)).unwrap();
                assert!(text.contains(old), "{name} lacks {old}");
                put(name, text.replace(old, new).as_bytes());
            }
        }
    }
}

/// Runs `nosa validate` with these arguments over [`GOOD`] with edits; the exit code and all that it says.
fn validate(arguments: &[&str], edits: &[Edit]) -> (i32, String) {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("c"), edits);
    let mut said = String::new();
    let result = Cmd::program(env!("CARGO_BIN_EXE_nosa"))
        .args(["validate", "c"])
        .args(arguments)
        .dir(dir.path())
        .run_lines(|line| said.push_str(&format!("{line}\n")));
    let code = match result {
        Ok(_) => 0,
        Err(error) => error.downcast::<CommandError>().unwrap().code.unwrap_or(-1),
    };
    (code, said.replace(&dir.path().display().to_string(), ""))
}

#[test]
fn a_configuration_without_a_mistake_is_good() {
    let said = validate(&["--arch", "x86_64", "--arch", "aarch64"], &[]);
    assert_eq!(said, (0, "/c is good for x86_64, aarch64\n".to_owned()));
}

#[test]
fn every_mistake_is_named_with_place_cause_and_cure() {
    let mut wrong = Vec::new();
    for case in CASES {
        let mut expected: String =
            case.said.iter().map(|(cause, cure)| format!("error: {cause}\n  {cure}\n")).collect();
        let problems = if case.said.len() == 1 { "problem" } else { "problems" };
        expected.push_str(&format!("error: /c: {} {problems}\n", case.said.len()));
        let (code, said) = validate(&["--arch", "x86_64"], case.edits);
        if (code, &said) != (3, &expected) {
            wrong.push(format!("{}: expected\n{expected}and it said ({code})\n{said}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn as_json_each_problem_has_its_place_apart() {
    let edits = [Write("base.yaml", b"package: [bash]\npackages-aarch64: bash\n")];
    let (code, said) = validate(&["--json", "--arch", "x86_64", "--arch", "aarch64"], &edits);
    assert_eq!(code, 3);
    let start = said.find('{').unwrap();
    let json = &said[start..=said.rfind('}').unwrap()];
    let said: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        said,
        serde_json::json!({
            "arches": ["x86_64", "aarch64"],
            "problems": [
                {
                    "place": "base.yaml:1:1", "cause": "unknown key `package`",
                    "cure": "did you mean `packages`?", "arches": ["x86_64", "aarch64"],
                },
                {
                    "place": "base.yaml:2:19",
                    "cause": "`packages-aarch64` must be a list, found the text \"bash\"",
                    "cure": "write each item on a line of its own: `- bash`", "arches": ["x86_64", "aarch64"],
                },
            ],
            "warnings": [],
        })
    );
}

/// One way each to break it, and at the end several at once.
const CASES: &[Case] = &[
    Case {
        name: "unknown_key",
        edits: &[Write("base.yaml", b"package: [bash]\n")],
        said: &[("base.yaml:1:1: unknown key `package`", "did you mean `packages`?")],
    },
    Case {
        name: "unknown_key_of_another_tool",
        edits: &[Write("base.yaml", b"packages: [bash]\nflavour: x\n")],
        said: &[(
            "base.yaml:2:1: unknown key `flavour`",
            "remove it, or see rpm-ostree's treefile reference for the keys there are",
        )],
    },
    Case {
        name: "list_expected",
        edits: &[Write("base.yaml", b"packages: bash\n")],
        said: &[(
            "base.yaml:1:11: `packages` must be a list, found the text \"bash\"",
            "write each item on a line of its own: `- bash`",
        )],
    },
    Case {
        name: "text_expected",
        edits: &[Write("base.yaml", b"default-target: [multi-user.target]\n")],
        said: &[("base.yaml:1:17: `default-target` must be a text, found a list of 1", "write one value")],
    },
    Case {
        name: "truth_expected",
        edits: &[Write("base.yaml", b"recommends: no\n")],
        said: &[(
            "base.yaml:1:13: `recommends` must be true or false, found the text \"no\"",
            "write true or false, without quotes",
        )],
    },
    Case {
        name: "map_expected",
        edits: &[Write("base.yaml", b"add-commit-metadata: [a]\n")],
        said: &[(
            "base.yaml:1:22: `add-commit-metadata` must be a map, found a list of 1",
            "write `key: value` lines below it, indented",
        )],
    },
    Case {
        name: "release_with_a_fraction",
        edits: &[Write("base.yaml", b"releasever: 24.03\n")],
        said: &[(
            "base.yaml:1:13: `releasever` must be a text, found the number 24.03",
            "put the value in quotes",
        )],
    },
    Case {
        name: "release_with_a_slash",
        edits: &[Replace("manifest.yaml", "releasever: '1'", "releasever: 24/03")],
        said: &[(
            "manifest.yaml:4:13: `releasever` must be a release of letters, digits and - _ . + ~, found the text \"24/03\"",
            "write it as the repositories' addresses have it, as `releasever: \"24.03-LTS\"`",
        )],
    },
    Case {
        name: "tab",
        edits: &[Write("base.yaml", b"packages:\n\t- bash\n")],
        said: &[("base.yaml:2:1: YAML does not allow tabs for indentation", "indent with spaces")],
    },
    Case {
        name: "open_bracket",
        edits: &[Write("base.yaml", b"packages: [bash\nrepos: [debian]\n")],
        said: &[(
            "base.yaml:2:6: this is not YAML: illegal placement of ':' indicator",
            "check indentation, colons and quotes there and in the line before",
        )],
    },
    Case {
        name: "duplicate_key",
        edits: &[Write("base.yaml", b"packages: [bash]\npackages: [zsh]\n")],
        said: &[(
            "base.yaml:2:1: key `packages` stands twice; first in line 1",
            "join the two, or remove one",
        )],
    },
    Case {
        name: "not_a_map",
        edits: &[Write("base.yaml", b"- packages\n")],
        said: &[(
            "base.yaml:1:1: a treefile is a map of keys, found a list of 1",
            "write `key: value` lines",
        )],
    },
    Case {
        name: "not_utf8",
        edits: &[Write("base.yaml", b"packages: [b\xff]\n")],
        said: &[("manifest.yaml:6:10: including `base.yaml`: not UTF-8 text", "save it in UTF-8")],
    },
    Case {
        name: "a_directory_for_a_file",
        edits: &[Remove("base.yaml"), Write("base.yaml/x", b"")],
        said: &[("manifest.yaml:6:10: including `base.yaml`: it is a directory", "name a file")],
    },
    Case {
        name: "include_missing",
        edits: &[Remove("base.yaml"), Write("bases.yaml", b"")],
        said: &[("manifest.yaml:6:10: including `base.yaml`: no such file", "did you mean `bases.yaml`?")],
    },
    Case {
        name: "include_in_a_circle",
        edits: &[Write("base.yaml", b"include: manifest.yaml\n")],
        said: &[(
            "base.yaml:1:10: include goes in a circle: manifest.yaml → base.yaml → manifest.yaml",
            "remove one of these includes",
        )],
    },
    Case {
        name: "include_of_itself",
        edits: &[Write("base.yaml", b"include: ./base.yaml\n")],
        said: &[(
            "base.yaml:1:10: include goes in a circle: base.yaml → base.yaml",
            "remove one of these includes",
        )],
    },
    Case {
        name: "include_twice",
        edits: &[Write("base.yaml", b"include: [a.yaml, a.yaml]\n"), Write("a.yaml", b"")],
        said: &[(
            "base.yaml:1:19: `a.yaml` is included twice; the first time at base.yaml:1:11",
            "keep one of the two includes",
        )],
    },
    Case {
        name: "include_by_an_absolute_path",
        edits: &[Write("base.yaml", b"include: /etc/base.yaml\n")],
        said: &[(
            "base.yaml:1:10: `include` takes paths relative to the including file, found /etc/base.yaml",
            "copy the file into the configuration, and include that",
        )],
    },
    Case {
        name: "condition_on_an_undefined_variable",
        edits: &[Write("base.yaml", b"conditional-include:\n  - {if: prod == true, include: a.yaml}\n")],
        said: &[(
            "base.yaml:2:10: variable `prod` is not defined",
            "define it under `variables:`; there are: basearch, releasever",
        )],
    },
    Case {
        name: "condition_of_two_types",
        edits: &[Write(
            "base.yaml",
            b"variables: {level: 3}\nconditional-include:\n  - if: level == \"3\"\n    include: a.yaml\n",
        )],
        said: &[(
            "base.yaml:3:9: `level` is a number (3), compared with a text (3)",
            "compare it with a value of its own type",
        )],
    },
    Case {
        name: "condition_with_a_bad_operator",
        edits: &[Write("base.yaml", b"conditional-include:\n  - {if: releasever =~ 3, include: a.yaml}\n")],
        said: &[(
            "base.yaml:2:10: `releasever =~ 3` is not a condition: expected one of ==, !=, >, >=, <, <=",
            "write `variable operator value`, as `releasever >= 41` or `stream == \"stable\"`",
        )],
    },
    Case {
        name: "condition_that_orders_texts",
        edits: &[Write(
            "base.yaml",
            b"conditional-include:\n  - if: basearch > \"a\"\n    include: a.yaml\n",
        )],
        said: &[("base.yaml:2:9: `>` compares numbers, and `basearch` is a text", "use == or !=")],
    },
    Case {
        name: "condition_without_include",
        edits: &[Write("base.yaml", b"conditional-include:\n  - {if: basearch == \"x\"}\n")],
        said: &[("base.yaml:2:5: `conditional-include` lacks `include`", "add `include: …` to it")],
    },
    Case {
        name: "undefined_variable",
        edits: &[Write("base.yaml", b"mutate-os-release: '${release}'\n")],
        said: &[(
            "base.yaml:1:20: variable `release` is not defined",
            "define it under `variables:`; there are: basearch, releasever",
        )],
    },
    Case {
        name: "reserved_variable",
        edits: &[Write("base.yaml", b"variables: {basearch: arm}\n")],
        said: &[(
            "base.yaml:1:13: variable `basearch` is reserved",
            "write `basearch:` outside of `variables`",
        )],
    },
    Case {
        name: "variable_of_a_list",
        edits: &[Write("base.yaml", b"variables: {stream: [a]}\n")],
        said: &[(
            "base.yaml:1:21: `variables.stream` must be true, false, a whole number or a text, found a list of 1",
            "put the value in quotes",
        )],
    },
    Case {
        name: "variable_in_packages",
        edits: &[Write("base.yaml", b"packages: ['kernel-${basearch}']\n")],
        said: &[(
            "base.yaml:1:12: variables are not substituted in `packages`: kernel-${basearch}",
            "write the name out, or use `packages-ARCH` or `conditional-include`",
        )],
    },
    Case {
        name: "open_quote",
        edits: &[Write("base.yaml", b"packages: [\"'bash >= 5\"]\n")],
        said: &[(
            "base.yaml:1:12: a quote is not closed in `packages`: 'bash >= 5",
            "write a package expression as \"'name >= 1.0'\"",
        )],
    },
    Case {
        name: "packages_of_an_unknown_architecture",
        edits: &[Write("base.yaml", b"packages-arm64: [bash]\n")],
        said: &[("base.yaml:1:1: unknown key `packages-arm64`", "did you mean `packages-aarch64`?")],
    },
    Case {
        name: "package_that_is_excluded",
        edits: &[Write("base.yaml", b"packages: [bash]\nexclude-packages: [bash]\n")],
        said: &[(
            "base.yaml:1:12: package `bash` is also excluded, at base.yaml:2:20",
            "remove it from `packages` or from `exclude-packages`",
        )],
    },
    Case {
        name: "layer_missing",
        edits: &[Replace("manifest.yaml", "overlay/05core", "overlay/05cor")],
        said: &[("manifest.yaml:7:17: overlay.d/05cor does not exist", "did you mean `overlay/05core`?")],
    },
    Case {
        name: "layer_that_is_none",
        edits: &[Replace("manifest.yaml", "overlay/05core", "05core")],
        said: &[(
            "manifest.yaml:7:17: `05core` is not an overlay",
            "write `overlay/NAME` for the directory overlay.d/NAME",
        )],
    },
    Case {
        name: "statoverride_without_a_mode",
        edits: &[Write("overlay.d/05core/statoverride", b"# modes\n0600 /etc/motd\n")],
        said: &[(
            "overlay.d/05core/statoverride:2: \"0600 /etc/motd\" has no mode between =0 and =4095",
            "write `=MODE /path` with the mode in decimal: `=384 /etc/secret` for 0600",
        )],
    },
    Case {
        name: "statoverride_of_a_missing_file",
        edits: &[Write("overlay.d/05core/statoverride", b"=384 /etc/issue\n")],
        said: &[(
            "overlay.d/05core/statoverride:1: /etc/issue is no file or directory of this overlay",
            "correct the path, or add the file to the overlay",
        )],
    },
    Case {
        name: "unknown_repository",
        edits: &[Replace("manifest.yaml", "repos: [debian]", "repos: [debain]")],
        said: &[("manifest.yaml:5:9: repository `debain` has no definition", "did you mean `debian`?")],
    },
    Case {
        name: "no_repository_named",
        edits: &[Replace("manifest.yaml", "repos: [debian]\n", "")],
        said: &[(
            "base.yaml:2:5: there are packages but no repository to take them from",
            "name repositories in `repos:`; defined are: debian",
        )],
    },
    Case {
        name: "repositories_of_both_kinds",
        edits: &[Write(
            "fedora.repo",
            b"[fedora]\nbaseurl=https://example.org\ngpgcheck=1\ngpgkey=https://example.org/key\n",
        )],
        said: &[(
            "debian.sources and fedora.repo define repositories of two package managers",
            "keep *.sources for a Debian system or *.repo for an RPM one, and remove the others",
        )],
    },
    Case {
        name: "repository_without_suites",
        edits: &[Write("debian.sources", b"Types: deb\nURIs: x\nSigned-By: /k.gpg\n")],
        said: &[(
            "debian.sources: the repository has no Suites",
            "add a line `Suites: …` (sources.list(5), deb822 format)",
        )],
    },
    Case {
        name: "repo_file_without_address",
        edits: &[Remove("debian.sources"), Write("debian.repo", b"# x\n[debian]\nname=Debian\n")],
        said: &[(
            "debian.repo:2:1: repository `debian` has no address",
            "add `baseurl=https://…`, or `metalink=` or `mirrorlist=`",
        )],
    },
    Case {
        name: "repo_file_with_a_bad_switch",
        edits: &[
            Remove("debian.sources"),
            Write("debian.repo", b"[debian]\nbaseurl=https://example.org\ngpgcheck=maybe\n"),
        ],
        said: &[("debian.repo:3:1: `gpgcheck` must be 0 or 1, found maybe", "write `0` or `1`")],
    },
    Case {
        name: "repo_file_with_an_unknown_variable",
        edits: &[
            Remove("debian.sources"),
            Write("debian.repo", b"[debian]\nbaseurl=$mirorr/${releasever}\ngpgcheck=1\ngpgkey=file:///k\n"),
            Write("base.yaml", b"repovars: {mirror: https://example.org}\n"),
        ],
        said: &[("debian.repo:2:9: variable `$mirorr` has no value", "did you mean `$mirror`?")],
    },
    Case {
        name: "repo_variable_with_a_bad_name",
        edits: &[Write("base.yaml", b"repovars: {my-mirror: https://example.org}\n")],
        said: &[("base.yaml:1:12: `my-mirror` is not a variable's name", "use letters, digits and `_`")],
    },
    Case {
        name: "stray_double_quote",
        edits: &[Write("base.yaml", b"packages:\n  - zsh \"'bash >= 5'\"\n")],
        said: &[(
            "base.yaml:2:5: a double quote in `packages`: \"",
            "write a package expression as \"'name >= 1.0'\", the double quotes around the whole item",
        )],
    },
    Case {
        name: "repository_defined_twice",
        edits: &[
            Remove("debian.sources"),
            Write(
                "a.repo",
                b"[debian]\nbaseurl=https://example.org\ngpgcheck=1\ngpgkey=https://example.org/key\n",
            ),
            Write(
                "b.repo",
                b"[debian]\nbaseurl=https://example.org\ngpgcheck=1\ngpgkey=https://example.org/key\n",
            ),
        ],
        said: &[("repository `debian` is defined in a.repo and in b.repo", "rename or remove one of them")],
    },
    Case {
        name: "bad_expression",
        edits: &[Write("base.yaml", b"remove-from-packages:\n  - [bash, '/usr/(']\n")],
        said: &[(
            "base.yaml:2:12: not a regular expression: the text \"/usr/(\": unclosed group",
            "correct it, or escape what is meant literally by `\\`",
        )],
    },
    Case {
        name: "removal_without_expression",
        edits: &[Write("base.yaml", b"remove-from-packages:\n  - [bash]\n")],
        said: &[(
            "base.yaml:2:5: `remove-from-packages` must be lists of a package and regular expressions, found a list of 1",
            "write `- [package, /usr/share/doc/.*]`",
        )],
    },
    Case {
        name: "removal_that_climbs",
        edits: &[Write("base.yaml", b"remove-files: [usr/../../etc]\n")],
        said: &[(
            "base.yaml:1:16: `remove-files` takes paths relative to the root, found \"usr/../../etc\"",
            "write it without leading `/` and without `..`, as `usr/share/doc`",
        )],
    },
    Case {
        name: "removal_by_an_absolute_path",
        edits: &[Write("base.yaml", b"remove-files: [/usr/share/doc]\n")],
        said: &[(
            "base.yaml:1:16: `remove-files` takes paths relative to the root, found \"/usr/share/doc\"",
            "write it without leading `/` and without `..`, as `usr/share/doc`",
        )],
    },
    Case {
        name: "unit_without_kind",
        edits: &[Write("base.yaml", b"units: [sshd]\n")],
        said: &[(
            "base.yaml:1:9: `sshd` is not the name of a unit",
            "write name and kind, as `sshd.service`",
        )],
    },
    Case {
        name: "added_file_missing",
        edits: &[Write("base.yaml", b"add-files: [[motd, /etc/motd]]\n")],
        said: &[("base.yaml:1:14: reading `motd`: no such file", "create motd, or correct the path")],
    },
    Case {
        name: "added_file_out_of_bounds",
        edits: &[Write("base.yaml", b"add-files: [[image.yaml, /var/image.yaml]]\n")],
        said: &[(
            "base.yaml:1:26: `add-files` cannot write /var/image.yaml",
            "write a path of a file below /usr (but not /usr/local) or /etc",
        )],
    },
    Case {
        name: "passwd_file_missing",
        edits: &[Write("base.yaml", b"check-passwd: {type: file, filename: passwd}\n")],
        said: &[("base.yaml:1:38: reading `passwd`: no such file", "create passwd, or correct the path")],
    },
    Case {
        name: "passwd_line_with_too_few_fields",
        edits: &[
            Write("base.yaml", b"check-passwd: {type: file, filename: passwd}\n"),
            Write("passwd", b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1\n"),
        ],
        said: &[(
            "passwd:2:1: a line of a passwd file has 7 fields, found 4: daemon:x:1:1",
            "write `name:x:uid:gid:comment:home:shell`",
        )],
    },
    Case {
        name: "passwd_with_a_bad_uid",
        edits: &[
            Write("base.yaml", b"check-passwd: {type: file, filename: passwd}\n"),
            Write("passwd", b"root:x:-1:0:root:/root:/bin/sh\n"),
        ],
        said: &[(
            "passwd:1:1: the uid `-1` is not a number from 0 to 4294967294",
            "write `name:x:uid:gid:comment:home:shell`",
        )],
    },
    Case {
        name: "group_twice",
        edits: &[
            Write("base.yaml", b"check-groups: {type: file, filename: group}\n"),
            Write("group", b"adm:x:4:\nadm:x:5:\n"),
        ],
        said: &[(
            "group:2:1: `adm` stands twice; the first time at group:1:1",
            "remove one of the two lines",
        )],
    },
    Case {
        name: "check_of_an_unknown_type",
        edits: &[Write("base.yaml", b"check-groups: {type: list}\n")],
        said: &[(
            "base.yaml:1:22: `type` must be one of none, previous, file, data, found the text \"list\"",
            "choose one of them",
        )],
    },
    Case {
        name: "script_without_a_program",
        edits: &[Write("base.yaml", b"postprocess:\n  - |\n    #!bash\n    true\n")],
        said: &[(
            "base.yaml:3:5: `#!bash` names no program",
            "begin it with `#!/bin/bash` or another program's absolute path",
        )],
    },
    Case {
        name: "script_that_begins_late",
        edits: &[Write("base.yaml", b"postprocess:\n  - |\n\n    #!/bin/bash\n    true\n")],
        said: &[(
            "base.yaml:4:5: `#!` does not stand at the beginning of the script",
            "begin it with `#!/bin/bash` or another program's absolute path",
        )],
    },
    Case {
        name: "default_target_that_is_none",
        edits: &[Write("base.yaml", b"default-target: multi-user\n")],
        said: &[(
            "base.yaml:1:17: `default-target` must be a target unit, found the text \"multi-user\"",
            "write `default-target: multi-user.target`",
        )],
    },
    Case {
        name: "boot_location_that_is_not_supported",
        edits: &[Write("base.yaml", b"boot-location: new\n")],
        said: &[(
            "base.yaml:1:16: `boot-location` must be `modules`, found the text \"new\"",
            "write `boot-location: modules`: the kernel lies in /usr/lib/modules only",
        )],
    },
    Case {
        name: "refused_key",
        edits: &[Write("base.yaml", b"ostree-override-layers: [a]\n")],
        said: &[(
            "base.yaml:1:1: `ostree-override-layers` is not supported",
            "name the directory in `ostree-layers`",
        )],
    },
    Case {
        name: "container_system",
        edits: &[Write("base.yaml", b"container: true\n")],
        said: &[(
            "base.yaml:1:12: `container` is not supported with true",
            "remove it: nosa builds bootable systems",
        )],
    },
    Case {
        name: "bad_ref",
        edits: &[Replace("manifest.yaml", "os/${basearch}/stable", "os//stable")],
        said: &[(
            "manifest.yaml:1:6: `os//stable` is not an OSTree branch",
            "write words of letters, digits, `-`, `_` and `.`, separated by `/`",
        )],
    },
    Case {
        name: "name_with_a_slash",
        edits: &[Replace("manifest.yaml", "name: os", "name: my/os")],
        said: &[(
            "manifest.yaml:2:15: the name `my/os` cannot be part of file names",
            "use letters, digits, `-`, `_` and `.`",
        )],
    },
    Case {
        name: "name_missing",
        edits: &[Replace("manifest.yaml", "rojig: {name: os, summary: OS, license: MIT}\n", "")],
        said: &[(
            "manifest.yaml: `metadata.name` is missing",
            "add the system's name: `metadata: {name: myos, summary: My OS}`",
        )],
    },
    Case {
        name: "version_prefix_missing",
        edits: &[Replace("manifest.yaml", "automatic-version-prefix: '1.<date:%Y%m%d>'\n", "")],
        said: &[(
            "manifest.yaml: `automatic-version-prefix` is missing",
            "add what versions begin with: `automatic-version-prefix: \"${releasever}.<date:%Y%m%d>\"`",
        )],
    },
    Case {
        name: "version_prefix_with_an_unknown_tag",
        edits: &[Replace("manifest.yaml", "<date:%Y%m%d>", "<time:%H>")],
        said: &[(
            "manifest.yaml:3:27: unknown tag `<time:%H>` in version prefix `1.<time:%H>`",
            "write the tag as `<date:%Y%m%d>` in `automatic-version-prefix`",
        )],
    },
    Case {
        name: "version_prefix_with_a_blank",
        edits: &[Replace("manifest.yaml", "1.<date:%Y%m%d>", "1 0")],
        said: &[(
            "manifest.yaml:3:27: `1 0` cannot be a version",
            "use letters, digits and - _ . + ~, and begin with a letter or digit",
        )],
    },
    Case {
        name: "version_suffix_too_long",
        edits: &[Write("base.yaml", b"automatic-version-suffix: rc\n")],
        said: &[(
            "base.yaml:1:27: `automatic-version-suffix` must be one ASCII character, found the text \"rc\"",
            "write one, as `\".\"`",
        )],
    },
    Case {
        name: "image_size_missing",
        edits: &[Write("image.yaml", b"rootfs: ext4\n")],
        said: &[("image.yaml: `size` is missing", "add the disks' size in GB: `size: 10`")],
    },
    Case {
        name: "image_size_with_a_unit",
        edits: &[Write("image.yaml", b"size: 10G\n")],
        said: &[(
            "image.yaml:1:7: `size` must be a whole number, found the text \"10G\"",
            "write a whole number, without quotes",
        )],
    },
    Case {
        name: "image_size_out_of_range",
        edits: &[Write("image.yaml", b"size: 0\n")],
        said: &[(
            "image.yaml:1:7: `size` must be a number of GB from 1 to 65536, found the number 0",
            "write `size: 10`",
        )],
    },
    Case {
        name: "root_file_system_that_is_none",
        edits: &[Write("image.yaml", b"size: 10\nrootfs: btrfs\n")],
        said: &[(
            "image.yaml:2:9: `rootfs` must be one of ext4, xfs, found the text \"btrfs\"",
            "choose one of them",
        )],
    },
    Case {
        name: "two_kernel_arguments_in_one",
        edits: &[Write("image.yaml", b"size: 10\nextra-kargs:\n  - quiet splash\n")],
        said: &[(
            "image.yaml:3:5: \"quiet splash\" is not one kernel argument",
            "write each argument as an item of its own, without blanks",
        )],
    },
    Case {
        name: "image_key_misspelt",
        edits: &[Write("image.yaml", b"size: 10\nextra-karg: [quiet]\n")],
        said: &[("image.yaml:2:1: unknown key `extra-karg`", "did you mean `extra-kargs`?")],
    },
    Case {
        name: "platform_with_an_unknown_key",
        edits: &[Write("platforms.yaml", b"x86_64:\n  qemu:\n    kernel_args: [quiet]\n")],
        said: &[(
            "platforms.yaml:3:5: unknown key `kernel_args`",
            "known keys are: grub_commands, kernel_arguments",
        )],
    },
    Case {
        name: "platform_of_an_unknown_architecture",
        edits: &[Write("platforms.yaml", b"x86-64:\n  qemu: {}\n")],
        said: &[("platforms.yaml:1:1: unknown key `x86-64`", "did you mean `x86_64`?")],
    },
    Case {
        name: "platform_with_a_bad_name",
        edits: &[Write("platforms.yaml", b"x86_64:\n  Bare Metal: {}\n")],
        said: &[(
            "platforms.yaml:2:3: `Bare Metal` is not a platform's name",
            "use lower-case letters, digits, `-` and `_`, as `qemu`",
        )],
    },
    Case {
        name: "lock_that_is_not_json",
        edits: &[Write("manifest-lock.x86_64.json", b"{\"packages\": {}\n")],
        said: &[(
            "manifest-lock.x86_64.json:2:1: this is not JSON: EOF while parsing an object",
            "correct it, or name the file *.yaml",
        )],
    },
    Case {
        name: "lock_without_a_version",
        edits: &[Write("manifest-lock.overrides.yaml", b"packages:\n  bash: {}\n")],
        said: &[(
            "manifest-lock.overrides.yaml:2:3: package `bash` has no version",
            "add `evr: 1.0-1`, or `evra: 1.0-1.x86_64`",
        )],
    },
    Case {
        name: "lock_for_another_architecture",
        edits: &[Write(
            "manifest-lock.x86_64.json",
            b"{\"packages\": {\n  \"bash\": {\"evra\": \"5.2-1.aarch64\"}\n}}\n",
        )],
        said: &[(
            "manifest-lock.x86_64.json:2:3: `bash` is locked for aarch64, and this is a lock for x86_64",
            "write the version without architecture, as `evr: …`, or name the file after that one",
        )],
    },
    Case {
        name: "lock_in_two_spellings",
        edits: &[
            Write("manifest-lock.x86_64.json", b"{\"packages\": {}}"),
            Write("manifest-lock.x86_64.yaml", b"packages: {}\n"),
        ],
        said: &[(
            "there are both manifest-lock.x86_64.json and manifest-lock.x86_64.yaml in the configuration",
            "remove one of them",
        )],
    },
    Case {
        name: "denylist_without_a_pattern",
        edits: &[Write("kola-denylist.yaml", b"- tracker: https://example.org/1\n")],
        said: &[("kola-denylist.yaml:1:3: an entry without `pattern`", "name the tests it is about")],
    },
    Case {
        name: "denylist_with_a_bad_date",
        edits: &[Write("kola-denylist.yaml", b"- pattern: basic\n  snooze: tomorrow\n")],
        said: &[("kola-denylist.yaml:2:11: `tomorrow` is no date", "write it as 2026-11-23")],
    },
    Case {
        name: "denylist_with_an_unknown_key",
        edits: &[Write("kola-denylist.yaml", b"- pattern: basic\n  stream: [stable]\n")],
        said: &[("kola-denylist.yaml:2:3: unknown key `stream`", "did you mean `streams`?")],
    },
    Case {
        name: "two_tests_with_bad_headers",
        edits: &[
            Program("tests/kola/a", "#!/bin/sh\n## kola:\n##   exclusive: maybe\n"),
            Program("tests/kola/b", "#!/bin/sh\n## kola:\n##   architecture: x86_64\n"),
            Program("tests/kola/c", "#!/bin/sh\n"),
        ],
        said: &[
            (
                "tests/kola/a:3:17: `exclusive` must be true or false, found the text \"maybe\"",
                "write true or false, without quotes",
            ),
            ("tests/kola/b:3:6: unknown key `architecture`", "did you mean `architectures`?"),
        ],
    },
    Case {
        name: "many_at_once",
        edits: &[
            Write("base.yaml", b"package: [bash]\nunits: [sshd, x.y]\nremove-files: [/a, ../b]\n"),
            Write("image.yaml", b"rootfs: btrfs\nsize: ten\n"),
            Write("overlay.d/05core/statoverride", b"=384\n"),
            Write("manifest-lock.x86_64.json", b"{\"packages\": {\"bash\": {\"evra\": \"5.2-1.aarch64\"}}}"),
        ],
        said: &[
            ("base.yaml:1:1: unknown key `package`", "did you mean `packages`?"),
            (
                "image.yaml:2:7: `size` must be a whole number, found the text \"ten\"",
                "write a whole number, without quotes",
            ),
            (
                "image.yaml:1:9: `rootfs` must be one of ext4, xfs, found the text \"btrfs\"",
                "choose one of them",
            ),
            (
                "base.yaml:3:16: `remove-files` takes paths relative to the root, found \"/a\"",
                "write it without leading `/` and without `..`, as `usr/share/doc`",
            ),
            (
                "base.yaml:3:20: `remove-files` takes paths relative to the root, found \"../b\"",
                "write it without leading `/` and without `..`, as `usr/share/doc`",
            ),
            ("base.yaml:2:9: `sshd` is not the name of a unit", "write name and kind, as `sshd.service`"),
            ("base.yaml:2:15: `x.y` is not the name of a unit", "write name and kind, as `sshd.service`"),
            (
                "overlay.d/05core/statoverride:1: \"=384\" has no path",
                "write `=MODE /path` with the mode in decimal: `=384 /etc/secret` for 0600",
            ),
            (
                "manifest-lock.x86_64.json:1:15: `bash` is locked for aarch64, and this is a lock for x86_64",
                "write the version without architecture, as `evr: …`, or name the file after that one",
            ),
        ],
    },
];
