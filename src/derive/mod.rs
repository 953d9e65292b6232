//! Images made from images: `nosa derive` has podman or docker build a Containerfile upon a build's image and
//! writes the result as an archive whose base layers are the base's, byte for byte; the lint looks at what
//! machines would get.
//!
//! It knows how to talk to a builder and what a machine does with an image; it knows nothing of packages, of
//! builds' records and of how a commit is made.

mod builder;
mod context;
mod ignore;
mod lint;
mod make;
mod service;
mod source;
mod steps;
mod view;

use anyhow::Result;

pub use lint::{Finding, Severity};
pub use make::{Derived, Request, check_free, derive};
pub use source::open;
pub use steps::Step;

use crate::oci::{Image, Layout};
use crate::pipeline::Reporter;

/// What is wrong with an image, the worst first.
pub fn lint(layout: &Layout, image: &Image, report: &Reporter) -> Result<Vec<Finding>> {
    Ok(lint::check(&view::View::read(layout, image, report)?))
}
