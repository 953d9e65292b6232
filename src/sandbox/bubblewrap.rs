//! One program in a root of its own, by bubblewrap.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::host::{Cmd, fs, tool};

/// What package scripts need to own files of any user; not CAP_SYS_ADMIN, with which a script that runs
/// under the host's root could mount a /proc of its own and reach the kernel's settings.
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// How to run programs of a tree: the tree is `/`, /proc, /dev, /run and /tmp are fresh, there is no
/// network, and no process outlives the program.
#[derive(Debug, Clone)]
pub struct Sandbox {
    root: PathBuf,
    root_read_only: bool,
    capabilities: &'static [&'static str],
    mounts: Vec<Vec<OsString>>,
    env: Vec<(String, String)>,
}

impl Sandbox {
    /// A sandbox whose `/` is the tree at `root`, writable.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let (mounts, env) = (Vec::new(), Vec::new());
        Self { root: root.to_owned(), root_read_only: false, capabilities: CAPABILITIES, mounts, env }
    }

    /// A sandbox with the host's programs and nothing else of the host: its /usr, read-only, below a root
    /// that is made at `skeleton`.
    pub fn of_host(skeleton: &Path) -> Result<Self> {
        for name in ["usr", "proc", "dev", "run", "tmp", "etc"] {
            fs::create_dir_all(&skeleton.join(name))?;
        }
        let mut sandbox = Self::new(skeleton).read_only().bind_ro(Path::new("/usr"), "/usr");
        for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
            let own = Path::new("/").join(name);
            match std::fs::read_link(&own) {
                Ok(target) => fs::symlink_atomic(&target, &skeleton.join(name))?,
                Err(_) if own.is_dir() => {
                    fs::create_dir_all(&skeleton.join(name))?;
                    sandbox = sandbox.bind_ro(&own, &format!("/{name}"));
                }
                Err(_) => {}
            }
        }
        Ok(sandbox)
    }

    /// Makes `/` read-only.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.root_read_only = true;
        self
    }

    /// Takes every capability from the program, for one that only reads.
    #[must_use]
    pub const fn powerless(mut self) -> Self {
        self.capabilities = &[];
        self
    }

    /// Shows a host path inside, writable. The place must exist in the tree or below a fresh mount.
    #[must_use]
    pub fn bind(mut self, source: &Path, target: &str) -> Self {
        self.mounts.push(vec!["--bind".into(), source.into(), target.into()]);
        self
    }

    /// Shows a host path inside, read-only.
    #[must_use]
    pub fn bind_ro(mut self, source: &Path, target: &str) -> Self {
        self.mounts.push(vec!["--ro-bind".into(), source.into(), target.into()]);
        self
    }

    /// Puts a fresh file system in memory over `target`.
    #[must_use]
    pub fn tmpfs(mut self, target: &str) -> Self {
        self.mounts.push(vec!["--tmpfs".into(), target.into()]);
        self
    }

    /// Puts fresh /proc, /dev, /run and /tmp into a tree shown at `target`, for a program that enters it.
    #[must_use]
    pub fn system_dirs(mut self, target: &str) -> Self {
        let words = ["--proc /proc", "--dev /dev", "--tmpfs /run", "--perms 1777 --tmpfs /tmp"];
        for words in words {
            let (options, place) = words.rsplit_once(' ').unwrap_or_default();
            let mut mount: Vec<OsString> = options.split(' ').map(OsString::from).collect();
            mount.push(format!("{target}{place}").into());
            self.mounts.push(mount);
        }
        self.mounts.extend(sealed(target));
        self
    }

    /// Sets an environment variable inside.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// A call of `program` inside; the program's own arguments are added to it.
    #[must_use]
    pub fn command(&self, program: &str) -> Cmd {
        Cmd::new(&tool::BWRAP).args(self.argv(program))
    }

    fn argv(&self, program: &str) -> Vec<OsString> {
        let mut argv: Vec<OsString> = Vec::new();
        let mut add = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        add(&["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]);
        add(&["--die-with-parent", "--new-session", "--hostname", "localhost", "--cap-drop", "ALL"]);
        for capability in self.capabilities {
            add(&["--cap-add", capability]);
        }
        add(&[if self.root_read_only { "--ro-bind" } else { "--bind" }]);
        argv.extend([self.root.clone().into(), "/".into()]);
        let mut add = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        add(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run", "--perms", "1777", "--tmpfs", "/tmp"]);
        for mount in sealed("").iter().chain(&self.mounts) {
            argv.extend(mount.iter().cloned());
        }
        let mut add = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        add(&["--clearenv", "--setenv", "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin"]);
        add(&["--setenv", "HOME", "/root", "--setenv", "LC_ALL", "C.UTF-8", "--setenv", "TZ", "UTC"]);
        add(&["--setenv", "SYSTEMD_OFFLINE", "1"]);
        for (name, value) in &self.env {
            argv.extend(["--setenv".into(), name.into(), value.into()]);
        }
        argv.extend(["--chdir".into(), "/".into(), "--".into(), program.into()]);
        argv
    }
}

/// Mounts that keep a script with user id 0 from the kernel's settings: the files in /proc/sys ask for no
/// capability, and bubblewrap leaves them writable to the host's root.
fn sealed(root: &str) -> Vec<Vec<OsString>> {
    let read_only = ["sys", "fs"].map(|name| (format!("/proc/{name}"), format!("{root}/proc/{name}")));
    let nothing = ["sysrq-trigger", "kcore", "keys", "timer_list"]
        .map(|name| ("/dev/null".to_owned(), format!("{root}/proc/{name}")));
    let mounts = read_only.into_iter().chain(nothing);
    // A kernel may be built without some of them.
    let there = |target: &str| Path::new(target.strip_prefix(root).unwrap_or(target)).exists();
    mounts
        .filter(|(_, target)| there(target))
        .map(|(source, target)| vec!["--ro-bind".into(), source.into(), target.into()])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_comes_first_and_the_program_last() {
        let argv = Sandbox::new(Path::new("/tree")).read_only().bind(Path::new("/a b"), "/mnt").argv("true");
        let words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let root = words.iter().position(|word| word == "/tree").unwrap();
        let mount = words.iter().position(|word| word == "/a b").unwrap();
        assert_eq!(words[root - 1], "--ro-bind");
        assert!(root < mount && words.contains(&"--unshare-net".to_owned()));
        assert_eq!(words.last().unwrap(), "true");
    }
}
