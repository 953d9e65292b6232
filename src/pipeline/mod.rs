//! The build's machinery: what a stage is, what its key is made of, where its output is kept, and what is
//! told while it runs. It knows no concrete stage.
//!
//! On disk, below the cache directory (`<workdir>/cache` unless one cache serves all workdirs):
//!
//! ```text
//! stages/<stage>/<key>/out/…          what the stage made
//! stages/<stage>/<key>/record.json    its key's inputs, by name; written last
//! stages/<stage>/<key>/unflushed      until the entry is known to be on disk
//! tmp/<stage>.<pid>/                  a stage at work; swept by the next run
//! ```
//!
//! and in the workdir `tmp/why/<stage>.json`: the record of the key that this workdir used last, which is
//! what a miss is compared with; `tmp/last-run.json` tells what the last run did and why.

mod cache;
mod events;
mod history;
mod key;
mod stage;

pub use cache::{Cache, Record};
pub use events::{Event, Progress, Reporter, Silent, Sink, Unit};
pub use history::{Run, StageRun};
pub use key::{Change, Digest, DigestParseError, Hashing, KeyHasher, Reason, sha256_file};
pub use stage::{Artifact, Pipeline, Stage, Workspace};
