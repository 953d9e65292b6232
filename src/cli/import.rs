//! `nosa import`: a build of an image from elsewhere.

use anyhow::Result;

use super::registry_options::RegistryOptions;
use super::{Context, render};
use crate::oci::ImageRef;
use crate::recipe::{Fetched, Origin, Publisher, Recipe};

/// Make a build of an OCI image: one derived from a build, or one made for bootc
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where it is: oci:DIR[:NAME], oci-archive:FILE[:NAME], docker://HOST/REPOSITORY[:TAG], or the name of an
    /// image that podman has.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The build's version (default: the image's label org.opencontainers.image.version).
    #[arg(long)]
    version: Option<String>,
    /// Make a build even if the latest one is of this image.
    #[arg(long, short)]
    force: bool,
    #[command(flatten)]
    registry: RegistryOptions,
    #[command(flatten)]
    shared: super::build::Shared,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    let image: ImageRef = args.image.parse()?;
    let (workdir, lock, pipeline) = context.lock("import")?;
    let pipeline = pipeline.force(args.force);
    let options = args.shared.options(&workdir, true)?;
    let recipe = Recipe::open(&pipeline, &workdir.config_dir(), &context.downloads()?, options)?;
    let publisher = Publisher::new(&recipe, &workdir, &lock)?;
    let fetched = Fetched::get(&image, &args.registry.access(false)?, &workdir.tmp_dir(), &pipeline)?;
    let build = match publisher.import(&fetched, args.version.as_deref(), args.force)? {
        Origin::Known(build) => {
            context.report.note(format!("build {} is of {} already", build.id(), fetched.source));
            build
        }
        Origin::New(build) => {
            let dir = build.dir().display();
            context.report.note(format!("imported {} as build {} in {dir}", fetched.source, build.id()));
            context.report.note("next: nosa buildextend qemu");
            build
        }
    };
    if context.json {
        render::print_json(&build.meta_json()?);
    }
    Ok(())
}
