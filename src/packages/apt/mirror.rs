//! Where the Debian archive is reached: `${debian_mirror}` and `${debian_security_mirror}` in a
//! repository definition.

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::host::{Cmd, tool};

/// The mirrors of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mirrors {
    /// `${debian_mirror}`.
    pub debian: Option<String>,
    /// `${debian_security_mirror}`.
    pub security: Option<String>,
}

impl Mirrors {
    /// What the host's own apt uses, with what the user gave taking precedence.
    #[must_use]
    pub fn of_host(given: Self) -> Self {
        let format = "$(REPO_URI) $(ORIGIN) $(LABEL)";
        let printed = Cmd::new(&tool::APT_GET)
            .args(["indextargets", "--format", format, "Created-By: Packages"])
            .output()
            .map(|output| output.text())
            .unwrap_or_default();
        let found = Self::from_targets(&printed);
        Self { debian: given.debian.or(found.debian), security: given.security.or(found.security) }
    }

    /// Reads lines of `URI ORIGIN LABEL`; on a host that never ran `apt-get update` the latter are empty.
    fn from_targets(text: &str) -> Self {
        let mut mirrors = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let Some(uri) = words.next() else { continue };
            let Some(uri) = first_of_list(uri) else { continue };
            let uri = uri.trim_end_matches('/');
            let debian = words.next().is_none_or(|origin| origin == "Debian");
            if uri.ends_with("debian-security") {
                mirrors.security.get_or_insert_with(|| uri.to_owned());
            } else if debian && uri.ends_with("debian") {
                mirrors.debian.get_or_insert_with(|| uri.to_owned());
            }
        }
        if let (Some(debian), None) = (&mirrors.debian, &mirrors.security) {
            mirrors.security = Some(format!("{debian}-security"));
        }
        mirrors
    }

    /// Puts the mirrors into the text of a repository definition.
    pub fn substitute(&self, file: &str, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        let variables = [("debian_mirror", &self.debian), ("debian_security_mirror", &self.security)];
        for (variable, value) in variables {
            let pattern = format!("${{{variable}}}");
            if !text.contains(&pattern) {
                continue;
            }
            let Some(value) = value else {
                return Err(Failure::new(
                    Kind::Config,
                    format!("{file}: ${{{variable}}} has no value: this host's apt knows no Debian archive"),
                    format!("which mirror shall be used? Give it with --{} URL", variable.replace('_', "-")),
                )
                .into());
            };
            text = text.replace(&pattern, value);
        }
        Ok(text)
    }
}

/// Cloud images have `mirror+file:/etc/apt/mirrors/debian.list`: a file with an address a line
/// (apt-transport-mirror(1)).
fn first_of_list(uri: &str) -> Option<String> {
    let Some(path) = uri.strip_prefix("mirror+file:") else { return Some(uri.to_owned()) };
    let path = format!("/{}", path.trim_matches('/'));
    let text = crate::host::fs::read_optional(std::path::Path::new(&path)).ok()??;
    let mut words =
        text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    words.next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_mirror_is_found_among_others() {
        let text = "https://elsewhere/node Node Node\n\
                    http://mirror.example/debian/ Debian Debian\n\
                    http://mirror.example/debian-security/ Debian Debian-Security\n";
        let mirrors = Mirrors::from_targets(text);
        assert_eq!(mirrors.debian.as_deref(), Some("http://mirror.example/debian"));
        assert_eq!(mirrors.security.as_deref(), Some("http://mirror.example/debian-security"));
    }

    #[test]
    fn a_list_of_mirrors_stands_for_its_first() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# fast\nhttps://mirror.example/debian\tpriority:1\n").unwrap();
        let text = format!("mirror+file:{}/ Debian Debian\n", file.path().display());
        assert_eq!(Mirrors::from_targets(&text).debian.as_deref(), Some("https://mirror.example/debian"));
    }

    #[test]
    fn a_host_without_debian_gets_a_question() {
        let mirrors = Mirrors::from_targets("http://archive.example/ubuntu Ubuntu Ubuntu\n");
        let error = mirrors.substitute("debian.sources", "URIs: ${debian_mirror}").unwrap_err();
        let failure = error.downcast::<Failure>().unwrap();
        assert_eq!(
            failure.cause,
            "debian.sources: ${debian_mirror} has no value: this host's apt knows no Debian archive"
        );
        assert!(failure.cure.contains("--debian-mirror URL"));
    }
}
