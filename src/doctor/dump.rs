//! The objects that a diagnosis looks at, for somebody else to look at; and how these are found again in files.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::case::{BUILD_PLANE, GATEWAY_CA, GATEWAY_SERVICE, LEASE, Reach};
use super::checks::complaint;
use super::issuance::{CERTIFICATE, ISSUER, REQUEST, path as issuance_path};
use super::redact::{hide_tokens, kept};
use crate::cluster::{CERT_MANAGER, Cluster, Error, LABELS, LET_IN, agents_of, labelled, pods_of};
use crate::estate::{CaPlace, Cause, Unavailable};
use crate::plane::{
    CLUSTER_BUILD_PLANE, DUMPED, EVENT_NAMESPACE, LOG, NamespacedName, OBSERVABILITY_KIND, Plane, SIDE, Side, Snapshot,
    rotation_secret,
};

/// What a dump says of itself, beside the objects: where it looked, what it could not read, and that it is whole.
const OWN: &str = "choreoctl.dev/v1";
const CONTROL_PLANE: &str = "ControlPlane";
const BUILD_CLUSTER: &str = "BuildCluster";
const UNREAD: &str = "Unread";
const END: &str = "End";

/// The objects around planes as one List, and what could not be read.
pub async fn dump(reach: &Reach<'_>, names: &[String]) -> Result<(Value, Vec<String>), Error> {
    let mut out = Dump { at: reach.control.now(), items: Vec::new(), unread: Vec::new() };
    out.own(CONTROL_PLANE, reach.control_namespace);
    let all: Vec<Value> = reach.control.planes(None).await?;
    let planes: Vec<_> = all.iter().map(typed).collect();
    let meant: Vec<_> = planes.iter().filter(|plane| names.iter().any(|name| name == plane.name())).collect();
    let ids: BTreeSet<_> = meant.iter().map(|plane| plane.plane_id()).collect();
    let cas: Vec<_> = meant.iter().map(|plane| &plane.spec.cluster_agent.client_ca).collect();
    // Those of the planeID, and those with the same CA.
    let concerned =
        |plane: &Plane| ids.contains(plane.plane_id()) || cas.contains(&&plane.spec.cluster_agent.client_ca);
    for (mut object, plane) in all.iter().cloned().zip(&planes).filter(|(_, plane)| concerned(plane)) {
        object["apiVersion"] = CLUSTER_BUILD_PLANE.api_version().into();
        object["kind"] = CLUSTER_BUILD_PLANE.kind.into();
        out.add(Side::Control, &object, None);
        if let CaPlace::Secret(ca) = CaPlace::of(plane) {
            out.object(reach.control, Side::Control, &secret_path(&ca.secret), "Secret", Some(&ca.key)).await;
        }
        let observability = observability_path(plane.observability_plane());
        out.object(reach.control, Side::Control, &observability, OBSERVABILITY_KIND, None).await;
        let about = format!("involvedObject.name%3D{}", plane.name());
        let events = format!("/api/v1/namespaces/{EVENT_NAMESPACE}/events?fieldSelector={about}");
        out.list(reach.control, Side::Control, &events, "Event", |_| true).await;
    }
    out.ground(reach, &ids).await;
    if let Some((build, namespace)) = reach.build {
        out.build(build, namespace, &ids).await;
    }
    out.own(END, "end");
    let mut list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": out.items});
    hide_tokens(&mut list);
    Ok((list, out.unread))
}

fn secret_path(name: &NamespacedName) -> String {
    core_path("secrets", name)
}

fn core_path(plural: &str, name: &NamespacedName) -> String {
    format!("/api/v1/namespaces/{}/{plural}/{}", name.namespace, name.name)
}

fn lease_path(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}")
}

fn observability_path(name: &str) -> String {
    format!("/apis/{}/clusterobservabilityplanes/{name}", CLUSTER_BUILD_PLANE.api_version())
}

