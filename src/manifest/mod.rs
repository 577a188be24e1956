//! Manifests in and out: YAML and JSON with the position of every key and value, and YAML as every reader understands it.
//!
//! Not here: what the fields mean.

mod dialect;
mod error;
mod input;
mod node;
mod object;
mod read;
mod write;

pub use error::Error;
#[cfg(test)]
pub use input::decode;
pub use input::{Input, list_inputs, read_bytes, read_text};
pub use node::{Entry, Node, Value, drop_nulls, json_path};
pub use object::{Object, objects, unfolded};
pub use read::{Document, Fault, FaultKind, Manifest, Part, in_runs, parse, parse_part};
pub use write::{json_line, json_text, to_yaml, write};
