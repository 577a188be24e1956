//! A cluster as files describe it: a dump, or what kubectl printed.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::marks;
use super::objects::{CRD, Collection, DEPLOYMENT, ObjectRef, POD, SECRET};
use super::source::{Coverage, Source, text};
use super::unavailable::Unavailable;
use crate::cluster::Cluster;
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

    /// The plane's cluster; none where the files do not contain it.
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
            // An observability plane is a plane itself.
            None => match self.snapshot.planes.iter().find(|plane| what.is(&plane.key())) {
                Some(plane) => Ok(plane.manifest()),
                None => Err(self.absent(what)),
            },
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

    async fn planes<R>(&self, kind: &'static Kind, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Unavailable> {
        if let Some(why) = self.unread.get(&Collection::of(kind, None).place()) {
            return Err(why.clone());
        }
        Ok(self.snapshot.planes.iter().filter(|plane| plane.kind == kind).cloned().map(make).collect())
    }

    async fn log(&self, pod: &NamespacedName, _: &str, _: i64) -> Result<String, Unavailable> {
        let pod = self.get(&ObjectRef::named(POD, pod)).await?;
        Ok(pod["metadata"]["annotations"][LOG].as_str().unwrap_or_default().to_owned())
    }

    async fn served(&self, kind: &'static Kind) -> Result<Served, Unavailable> {
        let name = kind.crd_name();
        let crd = self.objects.get(&(CRD.kind, "", name.as_str()));
        let served = crd.and_then(|crd| Served::of(crd, kind.version));
        served.ok_or_else(|| Unavailable::not_in_files("it is not in the files"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estate::objects::DEPLOYMENT;
    use crate::estate::unavailable::Cause;
    use crate::plane::{DUMPED, SIDE};
    use serde_json::json;

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "n".into(), name: name.into() }
    }

    fn dump(related: Vec<Value>) -> Snapshot {
        let metadata = json!({"name": "a", "annotations": {DUMPED: "2026-01-01T00:00:00Z"}});
        Snapshot::of_files(vec![serde_json::from_value(json!({"metadata": metadata})).unwrap()], related)
    }

    #[tokio::test]
    async fn what_is_not_in_files_is_missing_only_where_it_was_looked_for() {
        let secret = ObjectRef::named(SECRET, &named("x"));
        let reported = async |snapshot: Snapshot| {
            let why = Files::control(&snapshot).get(&secret).await.unwrap_err();
            (why.cause, why.message)
        };
        let part = reported(Snapshot::default()).await;
        assert_eq!(part, (Cause::NotInFiles, "Secret n/x is not in the files".into()));
        assert_eq!(reported(dump(vec![])).await, (Cause::Missing, "Secret n/x does not exist".into()));
        let why = Unavailable::new(Cause::Forbidden, "not allowed");
        let unread = dump(vec![marks::unread(Side::Control, &secret.path(), &why)]);
        assert_eq!(reported(unread).await, (Cause::Forbidden, "it could not be read for the dump: not allowed".into()));
        let longer = dump(vec![marks::unread(Side::Control, &format!("{}y", secret.path()), &why)]);
        assert_eq!(reported(longer).await.0, Cause::Missing, "it is another one's path");
    }

    #[tokio::test]
    async fn a_list_that_could_not_be_read_is_not_empty() {
        let agents = Collection::of(DEPLOYMENT, Some("n")).labelled("app=x");
        let why = Unavailable::new(Cause::Unreachable, "no answer");
        let place = marks::place(Side::Build, "n");
        let snapshot = dump(vec![place, marks::unread(Side::Build, &agents.path(), &why)]);
        let build = Files::build(&snapshot).unwrap();
        assert_eq!(build.list(&agents, |_| Some(())).await.unwrap_err().cause, Cause::Unknown);
        assert!(Files::build(&dump(vec![])).is_none(), "nothing is known of it");
    }

    #[tokio::test]
    async fn objects_are_distinguished_by_side_namespace_and_labels() {
        let deployment = |namespace: &str, label: &str, annotations: Value| {
            json!({"kind": "Deployment", "metadata": {
                "namespace": namespace, "name": label, "labels": {"app": label}, "annotations": annotations,
            }})
        };
        let snapshot = dump(vec![
            deployment("n", "x", json!({})),
            deployment("n", "y", json!({SIDE: "build"})),
            deployment("n", "z", json!({SIDE: "control"})),
            deployment("o", "x", json!({})),
        ]);
        let (control, build) = (Files::control(&snapshot), Files::build(&snapshot).unwrap());
        let count = async |files: &Files<'_>, of: Collection| files.list(&of, |_| Some(())).await.unwrap().len();
        assert_eq!(count(&build, Collection::of(DEPLOYMENT, Some("n"))).await, 2);
        assert_eq!(count(&build, Collection::of(DEPLOYMENT, None).labelled("app=x")).await, 2);
        assert_eq!(count(&control, Collection::of(DEPLOYMENT, Some("n"))).await, 2);
        assert!(control.get(&ObjectRef::named(DEPLOYMENT, &named("y"))).await.is_err());
        assert_eq!(build.coverage(), Coverage::Part);
    }

    #[tokio::test]
    async fn a_secret_in_a_manifest_is_read_as_the_server_would_have_it() {
        let secret = json!({
            "kind": "Secret", "metadata": {"namespace": "n", "name": "x"}, "data": {"a": "MQ=="}, "stringData": {"b": "2"},
        });
        let snapshot = dump(vec![secret]);
        let read = Files::control(&snapshot).get(&ObjectRef::named(SECRET, &named("x"))).await.unwrap();
        assert_eq!(read["data"], json!({"a": "MQ==", "b": "Mg=="}));
    }
}
