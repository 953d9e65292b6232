//! `nosa push-container-manifest`: several architectures under one tag of a registry.

use std::path::PathBuf;

use anyhow::Result;

use super::Context;
use super::registry_options::{RegistryOptions, SignOptions, tell};
use crate::oci::{ImageRef, Repository};
use crate::recipe::{PushManifest, architectures, push_container_manifest, push_images, refuse_format};

/// Push one image of several architectures to a registry
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["image", "artifact"])))]
pub(super) struct Args {
    /// The repository: [docker://]HOST/NAME.
    #[arg(long, value_name = "NAME")]
    repo: String,
    /// The tag.
    #[arg(long, value_name = "TAG", required = true)]
    tag: Vec<String>,
    /// One image: oci-archive:FILE, oci:DIR, docker://HOST/NAME:TAG.
    #[arg(long)]
    image: Vec<ImageRef>,
    /// The artifact of each architecture of a build.
    #[arg(long, value_name = "NAME")]
    artifact: Option<String>,
    /// The build.
    #[arg(long, value_name = "ID", default_value = "latest", conflicts_with = "image")]
    build: String,
    /// Only this architecture of the build.
    #[arg(long, conflicts_with = "image")]
    arch: Vec<String>,
    /// Record each architecture's digest in its meta.json under this key: base-oscontainer.
    #[arg(long, value_name = "KEY", conflicts_with = "image")]
    metajsonname: Option<String>,
    /// Push even if the registry has it already.
    #[arg(long)]
    force: bool,
    /// Not supported: it would change digests.
    #[arg(long)]
    v2s2: bool,
    /// Write the index's digest to this file.
    #[arg(long, value_name = "FILE", visible_alias = "write-digest-to-file")]
    write_digest_file: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    sign: SignOptions,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    refuse_format(args.v2s2.then_some("v2s2"), None)?;
    let (repository, key) = (Repository::bare(&args.repo)?, args.sign.key());
    let request = PushManifest {
        repository: &repository,
        tags: &args.tag,
        artifact: args.artifact.as_deref().unwrap_or_default(),
        record_as: args.metajsonname.as_deref(),
        force: args.force,
        key: key.as_ref(),
    };
    let access = args.registry.access(false)?;
    let pushed = if args.artifact.is_some() {
        let builds = architectures(&context.open()?, &args.build, &args.arch)?;
        push_container_manifest(&builds, &request, &access, &context.report)?
    } else {
        push_images(&args.image, &request, &std::collections::BTreeMap::new(), &access, &context.report)?
    };
    tell(&pushed, (&pushed.image, pushed.digest), args.write_digest_file.as_deref(), context.json)
}
