//! Boot tests in kola's external format: discovery, selection, Ignition, running, reporting. It does
//! not know how an image was built.

mod case;
mod denylist;
mod discovery;
mod header;
mod ignition;
mod kit;
mod lab;
mod plan;
mod report;
mod run;
mod scan;
mod selection;
mod session;

pub use denylist::{Circumstances, Denylist, Verdict};
pub use discovery::{Body, External, Root, Test, discover, examine};
pub use header::{Filter, Header, Needs};
pub use ignition::{Ignition, read_config};
pub use lab::{FirmwareKind, Lab};
pub use report::{Outcome, Report, TestResult};
pub use run::{Manner, run};
pub use scan::{Finding, dead, scan};
pub use selection::{Selected, Selection, Shard, matches, select};
pub use session::Session;
