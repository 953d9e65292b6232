//! Naming a disk image: by file, or as an artifact of a build.

use std::path::PathBuf;

use anyhow::Result;

use super::Context;
use crate::builds::Workdir;
use crate::compression::Format;
use crate::failure::{Failure, Kind};
use crate::host::environment;
use crate::kola::FirmwareKind;

/// Which image to boot, and with what.
#[derive(Debug, clap::Args)]
pub(super) struct ImageArgs {
    /// The disk image (default: the newest build's qemu image)
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// The build to take the image from
    #[arg(long, value_name = "ID", default_value = "latest", conflicts_with = "image")]
    build: String,
    /// The architecture
    #[arg(long, default_value = environment::basearch())]
    pub(super) arch: String,
    /// Boot with this firmware
    #[arg(long = "qemu-firmware", visible_alias = "firmware", value_name = "FIRMWARE", value_enum, default_value_t = FirmwareArg::Bios)]
    firmware: FirmwareArg,
    /// Memory of the machine in MiB
    #[arg(long = "qemu-memory", visible_alias = "memory", short = 'm', value_name = "MIB")]
    pub(super) memory: Option<u32>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum FirmwareArg {
    Bios,
    Uefi,
}

impl ImageArgs {
    /// The image and the build that it is of, if it is of one.
    pub(super) fn find(&self, context: &Context) -> Result<(PathBuf, Option<String>)> {
        if let Some(image) = &self.image {
            return Ok((std::path::absolute(image)?, None));
        }
        let build = Workdir::open(&context.workdir)?.build(&self.build, &self.arch)?;
        let (path, artifact) = build.artifact("qemu")?;
        if Format::of_name(&artifact.path).is_some() {
            let cure = format!("run `nosa decompress --build {} --artifact qemu`", build.id());
            return Err(
                Failure::new(Kind::Artifact, format!("{} is compressed", path.display()), cure).into()
            );
        }
        Ok((path, Some(build.id().to_owned())))
    }

    pub(super) fn firmware(&self) -> FirmwareKind {
        // aarch64 machines have no BIOS.
        match self.firmware {
            FirmwareArg::Bios if self.arch == "x86_64" => FirmwareKind::Bios,
            _ => FirmwareKind::Uefi,
        }
    }
}
