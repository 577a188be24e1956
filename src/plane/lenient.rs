//! Reading objects field by field, so that a value of an unexpected shape costs one field and not the object.
//!
//! The API server stores more than the types here can hold: times past the year 9999, integers past 64 bits, and what
//! the CRD of another release allows. Such a value stays among the object's other fields, so that writing the object
//! loses nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::DateTime;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry, ObjectMeta, OwnerReference, Time};
use serde_json::{Map, Value};

use crate::text::visible;

/// A field whose value can't be read, and is treated as unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// As `status.agentConnection.lastHeartbeatTime`.
    pub path: String,
    /// What the value should be: `a time`.
    pub expected: &'static str,
}

impl Unreadable {
    /// Returns the warning about the field of a plane of this name.
    pub fn warning(&self, plane: &str) -> String {
        let Self { path, expected } = self;
        format!("plane {}: {} is not {expected} and is treated as unknown", visible(plane), visible(path))
    }
}

/// The place in an object, and what could not be read so far.
#[derive(Default)]
pub(super) struct Reader {
    path: String,
    pub(super) unreadable: Vec<Unreadable>,
}

impl Reader {
    fn reject<T>(&mut self, expected: &'static str, value: Value) -> Read<T> {
        self.unreadable.push(Unreadable { path: self.path.clone(), expected });
        (None, Some(value))
    }

    /// Rejects a value for what one of its fields holds.
    pub(super) fn reject_for<T>(&mut self, step: &str, expected: &'static str, value: Value) -> Read<T> {
        self.at(format_args!("{step}"), |reader| reader.reject(expected, value))
    }

    fn at<T>(&mut self, step: std::fmt::Arguments<'_>, read: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(&step.to_string());
        let result = read(self);
        self.path.truncate(length);
        result
    }
}

/// What was read, and the value itself where the former does not hold all of it.
pub(super) type Read<T> = (Option<T>, Option<Value>);

/// A type that is read from any value, as far as the value fits.
pub(super) trait Lenient: Sized {
    fn read(value: Value, reader: &mut Reader) -> Read<Self>;

    /// Whether all of such a value is kept when it is an item of a list.
    fn suits(_: &Value) -> bool {
        false
    }
}

/// The fields of an object, taken one by one.
pub(super) struct Fields<'r> {
    fields: Map<String, Value>,
    reader: &'r mut Reader,
}

impl<'r> Fields<'r> {
    /// Takes an object apart, or returns a value that is none.
    pub(super) fn of(value: Value, reader: &'r mut Reader) -> Result<Self, Value> {
        match value {
            Value::Object(fields) => Ok(Self { fields, reader }),
            value => {
                let (_, value) = reader.reject::<()>("an object", value);
                Err(value.unwrap_or_default())
            }
        }
    }

    /// Takes a field out; what can't be read of it stays. Null is as good as absent.
    pub(super) fn take<T: Lenient>(&mut self, name: &str) -> Option<T> {
        self.take_with(name, T::read)
    }

    pub(super) fn take_with<T>(&mut self, name: &str, read: impl FnOnce(Value, &mut Reader) -> Read<T>) -> Option<T> {
        let value = self.fields.shift_remove(name).filter(|value| !value.is_null())?;
        let dot = if self.reader.path.is_empty() { "" } else { "." };
        let (known, rest) = self.reader.at(format_args!("{dot}{name}"), |reader| read(value, reader));
        if let Some(rest) = rest {
            self.fields.insert(name.to_owned(), rest);
        }
        known
    }

    /// The fields that are left.
    pub(super) fn rest(self) -> Map<String, Value> {
        self.fields
    }
}

/// Reads a structure that keeps the other fields itself.
pub(super) fn object<T>(value: Value, reader: &mut Reader, take: impl FnOnce(Fields<'_>) -> T) -> Read<T> {
    match Fields::of(value, reader) {
        Ok(fields) => (Some(take(fields)), None),
        Err(value) => (None, Some(value)),
    }
}

/// Reads a structure that has no room for other fields: with some left over, the value is kept whole.
pub(super) fn whole<T>(value: Value, reader: &mut Reader, take: impl FnOnce(&mut Fields<'_>) -> T) -> Read<T> {
    let copy = value.clone();
    match Fields::of(value, reader) {
        Err(value) => (None, Some(value)),
        Ok(mut fields) => {
            let known = take(&mut fields);
            let left = !fields.rest().is_empty();
            (Some(known), left.then_some(copy))
        }
    }
}

impl Lenient for String {
    fn suits(value: &Value) -> bool {
        value.is_string()
    }

    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        match value {
            Value::String(text) => (Some(text), None),
            value => reader.reject("a string", value),
        }
    }
}

impl Lenient for bool {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        match value {
            Value::Bool(is) => (Some(is), None),
            value => reader.reject("true or false", value),
        }
    }
}

