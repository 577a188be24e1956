//! What the API server asks of `metadata`, whatever the kind (`k8s.io/apimachinery`, meta/v1 and its validation).

use std::collections::HashSet;
use std::ops::Range;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize as _;
use serde_json::Value as Json;

use super::finding::Found;
use super::rules::{
    ANNOTATION_FORMAT, ANNOTATION_NEAR_MISS, FOREIGN_FINALIZER, LABEL_FORMAT, NAME_FORMAT, NAMESPACE_IGNORED,
    OWNER_REFERENCE, REQUIRED_FIELD, Rule, UNKNOWN_FIELD, WRONG_TYPE,
};
use super::schema::article;
use crate::manifest::{Entry, Node, Value, json_path};
use crate::plane::{
    DEFAULT_KIND, DESCRIPTION, DISPLAY_NAME, Kind, Scope, is_dns_label, is_dns_subdomain, is_label_value,
    is_qualified_name,
};
use crate::text::visible;

/// The fields of ObjectMeta (`k8s.io/apimachinery`, meta/v1).
const FIELDS: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];
/// Largest size of all annotations together, in bytes (`TotalAnnotationSizeLimitB`).
const ANNOTATIONS_LIMIT: usize = 256 << 10;

const KEY_SYNTAX: &str = "key must be [prefix/]name of letters, digits, `-`, `_` and `.`";

pub(super) fn check(root: &Node, plane: &Kind, found: &mut Found) {
    let kind = root.entry("kind").map_or_else(|| root.span.clone(), |entry| entry.key_span.clone());
    let Some(entry) = root.entry("metadata").filter(|entry| !entry.node.is_null()) else {
        found.add(&REQUIRED_FIELD, kind, "metadata.name", "a plane needs a name", "metadata.name is missing");
        return;
    };
    let Value::Mapping(fields) = &entry.node.value else {
        let label = entry.node.type_name();
        found.add(&WRONG_TYPE, entry.node.span.clone(), "metadata", "metadata must be an object", label);
        return;
    };
    for field in fields {
        let path = json_path("metadata", &field.key);
        check_field(field, &path, found);
        if field.key == "namespace" && plane.scope == Scope::Namespaced {
            namespace(field, &path, found);
        }
    }
    let named = |key| entry.node.get(key).is_some_and(|node| !node.is_null() && node.as_str() != Some(""));
    if !named("name") && !named("generateName") {
        found.add(&REQUIRED_FIELD, entry.key_span.clone(), "metadata.name", "a plane needs a name", "name is missing");
    }
}

fn check_field(field: &Entry, path: &str, found: &mut Found) {
    if !FIELDS.contains(&field.key.as_str()) {
        unknown(field, path, &FIELDS, found);
        return;
    }
    if !matches!(field.key.as_str(), "labels" | "annotations") && !typed(field, path, found) {
        return;
    }
    match field.key.as_str() {
        "name" => name(field, path, found),
        "generateName" => generate_name(field, path, found),
        "labels" => labels(field, path, found),
        "annotations" => annotations(field, path, found),
        "finalizers" => finalizers(field, path, found),
        "ownerReferences" => owner_references(field, path, found),
        _ => {}
    }
}

/// What the API server ignores, though it was meant for something.
pub(super) fn practice(root: &Node, kind: &Kind, found: &mut Found) {
    let metadata = root.get("metadata").map(Node::entries).unwrap_or_default();
    for field in metadata {
        let path = json_path("metadata", &field.key);
        if field.key == "namespace"
            && kind.scope == Scope::Cluster
            && field.node.as_str().is_some_and(|namespace| !namespace.is_empty())
        {
            let message = format!("a {} has no namespace: the namespace is ignored", kind.kind);
            found.add(&NAMESPACE_IGNORED, field.key_span.clone(), &path, message, "ignored").help =
                Some("remove it".into());
        }
        if field.key == "finalizers" {
            foreign_finalizers(field, &path, kind, found);
        }
        if field.key == "annotations" {
            for entry in field.node.entries() {
                near_miss(entry, &json_path(&path, &entry.key), found);
            }
        }
    }
}

fn foreign_finalizers(field: &Entry, path: &str, kind: &Kind, found: &mut Found) {
    for (index, item) in field.node.items().iter().enumerate() {
        if item.as_str().is_some_and(|text| kind.is_foreign_finalizer(text)) {
            let message =
                format!("no controller removes this finalizer from a {}: it could never be deleted", kind.kind);
            let path = format!("{path}[{index}]");
            found.add(&FOREIGN_FINALIZER, item.span.clone(), &path, message, "finalizer of another kind").help =
                Some("remove it".into());
        }
    }
}

