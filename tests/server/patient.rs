//! An estate for a diagnosis: what can be done to it, how it gets well, and what doctor says of it.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::control_plane::{Output, finish};
use super::estate::{BUILD, DEPLOYMENT, Estate, NAMESPACE, SECRET, Subject, names};
use super::openchoreo;

pub const PLANE: &str = "sick";
pub const CONTROL: &str = "openchoreo-control-plane";
const SERVICES: [&str; 2] = ["cluster-gateway", "cluster-gateway-external"];
const LEASE_PATH: &str =
    "/apis/coordination.k8s.io/v1/namespaces/openchoreo-control-plane/leases/43500532.openchoreo.dev";

/// How long doctor is asked again until it says what is expected.
const SOON: Duration = Duration::from_secs(20);
/// The same on OpenChoreo's own programs: its agents try once in five seconds, and its controller starts for twenty.
const LATER: Duration = Duration::from_secs(90);
/// Between two diagnoses, or two looks at an API server.
const PAUSE: Duration = Duration::from_millis(50);

/// How openssl makes a certificate of an agent.
pub const LEAF: &[&str] = &["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"];
const CLIENT: [&str; 7] = ["certs", "client", "--plane-id", "sick", "--ca-dir", "old", "--force"];

/// An estate in which every fault can be made.
pub fn start() -> Estate {
    start_with(BUILD)
}

/// The same for a kind: of v1.x, the control plane has its kinds only, and the gateway's Services and pods are there.
pub fn start_with(subject: Subject) -> Estate {
    let mut at = Estate::of(&[(subject.plane_type, PLANE)]);
    at.subject = subject;
    if subject.is_late() && at.is_real() {
        at.control.kubectl(&["create", "namespace", "team"], "");
    } else if subject.is_late() {
        at.control.kubectl(&["delete", "crd", "clusterbuildplanes.openchoreo.dev"], "");
        at.control.kubectl(&["create", "namespace", "team"], "");
        let family = subject.plane_type;
        let kinds = [family, &format!("cluster{family}"), "observabilityplane", "clusterobservabilityplane"];
        for kind in BTreeSet::from(kinds) {
            let crd = at.control.run(&["crd", kind, "--release", "v1.2"]).expect(0).stdout;
            at.control.kubectl(&["apply", "-f", "-"], &crd);
        }
        at.control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
        at.order("era v1");
        at.order("logs on");
    }
    at.control.run(&["certs", "ca", "--out-dir", "other", "--name", "other"]).expect(0);
    at.control.kubectl(&["create", "secret", "generic", "ca", "--from-file=ca.crt=old/ca.crt"], "");
    at.control_namespace();
    at
}

pub fn file(at: &Estate, path: &str) -> String {
    at.control.read(path)
}

pub fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

// The plane.

/// Its path on the control plane's API server.
pub fn plane_path(at: &Estate) -> String {
    at.subject.path(PLANE)
}

/// Words of a command line that name it.
pub fn words(at: &Estate, name: &str) -> Vec<String> {
    let namespace = at.subject.namespace.map(|namespace| ["-n".to_owned(), namespace.to_owned()]);
    std::iter::once(format!("{}/{name}", at.subject.word)).chain(namespace.into_iter().flatten()).collect()
}

/// A command for the plane and both clusters.
pub fn run(at: &Estate, verb: &str, more: &[&str]) -> Output {
    let words = words(at, PLANE);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    at.run(&[&[verb][..], &words, more].concat())
}

fn create(at: &Estate, name: &str, more: &[&str]) {
    let words = words(at, name);
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let observer = ["--observer-url", "https://observer.example.com"];
    let observer: &[&str] = if at.subject.plane_type == "observabilityplane" { &observer } else { &[] };
    at.control.run(&[&["create"][..], &words, more, observer].concat()).expect(0);
}

pub fn spec(at: &Estate, spec: Value) {
    at.control.api().merge(&plane_path(at), &json!({"spec": spec}));
}

pub fn client_ca(at: &Estate, ca: Value) {
    at.control.api().replace(&plane_path(at), "/spec/clusterAgent/clientCA", &ca);
}

pub fn value(at: &Estate, text: &str) {
    client_ca(at, json!({"value": text}));
}

/// What the release calls a reference to a Secret.
fn secret_field(at: &Estate) -> &'static str {
    if at.subject.is_late() { "secretKeyRef" } else { "secretRef" }
}

