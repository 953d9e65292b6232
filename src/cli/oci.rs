//! `nosa oci`: what the images of builds are made of; and what `nosa build` is told of its image.

use std::path::PathBuf;

use anyhow::Result;

use super::{Context, render};
use crate::oci::{Compression, FEWEST_LAYERS, MAX_LAYERS, MOST_LAYERS};
use crate::recipe::{ImageOptions, PlanSource, Update, image_plan};

/// What the images of builds are made of
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Show the layers of a build's image, and what an update to it downloads
    Plan(Plan),
}

/// `nosa oci plan`'s own.
#[derive(Debug, clap::Args)]
pub(super) struct Plan {
    /// The build.
    #[arg(long, value_name = "ID", default_value = "latest")]
    build: String,
    /// The build that a machine updates from (default: the one before).
    #[arg(long, value_name = "ID")]
    from: Option<String>,
}

/// What `nosa build` is told of its image.
#[derive(Debug, clap::Args)]
pub(super) struct Image {
    /// How the layers of the OCI image are compressed: gzip, or zstd for clients of recent years.
    #[arg(long, value_name = "HOW", default_value = "gzip", value_parser = compression)]
    oci_compression: Compression,
    /// How many layers the OCI image has at most (8 to 120).
    #[arg(long, value_name = "N", default_value_t = MAX_LAYERS, value_parser = layers)]
    max_layers: usize,
    /// Follow the layer plan in FILE (a build's oci-plan.json) in place of the latest build's.
    #[arg(long, value_name = "FILE", conflicts_with = "fresh_oci_plan")]
    oci_plan: Option<PathBuf>,
    /// Plan the layers as if there had been no image before: machines download most of it again.
    #[arg(long)]
    fresh_oci_plan: bool,
    /// Fail, before anything is published, when an update from the latest build downloads more: 150MiB, 2GB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_update_size: Option<u64>,
}

impl Image {
    pub(super) fn options(&self) -> ImageOptions {
        let file = self.oci_plan.clone().map(PlanSource::File);
        let plan = if self.fresh_oci_plan { PlanSource::Fresh } else { file.unwrap_or(PlanSource::Previous) };
        ImageOptions {
            max_layers: self.max_layers,
            compression: self.oci_compression,
            plan,
            max_update_size: self.max_update_size,
        }
    }
}

pub(super) fn run(command: &Command, context: &Context) -> Result<()> {
    let Command::Plan(args) = command;
    let image = image_plan(&context.open()?, &args.build, args.from.as_deref())?;
    if context.json {
        render::print_json(&image);
        return Ok(());
    }
    let row = |name: &str, size, what: &str| vec![name.to_owned(), render::bytes(size), what.to_owned()];
    let total = image.plan.layers.iter().map(|layer| layer.size).sum();
    let mut rows = vec![row("build", total, &image.build)];
    for (index, layer) in image.plan.layers.iter().enumerate() {
        rows.push(row(&format!("layer {index}"), layer.size, &layer.name));
    }
    render::print_table(&rows);
    image.update.iter().for_each(update);
    Ok(())
}

/// Prints what an update costs, layer by layer.
pub(super) fn update(update: &Update) {
    render::print(&format!("an update from {} downloads {}:", update.from, render::bytes(update.cost.total)));
    let row = |size, why: String| vec![format!("  {}", render::bytes(size)), why];
    let layers = update.cost.layers.iter().map(|layer| row(layer.size, layer.why()));
    let documents = row(update.cost.documents, "manifest and configuration".to_owned());
    render::print_table(&layers.chain([documents]).collect::<Vec<_>>());
}

fn compression(text: &str) -> Result<Compression, String> {
    match text {
        "gzip" => Ok(Compression::Gzip),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("write gzip or zstd".to_owned()),
    }
}

fn layers(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (FEWEST_LAYERS..=MOST_LAYERS).contains(count));
    count.ok_or_else(|| format!("write a number from {FEWEST_LAYERS} to {MOST_LAYERS}"))
}

/// A size in bytes: a number, with or without a unit.
fn size(text: &str) -> Result<u64, String> {
    let form = "write a number of bytes or one with kB, MB, GB, KiB, MiB or GiB, such as 150MiB";
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let factor = match unit.trim() {
        "" | "B" => 1.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1_048_576.0,
        "GiB" => 1_073_741_824.0,
        unit => return Err(format!("{unit:?} is no unit of size: {form}")),
    };
    let number: f64 = number.parse().map_err(|_| format!("{number:?} is no number: {form}"))?;
    let bytes = number * factor;
    // Beyond this a floating-point number no longer holds every byte; no update is so large.
    if bytes >= 9e15 { Err(format!("{text} is too large")) } else { Ok(bytes as u64) }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in
            [("0", 0), ("17", 17), ("17B", 17), ("2kB", 2000), ("1.5MiB", 1_572_864), ("3 GB", 3_000_000_000)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, words) in [
            ("", "is no number"),
            ("MiB", "is no number"),
            ("1.2.3MB", "is no number"),
            ("-1", "is no unit of size"),
            ("5M", "\"M\" is no unit of size: write a number of bytes"),
            ("5 mib", "is no unit of size"),
            ("99999999GiB", "too large"),
        ] {
            assert!(size(text).unwrap_err().contains(words), "{text}: {:?}", size(text));
        }
    }
}
