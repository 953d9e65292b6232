//! Running programs inside a root: a user namespace with subordinate ids, then bubblewrap without
//! network and with nothing of the host writable. It does not know what the programs are for.
//!
//! [`enter`] moves the whole nosa process into a user namespace in which ids 0 to 65535 exist, the same
//! way for root and for an ordinary user, so that there is one path. [`Sandbox`] then runs single programs
//! of a tree in their own mount, process, network, IPC and UTS namespaces.

mod bubblewrap;
mod namespace;

pub use bubblewrap::Sandbox;
pub use namespace::{Entered, enter, is_inside};
