//! The objects that a diagnosis looks at, for somebody else to look at: without private keys, tokens, and whatever else
//! of Secrets and pods is nobody's business.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::case::{BUILD_PLANE, GATEWAY_CA, GATEWAY_SERVICE, LEASE, Reach};
use super::checks::complaint;
use super::facts::{CaPlace, Problem, ca_place};
use crate::cluster::{Cluster, Error, LABELS, LET_IN, StoredSecret, agents_of, pods_path};
use crate::pki::{self, LEAF_PRIVATE_KEY};
use crate::plane::{CLUSTER_BUILD_PLANE, DUMPED, EVENT_NAMESPACE, KEY_FITS, LOG, NamespacedName, Plane, Snapshot};

/// What a dump says of itself, beside the objects: where it looked, and what it may not read.
const OWN: &str = "choreoctl.dev/v1";
const LOOKED: &str = "BuildCluster";
const UNREAD: &str = "Unread";

/// Arguments of the agent that are kept.
const ARGUMENTS: [&str; 4] = ["--server-url", "--plane-type", "--plane-id", "--tls-enabled"];

/// The objects around planes as one List.
pub async fn dump(reach: &Reach<'_>, names: &[String]) -> Result<Value, Error> {
    let mut out = Dump { at: reach.control.now(), items: Vec::new() };
    let all: Vec<Value> = reach.control.planes(None).await?;
    let ids: Vec<_> = all.iter().map(typed).filter(|plane| names.iter().any(|name| name == plane.name())).collect();
    let concerned = |plane: &Plane| ids.iter().any(|one| one.plane_id() == plane.plane_id());
    for object in all {
        let plane = typed(&object);
        if !concerned(&plane) {
            continue;
        }
        let mut object = object;
        object["apiVersion"] = CLUSTER_BUILD_PLANE.api_version().into();
        object["kind"] = CLUSTER_BUILD_PLANE.kind.into();
        out.add(object);
        if let CaPlace::Secret(ca) = ca_place(&plane) {
            out.object(reach.control, &path("secrets", &ca.secret), "Secret").await;
        }
        let observability = format!("/apis/{}/clusterobservabilityplanes", CLUSTER_BUILD_PLANE.api_version());
        let observability = format!("{observability}/{}", plane.observability_plane());
        out.object(reach.control, &observability, crate::plane::OBSERVABILITY_KIND).await;
        let about = format!("involvedObject.name%3D{}", plane.name());
        out.list(reach.control, &format!("/api/v1/namespaces/{EVENT_NAMESPACE}/events?fieldSelector={about}"), "Event")
            .await;
    }
    out.ground(reach, concerned).await;
    if let Some((build, namespace)) = reach.build {
        out.build(build, namespace).await;
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": out.items}))
}

fn path(plural: &str, name: &NamespacedName) -> String {
    format!("/api/v1/namespaces/{}/{plural}/{}", name.namespace, name.name)
}

struct Dump {
    at: Timestamp,
    items: Vec<Value>,
}

impl Dump {
    fn add(&mut self, mut object: Value) {
        let kept = |object: &Value| {
            (object["kind"].clone(), object["metadata"]["namespace"].clone(), object["metadata"]["name"].clone())
        };
        redact(&mut object);
        annotate(&mut object, DUMPED, &self.at.to_string());
        if !self.items.iter().any(|there| kept(there) == kept(&object)) {
            self.items.push(object);
        }
    }

    async fn object(&mut self, cluster: &Cluster, path: &str, kind: &str) {
        match cluster.object(path).await {
            Ok(mut object) => {
                object["kind"] = kind.into();
                self.add(object);
            }
            Err(error) => self.unread(path, &error),
        }
    }

    async fn list(&mut self, cluster: &Cluster, path: &str, kind: &str) {
        match cluster.object(path).await {
            Ok(list) => {
                let version = list["apiVersion"].clone();
                for item in list["items"].as_array().into_iter().flatten() {
                    let mut object = json!({"apiVersion": version, "kind": kind});
                    if let (Some(object), Some(item)) = (object.as_object_mut(), item.as_object()) {
                        object.extend(item.clone());
                    }
                    self.add(object);
                }
            }
            Err(error) => self.unread(path, &error),
        }
    }

    /// What could not be read is told in the dump, too, where it was not only missing.
    fn unread(&mut self, path: &str, error: &Error) {
        let problem = Problem::from(error);
        if problem.word != "missing" {
            let text = format!("{path}: {}", problem.text);
            self.items.push(json!({"apiVersion": OWN, "kind": UNREAD, "metadata": {"name": text}}));
        }
    }

    /// What all planes stand on, and the BuildPlanes that are concerned.
    async fn ground(&mut self, reach: &Reach<'_>, concerned: impl Fn(&Plane) -> bool) {
        let (control, namespace) = (reach.control, reach.control_namespace);
        let named = |name: &str| NamespacedName { namespace: namespace.into(), name: name.into() };
        self.object(control, &CLUSTER_BUILD_PLANE.crd_path(), "CustomResourceDefinition").await;
        self.object(control, &path("secrets", &named(GATEWAY_CA)), "Secret").await;
        let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{LEASE}");
        self.object(control, &lease, "Lease").await;
        let service = named(GATEWAY_SERVICE);
        self.object(control, &path("services", &service), "Service").await;
        if let Ok(Some(pods)) = control.service_pods(&service).await {
            self.list(control, &pods_path(namespace, &pods.selector), "Pod").await;
        }
        let build_planes = format!("/apis/{}/buildplanes", CLUSTER_BUILD_PLANE.api_version());
        let others = |object: &Value| object["kind"] != BUILD_PLANE || concerned(&typed(object));
        self.list(control, &build_planes, BUILD_PLANE).await;
        self.items.retain(others);
    }

    async fn build(&mut self, build: &Cluster, namespace: &str) {
        self.items.push(json!({"apiVersion": OWN, "kind": LOOKED, "metadata": {"name": namespace}}));
        let labels = LABELS.replace(',', "%2C").replace('=', "%3D");
        let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments?labelSelector={labels}");
        self.list(build, &deployments, "Deployment").await;
        for agent in agents_of(&self.items) {
            let map = agent.server_ca.clone().unwrap_or_else(|| GATEWAY_CA.into());
            let map = NamespacedName { namespace: namespace.into(), name: map };
            self.object(build, &path("configmaps", &map), "ConfigMap").await;
            if let Some(pair) = agent.pair() {
                self.object(build, &path("secrets", &pair), "Secret").await;
            }
            self.list(build, &agent.pods_path(), "Pod").await;
            for pod in build.agent_pods(&agent).await.unwrap_or_default() {
                let log = build.log(&agent, &pod).await.unwrap_or_default();
                // The rest of it may be anything.
                let told: Vec<_> =
                    log.lines().filter(|line| complaint(line).is_some() || line.contains(LET_IN)).collect();
                let added = self
                    .items
                    .iter_mut()
                    .find(|object| object["kind"] == "Pod" && object["metadata"]["name"] == pod.name.as_str());
                if let Some(added) = added {
                    annotate(added, LOG, &told.join("\n"));
                }
            }
        }
    }
}

/// A plane out of an object; one of nothing where it is none.
fn typed(object: &Value) -> Plane {
    serde_json::from_value(object.clone()).unwrap_or_default()
}

fn annotate(object: &mut Value, name: &str, text: &str) {
    object["metadata"]["annotations"][name] = text.into();
}

/// Takes out of an object what isn't looked at, and what nobody else may see.
fn redact(object: &mut Value) {
    let plane = object["kind"] == CLUSTER_BUILD_PLANE.kind;
    if let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
        // What was last applied may hold a Secret's data, and others' annotations anything.
        annotations.retain(|name, _| {
            name != "kubectl.kubernetes.io/last-applied-configuration"
                && (plane || name.starts_with("choreoctl.dev/") || name.starts_with("cert-manager.io/"))
        });
    }
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    // When a Secret was written is looked at, and who owns a plane's fields.
    if !plane
        && kind != "Secret"
        && let Some(metadata) = object["metadata"].as_object_mut()
    {
        metadata.shift_remove("managedFields");
    }
    match kind.as_str() {
        "Secret" => redact_secret(object),
        "Deployment" => {
            redact_pod(&mut object["spec"]["template"]["spec"]);
            if let Some(annotations) = object.pointer_mut("/spec/template/metadata/annotations") {
                *annotations = json!({});
            }
        }
        "Pod" => redact_pod(&mut object["spec"]),
        "CustomResourceDefinition" => redact_crd(object),
        _ => {}
    }
}

