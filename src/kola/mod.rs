//! Boot tests in kola's external format: discovery, selection, Ignition, running, reporting. It does
//! not know how an image was built.

mod denylist;
mod discovery;
mod header;
mod scan;
mod selection;

pub use denylist::{Circumstances, Denylist, Verdict};
pub use discovery::{Body, External, Root, Test, discover};
pub use header::{Filter, Header, Needs};
pub use scan::{Finding, dead, scan};
pub use selection::{Selected, Selection, Shard, matches, select};
