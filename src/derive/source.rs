//! An image that was named, as a layout that can be read.

use std::path::Path;

use anyhow::Result;

use crate::failure::{Failure, Kind};
use crate::host::{Cmd, environment, require, tool};
use crate::oci::{Image, ImageRef, Layout};
use crate::pipeline::{Reporter, Unit};

/// Opens the image that `reference` names; one in podman's storage is copied into `scratch` first.
pub fn open(reference: &ImageRef, scratch: &Path, report: &Reporter) -> Result<(Layout, Image)> {
    let (layout, name) = match reference {
        ImageRef::Layout(path, name) | ImageRef::Archive(path, name) => (Layout::open(path)?, name.clone()),
        ImageRef::Storage(name) => (from_storage(name, scratch, report)?, None),
        ImageRef::Registry(repository) => {
            let cause = format!("docker://{repository} is not here");
            let cure =
                format!("fetch it first: skopeo copy docker://{repository} oci:DIR, then name oci:DIR");
            return Err(Failure::new(Kind::Artifact, cause, cure).into());
        }
    };
    let image = layout.image(name.as_deref(), environment::basearch())?;
    Ok((layout, image))
}

fn from_storage(name: &str, scratch: &Path, report: &Reporter) -> Result<Layout> {
    require(&[&tool::PODMAN])?;
    let progress = report.progress(format!("copying {name} out of podman's storage"), 0, Unit::Items);
    let archive = scratch.join("image.ociarchive");
    let saved = Cmd::new(&tool::PODMAN)
        .args(["save", "--quiet", "--format", "oci-archive", "--output"])
        .arg(&archive)
        .arg(name)
        .inherit_environment()
        .run_lines(|line| report.detail(line));
    drop(progress);
    saved.map_err(|error| {
        let cure = format!("does `podman images` list {name}? An archive is named oci-archive:FILE");
        Failure::new(Kind::Artifact, format!("podman has no image {name} to give: {error:#}"), cure)
    })?;
    Layout::open(&archive)
}
