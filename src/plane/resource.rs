//! The resource: its types, as the API server has them. Fields that aren't known here are kept.
//!
//! Not here: reading it leniently (read), and what its status means (state).

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::ser::{SerializeMap as _, Serializer};
use serde_json::{Map, Value};

use super::key::PlaneKey;
use super::kind::{Field, Kind, Scope};
use super::lenient::Unreadable;
use super::release::Release;
use super::well_known::DEFAULT_OBSERVABILITY;

/// One plane, as the API server has it. Fields that aren't known here are kept in `other`, as are those whose value can't
/// be read, or not all of it: in JSON they stand over the known ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plane {
    /// What the object says that it is; the kind that is meant without a word, where it says nothing that is known.
    #[serde(skip)]
    pub kind: &'static Kind,
    pub metadata: ObjectMeta,
    pub spec: Spec,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
    /// The same of the metadata.
    #[serde(skip)]
    pub(super) other_metadata: Map<String, Value>,
    /// The fields that are treated as unknown, because their value can't be read.
    #[serde(skip)]
    pub unreadable: Vec<Unreadable>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    #[serde(rename = "planeID", skip_serializing_if = "Option::is_none")]
    pub plane_id: Option<String>,
    pub cluster_agent: ClusterAgent,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_store_ref: Option<SecretStoreRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability_plane_ref: Option<ObservabilityPlaneRef>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ClusterAgent {
    #[serde(rename = "clientCA")]
    pub client_ca: ValueFrom,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Where the CA comes from: one of the two. Releases differ in the name of the field that refers to a Secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ValueFrom {
    #[serde(flatten, serialize_with = "by_name")]
    pub secret_ref: Option<(Release, SecretKeyRef)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// Writes a reference to a Secret under the name that its release has for it.
fn by_name<S: Serializer>(secret: &Option<(Release, SecretKeyRef)>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(None)?;
    if let Some((release, secret)) = secret {
        map.serialize_entry(release.secret_field(), secret)?;
    }
    map.end()
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecretKeyRef {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    pub key: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SecretStoreRef {
    pub name: String,
}

/// An object since v0.15; v0.14 has a plain name here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ObservabilityPlaneRef {
    Object {
        #[serde(skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
        name: String,
    },
    Name(String),
}

impl ObservabilityPlaneRef {
    pub fn kind(&self) -> Option<&str> {
        match self {
            Self::Object { kind, .. } => kind.as_deref(),
            Self::Name(_) => None,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Self::Object { name, .. } | Self::Name(name) => name,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    pub conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_connection: Option<AgentConnection>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub last_transition_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What the controller last learned of the planeID's agents. Times are those at which it noticed, up to a minute late;
/// the heartbeat is the gateway's.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentConnection {
    pub connected: bool,
    pub connected_agents: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_connected_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_disconnected_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_heartbeat_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl AgentConnection {
    /// How old the heartbeat is, in whole seconds; one from the future is 0 s old.
    pub fn heartbeat_age(&self, now: Timestamp) -> Option<i64> {
        self.last_heartbeat_time.map(|heartbeat| now.duration_since(heartbeat).as_secs().max(0))
    }
}

impl Plane {
    /// Returns a plane of a kind and a name, and nothing more; the name may be empty.
    pub fn new(kind: &'static Kind, name: &str) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Self { kind, metadata, ..Self::default() }
    }

    pub fn name(&self) -> &str {
        self.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn key(&self) -> PlaneKey {
        PlaneKey { kind: self.kind, namespace: self.metadata.namespace.clone(), name: self.name().to_owned() }
    }

    /// The planeID; the name, where it was left out.
    pub fn plane_id(&self) -> &str {
        match self.spec.plane_id.as_deref() {
            None | Some("") => self.name(),
            Some(id) => id,
        }
    }

    /// Without who wrote which field, which is most of what a listed plane holds, unless that says what became of its CA.
    pub fn without_history(mut self) -> Self {
        if self.pruned_secret().is_none() {
            self.metadata.managed_fields = None;
        }
        self
    }

    /// Returns the release whose reference to a Secret was written into a plane that has no CA. The CRD of another release
    /// prunes the field from stored planes when they are read, and keeps who wrote it.
    pub fn pruned_secret(&self) -> Option<Release> {
        let ca = &self.spec.cluster_agent.client_ca;
        let has_none = ca.value.as_ref().is_none_or(String::is_empty) && ca.secret_ref.is_none();
        let written = self.metadata.managed_fields.iter().flatten().filter_map(|entry| entry.fields_v1.as_ref());
        let written = written.filter_map(|fields| fields.0.pointer("/f:spec/f:clusterAgent/f:clientCA"));
        let of = |ca: &Value| Release::ALL.into_iter().find(|one| !ca[format!("f:{}", one.secret_field())].is_null());
        written.filter_map(of).next().filter(|_| has_none)
    }

    pub fn connection(&self) -> Option<&AgentConnection> {
        self.status.as_ref()?.agent_connection.as_ref()
    }

    /// Returns where the Observer's API of an observability plane is reached.
    pub fn observer_url(&self) -> Option<&str> {
        self.spec.other.get("observerURL").and_then(Value::as_str)
    }

    /// Returns the name of the field that refers to a Secret: that which it has, or that of its kind's latest release.
    pub fn secret_field(&self) -> &'static str {
        let release = self.spec.cluster_agent.client_ca.secret_ref.as_ref().map(|(release, _)| *release);
        release.unwrap_or(self.kind.release()).secret_field()
    }

    /// Whether another plane of the family has the same planeID, and so the same agents.
    pub fn shares_plane_id_with(&self, other: &Self) -> bool {
        other.plane_id() == self.plane_id() && other.kind.family == self.kind.family && !self.is(other)
    }

    /// Whether both are the same plane, perhaps at different times.
    pub fn is(&self, other: &Self) -> bool {
        self.name() == other.name() && self.kind == other.kind && self.metadata.namespace == other.metadata.namespace
    }

    pub fn created(&self) -> Option<Timestamp> {
        self.metadata.creation_timestamp.as_ref().map(|time| time.0)
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub fn labels(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.metadata.labels.as_ref().unwrap_or(&NONE)
    }

    /// The observability planes that may be meant, the first that exists being it; none where the kind refers to none.
    pub fn observability_planes(&self) -> Vec<PlaneKey> {
        if !self.kind.has(Field::ObservabilityPlane) {
            return Vec::new();
        }
        let key = |kind: &'static Kind, name: &str| {
            let namespace = self.metadata.namespace.clone().filter(|_| kind.scope == Scope::Namespaced);
            PlaneKey { kind, namespace, name: name.to_owned() }
        };
        let mut kinds = self.kind.observability_kinds().iter().filter_map(|kind| Kind::of_word(kind));
        match &self.spec.observability_plane_ref {
            None => kinds.map(|kind| key(kind, DEFAULT_OBSERVABILITY)).collect(),
            Some(reference) => {
                let named = reference.kind().and_then(Kind::of_word);
                named.or(kinds.next_back()).map(|kind| key(kind, reference.name())).into_iter().collect()
            }
        }
    }

    /// The object to send or to write: type and version first, then what a person looks for.
    pub fn manifest(&self) -> Value {
        let mut object = Map::new();
        object.insert("apiVersion".into(), self.kind.api_version().into());
        object.insert("kind".into(), self.kind.kind.into());
        if let Ok(Value::Object(fields)) = serde_json::to_value(self) {
            object.extend(fields);
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.extend(self.other_metadata.clone());
        }
        Value::Object(object)
    }

    /// Every time that the object holds; what is newest says when a dump was made.
    pub fn times(&self) -> impl Iterator<Item = Timestamp> {
        let meta = &self.metadata;
        let managed = meta.managed_fields.iter().flatten().filter_map(|entry| entry.time.as_ref());
        let connection = self.connection().into_iter();
        let conditions = self.status.iter().flat_map(|status| &status.conditions);
        [&meta.creation_timestamp, &meta.deletion_timestamp]
            .into_iter()
            .filter_map(Option::as_ref)
            .chain(managed)
            .map(|time| time.0)
            .chain(
                connection
                    .flat_map(|c| [c.last_connected_time, c.last_disconnected_time, c.last_heartbeat_time])
                    .flatten(),
            )
            .chain(conditions.filter_map(|condition| condition.last_transition_time))
    }
}

/// An object without what says who wrote which field, as kubectl shows it.
pub fn without_managed_fields(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.shift_remove("managedFields");
    }
    object
}

impl kube::Resource for Plane {
    type DynamicType = &'static Kind;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(kind: &&'static Kind) -> Cow<'static, str> {
        kind.kind.into()
    }

    fn group(kind: &&'static Kind) -> Cow<'static, str> {
        kind.group.into()
    }

    fn version(kind: &&'static Kind) -> Cow<'static, str> {
        kind.version.into()
    }

    fn plural(kind: &&'static Kind) -> Cow<'static, str> {
        kind.plural.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_fields_survive_a_read_and_a_write() {
        let object = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
            "metadata": {"name": "a"},
            "spec": {"planeID": "a", "clusterAgent": {"clientCA": {"value": "x", "later": 1}, "later": {"a": [1]}}, "later": true},
            "status": {"conditions": [], "agentConnection": {"connected": true, "connectedAgents": 1, "later": "x"}, "later": 2},
            "later": {"deep": null}
        });
        let plane: Plane = serde_json::from_value(object.clone()).unwrap();
        assert_eq!(serde_json::to_value(&plane).unwrap(), object);
    }

    #[test]
    fn the_plane_id_defaults_to_the_name() {
        let plane: Plane = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert_eq!(plane.plane_id(), "a");
        assert_eq!(plane.observability_planes()[0].name, "default");
    }

    #[test]
    fn a_reference_by_name_alone_is_read() {
        let plane: Plane = serde_json::from_value(json!({"spec": {"observabilityPlaneRef": "obs"}})).unwrap();
        assert_eq!(plane.observability_planes()[0].name, "obs");
    }
}
