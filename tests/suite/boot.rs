//! Boots of the shared build in QEMU, by nosa's own kola: every shipped test under BIOS, and under UEFI the
//! ones that prove firmware, first boot and second boot.

use std::fs;

use serde_json::Value;

use crate::fixture::{nosa, said, shared};
use nosa::host::Cmd;

fn kola(firmware: &str, patterns: &[&str]) {
    let Some(shared) = shared() else { return };
    let place = tempfile::Builder::new().prefix("nosa-kola-").tempdir_in(shared.parent().unwrap()).unwrap();
    let call = Cmd::program(nosa())
        .arg("-C")
        .arg(shared.as_os_str())
        .args(["kola", "run", "--qemu-firmware", firmware, "--output-dir"])
        .arg(place.path().as_os_str())
        .args(patterns);
    let (code, text) = said(call);
    assert_eq!(code, 0, "{text}");
    let report = fs::read_to_string(place.path().join("reports/report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let tests = report["tests"].as_array().unwrap();
    for pattern in patterns {
        assert!(tests.iter().any(|test| test["name"] == **pattern), "{pattern} did not run:\n{text}");
    }
    for test in tests {
        assert_eq!(test["result"], "PASS", "{test}");
    }
    let junit = fs::read_to_string(place.path().join("reports/junit.xml")).unwrap();
    assert_eq!(junit.matches("<testcase ").count(), tests.len(), "{junit}");
    if patterns.is_empty() {
        assert!(tests.len() >= 7, "{text}");
    }
}

#[test]
fn every_shipped_test_passes_under_bios() {
    kola("bios", &[]);
}

#[test]
fn the_image_boots_under_uefi_and_ignition_runs_once() {
    kola("uefi", &["basic", "ext.nosa.ignition.applied-once"]);
}
