//! What is known of a plane beside its own object, gathered once, each part with its own error; and notes on it.
//!
//! Not here: reaching the cluster (cluster), and showing what was found (render).

mod facts;
mod notes;

pub use facts::{ClientCa, Facts, Problem, client_cas, client_cas_of_files, facts, facts_of_files};
pub use notes::{Note, notes};
