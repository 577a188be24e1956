//! Remarks on certificates that are looked at together.

use serde::Serialize;

/// A remark on one certificate, with a stable id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remark {
    pub id: &'static str,
    pub text: String,
}

impl Remark {
    pub fn new(id: &'static str, text: impl Into<String>) -> Self {
        Self { id, text: text.into() }
    }
}
