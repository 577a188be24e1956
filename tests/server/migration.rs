//! The way of clusters from OpenChoreo v0.17 to v1.2: the CRDs are upgraded, then gateway and controller, and the stages of
//! `migrate` are in between. Six planes with four agents, installed by the real helm, are to stay what they were.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::bootstrap::gateway_ca;
use super::estate::Estate;
use super::helm::cert_manager;
use super::hints::paste;

stories!(
    Go:
        an_upgrade_takes_away_references_and_the_agents_of_build_planes;
);

/// How long something may take that takes several reports of the controller.
const SOON: Duration = Duration::from_secs(30);
/// For how long agents are counted: each tries ten times a second.
const A_WHILE: Duration = Duration::from_millis(1500);

const CONTROL: &str = "openchoreo-control-plane";
const GROUP: &str = "/apis/openchoreo.dev/v1alpha1";

// What is in the clusters.

/// An agent's release of a chart: its namespace, its Deployment, its plane type, and its planeID, by which its folder of
/// certificates is called, too.
const AGENTS: [[&str; 4]; 4] = [
    ["openchoreo-build-plane", "cluster-agent-buildplane", "buildplane", "shared"],
    // A second one in the cluster has a name of its own.
    ["builds", "cluster-agent-own", "buildplane", "own"],
    ["openchoreo-data-plane", "cluster-agent-dataplane", "dataplane", "data"],
    ["openchoreo-observability-plane", "cluster-agent-observabilityplane", "observabilityplane", "obs"],
];

/// Where an agent of a workflow plane is that was a build plane's.
const LATE: [[&str; 2]; 1] = [["openchoreo-build-plane", "cluster-agent-workflowplane"]];

/// A plane: its kind in v0.17, its namespace, its name, which is its planeID, and where a Secret has its CA.
struct Plane {
    kind: &'static str,
    namespace: Option<&'static str>,
    name: &'static str,
    secret: Option<Reference>,
}

/// A Secret's namespace, if it is written, and name.
type Reference = (Option<&'static str>, &'static str);

const TEAM: Option<&str> = Some("team");

/// Two of each family. Those of the same planeID have one agent, which one of them authorizes by an inline CA.
const PLANES: [Plane; 6] = [
    Plane { kind: "ClusterBuildPlane", namespace: None, name: "shared", secret: None },
    Plane { kind: "BuildPlane", namespace: TEAM, name: "own", secret: Some((None, "own-ca")) },
    Plane { kind: "ClusterDataPlane", namespace: None, name: "data", secret: Some((TEAM, "data-ca")) },
    Plane { kind: "DataPlane", namespace: TEAM, name: "data", secret: None },
    Plane { kind: "ClusterObservabilityPlane", namespace: None, name: "obs", secret: None },
    Plane { kind: "ObservabilityPlane", namespace: TEAM, name: "obs", secret: Some((TEAM, "obs-ca")) },
];

/// Where the control plane's API has an object.
fn path(kind: &str, namespace: Option<&str>, name: &str) -> String {
    let namespace = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    format!("{GROUP}/{namespace}{}s/{name}", kind.to_lowercase())
}

impl Plane {
    fn path(&self) -> String {
        path(self.kind, self.namespace, self.name)
    }

    /// Its object in v0.17.
    fn object(&self, at: &Estate) -> Value {
        let client_ca = match self.secret {
            None => json!({"value": at.control.read(format!("{}/ca.crt", self.name))}),
            Some((None, name)) => json!({"secretRef": {"name": name, "key": "ca.crt"}}),
            Some((Some(namespace), name)) => {
                json!({"secretRef": {"name": name, "namespace": namespace, "key": "ca.crt"}})
            }
        };
        let mut spec = json!({"clusterAgent": {"clientCA": client_ca}});
        match self.kind.trim_start_matches("Cluster") {
            "ObservabilityPlane" => spec["observerURL"] = "https://observer.example.com".into(),
            "DataPlane" => spec["imagePullSecretRefs"] = json!(["registry"]),
            _ => spec["observabilityPlaneRef"] = json!({"kind": "ClusterObservabilityPlane", "name": "obs"}),
        }
        let mut metadata = json!({
            "name": self.name, "labels": {"example.com/team": "builds"},
            "annotations": {"openchoreo.dev/display-name": format!("{} of old", self.kind)},
        });
        match self.namespace {
            // Without a planeID it is the name.
            Some(namespace) => metadata["namespace"] = namespace.into(),
            None => spec["planeID"] = self.name.into(),
        }
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": self.kind, "metadata": metadata, "spec": spec})
    }
}

