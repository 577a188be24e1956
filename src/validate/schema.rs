//! The structure that a CRD demands, walked over a document so that each finding has its place.
//!
//! As the API server does: a null of a field that may not be null counts as absent, then defaults, then the checks,
//! then the CEL rules.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{LazyLock, OnceLock};

use kube_cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

use super::Found;
use super::rules::{
    CEL_RULE, CEL_UNKNOWN, LENGTH, NOT_IN_ENUM, OUT_OF_RANGE, PATTERN_MISMATCH, PLANE_ID_FORMAT, REQUIRED_FIELD,
    UNKNOWN_FIELD, WRONG_TYPE,
};
use crate::manifest::{Entry, Node, Value, json_path, parse, without_nulls};
use crate::plane::SECRET_KEY_REF;
use crate::term::visible;

/// A structural schema (apiextensions.k8s.io/v1), as far as the reference's CRD goes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Schema {
    #[serde(rename = "type")]
    kind: String,
    properties: BTreeMap<String, Schema>,
    required: Vec<String>,
    #[serde(rename = "enum")]
    allowed: Vec<Json>,
    pattern: Option<String>,
    min_length: Option<usize>,
    max_length: Option<usize>,
    minimum: Option<f64>,
    items: Option<Box<Schema>>,
    default: Option<Json>,
    nullable: bool,
    #[serde(skip)]
    regex: OnceLock<Option<Regex>>,
    #[serde(skip)]
    source: Json,
    #[serde(skip)]
    compiled: OnceLock<CompiledSchema>,
}

static CEL: LazyLock<Validator> = LazyLock::new(Validator::new);

/// Where a value stands: its path, and the key that leads to it.
struct Place<'a> {
    path: &'a str,
    key: Range<usize>,
}

impl Schema {
    /// The schema of a CRD's first version, out of the CRD's YAML.
    pub fn of_crd(yaml: &str) -> Option<Self> {
        let manifest = parse(String::new(), yaml.to_owned());
        let crd = manifest.documents.first()?.root.to_json();
        let source = crd.pointer("/spec/versions/0/schema/openAPIV3Schema")?.clone();
        let mut schema = Self::deserialize(&source).ok()?;
        // What a CRD says of these is not what the API server asks of them.
        for key in ["apiVersion", "kind", "metadata"] {
            schema.properties.insert(key.into(), Self::default());
        }
        schema.source = source;
        Some(schema)
    }

    pub(super) fn check(&self, root: &Node, found: &mut Found<'_>) {
        let before = found.findings.len();
        let key = root.entry("kind").map_or_else(|| root.span.clone(), |entry| entry.key_span.clone());
        self.walk(root, &Place { path: "", key }, found);
        if !found.findings[before..].iter().any(|finding| finding.rule.severity == super::Severity::Error) {
            self.check_cel(root, found);
        }
    }

