//! Doctor's faults as a table over a recorded estate: what is changed in a healthy one, and what the checks make of it.
//!
//! The estate and its certificates in tests/estates are recorded by tests/server, which puts the same faults into a live
//! one. What is said of each fault is in verdicts.txt there; SNAPSHOTS=overwrite in the environment writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use snapbox::{assert_data_eq, file};

use super::{AgentsIn, CHECKS, Checked, Gathered, Reach, Status, checks, gather, is_healthy, root_cause, unchecked};
use crate::estate::{Cause, Extent, Files, Unavailable};
use crate::gateway::{Answer, Counted, PlaneTypes, ProbeError, Reply};
use crate::plane::{DEFAULT_KIND, DUMPED, KEY_FITS, KINDS, LOG, Plane, SIDE, Snapshot};

const PLANE: &str = "sick";
const AGENT: &str = "cluster-agent-buildplane";
const SECRET: &str = "cluster-agent-tls";
const GATEWAY_CA: &str = "cluster-gateway-ca";
const CONTROL: &str = "openchoreo-control-plane";
const BUILD: &str = "openchoreo-build-plane";

/// A recorded estate.
struct Estate {
    items: Vec<Value>,
    certificates: Value,
    /// What is known where the clusters and the gateway themselves can be asked; none where only the dump is read.
    live: Option<fn(&mut Gathered)>,
}

impl Estate {
    fn healthy() -> Self {
        let recorded: Value = serde_json::from_str(include_str!("../../tests/estates/healthy.json")).unwrap();
        let certificates = serde_json::from_str(include_str!("../../tests/estates/certificates.json")).unwrap();
        Self { items: recorded["items"].as_array().unwrap().clone(), certificates, live: None }
    }

    /// The moment of the dump.
    fn now(&self) -> Timestamp {
        self.items[1]["metadata"]["annotations"][DUMPED].as_str().unwrap().parse().unwrap()
    }

    fn certificate(&self, name: &str) -> Value {
        assert!(self.certificates[name].is_string(), "no certificate {name}");
        self.certificates[name].clone()
    }

    fn object(&mut self, kind: &str, name: &str) -> &mut Value {
        let is_it = |object: &&mut Value| {
            object["kind"] == kind && object["metadata"]["name"].as_str().unwrap_or_default().starts_with(name)
        };
        self.items.iter_mut().filter(is_it).last().unwrap_or_else(|| panic!("no {kind} {name}"))
    }

    fn remove(&mut self, kind: &str, name: &str) {
        let object = self.object(kind, name).clone();
        self.items.retain(|item| *item != object);
    }

    fn add(&mut self, side: &str, mut object: Value) {
        object["metadata"]["annotations"][DUMPED] = self.now().to_string().into();
        object["metadata"]["annotations"][SIDE] = side.into();
        self.items.insert(1, object);
    }

    fn plane(&mut self) -> &mut Value {
        self.object("ClusterBuildPlane", PLANE)
    }

    fn client_ca(&mut self, ca: Value) {
        self.plane()["spec"]["clusterAgent"]["clientCA"] = ca;
    }

    fn value(&mut self, text: impl Into<Value>) {
        self.client_ca(json!({"value": text.into()}));
    }

    /// Makes the plane trust a recorded certificate.
    fn trusts(&mut self, name: &str) {
        let certificate = self.certificate(name);
        self.value(certificate);
    }

    fn own_ca(&mut self) -> String {
        self.plane()["spec"]["clusterAgent"]["clientCA"]["value"].as_str().unwrap().to_owned()
    }

