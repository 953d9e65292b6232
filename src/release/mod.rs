//! What happens to a build once it is made: its artifacts compressed, checked, signed, and told to the world.
//! It does not know how any artifact is made.

mod compress;
mod metadata;
mod sign;
mod validate;

pub use compress::{Change, Job, compress, decompress};
pub use metadata::{Stream, release_metadata};
pub use sign::{GpgKey, Signed, sign};
pub use validate::{Finding, validate};
