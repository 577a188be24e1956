//! What unit tests of plans share: certificates, objects, clusters in memory, and an observer that remembers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::bootstrap::{Bootstrap, CaIn};
use super::clusters::Clusters;
use super::observer::{Observer, Status};
use super::rotate::{Goal, Phase, Rotation};
use crate::cluster::{Agent, Cluster, Fake, StoredSecret};
use crate::estate::Pair;
use crate::pki::{self, Authority, KeyAlgorithm, PemPair, PrivateKey};
use crate::plane::{DryRun, Plane, Release, Span};

pub const YEAR: Span = Span::from_seconds(365 * 86_400);
/// The agent's namespace.
pub const BUILD: &str = "builders";
/// The control plane's namespace.
pub const CONTROL: &str = "control";

/// A CA that can sign.
pub struct Root {
    pub certificate: String,
    pub key: String,
    pub authority: Authority,
}

pub fn root(name: &str, now: Timestamp) -> Root {
    let pair = pki::ca(name, KeyAlgorithm::EcdsaP256, YEAR, now).unwrap();
    let key = pair.key.to_pem();
    let authority = Authority::from_pem(&pair.certificate, &key, now).unwrap();
    Root { certificate: pair.certificate, key: key.to_string(), authority }
}

/// A client certificate of a planeID, valid from this moment for a year or as long as its CA.
pub fn leaf(plane_id: &str, root: &Root, now: Timestamp) -> PemPair {
    let key = PrivateKey::generate(KeyAlgorithm::EcdsaP256).unwrap();
    pki::client(plane_id, &root.authority, key, YEAR, now).unwrap().pair.into()
}

pub fn secret(namespace: &str, name: &str, data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<_, _> =
        data.iter().map(|(key, text)| ((*key).to_owned(), STANDARD.encode(text).into())).collect();
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name}, "data": data})
}

/// A Secret with a pair in the agent's namespace.
pub fn pair_secret(name: &str, pair: &PemPair, ca: &str) -> Value {
    secret(BUILD, name, &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", ca)])
}

/// Marks a Secret as written by cert-manager.
pub fn of_cert_manager(mut secret: Value) -> Value {
    secret["metadata"]["annotations"] = json!({"cert-manager.io/certificate-name": "agent"});
    secret
}

/// Marks a Secret's certificate as written by a manager.
pub fn written_by(mut secret: Value, manager: &str) -> Value {
    secret["metadata"]["managedFields"] = json!([{
        "manager": manager, "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:tls.crt": {}}},
    }]);
    secret
}

pub fn stored(secret: &Value) -> StoredSecret {
    StoredSecret::of_object(secret).unwrap()
}

pub fn pair(secret: &Value) -> Pair {
    Pair::of(&stored(secret)).unwrap()
}

pub fn config_map(data: &str) -> Value {
    let metadata = json!({"namespace": BUILD, "name": "cluster-gateway-ca"});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": data}})
}

pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A plane with a CA by value, connected without an agent.
pub fn plane_object(name: &str, plane_id: &str, ca: &str, now: Timestamp) -> Value {
    let connection = json!({"connected": true, "connectedAgents": 0, "lastHeartbeatTime": now.to_string()});
    json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name},
        "spec": {"planeID": plane_id, "clusterAgent": {"clientCA": {"value": ca}}},
        "status": {"agentConnection": connection},
    })
}

pub fn plane(object: &Value) -> Plane {
    serde_json::from_value(object.clone()).unwrap()
}

/// An agent's Deployment, with the Secret that it mounts; it is scaled to zero.
pub fn deployment(namespace: &str, name: &str, plane_id: &str, secret: &str) -> Value {
    let labels = json!({"app": "cluster-agent", "app.kubernetes.io/component": "cluster-agent", "app.kubernetes.io/instance": "release"});
    let container =
        json!({"name": "agent", "args": [format!("--plane-id={plane_id}"), "--server-url=wss://g:8443/ws"]});
    let volumes = json!([{"name": "client-certs", "secret": {"secretName": secret}}]);
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container], "volumes": volumes}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": name, "labels": labels},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "cluster-agent"}}, "template": template},
    })
}

pub fn agent(namespace: &str, name: &str, plane_id: &str, secret: &str) -> Agent {
    Agent::of(serde_json::from_value(deployment(namespace, name, plane_id, secret)).unwrap())
}