    /// The CA in a Secret of the control plane.
    fn in_secret(&mut self, name: &str, key: &str) {
        let ca = STANDARD.encode(self.own_ca());
        let metadata = json!({"name": "ca", "namespace": "default", "annotations": {}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"ca.crt": ca}});
        self.client_ca(json!({"secretRef": {"name": name, "namespace": "default", "key": key}}));
        self.add("control", secret);
    }

    /// Puts a recorded certificate into the agent's Secret, which its pods read a minute later.
    fn presents(&mut self, name: &str) {
        let certificate = self.certificate(name);
        self.presents_pem(certificate.as_str().unwrap());
    }

    fn presents_pem(&mut self, certificate: &str) {
        let time = self.ago(60);
        let secret = self.object("Secret", SECRET);
        secret["data"]["tls.crt"] = STANDARD.encode(certificate).into();
        for entry in secret["metadata"]["managedFields"].as_array_mut().unwrap() {
            entry["time"] = time.clone();
        }
        let started = self.ago(0);
        self.pod()["status"]["containerStatuses"][0]["state"] = json!({"running": {"startedAt": started}});
    }

    /// Marks the agent's Secret as cert-manager does.
    fn mark(&mut self) {
        self.object("Secret", SECRET)["metadata"]["annotations"]["cert-manager.io/certificate-name"] = "agent".into();
    }

    /// cert-manager's Certificate that writes the agent's Secret.
    fn certificate_of_cert_manager(&mut self, ready: &str) {
        let condition = json!({"type": "Ready", "status": ready, "message": "the issuer is away"});
        let metadata = json!({"name": "agent", "namespace": BUILD, "annotations": {}});
        let certificate = json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": metadata,
            "spec": {"secretName": SECRET}, "status": {"conditions": [condition]}});
        self.add("build", certificate);
    }

    fn deployment(&mut self) -> &mut Value {
        self.object("Deployment", AGENT)
    }

    /// Replaces an argument of the agent, by its name.
    fn argument(&mut self, argument: &str) {
        let name = argument.split('=').next().unwrap();
        let container = &mut self.deployment()["spec"]["template"]["spec"]["containers"][0];
        let arguments = container["args"].as_array_mut().unwrap();
        let old = arguments.iter_mut().filter(|old| old.as_str().unwrap().starts_with(name));
        old.for_each(|old| *old = argument.into());
    }

    /// Helm installed version 1.2.3 of this chart.
    fn chart(&mut self, name: &str) {
        let labels = &mut self.deployment()["metadata"]["labels"];
        labels["app.kubernetes.io/name"] = name.into();
        labels["helm.sh/chart"] = format!("{name}-1.2.3").into();
    }

    fn pod(&mut self) -> &mut Value {
        self.object("Pod", AGENT)
    }

    /// The agent's container waits, for a reason.
    fn waits(&mut self, reason: &str) {
        let container = &mut self.pod()["status"]["containerStatuses"][0];
        (container["ready"], container["state"]) = (false.into(), json!({"waiting": {"reason": reason}}));
    }

    fn server_ca(&mut self, data: Value) {
        self.object("ConfigMap", GATEWAY_CA)["data"] = data;
    }

    /// The gateway's CA is written after the agent's start; what the agent logs since.
    fn later_server_ca(&mut self, failed: Option<&str>) {
        let fields = json!({"manager": "kubectl", "operation": "Update", "apiVersion": "v1", "time": self.ago(0),
            "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {"f:ca.crt": {}}}});
        self.object("ConfigMap", GATEWAY_CA)["metadata"]["managedFields"] = json!([fields]);
        let started = self.ago(60);
        self.pod()["status"]["containerStatuses"][0]["state"] = json!({"running": {"startedAt": started}});
        self.logs(30, failed);
    }

    /// The agent logs so many seconds before the dump that its connection failed, or that it is connected.
    fn logs(&mut self, ago: i64, failed: Option<&str>) {
        let time = self.ago(ago);
        let line = match failed {
            Some(why) => json!({"time": time, "msg": "connection failed", "error": format!("dial failed: {why}")}),
            None => json!({"time": time, "msg": "connected to control plane"}),
        };
        self.pod()["metadata"]["annotations"][LOG] = line.to_string().into();
    }

    fn connection(&mut self) -> &mut Value {
        &mut self.plane()["status"]["agentConnection"]
    }

    /// So many seconds before the dump.
    fn ago(&self, seconds: i64) -> Value {
        (self.now() - SignedDuration::from_secs(seconds)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()
    }

    /// Nobody reports any more, since hours.
    fn stale(&mut self) {
        let (connected, heartbeat) = (self.ago(9000), self.ago(8000));
        let connection = self.connection();
        (connection["lastConnectedTime"], connection["lastHeartbeatTime"]) = (connected, heartbeat);
    }

    fn lease(&mut self, ago: i64) {
        self.object("Lease", "43500532")["spec"]["renewTime"] = self.ago(ago);
    }

    /// A Deployment of the control plane without pods.
    fn idle(&mut self, name: &str, labels: Value) {
        let metadata = json!({"name": name, "namespace": CONTROL, "labels": labels, "annotations": {}});
        let spec = json!({"replicas": 0, "selector": {"matchLabels": {}}, "template": {}});
        self.add("control", json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}));
    }

    fn held(&mut self) {
        let time = self.ago(600);
        let metadata = &mut self.plane()["metadata"];
        metadata["finalizers"] = json!(["openchoreo.dev/clusterbuildplane-cleanup"]);
        metadata["deletionTimestamp"] = time;
    }

    /// The controller's pod, which read this certificate for the gateway when it started, a day ago.
    fn controller(&mut self, name: &str) {
        let certificate = STANDARD.encode(self.certificate(name).as_str().unwrap());
        let metadata = |name: &str| {
            let labels = json!({"app.kubernetes.io/component": "controller-manager"});
            json!({"name": name, "namespace": CONTROL, "labels": labels, "annotations": {}})
        };
        let running = json!({"running": {"startedAt": self.ago(86_400)}});
        let container = json!({
            "name": "manager", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": running,
        });
        let volume = json!({"name": "cluster-gateway-client-tls", "secret": {"secretName": "controller-tls"}});
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": metadata("controller-tls"), "data": {"tls.crt": certificate},
        });
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata("controller"),
            "spec": {"containers": [], "volumes": [volume]}, "status": {"containerStatuses": [container]},
        });
        self.add("control", secret);
        self.add("control", pod);
    }

    /// The controller's pod is of v0.17.
    fn former_controller(&mut self) {
        let labels = json!({"app.kubernetes.io/component": "controller-manager"});
        let metadata = json!({"name": "controller", "namespace": CONTROL, "labels": labels, "annotations": {}});
        let containers = json!([{"name": "manager", "image": "example.com/controller:v0.17.0"}]);
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}});
        self.add("control", pod);
    }

    /// Another plane, with a recorded CA or its own.
    fn twin(&mut self, plane_id: &str, ca: Option<&str>) {
        let mut twin = self.plane().clone();
        (twin["metadata"]["name"], twin["spec"]["planeID"]) = ("twin".into(), plane_id.into());
        if let Some(name) = ca {
            twin["spec"]["clusterAgent"]["clientCA"] = json!({"value": self.certificate(name)});
        }
        self.items.push(twin);
    }

    /// The plane's counterpart of v1.x, which is diagnosed instead if that is said.
    fn migrates(&mut self, is_meant: bool) {
        let mut next = self.plane().clone();
        next["kind"] = "ClusterWorkflowPlane".into();
        let at = if is_meant { 1 } else { self.items.len() };
        self.items.insert(at, next);
    }

    /// What the dump could not read.
    fn unread(&mut self, path: &str) {
        self.items.push(json!({"apiVersion": "choreoctl.dev/v1", "kind": "Unread", "metadata": {"name": path},
            "cluster": "build", "word": "forbidden", "text": "not allowed to get secrets"}));
    }

    fn snapshot(self) -> Snapshot {
        let (planes, related): (Vec<_>, Vec<_>) =
            self.items.into_iter().partition(|item| KINDS.iter().any(|kind| item["kind"] == kind.kind));
        let planes = planes.into_iter().map(|plane| serde_json::from_value::<Plane>(plane).unwrap()).collect();
        Snapshot::of_files(planes, related)
    }

    fn gathered(self) -> Gathered {
        let live = self.live;
        let snapshot = self.snapshot();
        let (control, build) = (Files::control(&snapshot), Files::build(&snapshot));
        let reach = Reach {
            control: &control,
            control_namespace: CONTROL,
            kinds: vec![DEFAULT_KIND],
            build: build.as_ref().map(|build| (build, AgentsIn::Named(BUILD))),
            named: true,
            soon: "30d".parse().unwrap(),
            gateway: None,
            bound: None,
        };
        let planes = snapshot.planes.iter().take(1).cloned().collect();
        let mut gathered = gather(&reach, planes, &Extent::default()).now_or_never().unwrap();
        if let Some(live) = live {
            all_answer(&mut gathered);
            live(&mut gathered);
        }
        gathered
    }

    fn checks(self) -> Vec<Checked> {
        let gathered = self.gathered();
        checks(&gathered.ground, gathered.cases.first())
    }
}