fn build_planes_path() -> String {
    format!("/apis/{}/buildplanes", CLUSTER_BUILD_PLANE.api_version())
}

fn deployments_path(namespace: &str) -> String {
    labelled(&format!("/apis/apps/v1/namespaces/{namespace}/deployments"), LABELS)
}

fn everywhere_path() -> String {
    labelled("/apis/apps/v1/deployments", LABELS)
}

fn pods_path(namespace: &str, selector: &str) -> String {
    labelled(&format!("/api/v1/namespaces/{namespace}/pods"), selector)
}

struct Dump {
    at: Timestamp,
    items: Vec<Value>,
    unread: Vec<String>,
}

impl Dump {
    fn own(&mut self, kind: &str, name: &str) {
        self.items.push(json!({"apiVersion": OWN, "kind": kind, "metadata": {"name": name}}));
    }

    fn add(&mut self, side: Side, object: &Value, key: Option<&str>) {
        let same = |one: &Value, other: &Value| {
            let metadata = ["namespace", "name"].iter().all(|field| one["metadata"][field] == other["metadata"][field]);
            let side = |object: &Value| object["metadata"]["annotations"][SIDE].clone();
            metadata && one["kind"] == other["kind"] && side(one) == side(other)
        };
        let mut object = kept(object, key);
        object["metadata"]["annotations"][DUMPED] = self.at.to_string().into();
        object["metadata"]["annotations"][SIDE] = side.name().into();
        // A Secret may hold the CAs of several planes, each under a key of its own.
        match self.items.iter_mut().find(|there| same(there, &object)) {
            None => self.items.push(object),
            Some(there) => {
                if let (Some(data), Some(more)) = (there["data"].as_object_mut(), object["data"].as_object()) {
                    data.extend(more.clone());
                }
            }
        }
    }

    async fn object(&mut self, cluster: &Cluster, side: Side, path: &str, kind: &str, key: Option<&str>) {
        match cluster.object(path).await {
            Ok(mut object) => {
                object["kind"] = kind.into();
                self.add(side, &object, key);
            }
            Err(error) => self.unread(side, path, &error),
        }
    }

    async fn list(&mut self, cluster: &Cluster, side: Side, path: &str, kind: &str, wanted: impl Fn(&Value) -> bool) {
        match cluster.object(path).await {
            Ok(list) => {
                for item in list["items"].as_array().into_iter().flatten().filter(|item| wanted(item)) {
                    let mut object = item.clone();
                    (object["apiVersion"], object["kind"]) = (list["apiVersion"].clone(), kind.into());
                    self.add(side, &object, None);
                }
            }
            Err(error) => self.unread(side, path, &error),
        }
    }

    /// What could not be read is told in the dump, too, where it was not only missing.
    fn unread(&mut self, side: Side, path: &str, error: &Error) {
        let problem = Unavailable::from(error);
        if !problem.is_missing() {
            self.items.push(json!({
                "apiVersion": OWN, "kind": UNREAD, "metadata": {"name": path},
                "cluster": side.name(), "word": problem.cause.word(), "text": problem.message,
            }));
            self.unread.push(format!("{path}: {}", problem.message));
        }
    }

    /// What all planes stand on, and the BuildPlanes of planeIDs.
    async fn ground(&mut self, reach: &Reach<'_>, ids: &BTreeSet<&str>) {
        let (control, namespace) = (reach.control, reach.control_namespace);
        let named = |name: &str| NamespacedName { namespace: namespace.into(), name: name.into() };
        let side = Side::Control;
        self.object(control, side, &CLUSTER_BUILD_PLANE.crd_path(), "CustomResourceDefinition", None).await;
        self.object(control, side, &secret_path(&named(GATEWAY_CA)), "Secret", None).await;
        self.object(control, side, &lease_path(namespace), "Lease", None).await;
        let service = named(GATEWAY_SERVICE);
        self.object(control, side, &core_path("services", &service), "Service", None).await;
        match control.service_pods(&service).await {
            Ok(Some(pods)) => self.list(control, side, &pods_path(namespace, &pods.selector), "Pod", |_| true).await,
            Ok(None) => {}
            Err(error) => self.unread(side, &pods_path(namespace, ""), &error),
        }
        let ours = |object: &Value| ids.contains(typed(object).plane_id());
        self.list(control, side, &build_planes_path(), BUILD_PLANE, ours).await;
    }