impl Lenient for i64 {
    /// A whole number out of range is the nearest one in range: the API server takes 1e30 for an integer.
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        if let Some(number) = value.as_i64() {
            return (Some(number), None);
        }
        match value.as_f64().filter(|number| number.fract() == 0.0) {
            // The cast saturates.
            Some(number) => (Some(number as Self), Some(value)),
            None => reader.reject("a whole number", value),
        }
    }
}

impl Lenient for Timestamp {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        let text = value.as_str().unwrap_or_default();
        if let Ok(time) = text.parse::<Self>() {
            // Only a time that is written back in the same words needs no keeping.
            let same = time.to_string() == text;
            return (Some(time), (!same).then_some(value));
        }
        match nearest_time(text) {
            Some(time) => (Some(time), Some(value)),
            None => reader.reject("a time", value),
        }
    }
}

/// Reads a time that is past the years of [`Timestamp`], which is then the last one, or has more digits than
/// nanoseconds, of which the rest is cut off.
pub fn nearest_time(text: &str) -> Option<Timestamp> {
    // As Go does, see IsDateTime in k8s.io/kube-openapi: letters of either case.
    let text = text.to_ascii_uppercase();
    let at = text.find('T')?;
    let zone = at + text.get(at..)?.find(['Z', '+', '-'])?;
    let (civil, zone) = text.split_at_checked(zone)?;
    let civil = match civil.split_once(['.', ',']) {
        Some((seconds, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{seconds}.{}", digits.get(..9).unwrap_or(digits))
        }
        Some(_) => return None,
        None => civil.to_owned(),
    };
    let date: DateTime = civil.parse().ok()?;
    match format!("{civil}{zone}").parse() {
        Ok(time) => Some(time),
        // The zone is sound where it is so at another date.
        Err(_) => (format!("2000-01-01T00:00:00{zone}").parse::<Timestamp>().is_ok()).then_some(match date.year() {
            ..0 => Timestamp::MIN,
            _ => Timestamp::MAX,
        }),
    }
}

impl Lenient for Time {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        let (time, rest) = Timestamp::read(value, reader);
        (time.map(Self), rest)
    }
}

impl<T: Lenient> Lenient for Vec<T> {
    /// Leaves out the items that can't be read at all.
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        let Value::Array(items) = value else {
            return reader.reject("a list", value);
        };
        let copy = (!items.iter().all(T::suits)).then(|| items.clone().into());
        let mut known = Self::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            known.extend(reader.at(format_args!("[{index}]"), |reader| T::read(item, reader)).0);
        }
        (Some(known), copy)
    }
}

/// Labels and annotations: without a value that is no string. A null is an empty string, as in Go.
impl Lenient for BTreeMap<String, String> {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        let Value::Object(fields) = value else {
            return reader.reject("an object", value);
        };
        let copy = (!fields.values().all(Value::is_string)).then(|| fields.clone().into());
        let mut known = Self::new();
        for (name, value) in fields {
            let text = match value {
                Value::Null => Some(String::new()),
                value => reader.at(format_args!(".{name}"), |reader| String::read(value, reader)).0,
            };
            known.extend(text.map(|text| (name, text)));
        }
        (Some(known), copy)
    }
}

impl Lenient for FieldsV1 {
    fn read(value: Value, _: &mut Reader) -> Read<Self> {
        (Some(Self(value)), None)
    }
}

/// What can't be read of it is dropped: managers' fields are written by way of the object as it is.
impl Lenient for ManagedFieldsEntry {
    fn suits(value: &Value) -> bool {
        value.is_object()
    }

    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        object(value, reader, |mut fields| Self {
            api_version: fields.take("apiVersion"),
            fields_type: fields.take("fieldsType"),
            fields_v1: fields.take("fieldsV1"),
            manager: fields.take("manager"),
            operation: fields.take("operation"),
            subresource: fields.take("subresource"),
            time: fields.take("time"),
        })
    }
}

