//! Updating machines in QEMU: a machine switches to a derived image and back, leaves one that is not healthy and
//! one that does not boot, and survives a power cut at any point.

mod image;
mod lab;

use image::{File, Shelf};
use lab::{Guest, Lab};
use serde_json::Value;

use crate::fixture::shared;
use crate::registry_server::Registry;

const UNIT: &[u8] = b"[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/usr/bin/true\n";
const WANTED: &str = "usr/lib/systemd/system/multi-user.target.wants/derived.service";
/// A layer that brings a service and its configuration, and changes a file of the image's /etc.
const SERVICE: &[File<'static>] = &[
    ("usr/lib/systemd/system/derived.service", 0o644, UNIT),
    (WANTED, 0, b"../derived.service"),
    ("etc/derived.conf", 0o644, b"new\n"),
    ("etc/issue.net", 0o644, b"new\n"),
];
const CONFIG: &str = "/etc/nestos/update.conf";

/// The deployment in a role, and what the status says of it.
fn deployed<'s>(status: &'s Value, role: &str) -> &'s Value {
    let all = status["deployments"].as_array().unwrap();
    all.iter().find(|one| one["role"] == role).unwrap_or_else(|| panic!("nothing is {role}: {status:#}"))
}

/// Fails unless the machine runs the derived image, with its own files kept and the image's merged.
fn runs_derived(guest: &Guest, digest: &str) {
    assert_eq!(guest.health(), "good");
    assert_eq!(deployed(&guest.status(), "booted")["digest"], digest);
    let said = guest.run(
        "systemctl is-active derived; cat /etc/derived.conf /etc/issue.net /etc/of-this-machine \
         /var/lib/of-this-machine /etc/issue",
    );
    assert_eq!(said, "active\nnew\nnew\nkept\nkept\nedited\n");
}

/// Fails unless the machine runs what was installed.
fn runs_base(guest: &Guest) {
    assert_eq!(guest.health(), "good");
    let status = guest.status();
    assert_eq!(deployed(&status, "booted")["image"], Value::Null, "{status:#}");
    assert!(!guest.try_run("systemctl is-active derived").0);
    assert_eq!(guest.run("cat /etc/of-this-machine /var/lib/of-this-machine"), "kept\nkept\n");
}

#[test]
fn a_machine_switches_returns_and_leaves_what_is_unhealthy_or_does_not_boot() {
    let Some(shared) = shared() else { return };
    let Some(registry) = Registry::start() else { return };
    let shelf = Shelf::new(&shared, registry);
    let image = format!("{}/os:latest", shelf.seen_from_inside());
    let lab = Lab::new(&shared, &shelf.seen_from_inside());
    let (mut guest, _memory) = lab.first_boot();
    runs_base(&guest);
    let said = guest.run("ostree container image --help");
    assert!(said.contains("Pull (or update) a container image"), "{said}");
    let (done, said) = guest.try_run("nestos-update upgrade");
    assert!(!done && said.contains("nestos-update switch IMAGE"), "{said}");

    // To a derived image and back. /etc/issue is the machine's own from here on.
    let good = shelf.push("derived.1", SERVICE);
    guest.run("echo edited > /etc/issue");
    guest.run(&format!("nestos-update switch {image}"));
    let status = guest.status();
    assert_eq!(deployed(&status, "staged")["digest"], good.as_str());
    assert_eq!(deployed(&status, "staged")["version"], "derived.1");
    guest.reboot();
    runs_derived(&guest, &good);
    let (found, said) = guest.try_run("nestos-update upgrade --check");
    assert!(!found && said.contains("nothing new"), "{said}");
    guest.reboots_after("nestos-update rollback --reboot");
    runs_base(&guest);
    let said = guest.run("nestos-update upgrade");
    assert!(said.contains("was rolled back; --retry takes it again"), "{said}");

    // An image that fails its own check, taken by the timer's service, which waits for its window: the machine comes
    // back by itself, and does not take it again.
    let failing = [SERVICE, &[("usr/lib/nestos/health.d/50-no", 0o755, b"#!/bin/sh\nexit 1\n" as &[u8])]];
    let bad = shelf.push("derived.2", &failing.concat());
    guest.run(&format!(
        "printf \"[update]\\nautomatic=reboot\\nwindow=%s\\n\" $(LC_ALL=C date -d \"2 days\" +%a) > {CONFIG}; \
         systemctl start nestos-update"
    ));
    assert_eq!(deployed(&guest.status(), "staged")["digest"], bad.as_str());
    guest.reboots_after(&format!("sed -i /window/d {CONFIG}; systemctl --no-block start nestos-update"));
    guest.wait_for_base();
    let status = guest.status();
    let left = deployed(&status, "other");
    assert_eq!((&left["digest"], &left["health"]), (&Value::from(bad), &Value::from("failed")));
    let reason = left["reason"].as_str().unwrap();
    assert!(reason.contains("health.d/50-no") && reason.contains("exit status: 1"), "{reason}");
    runs_base(&guest);
    guest.run(&format!("sed -i s/reboot/off/ {CONFIG}"));
    let said = guest.run("nestos-update upgrade");
    assert!(said.contains("failed on this machine") && said.contains("--retry"), "{said}");

    // A kernel that GRUB cannot load, and one that panics in each of its three boots: both times the machine comes
    // back with nobody there.
    let modules = format!("usr/lib/modules/{}", shelf.kernel());
    for (version, file, reason) in [
        ("derived.3", "vmlinuz", "the boot loader could not start it, or was told to take another"),
        ("derived.4", "initramfs.img", "it did not come up in 3 boots"),
    ] {
        let broken = format!("{modules}/{file}");
        let broken = shelf.push(version, &[SERVICE, &[(&broken, 0o644, &noise(1 << 20)[..])]].concat());
        guest.reboots_after("nestos-update upgrade --reboot");
        runs_base(&guest);
        let status = guest.status();
        let left = deployed(&status, "other");
        assert_eq!((&left["digest"], &left["reason"]), (&Value::from(broken), &Value::from(reason)));
        assert_eq!(left["health"], "failed");
    }
}