/// The CRD of another kind than planes, as far as it refers to them.
fn crd(kind: &str, fields: &Value) -> String {
    let (singular, plural) = (kind.to_lowercase(), format!("{}s", kind.to_lowercase()));
    let spec = json!({"type": "object", "properties": fields});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let version = json!({"name": "v1alpha1", "served": true, "storage": true, "schema": schema});
    let names = json!({"kind": kind, "plural": plural, "singular": singular});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.openchoreo.dev")},
        "spec": {"group": "openchoreo.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    })
    .to_string()
}

/// The schema of a reference to planes of these kinds.
fn reference(kinds: &[&str]) -> Value {
    let properties = json!({"kind": {"type": "string", "enum": kinds}, "name": {"type": "string"}});
    json!({"type": "object", "required": ["kind", "name"], "properties": properties})
}

/// Applies CRDs as the upgrade guides say.
fn apply_crds(at: &Estate, release: &str, kinds: &[&str], others: &[String]) {
    let of_planes = kinds.iter().map(|kind| at.control.run(&["crd", kind, "--release", release]).expect(0).stdout);
    let all: Vec<_> = of_planes.chain(others.iter().cloned()).collect();
    at.control.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &all.join("\n---\n"));
    at.control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
}

/// An object that shows the running release, as its chart makes it.
fn write_in_control(at: &Estate, plural: &str, mut object: Value) {
    object["apiVersion"] = "v1".into();
    object["metadata"]["namespace"] = CONTROL.into();
    let path = format!("/api/v1/namespaces/{CONTROL}/{plural}/{}", object["metadata"]["name"].as_str().unwrap());
    at.control.api().delete(&path);
    at.control.api().write(&path, &object);
}

