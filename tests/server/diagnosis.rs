//! Doctor's verdict on faults that are put into an estate, one row each.

use std::process::Command;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use serde_json::{Value, json};

use super::control_plane::{ControlPlane, finish};
use super::estate::{DEPLOYMENT, Estate, NAMESPACE, SECRET};
use super::hints::{paste, try_out};
use super::proxy::Proxy;

stories!(
    Go:
        doctor_warns_of_what_will_hurt,
        doctor_names_the_injected_cause,
        doctor_only_reads_and_tells_what_it_can;
);

const PLANE: &str = "sick";
const CONTROL: &str = "openchoreo-control-plane";

/// What is done to a healthy estate, and the check that is to name it.
type Fault = (&'static str, fn(&Estate), &'static str);

static FAULTS: &[Fault] = &[
    ("clientCA is empty", |at| client_ca(at, json!({})), "client-ca-readable"),
    ("the CA's Secret is missing", |at| client_ca(at, secret("none", "ca.crt")), "client-ca-readable"),
    ("the CA's key is missing", |at| client_ca(at, secret("ca", "other")), "client-ca-readable"),
    ("the Secret's namespace is missing", without_namespace, "client-ca-readable"),
    ("base64 of PEM", |at| value(at, &base64(&file(at, "old/ca.crt"))), "client-ca-usable"),
    ("no PEM at all", |at| value(at, "hello"), "client-ca-usable"),
    ("an expired CA", |at| value(at, &short_ca(at)), "client-ca-usable"),
    ("a CA for servers", |at| value(at, &openssl(at, "server", &["extendedKeyUsage=serverAuth"])), "client-ca-usable"),
    ("another CA", |at| value(at, &file(at, "other/ca.crt")), "agent-trusted"),
    ("the certificate of before, pinned", |at| value(at, &openssl(at, "former", LEAF)), "agent-trusted"),
    ("an expired certificate", |at| pair(at, &["--valid-for", "1s"], "expired"), "agent-trusted"),
    ("a certificate for servers", for_servers, "agent-trusted"),
    ("the agent's Secret is missing", |at| delete(at, "secret", SECRET), "agent-certificate"),
    ("a key that doesn't fit", other_key, "agent-certificate"),
    ("a Secret of garbage", garbage, "agent-certificate"),
    ("another planeID: Helm's planeId", |at| at.deploy("default", "--x=y"), "agent-plane-id"),
    ("another planeID in the plane", |at| spec(at, json!({"planeID": "moved"})), "agent-plane-id"),
    ("no agent", |at| delete(at, "deployment", DEPLOYMENT), "agent-exists"),
    (
        "no agent, and a report of before",
        |at| {
            at.order("reports off");
            std::thread::sleep(Duration::from_millis(600));
            at.control.connect(PLANE);
            delete(at, "deployment", DEPLOYMENT)
        },
        "agent-exists",
    ),
    ("another plane type", |at| at.deploy("sick", "--plane-type=workflowplane"), "agent-plane-type"),
    ("no TLS", |at| at.deploy("sick", "--tls-enabled=false"), "agent-tls"),
    ("a URL without /ws", |at| at.deploy("sick", "--server-url=wss://localhost:1"), "agent-server-url"),
    ("a URL of https", |at| at.deploy("sick", "--server-url=https://localhost:1/ws"), "agent-server-url"),
    ("a URL of nothing", |at| at.deploy("sick", "--server-url=localhost"), "agent-server-url"),
    ("scaled to zero", scaled_to_zero, "agent-replicas"),
    ("the gateway's CA is missing", |at| delete(at, "configmap", "cluster-gateway-ca"), "agent-server-ca"),
    ("the placeholder", |at| server_ca(at, "# filled in later"), "agent-server-ca"),
    ("another gateway's CA", |at| server_ca(at, &file(at, "other/ca.crt")), "agent-server-ca"),
    ("a closed port", |at| at.deploy("sick", "--server-url=wss://localhost:1/ws"), "gateway-reachable"),
    ("no such host", |at| at.deploy("sick", "--server-url=wss://gateway.invalid:1/ws"), "gateway-reachable"),
    ("a name that the gateway lacks", other_name, "gateway-reachable"),
    ("no TLS there", no_tls, "gateway-reachable"),
    ("held by a finalizer", held, "deletion"),
    ("an empty value", |at| value(at, ""), "client-ca-readable"),
    ("blanks", |at| value(at, " \n"), "client-ca-readable"),
    ("a pinned certificate that ended", |at| value(at, &leaf(-100, -10)), "client-ca-usable"),
    ("a CA of the same name", |at| value(at, &namesake(at)), "agent-trusted"),
    ("a certificate that isn't valid yet", |at| issued(at, 10, 100), "agent-trusted"),
    ("a certificate that ended long ago", |at| issued(at, -100, -10), "agent-trusted"),
    ("a Secret without a certificate", |at| agent_secret(at, "", &file(at, "old/tls.key")), "agent-certificate"),
    ("the agent mounts another Secret", other_secret, "agent-certificate"),
    ("a ConfigMap with another key", |at| at.server_ca(json!({"ca.pem": "x", "ca.crt": null})), "agent-server-ca"),
    ("a URL without TLS", |at| at.deploy(PLANE, "--server-url=ws://localhost:1/ws"), "agent-server-url"),
    ("another server's URL", |at| url(at, at.control.port()), "gateway-reachable"),
    ("an agent that crashes", |at| image(at, "crashes"), "agent-running"),
    ("an image that can't be pulled", |at| image(at, "unpullable"), "agent-running"),
    ("the running certificate ended", running_ended, "agent-current"),
    ("no gateway runs", |at| gateway_pods(at, 0), "gateway-running"),
    ("the gateway's certificate ended", |at| at.order("gateway expired"), "gateway-reachable"),
    ("a gateway of another CA", |at| at.order("gateway stranger"), "gateway-reachable"),
    ("a silent port", |at| at.order("gateway silent"), "gateway-reachable"),
    ("TLS ends before the gateway", |at| at.order("gateway terminated"), "gateway-answer"),
    ("the handshake ends", |at| at.order("gateway dropping"), "gateway-answer"),
    ("a gateway of another release", |at| at.order("gateway newer"), "gateway-answer"),
    ("a gateway that can't read", |at| at.order("gateway blind"), "gateway-answer"),
    ("no gateway at all", |at| at.order("gateway other"), "gateway-answer"),
    ("a gateway of another time", |at| at.order("gateway slow"), "gateway-clock"),
    ("nobody reports", |at| stale(at), "controller"),
    (
        "the controller is down",
        |at| {
            lease(at, 3600);
            stale(at)
        },
        "controller",
    ),
    // Of two faults the one that comes first in the order of cause.
    (
        "another CA and no TLS",
        |at| {
            value(at, &file(at, "other/ca.crt"));
            at.deploy("sick", "--tls-enabled=false")
        },
        "agent-tls",
    ),
    (
        "no CA and no agent",
        |at| {
            client_ca(at, json!({}));
            delete(at, "deployment", DEPLOYMENT)
        },
        "client-ca-readable",
    ),
    (
        "a wrong planeID and no Secret",
        |at| {
            at.deploy("default", "--x=y");
            delete(at, "secret", SECRET)
        },
        "agent-plane-id",
    ),
    (
        "an expired gateway and another CA",
        |at| {
            at.order("gateway expired");
            value(at, &file(at, "other/ca.crt"))
        },
        "agent-trusted",
    ),
    (
        "no pods and an expired CA",
        |at| {
            scaled_to_zero(at);
            value(at, &short_ca(at))
        },
        "client-ca-usable",
    ),
    (
        "a wrong URL and no pods",
        |at| {
            at.deploy(PLANE, "--server-url=https://localhost:1/ws");
            scaled_to_zero(at)
        },
        "agent-server-url",
    ),
    (
        "held while nobody reports",
        |at| {
            stale(at);
            held(at)
        },
        "deletion",
    ),
];

