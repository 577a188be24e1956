//! Objects as the verbs print them: whole, or by the names that kubectl gives them.

use serde_json::Value;

use crate::args::{ObjectFormat, WriteArgs};
use crate::manifest::{json_text, to_yaml};
use crate::plane::PlaneKey;
use crate::term::Term;
use crate::text::visible;

/// Returns `clusterbuildplane.openchoreo.dev/NAME`, as kubectl names an object that it wrote.
pub fn object_name(plane: &PlaneKey) -> String {
    format!("{}/{}", plane.kind.type_name(), visible(&plane.name))
}

/// Prints what was written: a line each with what was done, or the objects in the format that was asked for.
pub fn report(term: &Term, args: &WriteArgs, done: &[(Value, &str)]) -> anyhow::Result<()> {
    let name = |object| object_name(&PlaneKey::of_object(object));
    match (args.output, done) {
        (None, _) => done
            .iter()
            .try_for_each(|(object, word)| term.line(&format!("{} {word}{}", name(object), args.dry_run.suffix()))),
        (Some(ObjectFormat::Name), _) => done.iter().try_for_each(|(object, _)| term.line(&name(object))),
        (Some(ObjectFormat::Json), [(object, _)]) => term.line(&json_text(object)?),
        (Some(ObjectFormat::Json), _) => term.line(&json_text(&list(done.iter().map(|(object, _)| object)))?),
        (Some(ObjectFormat::Yaml), _) => {
            let documents = done.iter().map(|(object, _)| to_yaml(object)).collect::<anyhow::Result<Vec<_>>>()?;
            term.print(&documents.join("---\n"))
        }
    }
}

/// Objects as one List, which is how kubectl prints several.
pub fn list<'o>(objects: impl Iterator<Item = &'o Value>) -> Value {
    let objects: Vec<_> = objects.collect();
    serde_json::json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": ""}, "items": objects})
}

/// The name in a manifest; empty where it has none.
pub fn name(manifest: &Value) -> &str {
    manifest.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}
