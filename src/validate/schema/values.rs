//! Values against what a schema asks of them.

use std::collections::{BTreeMap, HashSet};

use regex::Regex;
use serde_json::{Number, Value as Json};

use super::model::{Additional, ListType, Schema, Type};
use super::place::Place;
use crate::manifest::{Entry, Node, Value, json_path};
use crate::text::visible;
use crate::validate::fields;
use crate::validate::finding::Found;
use crate::validate::fix::quoted;
use crate::validate::rules::{
    ALTERNATIVE, COUNT, FORMAT, LENGTH, NOT_IN_ENUM, NOT_UNIQUE, OUT_OF_RANGE, PATTERN_MISMATCH, REQUIRED_FIELD,
    WRONG_TYPE,
};

/// What is found in one object, and whether it keeps the CEL rules from being evaluated.
pub(super) struct Walk<'f> {
    pub found: &'f mut Found,
    pub blocked: bool,
    /// Whether it is below allOf, anyOf, oneOf or not, which don't say what fields there are.
    pub branch: bool,
}

impl Schema {
    pub(super) fn value(&self, node: &Node, place: &Place<'_>, walk: &mut Walk<'_>) {
        if !self.has_type(node) {
            self.wrong_type(node, place, walk);
            return;
        }
        self.branches(node, place, walk);
        match &node.value {
            Value::Mapping(entries) => self.fields(entries, place, walk),
            Value::Sequence(items) => self.items(items, place, walk),
            Value::String(text) => self.text(text, node, place, walk.found, &mut walk.blocked),
            Value::Number(number) => self.range(number, node, place, walk.found),
            Value::Null | Value::Bool(_) => {}
        }
        self.check_enum(node, place, walk);
    }

    fn has_type(&self, node: &Node) -> bool {
        if self.int_or_string {
            return matches!(node.value, Value::String(_)) || is_integer(node) || (node.is_null() && self.nullable);
        }
        match (&node.value, self.kind) {
            (_, Type::Any) => true,
            (Value::Null, _) => self.nullable,
            (Value::Bool(_), kind) => kind == Type::Boolean,
            (Value::Number(_), kind) => kind == Type::Number || (kind == Type::Integer && is_integer(node)),
            (Value::String(_), kind) => kind == Type::String,
            // Of a text with a format the API server lets a list pass.
            (Value::Sequence(_), Type::String) => self.format.is_some(),
            (Value::Sequence(_), kind) => kind == Type::Array,
            (Value::Mapping(_), kind) => kind == Type::Object,
        }
    }

    fn wrong_type(&self, node: &Node, place: &Place<'_>, walk: &mut Walk<'_>) {
        walk.blocked = true;
        let wanted = if self.int_or_string { "an integer or a string".into() } else { article(self.kind.name()) };
        let is = article(node.type_name());
        let path = place.path();
        let message = format!("{} must be {wanted}, but is {is}", place.name());
        let finding = walk.found.add(&WRONG_TYPE, node.span.clone(), &path, message, format!("{is} here"));
        finding.help = match node.value {
            Value::Bool(_) | Value::Number(_) if self.kind == Type::String => {
                Some("put it in quotes to make it a string".into())
            }
            Value::String(_) => fields::help(&path),
            _ => None,
        };
    }

    fn fields(&self, entries: &[Entry], place: &Place<'_>, walk: &mut Walk<'_>) {
        if !self.fields_count.hold(entries.len()) {
            walk.blocked |= self.fields_count.most.is_some_and(|most| entries.len() > most);
            let message = format!("{} must have {}", place.name(), self.fields_count.words("fields"));
            walk.found.add(&COUNT, place.key.clone(), &place.path(), message, format!("has {}", entries.len()));
        }
        for entry in entries {
            if let Some(schema) = self.field(&entry.key) {
                schema.value(&entry.node, &place.key(&entry.key, &entry.key_span), walk);
            }
        }
        for name in &self.required {
            if !entries.iter().any(|entry| entry.key == *name) {
                walk.blocked = true;
                // One that is misspelt is reported already.
                let misspelt =
                    |entry: &Entry| self.field(&entry.key).is_none() && self.nearest(&entry.key) == Some(name);
                let closed = !walk.branch && !self.preserve && matches!(self.additional, Additional::None);
                if closed && entries.iter().any(misspelt) {
                    continue;
                }
                let message = format!("{} needs {}", place.name(), visible(name));
                let label = format!("{} is missing", visible(name));
                walk.found.add(&REQUIRED_FIELD, place.key.clone(), &json_path(&place.path(), name), message, label);
            }
        }
    }

