//! The command line of `nestos-update`: arguments and a call.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use super::config::Config;
use super::update::Wish;
use super::{automatic, countdown, health, rollback, status, update};

/// Update this machine from container images, and return to what it ran before
#[derive(Debug, Parser)]
#[command(name = "nestos-update", version)]
struct Line {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What is running, what the next boot will run, what there is to return to
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch another image; the next boot will run it, and `upgrade` follows it from then on
    Switch {
        /// registry.example/os:tag, or with a transport: docker://, oci:, oci-archive:, containers-storage:.
        image: String,
        /// Reboot into it at once.
        #[arg(long)]
        reboot: bool,
    },
    /// Fetch what the image's name now stands for; the next boot will run it
    Upgrade {
        /// Only look; exit code 77 when there is nothing new.
        #[arg(long, conflicts_with_all = ["reboot", "retry"])]
        check: bool,
        /// Reboot at once if there was something.
        #[arg(long)]
        reboot: bool,
        /// Take an image that failed on this machine before, or was rolled back.
        #[arg(long)]
        retry: bool,
    },
    /// Make the next boot run what ran before (again: undo that)
    Rollback {
        /// Reboot at once.
        #[arg(long)]
        reboot: bool,
    },
    /// What nestos-update.timer runs: /etc/nestos/update.conf says what happens
    #[command(hide = true)]
    Automatic,
    /// What nestos-health.service runs: judges a new deployment on its first boot
    #[command(hide = true)]
    Health,
    /// What runs at shutdown: gives a new deployment three boots to prove itself
    #[command(hide = true)]
    Arm,
}

/// Exit code of `upgrade --check` when there is nothing new, as other updaters have it.
const NOTHING_NEW: u8 = 77;

/// Runs what the command line says.
pub(crate) async fn run(arguments: Vec<OsString>) -> Result<ExitCode> {
    match Line::parse_from(arguments).verb {
        Verb::Status { json } => status::print(json)?,
        Verb::Switch { image, reboot } => {
            update::switch(&Config::read()?, &image, reboot).await?;
        }
        Verb::Upgrade { check: true, .. } => {
            if !update::check(&Config::read()?).await? {
                return Ok(ExitCode::from(NOTHING_NEW));
            }
        }
        Verb::Upgrade { check: false, reboot, retry } => {
            update::upgrade(&Config::read()?, Wish { reboot, retry }).await?;
        }
        Verb::Rollback { reboot } => rollback::by_hand(reboot).await?,
        Verb::Automatic => automatic::run(&Config::read()?).await?,
        Verb::Health => return health::run(Config::read()).await,
        Verb::Arm => countdown::arm().await?,
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_alone_reboots_nothing() {
        let line = |arguments: &[&str]| Line::try_parse_from([&["nestos-update"], arguments].concat());
        assert!(line(&["upgrade", "--check"]).is_ok());
        assert!(line(&["upgrade", "--reboot", "--retry"]).is_ok());
        assert!(line(&["upgrade", "--check", "--reboot"]).is_err());
    }
}
