//! A CustomResourceDefinition (apiextensions.k8s.io/v1) read into schemas, keyword by keyword.
//!
//! A keyword is honoured, says nothing about validity, or is an error that names it: none is passed over.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::DeserializeOwned;

use super::cel::Rules;
use super::format::{Format, pattern};
use super::schema::{Additional, Pattern, Resource, Schema, Type};
use crate::manifest::{Entry, Manifest, Node, Value, objects};
use crate::plane::{KINDS, Kind};
use crate::text::visible;

/// Why a CRD can't be judged by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct CrdError {
    /// As `crd.yaml:12:5`, or the file alone.
    pub place: String,
    pub message: String,
    pub hint: &'static str,
}

impl CrdError {
    pub fn hint(&self) -> Option<String> {
        Some(self.hint.into())
    }
}

const UNSUPPORTED: &str = "validate on a server that has this CRD: --server";
const BROKEN: &str = "the API server would not take this CRD: see `kubectl apply --dry-run=server`";
const WRONG_FILE: &str = "write the CRD to a file with: kubectl get crd clusterbuildplanes.openchoreo.dev -o yaml";

impl Resource {
    /// Reads the definitions of planes in a file, which may hold others, too.
    ///
    /// # Errors
    /// A file without any, a CRD that no API server takes, or a keyword that can't be honoured.
    pub fn all_of(manifest: &Manifest) -> Result<Vec<Self>, CrdError> {
        let reading = Reading { manifest };
        if let Some(fault) = manifest.faults.first() {
            return Err(reading.at(fault.span.start, fault.message.clone(), "fix the file"));
        }
        let whole = |message: String| CrdError { place: manifest.file.clone(), message, hint: WRONG_FILE };
        let mut defined = BTreeMap::new();
        for object in objects(manifest).into_iter().filter(|object| object.kind() == "CustomResourceDefinition") {
            let kind = object.node.at(&["spec", "names", "kind"]).and_then(Node::as_str).unwrap_or_default();
            if let Some(kind) = KINDS.iter().find(|known| known.kind == kind)
                && defined.insert(kind, object.node).is_some()
            {
                return Err(whole(format!("it defines {} more than once", kind.kind)));
            }
        }
        if defined.is_empty() {
            return Err(whole("it holds no CustomResourceDefinition of a plane".into()));
        }
        defined.iter().map(|(kind, crd)| reading.resource(kind, crd)).collect()
    }
}

/// Where in a schema a keyword is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Root,
    /// A field, an item or a value of a map.
    Field,
    /// Inside allOf, anyOf, oneOf or not.
    Branch,
}

struct Reading<'m> {
    manifest: &'m Manifest,
}

type Read<T> = Result<T, CrdError>;