/// The API server and the gateway answer, and all is well.
fn all_answer(gathered: &mut Gathered) {
    gathered.ground.api_server = Ok("v1.36.3".into());
    for case in &mut gathered.cases {
        case.gateway.presented = true;
        case.gateway.counted = Some(Ok(counted(1)));
        case.gateway.types = types("buildplane");
    }
    answers(gathered, Answer::Authorized, SignedDuration::ZERO);
}

/// At the agents' port, as in v0.x.
fn counted(connected_agents: i64) -> Counted {
    Counted { connected_agents, is_shared: true }
}

/// The plane types of a gateway of v0.x or v1.x.
fn types(of_builds: &str) -> Option<PlaneTypes> {
    let list = format!("invalid planeType: must be 'dataplane', '{of_builds}', or 'observabilityplane'");
    PlaneTypes::of_refusal(&list)
}

/// The gateway is of v1.x.
fn later(gathered: &mut Gathered) {
    gathered.cases[0].gateway.types = types("workflowplane");
}

/// The gateway says so, by a clock that is so much ahead.
fn answers(gathered: &mut Gathered, answer: Answer, ahead: SignedDuration) {
    let case = &mut gathered.cases[0];
    case.gateway.reply = Some(Ok(Reply { answer, date: Some(case.facts.now + ahead) }));
}

/// The gateway can't be asked.
fn fails(gathered: &mut Gathered, error: ProbeError) {
    gathered.cases[0].gateway.reply = Some(Err(Arc::new(error)));
}

fn localhost() -> String {
    "localhost:1".into()
}