/// Of a CRD what it says of a plane's spec stays, without the texts.
fn redact_crd(object: &mut Value) {
    const SPEC: &str = "/schema/openAPIV3Schema/properties/spec";
    let versions = object["spec"]["versions"].as_array().into_iter().flatten().map(|version| {
        let mut spec = version.pointer(SPEC).cloned().unwrap_or_default();
        without_descriptions(&mut spec);
        let schema = json!({"openAPIV3Schema": {"properties": {"spec": spec}}});
        json!({"name": version["name"], "served": version["served"], "schema": schema})
    });
    object["spec"] = json!({"versions": versions.collect::<Vec<_>>()});
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("status");
    }
}

fn without_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, value| name != "description" || !value.is_string());
            fields.values_mut().for_each(without_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_descriptions),
        _ => {}
    }
}

/// Of a Secret the certificates stay.
fn redact_secret(object: &mut Value) {
    let Some(secret) = StoredSecret::of_object(object) else {
        object["data"] = json!({});
        return;
    };
    if !secret.bytes(LEAF_PRIVATE_KEY).is_empty() {
        let fits = super::agents::Pair::of(&secret).is_ok_and(|pair| pair.fits);
        annotate(object, KEY_FITS, &fits.to_string());
    }
    if let Some(data) = object["data"].as_object_mut() {
        data.retain(|key, _| {
            let text = secret.text(key);
            !pki::certificates(&text).is_empty() && !pki::holds_private_key(&text)
        });
    }
    if let Some(fields) = object.as_object_mut() {
        fields.shift_remove("stringData");
    }
}

