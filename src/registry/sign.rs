//! Signatures of images in a registry, by sigstore's keys and skopeo: they lie beside the image as the tag
//! `sha256-DIGEST.sig`, where skopeo, podman, rpm-ostree and cosign look for them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use serde_json::json;

use super::access::Access;
use super::credentials::{self, Credentials};
use crate::failure::{Failure, Kind};
use crate::host::{self, Cmd, CommandError, environment, fs, tool};
use crate::oci::Repository;
use crate::pipeline::{Digest, Reporter, Unit};

/// A private key of sigstore's, as cosign and skopeo make them.
#[derive(Debug, Clone)]
pub struct SigstoreKey {
    /// Its file.
    pub file: PathBuf,
    /// The file with its passphrase; else `COSIGN_PASSWORD`, else none.
    pub passphrase_file: Option<PathBuf>,
}

impl SigstoreKey {
    /// Sees before anything is pushed that it will be possible to sign.
    pub fn check(&self) -> Result<()> {
        host::require(&[&tool::SKOPEO_SIGNING]).map_err(Failure::from)?;
        let text = fs::read_to_string(&self.file)?;
        if !text.contains("PRIVATE KEY-----") {
            let cause = format!("{} is not a private key of sigstore's", self.file.display());
            let cure = "name the key that `skopeo generate-sigstore-key` or `cosign generate-key-pair` made";
            return Err(Failure::new(Kind::Usage, cause, cure).into());
        }
        Ok(())
    }
}

/// Signs an image as `HOST/NAME:TAG` for each of the tags.
pub fn sign(
    repository: &Repository,
    digest: Digest,
    tags: &[String],
    key: &SigstoreKey,
    access: &Access,
    report: &Reporter,
) -> Result<()> {
    let place = tempfile::tempdir().context("creating a directory for signing")?;
    let progress = report.progress("signing", tags.len() as u64, Unit::Items);
    let call = call(place.path(), repository, key, access)?;
    let name = format!("{}/{}", repository.host, repository.name);
    for tag in tags {
        // The image is there: what is copied is its signature.
        let from = format!("docker://{name}@sha256:{digest}");
        let to = format!("docker://{name}:{tag}");
        call.clone().arg(from).arg(&to).run_lines(|line| report.detail(line)).map_err(|error| {
            // All of it was told as it came; its last line is the reason.
            let why = error.downcast_ref().map_or_else(|| format!("{error:#}"), CommandError::reason);
            Failure::new(
                Kind::Build,
                format!("signing {to} failed: {why}"),
                "see that the key and its passphrase are right (--sign-passphrase-file); the image is pushed, but not signed",
            )
        })?;
        progress.add(1);
    }
    Ok(())
}

/// skopeo's call without its source and target. Secrets go through files that only this user reads.
fn call(place: &Path, repository: &Repository, key: &SigstoreKey, access: &Access) -> Result<Cmd> {
    let registries = place.join("registries.d");
    fs::create_dir_all(&registries)?;
    let attachments = json!({"docker": {&repository.host: {"use-sigstore-attachments": true}}});
    fs::write(&registries.join("nosa.yaml"), attachments.to_string())?;
    let mut call = Cmd::new(&tool::SKOPEO_SIGNING)
        .arg("--registries.d")
        .arg(&registries)
        .args(["--insecure-policy", "copy", "--all", "--preserve-digests"])
        .arg("--sign-by-sigstore-private-key")
        .arg(&key.file)
        .arg("--sign-passphrase-file");
    call = match &key.passphrase_file {
        Some(file) => call.arg(file),
        None => {
            let file = place.join("passphrase");
            fs::write_atomic(&file, environment::var("COSIGN_PASSWORD").unwrap_or_default(), 0o600)?;
            call.arg(file)
        }
    };
    let authfile = place.join("auth.json");
    let mut auths = json!({"auths": {}});
    auths["auths"][&repository.host] = match credentials::find(repository, access)? {
        Some(Credentials::Password(user, password)) => {
            let pair = format!("{user}:{}", password.reveal());
            json!({"auth": base64::engine::general_purpose::STANDARD.encode(pair)})
        }
        Some(Credentials::Identity(token)) => json!({"auth": "", "identitytoken": token.reveal()}),
        None => json!({}),
    };
    fs::write_atomic(&authfile, auths.to_string(), 0o600)?;
    call = call.arg("--authfile").arg(authfile);
    if access.plain_will_do(&repository.host) {
        call = call.args(["--src-tls-verify=false", "--dest-tls-verify=false"]);
    }
    if let Some(dir) = &access.cert_dir {
        call = call.arg("--src-cert-dir").arg(dir).arg("--dest-cert-dir").arg(dir);
    }
    Ok(call)
}
