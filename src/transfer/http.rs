//! A web server as a place of builds, by way of the host's curl. A download that breaks off goes on where it
//! was, in this run and in the next one.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use super::remote::{Remote, unreachable};
use crate::failure::Failure;
use crate::host::{self, Cmd, Finished, environment, fs, tool};
use crate::pipeline::{Reporter, Unit};

/// How often a transfer is tried, and how long is waited after the first failure; then twice as long each time.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(300);
/// curl's exit codes for: protocol not allowed, malformed address, no place to write, certificates.
const HOPELESS: &[i32] = &[1, 3, 23, 51, 58, 60, 77];
/// Longer than any transfer that moves at all; curl itself gives up on one that stands still.
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) struct Web {
    url: String,
    plain: bool,
}

/// How a request ended.
struct Answer {
    finished: Finished,
    code: u32,
}

impl Web {
    pub(super) fn new(url: &str, plain: bool) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), plain }
    }

    fn curl(&self) -> Cmd {
        let protocols = if self.plain { "=http,https" } else { "=https" };
        let mut curl = Cmd::new(&tool::CURL)
            .args(["--silent", "--show-error", "--fail", "--location", "--globoff"])
            .args(["--proto", protocols, "--proto-redir", protocols])
            .args(["--connect-timeout", "20", "--speed-limit", "1", "--speed-time", "60"])
            .args(["--write-out", "%{stderr}\n%{http_code}"]);
        for name in ["CURL_CA_BUNDLE", "SSL_CERT_FILE"] {
            if let Some(value) = environment::var_os(name) {
                curl = curl.env(name, value);
            }
        }
        curl
    }

    /// Runs requests until one is answered for good: with success, or with a refusal.
    fn attempt(&self, mut request: impl FnMut() -> Result<Answer>) -> Result<Answer> {
        host::require(&[&tool::CURL]).map_err(Failure::from)?;
        let mut pause = PAUSE;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let answer = request()?;
            if answer.is_final() || attempt == ATTEMPTS {
                return Ok(answer);
            }
            std::thread::sleep(pause);
            pause *= 2;
        }
    }

    fn address_of(&self, path: &str) -> String {
        let encode = |c: char| -> String {
            if c.is_ascii_alphanumeric() || "-._~/".contains(c) {
                c.to_string()
            } else {
                c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
            }
        };
        format!("{}/{}", self.url, path.chars().map(encode).collect::<String>())
    }
}

/// Runs curl, whose last line on standard error is the code that the server answered with.
fn ask(cmd: &Cmd, tick: &mut dyn FnMut()) -> Result<Answer> {
    let finished = cmd.finish(FOREVER, || {
        tick();
        true
    })?;
    let code = finished.stderr.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or(0);
    Ok(Answer { finished, code })
}

impl Answer {
    /// What curl said in one line, without the code and its advice.
    fn said(&self) -> &str {
        let said = self.finished.stderr.lines().rev().find(|line| line.starts_with("curl: ("));
        said.unwrap_or("curl gave no reason")
    }

    /// Whether trying again may help: not after a refusal by the server, nor by curl itself.
    fn is_final(&self) -> bool {
        let refused = (400..500).contains(&self.code) && ![408, 429].contains(&self.code);
        let hopeless = HOPELESS.iter().any(|code| self.finished.ending == host::Ending::Exit(*code));
        self.finished.success() || refused || hopeless
    }
}

impl Remote for Web {
    fn address(&self) -> String {
        self.url.clone()
    }

    fn check_target(&self) -> Result<()> {
        host::require(&[&tool::CURL]).map_err(Failure::from)?;
        Ok(())
    }

    fn get(&self, path: &str, target: &Path, size: Option<u64>, report: &Reporter) -> Result<bool> {
        let url = self.address_of(path);
        let length = || std::fs::metadata(target).map_or(0, |meta| meta.len());
        if size.is_some_and(|size| length() > size) {
            fs::remove_file_if_exists(target)?;
        }
        if size.is_some_and(|size| size > 0 && length() == size) {
            return Ok(true);
        }
        let progress = report.progress(format!("fetching {path}"), size.unwrap_or(0), Unit::Bytes);
        let answer = self.attempt(|| {
            let mut curl = self.curl().arg("--output").arg(target);
            if size.is_some() && length() > 0 {
                curl = curl.args(["--continue-at", "-"]);
            } else {
                fs::remove_file_if_exists(target)?;
            }
            let mut tick = || progress.set(length(), size.unwrap_or(0).max(length() + 1));
            let answer = ask(&curl.arg(&url), &mut tick)?;
            // The beginning that is here is not one of what is there; curl's 33: a server that cannot go on.
            if answer.code == 416 || answer.finished.ending == host::Ending::Exit(33) {
                fs::remove_file_if_exists(target)?;
                return ask(&self.curl().arg("--output").arg(target).arg(&url), &mut tick);
            }
            Ok(answer)
        })?;
        match answer.code {
            _ if answer.finished.success() => Ok(true),
            404 | 410 => Ok(false),
            _ => Err(unreachable(&format!("fetching {url}"), answer.said())),
        }
    }

    fn put(&self, source: &Path, path: &str, _sha256: &str, report: &Reporter) -> Result<()> {
        let url = self.address_of(path);
        let progress = report.progress(format!("uploading {path}"), 0, Unit::Bytes);
        let answer = self.attempt(|| {
            let curl = self.curl().args(["--output", "/dev/null", "--upload-file"]);
            ask(&curl.arg(source).arg(&url), &mut || {})
        })?;
        if answer.finished.success() {
            progress.add(fs::open(source)?.metadata()?.len());
            return Ok(());
        }
        Err(unreachable(&format!("uploading {url}"), answer.said()))
    }

    fn has(&self, _path: &str, _size: u64, _sha256: &str) -> Result<bool> {
        // A web server tells a length, but of no content.
        Ok(false)
    }
}
