//! An API server's HTTP API, asked without a process for each request.

use http_body_util::BodyExt as _;
use kube::client::Body;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::control_plane::ControlPlane;

const JSON: &str = "application/json";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

pub struct Api {
    client: kube::Client,
    runtime: Runtime,
}

/// What is asked of an API server, with the administrator's rights.
pub async fn client(at: &ControlPlane) -> kube::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(at.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    kube::Client::try_from(config).unwrap()
}

impl Api {
    pub fn of(at: &ControlPlane) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { client: runtime.block_on(client(at)), runtime }
    }

    /// Sends an object: the status code and the answer.
    pub fn send(&self, method: &str, path: &str, content_type: &str, object: &Value) -> (u16, Value) {
        self.try_send(method, path, content_type, object).unwrap()
    }

    /// The same; nothing where the server does not answer.
    pub fn try_send(&self, method: &str, path: &str, content_type: &str, object: &Value) -> Option<(u16, Value)> {
        let request = http::Request::builder().method(method).uri(path).header("content-type", content_type);
        let request = request.body(Body::from(object.to_string().into_bytes())).unwrap();
        self.runtime.block_on(async {
            let answer = self.client.send(request).await.ok()?;
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.ok()?.to_bytes();
            Some((code, serde_json::from_slice(&body).unwrap_or_default()))
        })
    }

    /// An object; none where it isn't there.
    pub fn get(&self, path: &str) -> Option<Value> {
        let (code, object) = self.send("GET", path, JSON, &Value::Null);
        assert!(matches!(code, 200 | 404), "{path}: {object}");
        (code == 200).then_some(object)
    }

    /// Changes fields of an object, as `kubectl patch --type=merge` does.
    #[track_caller]
    pub fn merge(&self, path: &str, fields: &Value) -> Value {
        let (code, object) = self.send("PATCH", &format!("{path}?fieldManager=kubectl-patch"), MERGE_PATCH, fields);
        assert_eq!(code, 200, "{path}: {object}");
        object
    }

    /// Replaces one field of an object as a whole.
    #[track_caller]
    pub fn replace(&self, path: &str, field: &str, value: &Value) {
        let patch = json!([{"op": "replace", "path": field, "value": value}]);
        let (code, answer) = self.send("PATCH", &format!("{path}?fieldManager=kubectl-patch"), JSON_PATCH, &patch);
        assert_eq!(code, 200, "{path}: {answer}");
    }

    /// Replaces an object, or creates it where it isn't there; as it is stored then.
    #[track_caller]
    pub fn write(&self, path: &str, object: &Value) -> Value {
        let manager = "fieldManager=kubectl-client-side-apply";
        let (mut code, mut stored) = self.send("PUT", &format!("{path}?{manager}"), JSON, object);
        if code == 404 {
            let (collection, _) = path.rsplit_once('/').unwrap();
            (code, stored) = self.send("POST", &format!("{collection}?{manager}"), JSON, object);
        }
        assert!(matches!(code, 200 | 201), "{path}: {stored}");
        stored
    }

    /// Deletes an object at once, where it is there.
    #[track_caller]
    pub fn delete(&self, path: &str) {
        // With a body the server ignores what the query says.
        let at_once = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0});
        let (code, answer) = self.send("DELETE", path, JSON, &at_once);
        assert!(matches!(code, 200 | 202 | 404), "{path}: {answer}");
    }
}