impl Lenient for OwnerReference {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        whole(value, reader, |fields| Self {
            api_version: fields.take("apiVersion").unwrap_or_default(),
            block_owner_deletion: fields.take("blockOwnerDeletion"),
            controller: fields.take("controller"),
            kind: fields.take("kind").unwrap_or_default(),
            name: fields.take("name").unwrap_or_default(),
            uid: fields.take("uid").unwrap_or_default(),
        })
    }
}

/// Reads an object's metadata, and returns the fields that could not be read beside it.
pub(super) fn metadata(value: Value, reader: &mut Reader) -> Read<(ObjectMeta, Map<String, Value>)> {
    object(value, reader, |mut fields| {
        let metadata = ObjectMeta {
            annotations: fields.take("annotations"),
            creation_timestamp: fields.take("creationTimestamp"),
            deletion_grace_period_seconds: fields.take("deletionGracePeriodSeconds"),
            deletion_timestamp: fields.take("deletionTimestamp"),
            finalizers: fields.take("finalizers"),
            generate_name: fields.take("generateName"),
            generation: fields.take("generation"),
            labels: fields.take("labels"),
            managed_fields: fields.take("managedFields"),
            name: fields.take("name"),
            namespace: fields.take("namespace"),
            owner_references: fields.take("ownerReferences"),
            resource_version: fields.take("resourceVersion"),
            self_link: fields.take("selfLink"),
            uid: fields.take("uid"),
        };
        (metadata, fields.rest())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What is read, what is kept beside it, and the paths that could not be read.
    fn read<T: Lenient>(value: Value) -> (Option<T>, Option<Value>, Vec<String>) {
        let mut reader = Reader { path: "f".into(), unreadable: Vec::new() };
        let (known, rest) = T::read(value, &mut reader);
        (known, rest, reader.unreadable.into_iter().map(|field| field.path).collect())
    }

    #[test]
    fn whole_numbers_and_times_saturate_and_are_kept_as_they_were() {
        assert_eq!(read::<i64>(json!(1e30)), (Some(i64::MAX), Some(json!(1e30)), vec![]));
        assert_eq!(read::<i64>(json!(7)), (Some(7), None, vec![]));
        assert_eq!(read::<i64>(json!(1.5)), (None, Some(json!(1.5)), vec!["f".into()]));
        let late = json!("9999-12-31T23:59:59Z");
        assert_eq!(read::<Timestamp>(late.clone()), (Some(Timestamp::MAX), Some(late), vec![]));
        let plain = json!("2026-01-01T00:00:00Z");
        assert_eq!(read::<Timestamp>(plain).1, None, "it is written back in the same words");
        assert_eq!(read::<Timestamp>(json!("soon")).2, ["f"]);
    }

    #[test]
    fn an_item_that_cannot_be_read_is_left_out_of_its_list() {
        let (known, rest, paths) = read::<Vec<String>>(json!(["a", 1, "b"]));
        assert_eq!(known.unwrap(), ["a", "b"]);
        assert_eq!((rest, paths), (Some(json!(["a", 1, "b"])), vec!["f[1]".to_owned()]));
        let (known, _, paths) = read::<BTreeMap<String, String>>(json!({"a": null, "b": 2}));
        assert_eq!(
            (known.unwrap(), paths),
            (BTreeMap::from([("a".to_owned(), String::new())]), vec!["f.b".to_owned()])
        );
        assert_eq!(read::<Vec<String>>(json!({})).2, ["f"]);
    }

    #[test]
    fn a_structure_without_room_for_others_is_kept_whole() {
        let owner = json!({"apiVersion": "v1", "kind": "K", "name": "n", "uid": "u", "later": 1});
        let (known, rest, _) = read::<OwnerReference>(owner.clone());
        assert_eq!((known.unwrap().name.as_str(), rest), ("n", Some(owner)));
        assert_eq!(read::<OwnerReference>(json!([])).2, ["f"]);
    }

    #[test]
    fn metadata_keeps_what_it_has_no_field_for() {
        let mut reader = Reader::default();
        let value = json!({"name": "a", "generation": "x", "later": true});
        let (known, other) = metadata(value, &mut reader).0.unwrap();
        assert_eq!((known.name.as_deref(), known.generation), (Some("a"), None));
        assert_eq!(Value::from(other), json!({"generation": "x", "later": true}));
        let warning = reader.unreadable[0].warning("p\u{1b}");
        assert_eq!(warning, r"plane p\u{1b}: generation is not a whole number and is treated as unknown");
    }
}