/// What is done to a healthy estate that stays healthy, and the check that warns.
static WARNINGS: &[Fault] = &[
    ("a CA for two planes", |at| twin(at, "other", "old"), "ca-shared"),
    ("two CAs for a planeID", |at| twin(at, PLANE, "other"), "plane-id-shared"),
    (
        "no observability plane",
        |at| spec(at, json!({"observabilityPlaneRef": {"name": "none"}})),
        "observability-plane",
    ),
    ("two gateways", |at| gateway_pods(at, 2), "gateway-running"),
    ("a gateway ahead of its time", |at| at.order("gateway fast"), "gateway-clock"),
    ("an old lease", |at| lease(at, 3600), "controller"),
    ("a certificate that ends soon", ends_soon, "agent-trusted"),
    ("a pinned certificate that is renewed soon", renewed_soon, "ca-outlives"),
    ("a pinned certificate, as the chart makes it", |at| pinned(at, -1, 89), "ca-outlives"),
    ("a renewal without a restart", |at| pair(at, &[], "renewed"), "agent-current"),
    ("a crash beside a pod that runs", |at| rolled(at, "crashes"), "agent-running"),
];

/// What is done to a healthy estate.
type Way = (&'static str, fn(&Estate));

/// Ways for an agent to have its certificate, in each of which nothing is wrong.
static WAYS: &[Way] = &[
    ("own", |_| ()),
    ("with a key in SEC1", |at| with_key(at, "old", &["ec", "-in", "old/tls.key"])),
    ("with an RSA key in PKCS#1", |at| {
        at.control.run(&[&CLIENT[..], &["--key-algorithm", "rsa-2048", "--out-dir", "rsa"]].concat()).expect(0);
        with_key(at, "rsa", &["rsa", "-traditional", "-in", "rsa/tls.key"])
    }),
    ("cert-manager under a CA", |at| mark(at)),
];

const LEAF: &[&str] = &["basicConstraints=critical,CA:FALSE", "extendedKeyUsage=clientAuth"];

fn file(at: &Estate, path: &str) -> String {
    std::fs::read_to_string(at.control.path().join(path)).unwrap()
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn spec(at: &Estate, spec: Value) {
    at.control.kubectl(&["patch", "cbp", PLANE, "--type=merge", "-p", &json!({"spec": spec}).to_string()], "");
}

fn client_ca(at: &Estate, ca: Value) {
    let whole = json!([{"op": "replace", "path": "/spec/clusterAgent/clientCA", "value": ca}]).to_string();
    at.control.kubectl(&["patch", "cbp", PLANE, "--type=json", "-p", &whole], "");
}

fn value(at: &Estate, text: &str) {
    client_ca(at, json!({"value": text}));
}

fn secret(name: &str, key: &str) -> Value {
    json!({"secretRef": {"name": name, "namespace": "default", "key": key}})
}

fn without_namespace(at: &Estate) {
    client_ca(at, json!({"secretRef": {"name": "ca", "key": "ca.crt"}}));
}

/// A self-signed certificate of the agent's name.
fn openssl(at: &Estate, name: &str, extensions: &[&str]) -> String {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90"]);
    openssl.args([
        "-subj",
        "/O=OpenChoreo/CN=sick",
        "-utf8",
        "-keyout",
        &format!("{name}.key"),
        "-out",
        &format!("{name}.crt"),
    ]);
    for extension in extensions {
        openssl.args(["-addext", extension]);
    }
    openssl.current_dir(at.control.path());
    finish(openssl, "").expect(0);
    file(at, &format!("{name}.crt"))
}

fn short_ca(at: &Estate) -> String {
    at.control.run(&["certs", "ca", "--out-dir", "short", "--valid-for", "1s", "--force"]).expect(0);
    std::thread::sleep(Duration::from_secs(2));
    file(at, "short/ca.crt")
}

const CLIENT: [&str; 7] = ["certs", "client", "--plane-id", "sick", "--ca-dir", "old", "--force"];

/// The agent's pair with its key as openssl writes it.
fn with_key(at: &Estate, folder: &str, words: &[&str]) {
    let mut openssl = Command::new("openssl");
    openssl.args(words).current_dir(at.control.path());
    let key = finish(openssl, "").expect(0).stdout;
    agent_secret(at, &file(at, &format!("{folder}/tls.crt")), &key);
    restart(at);
}

/// Another certificate under the CA that the plane trusts, into the agent's Secret.
fn pair(at: &Estate, more: &[&str], folder: &str) {
    at.control.run(&[&CLIENT[..], &["--out-dir", folder], more].concat()).expect(0);
    std::thread::sleep(Duration::from_secs(2));
    let secret = at.control.run(&["certs", "secret", folder, "-n", NAMESPACE]).expect(0).stdout;
    at.build.kubectl(&["apply", "-f", "-"], &secret);
}

fn agent_secret(at: &Estate, certificate: &str, key: &str) {
    let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": file(at, "old/ca.crt")});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE}, "stringData": data});
    at.build.kubectl(&["apply", "-f", "-"], &secret.to_string());
}

fn for_servers(at: &Estate) {
    let certificate = openssl(at, "server-leaf", &["extendedKeyUsage=serverAuth"]);
    agent_secret(at, &certificate, &file(at, "server-leaf.key"));
    value(at, &format!("{}{certificate}", file(at, "old/ca.crt")));
}

fn other_key(at: &Estate) {
    agent_secret(at, &file(at, "old/tls.crt"), &file(at, "other/ca.key"));
}

fn garbage(at: &Estate) {
    agent_secret(at, "hello", "hello");
}

fn delete(at: &Estate, kind: &str, name: &str) {
    at.build.kubectl(&["delete", kind, name, "-n", NAMESPACE, "--wait=false"], "");
}

fn scaled_to_zero(at: &Estate) {
    at.build.kubectl(&["scale", "deployment", DEPLOYMENT, "-n", NAMESPACE, "--replicas=0"], "");
}

fn server_ca(at: &Estate, text: &str) {
    at.server_ca(json!({"ca.crt": text}));
}

fn other_name(at: &Estate) {
    at.deploy(PLANE, &format!("--server-url=wss://127.0.0.1:{}/ws", at.port));
}

fn url(at: &Estate, port: u16) {
    at.deploy(PLANE, &format!("--server-url=wss://localhost:{port}/ws"));
}

fn no_tls(at: &Estate) {
    url(at, file(at, "etcd-port").trim().parse().unwrap());
}

/// Days from now.
fn days(count: i64) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(jiff::Timestamp::now().as_second() + count * 86_400).unwrap()
}

fn client(from: i64, to: i64) -> CertificateParams {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (days(from), days(to));
    params
}

/// A self-signed certificate of an agent, as the chart makes it, valid for days from now.
fn leaf(from: i64, to: i64) -> String {
    client(from, to).self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

/// The same, in the agent's Secret and in the plane, with pods that were started for it.
fn pinned(at: &Estate, from: i64, to: i64) {
    let key = KeyPair::generate().unwrap();
    let certificate = client(from, to).self_signed(&key).unwrap().pem();
    agent_secret(at, &certificate, &key.serialize_pem());
    value(at, &certificate);
    restart(at);
}

fn renewed_soon(at: &Estate) {
    pinned(at, -57, 33);
    mark(at);
}

/// A certificate under the CA that the plane trusts, valid for days from now, in the agent's Secret.
fn issued(at: &Estate, from: i64, to: i64) {
    let ca = KeyPair::from_pem(&file(at, "old/ca.key")).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&file(at, "old/ca.crt"), ca).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = client(from, to).signed_by(&key, &issuer).unwrap();
    agent_secret(at, &certificate.pem(), &key.serialize_pem());
}

fn ends_soon(at: &Estate) {
    issued(at, -1, 10);
    restart(at);
}

/// New pods, which surely read what the Secret holds: times are whole seconds.
fn restart(at: &Estate) {
    std::thread::sleep(Duration::from_millis(1100));
    at.deploy(PLANE, "--x=y");
}

/// A CA of the name of the plane's, with another key.
fn namesake(at: &Estate) -> String {
    at.control.run(&["certs", "ca", "--out-dir", "namesake", "--force"]).expect(0);
    file(at, "namesake/ca.crt")
}

/// Marks the agent's Secret as cert-manager does.
fn mark(at: &Estate) {
    let mark = "cert-manager.io/certificate-name=agent";
    at.build.kubectl(&["annotate", "secret", SECRET, "-n", NAMESPACE, mark, "--overwrite"], "");
}

fn other_secret(at: &Estate) {
    let volumes = json!([{"name": "client-certs", "secret": {"secretName": "another"}}]);
    let patch = json!({"spec": {"template": {"spec": {"volumes": volumes}}}}).to_string();
    at.build.kubectl(&["patch", "deployment", DEPLOYMENT, "-n", NAMESPACE, "-p", &patch], "");
}

/// An agent of another image, beside what runs.
fn rolled(at: &Estate, image: &str) {
    at.build.kubectl(&["set", "image", "deployment", DEPLOYMENT, "-n", NAMESPACE, &format!("agent={image}")], "");
}

/// The same, and nothing else runs.
fn image(at: &Estate, image: &str) {
    scaled_to_zero(at);
    let pods = || at.build.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "name"], "").stdout;
    while !pods().is_empty() {}
    rolled(at, image);
    at.build.kubectl(&["scale", "deployment", DEPLOYMENT, "-n", NAMESPACE, "--replicas=1"], "");
}

