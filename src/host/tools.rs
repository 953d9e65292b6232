//! Every program that nosa runs on the host, in one table: name, least version, Debian package, purpose.
//! `nosa doctor` prints it; a stage checks its rows before it runs, and all misses are told at once.
//! Programs of the operating system being built (dracut, mke2fs, ostree, grub-mkimage) are not here: they
//! run inside its own tree.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::command::{Cmd, find};

/// A program on the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Tool {
    /// Name on the search path.
    pub name: &'static str,
    /// Least version (numeric components), empty when any will do.
    pub least: &'static [u32],
    /// Arguments that print the version.
    pub version_args: &'static [&'static str],
    /// The Debian package that has it.
    pub package: &'static str,
    /// What nosa needs it for.
    pub purpose: &'static str,
}

/// apt resolves, verifies and downloads Debian packages.
pub const APT_GET: Tool = Tool {
    name: "apt-get",
    least: &[2, 6],
    version_args: &["--version"],
    package: "apt",
    purpose: "resolving and downloading deb packages",
};
/// dnf's fourth generation resolves, verifies and downloads RPM packages, through its Python API. It is not
/// asked for its version: it would write to /var/log to say it, which not everybody may.
pub const DNF: Tool = Tool {
    name: "dnf-3",
    least: &[],
    version_args: &[],
    package: "dnf",
    purpose: "resolving and downloading RPM packages",
};
/// rpm installs RPM packages into a tree.
pub const RPM: Tool = Tool {
    name: "rpm",
    least: &[4, 18],
    version_args: &["--version"],
    package: "rpm",
    purpose: "installing RPM packages",
};
/// sqlite3 rewrites rpm's database so that it can be read from a read-only /usr.
pub const SQLITE3: Tool = Tool {
    name: "sqlite3",
    least: &[3],
    version_args: &["--version"],
    package: "sqlite3",
    purpose: "settling rpm's database",
};
/// bubblewrap runs programs of the tree being built in a sandbox.
pub const BWRAP: Tool = Tool {
    name: "bwrap",
    least: &[0, 8],
    version_args: &["--version"],
    package: "bubblewrap",
    purpose: "running package scripts in a sandbox",
};
/// newuidmap gives an ordinary user's namespace its subordinate user ids.
pub const NEWUIDMAP: Tool = Tool {
    name: "newuidmap",
    least: &[],
    version_args: &[],
    package: "uidmap",
    purpose: "building as an ordinary user",
};
/// newgidmap gives an ordinary user's namespace its subordinate group ids.
pub const NEWGIDMAP: Tool = Tool {
    name: "newgidmap",
    least: &[],
    version_args: &[],
    package: "uidmap",
    purpose: "building as an ordinary user",
};
/// qemu-img converts disk images.
pub const QEMU_IMG: Tool = Tool {
    name: "qemu-img",
    least: &[7, 0],
    version_args: &["--version"],
    package: "qemu-utils",
    purpose: "writing qcow2 images",
};
/// QEMU boots images. Before 8.0 its multi-threaded TCG corrupts guests.
pub const QEMU_X86_64: Tool = Tool {
    name: "qemu-system-x86_64",
    least: &[8, 0],
    version_args: &["--version"],
    package: "qemu-system-x86",
    purpose: "booting images (Debian 12: from bookworm-backports)",
};
/// debugfs edits boot entries inside a disk image that is never mounted.
pub const DEBUGFS: Tool = Tool {
    name: "debugfs",
    least: &[],
    version_args: &[],
    package: "e2fsprogs",
    purpose: "booting an image with other kernel arguments",
};
/// OpenSSH's client talks to booted machines.
pub const SSH: Tool = Tool {
    name: "ssh",
    least: &[],
    version_args: &[],
    package: "openssh-client",
    purpose: "talking to booted machines",
};
/// OpenSSH's key maker makes a key for each boot test.
pub const SSH_KEYGEN: Tool = Tool {
    name: "ssh-keygen",
    least: &[],
    version_args: &[],
    package: "openssh-client",
    purpose: "keys for boot tests",
};
/// git tells which commit the configuration is at.
pub const GIT: Tool = Tool {
    name: "git",
    least: &[],
    version_args: &["--version"],
    package: "git",
    purpose: "recording the configuration's commit",
};

/// curl fetches and uploads builds.
pub const CURL: Tool = Tool {
    name: "curl",
    least: &[7, 74],
    version_args: &["--version"],
    package: "curl",
    purpose: "fetching and uploading builds over HTTP",
};
/// GPG signs builds.
pub const GPG: Tool = Tool {
    name: "gpg",
    least: &[2, 2],
    version_args: &["--version"],
    package: "gnupg",
    purpose: "signing builds",
};
/// The AWS command line talks to S3.
pub const AWS: Tool = Tool {
    name: "aws",
    least: &[1, 20],
    version_args: &["--version"],
    package: "awscli",
    purpose: "fetching and uploading builds in S3",
};

/// skopeo takes images out of podman's storage.
pub const SKOPEO: Tool = Tool {
    name: "skopeo",
    least: &[1, 9],
    version_args: &["--version"],
    package: "skopeo",
    purpose: "taking images out of podman's storage",
};

/// The skopeo that signs: Debian 12's 1.9 has sigstore switched off.
pub const SKOPEO_SIGNING: Tool = Tool {
    name: "skopeo",
    least: &[1, 11],
    version_args: &["--version"],
    package: "skopeo",
    purpose: "signing images in registries (Debian 12: from a later release)",
};