pub fn in_secret(at: &Estate, name: &str, key: &str) {
    client_ca(at, json!({secret_field(at): {"name": name, "namespace": "default", "key": key}}));
}

pub fn without_namespace(at: &Estate) {
    client_ca(at, json!({secret_field(at): {"name": "ca", "key": "ca.crt"}}));
}

/// Another plane.
pub fn twin(at: &Estate, plane_id: &str, ca: &str) {
    let file = format!("{ca}/ca.crt");
    create(at, "twin", &["--plane-id", plane_id, "--client-ca-file", &file]);
}

pub fn held(at: &Estate) {
    if at.is_real() {
        // It would let go of the plane at once.
        at.order("reports off");
    }
    let api = at.control.api();
    let finalizer = format!("openchoreo.dev/{}-cleanup", at.subject.kind.to_lowercase());
    api.merge(&plane_path(at), &json!({"metadata": {"finalizers": [finalizer]}}));
    api.delete(&plane_path(at));
}

/// Nobody reports any more, since hours.
pub fn stale(at: &Estate) {
    last_report(at, 9000, 8000);
}

/// The last report is of an agent that connected, and was heard of, so many seconds ago.
pub fn last_report(at: &Estate, connected: i64, heard: i64) {
    at.order("reports off");
    let ago = |seconds| {
        let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let connection = json!({"connected": true, "connectedAgents": 1, "message": "1 agent connected",
        "lastConnectedTime": ago(connected), "lastHeartbeatTime": ago(heard)});
    at.control.api().merge(&format!("{}/status", plane_path(at)), &json!({"status": {"agentConnection": connection}}));
}

// Certificates.

/// A self-signed certificate of the agent's name.
pub fn openssl(at: &Estate, name: &str, extensions: &[&str]) -> String {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]);
    openssl.args(["-subj", "/O=OpenChoreo/CN=sick", "-utf8", "-keyout", &key, "-out", &certificate]);
    for extension in extensions {
        openssl.args(["-addext", extension]);
    }
    openssl.current_dir(at.control.path());
    finish(openssl, "").expect(0);
    file(at, &certificate)
}

/// Seconds from now.
fn seconds(count: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(jiff::Timestamp::now().as_second() + count).unwrap()
}

/// Days from now.
fn days(count: i64) -> time::OffsetDateTime {
    seconds(count * 86_400)
}

fn client(from: time::OffsetDateTime, to: time::OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (from, to);
    params
}

/// A CA that ended a second ago.
pub fn ended_ca() -> String {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "short");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    (params.not_before, params.not_after) = (seconds(-60), seconds(-1));
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// A CA of the name of the plane's, with another key.
pub fn namesake(at: &Estate) -> String {
    at.control.run(&["certs", "ca", "--out-dir", "namesake", "--force"]).expect(0);
    file(at, "namesake/ca.crt")
}

