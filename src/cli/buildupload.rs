//! `nosa buildupload`: a build to elsewhere.

use anyhow::Result;

use super::reach::Reach;
use super::which::Which;
use super::{Context, render};
use crate::failure::{Failure, Kind};
use crate::transfer::{self, Upload, Uploaded};

/// Upload a build to a directory, a web server or S3
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
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
