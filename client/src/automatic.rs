//! What the timer does, once an hour: look for an update, stage it, reboot into it in the window.

use anyhow::Result;

use super::config::{Automatic, Config};
use super::machine::Machine;
use super::programs::{local_minute, reboot, say};
use super::state::State;
use super::update::{Wish, upgrade};

/// Does what the configuration says.
pub(crate) async fn run(config: &Config) -> Result<()> {
    if config.automatic == Automatic::Off {
        return Ok(());
    }
    let running = Machine::open()?.booted()?;
    if !State::load()?.is_good(&running.commit) {
        say(format_args!("{} has not proved itself yet", running.name()));
        return Ok(());
    }
    upgrade(config, Wish::default()).await?;
    if config.automatic != Automatic::Reboot {
        return Ok(());
    }
    let waits = Machine::open()?.deployments()?.first().is_some_and(|next| next.staged);
    let (day, minute) = local_minute()?;
    if waits && config.window.contains(day, minute) {
        say("rebooting into the update");
        reboot()?;
    }
    Ok(())
}
