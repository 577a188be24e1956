//! Rules over a manifest: what the API server would reject, what no agent could connect through, and what hurts later.
//!
//! Not here: reading the text (manifest), and showing what was found (render).

mod cel;
mod crd;
mod fields;
mod finding;
mod fix;
mod format;
mod gateway;
mod identity;
mod memory;
mod metadata;
mod neighbours;
mod releases;
mod rules;
mod schema;
mod server;
#[cfg(test)]
pub mod tests;
mod validator;

pub use crd::CrdError;
pub use finding::{Finding, Judgement, Kept};
pub use fix::{Fix, applied};
pub use neighbours::{Neighbours, ca_shared, plane_id_shared};
pub use rules::{Judge, MARKS, NO_PLANE, RULES, Rule, Severity};
pub use schema::Resource;
pub use validator::{Validator, judge};