/// What is changed in a healthy estate, and how the checks that complain of it come out, in the order of cause.
struct Row {
    name: &'static str,
    change: fn(&mut Estate),
    complaints: &'static str,
}

const fn row(name: &'static str, change: fn(&mut Estate), complaints: &'static str) -> Row {
    Row { name, change, complaints }
}

/// Estates in which nothing is wrong.
static HEALTHY: &[Row] = &[
    row("a CA of one's own", |_| (), ""),
    row("a CA of one's own, live", |at| at.live = Some(|_| ()), ""),
    row("a refusal before the last report", |at| at.logs(600, Some("websocket: bad handshake")), ""),
    row("a CA in a Secret", |at| at.in_secret("ca", "ca.crt"), ""),
    row(
        "cert-manager under a CA",
        |at| {
            at.mark();
            at.certificate_of_cert_manager("True");
        },
        "",
    ),
    row(
        "a build plane before the control plane's upgrade",
        |at| {
            at.migrates(false);
            at.live = Some(|_| ());
        },
        "",
    ),
];

static FAULTS: &[Row] = &[
    // What all planes stand on.
    row(
        "an API server that is away",
        |at| at.live = Some(|gathered| gathered.ground.api_server = Err(away())),
        "fail api-server",
    ),
    row(
        "a kind that is not served",
        |at| at.live = Some(|gathered| gathered.ground.crds[0].1 = Err(gone())),
        "fail crd",
    ),
    row("an old CRD", old_crd, "warn crd"),
    row(
        "a Secret that may not be read",
        |at| {
            at.unread("/api/v1/namespaces/openchoreo-build-plane/secrets/cluster-agent-tls");
            at.remove("Secret", SECRET);
        },
        "warn rights, unknown agent-certificate",
    ),
    row(
        "a plane that can't be read",
        |at| at.live = Some(|gathered| gathered.cases[0].plane = Err(away())),
        "unknown plane-exists",
    ),
    // The plane and its CA.
    row("held by a finalizer", Estate::held, "fail deletion"),
    row("clientCA is empty", |at| at.client_ca(json!({})), "fail client-ca-readable"),
    row("an empty value", |at| at.value(""), "fail client-ca-readable"),
    row("blanks", |at| at.value(" \n"), "fail client-ca-readable"),
    row("the CA's Secret is missing", |at| at.in_secret("none", "ca.crt"), "fail client-ca-readable"),
    row("the CA's key is missing", |at| at.in_secret("ca", "other"), "fail client-ca-readable"),
    row(
        "the Secret's namespace is missing",
        |at| at.client_ca(json!({"secretRef": {"name": "ca", "key": "ca.crt"}})),
        "fail client-ca-readable",
    ),
    row(
        "base64 of PEM",
        |at| {
            let ca = STANDARD.encode(at.own_ca());
            at.value(ca);
        },
        "fail client-ca-usable",
    ),
    row("no PEM at all", |at| at.value("hello"), "fail client-ca-usable"),
    row("an expired CA", |at| at.trusts("CA that ended"), "fail client-ca-usable"),
    row("a CA for servers", |at| at.trusts("CA for servers"), "fail client-ca-usable"),
    row("a pinned certificate that ended", |at| at.trusts("pinned leaf that ended"), "fail client-ca-usable"),
    row(
        "a plane that is not valid",
        |at| at.plane()["spec"]["planeID"] = "Sick_".into(),
        "fail spec-valid, fail agent-plane-id",
    ),
    row(
        "a pinned certificate that is renewed soon",
        |at| {
            at.trusts("pinned leaf that is renewed soon");
            at.presents("pinned leaf that is renewed soon");
            at.mark();
        },
        "warn ca-outlives",
    ),
    row(
        "a pinned certificate, as the chart makes it",
        |at| {
            at.trusts("pinned leaf");
            at.presents("pinned leaf");
        },
        "warn ca-outlives",
    ),
    row("two CAs for a planeID", |at| at.twin(PLANE, Some("other CA")), "warn plane-id-shared"),
    row("a CA for two planes", |at| at.twin("other", None), "warn ca-shared"),
    row("a rotation that is not finished", staged, "warn rotation"),
    row(
        "no observability plane",
        |at| at.plane()["spec"]["observabilityPlaneRef"] = json!({"name": "none"}),
        "warn observability-plane",
    ),
    row("a gateway of a later release", |at| at.live = Some(later), "fail plane-type-known"),
    row(
        "held by a finalizer of an older release",
        |at| {
            at.held();
            at.live = Some(later);
        },
        "fail deletion, fail plane-type-known",
    ),
    row(
        "a build plane whose place a workflow plane has taken",
        |at| {
            at.trusts("CA that ended");
            at.migrates(false);
            at.remove("Deployment", AGENT);
            at.live = Some(later);
        },
        "warn plane-type-known",
    ),
    row(
        "a workflow plane before the control plane's upgrade",
        |at| {
            at.migrates(true);
            at.former_controller();
        },
        "warn plane-type-known",
    ),
    row(
        "a workflow plane with the agent of v0.17",
        |at| {
            at.migrates(true);
            at.live = Some(later);
        },
        "fail agent-plane-type",
    ),
    row(
        "a reference to a Secret that the CRD of v1.0 dropped",
        |at| {
            let written = json!({"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:secretRef": {}}}}});
            at.client_ca(json!({}));
            at.plane()["metadata"]["managedFields"] = json!([{"fieldsV1": written}]);
        },
        "fail client-ca-readable",
    ),
    // The agent.
    row("no agent", |at| at.remove("Deployment", AGENT), "fail agent-exists"),
    row("another planeID: Helm's planeId", |at| at.argument("--plane-id=default"), "fail agent-plane-id"),
    row(
        "a pod that still has another planeID",
        |at| at.pod()["spec"]["containers"][0]["args"][2] = "--plane-id=other".into(),
        "fail agent-plane-id",
    ),
    row("another planeID in the plane", |at| at.plane()["spec"]["planeID"] = "moved".into(), "fail agent-plane-id"),
    row("another plane type", |at| at.argument("--plane-type=workflowplane"), "fail agent-plane-type"),
    row(
        "another plane type by the chart of the plane's family",
        |at| {
            at.argument("--plane-type=dataplane");
            at.chart("openchoreo-build-plane");
            at.live = Some(|_| ());
        },
        "fail agent-plane-type",
    ),
    row(
        "another plane type by the chart of another family",
        |at| {
            at.argument("--plane-type=workflowplane");
            at.chart("openchoreo-workflow-plane");
            at.live = Some(|_| ());
        },
        "fail agent-plane-type",
    ),
    row(
        "a server URL that leads elsewhere than --gateway-url",
        |at| {
            at.logs(0, Some("dial tcp 127.0.0.1:1: connect: connection refused"));
            at.chart("openchoreo-build-plane");
            at.live = Some(|gathered| gathered.cases[0].gateway.url = "wss://gateway.example.com:8443/ws".parse().ok());
        },
        "fail agent-server-url, warn connected",
    ),
    row("no TLS", |at| at.argument("--tls-enabled=false"), "fail agent-tls"),
    row("a URL without /ws", |at| at.argument("--server-url=wss://localhost:1"), "fail agent-server-url"),
    row("a URL of https", |at| at.argument("--server-url=https://localhost:1/ws"), "fail agent-server-url"),
    row("a URL of nothing", |at| at.argument("--server-url=localhost"), "fail agent-server-url"),
    row("a URL without TLS", |at| at.argument("--server-url=ws://localhost:1/ws"), "fail agent-server-url"),
    row("scaled to zero", scaled_to_zero, "fail agent-replicas"),
    // The agent's certificate.
    row(
        "a certificate that cert-manager does not issue",
        |at| {
            at.certificate_of_cert_manager("False");
            at.remove("Secret", SECRET);
        },
        "fail agent-certificate-issued",
    ),
    row("the agent's Secret is missing", |at| at.remove("Secret", SECRET), "fail agent-certificate"),
    row(
        "a key that doesn't fit",
        |at| at.object("Secret", SECRET)["metadata"]["annotations"][KEY_FITS] = "false".into(),
        "fail agent-certificate",
    ),
    row(
        "a Secret of garbage",
        |at| at.object("Secret", SECRET)["data"]["tls.crt"] = STANDARD.encode("hello").into(),
        "fail agent-certificate",
    ),
    row(
        "a Secret without a certificate",
        |at| at.object("Secret", SECRET)["data"]["tls.crt"] = "".into(),
        "fail agent-certificate",
    ),
    row("the agent mounts another Secret", other_secret, "fail agent-certificate"),
    row("another CA", |at| at.trusts("other CA"), "fail agent-trusted"),
    row("a CA of the same name", |at| at.trusts("CA of the same name"), "fail agent-trusted"),
    row("the certificate of before, pinned", |at| at.trusts("leaf of before"), "warn ca-outlives, fail agent-trusted"),
    row("a certificate for servers", for_servers, "fail agent-trusted"),
    row("a certificate for servers of the plane's CA", for_servers_of_its_ca, "fail agent-trusted"),
    row(
        "a certificate that isn't valid yet",
        |at| at.presents("leaf that begins later"),
        "fail agent-trusted, warn agent-current",
    ),
    row("a certificate that ended long ago", |at| at.presents("leaf that ended"), "fail agent-trusted"),
    row("a certificate that ends soon", |at| at.presents("leaf that ends soon"), "warn agent-trusted"),
    row("the gateway's CA is missing", |at| at.remove("ConfigMap", GATEWAY_CA), "fail agent-server-ca"),
    row("the placeholder", |at| at.server_ca(json!({"ca.crt": "# filled in later"})), "fail agent-server-ca"),
    row("a ConfigMap with another key", |at| at.server_ca(json!({"ca.pem": "x"})), "fail agent-server-ca"),
    row(
        "another gateway's CA",
        |at| {
            let ca = at.certificate("other CA");
            at.server_ca(json!({"ca.crt": ca}));
        },
        "fail agent-server-ca",
    ),
    row("a CA that came after the agent's start", |at| at.later_server_ca(None), "warn agent-server-ca"),
    row(
        "an agent that still has another gateway's CA",
        |at| {
            at.later_server_ca(Some("tls: failed to verify certificate: x509: certificate signed by unknown authority"))
        },
        "fail agent-server-ca",
    ),
    row("an agent that has another CA than its ConfigMap", other_ca_than_its_config_map, "fail agent-server-ca"),
    row("an agent that crashes", |at| at.waits("CrashLoopBackOff"), "fail agent-running"),
    row("an image that can't be pulled", |at| at.waits("ImagePullBackOff"), "fail agent-running"),
    row("an agent that crashed once", crashed, "warn agent-running"),
    row("a crash beside a pod that runs", crash_beside, "warn agent-running"),
    row("a renewal without a restart", renewed, "warn agent-current"),
    // The gateway and the controller.
    row("no gateway runs", |at| at.remove("Pod", "gateway-0"), "fail gateway-running"),
    row(
        "a gateway that is scaled to zero",
        |at| {
            at.remove("Pod", "gateway-0");
            at.idle("cluster-gateway", json!({"app": "gateway"}));
        },
        "fail gateway-running",
    ),
    row("two gateways", second_gateway, "warn gateway-running"),
    row(
        "a closed port",
        |at| at.live = Some(|gathered| fails(gathered, ProbeError::Refused(localhost()))),
        "fail gateway-reachable",
    ),
    row(
        "no such host",
        |at| at.live = Some(|gathered| fails(gathered, ProbeError::Name("gateway.invalid".into()))),
        "fail gateway-reachable",
    ),
    row(
        "a name that the gateway lacks",
        |at| at.live = Some(|gathered| fails(gathered, wrong_name())),
        "fail gateway-reachable",
    ),
    row(
        "no TLS there",
        |at| at.live = Some(|gathered| fails(gathered, ProbeError::NotTls(localhost()))),
        "fail gateway-reachable",
    ),
    row(
        "the gateway's certificate ended",
        |at| at.live = Some(|gathered| fails(gathered, ProbeError::Expired("it ended".into()))),
        "fail gateway-reachable",
    ),
    row(
        "a gateway of another CA",
        |at| at.live = Some(|gathered| fails(gathered, ProbeError::UnknownAuthority)),
        "fail gateway-reachable",
    ),
    row(
        "a gateway of another time",
        |at| {
            at.live = Some(|gathered| answers(gathered, Answer::NotTrusted, SignedDuration::from_hours(-1)));
        },
        "fail gateway-clock, fail gateway-answer",
    ),
    row(
        "a gateway ahead of its time",
        |at| at.live = Some(|gathered| answers(gathered, Answer::Authorized, SignedDuration::from_mins(10))),
        "warn gateway-clock",
    ),
    row(
        "TLS ends before the gateway",
        |at| at.live = Some(|gathered| answers(gathered, Answer::NoCertificate, SignedDuration::ZERO)),
        "fail gateway-answer",
    ),
    row(
        "the handshake ends",
        |at| at.live = Some(|gathered| fails(gathered, ProbeError::Dropped("alert".into()))),
        "fail gateway-answer",
    ),
    row(
        "a gateway without the plane",
        |at| at.live = Some(|gathered| answers(gathered, Answer::NoPlane, SignedDuration::ZERO)),
        "fail gateway-answer",
    ),
    row(
        "an API at the agents' port, which is published",
        |at| {
            at.object("Service", "cluster-gateway")["spec"]["type"] = "LoadBalancer".into();
            at.live = Some(|_| ());
        },
        "warn gateway-api-exposed",
    ),
    row("the controller's certificate ended", |at| at.controller("leaf that ended"), "fail controller-certificate"),
    row("nobody reports", Estate::stale, "fail controller"),
    row(
        "the controller is down",
        |at| {
            at.stale();
            at.lease(3600);
        },
        "fail controller",
    ),
    row(
        "a controller that is scaled to zero",
        |at| {
            at.stale();
            at.lease(3600);
            at.idle("controller-manager", json!({"app.kubernetes.io/component": "controller-manager"}));
        },
        "fail controller",
    ),
    row("an old lease", |at| at.lease(3600), "warn controller"),
    row("no report", unreported, "fail controller"),
    row("an agent that was connected", disconnected, "fail connected"),
    row(
        "an agent that is refused since the last report",
        |at| at.logs(0, Some("websocket: bad handshake")),
        "warn connected",
    ),
    row(
        "an agent that connected after the last report",
        |at| {
            disconnected(at);
            at.logs(10, None);
        },
        "warn connected",
    ),
    row(
        "an agent that connected long ago",
        |at| {
            disconnected(at);
            at.logs(7200, None);
        },
        "fail connected",
    ),
    row(
        "an agent that only another plane authorizes",
        |at| at.live = Some(|gathered| gathered.cases[0].gateway.counted = Some(Ok(counted(0)))),
        "fail agent-authorized",
    ),
    // Of two faults the one that comes first in the order of cause.
    row(
        "another CA and no TLS",
        |at| {
            at.trusts("other CA");
            at.argument("--tls-enabled=false");
        },
        "fail agent-tls, fail agent-trusted",
    ),
    row(
        "no CA and no agent",
        |at| {
            at.client_ca(json!({}));
            at.remove("Deployment", AGENT);
        },
        "fail client-ca-readable, fail agent-exists",
    ),
    row(
        "a wrong planeID and no Secret",
        |at| {
            at.argument("--plane-id=default");
            at.remove("Secret", SECRET);
        },
        "fail agent-plane-id, fail agent-certificate",
    ),
    row(
        "no pods and an expired CA",
        |at| {
            scaled_to_zero(at);
            at.trusts("CA that ended");
        },
        "fail client-ca-usable, fail agent-replicas",
    ),
    row(
        "a wrong URL and no pods",
        |at| {
            at.argument("--server-url=https://localhost:1/ws");
            scaled_to_zero(at);
        },
        "fail agent-server-url, fail agent-replicas",
    ),
    row(
        "held while the controller is scaled to zero",
        |at| {
            at.stale();
            at.held();
            at.lease(3600);
            at.idle("controller-manager", json!({"app.kubernetes.io/component": "controller-manager"}));
        },
        "fail deletion",
    ),
    row(
        "held by the finalizer of a controller that an upgrade has not replaced yet",
        |at| {
            at.held();
            at.former_controller();
            at.live = Some(later);
        },
        "fail deletion, fail plane-type-known",
    ),
    row(
        "held while nobody reports",
        |at| {
            at.stale();
            at.held();
        },
        "fail deletion",
    ),
];