/// A self-signed certificate of an agent, as the chart makes it, valid for days from now.
pub fn leaf(from: i64, to: i64) -> String {
    client(days(from), days(to)).self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// Puts a self-signed certificate into the agent's Secret and into the plane, and starts pods for it.
pub fn pinned(at: &Estate, from: i64, to: i64) {
    let key = KeyPair::generate().unwrap();
    let certificate = client(days(from), days(to)).self_signed(&key).unwrap().pem();
    agent_secret(at, &certificate, &key.serialize_pem());
    value(at, &certificate);
    restart(at);
}

pub fn renewed_soon(at: &Estate) {
    pinned(at, -57, 33);
    mark(at);
}

// The agent's Secret.

/// The agent's pair with its key as openssl writes it.
pub fn with_key(at: &Estate, folder: &str, words: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.args(words).current_dir(at.control.path());
    let key = finish(openssl, "").expect(0).stdout;
    agent_secret(at, &file(at, &format!("{folder}/tls.crt")), &key);
    restart(at);
}

pub fn with_rsa_key(at: &Estate) {
    at.control.run(&[&CLIENT[..], &["--key-algorithm", "rsa-2048", "--out-dir", "rsa"]].concat()).expect(0);
    with_key(at, "rsa", &["rsa", "-traditional", "-in", "rsa/tls.key"]);
}

/// Another certificate under the CA that the plane trusts, into the agent's Secret.
pub fn pair(at: &Estate, more: &[&str], folder: &str) {
    at.control.run(&[&CLIENT[..], &["--out-dir", folder], more].concat()).expect(0);
    agent_secret(at, &file(at, &format!("{folder}/tls.crt")), &file(at, &format!("{folder}/tls.key")));
}

pub fn agent_secret(at: &Estate, certificate: &str, key: &str) {
    at.build.api().write(&at.secret_path(), &pair_object(at, certificate, key));
}

fn pair_object(at: &Estate, certificate: &str, key: &str) -> Value {
    let ca = file(at, "old/ca.crt");
    let data = json!({"tls.crt": base64(certificate), "tls.key": base64(key), "ca.crt": base64(&ca)});
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": names(at.subject.plane_type).0}, "data": data})
}

/// A certificate under the CA that the plane trusts, and its key.
fn issue(at: &Estate, params: &CertificateParams) -> (String, String) {
    let ca = KeyPair::from_pem(&file(at, "old/ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file(at, "old/ca.crt"), ca).unwrap();
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// A certificate under that CA that is valid for days from now.
pub fn leaf_of_ca(at: &Estate, from: i64, to: i64) -> String {
    issue(at, &client(days(from), days(to))).0
}

/// Puts a certificate under that CA, valid for days from now, into the agent's Secret.
pub fn issued(at: &Estate, from: i64, to: i64) {
    let (certificate, key) = issue(at, &client(days(from), days(to)));
    agent_secret(at, &certificate, &key);
}

/// Puts a certificate under that CA that ended a second ago into the agent's Secret.
pub fn just_ended(at: &Estate) {
    let (certificate, key) = issue(at, &client(seconds(-60), seconds(-1)));
    agent_secret(at, &certificate, &key);
}

pub fn ends_soon(at: &Estate) {
    issued(at, -1, 10);
    restart(at);
}

pub fn for_servers(at: &Estate) {
    let certificate = openssl(at, "server-leaf", &["extendedKeyUsage=serverAuth"]);
    agent_secret(at, &certificate, &file(at, "server-leaf.key"));
    value(at, &format!("{}{certificate}", file(at, "old/ca.crt")));
}

pub fn other_key(at: &Estate) {
    agent_secret(at, &file(at, "old/tls.crt"), &file(at, "other/ca.key"));
}

pub fn garbage(at: &Estate) {
    agent_secret(at, "hello", "hello");
}

pub fn without_secret(at: &Estate) {
    at.build.api().delete(&at.secret_path());
}

/// Marks the agent's Secret as cert-manager does.
pub fn mark(at: &Estate) {
    let mark = json!({"metadata": {"annotations": {"cert-manager.io/certificate-name": "agent"}}});
    at.build.api().merge(&at.secret_path(), &mark);
}

// The agent.

pub fn without_agent(at: &Estate) {
    at.build.api().delete(&at.agent_path());
}

pub fn scaled_to_zero(at: &Estate) {
    at.build.api().merge(&at.agent_path(), &json!({"spec": {"replicas": 0}}));
}

/// New pods, which surely read what the Secret holds.
pub fn restart(at: &Estate) {
    at.a_second_later();
    at.deploy(PLANE, "--x=y");
}

pub fn other_secret(at: &Estate) {
    at.build.api().replace(&at.agent_path(), "/spec/template/spec/volumes/0/secret/secretName", &"another".into());
}

/// An agent of another image, beside what runs.
pub fn rolled(at: &Estate, image: &str) {
    at.build.api().replace(&at.agent_path(), "/spec/template/spec/containers/0/image", &image.into());
}

/// An agent of another image, and nothing else runs.
pub fn image(at: &Estate, image: &str) {
    scaled_to_zero(at);
    until_pods(at, <[Value]>::is_empty);
    rolled(at, image);
    at.build.api().merge(&at.agent_path(), &json!({"spec": {"replicas": 1}}));
}

/// Waits until the agent's pods are so.
fn until_pods(at: &Estate, fits: impl Fn(&[Value]) -> bool) {
    let deadline = Instant::now() + SOON;
    let pods = || at.build.api().get(&at.pods_path()).unwrap()["items"].as_array().unwrap().clone();
    while !fits(&pods()) {
        assert!(Instant::now() < deadline, "{:#?}", pods());
        std::thread::sleep(PAUSE);
    }
}

/// The pod goes on with a certificate that ended, while the Secret holds another one.
pub fn running_ended(at: &Estate) {
    pair(at, &["--valid-for", "6s"], "brief");
    let before = at.build.api().get(&at.pods_path()).unwrap();
    let is_old = |pod: &Value| {
        before["items"].as_array().unwrap().iter().any(|old| old["metadata"]["name"] == pod["metadata"]["name"])
    };
    restart(at);
    until_pods(at, |pods| matches!(pods, [pod] if !is_old(pod) && pod["status"]["phase"] == "Running"));
    // The next certificate begins surely later than the pod: times are whole seconds.
    std::thread::sleep(Duration::from_millis(1100));
    issued(at, 0, 100);
}

pub fn server_ca(at: &Estate, text: &str) {
    at.server_ca(json!({"ca.crt": text}));
}

pub fn without_server_ca(at: &Estate) {
    at.build.api().delete(&at.server_ca_path());
}

pub fn other_name(at: &Estate) {
    at.deploy(PLANE, &format!("--server-url=wss://127.0.0.1:{}/ws", at.port));
}

pub fn url(at: &Estate, port: u16) {
    at.deploy(PLANE, &format!("--server-url=wss://localhost:{port}/ws"));
}

pub fn no_tls(at: &Estate) {
    url(at, file(at, "etcd-port").trim().parse().unwrap());
}

// The control plane's namespace.

/// A namespaced object's path in the control plane's namespace.
fn in_control(plural: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{CONTROL}/{plural}/{name}")
}

/// The gateway's Service, with so many pods that are ready.
pub fn gateway_pods(at: &Estate, count: usize) {
    service(at, SERVICES[0], "ClusterIP", &[("websocket", at.port), (API, at.api_port)]);
    for number in 0..count {
        gateway_pod(at, number, &MUTUAL);
    }
}

/// The name of the API's port in the gateway's Service.
const API: &str = "internal-api";
/// How the gateway of v1.2 is started by default.
pub const MUTUAL: [&str; 2] = ["--internal-mtls=true", "--internal-client-ca-cert=/internal-ca/ca.crt"];

/// A Service of the gateway: of v0.x it has the agents' port only, and says nothing of its release.
pub fn service(at: &Estate, name: &str, kind: &str, ports: &[(&str, u16)]) {
    let is_late = at.subject.is_late();
    let ports = ports.iter().filter(|(name, _)| is_late || *name != API);
    let ports: Vec<_> = ports.map(|(name, port)| json!({"name": name, "port": port})).collect();
    let labels = if is_late { json!({"app.kubernetes.io/version": "v1.2.3"}) } else { json!({}) };
    let metadata = json!({"name": name, "namespace": CONTROL, "labels": labels});
    let spec = json!({"type": kind, "selector": {"app": "gateway"}, "ports": ports});
    let path = in_control("services", name);
    at.control.api().delete(&path);
    at.control.api().write(&path, &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}));
}

/// A pod of the gateway that is ready, with its log where the release is one of v1.x.
pub fn gateway_pod(at: &Estate, number: usize, arguments: &[&str]) {
    let name = format!("gateway-{number}");
    let mut spec = json!({"containers": [{"name": "cluster-gateway", "image": "gateway", "args": arguments}]});
    if at.subject.is_late() {
        // Nothing there ends it.
        (spec["nodeName"], spec["terminationGracePeriodSeconds"]) = ("double".into(), 0.into());
    }
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
    pod(at, &name, json!({"app": "gateway"}), spec, status);
}

fn pod(at: &Estate, name: &str, labels: Value, spec: Value, status: Value) {
    let (api, path) = (at.control.api(), in_control("pods", name));
    let metadata = json!({"name": name, "namespace": CONTROL, "labels": labels});
    api.delete(&path);
    api.write(&path, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    api.merge(&format!("{path}/status"), &json!({"status": status}));
}

const CONTROLLER_SECRET: &str = "controller-manager-cluster-gateway-client-tls";

pub fn without_controller_secret(at: &Estate) {
    at.control.api().delete(&in_control("secrets", CONTROLLER_SECRET));
}

pub fn without_gateway(at: &Estate) {
    at.control.api().delete(&in_control("pods", "gateway-0"));
}

/// The controller's pod, started so many days ago, and its certificate for the gateway, valid for days from now.
pub fn controller(at: &Estate, started: i64, from: i64, to: i64) {
    let key = KeyPair::generate().unwrap();
    let certificate = client(days(from), days(to)).self_signed(&key).unwrap().pem();
    let data = json!({"tls.crt": base64(&certificate), "tls.key": base64(&key.serialize_pem())});
    let metadata = json!({"name": CONTROLLER_SECRET, "namespace": CONTROL});
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data});
    let path = in_control("secrets", CONTROLLER_SECRET);
    at.control.api().write(&path, &secret);
    let hour_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * started);
    // The Secret was written when its certificate was issued.
    let issued =
        jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * -from) + jiff::SignedDuration::from_secs(1);
    let time = |at: jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let entry = json!({"manager": "cert-manager", "operation": "Update", "apiVersion": "v1", "time": time(issued),
        "fieldsType": "FieldsV1", "fieldsV1": {"f:data": {".": {}, "f:tls.crt": {}, "f:tls.key": {}}, "f:type": {}}});
    at.control.api().merge(&path, &json!({"metadata": {"managedFields": [entry]}}));
    let volume = json!({"name": "cluster-gateway-client-tls", "secret": {"secretName": CONTROLLER_SECRET}});
    let spec = json!({"containers": [{"name": "manager", "image": "manager"}], "volumes": [volume]});
    let state = json!({"running": {"startedAt": time(hour_ago)}});
    let container =
        json!({"name": "manager", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state});
    let labels = json!({"app.kubernetes.io/component": "controller-manager"});
    pod(at, "controller-0", labels, spec, json!({"phase": "Running", "containerStatuses": [container]}));
}

