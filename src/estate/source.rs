//! One way to read a cluster, whatever tells of it.

use serde_json::Value;

use super::objects::ObjectRef;
use super::unavailable::Unavailable;

/// How many requests run at once.
pub const AT_ONCE: usize = 16;

/// A cluster that can be read.
///
/// Objects are JSON values, as the API server has them; none of them needs to be valid.
pub trait Source {
    /// One object.
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable>;
}

/// The text at a JSON pointer; empty where there is none.
pub fn text<'o>(object: &'o Value, pointer: &str) -> &'o str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
