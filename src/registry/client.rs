//! One repository of a registry: requests that sign in, are sent again when that may help, and never wait for
//! ever.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode, Url};
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::backoff::{Backoff, retry_after};
use super::credentials::{self, Credentials};
use super::tls;
use super::token::{self, Scheme};
use super::trouble::{Trouble, is_not_tls, said};
use crate::failure::{Failure, Kind};
use crate::host::clock;
use crate::oci::Repository;
use crate::pipeline::Reporter;

/// The most that is read of an answer that is no content.
const LARGEST_ANSWER: usize = 1 << 20;

/// What is to be done with the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
}

/// A repository, signed in to.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    repository: Repository,
    credentials: Option<Credentials>,
    sign_in: Mutex<SignIn>,
    backoff: Backoff,
    silence: Duration,
    report: Reporter,
}

#[derive(Default)]
struct SignIn {
    header: Option<HeaderValue>,
    /// How often one has signed in.
    times: u64,
    scopes: Vec<String>,
}

impl Client {
    /// Finds out how the registry is reached, and signs in if it asks for that.
    pub(super) async fn open(
        repository: &Repository,
        access: &Access,
        action: Action,
        report: &Reporter,
    ) -> Result<Self> {
        let rights = if action == Action::Push { "pull,push" } else { "pull" };
        let mut this = Self {
            http: tls::client(&repository.host, access)?,
            base: address("https", repository)?,
            repository: repository.clone(),
            credentials: credentials::find(repository, access)?,
            sign_in: Mutex::new(SignIn {
                scopes: vec![format!("repository:{}:{rights}", repository.name)],
                ..SignIn::default()
            }),
            backoff: access.backoff(),
            silence: access.silence,
            report: report.clone(),
        };
        let plain = access.plain_will_do(&repository.host);
        let doing = format!("reaching the registry {}", repository.host);
        let mut failed = 0;
        loop {
            match this.ping(plain).await {
                Ok(base) => {
                    this.base = base;
                    return Ok(this);
                }
                Err(trouble) => {
                    failed += 1;
                    this.pause(&doing, trouble, failed).await?;
                }
            }
        }
    }

    /// Asks for the API's version, by http if the other side does not speak TLS and `plain` permits it.
    async fn ping(&self, plain: bool) -> Result<Url, Trouble> {
        let mut base = address("https", &self.repository)?;
        let request = |base: &Url| -> Result<Request, Trouble> {
            let root = base.join("/v2/").map_err(|error| Trouble::Own(error.into()))?;
            Ok(self.http.request(Method::GET, root).build()?)
        };
        let mut answer = timeout(self.silence, self.http.execute(request(&base)?)).await;
        if let Ok(Err(error)) = &answer
            && is_not_tls(error)
        {
            if !plain {
                return Err(Failure::new(
                    Kind::Repository,
                    format!("{} speaks plain http, not https", self.repository.host),
                    "if the way there is safe, say --tls-verify=false",
                )
                .into());
            }
            base = address("http", &self.repository)?;
            answer = timeout(self.silence, self.http.execute(request(&base)?)).await;
        }
        let response = answer.map_err(|_| self.silent())??;
        match response.status() {
            StatusCode::UNAUTHORIZED => {
                self.renew_at(&base, &response, 0).await?;
                Ok(base)
            }
            // Some registries keep even the version from strangers.
            StatusCode::FORBIDDEN => Ok(base),
            _ => self.check(response).await.map(|_| base),
        }
    }

    /// The repository.
    pub(super) const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Where the progress is told.
    pub(super) const fn report(&self) -> &Reporter {
        &self.report
    }

    /// Asks for the right to pull from another repository too, from the next sign-in on.
    pub(super) async fn also_pull_from(&self, name: &str) {
        let scope = format!("repository:{name}:pull");
        let mut sign_in = self.sign_in.lock().await;
        if !sign_in.scopes.contains(&scope) {
            sign_in.scopes.push(scope);
            // A token that was given before does not have it.
            sign_in.header = sign_in.header.take().filter(|header| header.as_bytes().starts_with(b"Basic"));
        }
    }