fn away() -> Unavailable {
    Unavailable::new(Cause::Unreachable, "it does not answer")
}

fn gone() -> Unavailable {
    Unavailable::missing("the cluster has no ClusterBuildPlane")
}

fn old_crd(at: &mut Estate) {
    let crd = at.object("CustomResourceDefinition", "clusterbuildplanes");
    let properties = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
    properties["observabilityPlaneRef"] = json!({"type": "string"});
}

fn staged(at: &mut Estate) {
    let metadata = json!({"name": "choreoctl-rotation-sick", "namespace": BUILD, "annotations": {}});
    at.add("build", json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}}));
}

fn other_ca_than_its_config_map(at: &mut Estate) {
    at.logs(30, Some("x509: certificate signed by unknown authority"));
    at.live = Some(|_| ());
}

fn scaled_to_zero(at: &mut Estate) {
    at.deployment()["spec"]["replicas"] = 0.into();
    at.remove("Pod", AGENT);
}

fn other_secret(at: &mut Estate) {
    at.deployment()["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"] = "another".into();
}

/// The plane trusts it, too: it is refused for what it is for.
fn for_servers(at: &mut Estate) {
    let both = format!("{}{}", at.own_ca(), at.certificate("CA for servers").as_str().unwrap());
    at.value(both);
    at.presents("CA for servers");
}

