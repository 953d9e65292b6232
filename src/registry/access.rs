//! How a registry is reached: what podman's and skopeo's options say, as values.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::backoff::Backoff;

/// How a registry is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// The file with credentials; else the usual places of podman and docker.
    pub authfile: Option<PathBuf>,
    /// A user's name and password, which win over every file.
    pub creds: Option<(String, Secret)>,
    /// A directory with `*.crt`, `*.cert` and `*.key`; else the usual places.
    pub cert_dir: Option<PathBuf>,
    /// Whether certificates are checked and plain http is out of the question. Unsaid, it is out of the question
    /// except on this machine's loopback.
    pub tls_verify: Option<bool>,
    /// How often a request is sent again that failed.
    pub retry: u32,
    /// How long is waited before the first time; then twice as long each time.
    pub retry_delay: Duration,
    /// How long a registry may be silent.
    pub silence: Duration,
}

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Default for Access {
    fn default() -> Self {
        Self {
            authfile: None,
            creds: None,
            cert_dir: None,
            tls_verify: None,
            retry: 5,
            retry_delay: Duration::from_secs(1),
            silence: Duration::from_secs(60),
        }
    }
}

impl Access {
    pub(super) const fn backoff(&self) -> Backoff {
        Backoff { retries: self.retry, first: self.retry_delay }
    }

    /// Whether plain http will do for `host` where it does not speak TLS.
    pub(super) fn plain_will_do(&self, host: &str) -> bool {
        self.tls_verify.map_or_else(|| is_loopback(host), |verify| !verify)
    }
}

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Whether `HOST[:PORT]` is this machine's own.
fn is_loopback(host: &str) -> bool {
    let bare = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_or_for_who_says_so() {
        let unsaid = Access::default();
        for own in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:80"] {
            assert!(unsaid.plain_will_do(own), "{own}");
        }
        for other in ["example.com", "127.0.0.1.example.com", "localhost.example.com:5000", "10.0.0.1:5000"] {
            assert!(!unsaid.plain_will_do(other), "{other}");
        }
        assert!(Access { tls_verify: Some(false), ..Access::default() }.plain_will_do("example.com"));
        assert!(!Access { tls_verify: Some(true), ..Access::default() }.plain_will_do("localhost"));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let access = Access { creds: Some(("me".to_owned(), Secret::new("hunter2"))), ..Access::default() };
        assert!(!format!("{access:?}").contains("hunter2"));
    }
}