fn near_miss(entry: &Entry, path: &str, found: &mut Found) {
    let known = [DISPLAY_NAME, DESCRIPTION];
    let key = entry.key.to_lowercase();
    if known.contains(&entry.key.as_str()) || key.len() > 2 * DISPLAY_NAME.len() {
        return;
    }
    // One of another group or without any, or nearly so spelled.
    let plain = |text: &str| text.replace(['-', '_', '.'], "");
    let meant = known.into_iter().find(|known| {
        let name = known.rsplit('/').next().unwrap_or(known);
        let (prefix, suffix) = key.rsplit_once('/').unwrap_or(("", &key));
        let of_openchoreo = prefix.contains("openchoreo");
        strsim::damerau_levenshtein(&key, known) <= 2
            || (of_openchoreo && strsim::damerau_levenshtein(&plain(suffix), &plain(name)) <= 2)
    });
    if let Some(meant) = meant {
        let message = format!("OpenChoreo does not read the annotation {}", visible(&entry.key));
        found
            .add(&ANNOTATION_NEAR_MISS, entry.key_span.clone(), path, message, "similar to an annotation of OpenChoreo")
            .help = Some(format!("did you mean `{meant}`? The group is {}", DEFAULT_KIND.group));
    }
}

fn unknown(field: &Entry, path: &str, known: &[&str], found: &mut Found) {
    let distance = |name: &&&str| strsim::damerau_levenshtein(&name.to_lowercase(), &field.key.to_lowercase());
    let short = field.key.len() < 64;
    let nearest = known.iter().filter(|_| short).min_by_key(distance).filter(|name| distance(name) <= 2);
    let message = format!("there is no field {}", visible(path));
    found.add(&UNKNOWN_FIELD, field.key_span.clone(), path, message, "unknown").help =
        nearest.map(|name| format!("did you mean `{name}`?"));
}

fn labels(field: &Entry, path: &str, found: &mut Found) {
    texts(field, path, found, |entry, text| {
        if !is_qualified_name(&entry.key) {
            Some((entry.key_span.clone(), &LABEL_FORMAT, format!("a label's {KEY_SYNTAX}")))
        } else if !is_label_value(text) {
            let message = "a label's value must be at most 63 letters, digits, `-`, `_` and `.`";
            Some((entry.node.span.clone(), &LABEL_FORMAT, message.to_owned()))
        } else {
            None
        }
    });
}

fn annotations(field: &Entry, path: &str, found: &mut Found) {
    let mut size = 0;
    texts(field, path, found, |entry, text| {
        size += entry.key.len() + text.len();
        let wrong = !is_qualified_name(&entry.key.to_lowercase());
        wrong.then(|| (entry.key_span.clone(), &ANNOTATION_FORMAT, format!("an annotation's {KEY_SYNTAX}")))
    });
    if size > ANNOTATIONS_LIMIT {
        let message = format!("the annotations are larger than {} KiB together", ANNOTATIONS_LIMIT >> 10);
        found.add(&ANNOTATION_FORMAT, field.key_span.clone(), path, message, format!("{size} bytes"));
    }
}

fn finalizers(field: &Entry, path: &str, found: &mut Found) {
    const EXCLUSIVE: [&str; 2] = ["orphan", "foregroundDeletion"];
    let mut seen = [false; 2];
    for (index, item) in field.node.items().iter().enumerate() {
        let text = item.as_str().unwrap_or_default();
        let exclusive = EXCLUSIVE.iter().position(|name| *name == text);
        let message = if !is_qualified_name(text) {
            "a finalizer must be [prefix/]name of letters, digits, `-`, `_` and `.`"
        } else if exclusive.is_some_and(|which| seen[1 - which]) {
            "the finalizers orphan and foregroundDeletion exclude each other"
        } else {
            exclusive.into_iter().for_each(|which| seen[which] = true);
            continue;
        };
        found.add(&NAME_FORMAT, item.span.clone(), &format!("{path}[{index}]"), message, "");
    }
}