/// Of a pod what the agent runs with stays: no environment, no other container, no argument that isn't known.
fn redact_pod(spec: &mut Value) {
    let agent = |container: &&Value| container["name"] == "agent";
    let containers = spec["containers"].as_array().into_iter().flatten().filter(agent).map(|container| {
        let words = ["command", "args"].map(|field| container[field].as_array().cloned().unwrap_or_default()).concat();
        let known = |word: &&Value| {
            word.as_str().is_some_and(|word| ARGUMENTS.iter().any(|known| word.split('=').next() == Some(known)))
        };
        let words: Vec<_> = words.iter().filter(known).cloned().collect();
        json!({"name": "agent", "image": container["image"], "args": words})
    });
    let containers: Vec<_> = containers.collect();
    let volumes: Vec<_> = spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|volume| {
            let kept = ["name", "secret", "configMap"]
                .into_iter()
                .filter_map(|field| Some((field.to_owned(), volume.get(field)?.clone())));
            Value::Object(kept.collect::<Map<_, _>>())
        })
        .collect();
    *spec = json!({"containers": containers, "volumes": volumes});
}

/// Whether a snapshot tells of a build cluster at all.
pub fn tells_of_build(snapshot: &Snapshot) -> bool {
    snapshot.related.iter().any(|object| object["kind"] == "Deployment" || object["kind"] == LOOKED)
}

/// Whether a Secret was looked for when a snapshot was dumped, and would be in it if it were there.
pub fn was_looked_for(snapshot: &Snapshot, secret: &NamespacedName) -> bool {
    let unread = |object: &Value| {
        object["kind"] == UNREAD
            && object["metadata"]["name"].as_str().is_some_and(|text| text.starts_with(&path("secrets", secret)))
    };
    snapshot.planes.iter().any(|plane| plane.annotation(DUMPED).is_some()) && !snapshot.related.iter().any(unread)
}
