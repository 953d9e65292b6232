//! `nosa push-container`: a build's image to a registry.

use std::path::PathBuf;

use anyhow::Result;

use super::Context;
use super::registry_options::{RegistryOptions, SignOptions, tell};
use super::which::Which;
use crate::oci::Repository;
use crate::recipe::{PushContainer, push_container, refuse_format};

/// Push a build's OCI image to a registry
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// The artifact to push: ostree, extensions-container.
    #[arg(long, value_name = "NAME", default_value = "ostree")]
    image: String,
    /// One more tag; more than once for more.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Append this to the tag.
    #[arg(long, value_name = "SUFFIX")]
    tag_suffix: Option<String>,
    /// Where the name is: HOST[/PATH].
    #[arg(long, short, value_name = "HOST")]
    dest_repository: Option<String>,
    /// The same as --tls-verify=false.
    #[arg(long, visible_alias = "insecure")]
    no_tls_verify: bool,
    /// The image's form: oci.
    #[arg(long)]
    format: Option<String>,
    /// The transport: registry.
    #[arg(long)]
    transport: Option<String>,
    /// Write the image's digest to this file.
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    sign: SignOptions,
    /// Where to: [docker://]HOST/NAME[:TAG] (default tag: BUILD-ARCH).
    name: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    refuse_format(args.format.as_deref(), args.transport.as_deref())?;
    let build = args.which.find(&context.open()?)?;
    let name = args.name.strip_prefix("docker://").unwrap_or(&args.name);
    let name = args.dest_repository.as_ref().map_or(name.to_owned(), |host| format!("{host}/{name}"));
    let mut target = Repository::tagged(&name, &format!("{}-{}", build.id(), build.arch()))?;
    if let (Some(suffix), Some(tag)) = (&args.tag_suffix, &target.tag) {
        target.tag = Some(format!("{tag}-{suffix}"));
    }
    let key = args.sign.key();
    let request =
        PushContainer { artifact: &args.image, target: &target, tags: &args.tag, key: key.as_ref() };
    let access = args.registry.access(args.no_tls_verify)?;
    let pushed = push_container(&build, &request, &access, &context.report)?;
    tell(&pushed, (&pushed.image, pushed.digest), args.digestfile.as_deref(), context.json)
}