fn owner_references(field: &Entry, path: &str, found: &mut Found) {
    let (mut controllers, mut seen) = (0, HashSet::new());
    for (index, item) in field.node.items().iter().enumerate() {
        // The API server takes out doubles before it looks.
        if !seen.insert(item.to_json().to_string()) {
            continue;
        }
        let path = format!("{path}[{index}]");
        let place = item.entries().first().map_or_else(|| item.span.clone(), |entry| entry.key_span.clone());
        let text = |key: &str| item.get(key).and_then(Node::as_str).unwrap_or_default();
        for key in ["apiVersion", "kind", "name", "uid"] {
            let given = match key {
                "apiVersion" => text(key).split('/').count() <= 2 && !text(key).is_empty() && !text(key).ends_with('/'),
                key => !text(key).is_empty(),
            };
            if !given {
                let message =
                    format!("an owner reference needs {}", if key == "apiVersion" { "an apiVersion" } else { key });
                let label = format!("{key} is missing");
                found.add(&OWNER_REFERENCE, place.clone(), &json_path(&path, key), message, label);
            }
        }
        if text("apiVersion") == "v1" && text("kind") == "Event" {
            found.add(&OWNER_REFERENCE, place, &path, "an Event can't be an owner", "");
        }
        if let Some(entry) = item.entry("controller").filter(|entry| entry.node.value == Value::Bool(true)) {
            controllers += 1;
            if controllers > 1 {
                let message = "only one owner reference can be the controller";
                found.add(
                    &OWNER_REFERENCE,
                    entry.key_span.clone(),
                    &json_path(&path, "controller"),
                    message,
                    "another",
                );
            }
        }
    }
}

/// Whether a field has the type that ObjectMeta gives it; fields inside it that this doesn't have are reported, too.
fn typed(field: &Entry, path: &str, found: &mut Found) -> bool {
    let read = |value: Json| ObjectMeta::deserialize(serde_json::json!({field.key.clone(): value}));
    let known: &[&str] = match field.key.as_str() {
        "ownerReferences" => &["apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion"],
        "managedFields" => &["apiVersion", "fieldsType", "fieldsV1", "manager", "operation", "subresource", "time"],
        _ => &[],
    };
    let items = match &field.node.value {
        Value::Sequence(items) if !known.is_empty() => items,
        _ => return read(field.node.to_json()).is_ok() || mistyped(&field.node, path, found),
    };
    // One by one, as there may be many.
    let mut fits = true;
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        // Go decodes a null as an item without fields.
        if item.is_null() && field.key == "managedFields" {
            continue;
        }
        if read(Json::Array(vec![item.to_json()])).is_err() {
            fits = mistyped(item, &path, found);
            continue;
        }
        for entry in item.entries().iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            unknown(entry, &json_path(&path, &entry.key), known, found);
        }
    }
    fits
}

/// Says that a value is not of its field's type, which is no.
fn mistyped(node: &Node, path: &str, found: &mut Found) -> bool {
    let (path, is) = (visible(path), article(node.type_name()));
    let of_numbers = ["metadata.generation", "metadata.deletionGracePeriodSeconds"];
    let is_bare = matches!(node.value, Value::Bool(_) | Value::Number(_)) && !of_numbers.contains(&&*path);
    let message = match is_bare {
        true => format!("{path} must be a string, but is {is}"),
        false => format!("{path} has an invalid form"),
    };
    let finding = found.add(&WRONG_TYPE, node.span.clone(), &path, message, format!("{is} here"));
    finding.help = is_bare.then(|| "put it in quotes to make it a string".into());
    false
}

fn name(field: &Entry, path: &str, found: &mut Found) {
    if field.node.as_str().is_some_and(|name| !name.is_empty() && !is_dns_subdomain(name)) {
        let message =
            "a name must be lower-case letters, digits, hyphens and dots, with a letter or digit at both ends";
        found.add(&NAME_FORMAT, field.node.span.clone(), path, message, "not a DNS subdomain");
    }
}

fn namespace(field: &Entry, path: &str, found: &mut Found) {
    if field.node.as_str().is_some_and(|name| !name.is_empty() && !is_dns_label(name)) {
        let message = "a namespace must be lower-case letters, digits and hyphens, with a letter or digit at both ends";
        found.add(&NAME_FORMAT, field.node.span.clone(), path, message, "not a DNS label");
    }
}

fn generate_name(field: &Entry, path: &str, found: &mut Found) {
    // The API server masks a hyphen at the end with what is before it, and appends five characters to 58 at most.
    let masked = |prefix: &str| match prefix.char_indices().nth_back(1) {
        Some((at, _)) if prefix.ends_with('-') => format!("{}a", &prefix[..at]),
        _ => prefix.to_owned(),
    };
    let begins = |prefix: &str| {
        is_dns_subdomain(&masked(prefix))
            && is_dns_subdomain(&format!("{}x", prefix.chars().take(58).collect::<String>()))
    };
    if field.node.as_str().is_some_and(|prefix| !prefix.is_empty() && !begins(prefix)) {
        let message = "a name made from it must be lower-case letters, digits, hyphens and dots";
        found.add(&NAME_FORMAT, field.node.span.clone(), path, message, "not the start of a DNS subdomain");
    }
}

