//! Reading a plane out of JSON: field by field, as `lenient` has it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::{Deserialize, Deserializer, Error};
use serde_json::{Map, Value};

use super::kind::Kind;
use super::lenient::{Fields, Lenient, Read, Reader, metadata, object, whole};
use super::release::Release;
use super::resource::{
    AgentConnection, ClusterAgent, Condition, ObservabilityPlaneRef, Plane, SecretKeyRef, SecretStoreRef, Spec, Status,
    ValueFrom,
};

impl<'de> Deserialize<'de> for Plane {
    /// Fails for a value that is no object only.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::deserialize(deserializer)?;
        let mut reader = Reader::default();
        let plane = Self::of(object, &mut reader).map_err(|_| D::Error::custom("a plane is an object"))?;
        Ok(Self { unreadable: reader.unreadable, ..plane })
    }
}

impl Plane {
    fn of(object: Map<String, Value>, reader: &mut Reader) -> Result<Self, Value> {
        let text = |field| object.get(field).and_then(Value::as_str).unwrap_or_default();
        let kind = Kind::of_object(text("apiVersion"), text("kind")).unwrap_or_default();
        let mut fields = Fields::of(Value::Object(object), reader)?;
        let meta = fields.take_with("metadata", metadata);
        let (metadata, other_metadata): (ObjectMeta, _) = meta.unwrap_or_default();
        Ok(Self {
            kind,
            metadata,
            other_metadata,
            spec: fields.take("spec").unwrap_or_default(),
            status: fields.take("status"),
            other: fields.rest(),
            unreadable: Vec::new(),
        })
    }
}

impl Lenient for Spec {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        object(value, reader, |mut fields| Self {
            plane_id: fields.take("planeID"),
            cluster_agent: fields.take("clusterAgent").unwrap_or_default(),
            secret_store_ref: fields.take("secretStoreRef"),
            observability_plane_ref: fields.take("observabilityPlaneRef"),
            other: fields.rest(),
        })
    }
}

impl Lenient for ClusterAgent {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        object(value, reader, |mut fields| Self {
            client_ca: fields.take("clientCA").unwrap_or_default(),
            other: fields.rest(),
        })
    }
}

impl Lenient for ValueFrom {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        object(value, reader, |mut fields| Self {
            secret_ref: Release::ALL
                .into_iter()
                .rev()
                .find_map(|release| Some((release, fields.take(release.secret_field())?))),
            value: fields.take("value"),
            other: fields.rest(),
        })
    }
}

impl Lenient for SecretKeyRef {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        whole(value, reader, |fields| Self {
            name: fields.take("name").unwrap_or_default(),
            namespace: fields.take("namespace"),
            key: fields.take("key").unwrap_or_default(),
        })
    }
}

impl Lenient for SecretStoreRef {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        whole(value, reader, |fields| Self { name: fields.take("name").unwrap_or_default() })
    }
}

impl Lenient for ObservabilityPlaneRef {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        match value {
            Value::String(name) => (Some(Self::Name(name)), None),
            value => whole(value, reader, |fields| Self::Object {
                kind: fields.take("kind"),
                name: fields.take("name").unwrap_or_default(),
            }),
        }
    }
}

impl Lenient for Status {
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        object(value, reader, |mut fields| Self {
            observed_generation: fields.take("observedGeneration"),
            conditions: fields.take("conditions").unwrap_or_default(),
            agent_connection: fields.take("agentConnection"),
            other: fields.rest(),
        })
    }
}

impl Lenient for Condition {
    fn suits(value: &Value) -> bool {
        value.is_object()
    }

    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        object(value, reader, |mut fields| Self {
            kind: fields.take("type").unwrap_or_default(),
            status: fields.take("status").unwrap_or_default(),
            reason: fields.take("reason").unwrap_or_default(),
            message: fields.take("message").unwrap_or_default(),
            last_transition_time: fields.take("lastTransitionTime"),
            observed_generation: fields.take("observedGeneration"),
            other: fields.rest(),
        })
    }
}

