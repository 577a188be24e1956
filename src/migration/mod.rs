//! Manifests of OpenChoreo v0.17 as those of v1.0 and later: planes and what refers to them.
//!
//! Not here: files, and how it is shown.

mod carry;
mod record;
mod rules;
mod survey;
mod workflows;

pub use carry::{Carried, Left, carry};
pub use record::{Record, documents, is_of_chart, is_outdated, is_own};
pub use rules::{PULL_SECRETS, REFERENCE};
pub use survey::Survey;
pub use workflows::{Moved, could_be_default, default_plane, is_right, moved, renamed};
