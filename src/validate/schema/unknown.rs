//! Fields that a schema does not have.

use super::model::{Additional, Schema};
use super::place::Place;
use crate::manifest::{Entry, Node, Value, json_path};
use crate::text::visible;
use crate::validate::finding::{Finding, Found};
use crate::validate::fix::Fix;
use crate::validate::rules::UNKNOWN_FIELD;

impl Schema {
    /// `written`: whether the value is in its parent's own text, and not behind an alias.
    pub(super) fn unknown(&self, node: &Node, place: &Place<'_>, written: bool, found: &mut Found) {
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    let below = place.key(&entry.key, &entry.key_span);
                    let written = written && node.contains(&entry.key_span) && node.contains(&entry.node.span);
                    match (self.field(&entry.key), &self.additional) {
                        (Some(schema), _) => schema.unknown(&entry.node, &below, written, found),
                        (None, Additional::Any) => all_unknown(&entry.node, &below, found),
                        (None, _) if self.preserve => {}
                        (None, _) => {
                            let finding = self.unknown_field(entry, &place.path(), found);
                            let safe = |fix: &Fix| matches!(fix, Fix::Rename { name, .. } if written && node.entry(name).is_none());
                            finding.fix = finding.fix.take().filter(safe);
                        }
                    }
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    let below = place.item(index, item);
                    match &self.items {
                        Some(schema) => schema.unknown(item, &below, written && node.contains(&item.span), found),
                        None if self.preserve => {}
                        None => all_unknown(item, &below, found),
                    }
                }
            }
            _ => {}
        }
    }

    fn unknown_field<'f>(&self, entry: &Entry, parent: &str, found: &'f mut Found) -> &'f mut Finding {
        let path = json_path(parent, &entry.key);
        let nearest = self.nearest(&entry.key);
        let help = nearest.map(|name| format!("did you mean `{name}`?"));
        let case_only = nearest.filter(|name| name.eq_ignore_ascii_case(&entry.key));
        let message = format!("there is no field {}", visible(&path));
        let finding = found.add(&UNKNOWN_FIELD, entry.key_span.clone(), &path, message, "unknown");
        finding.help = help;
        finding.fix = case_only.map(|name| Fix::Rename {
            word: entry.key_span.clone(),
            from: entry.key.clone(),
            name: name.to_owned(),
        });
        finding
    }
}

/// Everything in a value that no schema speaks of.
fn all_unknown(node: &Node, place: &Place<'_>, found: &mut Found) {
    match &node.value {
        Value::Mapping(entries) => {
            for entry in entries {
                let path = json_path(&place.path(), &entry.key);
                let message = format!("there is no field {}", visible(&path));
                found.add(&UNKNOWN_FIELD, entry.key_span.clone(), &path, message, "unknown");
            }
        }
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                all_unknown(item, &place.item(index, item), found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::manifest::parse;
    use crate::validate::tests::{SECRET, checked, plane, reference};

    #[test]
    fn a_field_is_unknown_unless_the_schema_has_or_keeps_it() {
        let cases: [(&str, &str, &[&str]); 7] = [
            ("{type: object}", "{a: {b: 1}}", &["a"]),
            ("{type: object, x-kubernetes-preserve-unknown-fields: true}", "{a: {b: 1}}", &[]),
            ("{type: object, additionalProperties: {type: string}}", "{a: b}", &[]),
            // What a value of any type holds is pruned.
            ("{type: object, additionalProperties: true}", "{a: {b: 1, c: 2}, d: [{e: 1}]}", &["b", "c", "e"]),
            (
                "{type: object, properties: {a: {type: array, items: {type: object}}}}",
                "{a: [{b: 1}, {c: 1}]}",
                &["b", "c"],
            ),
            ("{type: object, properties: {a: {type: array}}}", "{a: [{b: 1}, [{c: 1}], 2]}", &["b", "c"]),
            (
                "{type: object, properties: {a: {type: array, x-kubernetes-preserve-unknown-fields: true}}}",
                "{a: [{b: 1}]}",
                &[],
            ),
        ];
        for (schema, spec, unknown) in cases {
            let found = checked(schema, spec).into_iter().map(|(rule, at, _)| (rule, at)).collect::<Vec<_>>();
            assert_eq!(
                found,
                unknown.iter().map(|at| ("unknown-field", (*at).to_owned())).collect::<Vec<_>>(),
                "{schema}"
            );
        }
    }

    #[test]
    fn the_field_that_was_meant_is_named() {
        for (spec, help) in [
            (format!("{{planeId: a, {SECRET}}}"), Some("did you mean `planeID`?")),
            (format!("{{planeID: a, secretStoreRf: {{}}, {SECRET}}}"), Some("did you mean `secretStoreRef`?")),
            (format!("{{planeID: a, colour: red, {SECRET}}}"), None),
        ] {
            let findings = reference().judge(&parse("f".into(), plane(&spec))).findings;
            assert_eq!((findings[0].rule.id, findings[0].help.as_deref()), ("unknown-field", help), "{spec}");
        }
    }
}
