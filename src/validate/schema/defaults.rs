//! Defaults that are filled in, and nulls that count as absent.

use std::borrow::Cow;
use std::ops::Range;

use serde_json::Value as Json;

use super::model::Schema;
use crate::manifest::{Entry, Node, Value};

impl Schema {
    /// Whether there is nothing to fill in and no null to drop.
    pub(super) fn is_settled(&self, node: &Node) -> bool {
        let settled = |schema: &Self, node: &Node| {
            if node.is_null() { schema.nullable } else { schema.is_settled(node) }
        };
        let given = |(name, schema): (&String, &Self)| schema.default.is_none() || node.entry(name).is_some();
        match &node.value {
            Value::Mapping(entries) => {
                self.properties.iter().all(given)
                    && entries
                        .iter()
                        .all(|entry| self.field(&entry.key).is_none_or(|schema| settled(schema, &entry.node)))
            }
            Value::Sequence(items) => {
                self.items.as_ref().is_none_or(|schema| items.iter().all(|item| settled(schema, item)))
            }
            _ => true,
        }
    }

    /// Fills in what is left out and has a default, and drops the other nulls that may not be.
    pub(super) fn settle(&self, node: &mut Node, key: &Range<usize>) {
        let settle = |schema: &Self, node: &mut Node, own: &Range<usize>| {
            if let Some(default) = schema.default.as_ref().filter(|_| node.is_null() && !schema.nullable) {
                *node = made(default, key);
            }
            schema.settle(node, own);
        };
        match &mut node.value {
            Value::Mapping(entries) => {
                let droppable = |schema: &Self| !schema.nullable && schema.default.is_none();
                entries.retain(|entry| !entry.node.is_null() || !self.field(&entry.key).is_some_and(droppable));
                for (name, default) in
                    self.properties.iter().filter_map(|(name, one)| Some((name, one.default.as_ref()?)))
                {
                    if entries.iter().all(|entry| entry.key != *name) {
                        entries.push(Entry { key: name.clone(), key_span: key.clone(), node: made(default, key) });
                    }
                }
                for entry in entries {
                    if let Some(schema) = self.field(&entry.key) {
                        settle(schema, &mut entry.node, &entry.key_span);
                    }
                }
            }
            Value::Sequence(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| settle(schema, item, key));
                }
            }
            _ => {}
        }
    }
}

/// A value out of the schema. It is nowhere, so the key of what holds it is its place.
fn made(value: &Json, key: &Range<usize>) -> Node {
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => Value::Number(number.clone()),
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::Sequence(items.iter().map(|item| made(item, key)).collect()),
        Json::Object(fields) => {
            let entry = |(name, value): (&String, &Json)| Entry {
                key: name.clone(),
                key_span: key.clone(),
                node: made(value, key),
            };
            Value::Mapping(fields.iter().map(entry).collect())
        }
    };
    Node { span: key.clone(), value }
}

/// A name as the API server would make it of generateName: 58 characters at most, and five of its own.
pub(super) fn generate_name(root: &mut Cow<'_, Node>) {
    let metadata = root.get("metadata");
    let named = metadata.and_then(|metadata| metadata.get("name")).is_some_and(|name| name.as_str() != Some(""));
    let Some(prefix) = metadata.and_then(|metadata| metadata.entry("generateName")).filter(|_| !named).cloned() else {
        return;
    };
    let Some(text) = prefix.node.as_str().filter(|text| !text.is_empty()) else {
        return;
    };
    let name = format!("{}bcdfg", text.chars().take(58).collect::<String>());
    let node = Node { span: prefix.node.span.clone(), value: Value::String(name) };
    let made = Entry { key: "name".into(), key_span: prefix.key_span, node };
    if let Value::Mapping(entries) = &mut root.to_mut().value
        && let Some(Entry { node: Node { value: Value::Mapping(fields), .. }, .. }) =
            entries.iter_mut().rev().find(|entry| entry.key == "metadata")
    {
        fields.push(made);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::validate::tests::crd;
    use serde_json::json;

    /// A value as it is with defaults and without nulls, and whether it was so before.
    fn stored(schema: &str, text: &str) -> (Json, bool) {
        let resource = crd(schema).unwrap();
        let schema = &resource.versions[0].1.properties["spec"];
        let mut node = parse("f".into(), text.into()).documents.remove(0).root;
        let settled = schema.is_settled(&node);
        schema.settle(&mut node, &(0..0));
        (node.to_json(), settled)
    }

    #[test]
    fn defaults_are_filled_in_and_nulls_count_as_absent() {
        let by_default = "{type: object, properties: {a: {type: string, default: x}, b: {type: string}}}";
        let nullable = "{type: object, properties: {a: {type: string, nullable: true, default: x}}}";
        let items = "{type: object, properties: {l: {type: array, items: {type: object, properties: {a: {type: integer, default: 1}}}}}}";
        let map =
            "{type: object, additionalProperties: {type: object, default: {a: 1}, properties: {a: {type: integer}}}}";
        for (schema, text, expected, settled) in [
            (by_default, "{b: z}", json!({"b": "z", "a": "x"}), false),
            (by_default, "{a: z, b: ~}", json!({"a": "z"}), false),
            (by_default, "{a: ~}", json!({"a": "x"}), false),
            (by_default, "{a: z, other: ~}", json!({"a": "z", "other": null}), true),
            (nullable, "{a: ~}", json!({"a": null}), true),
            (items, "{l: [{}, {a: 2}]}", json!({"l": [{"a": 1}, {"a": 2}]}), false),
            (items, "{l: [{a: 2}]}", json!({"l": [{"a": 2}]}), true),
            (map, "{k: ~}", json!({"k": {"a": 1}}), false),
        ] {
            assert_eq!(stored(schema, text), (expected, settled), "{schema} {text}");
        }
    }

    #[test]
    fn a_name_is_made_of_its_beginning_where_there_is_none() {
        let long = "a".repeat(60);
        for (metadata, name) in [
            ("{generateName: foo-}".to_owned(), Some("foo-bcdfg".to_owned())),
            (format!("{{generateName: {long}}}"), Some(format!("{}bcdfg", &long[..58]))),
            ("{generateName: foo-, name: a}".to_owned(), Some("a".to_owned())),
            ("{generateName: ''}".to_owned(), None),
            ("{}".to_owned(), None),
        ] {
            let mut root = Cow::Owned(parse("f".into(), format!("metadata: {metadata}")).documents.remove(0).root);
            generate_name(&mut root);
            assert_eq!(root.at(&["metadata", "name"]).and_then(Node::as_str), name.as_deref(), "{metadata}");
        }
    }
}
