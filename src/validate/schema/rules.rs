//! The CEL rules of a schema, each evaluated on the value that it is about.

use std::ops::Range;

use serde_json::{Number, Value as Json};

use super::model::{Schema, Type};
use super::place::Place;
use crate::manifest::{Entry, Node, Value, json_path};
use crate::text::visible;
use crate::validate::cel::Outcomes;
use crate::validate::finding::Found;
use crate::validate::rules::{CEL_RULE, CEL_UNKNOWN};

impl Schema {
    pub(super) fn check_rules(&self, node: &Node, place: &Place<'_>, outcomes: &Outcomes, found: &mut Found) {
        if node.is_null() {
            return;
        }
        if let Some(rules) = &self.rules {
            for outcome in rules.outcomes(&self.typed(node), outcomes).iter() {
                let (span, path) = inside(node, place, &outcome.path);
                if outcome.fails {
                    found.add(&CEL_RULE, span, &path, visible(&outcome.message), "");
                } else {
                    let message =
                        format!("choreoctl can't evaluate a CEL rule of the CRD: {}", visible(&outcome.message));
                    found.add(&CEL_UNKNOWN, span, &path, message, "");
                }
            }
        }
        for entry in node.entries() {
            if let Some(schema) = self.field(&entry.key) {
                schema.check_rules(&entry.node, &place.key(&entry.key, &entry.key_span), outcomes, found);
            }
        }
        if let Some(schema) = &self.items {
            for (index, item) in node.items().iter().enumerate() {
                schema.check_rules(item, &place.item(index, item), outcomes, found);
            }
        }
    }

    /// As JSON, with every number of the type that the schema gives it.
    fn typed(&self, node: &Node) -> Json {
        match &node.value {
            Value::Number(number) if self.kind == Type::Number => {
                number.as_f64().and_then(Number::from_f64).map_or(Json::Null, Json::Number)
            }
            Value::Mapping(entries) => {
                let typed = |entry: &Entry| {
                    let value = self.field(&entry.key).map_or_else(|| entry.node.to_json(), |s| s.typed(&entry.node));
                    (entry.key.clone(), value)
                };
                Json::Object(entries.iter().map(typed).collect())
            }
            Value::Sequence(items) => items
                .iter()
                .map(|item| self.items.as_ref().map_or_else(|| item.to_json(), |schema| schema.typed(item)))
                .collect(),
            _ => node.to_json(),
        }
    }
}

/// The place of a rule's fieldPath, as far down as the document goes; of a rule on a scalar, the value.
fn inside(node: &Node, place: &Place<'_>, path: &str) -> (Range<usize>, String) {
    let (mut node, mut full) = (node, place.path());
    let mut span =
        if node.entries().is_empty() && node.items().is_empty() { node.span.clone() } else { place.key.clone() };
    for key in path.split(['.', '[', ']']).map(|key| key.trim_matches('\'')).filter(|key| !key.is_empty()) {
        full = json_path(&full, key);
        match node.entry(key) {
            Some(Entry {
                node: below @ Node { value: Value::Mapping(_) | Value::Sequence(_), .. }, key_span, ..
            }) => {
                (node, span) = (below, key_span.clone());
            }
            Some(entry) => (node, span) = (&entry.node, entry.node.span.clone()),
            None => continue,
        }
    }
    (span, full)
}

#[cfg(test)]
mod tests {
    use crate::validate::tests::checked;

    #[test]
    fn a_rule_points_at_what_it_is_about() {
        let schema = |rule: &str| {
            format!(
                "{{type: object, properties: {{a: {{type: integer}}, m: {{type: number}}, l: {{type: array, items: {{type: object, properties: {{x: {{type: integer}}}}, {rule}}}}}}}, x-kubernetes-validations: [{{rule: '!has(self.a) || self.a < 5', fieldPath: .a, message: too much}}]}}"
            )
        };
        let on_items = schema("x-kubernetes-validations: [{rule: self.x < 3, message: item too large}]");
        for (spec, expected) in [
            ("{a: 1, l: [{x: 1}]}", None),
            ("{a: 7}", Some(("cel-rule", "7", "too much"))),
            ("{l: [{x: 1}, {x: 3}]}", Some(("cel-rule", "{x: 3}", "item too large"))),
            // What is of another type is not judged any further.
            ("{a: 7, m: text}", Some(("wrong-type", "text", "m must be a number, but is a string"))),
        ] {
            let expected =
                expected.map(|(rule, at, reported): (_, &str, &str)| (rule, at.to_owned(), reported.to_owned()));
            assert_eq!(checked(&on_items, spec), Vec::from_iter(expected), "{spec}");
        }
        // A whole number is one of the type that the schema gives it.
        let number =
            "{type: object, properties: {m: {type: number}}, x-kubernetes-validations: [{rule: self.m < 1.5}]}";
        assert_eq!(checked(number, "{m: 1}"), []);
        let unknown = "{type: object, x-kubernetes-validations: [{rule: unheard_of(self)}]}";
        assert_eq!(checked(unknown, "{}")[0].0, "cel-unknown");
    }
}