/// The controller's lease, last renewed so many seconds ago.
pub fn lease(at: &Estate, ago: i64) {
    let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago);
    let metadata = json!({"name": "43500532.openchoreo.dev", "namespace": CONTROL});
    let spec = json!({"renewTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
    at.control.api().write(LEASE_PATH, &lease);
}

// Getting well.

/// Whether an object has all that is wanted.
fn includes(object: &Value, wanted: &Value) -> bool {
    match (object, wanted) {
        (Value::Object(object), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| object.get(key).is_some_and(|field| includes(field, wanted)))
        }
        (Value::Array(items), Value::Array(wanted)) => {
            items.len() == wanted.len() && items.iter().zip(wanted).all(|(item, wanted)| includes(item, wanted))
        }
        _ => object == wanted,
    }
}

/// Makes the estate healthy: what is not as it was is written anew.
fn heal(at: &Estate) {
    at.order("gateway well");
    at.order("reports on");
    at.control.api().delete(&at.subject.path("twin"));
    if !at.is_real() {
        at.control.api().delete(LEASE_PATH);
        heal_control(at);
    }
    heal_plane(at);
    let secret = heal_secret(at);
    let server_ca = json!({"ca.crt": file(at, "gateway.crt")});
    let map = at.build.api().get(&at.server_ca_path()).is_some_and(|map| map["data"] == server_ca);
    if !map {
        at.trust_gateway();
    }
    let deployed =
        at.build.api().get(&at.agent_path()).is_some_and(|agent| includes(&agent["spec"], &at.agent(PLANE)["spec"]));
    if !(secret && map && deployed) {
        at.deploy(PLANE, "--x=y");
    }
}

