//! One file a verb: its flags, and what it does with them, read from top to bottom.

pub mod apply;
pub mod bootstrap;
pub mod certs;
pub mod crd;
pub mod create;
pub mod delete;
pub mod describe;
pub mod diff;
pub mod doctor;
pub mod dump;
mod error;
pub mod forecast;
pub mod get;
mod helm;
mod remains;
mod sharing;
mod steps;
pub mod validate;
pub mod version;
pub mod wait;
pub mod watch;
mod watched;

use serde_json::Value;

pub use error::text as error_text;

use crate::args::ObjectFormat;
use crate::manifest::{json_text, to_yaml};
use crate::plane::CLUSTER_BUILD_PLANE;
use crate::term::{Exit, Term};

/// `clusterbuildplane.openchoreo.dev/NAME`, as kubectl names an object that it wrote.
fn object_name(name: &str) -> String {
    format!("{}/{}", CLUSTER_BUILD_PLANE.type_name(), crate::text::visible(name))
}

/// Prints an object in the format that was asked for.
fn print_object(term: &Term, object: &Value, format: ObjectFormat) -> anyhow::Result<()> {
    match format {
        ObjectFormat::Yaml => term.print(&to_yaml(object)?),
        ObjectFormat::Json => term.line(&json_text(object)?),
        ObjectFormat::Name => {
            term.line(&object_name(object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()))
        }
    }
}

/// Prints several objects: documents in YAML, a List in JSON, a line each by name.
fn print_objects(term: &Term, objects: &[Value], format: ObjectFormat) -> anyhow::Result<()> {
    match (format, objects) {
        (_, [object]) => print_object(term, object, format),
        (ObjectFormat::Json, objects) => term.line(&json_text(&list(objects))?),
        (ObjectFormat::Yaml, objects) => {
            let documents = objects.iter().map(to_yaml).collect::<anyhow::Result<Vec<_>>>()?;
            term.print(&documents.join("---\n"))
        }
        (ObjectFormat::Name, objects) => objects.iter().try_for_each(|object| print_object(term, object, format)),
    }
}

/// Objects as one List, which is how kubectl prints several.
fn list(objects: &[Value]) -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}

/// Takes out what says who wrote which field, as kubectl does.
fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

/// Tells of the planes that don't exist, and how that ends.
fn tell_missing(missing: &[anyhow::Error], term: &Term) -> Exit {
    missing.iter().for_each(|error| term.error(&error_text(error)));
    if missing.is_empty() { Exit::Done } else { Exit::NotFound }
}