    fn walk(&self, node: &Node, place: &Place<'_>, found: &mut Found<'_>) {
        if !self.has_type(node) {
            let message =
                format!("{} must be {}, and is {}", last(place.path), article(&self.kind), article(node.type_name()));
            let help = mistaken_text(node, &self.kind);
            found
                .add(&WRONG_TYPE, node.span.clone(), place.path, message, format!("{} here", article(node.type_name())))
                .help = help;
            return;
        }
        match &node.value {
            Value::Mapping(entries) => self.walk_mapping(entries, place, found),
            Value::Sequence(items) => {
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        schema.walk(
                            item,
                            &Place { path: &format!("{}[{index}]", place.path), key: item.span.clone() },
                            found,
                        );
                    }
                }
            }
            Value::String(text) => self.check_text(text, node, place, found),
            Value::Number(number) => self.check_range(number, node, place, found),
            Value::Null | Value::Bool(_) => {}
        }
        self.check_enum(node, place, found);
    }

    fn check_range(&self, number: &serde_json::Number, node: &Node, place: &Place<'_>, found: &mut Found<'_>) {
        if let (Some(minimum), Some(number)) = (self.minimum, number.as_f64())
            && number < minimum
        {
            let message = format!("{} must be at least {minimum}", last(place.path));
            found.add(&OUT_OF_RANGE, node.span.clone(), place.path, message, "");
        }
    }

    fn check_enum(&self, node: &Node, place: &Place<'_>, found: &mut Found<'_>) {
        if self.allowed.is_empty() || self.allowed.contains(&node.to_json()) {
            return;
        }
        let word = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let allowed: Vec<_> = self.allowed.iter().map(word).collect();
        let message = format!("{} must be {}", last(place.path), allowed.join(" or "));
        found.add(&NOT_IN_ENUM, node.span.clone(), place.path, message, "not one of them");
    }

    fn walk_mapping(&self, entries: &[Entry], place: &Place<'_>, found: &mut Found<'_>) {
        if self.properties.is_empty() {
            return;
        }
        for entry in entries {
            let path = json_path(place.path, &entry.key);
            match self.properties.get(&entry.key) {
                None => self.unknown(entry, &path, found),
                Some(schema) if entry.node.is_null() && !schema.nullable => {}
                // What a manifest says of the status is dropped; only its fields must be known.
                Some(schema) if path == "status" => schema.walk_status(entry, &path, found),
                Some(schema) => schema.walk(&entry.node, &Place { path: &path, key: entry.key_span.clone() }, found),
            }
        }
        for name in &self.required {
            let given = entries.iter().any(|entry| entry.key == *name && !entry.node.is_null());
            let defaulted = self.properties.get(name).is_some_and(|schema| schema.default.is_some());
            if !given && !defaulted {
                let path = json_path(place.path, name);
                let message =
                    format!("{} needs {name}", if place.path.is_empty() { "a plane" } else { last(place.path) });
                found.add(&REQUIRED_FIELD, place.key.clone(), &path, message, format!("{name} is missing"));
            }
        }
    }

    fn walk_status(&self, entry: &Entry, path: &str, found: &mut Found<'_>) {
        let mut all = Vec::new();
        let mut inner = Found { document: found.document, findings: &mut all };
        self.walk(&entry.node, &Place { path, key: entry.key_span.clone() }, &mut inner);
        found.findings.extend(all.into_iter().filter(|finding| finding.rule == &UNKNOWN_FIELD));
    }

    fn unknown(&self, entry: &Entry, path: &str, found: &mut Found<'_>) {
        let nearest = self.nearest(&entry.key);
        let help = match entry.key.as_str() {
            "secretKeyRef" => {
                Some(format!("it is the name of secretRef in {}; to v0.17 write `secretRef`", SECRET_KEY_REF.releases))
            }
            _ => nearest.map(|name| format!("`{name}` was meant?")),
        };
        let message = format!("there is no field {}", visible(path));
        found.add(&UNKNOWN_FIELD, entry.key_span.clone(), path, message, "unknown").help = help;
    }

    /// The field whose name is closest, if it is close at all.
    fn nearest(&self, key: &str) -> Option<&str> {
        let distance = |name: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &key.to_lowercase());
        let (name, distance) =
            self.properties.keys().map(|name| (name, distance(name))).min_by_key(|(_, distance)| *distance)?;
        (distance <= 1 + key.chars().count() / 4).then_some(name)
    }

    fn has_type(&self, node: &Node) -> bool {
        match self.kind.as_str() {
            "" => true,
            "number" => matches!(node.value, Value::Number(_)),
            // JSON knows no difference between 1 and 1.0.
            "integer" => {
                matches!(&node.value, Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0))
            }
            kind => kind == node.type_name(),
        }
    }

    fn check_text(&self, text: &str, node: &Node, place: &Place<'_>, found: &mut Found<'_>) {
        let (shortest, longest) = (self.min_length.unwrap_or(0), self.max_length.unwrap_or(usize::MAX));
        let length = text.chars().count();
        let regex = self.regex.get_or_init(|| self.pattern.as_deref().and_then(|pattern| Regex::new(pattern).ok()));
        let fits = regex.as_ref().is_none_or(|regex| regex.is_match(text));
        let long_enough = (shortest..=longest).contains(&length);
        if fits && long_enough {
            return;
        }
        let name = last(place.path);
        let bounds = match (shortest, longest) {
            (0, longest) => format!("at most {longest} characters"),
            (shortest, usize::MAX) => format!("at least {shortest} characters"),
            (shortest, longest) => format!("{shortest} to {longest} characters"),
        };
        let label = if long_enough {
            format!("does not match {}", self.pattern.as_deref().unwrap_or_default())
        } else {
            format!("has {length}")
        };
        let (rule, message) = match (place.path, long_enough) {
            ("spec.planeID", true) => {
                (&PLANE_ID_FORMAT, "planeID must be lower-case letters, digits and hyphens".to_owned())
            }
            ("spec.planeID", false) => (&PLANE_ID_FORMAT, format!("planeID must have {bounds}")),
            (_, true) => (&PATTERN_MISMATCH, format!("{name} does not have the form that it must have")),
            (_, false) => (&LENGTH, format!("{name} must have {bounds}")),
        };
        let finding = found.add(rule, node.span.clone(), place.path, message, label);
        finding.help =
            regex.as_ref().and_then(|regex| suggestion(text, regex, longest)).map(|text| format!("`{text}` would do"));
    }

    fn check_cel(&self, root: &Node, found: &mut Found<'_>) {
        let compiled = self.compiled.get_or_init(|| compile_schema(&self.source));
        let Err(errors) = CEL.validate_compiled(compiled, &without_nulls(root.to_json()), None) else {
            return;
        };
        for error in errors.as_slice() {
            let (span, path) = resolve(root, &error.field_path);
            if error.kind == ErrorKind::ValidationFailure {
                found.add(&CEL_RULE, span, &path, visible(&error.message), "");
            } else {
                let message = format!("a rule of the resource can't be evaluated here: {}", visible(&error.message));
                found.add(&CEL_UNKNOWN, span, &path, message, "");
            }
        }
    }
}

