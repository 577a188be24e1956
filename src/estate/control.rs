//! What is around planes in the control plane's cluster: the gateway's CA, the controller's lease, observability planes,
//! and events.

use std::collections::{BTreeSet, HashMap};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;

use super::client_ca::key_of;
use super::objects::{Collection, DEPLOYMENT, EVENT, LEASE, ObjectRef, SECRET};
use super::source::{AT_ONCE, Coverage, Source, grouped, text, time};
use super::unavailable::{Cause, Unavailable, or_none};
use crate::plane::{self, CA_KEY, EVENT_NAMESPACE, GATEWAY_CA, Kind, NamespacedName, PlaneKey};

/// The gateway's CA, in PEM.
pub async fn gateway_ca(source: &impl Source, namespace: &str) -> Result<String, Unavailable> {
    let what = ObjectRef::named(SECRET, &NamespacedName { namespace: namespace.into(), name: GATEWAY_CA.into() });
    let bytes = key_of(&source.get(&what).await?, CA_KEY, &what)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// When the controller last renewed its lease; none where there is no lease.
pub async fn lease(source: &impl Source, namespace: &str) -> Result<Option<Timestamp>, Unavailable> {
    let what = ObjectRef::named(LEASE, &NamespacedName { namespace: namespace.into(), name: plane::LEASE.into() });
    let lease = or_none(source.get(&what).await)?;
    Ok(lease.and_then(|lease| time(text(&lease, "/spec/renewTime"))))
}

/// The Deployment with these labels that is scaled to zero; none where there is none, or where that can't be read.
pub async fn scaled_to_zero(source: &impl Source, namespace: &str, labels: &str) -> Option<String> {
    let all = Collection::of(DEPLOYMENT, Some(namespace)).labelled(labels);
    let name = |object: &Value| (object["spec"]["replicas"] == 0).then(|| text(object, "/metadata/name").to_owned());
    source.list(&all, name).await.ok()?.pop()
}

/// Whether observability planes exist, each asked for once.
pub async fn observability_planes(
    source: &impl Source,
    planes: impl IntoIterator<Item = PlaneKey>,
) -> HashMap<PlaneKey, Result<bool, Unavailable>> {
    let planes: BTreeSet<_> = planes.into_iter().collect();
    let exists = async |plane: PlaneKey| {
        let what = ObjectRef {
            resource: plane.kind.into(),
            namespace: plane.namespace.clone(),
            name: plane.name.clone(),
            key: None,
        };
        let found = or_none(source.get(&what).await);
        let exists = found.map(|found| found.is_some()).map_err(|why| match why.cause {
            Cause::NotInFiles => Unavailable::not_in_files("unknown: not in the files"),
            _ => why,
        });
        (plane, exists)
    };
    stream::iter(planes).map(exists).buffer_unordered(AT_ONCE).collect().await
}

/// An event about a plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneEvent {
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub last: Option<Timestamp>,
    pub count: i32,
}

impl PlaneEvent {
    fn of(event: &Value) -> Self {
        let own = |field: &str| text(event, field).to_owned();
        Self {
            kind: own("/type"),
            reason: own("/reason"),
            message: own("/message"),
            last: time(text(event, "/lastTimestamp")).or_else(|| time(text(event, "/eventTime"))),
            count: event["count"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(1),
        }
    }
}

/// Up to so many planes are asked for one by one: a cluster may have many events of others.
const ONE_BY_ONE: usize = 8;

/// The events about planes, oldest first.
pub struct Events(HashMap<PlaneKey, Result<Vec<PlaneEvent>, Unavailable>>, Coverage);

impl Events {
    /// Of planes of any kind.
    pub async fn about(source: &impl Source, planes: impl IntoIterator<Item = PlaneKey>) -> Self {
        let places = grouped(planes.into_iter().map(|plane| ((plane.kind, plane.namespace), plane.name)));
        let read = places.iter().map(|((kind, namespace), names)| of_place(source, kind, namespace.as_deref(), names));
        Self(join_all(read).await.into_iter().flatten().collect(), source.coverage())
    }

