//! `nosa buildfetch`: a build from elsewhere.

use anyhow::Result;

use super::reach::Reach;
use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::transfer::{self, Fetch, Fetched};

/// Fetch a build from a directory, a web server or S3
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
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