impl Reading<'_> {
    fn at(&self, offset: usize, message: impl fmt::Display, hint: &'static str) -> CrdError {
        let (line, column) = self.manifest.position(offset);
        CrdError { place: format!("{}:{line}:{column}", self.manifest.file), message: message.to_string(), hint }
    }

    fn broken(&self, entry: &Entry, what: &str) -> CrdError {
        self.at(entry.key_span.start, format!("{} {what}", visible(&entry.key)), BROKEN)
    }

    fn unsupported(&self, entry: &Entry, what: &str) -> CrdError {
        CrdError { hint: UNSUPPORTED, ..self.broken(entry, what) }
    }

    fn resource(&self, kind: &'static Kind, crd: &Node) -> Read<Resource> {
        let needed = |node: &Node, path: &[&str]| {
            node.at(path)
                .and_then(Node::as_str)
                .map(str::to_owned)
                .ok_or_else(|| self.at(node.span.start, format!("the CRD has no {}", path.join(".")), BROKEN))
        };
        let version = crd.get("apiVersion").and_then(Node::as_str).unwrap_or_default();
        if version != "apiextensions.k8s.io/v1" {
            let message =
                format!("CRDs of {} are not supported, only those of apiextensions.k8s.io/v1", visible(version));
            return Err(self.at(crd.span.start, message, WRONG_FILE));
        }
        let group = needed(crd, &["spec", "group"])?;
        if let Some(entry) = crd.get("spec").and_then(|spec| spec.entry("preserveUnknownFields"))
            && self.flag(entry)?
        {
            return Err(self.broken(entry, "can't be true in apiextensions.k8s.io/v1"));
        }
        let (mut versions, mut status) = (Vec::new(), false);
        for version in crd.at(&["spec", "versions"]).map(Node::items).unwrap_or_default() {
            let name = needed(version, &["name"])?;
            let served = version.get("served").is_some_and(|served| served.value == Value::Bool(true));
            let subresources = version.get("subresources").map(Node::entries).unwrap_or_default();
            if let Some(scale) = subresources.iter().find(|entry| entry.key == "scale") {
                return Err(self.unsupported(scale, "is not supported: it requires more than the schema"));
            }
            let Some(schema) = version.at(&["schema", "openAPIV3Schema"]) else {
                return Err(self.at(version.span.start, format!("version {} has no schema", visible(&name)), BROKEN));
            };
            if served {
                status |= subresources.iter().any(|entry| entry.key == "status" && !entry.node.is_null());
                versions.push((name, self.schema(schema, Level::Root)?));
            }
        }
        if versions.is_empty() {
            return Err(self.at(crd.span.start, "the CRD serves no version", BROKEN));
        }
        Ok(Resource { file: self.manifest.file.clone(), kind, group, versions, status })
    }

    fn schema(&self, node: &Node, level: Level) -> Read<Schema> {
        let Value::Mapping(entries) = &node.value else {
            return Err(self.at(node.span.start, "a schema must be a mapping", BROKEN));
        };
        let mut schema = Schema::default();
        for entry in entries.iter().filter(|entry| !entry.node.is_null()) {
            self.keyword(&mut schema, entry, level)?;
        }
        self.complete(schema, node, level)
    }

    fn keyword(&self, schema: &mut Schema, entry: &Entry, level: Level) -> Read<()> {
        let branch = level == Level::Branch;
        let below = if branch { level } else { Level::Field };
        match entry.key.as_str() {
            // Say something about the field, and nothing about what it may hold.
            "description" | "title" | "example" | "externalDocs" | "id" | "$schema" | "x-kubernetes-map-type" => {}
            "type" => schema.kind = self.kind(entry)?,
            "format" => schema.format_name = Some(self.text(entry)?),
            "nullable" => schema.nullable = self.flag(entry)?,
            "default" if branch => return Err(self.broken(entry, "is not allowed inside allOf, anyOf, oneOf or not")),
            "default" => schema.default = Some(entry.node.to_json()),
            "enum" => schema.allowed = Some(self.list(entry)?.iter().map(Node::to_json).collect()),
            "pattern" => schema.pattern = Some(self.pattern(entry)?),
            "minLength" => schema.length.least = Some(self.count(entry)?),
            "maxLength" => schema.length.most = Some(self.count(entry)?),
            "minItems" => schema.items_count.least = Some(self.count(entry)?),
            "maxItems" => schema.items_count.most = Some(self.count(entry)?),
            "minProperties" => schema.fields_count.least = Some(self.count(entry)?),
            "maxProperties" => schema.fields_count.most = Some(self.count(entry)?),
            "minimum" => schema.minimum = Some(self.number(entry)?),
            "maximum" => schema.maximum = Some(self.number(entry)?),
            "exclusiveMinimum" => schema.above_minimum = self.flag(entry)?,
            "exclusiveMaximum" => schema.below_maximum = self.flag(entry)?,
            "multipleOf" => {
                schema.multiple_of = Some(self.number(entry)?).filter(|factor| *factor > 0.0);
                if schema.multiple_of.is_none() {
                    return Err(self.broken(entry, "must be above 0"));
                }
            }
            "uniqueItems" if !self.flag(entry)? => {}
            "required" => schema.required = self.texts(entry)?,
            "properties" => {
                for property in entry.node.entries().iter().filter(|property| !property.node.is_null()) {
                    schema.properties.insert(property.key.clone(), self.schema(&property.node, below)?);
                }
            }
            "additionalProperties" => {
                schema.additional = match entry.node.value {
                    Value::Bool(true) => Additional::Any,
                    Value::Bool(false) => Additional::None,
                    _ => Additional::Each(Box::new(self.schema(&entry.node, below)?)),
                };
            }
            "items" => schema.items = Some(Box::new(self.schema(&entry.node, below)?)),
            "allOf" => schema.all_of = self.branches(entry)?,
            "anyOf" => schema.any_of = self.branches(entry)?,
            "oneOf" => schema.one_of = self.branches(entry)?,
            "not" => schema.not = Some(Box::new(self.schema(&entry.node, Level::Branch)?)),
            "x-kubernetes-preserve-unknown-fields" => schema.preserve = self.flag(entry)?,
            "x-kubernetes-int-or-string" => schema.int_or_string = self.flag(entry)?,
            "x-kubernetes-list-type" => {
                self.text(entry)?;
                schema.list_type = self.value(entry, "must be atomic, set or map")?;
            }
            "x-kubernetes-list-map-keys" => schema.list_keys = self.texts(entry)?,
            "x-kubernetes-validations" if branch => {
                return Err(self.broken(entry, "is not allowed inside allOf, anyOf, oneOf or not"));
            }
            "x-kubernetes-validations" => schema.rules = Some(Rules::new(self.list(entry)?.iter().map(Node::to_json))),
            "x-kubernetes-embedded-resource" if !self.flag(entry)? => {}
            "x-kubernetes-embedded-resource" => return Err(self.unsupported(entry, "is not supported")),
            "uniqueItems" => return Err(self.broken(entry, "can't be true in a CRD")),
            _ => return Err(self.broken(entry, "is not a keyword of a CRD's schema")),
        }
        Ok(())
    }

    /// What can be known only once all keywords are there.
    fn complete(&self, mut schema: Schema, node: &Node, level: Level) -> Read<Schema> {
        let whole = |bound: Option<f64>| bound.is_none_or(|bound| bound.fract() == 0.0);
        if schema.kind == Type::Integer
            && !(whole(schema.minimum) && whole(schema.maximum) && whole(schema.multiple_of))
        {
            let message = "the bound is not an integer: the API server rejects every integer with it";
            return Err(self.at(node.span.start, message, BROKEN));
        }
        if level == Level::Root && schema.kind != Type::Object {
            return Err(self.at(node.span.start, "a resource's schema must be of type object", BROKEN));
        }
        if let (Some(name), Some(entry)) = (&schema.format_name, node.entry("format")) {
            match (schema.kind, name.as_str()) {
                (Type::Integer, "int32") => schema.narrow = true,
                (Type::Number, "float") => schema.narrow = true,
                (Type::String | Type::Any, name) => {
                    schema.format = Format::of_string(name).map_err(|()| {
                        let what = format!("{} is not checked here", visible(name));
                        self.unsupported(entry, &what)
                    })?;
                }
                _ => {}
            }
        }
        if let Some(rules) = &mut schema.rules {
            rules.judge(&node.to_json());
        }
        if level == Level::Root {
            schema.root();
        }
        Ok(schema)
    }

    fn branches(&self, entry: &Entry) -> Read<Vec<Schema>> {
        self.list(entry)?.iter().map(|node| self.schema(node, Level::Branch)).collect()
    }

    fn kind(&self, entry: &Entry) -> Read<Type> {
        let name = self.text(entry)?;
        self.value(entry, &format!("{} is not a type of a schema", visible(&name)))
    }

    fn pattern(&self, entry: &Entry) -> Read<Pattern> {
        let text = self.text(entry)?;
        match pattern(&text) {
            Ok(regex) => Ok(Pattern { text, regex }),
            Err(why) => Err(self.unsupported(entry, &format!("can't be compiled: {}", visible(&why)))),
        }
    }

    fn list<'n>(&self, entry: &'n Entry) -> Read<&'n [Node]> {
        match &entry.node.value {
            Value::Sequence(items) => Ok(items),
            _ => Err(self.broken(entry, "must be a list")),
        }
    }

    fn texts(&self, entry: &Entry) -> Read<Vec<String>> {
        self.list(entry)?;
        self.value(entry, "must be a list of strings")
    }

    fn text(&self, entry: &Entry) -> Read<String> {
        self.value(entry, "must be a string")
    }

    fn flag(&self, entry: &Entry) -> Read<bool> {
        self.value(entry, "must be true or false")
    }

    fn number(&self, entry: &Entry) -> Read<f64> {
        self.value(entry, "must be a number")
    }

    fn count(&self, entry: &Entry) -> Read<usize> {
        self.value(entry, "must be an integer of at least 0")
    }

    fn value<T: DeserializeOwned>(&self, entry: &Entry, what: &str) -> Read<T> {
        serde_json::from_value(entry.node.to_json()).map_err(|_| self.broken(entry, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::parse;
    use crate::plane::{DEFAULT_KIND, Release};
    use crate::validate::tests::crd;

    #[test]
    fn no_keyword_is_passed_over() {
        for (schema, place, words) in [
            ("{type: string, patern: x}", "crd.yaml:12:43", "patern is not a keyword"),
            ("{type: string, pattern: '('}", "crd.yaml:12:43", "can't be compiled"),
            ("{type: string, format: uri}", "crd.yaml:12:43", "uri is not checked"),
            ("{type: text}", "crd.yaml:12:29", "text is not a type"),
            ("{type: array, uniqueItems: true}", "crd.yaml:12:42", "can't be true"),
            ("{type: object, x-kubernetes-embedded-resource: true}", "crd.yaml:12:43", "not supported"),
            ("{type: string, minLength: -1}", "crd.yaml:12:43", "an integer of at least 0"),
            ("{type: integer, maximum: 1.5}", "crd.yaml:12:28", "not an integer"),
            ("{type: object, $ref: '#/x'}", "crd.yaml:12:43", "$ref is not a keyword"),
            ("{type: object, anyOf: [{x-kubernetes-validations: []}]}", "crd.yaml:12:52", "is not allowed inside"),
        ] {
            let error = crd(schema).unwrap_err();
            assert_eq!(error.place, place, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
        assert!(crd("{type: object, description: x, x-kubernetes-map-type: atomic, uniqueItems: false}").is_ok());
    }

    #[test]
    fn the_crd_is_found_among_others() {
        let other = "kind: CustomResourceDefinition\nspec: {names: {kind: Environment}}\n";
        let read = |text: &str| Resource::all_of(&parse("f".into(), text.into()));
        assert!(read(other).unwrap_err().message.contains("no CustomResourceDefinition"));
        assert!(read("a: 1").unwrap_err().message.contains("no CustomResourceDefinition"));
        assert!(read("a: [").unwrap_err().place.starts_with("f:"));
        let both = format!("{other}---\n{}", &DEFAULT_KIND.crd(Release::V0).unwrap());
        let resource = read(&both).unwrap().remove(0);
        assert_eq!((resource.group.as_str(), resource.status), ("openchoreo.dev", true));
        assert!(resource.schema("openchoreo.dev/v1alpha1").is_some());
        assert!(resource.schema("openchoreo.dev/v1").is_none());
    }
}
