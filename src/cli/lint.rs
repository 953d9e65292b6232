//! `nosa lint`: what is wrong with an image that machines shall run.

use std::path::PathBuf;

use anyhow::Result;

use super::registry_options::RegistryOptions;
use super::{Context, render};
use crate::builds::Build;
use crate::compression::Format;
use crate::derive::{self, Finding, Severity};
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::oci::ImageRef;
use crate::recipe::Fetched;

/// Check an image: lost /var content, kernels, leftovers
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The image: oci:DIR, oci-archive:FILE, docker://HOST/REPOSITORY, or a name in podman's storage
    /// (default: the build's)
    #[arg(value_name = "IMAGE")]
    image: Option<ImageRef>,
    /// The build whose image is checked
    #[arg(long, value_name = "ID", default_value = "latest", conflicts_with = "image")]
    build: String,
    /// Fail for warnings as well
    #[arg(long)]
    fatal_warnings: bool,
    #[command(flatten)]
    registry: RegistryOptions,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let image = match &args.image {
        Some(image) => image.clone(),
        None => {
            let build = context.open()?.build(&args.build, environment::basearch())?;
            ImageRef::Archive(archive_of(&build)?, None)
        }
    };
    let scratch = tempfile::Builder::new().prefix("nosa-lint-").tempdir_in(environment::temp_dir())?;
    let log = scratch.path().join("copy.log");
    let fetched = Fetched::get(&image, &args.registry.access(false)?, scratch.path(), &log, &context.report)?;
    let findings = derive::lint(&fetched.layout, &fetched.image, &context.report)?;
    if context.json {
        render::print_json(&findings);
    } else {
        super::told::findings(&findings);
    }
    verdict(&image.to_string(), &findings, args.fatal_warnings)
}

/// The archive with a build's image.
pub(super) fn archive_of(build: &Build) -> Result<PathBuf> {
    let (path, artifact) = build.artifact("ostree")?;
    if Format::of_name(&artifact.path).is_some() {
        let cure = format!("run `nosa decompress --build {} --artifact ostree`", build.id());
        return Err(Failure::new(Kind::Artifact, format!("{} is compressed", path.display()), cure).into());
    }
    Ok(path)
}

/// Fails when there are errors, or warnings that count as such.
pub(super) fn verdict(image: &str, findings: &[Finding], fatal_warnings: bool) -> Result<()> {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let warnings = findings.len() - errors;
    if errors == 0 && (warnings == 0 || !fatal_warnings) {
        return Ok(());
    }
    let cause = format!("{image} has {errors} errors and {warnings} warnings");
    Err(Failure::new(Kind::Build, cause, "change the Containerfile as each of them says").into())
}
