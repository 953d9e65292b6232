//! How a registry is reached: podman's options, which all commands about registries have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::render;
use crate::failure::{Failure, Kind};
use crate::host::fs;
use crate::pipeline::Digest;
use crate::registry::{Access, Secret, SigstoreKey};

/// How the registry is reached.
#[derive(Debug, clap::Args)]
pub(super) struct RegistryOptions {
    /// The file with credentials (default: REGISTRY_AUTH_FILE, else podman's and docker's own).
    #[arg(long, value_name = "FILE")]
    pub(super) authfile: Option<PathBuf>,
    /// Sign in with these.
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// A directory with certificates: *.crt of CAs, *.cert and *.key of our own.
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Whether certificates are checked; if not, plain http will do, too (default: on loopback it does).
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    tls_verify: Option<bool>,
    /// How often what failed is tried again.
    #[arg(long, value_name = "TIMES", default_value_t = 5)]
    retry: u32,
    /// The pause before the first time; it doubles each time.
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    retry_delay: Duration,
    /// How long a registry may be silent.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    timeout: Duration,
}

/// How an image is signed.
#[derive(Debug, clap::Args)]
pub(super) struct SignOptions {
    /// Sign with this private key of sigstore's, by skopeo.
    #[arg(long, value_name = "FILE")]
    sign_by_sigstore_private_key: Option<PathBuf>,
    /// The file with the key's passphrase (default: COSIGN_PASSWORD).
    #[arg(long, value_name = "FILE", requires = "sign_by_sigstore_private_key")]
    sign_passphrase_file: Option<PathBuf>,
}

/// Tells what was pushed, and writes its digest into the file that was asked for.
pub(super) fn tell(
    pushed: &impl serde::Serialize,
    (image, digest): (&str, Digest),
    digest_file: Option<&Path>,
    json: bool,
) -> Result<()> {
    if let Some(file) = digest_file {
        fs::write(file, format!("sha256:{digest}"))?;
    }
    if json {
        render::print_json(pushed);
    } else {
        render::print(&format!("{image}@sha256:{digest}"));
    }
    Ok(())
}

impl RegistryOptions {
    /// As the room of registries has it; `insecure` is another way to say `--tls-verify=false`.
    pub(super) fn access(&self, insecure: bool) -> Result<Access> {
        Ok(Access {
            authfile: self.authfile.clone(),
            creds: self.creds.as_deref().map(|creds| credentials("--creds", creds)).transpose()?,
            cert_dir: self.cert_dir.clone(),
            tls_verify: if insecure { Some(false) } else { self.tls_verify },
            retry: self.retry,
            retry_delay: self.retry_delay,
            silence: self.timeout,
        })
    }
}

impl SignOptions {
    pub(super) fn key(&self) -> Option<SigstoreKey> {
        let passphrase_file = self.sign_passphrase_file.clone();
        self.sign_by_sigstore_private_key.clone().map(|file| SigstoreKey { file, passphrase_file })
    }
}

/// The user's name and password that an option gives.
pub(super) fn credentials(option: &str, text: &str) -> Result<(String, Secret), Failure> {
    let pair = text.split_once(':').filter(|(user, _)| !user.is_empty());
    let (user, password) = pair.ok_or_else(|| {
        let cause = format!("{option} is not USER:PASSWORD");
        Failure::new(Kind::Usage, cause, "say both, or use `podman login`")
    })?;
    Ok((user.to_owned(), Secret::new(password)))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "a number of seconds is wanted".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|_| "a number of seconds is wanted".to_owned())
}
