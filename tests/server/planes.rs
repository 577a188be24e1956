//! Planes as the stories send them.

use serde_json::{Value, json};

/// A file of the examples' folder.
pub fn example(name: &str) -> String {
    format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

pub fn manifest(name: &str, spec: Value) -> String {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A CA in a Secret.
pub fn secret_ref(name: &str) -> Value {
    json!({"secretRef": {"name": name, "namespace": "default", "key": "ca.crt"}})
}

/// A spec with a CA in a Secret.
pub fn by_secret(plane_id: &str, name: &str) -> Value {
    json!({"planeID": plane_id, "clusterAgent": {"clientCA": secret_ref(name)}})
}
