//! The CEL rules of one node of a schema (`x-kubernetes-validations`), evaluated by kube-cel.
//!
//! What can't be evaluated here is reported as such and is no verdict: the API server may know more.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use kube_cel::{CompiledSchema, ErrorKind, Validator, compile_schema};
use regex::Regex;
use serde_json::Value as Json;

use super::format::own;
use super::memory::Memory;

static CEL: LazyLock<Validator> = LazyLock::new(Validator::new);

/// How long values may be that are remembered, in bytes of JSON.
const LONGEST: usize = 16 << 10;

/// The rules of a node. They are compiled when they are first needed.
#[derive(Debug)]
pub struct Rules {
    id: usize,
    /// The node's schema with these rules, and without any below it.
    schema: Json,
    rules: Json,
    compiled: OnceLock<CompiledSchema>,
}

/// What a rule says of a value that it doesn't hold for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it fails; it could not be evaluated otherwise.
    pub fails: bool,
    pub message: String,
    /// The rule's fieldPath, below the value.
    pub path: String,
}

/// What the rules said of values in JSON, so that each value is judged once.
pub type Outcomes = Memory<(usize, String), Outcome, 4096>;

impl Rules {
    pub fn new(rules: impl Iterator<Item = Json>) -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Self { id, schema: Json::Null, rules: rules.collect(), compiled: OnceLock::new() }
    }

    /// Says what schema the values have.
    pub fn judge(&mut self, schema: &Json) {
        self.schema = bare(schema);
        self.schema["x-kubernetes-validations"] = self.rules.clone();
    }

    /// The rules that don't hold for a value, or can't be evaluated.
    pub fn outcomes(&self, value: &Json, outcomes: &Outcomes) -> Arc<[Outcome]> {
        let text = Some(value.to_string()).filter(|text| text.len() <= LONGEST);
        outcomes.recall(text.map(|text| (self.id, text)), || self.evaluate(value))
    }

    fn evaluate(&self, value: &Json) -> Vec<Outcome> {
        let compiled = self.compiled.get_or_init(|| compile_schema(&self.schema));
        let doubted = self.doubted(value);
        let is_doubted = |rule: &str| doubted.iter().any(|(doubted, _)| *doubted == rule);
        let mut outcomes = Vec::new();
        if let Err(errors) = CEL.validate_compiled(compiled, value, None) {
            let reported = errors.as_slice().iter().filter(|error| !is_doubted(&error.rule));
            outcomes.extend(reported.map(|error| Outcome {
                fails: error.kind == ErrorKind::ValidationFailure,
                message: error.message.clone(),
                path: error.field_path.clone(),
            }));
        }
        outcomes.extend(doubted.into_iter().map(|(rule, why)| Outcome {
            fails: false,
            message: format!("{why}: {rule}"),
            path: String::new(),
        }));
        outcomes
    }

    /// The rules whose verdict on a value can't be relied on here, and why: kube-cel differs from the API server in them.
    fn doubted(&self, value: &Json) -> Vec<(&str, &'static str)> {
        static OTHERS: LazyLock<Regex> = LazyLock::new(|| {
            own(
                r"\b(url|isURL|quantity|isQuantity|cidr|isCIDR|ip|isIP|string|semver|isSemver|format|timestamp|duration)\(|\.(split|sum|replace)\(",
            )
        });
        static TEXTS: LazyLock<Regex> = LazyLock::new(|| {
            own(
                r"\b(size|matches|find|findAll|charAt|indexOf|lastIndexOf|substring|reverse|lowerAscii|upperAscii|replace|trim)\(",
            )
        });
        static PATTERNS: LazyLock<Regex> =
            LazyLock::new(|| own(r#"\b(matches|find|findAll)\(.*['"].*(\\<|\\>|\\B|&&|--|~~|\{0).*['"]"#));
        let (value, schema) = (value.to_string(), self.schema.to_string());
        let wide = !value.is_ascii();
        let nulls = value.contains(":null");
        let loose = schema.contains(r#""x-kubernetes-int-or-string":true"#);
        let mut sets = Vec::new();
        set_lists(&self.schema, "self", &mut sets);
        let compares = |rule: &str| ["==", "!=", "+", " in "].iter().any(|operator| rule.contains(operator));
        let doubt = |rule: &'_ str| {
            if OTHERS.is_match(rule) || PATTERNS.is_match(rule) {
                Some("the rule uses a function whose result may differ on the API server")
            } else if wide && TEXTS.is_match(rule) {
                Some("the rule reads a string that is not ASCII")
            } else if sets.iter().any(|name| rule.contains(*name)) && compares(rule) {
                Some("the rule compares lists of type set or map")
            } else if nulls && rule.contains("has(") {
                Some("the rule tests if a field that is null exists")
            } else if loose && (TEXTS.is_match(rule) || rule.contains(".contains(")) {
                Some("the rule reads a value that may be a number or a string")
            } else {
                None
            }
        };
        let rules = self.rules.as_array().map(Vec::as_slice).unwrap_or_default();
        let rules = rules.iter().filter_map(|rule| rule.get("rule").and_then(Json::as_str));
        rules.filter_map(|rule| doubt(rule).map(|why| (rule, why))).collect()
    }
}

/// The names of fields, beginning with the one of the schema itself, in which there are lists without an order.
fn set_lists<'s>(schema: &'s Json, name: &'s str, names: &mut Vec<&'s str>) {
    if matches!(schema["x-kubernetes-list-type"].as_str(), Some("set" | "map")) {
        names.push(name);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        set_lists(below, name, names);
    }
    for below in ["items", "additionalProperties"].map(|key| &schema[key]).into_iter().filter(|below| below.is_object())
    {
        set_lists(below, name, names);
    }
}