    fn items(&self, items: &[Node], place: &Place<'_>, walk: &mut Walk<'_>) {
        if !self.items_count.hold(items.len()) {
            walk.blocked |= self.items_count.most.is_some_and(|most| items.len() > most);
            let message = format!("{} must have {}", place.name(), self.items_count.words("items"));
            walk.found.add(&COUNT, place.key.clone(), &place.path(), message, format!("has {}", items.len()));
        }
        if let Some(schema) = &self.items {
            for (index, item) in items.iter().enumerate() {
                schema.value(item, &place.item(index, item), walk);
            }
        }
        self.unique(items, place, walk.found);
    }

    /// A set's items are all different, a map's items have different keys.
    fn unique(&self, items: &[Node], place: &Place<'_>, found: &mut Found) {
        let identity = |item: &Node| match self.list_type {
            ListType::Map => {
                let key = |name: &String| (name.clone(), item.get(name).map_or(Json::Null, Node::to_json));
                // A key that is left out is not one that is null, and neither makes two items alike but with its like.
                let given = self.list_keys.iter().filter(|name| item.get(name).is_some());
                Json::Object(given.map(key).collect()).to_string()
            }
            _ => sorted(&item.to_json()),
        };
        if self.list_type == ListType::Atomic {
            return;
        }
        let (mut seen, mut reported) = (HashSet::new(), HashSet::new());
        for (index, item) in items.iter().enumerate() {
            let identity = identity(item);
            if !seen.insert(identity.clone()) && reported.insert(identity) {
                let what = if self.list_type == ListType::Set {
                    "is duplicated".into()
                } else {
                    format!("has the same {} as another", self.list_keys.join(" and "))
                };
                let place = place.item(index, item);
                let message = format!("{} {what}", place.name());
                found.add(&NOT_UNIQUE, item.span.clone(), &place.path(), message, "duplicate");
            }
        }
    }

    fn check_enum(&self, node: &Node, place: &Place<'_>, walk: &mut Walk<'_>) {
        let Some(allowed) = &self.allowed else {
            return;
        };
        let value = node.to_json();
        // A number is compared as the type that the enumeration has, as Go converts it.
        let same = |one: &Json| match (&value, one) {
            (Json::Number(value), Json::Number(one)) if value.is_f64() && one.is_i64() => {
                value.as_f64().map(f64::trunc) == one.as_f64()
            }
            (Json::Number(value), Json::Number(one)) => value.as_f64() == one.as_f64(),
            (value, one) => value == one,
        };
        // A null is none of them, whatever is there.
        if !node.is_null() && allowed.iter().any(same) {
            return;
        }
        walk.blocked = true;
        let word = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let words: Vec<_> = allowed.iter().map(word).collect();
        let message = format!("{} must be {}", place.name(), visible(&words.join(" or ")));
        walk.found.add(&NOT_IN_ENUM, node.span.clone(), &place.path(), message, "not an allowed value");
    }

    fn text(&self, text: &str, node: &Node, place: &Place<'_>, found: &mut Found, blocked: &mut bool) {
        let length = if self.length.least.is_some() || self.length.most.is_some() { text.chars().count() } else { 0 };
        let long_enough = self.length.hold(length);
        let fits = self.pattern.as_ref().is_none_or(|pattern| pattern.regex.is_match(text));
        if long_enough && fits {
            if let Some(format) = self.format.filter(|format| !format.fits(text)) {
                let message = format!("{} must be a {}", place.name(), format.name);
                found.add(&FORMAT, node.span.clone(), &place.path(), message, "invalid format");
            }
            return;
        }
        *blocked |= self.length.most.is_some_and(|most| length > most);
        let path = place.path();
        let form = fields::form(&path);
        let (general, message, label) = if long_enough {
            let pattern = self.pattern.as_ref().map_or("", |pattern| pattern.text.as_str());
            let message = match form {
                Some((_, message)) => message.to_owned(),
                None => format!("{} has an invalid form", place.name()),
            };
            (&PATTERN_MISMATCH, message, format!("does not match {}", visible(pattern)))
        } else {
            let message = format!("{} must have {}", place.name(), self.length.words("characters"));
            (&LENGTH, message, format!("has {length}"))
        };
        let rule = form.map_or(general, |(rule, _)| rule);
        let suggested = self
            .pattern
            .as_ref()
            .and_then(|pattern| suggestion(text, &pattern.regex, self.length.most.unwrap_or(usize::MAX)));
        found.add(rule, node.span.clone(), &path, message, label).help =
            suggested.map(|text| format!("use `{}`", quoted(&text)));
    }

