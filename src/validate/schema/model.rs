//! A schema's nodes, and the resource that they describe.

use std::collections::BTreeMap;

use regex::Regex;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::plane::Kind;
use crate::validate::cel::Rules;
use crate::validate::format::Format;

/// What a value may be, in a schema's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    #[default]
    #[serde(skip)]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

impl Type {
    pub fn name(self) -> &'static str {
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
pub enum Additional {
    #[default]
    None,
    /// Of any value; what is inside it is pruned.
    Any,
    Each(Box<Schema>),
}

/// What `x-kubernetes-list-type` makes of a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ListType {
    #[default]
    Atomic,
    Set,
    Map,
}

#[derive(Debug)]
pub struct Pattern {
    pub text: String,
    pub regex: Regex,
}

/// The least and the most of something that is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    pub least: Option<usize>,
    pub most: Option<usize>,
}

impl Bounds {
    pub fn hold(self, count: usize) -> bool {
        self.least.is_none_or(|least| count >= least) && self.most.is_none_or(|most| count <= most)
    }

    pub fn words(self, what: &str) -> String {
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
    pub kind: Type,
    pub int_or_string: bool,
    pub nullable: bool,
    pub format_name: Option<String>,
    pub format: Option<Format>,
    /// Whether an integer must fit into 32 bits, or a number into a float.
    pub narrow: bool,
    pub default: Option<Json>,
    pub allowed: Option<Vec<Json>>,
    pub pattern: Option<Pattern>,
    pub length: Bounds,
    pub items_count: Bounds,
    pub fields_count: Bounds,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub above_minimum: bool,
    pub below_maximum: bool,
    pub multiple_of: Option<f64>,
    pub required: Vec<String>,
    pub properties: BTreeMap<String, Schema>,
    pub additional: Additional,
    pub items: Option<Box<Schema>>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Box<Schema>>,
    pub preserve: bool,
    pub list_type: ListType,
    pub list_keys: Vec<String>,
    pub rules: Option<Rules>,
}

/// The resource that a CRD defines, as far as judging it needs.
#[derive(Debug)]
pub struct Resource {
    /// Where it is from, for findings.
    pub file: String,
    pub kind: &'static Kind,
    pub group: String,
    /// The served versions with their schemas.
    pub versions: Vec<(String, Schema)>,
    /// Whether status is a subresource, so that a new object's own status is dropped.
    pub status: bool,
}

impl Resource {
    /// The schema of a version, if it is served.
    pub fn schema(&self, api_version: &str) -> Option<&Schema> {
        let (group, version) = api_version.split_once('/')?;
        let same = |(name, _): &&(String, Schema)| name == version;
        self.versions.iter().find(same).filter(|_| group == self.group).map(|(_, schema)| schema)
    }

    /// Whether a version has a field below another one.
    pub fn has(&self, api_version: &str, above: &str, name: &str) -> bool {
        let mut keys = above.split('.').chain([name]);
        keys.try_fold(self.schema(api_version), |schema, key| Some(schema?.properties.get(key))).flatten().is_some()
    }
}

impl Schema {
    pub fn field(&self, name: &str) -> Option<&Self> {
        match (self.properties.get(name), &self.additional) {
            (Some(schema), _) => Some(schema),
            (None, Additional::Each(schema)) => Some(schema),
            _ => None,
        }
    }

    /// What the API server itself looks after is not this schema's to judge.
    pub fn root(&mut self) {
        for key in ["apiVersion", "kind"] {
            self.properties.entry(key.into()).or_default();
        }
        let metadata = self.properties.entry("metadata".into()).or_default();
        // Names may be restricted further; whatever else is in it is left to the API server's own checks.
        metadata.properties.retain(|name, _| name == "name" || name == "generateName");
        metadata.preserve = true;
    }

    /// The field whose name is closest, if it is close at all.
    pub fn nearest(&self, key: &str) -> Option<&str> {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_held_and_reported() {
        for (least, most, within, outside, words) in [
            (Some(1), Some(3), 3, 4, "1 to 3 items"),
            (Some(2), None, 2, 1, "at least 2 items"),
            (None, Some(2), 0, 3, "at most 2 items"),
        ] {
            let bounds = Bounds { least, most };
            assert_eq!((bounds.hold(within), bounds.hold(outside)), (true, false), "{words}");
            assert_eq!(bounds.words("items"), words);
        }
        assert!(Bounds::default().hold(usize::MAX));
    }

    #[test]
    fn the_nearest_field_is_near() {
        let properties = ["planeID", "clusterAgent"].map(|name| (name.to_owned(), Schema::default()));
        let schema = Schema { properties: properties.into(), ..Schema::default() };
        for (key, nearest) in [
            ("planeid", Some("planeID")),
            ("clusterAgnet", Some("clusterAgent")),
            ("name", None),
            (&"planeID".repeat(20), None),
        ] {
            assert_eq!(schema.nearest(key), nearest, "{key}");
        }
    }
}
