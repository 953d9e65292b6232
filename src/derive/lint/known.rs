//! What the image itself says will be made at boot: tmpfiles.d, sysusers.d, and the directories that units ask
//! systemd for.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::view::View;

/// What is made at boot.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Paths that tmpfiles.d makes, with the directories above them.
    made: BTreeSet<PathBuf>,
    /// Paths that are made with all that is below them.
    trees: BTreeSet<PathBuf>,
    /// Users and groups that sysusers.d makes.
    accounts: BTreeSet<String>,
}

impl Known {
    /// Reads it from the tree.
    pub(super) fn of(view: &View) -> Self {
        let mut known = Self::default();
        known.make("var");
        for (path, node) in view.all() {
            let Some(text) = &node.text else { continue };
            match path.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
                Some("tmpfiles.d") => text.lines().for_each(|line| known.tmpfiles_line(line)),
                Some("sysusers.d") => known.accounts.extend(text.lines().filter_map(account)),
                Some("system") => text.lines().for_each(|line| known.unit_line(line)),
                _ => {}
            }
        }
        known
    }

    /// Whether the path below the root will be there without the image's help.
    pub(super) fn makes(&self, path: &Path) -> bool {
        self.made.contains(path) || path.ancestors().any(|above| self.trees.contains(above))
    }

    /// Whether sysusers.d makes the user or group.
    pub(super) fn has_account(&self, name: &str) -> bool {
        self.accounts.contains(name)
    }

    fn tmpfiles_line(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let (Some(kind), Some(path)) = (words.next(), words.next()) else { return };
        let path = path.trim_matches(['"', '\'']).trim_matches('/').replace("%%", "%");
        match kind.chars().next() {
            Some('C') => {
                self.trees.insert(PathBuf::from(&path));
                self.make(&path);
            }
            Some('d' | 'D' | 'v' | 'q' | 'Q' | 'L' | 'f' | 'F' | 'p' | 'w') => self.make(&path),
            _ => {}
        }
    }

    fn unit_line(&mut self, line: &str) {
        let above =
            [("StateDirectory=", "var/lib"), ("CacheDirectory=", "var/cache"), ("LogsDirectory=", "var/log")];
        for (key, dir) in above {
            for name in line.strip_prefix(key).into_iter().flat_map(str::split_whitespace) {
                let name = name.split(':').next().unwrap_or(name);
                self.make(&format!("{dir}/{name}"));
            }
        }
    }

    /// The path and, as systemd makes what is missing on the way, the directories above it.
    fn make(&mut self, path: &str) {
        let above = Path::new(path).ancestors().filter(|above| !above.as_os_str().is_empty());
        self.made.extend(above.map(Path::to_owned));
    }
}

/// The user or group of a sysusers.d line.
fn account(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let kind = words.next()?;
    let name = words.next()?;
    matches!(kind, "u" | "u!" | "g").then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::super::view::sample;
    use super::*;

    #[test]
    fn what_systemd_makes_is_known() {
        let view = sample::view(
            &[
                "usr/lib/tmpfiles.d/a.conf=# c\nd /var/lib/a/b 0755 - - -\nC /var/c - - - -\nx /var/x\nL+ \"/var/l\" - - - - ../run",
                "usr/lib/systemd/system/a.service=[Service]\nStateDirectory=s t/u:v\nLogsDirectory=l",
                "usr/lib/sysusers.d/a.conf=u web 33 \"w\" /var/www\nu! x -\ng grp -\nm web grp",
            ],
            &[],
        );
        let known = Known::of(&view);
        for path in
            ["var/lib/a", "var/lib/a/b", "var/c/d/e", "var/l", "var/lib/s", "var/lib/t/u", "var/log/l"]
        {
            assert!(known.makes(Path::new(path)), "{path}");
        }
        for path in ["var/x", "var/lib/a/b/c", "var/lib/v"] {
            assert!(!known.makes(Path::new(path)), "{path}");
        }
        assert!(known.has_account("web") && known.has_account("x") && known.has_account("grp"));
        assert!(!known.has_account("m"));
    }
}