    /// Takes those of a plane. Files say nothing of a plane without events: they may not hold any.
    pub fn take(&mut self, plane: &PlaneKey) -> Result<Vec<PlaneEvent>, Unavailable> {
        match (self.0.remove(plane), self.1) {
            (Some(Ok(events)), Coverage::Dump | Coverage::Part) if events.is_empty() => {
                Err(Unavailable::not_in_files("unknown: not in the files"))
            }
            (events, _) => events.unwrap_or(Ok(Vec::new())),
        }
    }
}

/// The events about planes of one kind and namespace.
async fn of_place(
    source: &impl Source,
    kind: &'static Kind,
    namespace: Option<&str>,
    names: &[String],
) -> Vec<(PlaneKey, Result<Vec<PlaneEvent>, Unavailable>)> {
    let names: BTreeSet<_> = names.iter().map(String::as_str).collect();
    let of_kind = format!("involvedObject.kind={}", kind.kind);
    let all = Collection::of(EVENT, Some(namespace.unwrap_or(EVENT_NAMESPACE)));
    let chosen: Vec<_> = if names.len() > ONE_BY_ONE {
        vec![all.with_fields(of_kind)]
    } else {
        let of_one = |name: &&str| all.clone().with_fields(format!("{of_kind},involvedObject.name={name}"));
        names.iter().map(of_one).collect()
    };
    // Files know no fields: one look at them finds the events of all.
    let chosen = if source.coverage() == Coverage::Whole { chosen } else { chosen.into_iter().take(1).collect() };
    let about = |event: &Value| {
        let name = text(event, "/involvedObject/name");
        let is_meant = names.contains(name) && event["involvedObject"]["kind"] == kind.kind;
        is_meant.then(|| (name.to_owned(), PlaneEvent::of(event)))
    };
    let read = stream::iter(chosen).map(async |chosen| source.list(&chosen, about).await).buffered(AT_ONCE);
    let read: Result<Vec<_>, _> = read.collect::<Vec<_>>().await.into_iter().collect();
    let mut events = read.map(|events| {
        let mut events = events.concat();
        events.sort_by_key(|(_, event)| event.last);
        grouped(events)
    });
    let own = |name: &str| {
        let key = PlaneKey { kind, namespace: namespace.map(str::to_owned), name: name.to_owned() };
        (key, events.as_mut().map(|events| events.remove(name).unwrap_or_default()).map_err(|why| why.clone()))
    };
    names.into_iter().map(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::estate::Files;
    use crate::plane::{DUMPED, Snapshot};
    use serde_json::json;

    fn dumped(objects: &[Value]) -> Snapshot {
        let metadata = json!({"name": "a", "annotations": {DUMPED: "2026-01-01T00:00:00Z"}});
        Snapshot::of_files(vec![serde_json::from_value(json!({"metadata": metadata})).unwrap()], objects.to_vec())
    }

    fn of(word: &str, namespace: Option<&str>, name: &str) -> PlaneKey {
        PlaneKey { kind: Kind::of_word(word).unwrap(), namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    fn key(name: &str) -> PlaneKey {
        of("cbp", None, name)
    }

    fn event(name: &str, time: &str, kind: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "default", "name": name},
            "involvedObject": {"kind": kind, "name": "a"}, "reason": name, "lastTimestamp": time,
        })
    }

    #[tokio::test]
    async fn events_come_oldest_first() {
        let objects = [
            event("late", "9999-12-31T23:59:59Z", "ClusterBuildPlane"),
            event("early", "2026-01-01T00:00:00Z", "ClusterBuildPlane"),
            event("other", "2026-01-01T00:00:00Z", "Pod"),
        ];
        let reasons = |mut events: Events| {
            let events = events.take(&key("a")).unwrap();
            events.into_iter().map(|event| (event.reason, event.last.is_some())).collect::<Vec<_>>()
        };
        let snapshot = dumped(&objects);
        let fake = Fake::of(objects);
        for reported in [
            reasons(Events::about(&fake.cluster(), [key("a")]).await),
            reasons(Events::about(&Files::control(&snapshot), [key("a")]).await),
        ] {
            assert_eq!(reported, [("early".to_owned(), true), ("late".to_owned(), true)]);
        }
        let none = Events::about(&Files::control(&snapshot), [key("b")]).await.take(&key("b"));
        assert_eq!(none.unwrap_err().cause, Cause::NotInFiles);
    }

    #[tokio::test]
    async fn events_are_those_of_the_plane_s_kind_and_namespace() {
        let about = |reason: &str, kind: &str, namespace: &str| {
            let mut event = event(reason, "2026-01-01T00:00:00Z", kind);
            event["metadata"]["namespace"] = namespace.into();
            event["involvedObject"]["namespace"] = namespace.into();
            event
        };
        let objects = [
            about("build", "ClusterBuildPlane", "default"),
            about("cluster", "ClusterDataPlane", "default"),
            about("one", "DataPlane", "one"),
            about("two", "DataPlane", "two"),
        ];
        let planes = [("cbp", None), ("cdp", None), ("dp", Some("one")), ("dp", Some("two")), ("dp", Some("three"))];
        let planes = planes.map(|(word, namespace)| of(word, namespace, "a"));
        let snapshot = dumped(&objects);
        let fake = Fake::of(objects);
        for mut events in [
            Events::about(&fake.cluster(), planes.clone()).await,
            Events::about(&Files::control(&snapshot), planes.clone()).await,
        ] {
            let mut reasons = Vec::new();
            for plane in &planes {
                reasons.extend(events.take(plane).unwrap_or_default().into_iter().map(|event| event.reason));
            }
            assert_eq!(reasons, ["build", "cluster", "one", "two"]);
        }
    }

    #[tokio::test]
    async fn the_events_of_many_planes_are_listed_once() {
        let fake = Fake::of([event("x", "2026-01-01T00:00:00Z", "ClusterBuildPlane")]);
        let names = (0..100).map(|number| key(&format!("p{number}"))).chain([key("a")]);
        let mut events = Events::about(&fake.cluster(), names).await;
        let mut count = |name: &str| events.take(&key(name)).unwrap().len();
        assert_eq!((count("a"), count("p1"), fake.asked().len()), (1, 0, 1));
    }

    #[tokio::test]
    async fn an_observability_plane_is_asked_for_once_and_by_its_metadata() {
        let plane = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterObservabilityPlane", "metadata": {"name": "there"},
        });
        let fake = Fake::of([plane]);
        let [there, gone] = ["there", "gone"].map(|name| of("cop", None, name));
        let reported = observability_planes(&fake.cluster(), [there.clone(), gone.clone(), there.clone()]).await;
        assert_eq!((&reported[&there], &reported[&gone], fake.asked().len()), (&Ok(true), &Ok(false), 2));
        // One of the same name in a namespace is another one.
        let namespaced = of("observabilityplane", Some("n"), "there");
        assert_eq!(observability_planes(&fake.cluster(), [namespaced.clone()]).await[&namespaced], Ok(false));
        let snapshot = Snapshot::default();
        let reported = observability_planes(&Files::control(&snapshot), [gone.clone()]).await;
        assert_eq!(reported[&gone].as_ref().unwrap_err().message, "unknown: not in the files");
        let plane = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterObservabilityPlane", "metadata": {"name": "there"}});
        let snapshot = Snapshot::of_files(vec![serde_json::from_value(plane).unwrap()], Vec::new());
        assert_eq!(observability_planes(&Files::control(&snapshot), [there.clone()]).await[&there], Ok(true));
    }

    #[tokio::test]
    async fn the_lease_and_the_gateway_ca_are_read() {
        let named = |kind: &str, version: &str, name: &str| json!({"apiVersion": version, "kind": kind, "metadata": {"namespace": "n", "name": name}});
        let mut renewed = named("Lease", "coordination.k8s.io/v1", plane::LEASE);
        renewed["spec"] = json!({"renewTime": "2026-01-01T00:00:00.000000Z"});
        let mut secret = named("Secret", "v1", GATEWAY_CA);
        secret["data"] = json!({"ca.crt": "cGVt"});
        let objects = [renewed, secret];
        let snapshot = dumped(&objects);
        let (cluster, files) = (Fake::of(objects).cluster(), Files::control(&snapshot));
        let at = "2026-01-01T00:00:00Z".parse().ok();
        assert_eq!((lease(&cluster, "n").await, lease(&files, "n").await), (Ok(at), Ok(at)));
        assert_eq!(
            (gateway_ca(&cluster, "n").await, gateway_ca(&files, "n").await),
            (Ok("pem".into()), Ok("pem".into()))
        );
        assert_eq!(lease(&cluster, "o").await, Ok(None));
        assert_eq!(gateway_ca(&cluster, "o").await.unwrap_err().message, "Secret o/cluster-gateway-ca does not exist");
    }
}