/// The CA's key makes one for clients, too.
fn for_servers_of_its_ca(at: &mut Estate) {
    let day = std::time::Duration::from_secs(86_400);
    let now = std::time::SystemTime::from(at.now());
    let mut params = rcgen::CertificateParams::default();
    (params.not_before, params.not_after) = ((now - 2 * day).into(), (now + 400 * day).into());
    let mut ca = params.clone();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    at.value(ca.self_signed(&key).unwrap().pem());
    params.distinguished_name.push(rcgen::DnType::CommonName, "for servers");
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let leaf = params.signed_by(&rcgen::KeyPair::generate().unwrap(), &rcgen::Issuer::new(ca, key)).unwrap();
    at.presents_pem(&leaf.pem());
}

fn crash_beside(at: &mut Estate) {
    let runs = at.pod().clone();
    at.waits("CrashLoopBackOff");
    let mut runs = runs;
    runs["metadata"]["name"] = format!("{AGENT}-beside").into();
    at.items.insert(1, runs);
}

fn crashed(at: &mut Estate) {
    let last = json!({"terminated": {"exitCode": 1, "finishedAt": at.ago(600)}});
    let container = &mut at.pod()["status"]["containerStatuses"][0];
    (container["lastState"], container["restartCount"]) = (last, 1.into());
}

