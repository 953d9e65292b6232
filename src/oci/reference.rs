//! Where an image lies, in the spelling that skopeo and podman gave the field:
//!
//! ```text
//! oci:DIR[:NAME]   oci-archive:FILE[:NAME]   docker://HOST[:PORT]/REPO[:TAG][@sha256:…]   containers-storage:NAME
//! ```
//!
//! A name without a transport is one in podman's storage, where `podman build` puts what it makes.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::pipeline::Digest;

/// Where an image lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRef {
    /// A directory in the OCI image layout.
    Layout(PathBuf, Option<String>),
    /// A tar archive of one.
    Archive(PathBuf, Option<String>),
    /// A repository of a registry.
    Registry(Repository),
    /// podman's storage on this host.
    Storage(String),
}

/// A repository of a registry, and which image of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Host and, if it is not the scheme's own, port.
    pub host: String,
    /// The name on that host.
    pub name: String,
    /// The tag; `latest` where neither a tag nor a digest was given.
    pub tag: Option<String>,
    /// The manifest's digest, which wins over the tag.
    pub digest: Option<Digest>,
}

impl FromStr for ImageRef {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let local = |rest: &str| -> Result<(PathBuf, Option<String>)> {
            let (path, name) = match rest.split_once(':') {
                Some((path, name)) => (path, Some(name.to_owned())),
                None => (rest, None),
            };
            let empty = path.is_empty() || name.as_deref() == Some("");
            if empty { Err(wrong(text, "a path or a name is missing")) } else { Ok((path.into(), name)) }
        };
        if let Some(rest) = text.strip_prefix("docker://") {
            return Ok(Self::Registry(rest.parse()?));
        }
        match text.split_once(':') {
            Some(("oci", rest)) => local(rest).map(|(path, name)| Self::Layout(path, name)),
            Some(("oci-archive", rest)) => local(rest).map(|(path, name)| Self::Archive(path, name)),
            Some(("containers-storage", rest)) if !rest.is_empty() => Ok(Self::Storage(rest.to_owned())),
            Some(("docker-archive" | "docker-daemon" | "dir" | "sif" | "containers-storage", _)) => {
                Err(wrong(text, "this transport is not one of nosa's"))
            }
            _ if text.is_empty() || text.contains(char::is_whitespace) || text.contains("://") => {
                Err(wrong(text, "it names no image"))
            }
            _ => Ok(Self::Storage(text.to_owned())),
        }
    }
}

impl Repository {
    /// Reads `[docker://]HOST/REPO[:TAG][@sha256:…]`; without tag and digest it gets the tag `tag`.
    pub fn tagged(text: &str, tag: &str) -> Result<Self> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let last = text.rsplit_once('/').map_or(text, |(_, last)| last);
        if last.contains([':', '@']) { text.parse() } else { format!("{text}:{tag}").parse() }
    }

    /// Reads `[docker://]HOST/REPO`, which names no image of it.
    pub fn bare(text: &str) -> Result<Self> {
        let text = text.strip_prefix("docker://").unwrap_or(text);
        let repository = Self::tagged(text, "latest")?;
        if text != format!("{}/{}", repository.host, repository.name) {
            return Err(wrong(text, "a repository without a tag is wanted: tags are said by --tag"));
        }
        Ok(Self { tag: None, ..repository })
    }
}

impl FromStr for Repository {
    type Err = anyhow::Error;

