//! Every mistake, with the whole message it gives.

use super::*;

/// Tests `more` after [`BASE`] (so it begins in line 4) for its exact message.
macro_rules! faults {
    ($($name:ident: $more:expr => $message:expr;)*) => {
        $(#[test] fn $name() { assert_eq!(fault($more), $message); })*
    };
}

faults! {
    unknown_key: "package: [a]\n" =>
        "manifest.yaml:4:1: unknown key `package` | did you mean `packages`?";
    unknown_key_far_from_all: "flavour: x\n" =>
        "manifest.yaml:4:1: unknown key `flavour` | remove it, or see rpm-ostree's treefile reference for the \
         keys there are";
    unknown_architecture: "packages-x8664: [a]\n" =>
        "manifest.yaml:4:1: unknown key `packages-x8664` | did you mean `packages-x86_64`?";
    tab: "packages:\n\t- a\n" =>
        "manifest.yaml:5:1: YAML does not allow tabs for indentation | indent with spaces";
    duplicate_key: "repos: [a]\nrepos: [b]\n" =>
        "manifest.yaml:5:1: key `repos` stands twice; first in line 4 | join the two, or remove one";
    both_spellings: "default-target: a.target\ndefault_target: b.target\n" =>
        "manifest.yaml:5:1: both spellings of `default-target` stand here; the first at manifest.yaml:4:17 | \
         keep one of them";
    text_for_a_list: "packages: bash\n" =>
        "manifest.yaml:4:11: `packages` must be a list, found the text \"bash\" | write each item on a line of \
         its own: `- bash`";
    number_for_a_text: "default-target: 3\n" =>
        "manifest.yaml:4:17: `default-target` must be a text, found the number 3 | put the value in quotes";
    number_among_packages: "packages: [a, 7]\n" =>
        "manifest.yaml:4:15: `packages` must be a text, found the number 7 | put the value in quotes";
    text_for_a_truth_value: "recommends: no\n" =>
        "manifest.yaml:4:13: `recommends` must be true or false, found the text \"no\" | write true or false, \
         without quotes";
    map_for_a_list: "repos: {a: b}\n" =>
        "manifest.yaml:4:8: `repos` must be a list, found a map (`a: …`) | write each item on a line of its \
         own, after `- `";
    fraction_as_release: "releasever: 24.03\n" =>
        "manifest.yaml:4:13: `releasever` must be a text, found the number 24.03 | put the value in quotes";
    choice: "edition: '2025'\n" =>
        "manifest.yaml:4:10: `edition` must be one of 2014, 2024, found the text \"2025\" | choose one of them";
    list_as_variable: "variables: {a: [1]}\n" =>
        "manifest.yaml:4:16: `variables.a` must be true, false, a whole number or a text, found a list of 1 | \
         put the value in quotes";
    reserved_variable: "variables: {releasever: 3}\n" =>
        "manifest.yaml:4:13: variable `releasever` is reserved | write `releasever:` outside of `variables`";
    undefined_variable: "mutate-os-release: '${release}'\n" =>
        "manifest.yaml:4:20: variable `release` is not defined | define it under `variables:`; there are: \
         basearch";
    open_variable: "mutate-os-release: '${release'\n" =>
        "manifest.yaml:4:20: `${` is not closed in \"${release\" | write `${name}`";
    variable_in_packages: "packages: ['kernel-${basearch}']\n" =>
        "manifest.yaml:4:12: variables are not substituted in `packages`: kernel-${basearch} | write the name \
         out, or use `packages-ARCH` or `conditional-include`";
    open_quote: "packages: [\"'foo >= 1\"]\n" =>
        "manifest.yaml:4:12: a quote is not closed in `packages`: 'foo >= 1 | write a package expression as \
         \"'name >= 1.0'\"";
    option_as_package: "packages:\n  - a - -o\n" =>
        "manifest.yaml:5:5: a package name cannot begin with `-`: - | remove the second `-`, or name the \
         package in `exclude-packages`";
    other_architecture: "basearch: aarch64\n" =>
        "manifest.yaml:4:11: `basearch` is the text \"aarch64\", and this build is for x86_64 | remove \
         `basearch`, or build on that architecture";
    missing_include: "include: [m/base.yaml]\n" =>
        "manifest.yaml:4:11: including `m/base.yaml`: no such file | create m/base.yaml, or correct the path";
    condition_syntax: "conditional-include:\n  - {if: releasever ~ 3, include: a.yaml}\n" =>
        "manifest.yaml:5:10: `releasever ~ 3` is not a condition: expected one of ==, !=, >, >=, <, <= | write \
         `variable operator value`, as `releasever >= 41` or `stream == \"stable\"`";
    condition_value: "conditional-include:\n  - {if: stream == stable, include: a.yaml}\n" =>
        "manifest.yaml:5:10: `stream == stable` is not a condition: the value must be true, false, a number or \
         a text in double quotes | write `variable operator value`, as `releasever >= 41` or `stream == \
         \"stable\"`";
    condition_type: "releasever: '41'\nconditional-include:\n  - {if: releasever > 3, include: a.yaml}\n" =>
        "manifest.yaml:6:10: `releasever` is a text (41), compared with a number (3) | compare it with a value \
         of its own type";
    condition_order_of_texts: "conditional-include:\n  - {if: 'basearch > \"a\"', include: a.yaml}\n" =>
        "manifest.yaml:5:10: `>` compares numbers, and `basearch` is a text | use == or !=";
    condition_variable: "conditional-include:\n  - {if: prod == true, include: a.yaml}\n" =>
        "manifest.yaml:5:10: variable `prod` is not defined | define it under `variables:`; there are: basearch";
    condition_without_include: "conditional-include:\n  - {if: prod == true}\n" =>
        "manifest.yaml:5:5: `conditional-include` lacks `include` | add `include: …` to it";
    inline_include: "conditional-include:\n  - if: basearch == \"x\"\n    include: {include: a.yaml}\n" =>
        "manifest.yaml:6:15: `include` has no effect in an inline treefile | move the inline treefile to a file \
         of its own and include that";
    repo_packages_key: "repo-packages:\n  - {repo: debian, package: [a]}\n" =>
        "manifest.yaml:5:20: unknown key `package` | did you mean `packages`?";
    undefined_repository: "repos: [debain]\n" =>
        "manifest.yaml:4:9: repository `debain` has no definition | did you mean `debian`?";
    undefined_repository_of_packages: "repo-packages:\n  - {repo: forky, packages: [a]}\n" =>
        "manifest.yaml:5:12: repository `forky` has no definition | put forky.sources (Debian) or a *.repo file \
         with [forky] (RPM) beside manifest.yaml";
    packages_without_repository: "packages: [a]\n" =>
        "manifest.yaml:4:12: there are packages but no repository to take them from | name repositories in \
         `repos:`; defined are: debian, extra";
    excluded_package: "repos: [debian]\npackages: [a]\nexclude-packages: [b, a]\n" =>
        "manifest.yaml:5:12: package `a` is also excluded, at manifest.yaml:6:23 | remove it from `packages` or \
         from `exclude-packages`";
    refused_key: "ostree-override-layers: [a]\n" =>
        "manifest.yaml:4:1: `ostree-override-layers` is not supported | name the directory in `ostree-layers`";
    unit: "units: [a.service, sshd]\n" =>
        "manifest.yaml:4:20: `sshd` is not the name of a unit | write name and kind, as `sshd.service`";
    added_file_missing: "add-files: [[motd, /etc/motd]]\n" =>
        "manifest.yaml:4:14: reading `motd`: no such file | create motd, or correct the path";
    added_file_outside: "add-files: [[image.yaml, /usr/local/x]]\n" =>
        "manifest.yaml:4:26: `add-files` cannot write /usr/local/x | write a path of a file below /usr (but not \
         /usr/local) or /etc";
    added_file_alone: "add-files: [[motd]]\n" =>
        "manifest.yaml:4:13: `add-files` must be lists of a file and its path in the tree, found a list of 1 | \
         write `- [file, /usr/share/file]`";
    check_without_type: "check-passwd: {filename: passwd}\n" =>
        "manifest.yaml:4:15: `check-passwd` lacks `type` | add `type: file`, `data`, `previous` or `none`";
    check_of_another_type: "check-groups: {type: list}\n" =>
        "manifest.yaml:4:22: `type` must be one of none, previous, file, data, found the text \"list\" | choose one of them";
    check_without_file: "check-groups: {type: file}\n" =>
        "manifest.yaml:4:15: `check-groups` has type file and lacks `filename` | add `filename: group`, relative \
         to this treefile";
    check_of_a_missing_file: "check-groups: {type: file, filename: group}\n" =>
        "manifest.yaml:4:38: reading `group`: no such file | create group, or correct the path";
    check_of_a_bad_id: "check-groups: {type: data, entries: {a: x}}\n" =>
        "manifest.yaml:4:41: `entries.a` must be a numeric id, found the text \"x\" | write `a: 42`, or `a: [42, \
         43]` for a user and its group";
    refused_value: "container: true\n" =>
        "manifest.yaml:4:12: `container` is not supported with true | remove it: nosa builds bootable systems";
    boot_location: "boot-location: new\n" =>
        "manifest.yaml:4:16: `boot-location` must be `modules`, found the text \"new\" | write `boot-location: \
         modules`: the kernel lies in /usr/lib/modules only";
    missing_overlay: "ostree-layers: [overlay/05core]\n" =>
        "manifest.yaml:4:17: overlay.d/05core does not exist | create the directory overlay.d/05core, or remove \
         the layer";
    not_an_overlay: "ostree-layers: [05core]\n" =>
        "manifest.yaml:4:17: `05core` is not an overlay | write `overlay/NAME` for the directory overlay.d/NAME";
    bad_regex: "remove-from-packages:\n  - [a, '*']\n" =>
        "manifest.yaml:5:9: not a regular expression: the text \"*\": repetition operator missing expression | \
         correct it, or escape what is meant literally by `\\`";
    removal_without_regex: "remove-from-packages:\n  - [a]\n" =>
        "manifest.yaml:5:5: `remove-from-packages` must be lists of a package and regular expressions, found a \
         list of 1 | write `- [package, /usr/share/doc/.*]`";
    absolute_removal: "remove-files: [/usr/share/doc]\n" =>
        "manifest.yaml:4:16: `remove-files` takes paths relative to the root, found \"/usr/share/doc\" | write \
         it without leading `/` and without `..`, as `usr/share/doc`";
    climbing_removal: "remove-files: [usr/../..]\n" =>
        "manifest.yaml:4:16: `remove-files` takes paths relative to the root, found \"usr/../..\" | write it \
         without leading `/` and without `..`, as `usr/share/doc`";
    default_target: "default-target: multi-user\n" =>
        "manifest.yaml:4:17: `default-target` must be a target unit, found the text \"multi-user\" | write \
         `default-target: multi-user.target`";
    version_suffix: "automatic-version-suffix: ab\n" =>
        "manifest.yaml:4:27: `automatic-version-suffix` must be one ASCII character, found the text \"ab\" | \
         write one, as `\".\"`";
}

#[test]
fn what_must_be_there() {
    assert_eq!(
        failure(&[]),
        "reading /c/manifest.yaml: no such file | create manifest.yaml, or correct the path"
    );
    assert_eq!(
        failure(&[("manifest.yaml", "- a\n")]),
        "manifest.yaml:1:1: a treefile is a map of keys, found a list of 1 | write `key: value` lines"
    );
    assert_eq!(
        failure(&[("manifest.yaml", "")]),
        "manifest.yaml: `metadata.name` is missing | add the system's name: `metadata: {name: myos, summary: My OS}`"
    );
    assert_eq!(
        failure(&[("manifest.yaml", "metadata: {name: os}\n")]),
        "manifest.yaml: `ref` is missing | add the OSTree branch: `ref: myos/${basearch}/stable`"
    );
    assert_eq!(
        failure(&[("manifest.yaml", "metadata: {name: my os}\n")]),
        "manifest.yaml:1:18: the name `my os` cannot be part of file names | use letters, digits, `-`, `_` and `.`"
    );
    assert_eq!(
        failure(&[("manifest.yaml", "metadata: {name: os}\nref: os//x\n")]),
        "manifest.yaml:2:6: `os//x` is not an OSTree branch | write words of letters, digits, `-`, `_` and `.`, \
         separated by `/`"
    );
    assert!(
        failure(&[("manifest.yaml", "metadata: {name: os}\nref: os/x\n")]).starts_with(
            "manifest.yaml: `automatic-version-prefix` is missing | add what versions begin with"
        )
    );
}

#[test]
fn includes_that_go_wrong() {
    assert_eq!(
        failure(&[
            ("manifest.yaml", "include: m/a.yaml\n"),
            ("m/a.yaml", "# x\ninclude:\n  - b.yaml\n"),
            ("m/b.yaml", "include: ../manifest.yaml\n"),
        ]),
        "m/b.yaml:1:10: include goes in a circle: manifest.yaml → m/a.yaml → m/b.yaml → manifest.yaml | remove \
         one of these includes"
    );
    assert_eq!(
        failure(&[
            ("manifest.yaml", "include: [a.yaml, b.yaml]\n"),
            ("a.yaml", "include: c.yaml\n"),
            ("b.yaml", "include: ./c.yaml\n"),
            ("c.yaml", ""),
        ]),
        "b.yaml:1:10: `c.yaml` is included twice; the first time at a.yaml:1:10 | keep one of the two includes"
    );
    assert_eq!(
        failure(&[("manifest.yaml", "include: m/sytem.yaml\n"), ("m/system.yaml", "")]),
        "manifest.yaml:1:10: including `m/sytem.yaml`: no such file | did you mean `m/system.yaml`?"
    );
    let texts: Vec<(String, String)> =
        (0..60).map(|n| (format!("{n}.yaml"), format!("include: {}.yaml\n", n + 1))).collect();
    let mut files: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
    files.push(("manifest.yaml", "include: 0.yaml\n"));
    assert_eq!(
        failure(&files),
        "49.yaml:1:10: includes are nested deeper than 50 files | include the files side by side"
    );
}

#[test]
fn image_yaml_that_is_wrong() {
    let image = |text: &str| failure(&[("manifest.yaml", BASE), ("image.yaml", text)]);
    assert_eq!(
        image("rootfs: xfs\n"),
        "image.yaml: `size` is missing | add the disks' size in GB: `size: 10`"
    );
    assert_eq!(
        image("size: 10G\n"),
        "image.yaml:1:7: `size` must be a whole number, found the text \"10G\" | write a whole number, without quotes"
    );
    assert_eq!(
        image("size: 0\n"),
        "image.yaml:1:7: `size` must be a number of GB from 1 to 65536, found the number 0 | write `size: 10`"
    );
    assert_eq!(
        image("size: 10\nrootfs: btrfs\n"),
        "image.yaml:2:9: `rootfs` must be one of ext4, xfs, found the text \"btrfs\" | choose one of them"
    );
    assert_eq!(
        image("size: 10\nextra-karg: [a]\n"),
        "image.yaml:2:1: unknown key `extra-karg` | did you mean `extra-kargs`?"
    );
    assert_eq!(
        image("include: image.yaml\n"),
        "image.yaml:1:10: include goes in a circle: image.yaml → image.yaml | remove one of these includes"
    );
    assert_eq!(
        failure(&[("manifest.yaml", BASE), ("platforms.yaml", "x86_64:\n  qemu: {kernel_args: [a]}\n")]),
        "platforms.yaml:2:10: unknown key `kernel_args` | known keys are: grub_commands, kernel_arguments"
    );
}

#[test]
fn accounts_that_are_wrong() {
    let passwd = |text: &str| {
        let manifest = format!("{BASE}check-passwd: {{type: file, filename: passwd}}\n");
        failure(&[("manifest.yaml", &manifest), ("passwd", text)])
    };
    assert_eq!(
        passwd("root:x:0:0:root:/root\n"),
        "passwd:1:1: a line of a passwd file has 7 fields, found 6: root:x:0:0:root:/root | write \
         `name:x:uid:gid:comment:home:shell`"
    );
    assert_eq!(
        passwd("#\nroot:x:zero:0:root:/root:\n"),
        "passwd:2:1: the uid `zero` is not a number from 0 to 4294967294 | write \
         `name:x:uid:gid:comment:home:shell`"
    );
    assert_eq!(
        passwd("a:x:1:1::/:\na:x:2:2::/:\n"),
        "passwd:2:1: `a` stands twice; the first time at passwd:1:1 | remove one of the two lines"
    );
    assert_eq!(
        passwd("0a:x:1:1::/:\n"),
        "passwd:1:1: `0a` is not an account's name | write `name:x:uid:gid:comment:home:shell`"
    );
    assert_eq!(
        passwd("a:x:1:1::home:\n"),
        "passwd:1:1: the home directory `home` is not an absolute path | write `name:x:uid:gid:comment:home:shell`"
    );
}