/// The Secret was written after the pod's start.
fn renewed(at: &mut Estate) {
    let time = at.ago(0);
    for entry in at.object("Secret", SECRET)["metadata"]["managedFields"].as_array_mut().unwrap() {
        entry["time"] = time.clone();
    }
}

fn second_gateway(at: &mut Estate) {
    let mut pod = at.object("Pod", "gateway-0").clone();
    pod["metadata"]["name"] = "gateway-1".into();
    at.items.push(pod);
}

fn wrong_name() -> ProbeError {
    ProbeError::WrongName { host: "127.0.0.1".into(), names: "localhost".into() }
}

fn unreported(at: &mut Estate) {
    let time = at.ago(3600);
    let plane = at.plane();
    (plane["status"], plane["metadata"]["creationTimestamp"]) = (json!({}), time);
}

fn disconnected(at: &mut Estate) {
    let time = at.ago(60);
    let connection = at.connection();
    (connection["connected"], connection["connectedAgents"]) = (false.into(), 0.into());
    connection["lastDisconnectedTime"] = time;
    at.pod()["metadata"]["annotations"][LOG] = "".into();
}

impl Row {
    fn checks(&self) -> Vec<Checked> {
        let mut estate = Estate::healthy();
        (self.change)(&mut estate);
        estate.checks()
    }
}