/// podman builds and keeps container images.
pub const PODMAN: Tool = Tool {
    name: "podman",
    least: &[4, 3],
    version_args: &["--version"],
    package: "podman",
    purpose: "building images from Containerfiles",
};

/// Programs that only some commands or configurations need, which check for them themselves.
pub const OCCASIONAL: &[&Tool] =
    &[&DNF, &RPM, &SQLITE3, &CURL, &GPG, &AWS, &PODMAN, &SKOPEO, &SKOPEO_SIGNING];

/// What building and booting needs.
pub const TOOLS: &[&Tool] =
    &[&APT_GET, &BWRAP, &NEWUIDMAP, &NEWGIDMAP, &QEMU_IMG, &QEMU_X86_64, &DEBUGFS, &SSH, &SSH_KEYGEN, &GIT];

/// What was found of a tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Where it lies; `None` when it is missing.
    pub path: Option<PathBuf>,
    /// Its version as it printed it, when it is asked for one.
    pub version: Option<String>,
    /// Why it will not do; `None` when it will.
    pub problem: Option<String>,
}

/// Tools that are missing or too old, all at once.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .problems.join("; "))]
pub struct ToolError {
    /// One line a tool.
    pub problems: Vec<String>,
    /// The Debian packages that have them.
    pub packages: Vec<&'static str>,
}

impl ToolError {
    /// What to do about it.
    #[must_use]
    pub fn cure(&self) -> String {
        let mut cure = String::from("install: apt-get install");
        for package in &self.packages {
            write!(cure, " {package}").unwrap_or_default();
        }
        cure
    }
}

impl Tool {
    /// Looks for the tool and asks it for its version.
    #[must_use]
    pub fn look(&self) -> Installed {
        let Some(path) = find(self.name) else {
            let problem = format!("{} is not installed (needed for {})", self.name, self.purpose);
            return Installed { path: None, version: None, problem: Some(problem) };
        };
        if self.version_args.is_empty() {
            return Installed { path: Some(path), version: None, problem: None };
        }
        let printed = match Cmd::new(self).args(self.version_args).output() {
            Ok(output) => output.text(),
            Err(error) => {
                let problem = Some(format!("{} does not run: {error:#}", self.name));
                return Installed { path: Some(path), version: None, problem };
            }
        };
        let version = first_version(&printed);
        let problem = match &version {
            None => Some(format!("{} printed no version", self.name)),
            Some(found) if numbers(found).as_slice() < self.least => Some(format!(
                "{} {found} is too old: {} or later is needed for {}",
                self.name,
                self.least.iter().map(u32::to_string).collect::<Vec<_>>().join("."),
                self.purpose
            )),
            Some(_) => None,
        };
        Installed { path: Some(path), version, problem }
    }
}

/// Checks the tools and reports every one that is missing or too old.
pub fn require(tools: &[&Tool]) -> Result<(), ToolError> {
    let mut error = ToolError { problems: Vec::new(), packages: Vec::new() };
    for tool in tools {
        if let Some(problem) = tool.look().problem {
            error.problems.push(problem);
            if !error.packages.contains(&tool.package) {
                error.packages.push(tool.package);
            }
        }
    }
    if error.problems.is_empty() { Ok(()) } else { Err(error) }
}

/// Looks at every tool of the table.
#[must_use]
pub fn doctor() -> Vec<(&'static Tool, Installed)> {
    TOOLS.iter().chain(OCCASIONAL).map(|tool| (*tool, tool.look())).collect()
}

/// The first dotted number in a text: `bubblewrap 0.8.0` → `0.8.0`.
fn first_version(text: &str) -> Option<String> {
    text.split(|c: char| c.is_whitespace() || "()/".contains(c)).find_map(|word| {
        let digits: String = word.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
        let digits = digits.trim_end_matches('.');
        (digits.contains('.') && digits.starts_with(|c: char| c.is_ascii_digit())).then(|| digits.to_owned())
    })
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_programs_print_them() {
        let cases = [
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", "10.0.2"),
            ("bubblewrap 0.8.0", "0.8.0"),
            ("apt 2.6.1 (amd64)", "2.6.1"),
            ("git version 2.47.3", "2.47.3"),
            ("aws-cli/2.23.6 Python/3.13.5 Linux/6.12", "2.23.6"),
            ("gpg (GnuPG) 2.2.40\nlibgcrypt 1.10.1", "2.2.40"),
        ];
        for (printed, version) in cases {
            assert_eq!(first_version(printed).as_deref(), Some(version));
        }
        assert!(numbers("7.2.19") < vec![8, 0] && numbers("10.0.2") > vec![8, 0]);
    }

    #[test]
    fn every_missing_tool_is_told_at_once_with_its_package() {
        const A: Tool =
            Tool { name: "no-such-a", least: &[], version_args: &[], package: "pkg-a", purpose: "x" };
        const B: Tool =
            Tool { name: "no-such-b", least: &[], version_args: &[], package: "pkg-b", purpose: "y" };
        let error = require(&[&A, &B]).unwrap_err();
        assert_eq!(error.problems.len(), 2);
        assert_eq!(error.cure(), "install: apt-get install pkg-a pkg-b");
    }

    #[test]
    fn a_tool_that_is_too_old_says_what_is_needed() {
        const OLD: Tool = Tool {
            name: "git",
            least: &[999],
            version_args: &["--version"],
            package: "git",
            purpose: "the test",
        };
        let problem = OLD.look().problem.unwrap();
        assert!(problem.contains("too old: 999 or later"), "{problem}");
    }
}