    fn range(&self, number: &Number, node: &Node, place: &Place<'_>, found: &mut Found) {
        let mut report = |what: String| {
            let message = format!("{} must be {what}", place.name());
            found.add(&OUT_OF_RANGE, node.span.clone(), &place.path(), message, "");
        };
        let value = number.as_f64().unwrap_or_default();
        if self.narrow {
            let (bounds, name) = match self.kind {
                Type::Integer => (f64::from(i32::MIN)..=f64::from(i32::MAX), "an integer of 32 bits"),
                _ => (f64::from(f32::MIN)..=f64::from(f32::MAX), "a 32-bit floating-point number"),
            };
            if !bounds.contains(&value) {
                report(name.into());
            }
        }
        // Go compares integers as such, with the bound's whole part.
        let bound = |bound: f64| if number.is_f64() { bound } else { bound.trunc() };
        let compare = |bound: f64| match number.as_i64() {
            Some(integer) => integer.cmp(&(bound as i64)),
            None => value.partial_cmp(&bound).unwrap_or(std::cmp::Ordering::Equal),
        };
        if let Some(minimum) = self.minimum.map(bound) {
            let order = compare(minimum);
            if order.is_lt() || (self.above_minimum && order.is_eq()) {
                report(format!("{} {minimum}", if self.above_minimum { "above" } else { "at least" }));
            }
        }
        if let Some(maximum) = self.maximum.map(bound) {
            let order = compare(maximum);
            if order.is_gt() || (self.below_maximum && order.is_eq()) {
                report(format!("{} {maximum}", if self.below_maximum { "below" } else { "at most" }));
            }
        }
        if let Some(factor) = self.multiple_of {
            let multiple = match number.as_i64() {
                Some(integer) => integer.checked_rem(factor as i64) == Some(0),
                None => is_whole(if factor < 1.0 { 1.0 / factor * value } else { value / factor }),
            };
            if !multiple {
                report(format!("a multiple of {factor}"));
            }
        }
    }

    // Alternatives.

    fn branches(&self, node: &Node, place: &Place<'_>, walk: &mut Walk<'_>) {
        if self.all_of.is_empty() && self.any_of.is_empty() && self.one_of.is_empty() && self.not.is_none() {
            return;
        }
        let outside = std::mem::replace(&mut walk.branch, true);
        for schema in &self.all_of {
            schema.value(node, place, walk);
        }
        walk.branch = outside;
        let document = walk.found.document;
        let tried = |schema: &Self| {
            let mut found = Found::new(document);
            let mut inner = Walk { found: &mut found, blocked: false, branch: true };
            schema.value(node, place, &mut inner);
            found
        };
        let mut report = |nearest: Option<Found>, message: String| {
            walk.blocked |= nearest.is_some();
            let nearest = nearest.and_then(|found| found.findings.into_iter().next());
            let (span, path) = nearest.as_ref().map_or_else(
                || (place.key.clone(), place.path()),
                |finding| (finding.span.clone(), finding.path.clone()),
            );
            let label = nearest.map_or_else(String::new, |finding| finding.message);
            walk.found.add(&ALTERNATIVE, span, &path, message, label);
        };
        let name = place.name();
        for (alternatives, exactly) in [(&self.any_of, false), (&self.one_of, true)] {
            if alternatives.is_empty() {
                continue;
            }
            let tries: Vec<_> = alternatives.iter().map(tried).collect();
            match tries.iter().filter(|found| found.errors == 0).count() {
                0 => {
                    let count = alternatives.len();
                    let nearest = tries.into_iter().min_by_key(|found| found.errors);
                    report(nearest, format!("{name} matches none of the {count} allowed forms"));
                }
                several if exactly && several > 1 => {
                    report(None, format!("{name} matches {several} forms, but must match exactly one"));
                }
                _ => {}
            }
        }
        if self.not.as_deref().is_some_and(|schema| tried(schema).errors == 0) {
            report(None, format!("{name} has a forbidden form"));
        }
    }
}

/// JSON in which the order of fields makes no difference.
fn sorted(value: &Json) -> String {
    match value {
        Json::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            format!("{fields:?}")
        }
        Json::Array(items) => format!("{:?}", items.iter().map(sorted).collect::<Vec<_>>()),
        other => other.to_string(),
    }
}

/// JSON knows no difference between 1 and 1.0; larger than 2^53 it is unknown.
fn is_integer(node: &Node) -> bool {
    match &node.value {
        Value::Number(number) => number.is_i64() || number.as_f64().is_some_and(is_whole),
        _ => false,
    }
}

/// As `swag.IsFloat64AJSONInteger`: within a billionth, and up to 2^53.
fn is_whole(value: f64) -> bool {
    const LARGEST: f64 = 9_007_199_254_740_991.0;
    let difference = (value - value.trunc()).abs();
    value.abs() <= LARGEST && (difference == 0.0 || difference / (value.abs() + value.trunc().abs()) < 1e-9)
}

