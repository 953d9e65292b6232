//! A package as data, whatever it is written as.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nosa::host::Cmd;

/// What a path of a package is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    File(Vec<u8>),
    Link(String),
    Dir,
}

/// One path of a package.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) path: String,
    pub(crate) mode: u32,
    /// User and group, by name and number.
    pub(crate) owner: (&'static str, u32),
    pub(crate) content: Content,
}

/// A package.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) items: Vec<Item>,
    pub(crate) depends: Vec<String>,
    pub(crate) recommends: Vec<String>,
    pub(crate) pre: String,
    pub(crate) post: String,
    /// A file with the capability to open raw sockets.
    pub(crate) raw_socket: Option<String>,
    /// Whether the package manager takes it for granted.
    pub(crate) essential: bool,
}

impl Made {
    pub(crate) fn new(name: &str, version: &str) -> Self {
        let depends = if name == "base" { Vec::new() } else { vec!["base".to_owned()] };
        Self { name: name.to_owned(), version: version.to_owned(), depends, ..Self::default() }
    }

    pub(crate) fn file(mut self, path: &str, text: &str) -> Self {
        self.items.push(Item {
            path: path.to_owned(),
            mode: 0o644,
            owner: ("root", 0),
            content: Content::File(text.into()),
        });
        self
    }

    /// Sets the mode and owner of the last path.
    pub(crate) fn with(mut self, mode: u32, owner: (&'static str, u32)) -> Self {
        let item = self.items.last_mut().unwrap();
        (item.mode, item.owner) = (mode, owner);
        self
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        let content = Content::Link(target.to_owned());
        self.items.push(Item { path: path.to_owned(), mode: 0o777, owner: ("root", 0), content });
        self
    }

    pub(crate) fn dir(mut self, path: &str) -> Self {
        self.items.push(Item {
            path: path.to_owned(),
            mode: 0o755,
            owner: ("root", 0),
            content: Content::Dir,
        });
        self
    }

    pub(crate) fn depends(mut self, names: &[&str]) -> Self {
        self.depends.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    pub(crate) fn recommends(mut self, name: &str) -> Self {
        self.recommends.push(name.to_owned());
        self
    }

    pub(crate) fn pre(mut self, text: &str) -> Self {
        self.pre = text.to_owned();
        self
    }

    pub(crate) fn post(mut self, text: &str) -> Self {
        self.post = text.to_owned();
        self
    }
}

/// The programs that scripts use here, from the host, with their libraries.
const PROGRAMS: &[&str] = &[
    "sh",
    "cat",
    "chmod",
    "cp",
    "dpkg",
    "dpkg-deb",
    "dpkg-split",
    "id",
    "ldconfig",
    "ln",
    "ls",
    "mkdir",
    "readlink",
    "rm",
    "sed",
    "setcap",
    "sleep",
    "start-stop-daemon",
    "tar",
    "touch",
    "tr",
    "diff",
];

/// The package that every other one needs: a shell, a few programs, and accounts.
pub(crate) fn base() -> Made {
    let mut made = Made::new("base", "1.0");
    made.essential = true;
    for (path, target) in
        [("/bin", "usr/bin"), ("/sbin", "usr/sbin"), ("/lib", "usr/lib"), ("/lib64", "usr/lib64")]
    {
        made = made.link(path, target);
    }
    for dir in
        ["/usr", "/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib64", "/etc", "/var", "/var/lib", "/var/tmp"]
    {
        made = made.dir(dir);
    }
    made = made.file("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nlp:x:7:7:lp:/:/bin/false\n");
    made = made.file("/etc/group", "root:x:0:\nlp:x:7:\n");
    let mut files: BTreeMap<String, PathBuf> = BTreeMap::new();
    for name in PROGRAMS {
        let found = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(|dir| Path::new(dir).join(name));
        let host =
            found.into_iter().find(|path| path.exists()).unwrap_or_else(|| panic!("no {name} on this host"));
        for library in libraries(&host) {
            files.insert(merged(&library), library);
        }
        files.insert(merged(&host), host);
    }
    for (path, host) in files {
        let content = Content::File(std::fs::read(host).unwrap());
        made.items.push(Item { path, mode: 0o755, owner: ("root", 0), content });
    }
    made
}

/// A path where it lies in a system whose /bin, /sbin and /lib are in /usr.
fn merged(path: &Path) -> String {
    let path = path.to_str().unwrap();
    if path.starts_with("/usr/") { path.to_owned() } else { format!("/usr{path}") }
}

fn libraries(program: &Path) -> Vec<PathBuf> {
    let Ok(printed) = Cmd::program("ldd").arg(program).output() else { return Vec::new() };
    let printed = printed.text();
    let paths = printed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    paths.map(PathBuf::from).collect()
}
