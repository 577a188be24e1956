//! A structural schema (apiextensions.k8s.io/v1), walked over a document so that each finding has its place.
//!
//! As the API server does (`k8s.io/apiextensions-apiserver`): unknown fields, then defaults, then nulls of fields that
//! may not be null count as absent, then the checks, then the CEL rules unless the checks found what keeps these from
//! being evaluated.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use regex::Regex;
use serde_json::{Number, Value as Json};

use super::cel::{Outcomes, Rules};
use super::crd::Resource;
use super::format::Format;
use super::rules::{
    ALTERNATIVE, CEL_RULE, CEL_UNKNOWN, COUNT, FORMAT, LENGTH, NOT_IN_ENUM, NOT_UNIQUE, OUT_OF_RANGE, PATTERN_MISMATCH,
    PLANE_ID_FORMAT, REQUIRED_FIELD, Rule, UNKNOWN_FIELD, WRONG_TYPE,
};
use super::{Finding, Fix, Found};
use crate::manifest::{Entry, Node, Value, json_path};
use crate::plane::{Difference, SECRET_KEY_REF};
use crate::text::visible;

/// What a value may be, in a schema's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Type {
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }
}

/// What fields there may be beside those that have a name.
#[derive(Debug, Default)]
pub(super) enum Additional {
    #[default]
    None,
    /// Of any value; what is inside it is pruned.
    Any,
    Each(Box<Schema>),
}

/// What `x-kubernetes-list-type` makes of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

#[derive(Debug)]
pub(super) struct Pattern {
    pub text: String,
    pub regex: Regex,
}

/// The least and the most of something that is counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    pub least: Option<usize>,
    pub most: Option<usize>,
}

impl Bounds {
    fn hold(self, count: usize) -> bool {
        self.least.is_none_or(|least| count >= least) && self.most.is_none_or(|most| count <= most)
    }

    fn words(self, what: &str) -> String {
        match (self.least, self.most) {
            (Some(least), Some(most)) => format!("{least} to {most} {what}"),
            (Some(least), None) => format!("at least {least} {what}"),
            (None, Some(most)) => format!("at most {most} {what}"),
            (None, None) => format!("any number of {what}"),
        }
    }
}

/// One node of a schema.
#[derive(Debug, Default)]
pub struct Schema {
    pub(super) kind: Type,
    pub(super) int_or_string: bool,
    pub(super) nullable: bool,
    pub(super) format_name: Option<String>,
    pub(super) format: Option<Format>,
    /// Whether an integer must fit into 32 bits, or a number into a float.
    pub(super) narrow: bool,
    pub(super) default: Option<Json>,
    pub(super) allowed: Option<Vec<Json>>,
    pub(super) pattern: Option<Pattern>,
    pub(super) length: Bounds,
    pub(super) items_count: Bounds,
    pub(super) fields_count: Bounds,
    pub(super) minimum: Option<f64>,
    pub(super) maximum: Option<f64>,
    pub(super) above_minimum: bool,
    pub(super) below_maximum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) required: Vec<String>,
    pub(super) properties: BTreeMap<String, Schema>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Schema>>,
    pub(super) all_of: Vec<Schema>,
    pub(super) any_of: Vec<Schema>,
    pub(super) one_of: Vec<Schema>,
    pub(super) not: Option<Box<Schema>>,
    pub(super) preserve: bool,
    pub(super) list_type: ListType,
    pub(super) list_keys: Vec<String>,
    pub(super) rules: Option<Rules>,
}

/// Where a value stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    step: Step<'a>,
    /// The key that leads to it, or the item itself; what is missing in it is told here.
    key: &'a Range<usize>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    fn root(key: &'a Range<usize>) -> Self {
        Self { above: None, step: Step::Key(""), key }
    }

    fn key(&'a self, name: &'a str, key: &'a Range<usize>) -> Self {
        Self { above: Some(self), step: Step::Key(name), key }
    }

    fn item(&'a self, index: usize, node: &'a Node) -> Self {
        Self { above: Some(self), step: Step::Index(index), key: &node.span }
    }

    /// As `spec.planeID`.
    fn path(&self) -> String {
        let Some(above) = self.above else {
            return String::new();
        };
        match self.step {
            Step::Key(name) => json_path(&above.path(), name),
            Step::Index(index) => format!("{}[{index}]", above.path()),
        }
    }

    /// The last word of the path, for a sentence.
    fn name(&self) -> Cow<'a, str> {
        match (self.above, self.step) {
            (None, _) => "a plane".into(),
            (_, Step::Key(name)) => visible(name),
            (Some(above), Step::Index(index)) => format!("{}[{index}]", above.name()).into(),
        }
    }
}

