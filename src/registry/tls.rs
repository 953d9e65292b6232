//! The HTTP client: TLS by rustls, certificates in podman's places, no way down from https to http.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Certificate, Client, Identity};

use super::access::Access;
use crate::failure::{Failure, Kind};
use crate::host::{environment, fs};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(20);
/// How often one is led on.
const REDIRECTS: usize = 5;

/// The client for one registry.
pub(super) fn client(host: &str, access: &Access) -> Result<Client> {
    provider();
    let mut builder = Client::builder()
        .user_agent(concat!("nosa/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT.min(access.silence))
        .redirect(Policy::custom(lead_on))
        .tls_danger_accept_invalid_certs(access.tls_verify == Some(false));
    for dir in certificate_dirs(host, access) {
        for path in fs::read_dir_sorted(&dir)? {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => {
                    let certificates = Certificate::from_pem_bundle(&fs::read(&path)?);
                    builder = builder.tls_certs_merge(certificates.map_err(|error| wrong(&path, &error))?);
                }
                Some("cert") => {
                    let key = path.with_extension("key");
                    let pem = [fs::read(&key)?, fs::read(&path)?].concat();
                    builder =
                        builder.identity(Identity::from_pem(&pem).map_err(|error| wrong(&path, &error))?);
                }
                _ => {}
            }
        }
    }
    builder.build().context("setting up TLS")
}

/// Has rustls compute by ring.
pub(super) fn provider() {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails when there is one already, which is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
    });
}

fn wrong(path: &Path, error: &reqwest::Error) -> Failure {
    Failure::new(
        Kind::Usage,
        format!("{} holds no certificate in PEM: {error}", path.display()),
        "put there what `openssl x509` can read, and its key beside it as *.key",
    )
}

/// The directories with certificates for a registry: the named one, else all usual ones that exist.
fn certificate_dirs(host: &str, access: &Access) -> Vec<PathBuf> {
    if let Some(dir) = &access.cert_dir {
        return vec![dir.clone()];
    }
    let home = environment::var_os("HOME").map(|home| PathBuf::from(home).join(".config/containers/certs.d"));
    let usual = ["/etc/containers/certs.d", "/etc/docker/certs.d"].map(PathBuf::from);
    home.into_iter().chain(usual).map(|dir| dir.join(host)).filter(|dir| dir.is_dir()).collect()
}

/// Follows a redirect, unless it gives up what https promised.
fn lead_on(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let secure = attempt.previous().iter().any(|url| url.scheme() == "https");
    if secure && attempt.url().scheme() != "https" {
        let mut target = attempt.url().clone();
        // A signed address is a secret.
        target.set_query(None);
        return attempt.error(format!("it leads from https to plain http ({target})"));
    }
    if attempt.previous().len() > REDIRECTS {
        return attempt.error("it leads in a circle");
    }
    attempt.follow()
}