    /// `HOST[:PORT]/REPO[:TAG][@sha256:…]`, without `docker://`.
    fn from_str(text: &str) -> Result<Self> {
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
                (rest, Some(digest.ok_or_else(|| wrong(text, "its digest is not sha256: and 64 digits"))?))
            }
        };
        let (host, path) =
            rest.split_once('/').ok_or_else(|| wrong(text, "the registry's host is missing"))?;
        let (name, tag) = match path.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (path, None),
        };
        let is_host =
            !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || ".-:[]_".contains(c));
        if !is_host {
            return Err(wrong(text, "the registry's host is missing"));
        }
        let part = |part: &str| {
            let inner =
                part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c));
            let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            inner && edge(part.chars().next()) && edge(part.chars().next_back())
        };
        if !name.split('/').all(part) {
            return Err(wrong(
                text,
                "a repository's name has lower-case letters, digits, and . _ - between them",
            ));
        }
        let is_tag = |tag: &str| {
            (1..=128).contains(&tag.len())
                && tag.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !tag.starts_with(['.', '-'])
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong(text, "a tag has at most 128 letters, digits, and . _ -"));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { host: host.to_owned(), name: name.to_owned(), tag, digest })
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        self.digest.map_or(Ok(()), |digest| write!(f, "@sha256:{digest}"))
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |f: &mut fmt::Formatter<'_>, name: &Option<String>| {
            name.as_ref().map_or(Ok(()), |name| write!(f, ":{name}"))
        };
        match self {
            Self::Layout(path, name) => write!(f, "oci:{}", path.display()).and_then(|()| named(f, name)),
            Self::Archive(path, name) => {
                write!(f, "oci-archive:{}", path.display()).and_then(|()| named(f, name))
            }
            Self::Registry(repository) => write!(f, "docker://{repository}"),
            Self::Storage(name) => write!(f, "containers-storage:{name}"),
        }
    }
}

fn wrong(text: &str, why: &str) -> anyhow::Error {
    Failure::new(
        Kind::Usage,
        format!("{text:?} is not where an image lies: {why}"),
        "write oci:DIR, oci-archive:FILE, docker://HOST/REPOSITORY:TAG, or the name of an image that podman has",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let digest = "a".repeat(64);
        for text in [
            "oci:dir",
            "oci:dir/x:1.0",
            "oci-archive:/a/b.ociarchive",
            "oci-archive:b:tag",
            "docker://localhost:5000/os/nestos:stable",
            &format!("docker://r.example/os@sha256:{digest}"),
            &format!("docker://r.example/os:1@sha256:{digest}"),
            "containers-storage:localhost/x:latest",
        ] {
            assert_eq!(text.parse::<ImageRef>().unwrap().to_string(), text);
        }
        let latest: ImageRef = "docker://h/os".parse().unwrap();
        assert_eq!(latest.to_string(), "docker://h/os:latest");
        assert_eq!("my-os:1".parse::<ImageRef>().unwrap(), ImageRef::Storage("my-os:1".into()));
    }

    #[test]
    fn a_tag_is_the_last_components() {
        let tagged = |text: &str| Repository::tagged(text, "1-x86_64").unwrap().to_string();
        assert_eq!(tagged("h:5000/os"), "h:5000/os:1-x86_64");
        assert_eq!(tagged("docker://h:5000/a/os:2"), "h:5000/a/os:2");
        let digest = format!("h/os@sha256:{}", "a".repeat(64));
        assert_eq!(tagged(&digest), digest);
        assert_eq!(Repository::bare("docker://h:5000/os").unwrap().tag, None);
        let error = Repository::bare("h/os:1").unwrap_err().to_string();
        assert!(error.contains("tags are said by --tag"), "{error}");
    }

    #[test]
    fn what_names_no_image_is_told() {
        for (text, why) in [
            ("oci:", "a path or a name is missing"),
            ("oci:x:", "a path or a name is missing"),
            ("docker://os", "the registry's host is missing"),
            ("docker://h/OS", "lower-case letters"),
            ("docker://h/a//b", "lower-case letters"),
            ("docker://h/a:", "a tag has at most"),
            ("docker://h/a:-x", "a tag has at most"),
            ("docker://h/a@sha256:12", "its digest is not"),
            ("docker://h/a@md5:12", "its digest is not"),
            ("docker-archive:x", "not one of nosa's"),
            ("https://h/a", "it names no image"),
            ("", "it names no image"),
        ] {
            let error = text.parse::<ImageRef>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
