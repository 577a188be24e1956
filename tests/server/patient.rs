//! An estate for a diagnosis: what can be done to it, how it gets well, and what doctor says of it.

use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

use super::control_plane::finish;
use super::estate::{AGENT_PATH, Estate, NAMESPACE, SECRET, SECRET_PATH, SERVER_CA_PATH};

pub const PLANE: &str = "sick";
pub const CONTROL: &str = "openchoreo-control-plane";
const PLANE_PATH: &str = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes/sick";
const TWIN_PATH: &str = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes/twin";
const SERVICE_PATH: &str = "/api/v1/namespaces/openchoreo-control-plane/services/cluster-gateway";
const GATEWAY_PODS: [&str; 2] = [
    "/api/v1/namespaces/openchoreo-control-plane/pods/gateway-0",
    "/api/v1/namespaces/openchoreo-control-plane/pods/gateway-1",
];
const LEASE_PATH: &str =
    "/apis/coordination.k8s.io/v1/namespaces/openchoreo-control-plane/leases/43500532.openchoreo.dev";
const PODS_PATH: &str = "/api/v1/namespaces/openchoreo-build-plane/pods";

/// How long doctor is asked again until it says what is expected.
const SOON: Duration = Duration::from_secs(20);
/// Between two diagnoses, or two looks at an API server.
const PAUSE: Duration = Duration::from_millis(50);

/// How openssl makes a certificate of an agent.
pub const LEAF: &[&str] = &["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"];
const CLIENT: [&str; 7] = ["certs", "client", "--plane-id", "sick", "--ca-dir", "old", "--force"];

/// An estate in which every fault can be made.
pub fn start() -> Estate {
    let at = Estate::start(PLANE);
    at.control.run(&["certs", "ca", "--out-dir", "other", "--name", "other"]).expect(0);
    at.control.kubectl(&["create", "secret", "generic", "ca", "--from-file=ca.crt=old/ca.crt"], "");
    at.control.kubectl(&["create", "namespace", CONTROL], "");
    let gateway = ["create", "secret", "generic", "cluster-gateway-ca", "--from-file=ca.crt=gateway.crt"];
    at.control.kubectl(&[&gateway[..], &["-n", CONTROL]].concat(), "");
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

pub fn spec(at: &Estate, spec: Value) {
    at.control.api().merge(PLANE_PATH, &json!({"spec": spec}));
}

pub fn client_ca(at: &Estate, ca: Value) {
    at.control.api().replace(PLANE_PATH, "/spec/clusterAgent/clientCA", &ca);
}

pub fn value(at: &Estate, text: &str) {
    client_ca(at, json!({"value": text}));
}

pub fn secret(name: &str, key: &str) -> Value {
    json!({"secretRef": {"name": name, "namespace": "default", "key": key}})
}

pub fn without_namespace(at: &Estate) {
    client_ca(at, json!({"secretRef": {"name": "ca", "key": "ca.crt"}}));
}

/// Another plane.
pub fn twin(at: &Estate, plane_id: &str, ca: &str) {
    let file = format!("{ca}/ca.crt");
    at.control.run(&["create", "twin", "--plane-id", plane_id, "--client-ca-file", &file]).expect(0);
}

pub fn held(at: &Estate) {
    let api = at.control.api();
    api.merge(PLANE_PATH, &json!({"metadata": {"finalizers": ["openchoreo.dev/clusterbuildplane-cleanup"]}}));
    api.delete(PLANE_PATH);
}

/// Nobody reports any more, since hours.
pub fn stale(at: &Estate) {
    at.order("reports off");
    let times = [("lastConnectedTime", 9000), ("lastHeartbeatTime", 8000)];
    at.control.status(PLANE, true, 1, &times, "1 agent connected");
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
    at.build.api().write(SECRET_PATH, &pair_object(at, certificate, key));
}

fn pair_object(at: &Estate, certificate: &str, key: &str) -> Value {
    let ca = file(at, "old/ca.crt");
    let data = json!({"tls.crt": base64(certificate), "tls.key": base64(key), "ca.crt": base64(&ca)});
    json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE}, "data": data})
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
    at.build.api().delete(SECRET_PATH);
}

/// Marks the agent's Secret as cert-manager does.
pub fn mark(at: &Estate) {
    let mark = json!({"metadata": {"annotations": {"cert-manager.io/certificate-name": "agent"}}});
    at.build.api().merge(SECRET_PATH, &mark);
}

// The agent.

pub fn without_agent(at: &Estate) {
    at.build.api().delete(AGENT_PATH);
}

pub fn scaled_to_zero(at: &Estate) {
    at.build.api().merge(AGENT_PATH, &json!({"spec": {"replicas": 0}}));
}

/// New pods, which surely read what the Secret holds.
pub fn restart(at: &Estate) {
    at.a_second_later();
    at.deploy(PLANE, "--x=y");
}

pub fn other_secret(at: &Estate) {
    at.build.api().replace(AGENT_PATH, "/spec/template/spec/volumes/0/secret/secretName", &"another".into());
}

/// An agent of another image, beside what runs.
pub fn rolled(at: &Estate, image: &str) {
    at.build.api().replace(AGENT_PATH, "/spec/template/spec/containers/0/image", &image.into());
}

/// An agent of another image, and nothing else runs.
pub fn image(at: &Estate, image: &str) {
    scaled_to_zero(at);
    until_pods(at, <[Value]>::is_empty);
    rolled(at, image);
    at.build.api().merge(AGENT_PATH, &json!({"spec": {"replicas": 1}}));
}

