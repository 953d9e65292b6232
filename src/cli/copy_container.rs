//! `nosa copy-container`: images from one place to another, as they are.

use std::path::PathBuf;

use anyhow::Result;

use super::registry_options::RegistryOptions;
use super::{Context, render};
use crate::recipe::{copy_container, refuse_format};
use crate::registry::Access;

/// When the images of an index are copied each alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ArchTags {
    Always,
    Never,
    /// Where the registry holds no indexes, which is so for none that nosa knows.
    Auto,
}

/// Copy images between registries, layouts and archives, digests kept, all architectures
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Copy this tag; SOURCE and TARGET are repositories then.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The file with credentials for the target (default: as for the source).
    #[arg(long, value_name = "FILE")]
    dest_authfile: Option<PathBuf>,
    /// Copy each architecture of an index alone, as TAG-ARCH.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    manifest_list_to_arch_tag: ArchTags,
    /// Not supported: it would change digests.
    #[arg(long)]
    v2s2: bool,
    #[command(flatten)]
    registry: RegistryOptions,
    /// Where from: docker://HOST/NAME[:TAG], oci:DIR[:NAME], oci-archive:FILE[:NAME].
    source: String,
    /// Where to, likewise.
    target: String,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    refuse_format(args.v2s2.then_some("v2s2"), None)?;
    let from = args.registry.access(false)?;
    let authfile = args.dest_authfile.clone().or_else(|| from.authfile.clone());
    let to = Access { authfile, ..from.clone() };
    let apart = args.manifest_list_to_arch_tag == ArchTags::Always;
    let copied = copy_container(&args.source, &args.target, &args.tag, apart, (&from, &to), &context.report)?;
    if context.json {
        render::print_json(&copied);
        return Ok(());
    }
    for copy in copied {
        render::print(&format!("{} sha256:{}", copy.target, copy.digest));
    }
    Ok(())
}