impl Lenient for AgentConnection {
    /// Without `connected` there is no report: taken for false, it would be a wrong one.
    fn read(value: Value, reader: &mut Reader) -> Read<Self> {
        let connected = value.get("connected").filter(|connected| !connected.is_null());
        if connected.is_some_and(|connected| !connected.is_boolean()) {
            return reader.reject_for(".connected", "true or false", value);
        }
        object(value, reader, |mut fields| Self {
            connected: fields.take("connected").unwrap_or_default(),
            connected_agents: fields.take("connectedAgents").unwrap_or_default(),
            last_connected_time: fields.take("lastConnectedTime"),
            last_disconnected_time: fields.take("lastDisconnectedTime"),
            last_heartbeat_time: fields.take("lastHeartbeatTime"),
            message: fields.take("message"),
            other: fields.rest(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::plane::State;

    fn object() -> Value {
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
            "metadata": {
                "name": "a", "uid": "u", "generation": 2, "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {"team": "ci"}, "annotations": {"note": "x"}, "finalizers": ["f"],
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "p"}],
                "managedFields": [{"manager": "m", "operation": "Update", "time": "2026-01-01T00:00:00Z", "fieldsV1": {"f:spec": {}}}],
            },
            "spec": {
                "planeID": "a", "secretStoreRef": {"name": "s"}, "observabilityPlaneRef": {"name": "o"},
                "clusterAgent": {"clientCA": {"secretRef": {"name": "n", "namespace": "d", "key": "k"}}},
            },
            "status": {
                "observedGeneration": 1,
                "conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "agentConnection": {
                    "connected": true, "connectedAgents": 1, "lastConnectedTime": "2026-01-01T00:00:00Z",
                    "lastHeartbeatTime": "2026-01-02T00:00:00Z", "message": "1 agent",
                },
            },
        })
    }

    fn with(pointer: &str, value: Value) -> Plane {
        let mut object = object();
        *object.pointer_mut(pointer).unwrap() = value;
        serde_json::from_value(object).unwrap()
    }

    fn paths(plane: &Plane) -> Vec<&str> {
        plane.unreadable.iter().map(|field| field.path.as_str()).collect()
    }

    #[test]
    fn an_ordinary_plane_is_read_whole() {
        let plane: Plane = serde_json::from_value(object()).unwrap();
        assert_eq!(paths(&plane), Vec::<&str>::new());
        assert_eq!(plane.manifest(), object());
        let connection = plane.connection().unwrap();
        assert_eq!((connection.connected_agents, connection.other.len()), (1, 0));
    }

    #[test]
    fn times_past_the_end_of_time_are_the_last_ones() {
        let heartbeat = "/status/agentConnection/lastHeartbeatTime";
        let read = |text: &str| with(heartbeat, json!(text)).connection().unwrap().last_heartbeat_time;
        for last in ["9999-12-31T23:59:59Z", "9999-12-31T00:00:00-12:00", "9999-12-31t23:59:59.5z"] {
            assert_eq!(read(last), Some(Timestamp::MAX), "{last}");
        }
        assert_eq!(read("2026-11-25T13:00:00.1234567891234Z").unwrap().to_string(), "2026-11-25T13:00:00.123456789Z");
        assert_eq!(read("0000-01-01T00:00:00Z").unwrap().to_string(), "0000-01-01T00:00:00Z");
        for none in ["", "x", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59+99:99", "2026-11-25T13:00:00x5Z", "ä"] {
            let plane = with(heartbeat, json!(none));
            assert_eq!(plane.connection().unwrap().last_heartbeat_time, None, "{none}");
            assert_eq!(paths(&plane), ["status.agentConnection.lastHeartbeatTime"], "{none}");
        }
    }

    #[test]
    fn a_field_that_cannot_be_read_costs_nothing_else() {
        for (pointer, value, path) in [
            ("/metadata/creationTimestamp", json!("x"), "metadata.creationTimestamp"),
            ("/metadata/labels", json!({"a": 1, "team": "ci"}), "metadata.labels.a"),
            ("/metadata/managedFields/0/time", json!("x"), "metadata.managedFields[0].time"),
            ("/spec/secretStoreRef", json!("s"), "spec.secretStoreRef"),
            ("/spec/clusterAgent/clientCA/secretRef/key", json!(1), "spec.clusterAgent.clientCA.secretRef.key"),
            ("/status/conditions/0/lastTransitionTime", json!("x"), "status.conditions[0].lastTransitionTime"),
            ("/status/conditions/0", json!(null), "status.conditions[0]"),
            ("/status/agentConnection/connectedAgents", json!(1.5), "status.agentConnection.connectedAgents"),
            ("/status/agentConnection/message", json!(5), "status.agentConnection.message"),
            ("/status/agentConnection/lastConnectedTime", json!([]), "status.agentConnection.lastConnectedTime"),
            ("/status/observedGeneration", json!("1"), "status.observedGeneration"),
        ] {
            let plane = with(pointer, value);
            assert_eq!(paths(&plane), [path]);
            assert_eq!((plane.name(), plane.plane_id()), ("a", "a"), "{path}");
            let now = "2026-01-02T00:00:05Z".parse().unwrap();
            assert_eq!(plane.state(now), State::Connected, "{path}");
            let reported = plane.unreadable[0].warning(plane.name());
            assert!(reported.starts_with(&format!("plane a: {path} is not a")), "{reported}");
        }
    }

    #[test]
    fn a_connection_that_is_neither_true_nor_false_is_no_report() {
        let plane = with("/status/agentConnection/connected", json!("true"));
        assert_eq!(paths(&plane), ["status.agentConnection.connected"]);
        assert_eq!(plane.state(Timestamp::UNIX_EPOCH), State::Unreported);
    }

    #[test]
    fn whole_numbers_saturate() {
        let agents =
            |value| with("/status/agentConnection/connectedAgents", value).connection().unwrap().connected_agents;
        assert_eq!(agents(json!(1e30)), i64::MAX);
        assert_eq!(agents(json!(u64::MAX)), i64::MAX);
        assert_eq!(agents(json!(-1e30)), i64::MIN);
        assert_eq!(agents(json!(2.0)), 2);
        assert_eq!(agents(json!(i64::MIN)), i64::MIN);
    }

    /// Anything that JSON can say.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,12}".prop_map(Value::from),
            "[0-9]{4}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-5][0-9]:[0-6][0-9]([.,x][0-9]{1,12})?([Zz]|[+-][0-2][0-9]:[0-5][0-9])".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-z]{1,4}|name|time|key", inner, 0..3)
                    .prop_map(|fields| fields.into_iter().collect::<Map<_, _>>().into()),
            ]
        })
    }

    fn pointers(value: &Value, at: String, all: &mut Vec<String>) {
        let children: Vec<_> = match value {
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.replace('/', "~1"), value)).collect(),
            Value::Array(items) => items.iter().enumerate().map(|(index, item)| (index.to_string(), item)).collect(),
            _ => Vec::new(),
        };
        for (step, child) in children {
            let at = format!("{at}/{step}");
            pointers(child, at.clone(), all);
            all.push(at);
        }
    }

    proptest! {
        /// Whatever is put in the place of a field: the plane is read, and written back as it was.
        #[test]
        fn any_value_anywhere_is_read_and_kept(places in proptest::collection::vec((any::<prop::sample::Index>(), values()), 1..4)) {
            let mut object = object();
            for (place, value) in places {
                let mut all = Vec::new();
                pointers(&object, String::new(), &mut all);
                let at: &String = place.get(&all);
                *object.pointer_mut(at).unwrap() = value;
            }
            let plane: Plane = serde_json::from_value(object.clone()).unwrap();
            let back = plane.manifest();
            // Managers' fields are not written this way.
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.shift_remove("managedFields");
            }
            for (name, value) in object.as_object().unwrap() {
                prop_assert!(
                    matches!(name.as_str(), "apiVersion" | "kind") || holds(&back[name], value),
                    "{name}: {value} became {}", back[name]
                );
            }
        }
    }

    /// Whether an object holds all that another one does: null is nothing, and required fields may come in addition.
    fn holds(back: &Value, value: &Value) -> bool {
        match (back, value) {
            (_, Value::Null) => true,
            (Value::Object(back), Value::Object(fields)) => {
                fields.iter().all(|(name, value)| holds(back.get(name).unwrap_or(&Value::Null), value))
            }
            (Value::Array(back), Value::Array(items)) => {
                back.len() == items.len() && back.iter().zip(items).all(|(back, item)| holds(back, item))
            }
            (back, value) => back == value,
        }
    }
}
