//! What stands around planes: Secrets and ConfigMaps with CAs, observability planes, events.

use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, Secret, Service};
use kube::api::{Api, ApiResource, DynamicObject, ListParams};

use super::agents::has_labels;
use super::connection::Cluster;
use super::error::Error;
use super::planes::ListOf;
use crate::plane::{EVENT_NAMESPACE, NamespacedName, OBSERVABILITY_KIND, Plane, Served};
use crate::text::visible;

/// An event about a plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaneEvent {
    pub kind: String,
    pub reason: String,
    pub message: String,
    pub last: Option<jiff::Timestamp>,
    pub count: i32,
}

/// The pods behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePods {
    /// Their labels, as `-l` takes them.
    pub selector: String,
    /// How many of them are ready.
    pub ready: usize,
}

impl ServicePods {
    /// Of a Service and pods, its own and others.
    pub fn of(service: &Service, pods: &[Pod]) -> Self {
        let selector = selector(service);
        let is_ready = |pod: &&Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            pod.metadata.namespace == service.metadata.namespace
                && has_labels(&pod.metadata, &selector)
                && pod.metadata.deletion_timestamp.is_none()
                && conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        };
        Self { ready: pods.iter().filter(is_ready).count(), selector }
    }
}

/// The labels of a Service's pods.
fn selector(service: &Service) -> String {
    let labels = service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).into_iter().flatten();
    labels.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

impl Cluster {
    /// What the CRD of planes says.
    ///
    /// # Errors
    /// [`Error::NoSuchKind`] where there is none, or none that serves the version that is known here.
    pub async fn served(&self) -> Result<Served, Error> {
        let crd = self.object_if_any(&self.kind.crd_path()).await?;
        match crd.and_then(|crd| Served::of(&crd, self.kind.version)) {
            Some(served) => Ok(served),
            None => Err(self.explain(Error::no_such_kind(&self.target, self.kind)).await),
        }
    }

    /// The pods behind a Service; none where there is no such Service.
    pub async fn service_pods(&self, name: &NamespacedName) -> Result<Option<ServicePods>, Error> {
        let Some(service) = self.read::<Service>(&name.namespace, &name.name).await? else {
            return Ok(None);
        };
        let wanted = ListParams::default().labels(&selector(&service));
        let pods: Vec<Pod> = self.read_list(&name.namespace, &wanted).await?;
        Ok(Some(ServicePods::of(&service, &pods)))
    }

    /// One key of a Secret, or several of them that are there, in this order.
    ///
    /// # Errors
    /// [`Error::NoSource`] without the Secret, [`Error::NoKey`] without any of the keys.
    pub async fn secret_keys(&self, name: &NamespacedName, keys: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        let secret: Option<Secret> = self.read(&name.namespace, &name.name).await?;
        let secret = secret.ok_or_else(|| self.missing("Secret", name))?;
        let data = secret.data.unwrap_or_default();
        let found: Vec<_> = keys.iter().filter_map(|key| data.get(*key)).map(|bytes| bytes.0.clone()).collect();
        if found.is_empty() { Err(no_key("Secret", name, keys, data.into_keys())) } else { Ok(found) }
    }

    /// The same of a ConfigMap, whose text or binary data is meant.
    pub async fn config_map_keys(&self, name: &NamespacedName, keys: &[&str]) -> Result<Vec<Vec<u8>>, Error> {
        let map: Option<ConfigMap> = self.read(&name.namespace, &name.name).await?;
        let map = map.ok_or_else(|| self.missing("ConfigMap", name))?;
        let (texts, binaries) = (map.data.unwrap_or_default(), map.binary_data.unwrap_or_default());
        let of = |key: &&str| {
            texts
                .get(*key)
                .map(|text| text.clone().into_bytes())
                .or_else(|| binaries.get(*key).map(|bytes| bytes.0.clone()))
        };
        let found: Vec<_> = keys.iter().filter_map(of).collect();
        if found.is_empty() {
            Err(no_key("ConfigMap", name, keys, texts.into_keys().chain(binaries.into_keys())))
        } else {
            Ok(found)
        }
    }

    fn missing(&self, kind: &str, name: &NamespacedName) -> Error {
        Error::NoSource {
            what: format!("{kind} {name}"),
            command: self.target.command(&format!("kubectl -n {} get {}", name.namespace, kind.to_lowercase())),
        }
    }