/// The pod goes on with a certificate that ended, while the Secret holds another one.
fn running_ended(at: &Estate) {
    pair(at, &["--valid-for", "6s"], "brief");
    at.deploy(PLANE, "--x=y");
    std::thread::sleep(Duration::from_secs(3));
    issued(at, 0, 100);
}

/// The gateway's Service, with so many pods that are ready.
fn gateway_pods(at: &Estate, count: usize) {
    let metadata = |name: &str| json!({"name": name, "namespace": CONTROL, "labels": {"app": "gateway"}});
    let spec = json!({"selector": {"app": "gateway"}, "ports": [{"port": 8443}]});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("cluster-gateway"), "spec": spec});
    at.control.kubectl(&["apply", "-f", "-"], &service.to_string());
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}).to_string();
    for number in 0..count {
        let name = format!("gateway-{number}");
        let spec = json!({"containers": [{"name": "gateway", "image": "gateway"}]});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata(&name), "spec": spec});
        at.control.kubectl(&["apply", "-f", "-"], &pod.to_string());
        at.control.kubectl(&["patch", "pod", &name, "-n", CONTROL, "--subresource=status", "-p", &ready], "");
    }
}

/// The controller's lease, last renewed so many seconds ago.
fn lease(at: &Estate, ago: i64) {
    let time = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(ago);
    let metadata = json!({"name": "43500532.openchoreo.dev", "namespace": CONTROL});
    let spec = json!({"renewTime": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z").to_string()});
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
    at.control.kubectl(&["apply", "-f", "-"], &lease.to_string());
}

/// Nobody reports any more, since hours.
fn stale(at: &Estate) {
    at.order("reports off");
    // One report may be on its way.
    std::thread::sleep(Duration::from_millis(600));
    let times = [("lastConnectedTime", 9000), ("lastHeartbeatTime", 8000)];
    at.control.status(PLANE, true, 1, &times, "1 agent connected");
}

/// Another plane.
fn twin(at: &Estate, plane_id: &str, ca: &str) {
    let file = format!("{ca}/ca.crt");
    at.control.run(&["create", "twin", "--plane-id", plane_id, "--client-ca-file", &file]).expect(0);
}

fn held(at: &Estate) {
    let metadata = r#"{"metadata":{"finalizers":["openchoreo.dev/clusterbuildplane-cleanup"]}}"#;
    at.control.kubectl(&["patch", "cbp", PLANE, "--type=merge", "-p", metadata], "");
    at.control.kubectl(&["delete", "cbp", PLANE, "--wait=false"], "");
}

/// Makes the estate healthy, from whatever it was.
fn heal(at: &Estate) {
    at.order("gateway well");
    at.order("reports on");
    at.control.kubectl(&["delete", "cbp", "twin", "--ignore-not-found"], "");
    let gateway =
        ["delete", "service/cluster-gateway", "lease/43500532.openchoreo.dev", "pod/gateway-0", "pod/gateway-1"];
    at.control.kubectl(&[&gateway[..], &["-n", CONTROL, "--ignore-not-found", "--now"]].concat(), "");
    let exists = at.control.run(&["get", PLANE]).code == 0;
    if exists {
        let free = r#"{"metadata":{"finalizers":[]}}"#;
        at.control.kubectl(&["patch", "cbp", PLANE, "--type=merge", "-p", free], "");
        if at.control.run(&["get", PLANE]).code == 0 {
            at.control.kubectl(&["delete", "cbp", PLANE], "");
        }
    }
    at.control.run(&["create", PLANE, "--client-ca-file", "old/ca.crt"]).expect(0);
    agent_secret(at, &file(at, "old/tls.crt"), &file(at, "old/tls.key"));
    at.build.kubectl(&["annotate", "secret", SECRET, "-n", NAMESPACE, "cert-manager.io/certificate-name-"], "");
    at.build.kubectl(&["delete", "configmap", "cluster-gateway-ca", "-n", NAMESPACE, "--ignore-not-found"], "");
    at.trust_gateway();
    restart(at);
}

fn diagnose(at: &Estate) -> Value {
    at.run(&["doctor", PLANE, "-o", "json"]).json()
}

/// Fails where a dump holds a private key of the test, as text or in base64.
fn no_key_is_in(at: &Estate, dump: &str) {
    let folders = ["", "old", "other", "expired"].map(|folder| at.control.path().join(folder));
    let entries = folders.iter().flat_map(std::fs::read_dir).flatten().map(|entry| entry.unwrap().path());
    let keys: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "key")).collect();
    assert!(keys.len() > 3 && !dump.contains("PRIVATE KEY"));
    for path in keys {
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().nth(1).unwrap();
        assert!(!dump.contains(line) && !dump.contains(&base64(&text)[..60]));
    }
}