/// The place of a path such as `spec.conditions[0].type`, as far down as the document goes.
fn resolve(root: &Node, path: &str) -> (Range<usize>, String) {
    let mut node = root;
    let mut span = root.entries().first().map_or_else(|| root.span.clone(), |entry| entry.key_span.clone());
    for key in path.split(['.', '[', ']']).filter(|key| !key.is_empty()) {
        let next = match key.parse::<usize>() {
            Ok(index) if !node.items().is_empty() => node.items().get(index).map(|item| (item, item.span.clone())),
            _ => node.entry(key).map(|entry| (&entry.node, entry.key_span.clone())),
        };
        match next {
            Some((below, place)) => (node, span) = (below, place),
            None => break,
        }
    }
    (span, path.to_owned())
}

/// The text with what doesn't fit replaced, if that is then right.
fn suggestion(text: &str, regex: &Regex, longest: usize) -> Option<String> {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }
    };
    let suggested: String = text.trim().chars().map(plain).take(longest).collect();
    let suggested = suggested.trim_matches('-');
    (!suggested.is_empty() && suggested != text && regex.is_match(suggested)).then(|| suggested.to_owned())
}

/// A word that YAML takes for something else than the text that was meant.
fn mistaken_text(node: &Node, wanted: &str) -> Option<String> {
    match node.value {
        Value::Bool(_) | Value::Number(_) if wanted == "string" => Some("put it in quotes to make it a text".into()),
        _ => None,
    }
}

fn last(path: &str) -> &str {
    path.rsplit('.').next().filter(|name| !name.is_empty()).unwrap_or("the document")
}

fn article(kind: &str) -> String {
    match kind {
        "null" => "null".into(),
        "array" | "object" | "integer" => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cel_rules_are_evaluated_and_doubted() {
        let crd = "spec: {versions: [{schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {a: {type: integer, minimum: 0}, b: {type: string, default: x}}, x-kubernetes-validations: [{rule: 'self.a > 1', message: 'a is too small'}, {rule: 'nonsense(self)'}]}}}}}]}";
        let schema = Schema::of_crd(crd).unwrap();
        let ids = |text: &str| {
            let manifest = parse("f".into(), text.into());
            let mut findings = Vec::new();
            schema.check(&manifest.documents[0].root, &mut Found { document: 1, findings: &mut findings });
            findings
                .iter()
                .map(|finding| (finding.rule.id, manifest.text[finding.span.clone()].to_owned()))
                .collect::<Vec<_>>()
        };
        assert_eq!(ids("spec: {a: 1}"), [("cel-rule", "spec".to_owned()), ("cel-unknown", "spec".to_owned())]);
        assert_eq!(ids("spec: {a: 2}"), [("cel-unknown", "spec".to_owned())]);
        assert_eq!(ids("spec: {a: -1}"), [("out-of-range", "-1".to_owned())]);
    }

    #[test]
    fn suggestions_are_right_or_none() {
        let regex = Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").unwrap();
        assert_eq!(suggestion("Shared_Builder", &regex, 63).as_deref(), Some("shared-builder"));
        assert_eq!(suggestion(&"A".repeat(70), &regex, 63), Some("a".repeat(63)));
        assert_eq!(suggestion("___", &regex, 63), None);
    }
}