/// What is found in one object, and whether it keeps the CEL rules from being evaluated.
struct Walk<'f> {
    found: &'f mut Found,
    blocked: bool,
    /// Whether it is below allOf, anyOf, oneOf or not, which don't say what fields there are.
    branch: bool,
}

impl Schema {
    /// Judges an object by it. `outcomes` remembers what its CEL rules said of the same values before.
    pub(super) fn check(&self, root: &Node, resource: &Resource, outcomes: &Outcomes, found: &mut Found) {
        let key = root.entry("kind").map_or(&root.span, |entry| &entry.key_span);
        let place = Place::root(key);
        let before = found.errors;
        self.unknown(root, &place, true, found);
        let known = found.errors == before;
        let mut root = Cow::Borrowed(root);
        if !self.is_settled(&root) {
            self.fill(root.to_mut(), key);
            self.drop_nulls(root.to_mut());
        }
        if resource.status
            && root.entry("status").is_some()
            && let Value::Mapping(entries) = &mut root.to_mut().value
        {
            entries.retain(|entry| entry.key != "status");
        }
        if self.properties.get("metadata").is_some_and(|metadata| metadata.properties.contains_key("name")) {
            generate_name(&mut root);
        }
        let mut walk = Walk { found, blocked: !known, branch: false };
        self.value(&root, &place, &mut walk);
        if !walk.blocked {
            self.check_rules(&root, &place, outcomes, walk.found);
        }
    }

    /// What the API server itself looks after is not this schema's to judge.
    pub(super) fn root(&mut self) {
        for key in ["apiVersion", "kind"] {
            self.properties.entry(key.into()).or_default();
        }
        let metadata = self.properties.entry("metadata".into()).or_default();
        // Names may be restricted further; whatever else stands in it is left to the API server's own checks.
        metadata.properties.retain(|name, _| name == "name" || name == "generateName");
        metadata.preserve = true;
    }

    // Unknown fields.

    /// `written`: whether the value stands in its parent's own text, and not behind an alias.
    fn unknown(&self, node: &Node, place: &Place<'_>, written: bool, found: &mut Found) {
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
        let help = match (entry.key.as_str(), nearest) {
            ("secretKeyRef", _) if self.properties.contains_key("secretRef") => {
                Some(format!("it is the name of secretRef in {}; to v0.17 write `secretRef`", SECRET_KEY_REF.releases))
            }
            (_, nearest) => nearest.map(|name| format!("`{name}` was meant?")),
        };
        let case_only = nearest.filter(|name| name.eq_ignore_ascii_case(&entry.key));
        let message = format!("there is no field {}", visible(&path));
        let finding = found.add(&UNKNOWN_FIELD, entry.key_span.clone(), &path, message, "unknown");
        finding.help = help;
        finding.fix = case_only.map(|name| Fix::Rename { key: entry.key_span.clone(), name: name.to_owned() });
        finding
    }

