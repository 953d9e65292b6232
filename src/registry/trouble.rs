//! What goes wrong between nosa and a registry: what may pass, what will not, and how either is told.

use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use crate::failure::{Failure, Kind};

/// The longest text of a registry's own that is shown.
const LONGEST: usize = 300;

/// Why a request did not succeed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// No answer, or half of one.
    Line(String),
    /// An answer that says no.
    Answer {
        /// The status.
        status: StatusCode,
        /// What the registry says itself.
        said: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// Nothing that passes: told as it is.
    Final(Box<Failure>),
    /// Nothing of the registry's.
    Own(anyhow::Error),
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        Self::Own(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Final(Box::new(failure))
    }
}

impl From<reqwest::Error> for Trouble {
    fn from(error: reqwest::Error) -> Self {
        if error.is_redirect() {
            return Failure::new(
                Kind::Repository,
                format!("a redirect was not followed: {}", innermost(&error)),
                "see that the registry is not set up to lead elsewhere",
            )
            .into();
        }
        if let Some(why) = certificate_problem(&error) {
            return Failure::new(
                Kind::Repository,
                format!("the registry's certificate is not trusted: {why}"),
                "put its CA into a directory as *.crt and name that by --cert-dir",
            )
            .into();
        }
        let why = innermost(&error);
        // A name server that does not answer may do so later; one that says no will say it again.
        if why.contains("Name or service not known") {
            let cure = "see that the registry's name is right";
            return Failure::new(Kind::Repository, "there is no host of that name", cure).into();
        }
        Self::Line(why)
    }
}

impl Trouble {
    /// Whether the same request may succeed later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Line(_) => true,
            Self::Answer { status, .. } => matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504),
            Self::Final(_) | Self::Own(_) => false,
        }
    }

    /// How long the registry asks to wait.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Answer { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether this is an answer with that status.
    pub(super) fn is(&self, code: StatusCode) -> bool {
        matches!(self, Self::Answer { status, .. } if *status == code)
    }

    /// One phrase: `answered 503 Service Unavailable: UNAVAILABLE: down for maintenance`.
    pub(super) fn phrase(&self) -> String {
        match self {
            Self::Line(what) => what.clone(),
            Self::Answer { status, said, .. } => {
                let mut phrase = format!("it answered {}", status.as_u16());
                if let Some(reason) = status.canonical_reason() {
                    write!(phrase, " {reason}").unwrap_or_default();
                }
                if !said.is_empty() {
                    write!(phrase, ": {said}").unwrap_or_default();
                }
                phrase
            }
            Self::Final(failure) => failure.cause.clone(),
            Self::Own(error) => format!("{error:#}"),
        }
    }

    /// The failure to end with, after `attempts` of `doing` with the registry `host`.
    pub(super) fn into_error(self, doing: &str, host: &str, attempts: u32) -> anyhow::Error {
        let phrase = self.phrase();
        let cure = match self {
            Self::Own(error) => return error,
            Self::Final(failure) => failure.cure,
            Self::Line(_) => "see that the registry runs and can be reached, and run it again".to_owned(),
            Self::Answer { status, .. } => match status.as_u16() {
                401 | 403 => format!(
                    "sign in (podman login {host}), or name --authfile; see that the account may do this"
                ),
                404 => "see that the repository, its tag and the registry's address are right".to_owned(),
                408 | 429 | 500..=599 => format!("run it again when {host} has recovered"),
                _ => format!("see what the documents of {host} say of this answer"),
            },
        };
        let times = if attempts > 1 { format!(" (tried {attempts} times)") } else { String::new() };
        Failure::new(Kind::Repository, format!("{doing} failed: {phrase}{times}"), cure).into()
    }
}

/// What a registry says of an error: the codes and messages of its JSON, else the text's beginning.
pub(super) fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let parsed: Option<Value> = serde_json::from_str(&text).ok();
    let told = parsed.as_ref().and_then(|value| value["errors"].as_array()).map(|errors| {
        let one = |error: &Value| {
            let parts = ["code", "message"].iter().filter_map(|key| error[*key].as_str());
            let mut told = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ");
            if let Some(detail) = error["detail"].as_str().filter(|detail| !detail.is_empty()) {
                write!(told, " ({detail})").unwrap_or_default();
            }
            told
        };
        errors.iter().map(one).collect::<Vec<_>>().join("; ")
    });
    let told = told.unwrap_or_else(|| if text.contains('<') { String::new() } else { text.into_owned() });
    let line: String = told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect();
    line.trim().to_owned()
}

/// The innermost cause: the outer ones only say which request it was.
fn innermost(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it did not answer in time".to_owned();
    }
    let mut cause: &dyn Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let text = cause.to_string();
    match text.as_str() {
        "connection closed before message completed" | "end of file before message length reached" => {
            "the connection was cut".to_owned()
        }
        _ => text,
    }
}

fn certificate_problem(error: &reqwest::Error) -> Option<String> {
    rustls_error(error).filter(|error| matches!(error, rustls::Error::InvalidCertificate(_))).map(|error| {
        let text = error.to_string();
        text.strip_prefix("invalid peer certificate: ").unwrap_or(&text).to_owned()
    })
}

/// Whether the other side does not speak TLS.
pub(super) fn is_not_tls(error: &reqwest::Error) -> bool {
    matches!(rustls_error(error), Some(rustls::Error::InvalidMessage(_)))
}

fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    // An io::Error shows its inner one's source as its own, and so hides the inner one.
    if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        return rustls_error(inner);
    }
    rustls_error(error.source()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, said: &str) -> Trouble {
        let status = StatusCode::from_u16(code).unwrap();
        Trouble::Answer { status, said: said.to_owned(), retry_after: None }
    }

    #[test]
    fn what_passes_is_tried_again_and_what_does_not_is_not() {
        for code in [408, 429, 500, 502, 503, 504] {
            assert!(answer(code, "").may_pass(), "{code}");
        }
        for code in [400, 401, 403, 404, 405, 413, 501] {
            assert!(!answer(code, "").may_pass(), "{code}");
        }
        assert!(Trouble::Line("the connection was cut".to_owned()).may_pass());
        assert!(!Trouble::Final(Box::new(Failure::new(Kind::Repository, "", ""))).may_pass());
    }

    #[test]
    fn a_failure_names_doing_status_message_and_attempts() {
        let error = answer(503, "DOWN: back soon").into_error("pushing blob x to h/r", "h", 4);
        let failure = error.downcast_ref::<Failure>().unwrap();
        assert_eq!(
            failure.cause,
            "pushing blob x to h/r failed: it answered 503 Service Unavailable: DOWN: back soon \
             (tried 4 times)"
        );
        assert_eq!(failure.cure, "run it again when h has recovered");
    }

    #[test]
    fn a_registry_is_quoted_in_one_short_line() {
        let body = br#"{"errors": [{"code": "DENIED", "message": "no\nway", "detail": "x"}, {"code": "B"}]}"#;
        assert_eq!(said(body), "DENIED: no way (x); B");
        assert_eq!(said(b"<html><body>bad gateway</body></html>"), "");
        assert_eq!(said(b"too many requests\n"), "too many requests");
        assert_eq!(said(&vec![b'x'; 5000]).len(), LONGEST);
        assert_eq!(said(b""), "");
    }
}