fn bare(schema: &Json) -> Json {
    match schema {
        Json::Object(fields) => {
            let below = |key: &str| {
                matches!(
                    key,
                    "x-kubernetes-validations" | "allOf" | "anyOf" | "oneOf" | "not" | "default" | "description"
                )
            };
            // Below `properties` these are names of fields.
            let kept = fields.iter().filter(|(key, _)| !below(key)).map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    ("properties", Json::Object(properties)) => properties
                        .iter()
                        .map(|(name, schema)| (name.clone(), bare(schema)))
                        .collect::<serde_json::Map<_, _>>()
                        .into(),
                    ("items" | "additionalProperties", value) => bare(value),
                    (_, value) => value.clone(),
                };
                (key.clone(), value)
            });
            kept.collect::<serde_json::Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_fail_or_are_doubted() {
        let mut rules = Rules::new(
            [
                json!({"rule": "self.a > 1", "message": "a is too small", "fieldPath": ".a"}),
                json!({"rule": "self.a < 9", "messageExpression": "'a is ' + string(self.a)"}),
                json!({"rule": "!has(self.t) || self.t.size() < 3"}),
                json!({"rule": "!has(self.t) || !isURL(self.t)"}),
                json!({"rule": "nonsense(self)"}),
            ]
            .into_iter(),
        );
        rules.judge(&json!({"type": "object", "properties": {"a": {"type": "integer"}, "t": {"type": "string"}}}));
        let outcomes = Outcomes::default();
        let reported = |value: Json| {
            let found = rules.outcomes(&value, &outcomes);
            found.iter().map(|o| (o.fails, o.path.clone(), o.message.clone())).collect::<Vec<_>>()
        };
        assert_eq!(reported(json!({"a": 1}))[0], (true, ".a".into(), "a is too small".into()));
        assert_eq!(reported(json!({"a": 10}))[0], (true, String::new(), "a is 10".into()));
        for _ in 0..2 {
            // What can't be compiled, and what may be answered otherwise.
            assert_eq!(reported(json!({"a": 2})).iter().map(|reported| reported.0).collect::<Vec<_>>(), [false, false]);
            assert!(reported(json!({"a": 2, "t": "abc"}))[0].0);
            assert!(reported(json!({"a": 2, "t": "äöü"})).iter().all(|reported| !reported.0));
        }
    }

    #[test]
    fn fields_that_are_named_as_keywords_stay() {
        let schema = json!({"properties": {"not": {"type": "string", "not": {}}}, "default": 1});
        assert_eq!(bare(&schema), json!({"properties": {"not": {"type": "string"}}}));
    }
}
