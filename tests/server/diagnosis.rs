//! Doctor's verdict on faults that are put into an estate, one row each.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::finish;
use super::estate::{DEPLOYMENT, Estate, NAMESPACE, SECRET};

const PLANE: &str = "sick";

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

/// Another certificate under the CA that the plane trusts, into the agent's Secret.
fn pair(at: &Estate, more: &[&str], folder: &str) {
    let client = ["certs", "client", "--plane-id", "sick", "--ca-dir", "old", "--force", "--out-dir", folder];
    at.control.run(&[&client[..], more].concat()).expect(0);
    std::thread::sleep(Duration::from_secs(2));
    let secret = at.control.run(&["certs", "secret", folder, "-n", NAMESPACE]).expect(0).stdout;
    at.build.kubectl(&["apply", "-f", "-"], &secret);
}

fn agent_secret(at: &Estate, certificate: &str, key: &str) {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE}, "stringData": {"tls.crt": certificate, "tls.key": key}});
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
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cluster-gateway-ca", "namespace": NAMESPACE},
        "data": {"ca.crt": text}});
    at.build.kubectl(&["apply", "-f", "-"], &map.to_string());
}

fn other_name(at: &Estate) {
    at.deploy("sick", &format!("--server-url=wss://127.0.0.1:{}/ws", at.port));
}

fn no_tls(at: &Estate) {
    let etcd = std::fs::read_to_string(at.control.path().join("etcd-port")).unwrap();
    at.deploy("sick", &format!("--server-url=wss://localhost:{}/ws", etcd.trim()));
}

fn held(at: &Estate) {
    let metadata = r#"{"metadata":{"finalizers":["openchoreo.dev/clusterbuildplane-cleanup"]}}"#;
    at.control.kubectl(&["patch", "cbp", PLANE, "--type=merge", "-p", metadata], "");
    at.control.kubectl(&["delete", "cbp", PLANE, "--wait=false"], "");
}

/// Makes the estate healthy, from whatever it was.
fn heal(at: &Estate) {
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
    server_ca(at, &file(at, "gateway.crt"));
    // Times are whole seconds: pods of the next one have surely read it.
    std::thread::sleep(Duration::from_millis(1100));
    at.deploy("sick", "--x=y");
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

pub fn doctor_names_the_injected_cause() {
    let mut at = Estate::start("sick");
    at.control.run(&["certs", "ca", "--out-dir", "other", "--name", "other"]).expect(0);
    at.control.kubectl(&["create", "secret", "generic", "ca", "--from-file=ca.crt=old/ca.crt"], "");
    at.control.kubectl(&["create", "namespace", "openchoreo-control-plane"], "");
    let gateway = ["create", "secret", "generic", "cluster-gateway-ca", "--from-file=ca.crt=gateway.crt"];
    at.control.kubectl(&[&gateway[..], &["-n", "openchoreo-control-plane"]].concat(), "");
    let mut wrong = Vec::new();
    for (name, inject, cause) in FAULTS {
        heal(&at);
        let healthy = until(&at, |plane| plane["healthy"] == true && complaints(plane).is_empty());
        let plane = &healthy["planes"][0];
        assert!(healthy["healthy"] == true && complaints(plane).is_empty(), "before {name}: {:#?}", complaints(plane));
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
        let expected = if cause.starts_with("gateway") { Value::Null } else { json!(cause) };
        if told_by_dump["planes"][0]["rootCause"] != expected {
            wrong.push(format!("{name}, by its dump: {:#?}", complaints(&told_by_dump["planes"][0])));
        }
        let failed = complaints(&told["planes"][0]).into_iter().find(|check| check["id"] == *cause);
        if failed.is_some_and(|check| check["message"].as_str().unwrap().is_empty()) {
            wrong.push(format!("{name}: no words"));
        }
    }
    // It only reads, and what one cluster doesn't tell hides nothing of the other.
    heal(&at);
    until(&at, |plane| plane["healthy"] == true && complaints(plane).is_empty());
    let told = at.run(&["doctor", PLANE, "-v"]).expect(0);
    let requests: Vec<_> = told.stderr.lines().filter(|line| line.contains(" ms")).collect();
    assert!(requests.len() > 8 && requests.iter().all(|line| line.starts_with("GET ")), "{requests:#?}");
    assert!(told.stdout.contains("sick: healthy"), "{}", told.stdout);
    let dead = |kubeconfig: std::path::PathBuf, name: &str| {
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let line = text.lines().find(|line| line.contains("server:")).unwrap();
        let port = line.split("127.0.0.1:").nth(1).unwrap().split('"').next().unwrap();
        at.control.write(name, &text.replace(&format!("127.0.0.1:{port}"), "127.0.0.1:1"))
    };
    let status = |told: &Value, id: &str| {
        let checks = told["planes"][0]["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
    };
    let build = dead(at.build.kubeconfig(), "dead-build");
    let told = at.control.run(&["doctor", PLANE, "-o", "json", "--build-kubeconfig", &build]).expect(2).json();
    let seen = ["client-ca-usable", "agent-exists", "connected"].map(|id| status(&told, id));
    assert_eq!((seen, &told["healthy"]), (["pass", "skip", "pass"].map(String::from), &json!(false)));
    let control = dead(at.control.kubeconfig(), "dead-control");
    let told = at.run(&["doctor", PLANE, "-o", "json", "--kubeconfig", &control]).expect(2);
    told.says(&["could not reach the API server"]);
    let told = told.json();
    let seen = ["plane-exists", "agent-exists", "agent-certificate", "connected"].map(|id| status(&told, id));
    assert_eq!(seen, ["skip", "pass", "pass", "skip"].map(String::from));
    assert_eq!(told["checks"][0]["status"], "fail");

    // Without controller and gateway the last report stays for ever.
    heal(&at);
    until(&at, |plane| plane["healthy"] == true);
    at.kill_double();
    at.control.status(
        "sick",
        true,
        1,
        &[("lastConnectedTime", 9000), ("lastHeartbeatTime", 8000)],
        "1 agent connected",
    );
    at.deploy("sick", "--server-url=wss://localhost:1/ws");
    let told = diagnose(&at);
    let stale = complaints(&told["planes"][0]).into_iter().find(|check| check["id"] == "controller").unwrap();
    assert!(
        stale["status"] == "fail" && stale["message"].as_str().unwrap().contains("the last report is old"),
        "{stale}"
    );
    assert!(FAULTS.len() >= 30 && wrong.is_empty(), "{} of {}: {}", wrong.len(), FAULTS.len(), wrong.join("\n"));
}
