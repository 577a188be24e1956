//! Manifests of OpenChoreo v0.17 as those of v1.0 and later: planes and what refers to them.
//!
//! Not here: files, and how it is shown.

mod carry;
mod rules;
mod survey;

pub use carry::{Carried, Left, carry};
pub use survey::Survey;
