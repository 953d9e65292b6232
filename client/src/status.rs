//! `nestos-update status`: the deployments, and what was found out about them.

use anyhow::Result;
use serde_json::{Value, json};

use super::machine::{Deployed, Machine};
use super::programs::{say, spell};
use super::state::State;

/// Prints it, for people or as JSON.
pub(crate) fn print(as_json: bool) -> Result<()> {
    let (machine, state) = (Machine::open()?, State::load()?);
    let all = machine.deployments()?;
    if as_json {
        let deployments: Vec<Value> = all.iter().map(|one| of(one, &state)).collect();
        let whole = json!({"deployments": deployments, "last-check": state.last_check, "bad": state.bad});
        say(serde_json::to_string_pretty(&whole)?);
        return Ok(());
    }
    for one in &all {
        for line in lines(one, &state) {
            say(line);
        }
    }
    if let Some(check) = &state.last_check {
        let result = check.error.as_deref().or(check.digest.as_deref()).unwrap_or_default();
        say(format_args!("last check: {}, {result}", spell(check.time)));
    }
    Ok(())
}

/// What a deployment is to the machine.
fn role(one: &Deployed) -> &'static str {
    match (one.booted, one.staged) {
        (true, _) => "booted",
        (false, true) => "staged",
        (false, false) => "other",
    }
}

fn health<'s>(one: &Deployed, state: &'s State) -> (&'static str, Option<&'s str>) {
    if state.is_good(&one.commit) {
        return ("good", None);
    }
    match state.bad.get(&one.commit) {
        Some(bad) => ("failed", Some(&bad.reason)),
        None => ("unproven", None),
    }
}

fn of(one: &Deployed, state: &State) -> Value {
    let (health, reason) = health(one, state);
    json!({
        "role": role(one),
        "version": one.version,
        "image": one.image.as_ref().map(ToString::to_string),
        "digest": one.digest,
        "commit": one.commit,
        "pinned": one.pinned,
        "health": health,
        "reason": reason,
    })
}

fn lines(one: &Deployed, state: &State) -> Vec<String> {
    let (health, reason) = health(one, state);
    let pinned = if one.pinned { ", pinned" } else { "" };
    let mut lines = vec![format!("{}: {}{pinned}", role(one), one.name())];
    let image = one.image.as_ref().map(ToString::to_string);
    let reason = reason.map(|reason| format!("{health}: {reason}"));
    for (name, value) in [
        ("image", image),
        ("digest", one.digest.clone()),
        ("commit", Some(one.commit.clone())),
        ("health", Some(reason.unwrap_or_else(|| health.to_owned()))),
    ] {
        if let Some(value) = value {
            lines.push(format!("  {name}: {value}"));
        }
    }
    lines
}