fn show_controller(at: &Estate, release: &str) {
    let labels = json!({"app.kubernetes.io/component": "controller-manager", "app.kubernetes.io/version": release});
    let container = json!({"name": "manager", "image": format!("example.com/controller:{release}")});
    let metadata = json!({"name": "controller-manager-0", "labels": labels});
    write_in_control(at, "pods", json!({"kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}));
}

fn show_gateway(at: &Estate, release: &str) {
    let labels = json!({"app": "gateway", "app.kubernetes.io/version": release});
    let container = json!({"name": "cluster-gateway", "image": format!("example.com/gateway:{release}")});
    let metadata = json!({"name": "gateway-0", "labels": labels});
    write_in_control(at, "pods", json!({"kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}));
    let spec = json!({"selector": {"app": "gateway"}, "ports": [{"name": "websocket", "port": at.port}]});
    let metadata = json!({"name": "cluster-gateway", "labels": labels});
    write_in_control(at, "services", json!({"kind": "Service", "metadata": metadata, "spec": spec}));
}

/// Installs an agent with a certificate of its own.
fn install(at: &Estate, [namespace, deployment, plane_type, plane_id]: [&str; 4]) {
    at.control.run(&["certs", "ca", "--out-dir", plane_id]).expect(0);
    at.control.run(&["certs", "client", "--plane-id", plane_id, "--ca-dir", plane_id]).expect(0);
    let secret = at.control.run(&["certs", "secret", plane_id, "-n", namespace, "--name", "agent-tls"]).expect(0);
    at.build.kubectl(&["apply", "-f", "-"], &secret.stdout);
    let release = format!("openchoreo-{}-plane", plane_type.trim_end_matches("plane"));
    let mut values = vec![
        format!("planeID={plane_id}"),
        format!("serverUrl=wss://localhost:{}/ws", at.port),
        "tls.clientSecretName=agent-tls".to_owned(),
    ];
    if namespace != release {
        values.push(format!("name={deployment}"));
    }
    let values: String = values.iter().map(|value| format!(" --set clusterAgent.{value}")).collect();
    let chart = format!("oci://ghcr.io/openchoreo/helm-charts/{release}");
    let place = format!("--namespace {namespace} --kubeconfig {}", at.build.kubeconfig().display());
    paste(at, &format!("helm install {release} {chart} {place}{values}")).expect(0);
}

/// A control plane of v0.17 with all planes and what refers to them, and their agents, all of which are connected.
fn v0_17() -> Estate {
    let places: Vec<_> =
        AGENTS.iter().map(|agent| (agent[0], agent[1])).chain(LATE.map(|late| (late[0], late[1]))).collect();
    let mut at = Estate::for_agents(&places);
    for namespace in [CONTROL, "team"] {
        at.control.kubectl(&["create", "namespace", namespace], "");
    }
    gateway_ca(&at);
    let referred = reference(&["BuildPlane", "ClusterBuildPlane"]);
    let workflow = crd("Workflow", &json!({"x": {"type": "string"}, "buildPlaneRef": referred}));
    let project = crd("Project", &json!({"buildPlaneRef": referred}));
    apply_crds(&at, "v0.17", &["cbp", "buildplane", "cdp", "dp", "cop", "observabilityplane"], &[workflow, project]);
    show_controller(&at, "v0.17.0");
    show_gateway(&at, "v0.17.0");
    at.order("finalizers on");
    cert_manager(&at);
    for agent in AGENTS {
        install(&at, agent);
    }
    for plane in &PLANES {
        if let Some((namespace, secret)) = plane.secret {
            let file = format!("--from-file=ca.crt={}/ca.crt", plane.name);
            let namespace = namespace.or(plane.namespace).unwrap();
            at.control.kubectl(&["create", "secret", "generic", secret, &file, "-n", namespace], "");
        }
        at.control.api().write(&plane.path(), &plane.object(&at));
    }
    let of = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    for (kind, name, spec) in [
        ("Workflow", "unnamed", json!({"x": "1"})),
        ("Workflow", "shared", json!({"x": "2", "buildPlaneRef": of("ClusterBuildPlane", "shared")})),
        ("Workflow", "own", json!({"x": "3", "buildPlaneRef": of("BuildPlane", "own")})),
        ("Project", "shop", json!({"buildPlaneRef": of("BuildPlane", "own")})),
    ] {
        let metadata = json!({"name": name, "namespace": "team"});
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        at.control.api().write(&path(kind, TEAM, name), &object);
    }
    let role = ["create", "clusterrole", "builders", "--verb=get,list", "--resource=clusterbuildplanes.openchoreo.dev"];
    at.control.kubectl(&role, "");
    for plane in &PLANES {
        until_connected(&at, &plane.path());
    }
    at.settle();
    at
}

/// Applies the CRDs of v1.2. Helm removes none, so those of build planes stay.
fn upgrade_crds(at: &Estate) {
    let mut referred = reference(&["WorkflowPlane", "ClusterWorkflowPlane"]);
    referred["default"] = json!({"kind": "ClusterWorkflowPlane", "name": "default"});
    referred["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf", "message": "the plane is immutable"}]);
    let workflow = crd("Workflow", &json!({"x": {"type": "string"}, "workflowPlaneRef": referred}));
    apply_crds(at, "v1.2", &["cwp", "workflowplane", "cdp", "dp", "cop", "observabilityplane"], &[workflow]);
    // The API server goes on with the schemas of before for a moment.
    let deadline = Instant::now() + SOON;
    while !client_ca(at, &PLANES[2]).as_object().unwrap().is_empty()
        || workflow_of(at, "own")["buildPlaneRef"] != json!(null)
    {
        assert!(Instant::now() < deadline, "the CRDs are not in force");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Replaces the gateway and the controller.
fn upgrade_gateway(at: &Estate) {
    at.order("era v1");
    show_controller(at, "v1.2.3");
    show_gateway(at, "v1.2.3");
}

// What became of it.

fn get(at: &Estate, path: &str) -> Value {
    at.control.api().get(path).unwrap_or_default()
}

fn client_ca(at: &Estate, plane: &Plane) -> Value {
    get(at, &plane.path())["spec"]["clusterAgent"]["clientCA"].clone()
}

fn workflow_of(at: &Estate, name: &str) -> Value {
    get(at, &path("Workflow", TEAM, name))["spec"].clone()
}

/// Waits until the controller reports agents of the plane at this path.
#[track_caller]
fn until_connected(at: &Estate, path: &str) {
    let deadline = Instant::now() + SOON;
    while get(at, path)["status"]["agentConnection"]["connected"] != true {
        assert!(Instant::now() < deadline, "{path}: {:#}", get(at, path));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The planeIDs of agents that are refused, and why.
fn refused(at: &mut Estate) -> BTreeSet<(String, String)> {
    // What is under way began before.
    std::thread::sleep(Duration::from_millis(500));
    at.reset();
    std::thread::sleep(A_WHILE);
    let (authorized, _, told) = at.count();
    assert!(authorized > 0, "nobody is connected: {told:#}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    told.as_array().unwrap().iter().map(|one| (text(&one["planeID"]), text(&one["text"]))).collect()
}

/// What `migrate` is for, as the API server and the gateway do it.
fn an_upgrade_takes_away_references_and_the_agents_of_build_planes() {
    let mut at = v0_17();
    upgrade_crds(&at);
    for plane in &PLANES {
        let field = match (plane.secret, plane.kind) {
            (None, _) => vec!["value"],
            (_, "BuildPlane") => vec!["secretRef"],
            // It is lost, with what data planes had of Secrets for images.
            _ => vec![],
        };
        let left: Vec<_> = client_ca(&at, plane).as_object().unwrap().keys().cloned().collect();
        assert_eq!(left, field, "{}", plane.kind);
        assert_eq!(get(&at, &plane.path())["spec"]["imagePullSecretRefs"], json!(null));
    }
    for name in ["unnamed", "shared", "own"] {
        assert_eq!(workflow_of(&at, name)["workflowPlaneRef"]["name"], "default", "{name}");
    }
    let other = json!({"spec": {"workflowPlaneRef": {"kind": "ClusterWorkflowPlane", "name": "shared"}}});
    let workflow = path("Workflow", TEAM, "shared");
    let (code, answer) = at.control.api().send("PATCH", &workflow, "application/merge-patch+json", &other);
    assert!(code == 422 && answer.to_string().contains("the plane is immutable"), "{answer}");

    // Only another plane of the planeID keeps the agent authorized.
    at.settle();
    at.control.api().delete(&PLANES[3].path());
    let lost = ("data".to_owned(), "no dataplane CRs found with planeID 'data'".to_owned());
    assert_eq!(refused(&mut at), BTreeSet::from([lost.clone()]));
    // A gateway of v0.17 does not read the field of v1.x.
    let reference = json!({"secretKeyRef": {"name": "data-ca", "namespace": "team", "key": "ca.crt"}});
    at.control.api().merge(&PLANES[2].path(), &json!({"spec": {"clusterAgent": {"clientCA": reference}}}));
    assert_eq!(refused(&mut at), BTreeSet::from([lost]));
    upgrade_gateway(&at);
    let why = "invalid planeType: must be 'dataplane', 'workflowplane', or 'observabilityplane'";
    assert_eq!(refused(&mut at), ["own", "shared"].map(|id| (id.to_owned(), why.to_owned())).into());
    // The new controller goes on with planes of kinds that it knows, and nobody holds the others.
    at.control.api().delete(&PLANES[0].path());
    until_connected(&at, &PLANES[2].path());
    let left = get(&at, &PLANES[0].path())["metadata"].clone();
    assert!(left["deletionTimestamp"].is_string(), "{left}");
    assert_eq!(left["finalizers"], json!(["openchoreo.dev/clusterbuildplane-cleanup"]));
}