/// A moment of an update: its name, and what tells that it has come.
enum Moment {
    /// The layer is on its way.
    Fetching,
    /// The image is being put together.
    Merging,
    /// The deployment is staged.
    Staged,
    /// The machine goes down, and ostree writes the new boot entries.
    Finalizing,
    /// The new deployment's kernel has started.
    Booting,
}

#[test]
fn a_power_cut_at_any_point_of_an_update_leaves_a_machine_that_boots_and_updates() {
    let Some(shared) = shared() else { return };
    let Some(registry) = Registry::start() else { return };
    let shelf = Shelf::new(&shared, registry);
    let image = format!("{}/os:latest", shelf.seen_from_inside());
    let lab = Lab::new(&shared, &shelf.seen_from_inside());
    let (guest, memory) = lab.first_boot();
    runs_base(&guest);
    guest.run("echo edited > /etc/issue");
    // What all forks need is fetched once: each begins with an update staged, and a newer one in the registry.
    shelf.push("derived.0", SERVICE);
    guest.run(&format!("nestos-update switch {image}"));
    let template = guest.freeze(memory);
    let large = noise(8 << 20);
    let good = shelf.push("derived.1", &[SERVICE, &[("usr/share/large", 0o644, &large[..])]].concat());
    let mut left = None;
    for (name, moment) in [
        ("fetching", Moment::Fetching),
        ("merging", Moment::Merging),
        ("staged", Moment::Staged),
        ("finalizing", Moment::Finalizing),
        ("booting", Moment::Booting),
    ] {
        let mut guest = lab.fork(&template, name);
        let console = guest.console().len();
        guest.begin("nestos-update upgrade > /run/said 2>&1");
        reach(&mut guest, console, &moment);
        let disk = guest.cut();
        let guest = lab.boot(&format!("{name}-again"), &disk);
        let status = guest.status();
        // Nothing has changed until ostree has written the new boot entries.
        let runs = &deployed(&status, "booted")["digest"];
        match moment {
            Moment::Fetching | Moment::Merging | Moment::Staged => assert!(runs.is_null(), "{status:#}"),
            Moment::Finalizing => assert!(runs.is_null() || *runs == good.as_str(), "{status:#}"),
            Moment::Booting => assert_eq!(*runs, good.as_str(), "{status:#}"),
        }
        assert_eq!(guest.health(), "good", "{name}");
        if matches!(moment, Moment::Merging) {
            left = Some(guest.cut());
        }
    }
    // Where most was half done, a later switch goes on and ends well.
    let mut guest = lab.boot("later", &left.unwrap());
    guest.run(&format!("nestos-update switch {image}"));
    guest.reboot();
    runs_derived(&guest, &good);
    guest.run("ostree fsck --quiet");
}

/// Bytes that do not shrink.
fn noise(size: usize) -> Vec<u8> {
    let mut seed = 1_u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..size / 8).flat_map(|_| next().to_le_bytes()).collect()
}

/// Waits until an update that was begun has come to a moment.
fn reach(guest: &mut Guest, console: usize, moment: &Moment) {
    let until = |what: &str| guest.run(&format!("until grep -q '{what}' /run/said; do sleep 0.2; done"));
    match moment {
        Moment::Fetching => drop(until("^fetching")),
        Moment::Merging => drop(until("layer \\([0-9]*\\) of \\1,")),
        Moment::Staged => drop(until("^staged")),
        Moment::Finalizing | Moment::Booting => {
            until("^staged");
            guest.run("systemctl --no-block reboot");
            let words: &[&str] = match moment {
                Moment::Finalizing => &["Stopping", "ostree-finalize-staged.s"],
                _ => &["Linux version"],
            };
            guest.wait_for(console, words);
        }
    }
}