/// How a check complains; none where it doesn't.
fn complaint(checked: &Checked) -> Option<&'static str> {
    match checked.outcome.status {
        Status::Warn => Some("warn"),
        Status::Fail => Some("fail"),
        Status::Skip if checked.outcome.unknown => Some("unknown"),
        Status::Pass | Status::Skip => None,
    }
}

/// What is said of a row: its complaints with their messages and hints.
fn reported(row: &Row, checked: &[Checked]) -> String {
    let mut text = format!("# {}\n", row.name);
    for (one, word) in checked.iter().filter_map(|one| Some((one, complaint(one)?))) {
        let _ = writeln!(text, "{word} {}: {}", one.check.id, one.outcome.message);
        for hint in &one.outcome.hints {
            let _ = writeln!(text, "  {}: {}", hint.label(), hint.text().replace('\n', "\n  "));
        }
    }
    text
}

#[test]
fn nothing_is_wrong_with_a_healthy_estate_and_each_check_passes_in_one() {
    let mut passed = BTreeSet::new();
    for row in HEALTHY {
        let checked = row.checks();
        assert_eq!(reported(row, &checked), format!("# {}\n", row.name));
        assert!(is_healthy(&checked) && root_cause(&checked).is_none());
        passed.extend(checked.iter().filter(|one| one.outcome.status == Status::Pass).map(|one| one.check.id));
    }
    let never: Vec<_> = CHECKS.iter().map(|check| check.id).filter(|id| !passed.contains(id)).collect();
    assert!(never.is_empty(), "{never:?}");
}

#[test]
fn what_the_gateway_did_not_tell_is_not_said_of_a_gateway_that_was_not_contacted() {
    let mut at = Estate::healthy();
    at.live = Some(|gathered| gathered.cases[0].gateway.counted = Some(Err("mutual TLS".into())));
    let reported = |at: Estate| unchecked(&at.checks()).into_iter().map(|why| why.to_string()).collect::<Vec<_>>();
    assert_eq!(reported(at), ["the gateway did not report its agents"]);
    let mut at = Estate::healthy();
    at.live = Some(|gathered| gathered.cases[0].gateway.presented = false);
    assert_eq!(reported(at), ["no certificate was presented to the gateway"]);
}

#[test]
fn each_fault_has_its_cause() {
    let mut wrong = Vec::new();
    for row in FAULTS {
        let checked = row.checks();
        let complaints = checked.iter().filter_map(|one| Some(format!("{} {}", complaint(one)?, one.check.id)));
        let complaints = complaints.collect::<Vec<_>>().join(", ");
        if complaints != row.complaints {
            wrong.push(format!("{}: {complaints}, and not {}", row.name, row.complaints));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_check_complains_of_a_fault() {
    let named =
        |id: &str| FAULTS.iter().any(|row| row.complaints.split(", ").any(|one| one.ends_with(&format!(" {id}"))));
    let never: Vec<_> = CHECKS.iter().map(|check| check.id).filter(|id| !named(id)).collect();
    assert!(never.is_empty(), "{never:?}");
}

#[test]
fn each_fault_is_reported_with_its_hints() {
    let all: Vec<_> = FAULTS.iter().map(|row| reported(row, &row.checks())).collect();
    assert_data_eq!(all.join("\n"), file!["../../tests/estates/verdicts.txt"].raw());
}
