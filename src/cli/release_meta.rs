//! `nosa generate-release-meta`: a build as release.json.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::{Context, render};
use crate::host::fs;
use crate::release::{self, Stream};

/// Write release.json of a build, as Fedora CoreOS's release tools read it
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The build.
    #[arg(long, visible_alias = "build", value_name = "ID", default_value = "latest")]
    build_id: String,
    /// The stream's name (default: the last part of the build's `ref`, unless its meta.json names a branch, as
    /// coreos-assembler's do, or an imported image's stream).
    #[arg(long, value_name = "NAME")]
    stream_name: Option<String>,
    /// Where streams are published: files will be at URL/STREAM/builds/ID/ARCH/FILE.
    #[arg(long, value_name = "URL")]
    stream_baseurl: String,
    /// The file to write, or to add to (default: release.json in the build's directory).
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out the addresses of signatures.
    #[arg(long)]
    no_signatures: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let workdir = context.open()?;
    let builds = workdir.architectures(&args.build_id)?;
    let id = builds.first().context("a build has an architecture")?.id();
    let output = args.output.clone().unwrap_or_else(|| workdir.builds_dir().join(id).join("release.json"));
    let stream = Stream {
        name: args.stream_name.clone(),
        base_url: args.stream_baseurl.clone(),
        signatures: !args.no_signatures,
    };
    let before = crate::builds::read_release(&output)?;
    let release = release::release_metadata(before, &builds, &stream)?;
    fs::write_atomic(&output, format!("{release}\n"), 0o644)?;
    context.report.note(format!("wrote {}", output.display()));
    if context.json {
        render::print_json(&release);
    }
    Ok(())
}
