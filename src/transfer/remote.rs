//! What all places of builds have in common, and which place an address means.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::directory::Directory;
use super::http::Web;
use super::s3::Bucket;
use crate::failure::{Failure, Kind};
use crate::pipeline::Reporter;

/// A place of builds. Paths are relative to it: `builds.json`, `ID/ARCH/FILE`.
pub trait Remote {
    /// Its address, for messages.
    fn address(&self) -> String;

    /// Fails with a cure unless files can be put there.
    fn check_target(&self) -> Result<()>;

    /// Fetches a file to `target`, which may hold its beginning; tells whether there is such a file. `size` is
    /// what it should have, if that is known.
    fn get(&self, path: &str, target: &Path, size: Option<u64>, report: &Reporter) -> Result<bool>;

    /// Puts a file there; what is there already is replaced at once, or not at all. `sha256` is its digest.
    fn put(&self, source: &Path, path: &str, sha256: &str, report: &Reporter) -> Result<()>;

    /// Whether a file of this size and digest is known to be there.
    fn has(&self, path: &str, size: u64, sha256: &str) -> Result<bool>;

    /// Runs `work` while no other program that knows such locks changes builds.json, where that is possible.
    fn locked(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        work()
    }
}

/// How a place may be reached.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Whether plain http is good enough.
    pub insecure: bool,
    /// The S3 server, if it is not Amazon's.
    pub endpoint_url: Option<String>,
    /// The access rights that uploads to S3 get.
    pub acl: Option<String>,
    /// Where the AWS client finds its configuration.
    pub aws_config_file: Option<PathBuf>,
}

impl Access {
    /// The place that an address means: a directory, `file://`, `https://`, `http://` or `s3://`.
    pub fn open(&self, address: &str) -> Result<Box<dyn Remote>> {
        let wrong = |cause: String, cure: &str| Failure::new(Kind::Usage, cause, cure);
        match address.split_once("://") {
            Some(("s3", _)) => Ok(Box::new(Bucket::open(address, self)?)),
            Some(("https", _)) => Ok(Box::new(Web::new(address, false))),
            Some(("http", rest)) if self.insecure || is_loopback(rest) => {
                Ok(Box::new(Web::new(address, true)))
            }
            Some(("http", _)) => Err(wrong(
                format!("{address} is plain http: on the way anybody may change what is fetched"),
                "use https, or add --insecure",
            )
            .into()),
            Some(("file", path)) => Ok(Box::new(Directory::new(Path::new(path)))),
            Some((scheme, _)) => {
                let cause = format!("nosa cannot reach {scheme}:// ({address})");
                Err(wrong(cause, "name a directory or an address with https://, s3:// or file://").into())
            }
            None => Ok(Box::new(Directory::new(&std::path::absolute(address)?))),
        }
    }
}

/// Whether the host of `HOST[:PORT]/…` is this machine.
fn is_loopback(rest: &str) -> bool {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A failure of a place, with what it said.
pub(super) fn unreachable(doing: &str, said: &str) -> anyhow::Error {
    let said = said.trim().lines().last().unwrap_or("no reason was given").trim().to_owned();
    Failure::new(
        Kind::Repository,
        format!("{doing} failed: {said}"),
        "check the address, the network and your rights there, and run it again: what was fetched is kept",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_only() {
        for own in ["localhost/x", "127.0.0.1:8080/x", "127.9.9.9", "[::1]:80/x"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in
            ["example.com/", "127.0.0.1.example.com", "127.0.0.1@example.com/", "localhost@x", "10.0.0.1"]
        {
            assert!(!is_loopback(other), "{other}");
        }
        let cause = |address: &str| Access::default().open(address).err().unwrap().to_string();
        assert_eq!(
            cause("http://example.com/builds"),
            "http://example.com/builds is plain http: on the way anybody may change what is fetched"
        );
        assert_eq!(cause("ftp://x/"), "nosa cannot reach ftp:// (ftp://x/)");
        assert!(Access { insecure: true, ..Access::default() }.open("http://example.com/").is_ok());
    }
}
