//! A structural schema (apiextensions.k8s.io/v1), walked over a document so that each finding has its place.
//!
//! As the API server does (`k8s.io/apiextensions-apiserver`): unknown fields, then defaults, then nulls of fields that
//! may not be null count as absent, then the checks, then the CEL rules unless the checks found what keeps these from
//! being evaluated.

mod defaults;
mod model;
mod place;
mod rules;
mod unknown;
mod values;

use std::borrow::Cow;

use super::cel::Outcomes;
use super::finding::Found;
use crate::manifest::{Node, Object, Value};

use place::Place;
use values::Walk;

pub use model::Resource;
pub(super) use model::{Additional, Pattern, Schema, Type};
pub(super) use values::article;

impl Resource {
    /// Judges an object by the schema of its version; none where that is not served. `outcomes` remembers what the
    /// CEL rules said of the same values before.
    pub(super) fn check(&self, object: Object<'_>, outcomes: &Outcomes) -> Option<Found> {
        let schema = self.schema(object.api_version())?;
        let mut found = Found::new(object.document);
        let key = object.node.entry("kind").map_or(&object.node.span, |entry| &entry.key_span);
        let place = Place::root(key);
        schema.unknown(object.node, &place, true, &mut found);
        let mut walk = Walk { blocked: found.errors > 0, found: &mut found, branch: false };
        let root = self.as_stored(schema, object.node, &place);
        schema.value(&root, &place, &mut walk);
        if !walk.blocked {
            schema.check_rules(&root, &place, outcomes, walk.found);
        }
        Some(found)
    }

    /// An object as the API server would have it before its checks.
    fn as_stored<'n>(&self, schema: &Schema, root: &'n Node, place: &Place<'_>) -> Cow<'n, Node> {
        let mut root = Cow::Borrowed(root);
        if !schema.is_settled(&root) {
            schema.settle(root.to_mut(), place.key);
        }
        if self.status
            && root.entry("status").is_some()
            && let Value::Mapping(entries) = &mut root.to_mut().value
        {
            entries.retain(|entry| entry.key != "status");
        }
        if schema.properties.get("metadata").is_some_and(|metadata| metadata.properties.contains_key("name")) {
            defaults::generate_name(&mut root);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use crate::validate::tests::{SECRET, found, plane};

    #[test]
    fn the_schema_is_held() {
        assert_eq!(found(&plane(&format!("{{planeID: a, {SECRET}}}"))), []);
        let cases = [
            ("{planeID: A_b, @}", "plane-id-format", "A_b"),
            ("{planeID: '', @}", "plane-id-format", "''"),
            ("{planeID: on, @}", "wrong-type", "on"),
            ("{planeID: 12, @}", "wrong-type", "12"),
            ("{planeId: a, planeID: a, @}", "unknown-field", "planeId"),
            ("{planeID: a, clusterAgent: {}}", "required-field", "clusterAgent"),
            ("{planeID: a}", "required-field", "spec"),
            ("{planeID: a, @, secretStoreRef: {}}", "required-field", "secretStoreRef"),
            ("{planeID: a, planeID: b, @}", "duplicate-key", "planeID"),
            ("[]", "wrong-type", "[]"),
            ("{planeID: a, @, observabilityPlaneRef: prod}", "wrong-type", "prod"),
            (
                "{planeID: a, clusterAgent: {clientCA: {secretKeyRef: {namespace: s, name: a, key: b}}}}",
                "unknown-field",
                "secretKeyRef",
            ),
            (
                "{planeID: a, clusterAgent: {clientCA: {secretRef: {namespace: s, name: ca, key: null}}}}",
                "required-field",
                "secretRef",
            ),
        ];
        for (spec, rule, at) in cases {
            let findings = found(&plane(&spec.replace('@', SECRET)));
            assert_eq!(findings, [(rule, at.to_owned())], "{spec}");
        }
        let long = "a".repeat(64);
        assert_eq!(found(&plane(&format!("{{planeID: {long}, {SECRET}}}")))[0].0, "plane-id-format");
    }
}
