//! Objects as the verbs print them: whole, or by the names that kubectl gives them.

use serde_json::Value;

use crate::args::ObjectFormat;
use crate::manifest::{json_text, to_yaml};
use crate::plane::PlaneKey;
use crate::term::Term;
use crate::text::visible;

/// Returns `clusterbuildplane.openchoreo.dev/NAME`, as kubectl names an object that it wrote.
pub fn object_name(plane: &PlaneKey) -> String {
    format!("{}/{}", plane.kind.type_name(), visible(&plane.name))
}

/// Prints an object in the format that was asked for.
pub fn print_object(term: &Term, object: &Value, format: ObjectFormat) -> anyhow::Result<()> {
    match format {
        ObjectFormat::Yaml => term.print(&to_yaml(object)?),
        ObjectFormat::Json => term.line(&json_text(object)?),
        ObjectFormat::Name => term.line(&object_name(&PlaneKey::of_object(object))),
    }
}

/// Prints several objects: documents in YAML, a List in JSON, a line each by name.
pub fn print_objects(term: &Term, objects: &[Value], format: ObjectFormat) -> anyhow::Result<()> {
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
pub fn list(objects: &[Value]) -> Value {
    serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}

/// Takes out what says who wrote which field, as kubectl does.
pub fn without_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
}

/// The name in a manifest; empty where it has none.
pub fn name(manifest: &Value) -> &str {
    manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}