type Wrong = (Range<usize>, &'static Rule, String);

/// A mapping of texts, each judged by `wrong`.
fn texts(field: &Entry, path: &str, found: &mut Found, mut wrong: impl FnMut(&Entry, &str) -> Option<Wrong>) {
    match &field.node.value {
        Value::Null => {}
        Value::Mapping(entries) => {
            for entry in entries {
                let path = json_path(path, &entry.key);
                let text = match &entry.node.value {
                    // As Go decodes it: an empty text.
                    Value::Null => "",
                    Value::String(text) => text,
                    _ => {
                        let message =
                            format!("{} must be a string, but is {}", visible(&path), article(entry.node.type_name()));
                        found.add(&WRONG_TYPE, entry.node.span.clone(), &path, message, "").help =
                            Some("put the value in quotes".into());
                        continue;
                    }
                };
                if let Some((span, rule, message)) = wrong(entry, text) {
                    found.add(rule, span, &path, message, "");
                }
            }
        }
        _ => {
            let message = format!("{} must be an object", field.key);
            let label = format!("{} here", article(field.node.type_name()));
            found.add(&WRONG_TYPE, field.node.span.clone(), path, message, label);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::validate::tests::{SECRET, found, plane, plane_of};

    #[test]
    fn metadata_is_held() {
        let with = |metadata: &str| {
            plane(&format!("{{planeID: a, {SECRET}}}"))
                .replace("metadata:\n  name: a", &format!("metadata: {metadata}"))
        };
        let cases = [
            ("{name: A}", "name-format", "A"),
            ("{}", "required-field", "metadata"),
            ("{name: a, labels: {-a: b}}", "label-format", "-a"),
            ("{name: a, labels: {a: 1}}", "wrong-type", "1"),
            ("{name: a, label: {}}", "unknown-field", "label"),
            ("{name: a, generation: x}", "wrong-type", "x"),
            ("{name: a, creationTimestamp: yesterday}", "wrong-type", "yesterday"),
            ("{name: a, finalizers: x}", "wrong-type", "x"),
            ("{name: a, finalizers: [a/b, a/b/c]}", "name-format", "a/b/c"),
            ("{name: a, finalizers: [orphan, foregroundDeletion]}", "name-format", "foregroundDeletion"),
            ("{name: a, ownerReferences: {}}", "wrong-type", "{}"),
            ("{name: a, ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: u, x: y}]}", "unknown-field", "x"),
            ("{name: a, ownerReferences: [{apiVersion: v1, kind: A, name: a, uid: u, x: ~}]}", "unknown-field", "x"),
            (
                "{name: a, managedFields: [{operation: Apply, fieldsType: FieldsV1, apiVersion: v1, name: n}]}",
                "unknown-field",
                "name",
            ),
            ("{name: a, managedFields: [{operation: 1}]}", "wrong-type", "{operation: 1}"),
            ("{generateName: Foo-}", "name-format", "Foo-"),
            ("{generateName: foo.-}", "name-format", "foo.-"),
            (
                "{name: a, annotations: {openchoreo.io/display-name: x}}",
                "annotation-near-miss",
                "openchoreo.io/display-name",
            ),
        ];
        for (metadata, rule, at) in cases {
            assert_eq!(found(&with(metadata)), [(rule, at.to_owned())], "{metadata}");
        }
        let data = |metadata: &str| {
            plane_of("DataPlane", "{clusterAgent: {clientCA: {secretKeyRef: {name: ca, key: k}}}}")
                .replace("{name: a, namespace: team}", metadata)
        };
        assert_eq!(found(&data("{name: a, namespace: a.b}")), [("name-format", "a.b".to_owned())]);
        for good in ["{name: a}", "{name: a, namespace: team}"] {
            assert_eq!(found(&data(good)), [], "{good}");
        }
        for good in [
            "{generateName: foo-}",
            "{name: a, annotations: {example.com/description: x}}",
            "{name: a, labels: null}",
            // What the API server can't decode of these it leaves out.
            "{name: a, managedFields: [~, {manager: m}, {operation: Delete, fieldsType: X}]}",
        ] {
            assert_eq!(found(&with(good)), [], "{good}");
        }
    }
}
