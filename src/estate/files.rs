//! A cluster as files tell of it: a dump, or what kubectl printed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::marks;
use super::objects::{ObjectRef, SECRET};
use super::source::{Source, text};
use super::unavailable::Unavailable;
use crate::plane::{Side, Snapshot};

/// One of the two clusters, out of files. What doesn't say which one it is of may be of either.
pub struct Files<'s> {
    /// Whether what isn't here did not exist.
    is_dump: bool,
    /// By kind, namespace and name.
    objects: HashMap<(&'s str, &'s str, &'s str), &'s Value>,
    /// What a dump could not read, by its path.
    unread: HashMap<String, Unavailable>,
}

impl<'s> Files<'s> {
    /// The control plane's cluster.
    pub fn control(snapshot: &'s Snapshot) -> Self {
        Self::of(snapshot, Side::Control, marks::is_dump(snapshot))
    }

    fn of(snapshot: &'s Snapshot, side: Side, is_dump: bool) -> Self {
        let mut objects = HashMap::new();
        for object in snapshot.related.iter().filter(|object| side.has(object)) {
            objects.entry(key(object)).or_insert(object);
        }
        // The first word on a path counts.
        let unread = marks::all_unread(snapshot, side).into_iter().rev().collect();
        Self { is_dump, objects, unread }
    }

    /// Why an object isn't here.
    fn absent(&self, what: &ObjectRef) -> Unavailable {
        match (self.unread.get(&what.path()), self.is_dump) {
            (Some(why), _) => why.clone(),
            (None, false) => Unavailable::not_in_files(format!("{} is not in the files", what.title())),
            (None, true) => Unavailable::missing(format!("{} does not exist", what.title())),
        }
    }
}

fn key(object: &Value) -> (&str, &str, &str) {
    (text(object, "/kind"), text(object, "/metadata/namespace"), text(object, "/metadata/name"))
}

/// A Secret whose `stringData` is in its `data`, as the API server would have it.
fn stored(mut secret: Value) -> Value {
    let plain = secret.as_object_mut().and_then(|fields| fields.shift_remove("stringData"));
    for (key, text) in plain.as_ref().and_then(Value::as_object).into_iter().flatten() {
        secret["data"][key] = STANDARD.encode(text.as_str().unwrap_or_default()).into();
    }
    secret
}

impl Source for Files<'_> {
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable> {
        let place = (what.resource.kind, what.namespace.as_deref().unwrap_or_default(), what.name.as_str());
        match self.objects.get(&place) {
            Some(object) if what.resource == &SECRET => Ok(stored((*object).clone())),
            Some(object) => Ok((*object).clone()),
            None => Err(self.absent(what)),
        }
    }
}
