//! Signing in: what a registry asks for in WWW-Authenticate, and the token that a server of tokens gives for
//! it (distribution's token and oauth2 specifications).

use http_auth::parse_challenges;
use reqwest::header::HeaderValue;
use reqwest::{Client, Method, Request, Url};
use serde_json::Value;

use super::credentials::Credentials;
use super::trouble::Trouble;
use crate::failure::{Failure, Kind};

/// How a registry wants to be signed in to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scheme {
    /// Name and password with every request.
    Basic,
    /// A token of the server at `realm`.
    Bearer {
        /// Where tokens are.
        realm: Url,
        /// What the registry calls itself there.
        service: Option<String>,
    },
}

impl Scheme {
    /// The first scheme of the header's that nosa knows.
    pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Self> {
        let mut basic = None;
        for header in headers {
            for challenge in parse_challenges(header).unwrap_or_default() {
                let param = |name: &str| {
                    let mut params = challenge.params.iter();
                    params
                        .find(|(key, _)| key.eq_ignore_ascii_case(name))
                        .map(|(_, value)| value.to_unescaped())
                };
                if challenge.scheme.eq_ignore_ascii_case("bearer") {
                    let realm = param("realm").and_then(|realm| realm.parse().ok());
                    if let Some(realm) = realm {
                        return Some(Self::Bearer { realm, service: param("service") });
                    }
                } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                    basic = Some(Self::Basic);
                }
            }
        }
        basic
    }
}

/// What the Authorization header says with a name and a password.
pub(super) fn basic(credentials: Option<&Credentials>) -> Option<HeaderValue> {
    use base64::Engine as _;
    let Some(Credentials::Password(user, password)) = credentials else { return None };
    let pair = format!("{user}:{}", password.reveal());
    secret(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

/// What the Authorization header says with a token.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    secret(&format!("Bearer {token}"))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The request for a token; `secure` says that the registry was reached by https.
pub(super) fn request(
    client: &Client,
    realm: &Url,
    service: Option<&str>,
    scopes: &[String],
    credentials: Option<&Credentials>,
    secure: bool,
) -> Result<Request, Trouble> {
    if secure && realm.scheme() != "https" {
        return Err(Failure::new(
            Kind::Repository,
            format!("its tokens are at {realm}: plain http, though the registry itself speaks https"),
            "have the registry name an https realm: nosa sends no credentials in the open",
        )
        .into());
    }
    let mut pairs: Vec<(&str, &str)> = service.map(|service| ("service", service)).into_iter().collect();
    let joined = scopes.join(" ");
    if let Some(Credentials::Identity(token)) = credentials {
        pairs.extend([("grant_type", "refresh_token"), ("refresh_token", token.reveal())]);
        pairs.extend([("client_id", "nosa"), ("scope", joined.as_str())]);
        let form = Url::parse_with_params("form:", &pairs)
            .map(|url| url.query().unwrap_or_default().to_owned())
            .unwrap_or_default();
        let post = client.request(Method::POST, realm.clone()).body(form);
        return Ok(post.header("Content-Type", "application/x-www-form-urlencoded").build()?);
    }
    pairs.extend(scopes.iter().map(|scope| ("scope", scope.as_str())));
    let mut url = realm.clone();
    url.query_pairs_mut().extend_pairs(&pairs);
    let mut get = client.request(Method::GET, url);
    if let Some(basic) = basic(credentials) {
        get = get.header("Authorization", basic);
    }
    Ok(get.build()?)
}

/// The token in a server's answer.
pub(super) fn parse(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let token = ["token", "access_token"].iter().find_map(|key| answer[*key].as_str());
    token.filter(|token| !token.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::access::Secret;
    use super::*;

    #[test]
    fn the_header_names_a_scheme() {
        let bearer = |header: &str| Scheme::parse([header].into_iter());
        assert_eq!(
            bearer(
                r#"Bearer realm="https://t.example/token?a=b",service="r",scope="repository:x:pull,push""#
            ),
            Some(Scheme::Bearer {
                realm: "https://t.example/token?a=b".parse().unwrap(),
                service: Some("r".to_owned()),
            })
        );
        assert_eq!(bearer(r#"Basic realm="x""#), Some(Scheme::Basic));
        for none in ["", "Negotiate", r#"Bearer service="r""#, "Bearer realm=relative"] {
            assert_eq!(bearer(none), None, "{none}");
        }
        let both = [r#"Basic realm="x""#, r#"Bearer realm="https://t/""#];
        assert!(matches!(Scheme::parse(both.into_iter()), Some(Scheme::Bearer { .. })));
    }

    #[test]
    fn credentials_go_to_the_server_of_tokens_as_it_wants_them() {
        super::super::tls::provider();
        let client = Client::new();
        let realm: Url = "https://t.example/token?a=b".parse().unwrap();
        let scopes = ["repository:x/y:pull,push".to_owned()];
        let password = Credentials::Password("me".to_owned(), Secret::new("pass"));
        let get = request(&client, &realm, Some("r"), &scopes, Some(&password), true).unwrap();
        assert_eq!(
            get.url().as_str(),
            "https://t.example/token?a=b&service=r&scope=repository%3Ax%2Fy%3Apull%2Cpush"
        );
        assert_eq!(get.headers()["authorization"], "Basic bWU6cGFzcw==");
        let identity = Credentials::Identity(Secret::new("t&k"));
        let post = request(&client, &realm, Some("r"), &scopes, Some(&identity), true).unwrap();
        let body = post.body().and_then(|body| body.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(body),
            "service=r&grant_type=refresh_token&refresh_token=t%26k&client_id=nosa\
             &scope=repository%3Ax%2Fy%3Apull%2Cpush"
        );
        assert!(post.headers().get("authorization").is_none());
    }

    #[test]
    fn no_credentials_go_in_the_open() {
        super::super::tls::provider();
        let realm: Url = "http://t.example/token".parse().unwrap();
        let refused = request(&Client::new(), &realm, None, &[], None, true).unwrap_err();
        assert_eq!(
            refused.phrase(),
            "its tokens are at http://t.example/token: plain http, though the registry itself speaks https"
        );
        assert!(request(&Client::new(), &realm, None, &[], None, false).is_ok());
    }

    #[test]
    fn a_token_has_either_of_two_names() {
        assert_eq!(parse(br#"{"token": "a", "access_token": "b"}"#).as_deref(), Some("a"));
        assert_eq!(parse(br#"{"access_token": "b"}"#).as_deref(), Some("b"));
        for none in ["{}", r#"{"token": ""}"#, "no"] {
            assert_eq!(parse(none.as_bytes()), None);
        }
    }
}
