//! S3 as a place of builds, by way of the AWS command line. Objects bear their SHA-256 as metadata, so that an
//! upload that was interrupted goes on with what is missing.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;

use super::remote::{Access, Remote, unreachable};
use crate::failure::{Failure, Kind};
use crate::host::{self, Cmd, CommandError, environment, fs, tool};
use crate::pipeline::{Reporter, Unit};

/// Files up to this size are sent without asking whether they are there.
const SMALL: u64 = 1 << 20;

pub(super) struct Bucket {
    bucket: String,
    prefix: String,
    endpoint_url: Option<String>,
    acl: Option<String>,
    config_file: Option<PathBuf>,
}

impl Bucket {
    pub(super) fn open(address: &str, access: &Access) -> Result<Self> {
        let rest = address.strip_prefix("s3://").unwrap_or(address).trim_end_matches('/');
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || prefix.split('/').any(|part| part == "..") {
            let cause = format!("{address} names no bucket");
            return Err(Failure::new(Kind::Usage, cause, "write s3://BUCKET/PATH").into());
        }
        Ok(Self {
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            endpoint_url: access.endpoint_url.clone(),
            acl: access.acl.clone(),
            config_file: access.aws_config_file.clone(),
        })
    }

    fn aws(&self, words: &[&str]) -> Cmd {
        let mut aws = Cmd::new(&tool::AWS).args(words);
        // Keys, roles, web identities, containers' credentials, endpoints: the client knows what it needs.
        for (name, value) in environment::vars_with_prefix("AWS_") {
            aws = aws.env(name, value);
        }
        if let Some(path) = &self.config_file {
            aws = aws.env("AWS_CONFIG_FILE", path.as_os_str());
        }
        if let Some(url) = &self.endpoint_url {
            aws = aws.args(["--endpoint-url", url]);
        }
        // Its retries know which answers of S3 are worth one.
        aws.env("AWS_RETRY_MODE", "standard").env("AWS_MAX_ATTEMPTS", "5").env("AWS_PAGER", "")
    }

    fn key(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    fn url(&self, path: &str) -> String {
        format!("s3://{}/{}", self.bucket, self.key(path))
    }

    /// Size and SHA-256 of an object; `None` when there is none, or it is not for us to see.
    fn head(&self, path: &str) -> Result<Option<(u64, Option<String>)>> {
        let key = self.key(path);
        let head = self.aws(&["s3api", "head-object", "--output", "json"]);
        match head.args(["--bucket", &self.bucket, "--key", &key]).output() {
            Ok(output) => {
                let value: Value = serde_json::from_slice(&output.stdout)?;
                let sha256 = value["Metadata"]["sha256"].as_str().map(str::to_owned);
                Ok(Some((value["ContentLength"].as_u64().unwrap_or(0), sha256)))
            }
            Err(error) if ["(404)", "(403)"].iter().any(|code| said(&error).contains(code)) => Ok(None),
            Err(error) => Err(unreachable(&format!("looking for {}", self.url(path)), &said(&error))),
        }
    }
}

impl Remote for Bucket {
    fn address(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))
    }

    fn check_target(&self) -> Result<()> {
        host::require(&[&tool::AWS]).map_err(Failure::from)?;
        match self.aws(&["s3api", "head-bucket", "--bucket", &self.bucket]).output() {
            Ok(_) => Ok(()),
            Err(error) if said(&error).contains("(404)") => {
                let cause = format!("there is no bucket `{}`", self.bucket);
                Err(Failure::new(Kind::Usage, cause, "create it, or correct the address").into())
            }
            // Who may only upload may not look; the upload itself will tell.
            Err(error) if said(&error).contains("(403)") => Ok(()),
            Err(error) => Err(unreachable(&format!("looking for bucket `{}`", self.bucket), &said(&error))),
        }
    }

    fn get(&self, path: &str, target: &Path, size: Option<u64>, report: &Reporter) -> Result<bool> {
        host::require(&[&tool::AWS]).map_err(Failure::from)?;
        let progress = report.progress(format!("fetching {path}"), size.unwrap_or(0), Unit::Bytes);
        let copy = self.aws(&["s3", "cp", "--only-show-errors", &self.url(path)]).arg(target);
        match copy.output() {
            Ok(_) => {
                progress.add(fs::open(target)?.metadata()?.len());
                Ok(true)
            }
            Err(error) if said(&error).contains("(404)") && said(&error).contains("does not exist") => {
                Ok(false)
            }
            Err(error) => Err(unreachable(&format!("fetching {}", self.url(path)), &said(&error))),
        }
    }

    fn put(&self, source: &Path, path: &str, sha256: &str, report: &Reporter) -> Result<()> {
        let progress = report.progress(format!("uploading {path}"), 0, Unit::Bytes);
        let kind = if path.ends_with(".json") { "application/json" } else { "application/octet-stream" };
        let mut copy = self
            .aws(&["s3", "cp", "--only-show-errors", "--content-type", kind])
            .args(["--metadata", &format!("sha256={sha256}")]);
        if path == "builds.json" {
            copy = copy.args(["--cache-control", "max-age=60"]);
        }
        if let Some(acl) = &self.acl {
            copy = copy.args(["--acl", acl]);
        }
        let run = copy.arg(source).arg(self.url(path)).output();
        run.map_err(|error| unreachable(&format!("uploading {}", self.url(path)), &said(&error)))?;
        progress.add(fs::open(source)?.metadata()?.len());
        Ok(())
    }

    fn has(&self, path: &str, size: u64, sha256: &str) -> Result<bool> {
        // To ask takes as long as to send a little.
        Ok(size > SMALL && self.head(path)? == Some((size, Some(sha256.to_owned()))))
    }
}

/// What the client printed last.
fn said(error: &anyhow::Error) -> String {
    match error.downcast_ref::<CommandError>() {
        Some(error) => error.tail.join("\n"),
        None => format!("{error:#}"),
    }
}
