//! What the timer does, once an hour: look for an update, stage it, reboot into it in the window.

use anyhow::Result;

use super::config::{Automatic, Config};
use super::machine::Machine;
use super::programs::{local_minute, reboot, say};
use super::state::State;
use super::update::{Wish, upgrade};
use super::window::Window;

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
    let looked = upgrade(config, Wish::default()).await;
    // What was staged before waits for the window, whether the registry answers now or not.
    if config.automatic == Automatic::Reboot && waits()? && is_now(&config.window)? {
        say("rebooting into the update");
        reboot()?;
    }
    looked.map(drop)
}

/// Whether the next boot will run something new.
fn waits() -> Result<bool> {
    Ok(Machine::open()?.deployments()?.first().is_some_and(|next| next.staged))
}

fn is_now(window: &Window) -> Result<bool> {
    let (day, minute) = local_minute()?;
    Ok(window.contains(day, minute))
}
