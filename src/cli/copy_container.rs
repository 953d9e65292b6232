//! `nosa copy-container`: images from one place to another, as they are.

use std::path::PathBuf;

use anyhow::Result;

use super::registry_options::{RegistryOptions, credentials};
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
    /// Sign in at the target with these (default: as at the source, if it is the same registry).
    #[arg(long, value_name = "USER:PASSWORD")]
    dest_creds: Option<String>,
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

impl Args {
    /// How the target is reached. What signs in at one registry is never shown to another.
    fn target_access(&self, from: &Access) -> Result<Access> {
        let host = |place: &str| {
            let bare = place.strip_prefix("docker://").or_else(|| (!self.tag.is_empty()).then_some(place))?;
            bare.split('/').next().map(str::to_owned)
        };
        let hosts = (host(&self.source), host(&self.target));
        let elsewhere = matches!(hosts, (Some(source), Some(target)) if source != target);
        let creds = match &self.dest_creds {
            Some(creds) => Some(credentials("--dest-creds", creds)?),
            None => from.creds.clone().filter(|_| !elsewhere),
        };
        let authfile = self.dest_authfile.clone().or_else(|| from.authfile.clone());
        Ok(Access { authfile, creds, ..from.clone() })
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    refuse_format(args.v2s2.then_some("v2s2"), None)?;
    let from = args.registry.access(false)?;
    let to = args.target_access(&from)?;
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

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_password_is_for_one_registry() {
        let at_target = |words: &[&str]| {
            let args = Line::parse_from([&["copy", "--creds", "me:secret"], words].concat()).args;
            let access = args.target_access(&args.registry.access(false).unwrap()).unwrap();
            access.creds.map(|(user, _)| user)
        };
        let me = Some("me".to_owned());
        assert_eq!(at_target(&["docker://a/x:1", "docker://b/x:1"]), None);
        assert_eq!(at_target(&["--tag", "1", "a:5000/x", "docker://a/x"]), None);
        assert_eq!(at_target(&["docker://a/x:1", "docker://a/y:1"]), me);
        assert_eq!(at_target(&["oci:dir", "docker://a/y:1"]), me);
        let own = at_target(&["--dest-creds", "you:other", "docker://a/x:1", "docker://b/x:1"]);
        assert_eq!(own, Some("you".to_owned()));
    }
}
