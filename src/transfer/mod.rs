//! Builds to and from elsewhere: a directory, a web server, S3. What is fetched is checked against its own
//! record before anything of it appears in the workdir; what is uploaded is listed last.
//!
//! ```text
//! URL/builds.json
//! URL/ID/ARCH/meta.json …        as in builds/
//! ```

mod directory;
mod fetch;
mod http;
mod remote;
mod s3;
mod upload;

pub use fetch::{Fetch, Fetched, fetch, last_url};
pub use remote::{Access, Remote};
pub use upload::{Upload, Uploaded, upload};