    /// The field whose name is closest, if it is close at all.
    fn nearest(&self, key: &str) -> Option<&str> {
        let distance = |name: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &key.to_lowercase());
        let short = key.len() < 64;
        let (name, distance) = self
            .properties
            .keys()
            .filter(|_| short)
            .map(|name| (name, distance(name)))
            .min_by_key(|(_, distance)| *distance)?;
        (distance <= 1 + key.chars().count() / 4).then_some(name)
    }

    // Defaults and nulls.

    fn takes_null(&self) -> bool {
        self.nullable
    }

    fn field(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Additional::Each(schema)) => Some(schema),
            _ => None,
        }
    }

    /// Whether there is nothing to fill in and no null to drop.
    fn is_settled(&self, node: &Node) -> bool {
        match &node.value {
            Value::Mapping(entries) => {
                self.properties
                    .iter()
                    .all(|(name, schema)| schema.default.is_none() || entries.iter().any(|entry| entry.key == *name))
                    && entries.iter().all(|entry| {
                        self.field(&entry.key).is_none_or(|schema| {
                            if entry.node.is_null() { schema.takes_null() } else { schema.is_settled(&entry.node) }
                        })
                    })
            }
            Value::Sequence(items) => self
                .items
                .as_ref()
                .is_none_or(|schema| items.iter().all(|item| !item.is_null() && schema.is_settled(item))),
            _ => true,
        }
    }

    fn fill(&self, node: &mut Node, key: &Range<usize>) {
        let null = |node: &Node, schema: &Self| node.is_null() && !schema.takes_null();
        match &mut node.value {
            Value::Mapping(entries) => {
                for (name, schema) in &self.properties {
                    let Some(default) = &schema.default else {
                        continue;
                    };
                    match entries.iter_mut().find(|entry| entry.key == *name) {
                        Some(entry) if null(&entry.node, schema) => entry.node = made(default, key),
                        Some(_) => {}
                        None => {
                            entries.push(Entry { key: name.clone(), key_span: key.clone(), node: made(default, key) })
                        }
                    }
                }
                for entry in entries {
                    if let Some(schema) = self.field(&entry.key) {
                        if let (true, Some(default)) = (null(&entry.node, schema), &schema.default) {
                            entry.node = made(default, key);
                        }
                        schema.fill(&mut entry.node, &entry.key_span);
                    }
                }
            }
            Value::Sequence(items) => {
                for item in items {
                    if let Some(schema) = &self.items {
                        if let (true, Some(default)) = (null(item, schema), &schema.default) {
                            *item = made(default, key);
                        }
                        schema.fill(item, key);
                    }
                }
            }
            _ => {}
        }
    }

    fn drop_nulls(&self, node: &mut Node) {
        match &mut node.value {
            Value::Mapping(entries) => {
                entries.retain(|entry| {
                    let droppable = |schema: &Self| !schema.takes_null() && schema.default.is_none();
                    !(entry.node.is_null() && self.field(&entry.key).is_some_and(droppable))
                });
                for entry in entries {
                    if let Some(schema) = self.field(&entry.key) {
                        schema.drop_nulls(&mut entry.node);
                    }
                }
            }
            Value::Sequence(items) => {
                if let Some(schema) = &self.items {
                    items.iter_mut().for_each(|item| schema.drop_nulls(item));
                }
            }
            _ => {}
        }
    }

    // Values.

    fn value(&self, node: &Node, place: &Place<'_>, walk: &mut Walk<'_>) {
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
        let message = format!("{} must be {wanted}, and is {is}", place.name());
        let finding = walk.found.add(&WRONG_TYPE, node.span.clone(), &path, message, format!("{is} here"));
        finding.help = match node.value {
            Value::Bool(_) | Value::Number(_) if self.kind == Type::String => {
                Some("put it in quotes to make it a text".into())
            }
            Value::String(_) if path == "spec.observabilityPlaneRef" => Difference::of(&path)
                .find(|difference| difference.instead.contains("string"))
                .map(|d| format!("in {} {}; later it is {}", d.releases, d.instead, d.reference)),
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
                // One that is misspelt is told already.
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
        let (mut seen, mut told) = (HashSet::new(), HashSet::new());
        for (index, item) in items.iter().enumerate() {
            let identity = identity(item);
            if !seen.insert(identity.clone()) && told.insert(identity) {
                let what = if self.list_type == ListType::Set {
                    "stands twice".into()
                } else {
                    format!("has the same {} as another", self.list_keys.join(" and "))
                };
                let place = place.item(index, item);
                let message = format!("{} {what}", place.name());
                found.add(&NOT_UNIQUE, item.span.clone(), &place.path(), message, "a double");
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
        // A null is none of them, whatever stands there.
        if !node.is_null() && allowed.iter().any(same) {
            return;
        }
        walk.blocked = true;
        let word = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let words: Vec<_> = allowed.iter().map(word).collect();
        let message = format!("{} must be {}", place.name(), visible(&words.join(" or ")));
        walk.found.add(&NOT_IN_ENUM, node.span.clone(), &place.path(), message, "not one of them");
    }

    fn text(&self, text: &str, node: &Node, place: &Place<'_>, found: &mut Found, blocked: &mut bool) {
        let length = if self.length.least.is_some() || self.length.most.is_some() { text.chars().count() } else { 0 };
        let long_enough = self.length.hold(length);
        let fits = self.pattern.as_ref().is_none_or(|pattern| pattern.regex.is_match(text));
        if long_enough && fits {
            if let Some(format) = self.format.filter(|format| !format.fits(text)) {
                let message = format!("{} must be a {}", place.name(), format.name);
                found.add(&FORMAT, node.span.clone(), &place.path(), message, "it is not");
            }
            return;
        }
        *blocked |= self.length.most.is_some_and(|most| length > most);
        let path = place.path();
        let plane_id = path == "spec.planeID";
        let (rule, message, label): (&'static Rule, _, _) = if long_enough {
            let pattern = self.pattern.as_ref().map_or("", |pattern| pattern.text.as_str());
            let label = format!("does not match {}", visible(pattern));
            if plane_id {
                (&PLANE_ID_FORMAT, "planeID must be lower-case letters, digits and hyphens".to_owned(), label)
            } else {
                let message = format!("{} does not have the form that it must have", place.name());
                (&PATTERN_MISMATCH, message, label)
            }
        } else {
            let message = format!("{} must have {}", place.name(), self.length.words("characters"));
            (if plane_id { &PLANE_ID_FORMAT } else { &LENGTH }, message, format!("has {length}"))
        };
        let suggested = self
            .pattern
            .as_ref()
            .and_then(|pattern| suggestion(text, &pattern.regex, self.length.most.unwrap_or(usize::MAX)));
        found.add(rule, node.span.clone(), &path, message, label).help =
            suggested.map(|text| format!("`{}` would do", super::gateway::quoted(&text)));
    }

    fn range(&self, number: &Number, node: &Node, place: &Place<'_>, found: &mut Found) {
        let mut tell = |what: String| {
            let message = format!("{} must be {what}", place.name());
            found.add(&OUT_OF_RANGE, node.span.clone(), &place.path(), message, "");
        };
        let value = number.as_f64().unwrap_or_default();
        if self.narrow {
            let (bounds, name) = match self.kind {
                Type::Integer => (f64::from(i32::MIN)..=f64::from(i32::MAX), "an integer of 32 bits"),
                _ => (f64::from(f32::MIN)..=f64::from(f32::MAX), "a number that fits into a float"),
            };
            if !bounds.contains(&value) {
                tell(name.into());
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
                tell(format!("{} {minimum}", if self.above_minimum { "above" } else { "at least" }));
            }
        }
        if let Some(maximum) = self.maximum.map(bound) {
            let order = compare(maximum);
            if order.is_gt() || (self.below_maximum && order.is_eq()) {
                tell(format!("{} {maximum}", if self.below_maximum { "below" } else { "at most" }));
            }
        }
        if let Some(factor) = self.multiple_of {
            let multiple = match number.as_i64() {
                Some(integer) => integer.checked_rem(factor as i64) == Some(0),
                None => is_whole(if factor < 1.0 { 1.0 / factor * value } else { value / factor }),
            };
            if !multiple {
                tell(format!("a multiple of {factor}"));
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
        let mut tell = |nearest: Option<Found>, message: String| {
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
                    tell(nearest, format!("{name} fits none of the {count} forms that it may have"));
                }
                several if exactly && several > 1 => {
                    tell(None, format!("{name} fits {several} forms of which it must have one only"));
                }
                _ => {}
            }
        }
        if self.not.as_deref().is_some_and(|schema| tried(schema).errors == 0) {
            tell(None, format!("{name} has a form that it must not have"));
        }
    }

    // CEL.

    fn check_rules(&self, node: &Node, place: &Place<'_>, outcomes: &Outcomes, found: &mut Found) {
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
                        format!("a rule of the resource can't be evaluated here: {}", visible(&outcome.message));
                    found.add(&CEL_UNKNOWN, span, &path, message, "");
                }
            }
        }
        match &node.value {
            Value::Mapping(entries) => {
                for entry in entries {
                    if let Some(schema) = self.field(&entry.key) {
                        let below = place.key(&entry.key, &entry.key_span);
                        schema.check_rules(&entry.node, &below, outcomes, found);
                    }
                }
            }
            Value::Sequence(items) => {
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter().enumerate() {
                        schema.check_rules(item, &place.item(index, item), outcomes, found);
                    }
                }
            }
            _ => {}
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

/// A name as the API server would make it of generateName: 58 characters at most, and five of its own.
fn generate_name(root: &mut Cow<'_, Node>) {
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

/// A value out of the schema. It stands nowhere, so the key of what holds it is its place.
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

/// JSON knows no difference between 1 and 1.0; larger than 2^53 it can't be told.
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

fn article(kind: &str) -> String {
    match kind {
        "null" | "anything" => kind.into(),
        "array" | "object" | "integer" => format!("an {kind}"),
        kind => format!("a {kind}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggestions_are_right_or_none() {
        let regex = Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").unwrap();
        assert_eq!(suggestion("Shared_Builder", &regex, 63).as_deref(), Some("shared-builder"));
        assert_eq!(suggestion(&"A".repeat(70), &regex, 63), Some("a".repeat(63)));
        assert_eq!(suggestion("___", &regex, 63), None);
    }
}