/// What a plane's checks warn of, and what failed.
fn complaints(plane: &Value) -> Vec<Value> {
    let bad = |check: &&Value| check["status"] == "warn" || check["status"] == "fail";
    plane["checks"].as_array().unwrap().iter().filter(bad).cloned().collect()
}

/// Waits until doctor says so; what it says in the end.
fn until(at: &Estate, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let told = diagnose(at);
        if fits(&told["planes"][0]) || Instant::now() > deadline {
            return told;
        }
    }
}

/// Pastes the hints of a check that complains of what was injected. Fixed is what has this status, or does not fail.
fn try_hints(at: &Estate, name: &str, inject: fn(&Estate), id: &str, fixed: &str) -> Vec<String> {
    let find = |told: &Value| complaints(&told["planes"][0]).into_iter().find(|check| check["id"] == id);
    let remake = || {
        be_well(at, name);
        inject(at);
        let told = until(at, |plane| complaints(plane).iter().any(|check| check["id"] == id));
        find(&told).unwrap_or_default()
    };
    let Some(check) = find(&diagnose(at)) else {
        return vec![format!("{name}: {id} does not complain any more")];
    };
    let is_fixed = || {
        let status = |plane: &Value| status_of(plane, id);
        let is_so = |plane: &Value| if fixed.is_empty() { status(plane) != "fail" } else { status(plane) == fixed };
        is_so(&until(at, is_so)["planes"][0])
    };
    try_out(at, name, &check, remake, is_fixed)
}

