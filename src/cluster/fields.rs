//! Who owns which field: the trees in `metadata.managedFields` (structured-merge-diff's FieldsV1) as sets.
//!
//! A key is `f:NAME` for a field, `.` for the object itself; a leaf is an empty object.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::planes::MANAGER;

/// Who wrote a field, as the server took it down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    pub manager: String,
    /// Whether by server-side apply, and so for good.
    pub applies: bool,
    pub time: Option<Timestamp>,
}

/// Managers that put back what they own, although they write as people's tools do.
const RESTORING: [&str; 8] = [
    "argocd",
    "cert-manager",
    "external-secrets",
    "fleet",
    "flux",
    "helm-controller",
    "kustomize-controller",
    "sealed-secrets",
];

impl Writer {
    /// Whether it would put back what somebody else writes: by server-side apply, or known for it. People don't.
    pub fn restores(&self) -> bool {
        let by_hand = self.manager == MANAGER || self.manager.starts_with("kubectl");
        !by_hand && (self.applies || RESTORING.iter().any(|name| self.manager.contains(name)))
    }
}

/// Who wrote a field, by its path in FieldsV1 as a JSON pointer: `/f:spec/f:planeID`.
pub fn writers(metadata: &ObjectMeta, field: &str) -> Vec<Writer> {
    let entries = metadata.managed_fields.iter().flatten();
    let owning =
        entries.filter(|entry| entry.fields_v1.as_ref().is_some_and(|fields| fields.0.pointer(field).is_some()));
    let writer = owning.map(|entry| Writer {
        manager: entry.manager.clone().unwrap_or_default(),
        applies: entry.operation.as_deref() == Some("Apply"),
        time: entry.time.as_ref().map(|time| time.0),
    });
    writer.collect()
}

/// A set of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Map<String, Value>);

impl Fields {
    pub(super) fn from_json(value: &Value) -> Self {
        Self(value.as_object().cloned().unwrap_or_default())
    }

    pub(super) fn into_json(self) -> Value {
        Value::Object(self.0)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fields that a manifest sets, without what identifies it.
    pub(super) fn of_manifest(manifest: &Value) -> Self {
        let mut tree = tree(manifest);
        for key in ["f:apiVersion", "f:kind", "."] {
            tree.shift_remove(key);
        }
        if let Some(Value::Object(metadata)) = tree.get_mut("f:metadata") {
            metadata.shift_remove("f:name");
            metadata.shift_remove(".");
        }
        Self(tree)
    }

    /// Without what other controllers live by: finalizers and owners are nobody's to give up with a manifest.
    pub(super) fn without_lifecycle(mut self) -> Self {
        if let Some(Value::Object(metadata)) = self.0.get_mut("f:metadata") {
            metadata.shift_remove("f:finalizers");
            metadata.shift_remove("f:ownerReferences");
            if metadata.is_empty() {
                self.0.shift_remove("f:metadata");
            }
        }
        self
    }

    pub(super) fn union(mut self, other: Self) -> Self {
        merge(&mut self.0, other.0);
        self
    }

    /// What is in this set and not in the other.
    pub(super) fn without(&self, other: &Self) -> Self {
        Self(difference(&self.0, &other.0))
    }

    /// Removes these fields from an object, and the objects that are left empty and belong to the set.
    pub(super) fn remove_from(&self, object: &mut Value) {
        remove(&self.0, object);
    }
}

fn tree(value: &Value) -> Map<String, Value> {
    let Value::Object(fields) = value else {
        return Map::new();
    };
    let mut tree: Map<_, _> =
        fields.iter().map(|(key, value)| (format!("f:{key}"), self::tree(value).into())).collect();
    tree.insert(".".into(), Value::Object(Map::new()));
    tree
}

fn children(value: &Value) -> Option<&Map<String, Value>> {
    value.as_object().filter(|map| !map.is_empty())
}

fn merge(into: &mut Map<String, Value>, from: Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(Value::Object(mine)), Value::Object(theirs)) => merge(mine, theirs),
            (Some(_), _) => {}
            (None, value) => {
                into.insert(key, value);
            }
        }
    }
}

fn difference(these: &Map<String, Value>, others: &Map<String, Value>) -> Map<String, Value> {
    let mut rest = Map::new();
    for (key, value) in these {
        match (others.get(key), children(value)) {
            (None, _) => {
                rest.insert(key.clone(), value.clone());
            }
            (Some(other), Some(mine)) => {
                let below = difference(mine, other.as_object().unwrap_or(&Map::new()));
                if !below.is_empty() {
                    rest.insert(key.clone(), below.into());
                }
            }
            (Some(_), None) => {}
        }
    }
    rest
}

fn remove(fields: &Map<String, Value>, object: &mut Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    for (key, below) in fields {
        let Some(name) = key.strip_prefix("f:") else {
            continue;
        };
        let inner = children(below).filter(|inner| inner.keys().any(|key| key != "."));
        match (inner, object.get_mut(name)) {
            (Some(inner), Some(value)) => {
                remove(inner, value);
                if inner.contains_key(".") && value.as_object().is_some_and(Map::is_empty) {
                    object.shift_remove(name);
                }
            }
            _ => {
                object.shift_remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_one_manager_gives_up_goes() {
        let created = Fields::from_json(
            &json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}, "f:spec": {"f:clusterAgent": {"f:clientCA": {"f:value": {}}}, "f:planeID": {}}}),
        );
        let manifest = json!({"apiVersion": "v", "kind": "k", "metadata": {"name": "x"}, "spec": {"planeID": "p", "clusterAgent": {"clientCA": {"secretRef": {"name": "n"}}}}});
        let abandoned = created.without(&Fields::of_manifest(&manifest));
        let mut object = json!({"metadata": {"name": "x", "labels": {"a": "1"}}, "spec": {"planeID": "p", "clusterAgent": {"clientCA": {"value": "v", "secretRef": {"name": "n"}}}}});
        abandoned.remove_from(&mut object);
        assert_eq!(
            object,
            json!({"metadata": {"name": "x"}, "spec": {"planeID": "p", "clusterAgent": {"clientCA": {"secretRef": {"name": "n"}}}}})
        );
    }

    #[test]
    fn what_another_manager_owns_too_stays() {
        let mine = Fields::from_json(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {}}}));
        let theirs = Fields::from_json(&json!({"f:a": {"f:b": {}}}));
        let mut object = json!({"a": {"b": 1, "c": 2}});
        mine.without(&theirs).remove_from(&mut object);
        assert_eq!(object, json!({"a": {"b": 1}}));
        assert!(mine.without(&mine).is_empty());
        assert_eq!(mine.clone().union(theirs), mine);
    }
}