/// Waits until the agent's pods are so.
fn until_pods(at: &Estate, fits: impl Fn(&[Value]) -> bool) {
    let deadline = Instant::now() + SOON;
    let pods = || at.build.api().get(PODS_PATH).unwrap()["items"].as_array().unwrap().clone();
    while !fits(&pods()) {
        assert!(Instant::now() < deadline, "{:#?}", pods());
        std::thread::sleep(PAUSE);
    }
}

/// The pod goes on with a certificate that ended, while the Secret holds another one.
pub fn running_ended(at: &Estate) {
    pair(at, &["--valid-for", "6s"], "brief");
    let before = at.build.api().get(PODS_PATH).unwrap();
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
    at.build.api().delete(SERVER_CA_PATH);
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

/// The gateway's Service, with so many pods that are ready.
pub fn gateway_pods(at: &Estate, count: usize) {
    let api = at.control.api();
    let metadata = |name: &str| json!({"name": name, "namespace": CONTROL, "labels": {"app": "gateway"}});
    let spec = json!({"selector": {"app": "gateway"}, "ports": [{"port": 8443}]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("cluster-gateway"), "spec": spec});
    api.write(SERVICE_PATH, &service);
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    for (number, path) in GATEWAY_PODS.into_iter().take(count).enumerate() {
        let spec = json!({"containers": [{"name": "gateway", "image": "gateway"}]});
        let metadata = metadata(&format!("gateway-{number}"));
        api.write(path, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
        api.merge(&format!("{path}/status"), &ready);
    }
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
    for path in [&[TWIN_PATH, SERVICE_PATH, LEASE_PATH][..], &GATEWAY_PODS].concat() {
        at.control.api().delete(path);
    }
    heal_plane(at);
    let secret = heal_secret(at);
    let server_ca = json!({"ca.crt": file(at, "gateway.crt")});
    let map = at.build.api().get(SERVER_CA_PATH).is_some_and(|map| map["data"] == server_ca);
    if !map {
        at.trust_gateway();
    }
    let deployed =
        at.build.api().get(AGENT_PATH).is_some_and(|agent| includes(&agent["spec"], &at.agent(PLANE)["spec"]));
    if !(secret && map && deployed) {
        at.deploy(PLANE, "--x=y");
    }
}

fn heal_plane(at: &Estate) {
    let api = at.control.api();
    let spec = json!({"planeID": PLANE, "clusterAgent": {"clientCA": {"value": file(at, "old/ca.crt")}}});
    match api.get(PLANE_PATH) {
        Some(plane) if plane["metadata"]["deletionTimestamp"].is_null() => {
            if plane["spec"] != spec {
                api.replace(PLANE_PATH, "/spec", &spec);
            }
            return;
        }
        Some(_) => drop(api.merge(PLANE_PATH, &json!({"metadata": {"finalizers": []}}))),
        None => {}
    }
    at.control.run(&["create", PLANE, "--client-ca-file", "old/ca.crt"]).expect(0);
}

/// Whether the agent's Secret was as it should be. One that is written anew is so since a minute, as the server tells:
/// whatever starts from now on has surely read it.
fn heal_secret(at: &Estate) -> bool {
    let api = at.build.api();
    let wanted = pair_object(at, &file(at, "old/tls.crt"), &file(at, "old/tls.key"));
    let is_well = |secret: &Value| secret["data"] == wanted["data"] && secret["metadata"]["annotations"].is_null();
    if api.get(SECRET_PATH).is_some_and(|secret| is_well(&secret)) {
        return true;
    }
    api.write(SECRET_PATH, &wanted);
    let time = (jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1)).strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    // The server ignores a patch of nothing but times: the manager is another, too.
    let fields = json!({"f:data": {".": {}, "f:ca.crt": {}, "f:tls.crt": {}, "f:tls.key": {}}, "f:type": {}});
    let entry = json!({"manager": "kubectl-create", "operation": "Update", "apiVersion": "v1", "time": time,
        "fieldsType": "FieldsV1", "fieldsV1": fields});
    let aged = api.merge(SECRET_PATH, &json!({"metadata": {"managedFields": [entry]}}));
    assert_eq!(aged["metadata"]["managedFields"][0]["time"], time.as_str());
    false
}

/// Heals the estate, and waits until it is well.
pub fn be_well(at: &Estate, before: &str) {
    heal(at);
    let told = until(at, is_well);
    let plane = &told["planes"][0];
    assert!(told["healthy"] == true && is_well(plane), "before {before}: {:#?}", complaints(plane));
}

/// An estate that is well.
pub fn well() -> Estate {
    let at = start();
    be_well(&at, "all");
    // Only a plane that the controller has seen has a status.
    at.run(&["wait", PLANE, "--for", "connected", "--timeout", "60s"]).expect(0);
    at
}

// What doctor says.

pub fn diagnose(at: &Estate) -> Value {
    at.run(&["doctor", PLANE, "-o", "json"]).json()
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
    let deadline = Instant::now() + SOON;
    loop {
        let told = diagnose();
        if fits(&told["planes"][0]) || Instant::now() > deadline {
            return told;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Waits until doctor says so; what it says in the end.
pub fn until(at: &Estate, fits: impl Fn(&Value) -> bool) -> Value {
    ask(|| diagnose(at), fits)
}

/// How a check of the first plane came out.
pub fn status(told: &Value, id: &str) -> String {
    status_of(&told["planes"][0], id)
}

pub fn status_of(plane: &Value, id: &str) -> String {
    let checks = plane["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
}
