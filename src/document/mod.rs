//! YAML and JSON as a tree in which every value knows its file, line and column.
//!
//! Configuration, lockfiles and test headers are read through it, so that each complaint can point at
//! the place. It knows no key of any of them.

mod node;
mod parse;
mod print;

pub use node::{Entry, Map, Node, Position, Value, nearest};
pub use parse::parse;
pub use print::{places, with_places};
