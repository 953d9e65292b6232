//! The integration tests, one binary: a file a subject, each driving the real `nosa`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_config;
mod boot;
mod broken;
mod conformance;
mod dialect;
mod disk;
mod fixture;
mod hard;
mod judge;
mod layers;
mod oci;
mod ostree;
mod overrides;
mod record;
mod record_diff;
mod record_files;
mod record_transfer;
mod registry_server;
mod reproducible;
mod rpm_system;
mod sample;
mod server;
mod small;
mod update;
mod variants;
mod whole;
mod why;
