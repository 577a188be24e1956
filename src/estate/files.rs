//! A cluster as files tell of it: a dump, or what kubectl printed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::marks;
use super::objects::{CRD, Collection, DEPLOYMENT, ObjectRef, POD, SECRET};
use super::source::{Coverage, Source, text};
use super::unavailable::Unavailable;
use crate::cluster::{Agent, AgentPod, Cluster};
use crate::plane::{Kind, LOG, NamespacedName, Plane, Served, Side, Snapshot};

/// One of the two clusters, out of files. What doesn't say which one it is of may be of either.
pub struct Files<'s> {
    snapshot: &'s Snapshot,
    side: Side,
    coverage: Coverage,
    /// By kind, namespace and name.
    objects: HashMap<(&'s str, &'s str, &'s str), &'s Value>,
    /// What a dump could not read, by its path.
    unread: HashMap<String, Unavailable>,
}

impl<'s> Files<'s> {
    /// The control plane's cluster.
    pub fn control(snapshot: &'s Snapshot) -> Self {
        let coverage = if marks::is_dump(snapshot) { Coverage::Dump } else { Coverage::Part };
        Self::of(snapshot, Side::Control, coverage)
    }

    /// The build cluster; none where the files tell nothing of it.
    pub fn build(snapshot: &'s Snapshot) -> Option<Self> {
        let coverage = match marks::namespace(snapshot, Side::Build) {
            Some(_) => Coverage::Dump,
            None if snapshot.related.iter().any(|object| object["kind"] == DEPLOYMENT.kind) => Coverage::Part,
            None => return None,
        };
        Some(Self::of(snapshot, Side::Build, coverage))
    }

    fn of(snapshot: &'s Snapshot, side: Side, coverage: Coverage) -> Self {
        let mut objects = HashMap::new();
        for object in snapshot.related.iter().filter(|object| side.has(object)) {
            objects.entry(key(object)).or_insert(object);
        }
        // The first word on a path counts.
        let unread = marks::all_unread(snapshot, side).into_iter().rev().collect();
        Self { snapshot, side, coverage, objects, unread }
    }

    /// Why an object isn't here.
    fn absent(&self, what: &ObjectRef) -> Unavailable {
        match (self.unread.get(&what.path()), self.coverage) {
            (Some(why), _) => why.clone(),
            (None, Coverage::Part) => Unavailable::not_in_files(format!("{} is not in the files", what.title())),
            (None, _) => Unavailable::missing(format!("{} does not exist", what.title())),
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

/// Whether an object has all labels of a selector of equalities.
fn is_labelled(object: &Value, selector: &str) -> bool {
    let labels = &object["metadata"]["labels"];
    let has = |label: &str| label.split_once('=').is_some_and(|(key, value)| labels[key] == value);
    selector.split(',').filter(|label| !label.is_empty()).all(has)
}

impl Source for Files<'_> {
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable> {
        let place = (what.resource.kind, what.namespace.as_deref().unwrap_or_default(), what.name.as_str());
        match self.objects.get(&place) {
            Some(object) if what.resource == SECRET => Ok(stored((*object).clone())),
            Some(object) => Ok((*object).clone()),
            None => Err(self.absent(what)),
        }
    }

    async fn list<R>(&self, what: &Collection, make: impl Fn(&Value) -> Option<R>) -> Result<Vec<R>, Unavailable> {
        if let Some(why) = self.unread.get(&what.place()) {
            return Err(why.clone());
        }
        let is_meant = |object: &&Value| {
            self.side.has(object)
                && object["kind"] == what.resource.kind
                && what.namespace.as_ref().is_none_or(|namespace| object["metadata"]["namespace"] == namespace.as_str())
                && is_labelled(object, &what.labels)
        };
        Ok(self.snapshot.related.iter().filter(is_meant).filter_map(make).collect())
    }

    async fn planes<R>(&self, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Unavailable> {
        Ok(self.snapshot.planes.iter().cloned().map(make).collect())
    }

    async fn log(&self, agent: &Agent, pod: &AgentPod) -> Result<String, Unavailable> {
        let name = NamespacedName { namespace: agent.name.namespace.clone(), name: pod.name.clone() };
        let pod = self.get(&ObjectRef::named(POD, &name)).await?;
        Ok(pod["metadata"]["annotations"][LOG].as_str().unwrap_or_default().to_owned())
    }

    async fn served(&self) -> Result<Served, Unavailable> {
        let name = self.kind().crd_name();
        let crd = self.objects.get(&(CRD.kind, "", name.as_str()));
        let served = crd.and_then(|crd| Served::of(crd, self.kind().version));
        served.ok_or_else(|| Unavailable::not_in_files("it is not in the files"))
    }

    fn kind(&self) -> &'static Kind {
        self.snapshot.planes.first().map(|plane| plane.kind).unwrap_or_default()
    }

    fn coverage(&self) -> Coverage {
        self.coverage
    }

    fn live(&self) -> Option<&Cluster> {
        None
    }

    fn now(&self) -> Timestamp {
        self.snapshot.now
    }
}