/// The text with what doesn't fit replaced, if that is then right.
fn suggestion(text: &str, regex: &Regex, longest: usize) -> Option<String> {
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }
    };
    let suggested: String = text.trim().chars().take(longest.min(1024)).map(plain).collect();
    let suggested = suggested.trim_matches('-');
    (!suggested.is_empty() && suggested != text && regex.is_match(suggested)).then(|| suggested.to_owned())
}

/// The name of a type with its article.
pub fn article(kind: &str) -> String {
    match kind {
        "null" | "anything" => kind.into(),
        "array" | "object" | "integer" => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::tests::checked;

    #[test]
    fn suggestions_are_right_or_none() {
        let regex = Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").unwrap();
        assert_eq!(suggestion("Shared_Builder", &regex, 63).as_deref(), Some("shared-builder"));
        assert_eq!(suggestion(&"A".repeat(70), &regex, 63), Some("a".repeat(63)));
        assert_eq!(suggestion("___", &regex, 63), None);
    }

    #[test]
    fn each_keyword_is_held() {
        let cases: [(&str, &str, &[&str]); 27] = [
            ("{type: string}", "1", &["spec must be a string, but is an integer"]),
            ("{type: integer}", "1.0", &[]),
            ("{type: integer}", "1.5", &["spec must be an integer, but is a number"]),
            ("{type: number}", "1", &[]),
            ("{type: boolean}", "'yes'", &["spec must be a boolean, but is a string"]),
            ("{x-kubernetes-int-or-string: true}", "[]", &["spec must be an integer or a string, but is an array"]),
            ("{x-kubernetes-int-or-string: true}", "50%", &[]),
            ("{type: string, minLength: 2, maxLength: 3}", "abcd", &["spec must have 2 to 3 characters"]),
            ("{type: string, pattern: ^a}", "b", &["spec has an invalid form"]),
            ("{type: string, format: ipv4}", "b", &["spec must be a ipv4"]),
            ("{type: string, enum: [a, b]}", "c", &["spec must be a or b"]),
            ("{type: integer, enum: [1]}", "1.0", &[]),
            ("{type: integer, minimum: 2}", "1", &["spec must be at least 2"]),
            ("{type: integer, minimum: 2, exclusiveMinimum: true}", "2", &["spec must be above 2"]),
            ("{type: number, maximum: 2.5}", "2.6", &["spec must be at most 2.5"]),
            ("{type: integer, maximum: 2, exclusiveMaximum: true}", "2", &["spec must be below 2"]),
            ("{type: integer, multipleOf: 3}", "4", &["spec must be a multiple of 3"]),
            ("{type: number, multipleOf: 0.1}", "0.3", &[]),
            ("{type: integer, format: int32}", "3000000000", &["spec must be an integer of 32 bits"]),
            ("{type: array, items: {type: string}, minItems: 1}", "[]", &["spec must have at least 1 items"]),
            ("{type: array, items: {type: string}}", "[a, 1]", &["spec[1] must be a string, but is an integer"]),
            (
                "{type: array, items: {type: string}, x-kubernetes-list-type: set}",
                "[a, b, a]",
                &["spec[2] is duplicated"],
            ),
            (
                "{type: array, items: {type: object, properties: {k: {type: string}, v: {type: string}}}, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [k]}",
                "[{k: a, v: b}, {k: a, v: c}]",
                &["spec[1] has the same k as another"],
            ),
            (
                "{type: object, additionalProperties: {type: string}, maxProperties: 1}",
                "{a: b, c: d}",
                &["spec must have at most 1 fields"],
            ),
            ("{type: object, properties: {a: {type: string}}, required: [a]}", "{}", &["spec needs a"]),
            (
                "{type: string, oneOf: [{enum: [a]}, {enum: [a, b]}]}",
                "a",
                &["spec matches 2 forms, but must match exactly one"],
            ),
            ("{type: string, not: {enum: [a]}}", "a", &["spec has a forbidden form"]),
        ];
        for (schema, spec, expected) in cases {
            let reported: Vec<_> = checked(schema, spec).into_iter().map(|(.., reported)| reported).collect();
            assert_eq!(reported, expected, "{schema} {spec}");
        }
    }

    #[test]
    fn alternatives_tell_of_the_nearest() {
        let schema = "{type: object, properties: {a: {type: string}, b: {type: string}}, anyOf: [{required: [a]}, {required: [b], properties: {b: {enum: [x]}}}]}";
        assert_eq!(checked(schema, "{b: x}"), []);
        assert_eq!(checked(schema, "{}")[0].2, "spec matches none of the 2 allowed forms");
        assert_eq!(
            checked("{type: string, allOf: [{minLength: 2}]}", "a")[0].2,
            "spec must have at least 2 characters"
        );
    }
}
