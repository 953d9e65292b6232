//! The client of deployed machines, one program under two names: `ostree-container` is ostree's `container`
//! command (the field's own client, as ostree-ext has it), `nestos-update` updates the machine by the same code.

mod automatic;
mod commands;
mod config;
mod countdown;
mod health;
mod machine;
mod programs;
mod rollback;
mod state;
mod status;
mod update;
mod window;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::thread::{UnshareFlags, unshare};

/// What ostree looks for in /usr/libexec/libostree/ext when it is called with `container`.
const EXTENSION: &str = "ostree-container";

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            // Nothing can be done about a closed standard error.
            drop(writeln!(std::io::stderr(), "error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<ExitCode> {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().and_then(|name| Path::new(name).file_name());
    let is_extension = name.is_some_and(|name| name == EXTENSION);
    // /sysroot and /boot are read-only; libostree makes them writable in a mount namespace of this process.
    // Threads share it if it is there before them.
    if Path::new("/run/ostree-booted").exists() && rustix::process::geteuid().is_root() {
        unshare(UnshareFlags::NEWNS).context("making a mount namespace")?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if is_extension {
        return runtime.block_on(extension(arguments)).map(|()| ExitCode::SUCCESS);
    }
    runtime.block_on(commands::run(arguments))
}

/// `ostree container image …` calls `ostree-container container image …`; by hand the second word is left out.
async fn extension(mut arguments: Vec<OsString>) -> anyhow::Result<()> {
    if arguments.get(1).is_none_or(|word| word != "container") {
        arguments.insert(1, "container".into());
    }
    ostree_ext::cli::run_from_iter(arguments).await
}
