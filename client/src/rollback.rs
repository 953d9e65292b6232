//! Returning to what ran before: the deployments are listed in another order, and the boot loader follows.

use anyhow::{Context as _, Result, bail};
use ostree_ext::ostree::{Deployment, SysrootWriteDeploymentsOpts, gio::Cancellable};

use super::machine::{Deployed, Machine};
use super::programs::{reboot, say};
use super::state::State;

/// Makes the next boot run what ran before; if that is so already, undoes it.
pub(crate) async fn by_hand(reboots: bool) -> Result<()> {
    let machine = Machine::open()?;
    let _lock = machine.lock().await?;
    let all = machine.deployments()?;
    let next = choose(&all).context("there is nothing to return to")?;
    if all.first().is_some_and(|first| first.staged) {
        say("what was staged is given up");
    }
    say(format_args!("the next boot will run {}", next.name()));
    // Or else the timer would fetch it again within the hour.
    let mut state = State::load()?;
    state.declined = all.first().and_then(|left| left.digest.clone());
    state.save()?;
    put_first(&machine, &next.deployment)?;
    if reboots { reboot() } else { Ok(()) }
}

/// Puts a deployment before all others; a staged one is given up.
pub(crate) fn put_first(machine: &Machine, first: &Deployment) -> Result<()> {
    let others = machine.sysroot.deployments().into_iter();
    let others = others.filter(|other| !other.is_staged() && !other.equal(first));
    let order: Vec<Deployment> = std::iter::once(first.clone()).chain(others).collect();
    if order.is_empty() {
        bail!("there is no deployment");
    }
    let options = SysrootWriteDeploymentsOpts { do_postclean: true };
    machine
        .sysroot
        .write_deployments_with_options(&order, &options, Cancellable::NONE)
        .context("writing the boot entries")
}

/// With something staged, the running one. While the running one comes first, the one after it; else the
/// running one again.
fn choose(all: &[Deployed]) -> Option<&Deployed> {
    let booted = all.iter().position(|one| one.booted)?;
    let kept: Vec<&Deployed> = all.iter().filter(|one| !one.staged).collect();
    if kept.len() < all.len() || !kept.first()?.booted {
        return all.get(booted);
    }
    kept.get(1).copied()
}
