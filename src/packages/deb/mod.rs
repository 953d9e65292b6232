//! Debian's package format and database (deb(5), deb-control(5), dpkg(1)): reading, unpacking, and the
//! records that dpkg needs to finish the installation.

mod archive;
mod control;
mod database;
mod unpack;

pub use archive::Deb;
pub use control::{Paragraph, paragraphs, parse_evr};
pub use database::{Scripts, owners, write_database, write_triggers};
pub use unpack::{Tree, Unpacked};