/// An estate in which every fault can be made.
fn start() -> Estate {
    let at = Estate::start(PLANE);
    at.control.run(&["certs", "ca", "--out-dir", "other", "--name", "other"]).expect(0);
    at.control.kubectl(&["create", "secret", "generic", "ca", "--from-file=ca.crt=old/ca.crt"], "");
    at.control.kubectl(&["create", "namespace", CONTROL], "");
    let gateway = ["create", "secret", "generic", "cluster-gateway-ca", "--from-file=ca.crt=gateway.crt"];
    at.control.kubectl(&[&gateway[..], &["-n", CONTROL]].concat(), "");
    at
}

fn is_well(plane: &Value) -> bool {
    plane["healthy"] == true && complaints(plane).is_empty()
}

/// Heals the estate, and waits until it is well.
fn be_well(at: &Estate, before: &str) {
    heal(at);
    let told = until(at, is_well);
    let plane = &told["planes"][0];
    assert!(told["healthy"] == true && is_well(plane), "before {before}: {:#?}", complaints(plane));
}

/// How a check of the first plane came out.
fn status(told: &Value, id: &str) -> String {
    status_of(&told["planes"][0], id)
}

fn status_of(plane: &Value, id: &str) -> String {
    let checks = plane["checks"].as_array().unwrap();
    checks.iter().find(|check| check["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
}

fn doctor_warns_of_what_will_hurt() {
    let at = start();
    let mut wrong = Vec::new();
    for (name, inject, check) in WARNINGS {
        be_well(&at, name);
        inject(&at);
        let warns = |plane: &Value| {
            let told = complaints(plane);
            plane["healthy"] == true && told.len() == 1 && told[0]["id"] == *check && told[0]["status"] == "warn"
        };
        let told = until(&at, warns);
        if !warns(&told["planes"][0]) {
            wrong.push(format!("{name}: {:#?}", complaints(&told["planes"][0])));
            continue;
        }
        at.run(&["doctor", PLANE, "-q"]).expect(0);
        at.run(&["doctor", PLANE, "-q", "--strict"]).expect(1);
        wrong.extend(try_hints(&at, name, *inject, check, "pass"));
    }
    for (name, change) in WAYS {
        be_well(&at, name);
        change(&at);
        let told = until(&at, is_well);
        if !is_well(&told["planes"][0]) {
            wrong.push(format!("{name}: {:#?}", complaints(&told["planes"][0])));
            continue;
        }
        at.run(&["doctor", PLANE, "-q", "--strict"]).expect(0);
    }
    assert!(wrong.is_empty(), "{} are wrong: {}", wrong.len(), wrong.join("\n"));

    // The chart's default URL leads nowhere outside of a cluster: what needs it is not checked, and nothing is wrong.
    be_well(&at, "a name inside of a cluster");
    at.deploy(PLANE, "--server-url=wss://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8443/ws");
    let told = until(&at, |plane| plane["healthy"] == true && status_of(plane, "agent-running") == "pass");
    let plane = &told["planes"][0];
    assert!(plane["healthy"] == true && plane["unchecked"][0] == "the gateway was not contacted", "{plane:#}");
    assert_eq!(status(&told, "gateway-answer"), "skip", "{plane:#}");

    // Without the build cluster the gateway tells whether an agent of this very plane is there.
    be_well(&at, "a plane that says connected");
    twin(&at, PLANE, "old");
    value(&at, &file(&at, "other/ca.crt"));
    let url = format!("wss://localhost:{}/ws", at.port);
    let alone = ["doctor", PLANE, "--gateway-url", &url, "-o", "json"];
    let deadline = Instant::now() + Duration::from_secs(20);
    let told = loop {
        let told = at.control.run(&alone).json();
        if told["planes"][0]["rootCause"] == "agent-authorized" || Instant::now() > deadline {
            break told;
        }
    };
    assert_eq!(told["planes"][0]["rootCause"], "agent-authorized", "{:#}", told["planes"][0]);
    // With a certificate and no build cluster its word is told, too.
    let word = ["--cert", "old/tls.crt", "--key", "old/tls.key"];
    let told = at.control.run(&[&alone[..], &word].concat()).json();
    assert_eq!(status(&told, "gateway-answer"), "pass", "{told:#}");

    // The agent of another plane is not taken for one's own.
    be_well(&at, "a plane with an agent elsewhere");
    at.order("reports off");
    at.control.run(&["create", "twin", "--plane-id", "beta", "--client-ca-file", "other/ca.crt"]).expect(0);
    at.control.connect("twin");
    let told = at.run(&["doctor", "-o", "json"]).expect(0).json();
    let (sick, beta) = (&told["planes"][0], &told["planes"][1]);
    assert!(sick["name"] == PLANE && is_well(sick) && is_well(beta), "{told:#}");
    at.control.status("twin", false, 0, &[], "No agents connected");
    let told = at.run(&["doctor", "twin", "-o", "json"]).expect(1).json();
    assert_eq!(told["planes"][0]["rootCause"], "agent-exists", "{told:#}");

    // An old CRD is told of, and a missing one.
    be_well(&at, "an old CRD");
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/observabilityPlaneRef";
    let patch = json!([{"op": "replace", "path": field, "value": {"type": "string"}}]).to_string();
    let name = "clusterbuildplanes.openchoreo.dev";
    at.control.kubectl(&["patch", "crd", name, "--type=json", "-p", &patch], "");
    let told = diagnose(&at);
    assert_eq!((&told["checks"][1]["id"], &told["checks"][1]["status"]), (&json!("crd"), &json!("warn")), "{told:#}");
    // Where the other cluster serves the kind, the clusters are named in the place of each other.
    at.control.kubectl(&["delete", "crd", name], "");
    let told = at.run(&["doctor"]).expect(2);
    told.says(&["the contexts are swapped"]);
    let hint = told.stderr.split("hint: ").nth(1).unwrap().trim();
    let told = paste(&at, &format!("{hint} -o json")).json();
    assert_eq!(told["checks"][1]["status"], "pass", "{told:#}");
    at.build.kubectl(&["delete", "crd", name], "");
    let told = at.run(&["doctor", "-o", "json"]).expect(2).json();
    assert_eq!((&told["checks"][1]["status"], &told["planes"][0]["name"]), (&json!("fail"), &json!(PLANE)), "{told:#}");
    assert_eq!(status(&told, "agent-certificate"), "pass");
}

fn doctor_names_the_injected_cause() {
    let at = start();
    let mut wrong = Vec::new();
    for (name, inject, cause) in FAULTS {
        be_well(&at, name);
        inject(&at);
        let told = until(&at, |plane| plane["rootCause"] == *cause);
        if told["planes"][0]["rootCause"] != *cause {
            wrong.push(format!("{name}: {:#?}", complaints(&told["planes"][0])));
        }
        // A dump tells the same, but for what only the gateway knows, and no key.
        at.run(&["dump", PLANE, "-o", "dump.yaml", "--force"]).expect(0);
        let dump = file(&at, "dump.yaml");
        no_key_is_in(&at, &dump);
        let told_by_dump = at.control.run(&["doctor", "-f", "dump.yaml", "-o", "json"]).json();
        let root = &told_by_dump["planes"][0]["rootCause"];
        let unseen = ["gateway-reachable", "gateway-clock", "gateway-answer", "agent-current"].contains(cause);
        // The connection may have ended since.
        if !(root == *cause || (unseen && (root.is_null() || root == "connected"))) {
            wrong.push(format!("{name}, by its dump: {:#?}", complaints(&told_by_dump["planes"][0])));
        }
        let failed = complaints(&told["planes"][0]).into_iter().find(|check| check["id"] == *cause);
        if failed.is_some_and(|check| check["message"].as_str().unwrap().is_empty() || check["hint"].is_null()) {
            wrong.push(format!("{name}: no words, or no hint"));
        }
        wrong.extend(try_hints(&at, name, *inject, cause, ""));
    }
    assert!(FAULTS.len() >= 30 && wrong.is_empty(), "{} of {}: {}", wrong.len(), FAULTS.len(), wrong.join("\n"));
}

/// One who may read all and nothing else, in a cluster.
fn reader(control_plane: &ControlPlane) {
    let role = ["create", "clusterrole", "reader", "--verb=get,list,watch", "--resource=*.*"];
    control_plane.kubectl(&role, "");
    let resource = json!([{"op": "add", "path": "/rules/-", "value": {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}}]);
    control_plane.kubectl(&["patch", "clusterrole", "reader", "--type=json", "-p", &resource.to_string()], "");
    control_plane.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=reader", "--user=reader"], "");
}

/// What the reader did, as the API server took it down: verbs and resources.
fn taken_down(control_plane: &ControlPlane) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(control_plane.path().join("audit.log")).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        (word(&event["verb"]), word(&event["objectRef"]["resource"]))
    };
    log.lines().map(event).collect()
}

