//! `nosa buildfetch` and `nosa buildupload`: builds from and to elsewhere.

use std::path::PathBuf;

use anyhow::Result;

use super::which::Which;
use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::transfer::{self, Access, Fetch, Fetched, Upload, Uploaded};

/// How the place is reached.
#[derive(Debug, clap::Args)]
struct Reach {
    /// The S3 server (default: Amazon's).
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// The configuration of the AWS client.
    #[arg(long, value_name = "FILE")]
    aws_config_file: Option<PathBuf>,
    /// Be content with plain http.
    #[arg(long)]
    insecure: bool,
}

/// Fetch a build from a directory, a web server or S3
#[derive(Debug, clap::Args)]
pub(super) struct FetchArgs {
    /// Where builds.json is: DIR, https://…, s3://… (default: where the last build was fetched from).
    #[arg(long)]
    url: Option<String>,
    /// The build (default: the newest there).
    #[arg(long, short, value_name = "ID")]
    build: Option<String>,
    /// Its architectures, or `all` (default: this machine's).
    #[arg(long)]
    arch: Vec<String>,
    /// Its artifacts, or `all` (default: only the records).
    #[arg(long, value_name = "NAME")]
    artifact: Vec<String>,
    #[command(flatten)]
    reach: Reach,
}

/// Upload a build to a directory, a web server or S3
#[derive(Debug, clap::Args)]
pub(super) struct UploadArgs {
    #[command(flatten)]
    which: Which,
    /// Only these artifacts.
    #[arg(long, value_name = "NAME")]
    artifact: Vec<String>,
    /// Upload what is there already, too.
    #[arg(long)]
    force: bool,
    /// Leave builds.json there as it is.
    #[arg(long)]
    skip_builds_json: bool,
    /// Only say what would be uploaded.
    #[arg(long)]
    dry_run: bool,
    /// The access rights that objects in S3 get.
    #[arg(long, value_name = "ACL")]
    acl: Option<String>,
    #[command(flatten)]
    reach: Reach,
    /// Where to: DIR, https://… or s3://BUCKET/PATH (or, as coreos-assembler: s3 BUCKET/PATH).
    #[arg(required = true, num_args = 1..=2, value_name = "URL")]
    url: Vec<String>,
}

impl Reach {
    fn access(&self, acl: Option<&str>) -> Access {
        Access {
            insecure: self.insecure,
            endpoint_url: self.endpoint_url.clone(),
            acl: acl.map(str::to_owned),
            aws_config_file: self.aws_config_file.clone(),
        }
    }
}

pub(super) fn fetch(args: &FetchArgs, context: &Context) -> Result<()> {
    let (workdir, lock, _) = context.lock("buildfetch")?;
    let url = match &args.url {
        Some(url) => url.clone(),
        None => transfer::last_url(&workdir)?.ok_or_else(|| {
            let cause = "there is no address to fetch from: nothing was fetched here before";
            Failure::new(Kind::Usage, cause, "name it: --url URL")
        })?,
    };
    let own = [environment::basearch().to_owned()];
    let arches: &[String] = if args.arch.is_empty() { &own } else { &args.arch };
    let wanted = Fetch { build: args.build.as_deref(), arches, artifacts: &args.artifact };
    let remote = args.reach.access(None).open(&url)?;
    let fetched = transfer::fetch(remote.as_ref(), &workdir, &lock, &wanted, &context.report)?;
    if context.json {
        render::print_json(&fetched);
        return Ok(());
    }
    for Fetched { id, arch, files } in &fetched {
        context.report.note(format!("fetched build {id} for {arch}: {} files", files.len()));
    }
    Ok(())
}

pub(super) fn upload(args: &UploadArgs, context: &Context) -> Result<()> {
    let (workdir, lock, _) = context.lock("buildupload")?;
    workdir.recover(&lock)?;
    let url = match args.url.as_slice() {
        [scheme, rest] if scheme == "s3" => format!("s3://{}", rest.trim_start_matches("s3://")),
        [url] => url.clone(),
        _ => {
            let cause = format!("`{}` is no address", args.url.join(" "));
            return Err(
                Failure::new(Kind::Usage, cause, "name one: DIR, https://… or s3://BUCKET/PATH").into()
            );
        }
    };
    let wanted = Upload {
        builds: &args.which.all(&workdir)?,
        artifacts: &args.artifact,
        force: args.force,
        skip_builds_json: args.skip_builds_json,
        dry_run: args.dry_run,
    };
    let remote = args.reach.access(args.acl.as_deref()).open(&url)?;
    let uploaded = transfer::upload(remote.as_ref(), &workdir, &wanted, &context.report)?;
    if context.json {
        render::print_json(&uploaded);
        return Ok(());
    }
    let state = |file: &Uploaded| match (file.kept, args.dry_run) {
        (true, _) => "there already",
        (false, true) => "would be uploaded",
        (false, false) => "uploaded",
    };
    let row = |file: &Uploaded| vec![state(file).to_owned(), file.path.clone()];
    render::print_table(&uploaded.iter().map(row).collect::<Vec<_>>());
    Ok(())
}