    async fn build(&mut self, build: &Cluster, namespace: &str, ids: &BTreeSet<&str>) {
        self.own(BUILD_CLUSTER, namespace);
        let side = Side::Build;
        self.list(build, side, &deployments_path(namespace), "Deployment", |_| true).await;
        let agents = agents_of(&self.items);
        if ids.iter().any(|id| agents.iter().all(|agent| agent.plane_id.as_deref() != Some(*id))) {
            self.list(build, side, &everywhere_path(), "Deployment", |_| true).await;
        }
        for id in ids {
            let staged = rotation_secret(namespace, id);
            self.object(build, side, &secret_path(&staged), "Secret", None).await;
        }
        for agent in agents {
            let map = agent.server_ca.clone().unwrap_or_else(|| GATEWAY_CA.into());
            let map = NamespacedName { namespace: namespace.into(), name: map };
            self.object(build, side, &core_path("configmaps", &map), "ConfigMap", None).await;
            if let Some(pair) = agent.pair() {
                self.object(build, side, &secret_path(&pair), "Secret", None).await;
                self.issuances(build, namespace, &pair.name).await;
            }
            self.list(build, side, &pods_path(namespace, agent.selector()), "Pod", |_| true).await;
            for pod in pods_of(&agent, &self.items) {
                let log = build.log(&agent, &pod).await.unwrap_or_default();
                // The rest of it may be anything.
                let told: Vec<_> =
                    log.lines().filter(|line| complaint(line).is_some() || line.contains(LET_IN)).collect();
                let ours = |object: &&mut Value| {
                    let metadata = &object["metadata"];
                    object["kind"] == "Pod"
                        && metadata["name"] == pod.name.as_str()
                        && metadata["annotations"][SIDE] == side.name()
                };
                if let Some(added) = self.items.iter_mut().find(ours) {
                    added["metadata"]["annotations"][LOG] = told.join("\n").into();
                }
            }
        }
    }
}

impl Dump {
    /// The Certificates that write a Secret, and their CertificateRequests.
    async fn issuances(&mut self, build: &Cluster, namespace: &str, secret: &str) {
        let side = Side::Build;
        let writes = |object: &Value| object["spec"]["secretName"] == secret;
        self.list(build, side, &issuance_path(namespace, CERTIFICATE), CERTIFICATE, writes).await;
        let names: BTreeSet<_> =
            self.items.iter().filter(|object| object["kind"] == CERTIFICATE).map(name_of).collect();
        if !names.is_empty() {
            let of_these = |object: &Value| {
                object["metadata"]["annotations"][CERT_MANAGER].as_str().is_some_and(|name| names.contains(name))
            };
            self.list(build, side, &issuance_path(namespace, REQUEST), REQUEST, of_these).await;
            self.list(build, side, &issuance_path(namespace, ISSUER), ISSUER, |_| true).await;
        }
    }
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// A plane out of an object; one of nothing where it is none.
fn typed(object: &Value) -> Plane {
    serde_json::from_value(object.clone()).unwrap_or_default()
}

/// A dump's word of itself.
fn own<'s>(snapshot: &'s Snapshot, kind: &str) -> impl Iterator<Item = &'s Value> {
    snapshot.related.iter().filter(move |object| object["apiVersion"] == OWN && object["kind"] == kind)
}

/// Whether a snapshot tells of a build cluster at all.
pub fn tells_of_build(snapshot: &Snapshot) -> bool {
    snapshot.related.iter().any(|object| object["kind"] == "Deployment")
        || own(snapshot, BUILD_CLUSTER).next().is_some()
}

