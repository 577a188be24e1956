//! What the API server asks of `metadata`, whatever the kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize as _;

use super::Found;
use super::rules::{
    ANNOTATION_FORMAT, LABEL_FORMAT, NAME_FORMAT, NAMESPACE_IGNORED, REQUIRED_FIELD, UNKNOWN_FIELD, WRONG_TYPE,
};
use crate::manifest::{Entry, Node, Value, json_path};
use crate::plane::{is_dns_subdomain, is_label_value, is_qualified_name};
use crate::term::visible;

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

pub(super) fn check(root: &Node, found: &mut Found<'_>) {
    let Some(entry) = root.entry("metadata").filter(|entry| !entry.node.is_null()) else {
        let place = root.entry("kind").map_or_else(|| root.span.clone(), |entry| entry.key_span.clone());
        found.add(&REQUIRED_FIELD, place, "metadata.name", "a plane needs a name", "metadata.name is missing");
        return;
    };
    let Value::Mapping(fields) = &entry.node.value else {
        found.add(&WRONG_TYPE, entry.node.span.clone(), "metadata", "metadata must be an object", "");
        return;
    };
    for field in fields {
        check_field(field, &json_path("metadata", &field.key), found);
    }
    let named = |key| entry.node.get(key).is_some_and(|node| !node.is_null() && node.as_str() != Some(""));
    if !named("name") && !named("generateName") {
        found.add(&REQUIRED_FIELD, entry.key_span.clone(), "metadata.name", "a plane needs a name", "name is missing");
    }
}

fn check_field(field: &Entry, path: &str, found: &mut Found<'_>) {
    match field.key.as_str() {
        "name" => name(field, path, found),
        "generateName" => generate_name(field, path, found),
        "labels" => texts(field, path, found, |entry, text| {
            if !is_qualified_name(&entry.key) {
                Some((entry.key_span.clone(), &LABEL_FORMAT, format!("a label's {KEY_SYNTAX}")))
            } else if !is_label_value(text) {
                let message = "a label's value must be at most 63 letters, digits, `-`, `_` and `.`";
                Some((entry.node.span.clone(), &LABEL_FORMAT, message.to_owned()))
            } else {
                None
            }
        }),
        "annotations" => annotations(field, path, found),
        "finalizers" => finalizers(field, path, found),
        known if FIELDS.contains(&known) => typed(field, path, found),
        unknown => {
            let distance = |name: &&&str| strsim::damerau_levenshtein(name, unknown);
            let nearest = FIELDS.iter().min_by_key(distance).filter(|name| distance(name) <= 2);
            let message = format!("there is no field {}", visible(path));
            found.add(&UNKNOWN_FIELD, field.key_span.clone(), path, message, "unknown").help =
                nearest.map(|name| format!("`{name}` was meant?"));
        }
    }
    if field.key == "namespace" && field.node.as_str().is_some_and(|namespace| !namespace.is_empty()) {
        let message = "a ClusterBuildPlane has no namespace: this one is ignored";
        found.add(&NAMESPACE_IGNORED, field.key_span.clone(), path, message, "ignored").help =
            Some("leave it out".into());
    }
}

fn annotations(field: &Entry, path: &str, found: &mut Found<'_>) {
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

fn finalizers(field: &Entry, path: &str, found: &mut Found<'_>) {
    typed(field, path, found);
    let wrong = |item: &&Node| item.as_str().is_some_and(|text| !is_qualified_name(text));
    for item in field.node.items().iter().filter(wrong) {
        let message = "a finalizer must be [prefix/]name of letters, digits, `-`, `_` and `.`";
        found.add(&NAME_FORMAT, item.span.clone(), path, message, "");
    }
}

fn generate_name(field: &Entry, path: &str, found: &mut Found<'_>) {
    typed(field, path, found);
    if field.node.as_str().is_some_and(|prefix| !prefix.is_empty() && !is_dns_subdomain(&format!("{prefix}x"))) {
        let message = "a name made from it must be lower-case letters, digits, hyphens and dots";
        found.add(&NAME_FORMAT, field.node.span.clone(), path, message, "no beginning of a DNS subdomain");
    }
}

/// Whether a field has the type that ObjectMeta gives it.
fn typed(field: &Entry, path: &str, found: &mut Found<'_>) {
    let alone = serde_json::json!({field.key.clone(): field.node.to_json()});
    if ObjectMeta::deserialize(alone).is_err() {
        let message = format!("{} does not have the form that it must have", visible(path));
        found.add(&WRONG_TYPE, field.node.span.clone(), path, message, field.node.type_name());
    }
}

fn name(field: &Entry, path: &str, found: &mut Found<'_>) {
    match &field.node.value {
        Value::String(name) if name.is_empty() || is_dns_subdomain(name) => {}
        Value::Null => {}
        Value::String(_) => {
            let message =
                "a name must be lower-case letters, digits, hyphens and dots, with a letter or digit at both ends";
            found.add(&NAME_FORMAT, field.node.span.clone(), path, message, "not a DNS subdomain");
        }
        _ => {
            found.add(&WRONG_TYPE, field.node.span.clone(), path, "a name must be a string", field.node.type_name());
        }
    }
}

type Wrong = (std::ops::Range<usize>, &'static super::Rule, String);

/// A mapping of texts, each judged by `wrong`.
fn texts(field: &Entry, path: &str, found: &mut Found<'_>, mut wrong: impl FnMut(&Entry, &str) -> Option<Wrong>) {
    match &field.node.value {
        Value::Null => {}
        Value::Mapping(entries) => {
            for entry in entries {
                let path = json_path(path, &entry.key);
                match &entry.node.value {
                    Value::Null => {}
                    Value::String(text) => {
                        if let Some((span, rule, message)) = wrong(entry, text) {
                            found.add(rule, span, &path, message, "");
                        }
                    }
                    _ => {
                        let message = format!("{} must be a string, and is {}", visible(&path), entry.node.type_name());
                        found.add(&WRONG_TYPE, entry.node.span.clone(), &path, message, "").help =
                            Some("put it in quotes".into());
                    }
                }
            }
        }
        _ => {
            found.add(
                &WRONG_TYPE,
                field.node.span.clone(),
                path,
                format!("{} must be an object", field.key),
                field.node.type_name(),
            );
        }
    }
}