/// The gateway's Services and pods, and the controller: of v0.x none is there, and of v1.x they are as v1.2 has them.
fn heal_control(at: &Estate) {
    let api = at.control.api();
    if !at.subject.is_late() {
        SERVICES.iter().for_each(|name| api.delete(&in_control("services", name)));
        (0..2).for_each(|number| api.delete(&in_control("pods", &format!("gateway-{number}"))));
        return;
    }
    at.order("api mutual");
    api.delete(&in_control("pods", "gateway-1"));
    gateway_pods(at, 1);
    service(at, SERVICES[1], "LoadBalancer", &[("websocket", at.port)]);
    controller(at, 10, -11, 79);
}

fn heal_plane(at: &Estate) {
    let api = at.control.api();
    let mut spec = json!({"planeID": PLANE, "clusterAgent": {"clientCA": {"value": file(at, "old/ca.crt")}}});
    if at.subject.plane_type == "observabilityplane" {
        spec["observerURL"] = "https://observer.example.com".into();
    }
    match api.get(&plane_path(at)) {
        Some(plane) if plane["metadata"]["deletionTimestamp"].is_null() => {
            if plane["spec"] != spec {
                api.replace(&plane_path(at), "/spec", &spec);
            }
            return;
        }
        // The controller may do the same at this moment.
        Some(_) => {
            let none = json!({"metadata": {"finalizers": []}});
            let (code, reported) = api.send("PATCH", &plane_path(at), "application/merge-patch+json", &none);
            assert!(matches!(code, 200 | 404), "{reported}");
        }
        None => {}
    }
    create(at, PLANE, &["--client-ca-file", "old/ca.crt"]);
}