fn doctor_only_reads_and_tells_what_it_can() {
    let mut at = start();
    be_well(&at, "all");
    let as_reader = ["--context", "reader", "--build-context", "reader"];
    let run = |args: &[&str]| at.run(&[args, &as_reader].concat());
    for control_plane in [&at.control, &at.build] {
        // Who may read nothing is told so, and nothing is called healthy.
        let told = run(&["doctor", PLANE]).expect(2);
        assert!(told.stdout.contains("warn  rights") && told.stdout.contains("not allowed"), "{told:#?}");
        reader(control_plane);
    }
    // The roles that are printed grant what was missing.
    let as_guest = ["doctor", PLANE, "-o", "json", "--context", "guest", "--build-context", "guest"];
    for _ in 0..3 {
        // What can be read leads to more that is needed.
        let told = at.run(&as_guest).json();
        for hint in told["checks"][2]["hints"].as_array().unwrap() {
            let grant = hint["text"].as_str().unwrap().split("USER with\n").nth(1).unwrap();
            paste(&at, &grant.replace("--context guest", "--context control").replace("USER", "guest")).expect(0);
        }
    }
    let told = at.run(&as_guest).expect(0).json();
    assert!(told["checks"][2]["status"] == "pass" && told["planes"][0]["healthy"] == true, "{told:#}");
    for control_plane in [&at.control, &at.build] {
        let kinds = "clusterroles,clusterrolebindings,roles,rolebindings";
        control_plane.kubectl(&["delete", kinds, "-A", "--field-selector=metadata.name=choreoctl-doctor"], "");
    }
    run(&["dump", PLANE, "-o", "read.yaml"]).expect(0);
    run(&["forecast", PLANE]).expect(0);
    let told = run(&["doctor", PLANE]).expect(0);
    assert!(told.stdout.contains("sick: healthy"), "{}", told.stdout);
    for control_plane in [&at.control, &at.build] {
        let done = taken_down(control_plane);
        let read = |done: &&(String, String)| ["get", "list", "watch"].contains(&done.0.as_str());
        assert!(done.len() > 10 && done.iter().filter(read).count() == done.len(), "{done:?}");
        assert!(done.iter().any(|(_, resource)| resource == "secrets"), "{done:?}");
    }
    // Nor does the gateway get an agent by it.
    let told = diagnose(&at);
    let counted =
        told["planes"][0]["checks"].as_array().unwrap().iter().find(|check| check["id"] == "agent-authorized");
    assert_eq!(counted.unwrap()["message"], "the gateway counts 1 for this plane");
    assert_eq!(at.upgrades(), 0);

    // What may not be read for a dump is not taken for missing by its reader, nor for well.
    let may = |control_plane: &ControlPlane, verbs: &str, resource: &str| {
        let name = resource.replace('.', "-");
        let (verbs, resource) = (format!("--verb={verbs}"), format!("--resource={resource}"));
        control_plane.kubectl(&["create", "clusterrole", &name, &verbs, &resource], "");
        let binding = ["create", "clusterrolebinding", &name, &format!("--clusterrole={name}"), "--user=guest"];
        control_plane.kubectl(&binding, "");
    };
    may(&at.control, "get,list", "clusterbuildplanes.openchoreo.dev");
    may(&at.build, "get,list", "deployments.apps");
    let as_guest = ["--context", "guest", "--build-context", "guest"];
    let told = at.run(&[&["dump", PLANE, "-o", "partly.yaml"][..], &as_guest].concat()).expect(0);
    told.says(&["warning: not in the dump: /api/v1/namespaces/openchoreo-build-plane/secrets/cluster-agent-tls"]);
    let live = at.run(&[&["doctor", PLANE, "-o", "json"][..], &as_guest].concat()).expect(2).json();
    let dumped = at.control.run(&["doctor", "-f", "partly.yaml", "-o", "json"]).expect(2).json();
    for told in [live, dumped] {
        assert!(told["healthy"] == false && told["planes"][0]["rootCause"].is_null(), "{told:#}");
        assert_eq!(told["checks"][2]["status"], "warn");
    }
    at.control.run(&["forecast", "-f", "partly.yaml", "-q"]).expect(2);
    // One that is cut off is said to be.
    let cut = file(&at, "read.yaml").lines().take(60).map(|line| format!("{line}\n")).collect::<String>();
    at.control.write("cut.yaml", &cut);
    at.control.run(&["doctor", "-f", "cut.yaml"]).expect(2).says(&["the dump is cut off"]);
    // A pipe is written to, and stays one.
    let made = Command::new("mkfifo").arg(at.control.path().join("pipe")).status().unwrap();
    assert!(made.success());
    let mut read = Command::new("cat");
    read.arg("pipe").current_dir(at.control.path()).stdout(std::process::Stdio::piped());
    let read = read.spawn().unwrap();
    at.run(&["dump", PLANE, "-o", "pipe", "--force"]).expect(0);
    let read = String::from_utf8(read.wait_with_output().unwrap().stdout).unwrap();
    assert!(read.contains("kind: End") && !at.control.path().join("pipe").is_file());

    // What one cluster doesn't tell hides nothing of the other, and takes no longer than a request may.
    let led = |control_plane: &ControlPlane, port: u16, name: &str| {
        let text = std::fs::read_to_string(control_plane.kubeconfig()).unwrap();
        let own = format!("127.0.0.1:{}", control_plane.port());
        at.control.write(name, &text.replace(&own, &format!("127.0.0.1:{port}")))
    };
    let mute = |control_plane: &ControlPlane| {
        let proxy = Proxy::start(control_plane.port());
        proxy.mute();
        proxy
    };
    let (control_proxy, build_proxy) = (mute(&at.control), mute(&at.build));
    for (control, build) in [(1, 1), (control_proxy.port, build_proxy.port)] {
        let started = Instant::now();
        let build = led(&at.build, build, "other-build");
        let told = ["doctor", PLANE, "-o", "json", "--request-timeout", "2s"];
        let told = at.control.run(&[&told[..], &["--build-kubeconfig", &build]].concat()).expect(2).json();
        let seen = ["client-ca-usable", "agent-exists", "connected"].map(|id| status(&told, id));
        assert_eq!((seen, &told["healthy"]), (["pass", "skip", "pass"].map(String::from), &json!(false)));
        let control = led(&at.control, control, "other-control");
        let told = ["doctor", PLANE, "-o", "json", "--request-timeout", "2s", "--kubeconfig", &control];
        let told = at.run(&told).expect(2);
        told.says(&["API server at", "hint:"]);
        let told = told.json();
        let seen = ["plane-exists", "agent-exists", "agent-certificate", "connected"].map(|id| status(&told, id));
        assert_eq!(seen, ["skip", "pass", "pass", "skip"].map(String::from));
        assert_eq!(
            (&told["checks"][0]["status"], &told["planes"][0]["rootCause"]),
            (&json!("fail"), &json!("api-server"))
        );
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }

    // Without controller and gateway the last report stays for ever.
    at.kill_double();
    let times = [("lastConnectedTime", 9000), ("lastHeartbeatTime", 8000)];
    at.control.status(PLANE, true, 1, &times, "1 agent connected");
    url(&at, 1);
    let told = diagnose(&at);
    let stale = complaints(&told["planes"][0]).into_iter().find(|check| check["id"] == "controller").unwrap();
    let message = stale["message"].as_str().unwrap();
    assert!(stale["status"] == "fail" && message.contains("is the gateway down?"), "{stale}");
}
