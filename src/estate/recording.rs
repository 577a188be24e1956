//! A cluster that is read through, and what was read of it.

use std::cell::RefCell;

use jiff::Timestamp;
use serde_json::Value;

use super::objects::{CRD, Collection, ObjectRef, Resource};
use super::source::{Coverage, Source, typed};
use super::unavailable::Unavailable;
use crate::cluster::Cluster;
use crate::plane::{Kind, LOG, NamespacedName, Plane, SIDE, Served, Side};

/// What of an object is kept, with the key that was wanted of a Secret; none where nothing is.
pub type Keep<'k> = dyn Fn(&Value, Option<&str>) -> Option<Value> + 'k;

/// What was read of a cluster.
pub struct Record<'k> {
    side: Side,
    keep: &'k Keep<'k>,
    read: RefCell<Read>,
}

#[derive(Default)]
struct Read {
    objects: Vec<Value>,
    /// The paths that could not be read, and why.
    unread: Vec<(String, Unavailable)>,
}

impl<'k> Record<'k> {
    pub fn new(side: Side, keep: &'k Keep<'k>) -> Self {
        Self { side, keep, read: RefCell::default() }
    }

    /// The objects, each with the side that it is of; and the paths that could not be read, with the reasons.
    pub fn into_parts(self) -> (Vec<Value>, Vec<(String, Unavailable)>) {
        let Read { objects, unread } = self.read.into_inner();
        (objects, unread)
    }

    fn add(&self, mut object: Value, resource: Resource, key: Option<&str>) {
        (object["apiVersion"], object["kind"]) = (resource.api_version().into(), resource.kind.into());
        let Some(mut kept) = (self.keep)(&object, key) else {
            return;
        };
        kept["metadata"]["annotations"][SIDE] = self.side.name().into();
        let same =
            |one: &Value| ["namespace", "name"].iter().all(|field| one["metadata"][field] == kept["metadata"][field]);
        // A Secret may hold the CAs of several planes, each under a key of its own.
        let objects = &mut self.read.borrow_mut().objects;
        match objects.iter_mut().find(|there| there["kind"] == kept["kind"] && same(there)) {
            None => objects.push(kept),
            Some(there) => {
                if let (Some(data), Some(more)) = (there["data"].as_object_mut(), kept["data"].as_object()) {
                    data.extend(more.clone());
                }
            }
        }
    }

    /// What isn't there is known, and no problem.
    fn miss(&self, path: String, why: &Unavailable) {
        let unread = &mut self.read.borrow_mut().unread;
        if !why.is_missing() && unread.iter().all(|(known, _)| *known != path) {
            unread.push((path, why.clone()));
        }
    }

    /// Marks a pod with its log.
    fn log(&self, pod: &NamespacedName, log: &str) {
        let is_pod = |object: &&mut Value| {
            let metadata = &object["metadata"];
            object["kind"] == "Pod"
                && metadata["name"] == pod.name.as_str()
                && metadata["namespace"] == pod.namespace.as_str()
        };
        if let Some(pod) = self.read.borrow_mut().objects.iter_mut().find(is_pod) {
            pod["metadata"]["annotations"][LOG] = log.into();
        }
    }
}

/// A cluster whose reading is recorded.
pub struct Recording<'r, S> {
    pub inner: &'r S,
    pub record: &'r Record<'r>,
}

impl<S: Source> Source for Recording<'_, S> {
    async fn get(&self, what: &ObjectRef) -> Result<Value, Unavailable> {
        let read = self.inner.get(what).await;
        match &read {
            Ok(object) => self.record.add(object.clone(), what.resource, what.key.as_deref()),
            Err(why) => self.record.miss(what.path(), why),
        }
        read
    }

    async fn list<R>(&self, what: &Collection, make: impl Fn(&Value) -> Option<R>) -> Result<Vec<R>, Unavailable> {
        let recorded = |object: &Value| {
            self.record.add(object.clone(), what.resource, None);
            make(object)
        };
        let read = self.inner.list(what, recorded).await;
        if let Err(why) = &read {
            self.record.miss(what.path(), why);
        }
        read
    }

    async fn planes<R>(&self, kind: &'static Kind, make: impl Fn(Plane) -> R) -> Result<Vec<R>, Unavailable> {
        let make = |object: &Value| {
            let mut plane: Plane = typed(object)?;
            plane.kind = kind;
            Some(make(plane))
        };
        match self.list(&Collection::of(kind, None), make).await {
            Err(why) if why.is_missing() => Ok(Vec::new()),
            planes => planes,
        }
    }

    async fn log(&self, pod: &NamespacedName, container: &str, lines: i64) -> Result<String, Unavailable> {
        let log = self.inner.log(pod, container, lines).await;
        self.record.log(pod, log.as_deref().unwrap_or_default());
        log
    }

    async fn served(&self, kind: &'static Kind) -> Result<Served, Unavailable> {
        drop(self.get(&ObjectRef::of_cluster(CRD, &kind.crd_name())).await);
        self.inner.served(kind).await
    }

    fn coverage(&self) -> Coverage {
        self.inner.coverage()
    }

    fn live(&self) -> Option<&Cluster> {
        self.inner.live()
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::estate::objects::{POD, SECRET};
    use crate::plane::NamespacedName;
    use serde_json::json;

    fn object(kind: &str, name: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": kind,
            "metadata": {"namespace": "n", "name": name, "annotations": {}}, "data": {"a": "MQ==", "b": "Mg=="},
        })
    }

    #[tokio::test]
    async fn what_was_read_is_kept_once_and_what_could_not_be_is_reported() {
        let fake = Fake::of([object("Secret", "s"), object("Pod", "p"), object("Pod", "left-out")]);
        fake.forbid("GET /api/v1/namespaces/n/secrets/t");
        let cluster = fake.cluster();
        // The wanted key alone, and not every pod.
        let keep = |object: &Value, key: Option<&str>| {
            let mut kept = object.clone();
            kept["data"] = key.map(|key| json!({key: object["data"][key]})).unwrap_or_default();
            (object["metadata"]["name"] != "left-out").then_some(kept)
        };
        let record = Record::new(Side::Build, &keep);
        let recording = Recording { inner: &cluster, record: &record };
        let secret =
            |name: &str| ObjectRef::named(SECRET, &NamespacedName { namespace: "n".into(), name: name.into() });
        for what in [secret("s").with_key("a"), secret("s").with_key("b"), secret("gone")] {
            let _ = recording.get(&what).await;
        }
        for _ in 0..2 {
            assert!(recording.get(&secret("t")).await.is_err());
        }
        let pods = recording.list(&Collection::of(POD, Some("n")), |_| Some(())).await.unwrap();
        assert_eq!(pods.len(), 2, "the reader gets all");
        let (objects, unread) = record.into_parts();
        let names: Vec<_> = objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["s", "p"]);
        assert_eq!(objects[0]["data"], json!({"a": "MQ==", "b": "Mg=="}));
        assert_eq!(
            (&objects[1]["kind"], &objects[1]["metadata"]["annotations"][SIDE]),
            (&json!("Pod"), &json!("build"))
        );
        assert_eq!(
            unread.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(),
            ["/api/v1/namespaces/n/secrets/t"]
        );
    }
}