/// The control plane's namespace that a dump was made of.
pub fn dumped_namespace(snapshot: &Snapshot) -> Option<&str> {
    own(snapshot, CONTROL_PLANE).next()?["metadata"]["name"].as_str()
}

/// The agents' namespace that a dump was made of.
pub fn dumped_build_namespace(snapshot: &Snapshot) -> Option<&str> {
    own(snapshot, BUILD_CLUSTER).next()?["metadata"]["name"].as_str()
}

/// Whether a dump ends before its end.
pub fn is_cut_off(snapshot: &Snapshot) -> bool {
    let is_dump = snapshot.planes.iter().any(|plane| plane.annotation(DUMPED).is_some());
    is_dump && own(snapshot, END).next().is_none()
}

/// Why something isn't in files: it could not be read when they were dumped, it was not there, or nobody looked.
pub struct Absent<'s> {
    snapshot: &'s Snapshot,
    side: Side,
}

impl<'s> Absent<'s> {
    pub fn new(snapshot: &'s Snapshot, side: Side) -> Self {
        Self { snapshot, side }
    }

    /// What a dump could not read, of those whose path begins so.
    fn unread(&self, path: &str) -> Option<Unavailable> {
        let ours = |object: &&Value| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            object["cluster"] == self.side.name() && name.starts_with(path)
        };
        let object = own(self.snapshot, UNREAD).find(ours)?;
        let cause = if object["word"] == Cause::Forbidden.word() { Cause::Forbidden } else { Cause::Unknown };
        let text = object["text"].as_str().unwrap_or_default();
        Some(Unavailable::new(cause, format!("it could not be read for the dump: {text}")))
    }

    fn was_looked_for(&self) -> bool {
        match self.side {
            Side::Control => self.snapshot.planes.iter().any(|plane| plane.annotation(DUMPED).is_some()),
            Side::Build => own(self.snapshot, BUILD_CLUSTER).next().is_some(),
        }
    }

    fn why(&self, path: &str, what: &str) -> Unavailable {
        match self.unread(path) {
            Some(problem) => problem,
            None if self.was_looked_for() => Unavailable::missing(format!("{what} does not exist")),
            None => Unavailable::not_in_files(format!("{what} is not in the files")),
        }
    }

    pub fn secret(&self, name: &NamespacedName) -> Unavailable {
        self.why(&secret_path(name), &format!("Secret {name}"))
    }

    pub fn observability(&self, name: &str) -> Unavailable {
        self.why(&observability_path(name), &format!("{OBSERVABILITY_KIND} {name}"))
    }

    pub fn config_map(&self, name: &NamespacedName) -> Unavailable {
        self.why(&core_path("configmaps", name), &format!("ConfigMap {name}"))
    }

    pub fn lease(&self, namespace: &str) -> Unavailable {
        self.why(&lease_path(namespace), "the controller's lease")
    }

    pub fn service(&self, name: &NamespacedName) -> Unavailable {
        self.why(&core_path("services", name), &format!("the gateway's Service {name}"))
    }

    pub fn agents(&self, namespace: &str, plane_id: &str) -> Unavailable {
        self.why(&deployments_path(namespace), &format!("an agent of planeID {plane_id} in the namespace {namespace}"))
    }

    /// Pods of a namespace that could not be read.
    pub fn pods(&self, namespace: &str) -> Option<Unavailable> {
        self.unread(&format!("/api/v1/namespaces/{namespace}/pods"))
    }

    /// The agents of other namespaces that could not be read.
    pub fn everywhere(&self) -> Option<Unavailable> {
        self.unread(&everywhere_path())
    }

    /// The Certificates of a namespace that could not be read.
    pub fn issuances(&self, namespace: &str) -> Option<Unavailable> {
        self.unread(&issuance_path(namespace, CERTIFICATE))
    }

    pub fn build_planes(&self) -> Option<Unavailable> {
        self.unread(&build_planes_path())
    }
}