    /// A request for something of the repository: `blobs/sha256:…`.
    pub(super) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, Trouble> {
        let url = self.base.join(path).map_err(|error| Trouble::Own(error.into()))?;
        Ok(self.http.request(method, url))
    }

    /// A request for an address that the registry gave.
    pub(super) fn request_at(&self, method: Method, url: &Url) -> RequestBuilder {
        self.http.request(method, url.clone())
    }

    /// Where an answer leads.
    pub(super) fn location(&self, response: &Response) -> Result<Url, Trouble> {
        let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
        let location = location.and_then(|location| response.url().join(location).ok());
        let Some(location) = location else {
            return Err(Trouble::Line("it answered without the Location of the upload".to_owned()));
        };
        if self.base.scheme() == "https" && location.scheme() != "https" {
            let mut shown = location;
            shown.set_query(None);
            return Err(Failure::new(
                Kind::Repository,
                format!("it leads from https to plain http ({shown})"),
                "see that the registry knows that it is behind https (X-Forwarded-Proto, or its own setting)",
            )
            .into());
        }
        Ok(location)
    }

    /// Sends one request; anything but success is trouble. If the registry does not let us in (any more), one
    /// signs in and sends it once again.
    pub(super) async fn send(
        &self,
        build: impl Fn() -> Result<RequestBuilder, Trouble>,
    ) -> Result<Response, Trouble> {
        self.send_watched(build, &AtomicU64::new(0)).await
    }

    /// As [`Self::send`]; while `moved` grows the registry does not count as silent.
    pub(super) async fn send_watched(
        &self,
        build: impl Fn() -> Result<RequestBuilder, Trouble>,
        moved: &AtomicU64,
    ) -> Result<Response, Trouble> {
        let (header, times) = {
            let sign_in = self.sign_in.lock().await;
            (sign_in.header.clone(), sign_in.times)
        };
        let response = self.answer(self.signed(build()?, header)?, moved).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.renew(&response, times).await? {
            return self.check(response).await;
        }
        let header = self.sign_in.lock().await.header.clone();
        let response = self.answer(self.signed(build()?, header)?, moved).await?;
        self.check(response).await
    }