    /// Whether an observability plane of this name exists.
    pub async fn has_observability_plane(&self, name: &str) -> Result<bool, Error> {
        let resource = ApiResource {
            group: self.kind.group.into(),
            version: self.kind.version.into(),
            api_version: self.kind.api_version(),
            kind: OBSERVABILITY_KIND.into(),
            plural: "clusterobservabilityplanes".into(),
        };
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        match self.ask(api.get_metadata(name)).await {
            Ok(_) => Ok(true),
            Err(Error::NoSource { .. } | Error::NoSuchKind { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The namespaced BuildPlanes, which the gateway judges like the others; none where there is no such kind.
    /// Their planeID is their name, and their Secret's namespace their own, unless given.
    pub async fn build_planes(&self) -> Result<Vec<Plane>, Error> {
        let api_version = self.kind.api_version();
        let path = format!("/apis/{api_version}/buildplanes");
        let list = ListOf { path: &path, api_version: &api_version, kind: "BuildPlane", labels: "", fields: "" };
        let mut planes: Vec<Plane> = match self.collection(&list, |plane| plane).await {
            Err(Error::NoSource { .. } | Error::NoSuchKind { .. }) => return Ok(Vec::new()),
            planes => planes?,
        };
        for plane in &mut planes {
            let namespace = plane.metadata.namespace.clone();
            if let Some(secret) = &mut plane.spec.cluster_agent.client_ca.secret_ref {
                secret.namespace = secret.namespace.take().or(namespace);
            }
        }
        Ok(planes)
    }

    /// The events about a plane, oldest first.
    pub async fn events(&self, plane: &str) -> Result<Vec<PlaneEvent>, Error> {
        let about = ListParams::default()
            .fields(&format!("involvedObject.kind={},involvedObject.name={plane}", self.kind.kind));
        let events = self.read_list(EVENT_NAMESPACE, &about).await?;
        let mut events: Vec<_> = events.into_iter().map(plane_event).collect();
        events.sort_by_key(|event| event.last);
        Ok(events)
    }
}

fn plane_event(event: Event) -> PlaneEvent {
    PlaneEvent {
        kind: event.type_.unwrap_or_default(),
        reason: event.reason.unwrap_or_default(),
        message: event.message.unwrap_or_default(),
        last: event.last_timestamp.map(|time| time.0).or_else(|| event.event_time.map(|time| time.0)),
        count: event.count.unwrap_or(1),
    }
}

fn no_key(kind: &str, name: &NamespacedName, keys: &[&str], has: impl Iterator<Item = String>) -> Error {
    Error::NoKey { what: format!("{kind} {}", visible(&name.to_string())), key: keys.join(" or "), keys: has.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use serde_json::{Value, json};

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "n".into(), name: name.into() }
    }

    #[tokio::test]
    async fn keys_are_read_from_secrets_and_config_maps() {
        let metadata = json!({"namespace": "n", "name": "x"});
        let cluster = Fake::of([
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"a": "MQ==", "b": "Mg=="}}),
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}, "binaryData": {"b": "Mg=="}}),
        ])
        .cluster();
        let expected = [b"2".to_vec(), b"1".to_vec()];
        assert_eq!(cluster.secret_keys(&named("x"), &["b", "c", "a"]).await.unwrap(), expected);
        assert_eq!(cluster.config_map_keys(&named("x"), &["b", "c", "a"]).await.unwrap(), expected);
        let error = cluster.secret_keys(&named("x"), &["c"]).await.unwrap_err();
        assert!(error.hint().unwrap().contains("a, b"), "{error:?}");
        assert!(matches!(cluster.config_map_keys(&named("y"), &["a"]).await, Err(Error::NoSource { .. })));
    }

    #[tokio::test]
    async fn the_ready_pods_of_a_service_are_counted() {
        let pod = |name: &str, app: &str, ready: &str| {
            json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": name, "labels": {"app": app}},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            })
        };
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "n", "name": "g"}, "spec": {"selector": {"app": "g"}}});
        let fake = Fake::of([service, pod("a", "g", "True"), pod("b", "g", "False"), pod("c", "other", "True")]);
        let pods = fake.cluster().service_pods(&named("g")).await.unwrap().unwrap();
        assert_eq!((pods.ready, pods.selector.as_str()), (1, "app=g"));
        assert_eq!(fake.cluster().service_pods(&named("none")).await.unwrap(), None);
    }

    #[tokio::test]
    async fn build_planes_have_their_secrets_in_their_own_namespace() {
        let plane = |name: &str, secret: Value| {
            json!({
                "apiVersion": "openchoreo.dev/v1alpha1", "kind": "BuildPlane", "metadata": {"namespace": "n", "name": name},
                "spec": {"clusterAgent": {"clientCA": {"secretRef": secret}}},
            })
        };
        let own = json!({"name": "s", "key": "k"});
        let other = json!({"name": "s", "key": "k", "namespace": "o"});
        let planes = Fake::of([plane("a", own), plane("b", other)]).cluster().build_planes().await.unwrap();
        let namespaces: Vec<_> = planes
            .iter()
            .map(|plane| plane.spec.cluster_agent.client_ca.secret_ref.clone().unwrap().namespace.unwrap())
            .collect();
        assert_eq!(namespaces, ["n", "o"]);
    }

    #[tokio::test]
    async fn events_come_oldest_first() {
        let event = |name: &str, time: &str, kind: &str| {
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "default", "name": name},
                "involvedObject": {"kind": kind, "name": "a"}, "reason": name, "lastTimestamp": time,
            })
        };
        let fake = Fake::of([
            event("late", "2026-01-02T00:00:00Z", "ClusterBuildPlane"),
            event("early", "2026-01-01T00:00:00Z", "ClusterBuildPlane"),
            event("other", "2026-01-01T00:00:00Z", "Pod"),
        ]);
        let events = fake.cluster().events("a").await.unwrap();
        assert_eq!(events.iter().map(|event| event.reason.as_str()).collect::<Vec<_>>(), ["early", "late"]);
    }
}