/// A registration of the plane `p` with the planeID `id`, as the command line without flags has it.
pub fn registration() -> Bootstrap {
    Bootstrap {
        control_namespace: CONTROL.into(),
        build_namespace: BUILD.into(),
        release: Release::V0,
        plane: plane(&json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "p"},
            "spec": {"planeID": "id", "clusterAgent": {"clientCA": {}}},
        })),
        certificate: None,
        given: None,
        ca_in: CaIn::Value,
        gateway_url: None,
        key_algorithm: KeyAlgorithm::EcdsaP256,
        authority: None,
        pair: None,
        force: false,
        install: false,
        values: None,
        dry_run: DryRun::None,
        limit: std::time::Duration::from_secs(1),
    }
}

/// A rotation of the plane `p` with the planeID `id`, as the command line without flags has it.
pub fn rotation() -> Rotation {
    Rotation {
        namespace: BUILD.into(),
        plane: registration().plane,
        issuer: None,
        goal: Goal::Until(Phase::Finish),
        key_algorithm: KeyAlgorithm::EcdsaP256,
        valid_for: YEAR,
        ca_valid_for: YEAR,
        manifests: false,
        force_conflicts: false,
        again: false,
        suffix: "x1".into(),
        dry_run: DryRun::None,
        deadline: Some(tokio::time::Instant::now()),
    }
}

/// Two clusters in memory.
pub struct Estate {
    pub control: Fake,
    pub build: Fake,
    clusters: (Cluster, Cluster),
}

impl Estate {
    pub fn of(control: impl IntoIterator<Item = Value>, build: impl IntoIterator<Item = Value>) -> Self {
        let (control, build) = (Fake::of(control), Fake::of(build));
        let numbers = ["major", "minor", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"];
        let mut version: Value = numbers.iter().map(|name| ((*name).to_owned(), json!(""))).collect();
        version["gitVersion"] = "v1.36.3".into();
        [&control, &build].iter().for_each(|fake| fake.answer("GET /version", 200, version.clone()));
        let clusters = (control.cluster(), build.cluster());
        Self { control, build, clusters }
    }

    pub fn clusters(&self) -> Clusters<'_> {
        Clusters { control: &self.clusters.0, build: &self.clusters.1 }
    }

    /// How many requests stored something so far.
    pub fn writes(&self) -> usize {
        let asked = [self.control.asked(), self.build.asked()].concat();
        let stores = |request: &&String| {
            !request.starts_with("GET") && !request.contains("dryRun=All") && !request.contains("selfsubjectaccess")
        };
        asked.iter().filter(stores).count()
    }
}

/// What was reported to an observer, and how it answers.
#[derive(Default)]
pub struct Reports {
    pub steps: Vec<(&'static str, Status, String)>,
    pub begun: Vec<(&'static str, String)>,
    pub asked: Vec<String>,
    /// Whether what differs may be replaced.
    pub agrees: bool,
    /// CAs that were kept.
    pub kept: Vec<String>,
    pub manifests: Vec<(String, String)>,
    pub waited: Vec<String>,
    pub is_unfinished: bool,
}

impl Reports {
    /// The steps with how they came out.
    pub fn outcomes(&self) -> Vec<(&'static str, Status)> {
        self.steps.iter().map(|(step, status, _)| (*step, *status)).collect()
    }

    pub fn says(&self, step: &str, words: &str) -> bool {
        self.steps.iter().any(|(of, _, reported)| *of == step && reported.contains(words))
    }
}

impl Observer for Reports {
    fn begin(&mut self, step: &'static str, about: &str) {
        self.begun.push((step, about.to_owned()));
    }

    fn replaces(&mut self, what: &str, _: &str, _: &str) -> anyhow::Result<bool> {
        self.asked.push(what.to_owned());
        Ok(self.agrees)
    }

    fn outcome(&mut self, step: &'static str, status: Status, message: &str) {
        self.steps.push((step, status, message.to_owned()));
    }

    fn keep(&mut self, ca: &PemPair, _: DryRun) -> anyhow::Result<bool> {
        self.kept.push(ca.certificate.clone());
        Ok(true)
    }

    fn wait(&mut self, text: &str) {
        self.waited.push(text.to_owned());
    }

    fn unfinished(&mut self, is_unfinished: bool) {
        self.is_unfinished = is_unfinished;
    }

    fn manifest(&mut self, name: &str, text: &str) -> anyhow::Result<String> {
        self.manifests.push((name.to_owned(), text.to_owned()));
        Ok(format!("out/{name}"))
    }
}
