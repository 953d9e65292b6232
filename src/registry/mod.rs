//! Container registries: images pushed, fetched and copied as they are, every digest kept (OCI distribution
//! spec 1.1). Blocking from outside; what waits on the network inside is async.
//!
//! ```text
//! access ─► credentials ─┐
//!           tls ─────────┴► client (one repository: sign-in, retries) ─► upload, download
//! document (manifests, indexes) ─► source ─► push | pull | copy | multiarch        sign (skopeo)
//! ```
//!
//! The protocol is spoken over reqwest. oci-client 0.18 hides what this room must know: it drops Retry-After,
//! follows redirects from https to http, keeps an upload's address to itself (so that none can be resumed), and
//! takes a refused token for none.

mod access;
mod backoff;
mod client;
mod copy;
mod credentials;
mod document;
mod download;
mod meter;
mod multiarch;
mod pull;
mod push;
mod sign;
mod source;
mod tls;
mod token;
mod trouble;
mod upload;

pub use access::{Access, Secret};
pub use copy::{Copied, copy, copy_apart};
pub use multiarch::{IndexRequest, PushedIndex, push_index};
pub use pull::{Pulled, pull};
pub use push::{Pushed, push};
pub use sign::{SigstoreKey, sign};
