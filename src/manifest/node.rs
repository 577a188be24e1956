//! A document as a tree whose every key and value knows where it is.

use std::ops::Range;

/// A value and the bytes of the text that it is in.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub span: Range<usize>,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub node: Node,
}

impl Node {
    /// The entry of a mapping by its key; of several, the last.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().rev().find(|entry| entry.key == key)
    }

    pub fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key).map(|entry| &entry.node)
    }

    /// The node at the end of a path of keys.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Mapping(entries) => entries,
            _ => &[],
        }
    }

    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::Sequence(items) => items,
            _ => &[],
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        self.value == Value::Null
    }

    /// Whether a place in the text lies inside this value's own, and doesn't come through an alias.
    pub fn contains(&self, place: &Range<usize>) -> bool {
        self.span.start <= place.start && place.end <= self.span.end
    }

    /// Moves it behind a text of this many bytes.
    pub(super) fn shift(&mut self, by: usize) {
        let moved = |span: &Range<usize>| span.start + by..span.end + by;
        self.span = moved(&self.span);
        match &mut self.value {
            Value::Sequence(items) => items.iter_mut().for_each(|item| item.shift(by)),
            Value::Mapping(entries) => entries.iter_mut().for_each(|entry| {
                entry.key_span = moved(&entry.key_span);
                entry.node.shift(by);
            }),
            _ => {}
        }
    }

    /// What it is, in a schema's words.
    pub fn type_name(&self) -> &'static str {
        match &self.value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Sequence(_) => "array",
            Value::Mapping(_) => "object",
        }
    }

    /// Without positions; of a doubled key the last.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Number(number) => number.clone().into(),
            Value::String(text) => text.clone().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => entries
                .iter()
                .map(|entry| (entry.key.clone(), entry.node.to_json()))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}

/// Drops the fields of an object that are null, which is how the API server takes it.
pub fn drop_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Appends a key to a path such as `spec.planeID` or `metadata.labels[a.b/c]`.
pub fn json_path(parent: &str, key: &str) -> String {
    let plain = !key.is_empty() && key.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_');
    match (parent.is_empty(), plain) {
        (true, true) => key.to_owned(),
        (false, true) => [parent, ".", key].concat(),
        (_, false) => [parent, "[", key, "]"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(value: Value) -> Node {
        Node { span: 2..9, value }
    }

    #[test]
    fn of_a_doubled_key_the_last_counts() {
        let entry = |key: &str, value| Entry { key: key.into(), key_span: 3..4, node: node(value) };
        let inner = Value::Mapping(vec![entry("b", Value::Bool(false)), entry("b", Value::Bool(true))]);
        let mut root = node(Value::Mapping(vec![entry("a", inner), entry("n", Value::Null)]));
        assert_eq!(root.at(&["a", "b"]).map(|node| &node.value), Some(&Value::Bool(true)));
        assert_eq!(root.at(&["n", "b"]), None);
        assert_eq!(root.to_json(), json!({"a": {"b": true}, "n": null}));
        root.shift(10);
        let below = root.entry("a").unwrap();
        assert_eq!((root.span.clone(), below.key_span.clone(), below.node.span.clone()), (12..19, 13..14, 12..19));
        assert!(root.contains(&(12..13)) && !root.contains(&(3..4)));
    }

    #[test]
    fn types_are_those_of_a_schema() {
        for (value, name) in [
            (Value::Null, "null"),
            (Value::Bool(true), "boolean"),
            (Value::Number(1.into()), "integer"),
            (Value::Number(serde_json::Number::from_f64(1.5).unwrap()), "number"),
            (Value::String(String::new()), "string"),
            (Value::Sequence(vec![]), "array"),
            (Value::Mapping(vec![]), "object"),
        ] {
            assert_eq!(node(value).type_name(), name);
        }
    }

    #[test]
    fn paths_name_keys() {
        for (parent, key, path) in
            [("", "spec", "spec"), ("spec", "planeID", "spec.planeID"), ("a", "b.c/d", "a[b.c/d]"), ("a", "", "a[]")]
        {
            assert_eq!(json_path(parent, key), path);
        }
        let mut value = json!({"a": null, "b": [{"c": null}, 1]});
        drop_nulls(&mut value);
        assert_eq!(value, json!({"b": [{}, 1]}));
    }
}
