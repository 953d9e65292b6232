//! `nosa run`: boot an image and sit at its console.

use std::path::PathBuf;

use anyhow::Result;

use super::Context;
use super::image::ImageArgs;
use crate::failure::{Failure, Kind};
use crate::host::{self, tool};
use crate::kola::Session;
use crate::vm::DiskSpec;

/// Boot an image with its console in the terminal; its disk is thrown away afterwards
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    image: ImageArgs,
    /// An Ignition configuration to merge in
    #[arg(long, short, value_name = "FILE")]
    ignition: Vec<PathBuf>,
    /// A Butane configuration to merge in (needs the butane program)
    #[arg(long, short = 'B', value_name = "FILE.bu")]
    butane: Vec<PathBuf>,
    /// Kernel arguments to add
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        conflicts_with = "persistent",
        hide_default_value = true
    )]
    kargs: String,
    /// A size for the disk, in GiB, larger than the image's
    #[arg(long, value_name = "GIB", conflicts_with = "persistent")]
    size: Option<u32>,
    /// A further disk: 5G[:mpath,4k,512e,channel=virtio|scsi|nvme,serial=NAME]
    #[arg(long, short = 'D', value_name = "DISK", value_parser = DiskSpec::parse)]
    add_disk: Vec<DiskSpec>,
    /// Keep what the machine writes in the image itself
    #[arg(long)]
    persistent: bool,
    /// Run a command over SSH instead of showing the console, and end the machine after it
    #[arg(long, short = 'x', value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    ssh: Vec<String>,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<()> {
    host::require(&[&tool::QEMU_X86_64, &tool::QEMU_IMG, &tool::SSH, &tool::SSH_KEYGEN])
        .map_err(|error| Failure::new(Kind::Tool, error.to_string(), error.cure()))?;
    let (image, _) = args.image.find(context)?;
    let session = Session {
        image,
        arch: args.image.arch.clone(),
        configs: args.ignition.iter().chain(&args.butane).cloned().collect(),
        kernel_arguments: args.kargs.clone(),
        firmware: args.image.firmware(),
        memory_mib: args.image.memory,
        size_gib: args.size,
        disks: args.add_disk.clone(),
        persistent: args.persistent,
        user: "core".to_owned(),
        command: args.ssh.clone(),
    };
    match session.run(&context.report)? {
        0 => Ok(()),
        code => {
            let cause = format!("the command on the machine ended with exit code {code}");
            Err(Failure::new(Kind::TestsFailed, cause, "").into())
        }
    }
}
