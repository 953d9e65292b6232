//! The integration tests, one binary: a file a subject, each driving the real `nosa`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_config;
mod boot;
mod broken;
mod conformance;
mod crafted;
mod derive;
mod dialect;
mod disk;
mod docker;
mod fixture;
mod hard;
mod import;
mod import_hostile;
mod judge;
mod layers;
mod oci;
mod oci_plan;
mod ostree;
mod overrides;
mod podman;
mod record;
mod record_diff;
mod record_files;
mod record_transfer;
mod registry;
mod registry_faults;
mod registry_image;
mod registry_proxy;
mod registry_server;
mod registry_sign;
mod registry_tls;
mod reproducible;
mod rpm_image;
mod rpm_system;
mod sample;
mod server;
mod small;
mod update;
mod variants;
mod whole;
mod why;