    fn signed(&self, builder: RequestBuilder, header: Option<HeaderValue>) -> Result<Request, Trouble> {
        let mut request = builder.build()?;
        // Uploads may lead to a store of somebody else's.
        if let Some(header) = header.filter(|_| request.url().origin() == self.base.origin()) {
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        Ok(request)
    }

    async fn answer(&self, request: Request, moved: &AtomicU64) -> Result<Response, Trouble> {
        let mut sending = pin!(self.http.execute(request));
        loop {
            let before = moved.load(Ordering::Relaxed);
            match timeout(self.silence, &mut sending).await {
                Ok(answer) => return Ok(answer?),
                Err(_) if moved.load(Ordering::Relaxed) != before => {}
                Err(_) => return Err(self.silent()),
            }
        }
    }

    fn silent(&self) -> Trouble {
        Trouble::Line(format!("it gave no answer within {} s", self.silence.as_secs_f32()))
    }

    /// Signs in as the answer wants, unless somebody did since the request was made; false if one cannot.
    async fn renew(&self, response: &Response, times: u64) -> Result<bool, Trouble> {
        self.renew_at(&self.base, response, times).await
    }

    async fn renew_at(&self, base: &Url, response: &Response, times: u64) -> Result<bool, Trouble> {
        if response.url().origin() != base.origin() {
            return Ok(false);
        }
        let mut sign_in = self.sign_in.lock().await;
        if sign_in.times != times {
            return Ok(true);
        }
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let header = match Scheme::parse(headers.filter_map(|value| value.to_str().ok())) {
            None => return Ok(false),
            Some(Scheme::Basic) => token::basic(self.credentials.as_ref()),
            Some(Scheme::Bearer { realm, service }) => {
                self.token(base, &realm, service.as_deref(), &sign_in.scopes).await?
            }
        };
        // The same name and password will not be better the second time.
        if header.is_none() || header == sign_in.header {
            return Ok(false);
        }
        sign_in.header = header;
        sign_in.times += 1;
        Ok(true)
    }

    async fn token(
        &self,
        base: &Url,
        realm: &Url,
        service: Option<&str>,
        scopes: &[String],
    ) -> Result<Option<HeaderValue>, Trouble> {
        let secure = base.scheme() == "https";
        let credentials = self.credentials.as_ref();
        let request = token::request(&self.http, realm, service, scopes, credentials, secure)?;
        let host = realm.host_str().unwrap_or_default();
        let response = self.answer(request, &AtomicU64::new(0)).await?;
        let mut response = self.check(response).await.map_err(|trouble| match trouble {
            Trouble::Answer { status, said, retry_after } => {
                let said = format!("{said} (asked for a token at {host})");
                Trouble::Answer { status, said: said.trim().to_owned(), retry_after }
            }
            other => other,
        })?;
        let body = self.whole(&mut response, LARGEST_ANSWER).await?;
        let token = token::parse(&body)
            .ok_or_else(|| Trouble::Line(format!("the server of tokens at {host} gave none")))?;
        Ok(token::bearer(&token))
    }

    /// Makes trouble of an answer that is no success.
    async fn check(&self, mut response: Response) -> Result<Response, Trouble> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| retry_after(value, clock::now()));
        // The status counts, even if what follows it is cut off.
        let body = self.whole(&mut response, LARGEST_ANSWER).await.unwrap_or_default();
        Err(Trouble::Answer { status, said: said(&body), retry_after })
    }

    /// The next bytes of an answer, `None` at its end.
    pub(super) async fn next(&self, response: &mut Response) -> Result<Option<Bytes>, Trouble> {
        Ok(timeout(self.silence, response.chunk()).await.map_err(|_| self.silent())??)
    }

    /// An answer's whole content, which may have `largest` bytes.
    pub(super) async fn whole(&self, response: &mut Response, largest: usize) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next(response).await? {
            if body.len() + bytes.len() > largest {
                return Err(Failure::new(
                    Kind::Repository,
                    format!("its answer is larger than {largest} bytes"),
                    "see that this is a container registry",
                )
                .into());
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// Does `work` until it succeeds, or it will not, or it was tried often enough.
    pub(super) async fn persist<T>(
        &self,
        doing: &str,
        mut work: impl AsyncFnMut() -> Result<T, Trouble>,
    ) -> Result<T> {
        let mut failed = 0;
        loop {
            match work().await {
                Ok(value) => return Ok(value),
                Err(trouble) => {
                    failed += 1;
                    self.pause(doing, trouble, failed).await?;
                }
            }
        }
    }

    /// Waits after failure number `failed`, or ends with it.
    pub(super) async fn pause(&self, doing: &str, trouble: Trouble, failed: u32) -> Result<()> {
        let pause = match self.backoff.pause(failed, trouble.retry_after()) {
            Some(pause) if trouble.may_pass() => pause,
            _ => return Err(trouble.into_error(doing, &self.repository.host, failed)),
        };
        self.report.note(format!(
            "{doing}: {}; trying again in {} s ({failed} of {})",
            trouble.phrase(),
            pause.as_secs_f32(),
            self.backoff.retries
        ));
        sleep(pause).await;
        Ok(())
    }
}

/// `https://HOST/v2/NAME/`.
fn address(scheme: &str, repository: &Repository) -> Result<Url> {
    let text = format!("{scheme}://{}/v2/{}/", repository.host, repository.name);
    let url: Url = text.parse().with_context(|| format!("reading the registry's address {text}"))?;
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_where_its_host_says() {
        let at = |text: &str| address("https", &text.parse().unwrap()).unwrap().to_string();
        assert_eq!(at("r.example:5000/os/base:1"), "https://r.example:5000/v2/os/base/");
        assert_eq!(at("[::1]:5000/os"), "https://[::1]:5000/v2/os/");
    }
}