/// Whether the agent's Secret was as it should be. One that is written anew is so since a minute, as the server says:
/// whatever starts from now on has surely read it.
fn heal_secret(at: &Estate) -> bool {
    let api = at.build.api();
    let wanted = pair_object(at, &file(at, "old/tls.crt"), &file(at, "old/tls.key"));
    let is_well = |secret: &Value| secret["data"] == wanted["data"] && secret["metadata"]["annotations"].is_null();
    if api.get(&at.secret_path()).is_some_and(|secret| is_well(&secret)) {
        return true;
    }
    api.write(&at.secret_path(), &wanted);
    let time = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // The server ignores a patch of nothing but times: the manager is another, too.
    let fields = json!({"f:data": {".": {}, "f:ca.crt": {}, "f:tls.crt": {}, "f:tls.key": {}}, "f:type": {}});
    let entry = json!({"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": fields});
    let aged = api.merge(&at.secret_path(), &json!({"metadata": {"managedFields": [entry]}}));
    assert_eq!(aged["metadata"]["managedFields"][0]["time"], time.as_str());
    false
}

/// Heals the estate, and waits until it is well.
pub fn be_well(at: &Estate, before: &str) {
    heal(at);
    let reported = until(at, is_well);
    let plane = &reported["planes"][0];
    assert!(reported["healthy"] == true && is_well(plane), "before {before}: {:#?}", complaints(plane));
}

/// An estate that is well.
pub fn well() -> Estate {
    well_with(BUILD)
}

/// The same for a kind.
pub fn well_with(subject: Subject) -> Estate {
    let at = start_with(subject);
    be_well(&at, "all");
    // Only a plane that the controller has seen has a status.
    run(&at, "wait", &["--for", "connected", "--timeout", "60s"]).expect(0);
    at
}

// What doctor says.

pub fn diagnose(at: &Estate) -> Value {
    run(at, "doctor", &["-o", "json"]).json()
}

/// What a plane's checks warn of, and what failed.
pub fn complaints(plane: &Value) -> Vec<Value> {
    let bad = |check: &&Value| check["status"] == "warn" || check["status"] == "fail";
    plane["checks"].as_array().unwrap().iter().filter(bad).cloned().collect()
}

pub fn is_well(plane: &Value) -> bool {
    plane["healthy"] == true && complaints(plane).is_empty()
}

/// Asks until the answer fits, or for too long; the last one.
pub fn ask(diagnose: impl Fn() -> Value, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + if openchoreo::release().is_some() { LATER } else { SOON };
    loop {
        let reported = diagnose();
        if fits(&reported["planes"][0]) || Instant::now() > deadline {
            return reported;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until doctor says so; what it says in the end. OpenChoreo's controller asks once a minute, and when a plane is
/// written: it is written again and again.
pub fn until(at: &Estate, fits: impl Fn(&Value) -> bool) -> Value {
    let diagnose = || {
        if at.is_real() {
            std::thread::sleep(Duration::from_secs(1));
            let time = json!({"metadata": {"annotations": {"example.com/time": jiff::Timestamp::now().to_string()}}});
            let _ = at.control.api().send("PATCH", &plane_path(at), "application/merge-patch+json", &time);
        }
        diagnose(at)
    };
    ask(diagnose, fits)
}

/// How a check of the first plane came out.
pub fn status(reported: &Value, id: &str) -> String {
    status_of(&reported["planes"][0], id)
}

pub fn status_of(plane: &Value, id: &str) -> String {
    let checks = plane["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
}

/// An event about the agent's Deployment, with all fields that are looked at.
pub fn scaled() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": NAMESPACE, "name": "scaled"}, "type": "Normal",
        "involvedObject": {"kind": "Deployment", "namespace": NAMESPACE, "name": DEPLOYMENT},
        "reason": "ScalingReplicaSet", "message": "Scaled up", "count": 2,
        "lastTimestamp": jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "source": {"component": "deployment-controller"},
    })
}
