//! `nosa derive`: an image from a Containerfile upon a build's image.

use std::path::PathBuf;

use anyhow::Result;

use super::lint::{of_build, verdict};
use super::{Context, render};
use crate::derive::{self, Request};
use crate::host::{environment, fs};

/// Build a Containerfile upon a build's image with podman or docker, and check the result
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory that COPY copies from
    #[arg(default_value = ".")]
    context: PathBuf,
    /// The Containerfile; `ARG BASE` and `FROM ${BASE}` in it are the build's image
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// What the result is called in podman's or docker's storage
    #[arg(long, short, value_name = "NAME", default_value = "localhost/derived:latest")]
    tag: String,
    /// The build to derive from
    #[arg(long, value_name = "ID", default_value = "latest")]
    build: String,
    /// An argument of the Containerfile
    #[arg(long = "build-arg", value_name = "NAME=VALUE", value_parser = argument)]
    build_args: Vec<(String, String)>,
    /// Run every instruction anew
    #[arg(long)]
    no_cache: bool,
    /// Write the result as an OCI archive
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Fail for warnings as well
    #[arg(long)]
    fatal_warnings: bool,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    args.output.as_deref().map_or(Ok(()), derive::check_free)?;
    let workdir = context.open()?;
    let build = workdir.build(&args.build, environment::basearch())?;
    let log = workdir.tmp_dir().join("log");
    fs::create_dir_all(&log)?;
    let scratch = tempfile::Builder::new().prefix("derive.").tempdir_in(workdir.tmp_dir())?;
    let (layout, base) = derive::open(&of_build(&build)?, scratch.path(), &context.report)?;
    let request = Request {
        base: (&layout, &base),
        base_name: &format!("localhost/{}:{}", build.meta()?.name, build.id()),
        containerfile: args.file.as_deref(),
        context: &args.context,
        name: &args.tag,
        arguments: &args.build_args,
        no_cache: args.no_cache,
        scratch: scratch.path(),
        log: &log.join("derive.log"),
    };
    let mut derived = derive::derive(&request, &context.report)?;
    let checked = verdict(&derived.name, &derived.findings, args.fatal_warnings);
    if let (Some(output), Ok(())) = (&args.output, &checked) {
        derived.place(output)?;
    }
    if context.json {
        render::print_json(&derived);
    } else {
        super::told::derived(&derived);
    }
    checked
}

fn argument(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    if name.is_empty() { Err("its name is missing".to_owned()) } else { Ok((name.into(), value.into())) }
}
