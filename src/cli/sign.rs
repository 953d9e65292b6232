//! `nosa sign`: GPG signatures over a build.

use std::path::PathBuf;

use anyhow::Result;

use super::which::Which;
use super::{Context, render};
use crate::recipe::commit_repo;
use crate::release::{self, GpgKey, Signed};

/// Sign the artifacts and the OSTree commit of a build with GPG
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The key: its id, fingerprint or user id.
    #[arg(long, value_name = "ID")]
    gpg_key: String,
    /// Where GPG keeps it (default: GNUPGHOME, else GPG's own).
    #[arg(long, value_name = "DIR")]
    gpg_homedir: Option<PathBuf>,
    /// Only these artifacts, and the commit.
    #[arg(long, value_name = "NAME")]
    artifact: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let (workdir, lock, pipeline) = context.lock("sign")?;
    workdir.recover(&lock)?;
    let key = GpgKey { id: args.gpg_key.clone(), homedir: args.gpg_homedir.clone() };
    let repo = commit_repo(pipeline.cache())?;
    let mut signed = Vec::new();
    for build in args.which.all(&workdir)? {
        signed.extend(release::sign(&build, &lock, &key, &args.artifact, repo.as_ref(), &context.report)?);
    }
    if context.json {
        render::print_json(&signed);
        return Ok(());
    }
    let row = |signed: &Signed| {
        vec![if signed.kept { "kept" } else { "signed" }.to_owned(), signed.signature.clone()]
    };
    render::print_table(&signed.iter().map(row).collect::<Vec<_>>());
    Ok(())
}
