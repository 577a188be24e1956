//! The double of gateway, controller and agents, held to what OpenChoreo's do: of v0.15 to v0.17, and of v1.0 and later.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use super::estate::{Estate, agent, names};

stories!(
    Go:
        the_double_answers_agents_as_each_release_does,
        the_double_has_its_api_where_each_release_has_it,
        the_double_takes_notifications_as_each_release_does,
        the_double_reports_by_scope_and_release,
        the_double_lets_go_of_planes_of_its_own_release_only,
        the_double_has_agents_of_several_families;
);

/// How long the double has for what it does a few times a second.
const SOON: Duration = Duration::from_secs(20);
/// How long something is watched that is not to happen.
const A_WHILE: Duration = Duration::from_millis(1500);

/// An era of the double, the plane types that it knows, and the field of `clientCA` that names a Secret.
pub struct Era {
    pub name: &'static str,
    pub types: [&'static str; 3],
    pub secret: &'static str,
}

pub static V0: Era = Era { name: "v0", types: ["dataplane", "buildplane", "observabilityplane"], secret: "secretRef" };
pub static V1: Era =
    Era { name: "v1", types: ["dataplane", "workflowplane", "observabilityplane"], secret: "secretKeyRef" };

pub const TYPES: [&str; 4] = ["dataplane", "buildplane", "workflowplane", "observabilityplane"];

const REFUSED: &str = "client certificate verification failed: ";

// Planes, in a namespace called team or in none.

pub fn kind(plane_type: &str, is_cluster: bool) -> String {
    let family = plane_type.trim_end_matches("plane");
    let family = format!("{}{}Plane", family[..1].to_uppercase(), &family[1..]);
    if is_cluster { format!("Cluster{family}") } else { family }
}

/// The path of a plane, which is named as `NAMESPACE/NAME` or `/NAME`.
pub fn path(plane_type: &str, key: &str) -> String {
    let (namespace, name) = key.split_once('/').unwrap();
    let (scope, prefix) =
        if namespace.is_empty() { (String::new(), "cluster") } else { (format!("namespaces/{namespace}/"), "") };
    format!("/apis/openchoreo.dev/v1alpha1/{scope}{prefix}{plane_type}s/{name}")
}

/// Installs all eight kinds with schemas that take anything: what differs between releases is for other stories.
pub fn install(at: &Estate) {
    let kinds = TYPES.iter().flat_map(|of| [(*of, true), (*of, false)]);
    let kinds = kinds.filter(|(of, is_cluster)| kind(of, *is_cluster) != "ClusterBuildPlane");
    let crds = kinds.map(|(of, is_cluster)| {
        let (kind, prefix) = (kind(of, is_cluster), if is_cluster { "cluster" } else { "" });
        let (plural, scope) = (format!("{prefix}{of}s"), if is_cluster { "Cluster" } else { "Namespaced" });
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.openchoreo.dev")},
            "spec": {
                "group": "openchoreo.dev", "scope": scope, "names": {"kind": kind, "plural": plural},
                "versions": [{
                    "name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any, "status": any}}},
                }],
            },
        })
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": crds.collect::<Vec<_>>()});
    at.control.kubectl(&["apply", "-f", "-"], &list.to_string());
    at.control.kubectl(&["wait", "--for=condition=established", "crd", "--all"], "");
    at.control.kubectl(&["create", "namespace", "team"], "");
}

fn estate(agents: &[(&str, &str)], era: &Era) -> Estate {
    let at = Estate::of(agents);
    install(&at);
    at.order(&format!("era {}", era.name));
    at
}

pub fn client_ca(at: &Estate, plane_type: &str, key: &str, ca: Value) {
    at.control.api().replace(&path(plane_type, key), "/spec/clusterAgent/clientCA", &ca);
}

pub fn create(at: &Estate, plane_type: &str, key: &str, plane_id: Option<&str>, ca: &Value) {
    let (namespace, name) = key.split_once('/').unwrap();
    let mut plane = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind(plane_type, namespace.is_empty()),
        "metadata": {"name": name}, "spec": {"clusterAgent": {"clientCA": ca}},
    });
    if let Some(plane_id) = plane_id {
        plane["spec"]["planeID"] = plane_id.into();
    }
    at.control.api().write(&path(plane_type, key), &plane);
}

fn get(at: &Estate, plane_type: &str, key: &str) -> Value {
    at.control.api().get(&path(plane_type, key)).unwrap_or_default()
}

/// Waits until a plane is so; as it is then.
#[track_caller]
fn until(at: &Estate, plane_type: &str, key: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        let plane = get(at, plane_type, key);
        if fits(&plane) {
            return plane;
        }
        assert!(Instant::now() < deadline, "{plane:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Deletes a plane, and waits until it is gone.
#[track_caller]
pub fn delete(at: &Estate, plane_type: &str, key: &str) {
    at.control.api().delete(&path(plane_type, key));
    until(at, plane_type, key, Value::is_null);
}

fn is_created(plane: &Value) -> bool {
    plane["status"]["conditions"][0]["type"] == "Created"
}

fn agents(plane: &Value) -> Option<i64> {
    plane["status"]["agentConnection"]["connectedAgents"].as_i64()
}

// Requests.

/// Asks a gateway's port, whose CA is in a file, with the certificates and the key in these files; the head and the body
/// of the answer.
pub fn exchange(
    at: &Estate,
    (ca, port): (&str, u16),
    request: &str,
    pair: Option<[&str; 2]>,
    body: &str,
) -> Result<(String, String), String> {
    let mut roots = RootCertStore::empty();
    let pem = |file: &str| -> Vec<_> {
        CertificateDer::pem_file_iter(at.control.path().join(file)).unwrap().map(Result::unwrap).collect()
    };
    roots.add_parsable_certificates(pem(ca));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = match pair {
        None => config.with_no_client_auth(),
        Some([certificate, key]) => {
            let key = PrivateKeyDer::from_pem_file(at.control.path().join(key)).unwrap();
            // It is presented as it is, be it one that rustls itself doesn't take.
            let key = CertifiedKey::new(pem(certificate), provider.key_provider.load_private_key(key).unwrap());
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).unwrap());
    let request = format!("{request}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    let (head, text) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok((head.to_owned(), text.to_owned()))
}

/// Asks one of the double's ports. An answer is its status and its text; what says that a WebSocket would have been opened
/// is `authorized`.
fn ask(at: &Estate, port: u16, what: &str, pair: Option<[&str; 2]>, body: &str) -> Result<(u16, String), String> {
    let (head, text) = exchange(at, ("gateway.crt", port), &format!("{what} HTTP/1.0"), pair, body)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let is_websocket = head.contains("Sec-Websocket-Version: 13");
    Ok((status, if is_websocket { "authorized".into() } else { text.trim().to_owned() }))
}

/// What the gateway answers to an agent.
fn socket(at: &Estate, query: &str, pair: Option<[&str; 2]>) -> (u16, String) {
    ask(at, at.port, &format!("GET /ws?{query}"), pair, "").unwrap()
}

pub const AGENT: Option<[&str; 2]> = Some(["old/tls.crt", "old/tls.key"]);
pub const STRANGER: Option<[&str; 2]> = Some(["other/tls.crt", "other/tls.key"]);
pub const CONTROLLER: Option<[&str; 2]> = Some(["controller.crt", "controller.key"]);

/// What the API for planes answers to the controller: the status, and the JSON or the text.
fn api(at: &Estate, what: &str, body: &Value) -> (u16, Value) {
    let (status, text) = ask(at, at.api_port, what, CONTROLLER, &body.to_string())
        .or_else(|_| ask(at, at.port, what, None, &body.to_string()))
        .unwrap();
    (status, serde_json::from_str(&text).unwrap_or(text.into()))
}

fn connected(at: &Estate, plane: &str, key: &str) -> i64 {
    let query = key.split_once('/').map(|(namespace, name)| format!("?namespace={namespace}&name={name}"));
    let (_, reported) =
        api(at, &format!("GET /api/v1/planes/{plane}/status{}", query.unwrap_or_default()), &Value::Null);
    reported["connectedAgents"].as_i64().unwrap()
}

fn notify(at: &Estate, plane: &str, event: &str, key: &str) -> (u16, Value) {
    let ((plane_type, plane_id), (namespace, name)) = (plane.split_once('/').unwrap(), key.split_once('/').unwrap());
    let body =
        json!({"planeType": plane_type, "planeID": plane_id, "event": event, "namespace": namespace, "name": name});
    api(at, "POST /api/v1/planes/notify", &body)
}

/// Waits until the gateway counts so many agents of a planeID.
#[track_caller]
fn until_connected(at: &Estate, plane: &str, count: i64) {
    let deadline = Instant::now() + SOON;
    while connected(at, plane, "") != count {
        assert!(Instant::now() < deadline, "{plane} has {} agents", connected(at, plane, ""));
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn value(at: &Estate, file: &str) -> Value {
    json!({"value": at.control.read(file)})
}

// The stories.

fn the_double_answers_agents_as_each_release_does() {
    let at = estate(&[("buildplane", "x")], &V0);
    at.control.run(&["certs", "ca", "--out-dir", "other"]).expect(0);
    at.control.run(&["certs", "client", "--plane-id", "x", "--ca-dir", "other"]).expect(0);
    let secret = |namespace: &str, file: &str| {
        at.control.kubectl(&["create", "secret", "generic", "ca", "-n", namespace, &format!("--from-file={file}")], "");
    };
    secret("team", "old/ca.crt");
    secret("default", "other/ca.crt");
    at.control.kubectl(&["create", "secret", "generic", "empty", "--from-literal=ca.crt="], "");
    for era in [&V0, &V1] {
        at.order(&format!("era {}", era.name));
        let list = format!("'{}', '{}', or '{}'", era.types[0], era.types[1], era.types[2]);
        let invalid = (400, format!("invalid planeType: must be {list}"));
        for pair in [None, AGENT] {
            assert_eq!(socket(&at, "planeID=a", pair), (400, "missing planeType parameter".into()));
            assert_eq!(socket(&at, "planeType=x", pair), (400, "missing planeID parameter".into()));
            assert_eq!(socket(&at, "planeType=x&planeID=a", pair), invalid);
        }
        for plane_type in TYPES {
            let query = |plane_id: &str| format!("planeType={plane_type}&planeID={plane_id}");
            if !era.types.contains(&plane_type) {
                // The type comes before the certificate.
                assert_eq!(
                    [None, AGENT].map(|pair| socket(&at, &query("a"), pair)),
                    [invalid.clone(), invalid.clone()]
                );
                continue;
            }
            assert_eq!(socket(&at, &query("a"), None), (401, "no client certificate presented".into()));
            let none = |plane_id: &str| (401, format!("{REFUSED}no {plane_type} CRs found with planeID '{plane_id}'"));
            let wrong =
                |plane_id: &str| (401, format!("{REFUSED}certificate not valid for any CR with planeID '{plane_id}'"));
            let authorized = (400, "authorized".to_owned());
            assert_eq!(socket(&at, &query("a"), AGENT), none("a"));

            // Of a cluster-scoped plane the planeID is taken literally; a namespaced one has its name, and its namespace.
            let of_secret = |of: Value| json!({era.secret: of});
            let here = of_secret(json!({"name": "ca", "key": "ca.crt"}));
            create(&at, plane_type, "/a", Some("a"), &value(&at, "old/ca.crt"));
            create(&at, plane_type, "team/b", None, &here);
            assert_eq!(["a", "b"].map(|id| socket(&at, &query(id), AGENT)), [authorized.clone(), authorized.clone()]);
            assert_eq!(["a", "b"].map(|id| socket(&at, &query(id), STRANGER)), ["a", "b"].map(wrong));

            // One plane of two is enough, in whichever scope; nobody reads a Secret of no namespace.
            create(&at, plane_type, "team/c", Some("a"), &value(&at, "other/ca.crt"));
            assert_eq!(socket(&at, &query("a"), STRANGER), authorized);
            delete(&at, plane_type, "team/c");
            for (ca, answer) in [
                (json!({}), none("a")),
                (of_secret(json!({"name": "ca", "key": "ca.crt"})), none("a")),
                (of_secret(json!({"name": "none", "namespace": "team", "key": "ca.crt"})), none("a")),
                (of_secret(json!({"name": "ca", "namespace": "team", "key": "none"})), none("a")),
                (of_secret(json!({"name": "empty", "namespace": "default", "key": "ca.crt"})), none("a")),
                (of_secret(json!({"name": "ca", "namespace": "default", "key": "ca.crt"})), wrong("a")),
                (of_secret(json!({"name": "ca", "namespace": "team", "key": "ca.crt"})), authorized.clone()),
                (json!({"value": "hello"}), wrong("a")),
                // A value wins.
                (json!({"value": at.control.read("old/ca.crt"), era.secret: {"name": "none", "key": "x"}}), authorized),
            ] {
                client_ca(&at, plane_type, "/a", ca.clone());
                assert_eq!(socket(&at, &query("a"), AGENT), answer, "{ca}");
            }
            // A field of the other era says nothing.
            let other = if era.secret == "secretRef" { "secretKeyRef" } else { "secretRef" };
            client_ca(&at, plane_type, "team/b", json!({other: {"name": "ca", "key": "ca.crt"}}));
            assert_eq!(socket(&at, &query("b"), AGENT), none("b"));
            for key in ["/a", "team/b"] {
                delete(&at, plane_type, key);
            }
        }
    }
    // The same planeID of another type is another one.
    create(&at, "dataplane", "/a", Some("a"), &value(&at, "old/ca.crt"));
    let reported =
        ["dataplane", "observabilityplane"].map(|of| socket(&at, &format!("planeType={of}&planeID=a"), AGENT).0);
    assert_eq!(reported, [400, 401]);
    at.order("gateway blind");
    let (status, text) = socket(&at, "planeType=dataplane&planeID=a", AGENT);
    assert!(status == 401 && text.starts_with(&format!("{REFUSED}failed to get client CA configurations: ")), "{text}");
    at.order("gateway newer");
    assert!(socket(&at, "planeType=x&planeID=a", None).1.contains("'buildplane'"));
}

fn the_double_has_its_api_where_each_release_has_it() {
    let at = Estate::start("x");
    let what = "GET /api/v1/planes/dataplane/x/status";
    let public = || ask(&at, at.port, what, None, "").unwrap().0;
    let internal = |pair| ask(&at, at.api_port, what, pair, "").map(|(status, _)| status);
    assert_eq!(public(), 200);
    internal(None).unwrap_err();
    at.order("era v1");
    assert_eq!((public(), internal(CONTROLLER)), (404, Ok(200)));
    assert!(internal(None).unwrap_err().contains("CertificateRequired"));
    // Agents' certificates are of other CAs.
    internal(AGENT).unwrap_err();
    at.order("api open");
    assert_eq!((public(), internal(None), internal(AGENT)), (404, Ok(200), Ok(200)));
    at.order("api shared");
    assert_eq!(public(), 200);
    internal(CONTROLLER).unwrap_err();

    let never = json!({"planeType": "dataplane", "planeID": "x", "connected": false, "connectedAgents": 0,
        "lastSeen": "0001-01-01T00:00:00Z"});
    assert_eq!(api(&at, what, &Value::Null), (200, never));
    let all = json!({"planes": [], "total": 0});
    assert_eq!(api(&at, "GET /api/v1/planes/status", &Value::Null), (200, all));
    assert_eq!(ask(&at, at.port, "GET /", None, "").unwrap().0, 404);
}

fn the_double_takes_notifications_as_each_release_does() {
    let at = estate(&[("dataplane", "x")], &V0);
    at.order("reports off");
    at.order("agents stay");
    at.control.run(&["certs", "ca", "--out-dir", "other"]).expect(0);
    let (good, bad) = (value(&at, "old/ca.crt"), value(&at, "other/ca.crt"));
    create(&at, "dataplane", "/a", Some("x"), &good);
    create(&at, "dataplane", "team/b", Some("x"), &bad);
    create(&at, "dataplane", "/alone", Some("alone"), &json!({"value": "hello"}));
    const PLANE: &str = "dataplane/x";
    for era in [&V0, &V1] {
        at.order(&format!("era {}", era.name));
        let text = |(status, reported): (u16, Value)| (status, reported.as_str().unwrap_or_default().to_owned());
        let fields = "missing required fields: planeType, planeID, event";
        assert_eq!(text(api(&at, "POST /api/v1/planes/notify", &json!({}))), (400, fields.into()));
        assert_eq!(text(notify(&at, PLANE, "moved", "/a")), (400, "unknown event type: moved".into()));
        until_connected(&at, PLANE, 1);
        assert_eq!([connected(&at, PLANE, "/a"), connected(&at, PLANE, "team/b")], [1, 0]);

        // An edit changes nothing for those who are connected, until somebody says so.
        client_ca(&at, "dataplane", "team/b", good.clone());
        client_ca(&at, "dataplane", "/a", bad.clone());
        std::thread::sleep(A_WHILE);
        assert_eq!([connected(&at, PLANE, "/a"), connected(&at, PLANE, "team/b")], [1, 0]);
        let judged = |granted: i64, revoked: i64| {
            (
                200,
                json!({"success": true, "action": "revalidate", "authorizationsGranted": granted,
                "authorizationsRevoked": revoked}),
            )
        };
        assert_eq!(notify(&at, PLANE, "updated", "/a"), judged(0, 1));
        assert_eq!(connected(&at, PLANE, ""), 1);
        assert_eq!(notify(&at, PLANE, "updated", "team/b"), judged(1, 0));
        assert_eq!([connected(&at, PLANE, "/a"), connected(&at, PLANE, "team/b")], [0, 1]);

        client_ca(&at, "dataplane", "/a", json!({"value": "hello"}));
        let unparsable = "re-validation failed: failed to parse new CA certificate";
        assert_eq!(text(notify(&at, PLANE, "updated", "/a")), (500, unparsable.into()));
        // Without any agent nobody parses it.
        assert_eq!(notify(&at, "dataplane/alone", "updated", "/alone"), judged(0, 0));

        client_ca(&at, "dataplane", "/a", json!({}));
        let (status, reported) = notify(&at, PLANE, "updated", "/a");
        if era.name == "v0" {
            assert_eq!(
                (status, &reported["action"], &reported["disconnectedAgents"]),
                (200, &json!("disconnect_fallback"), &json!(1))
            );
        } else {
            let unread = "failed to fetch CR CA for re-validation: CR /a not found";
            assert_eq!((status, reported.as_str(), connected(&at, PLANE, "")), (503, Some(unread), 1));
        }
        // An agent that was disconnected returns where a plane is left that trusts it.
        until_connected(&at, PLANE, 1);
        let ended = (200, json!({"success": true, "action": "disconnect", "disconnectedAgents": 1}));
        assert_eq!(notify(&at, PLANE, "deleted", "/gone"), ended);
        until_connected(&at, PLANE, 1);
        client_ca(&at, "dataplane", "/a", good.clone());
        assert_eq!(notify(&at, PLANE, "created", "/a"), if era.name == "v0" { ended } else { judged(1, 0) });
        until_connected(&at, PLANE, 1);
        let dropped = (200, json!({"success": true, "disconnectedAgents": 1}));
        assert_eq!(api(&at, "POST /api/v1/planes/dataplane/x/reconnect", &Value::Null), dropped);
        until_connected(&at, PLANE, 1);
        client_ca(&at, "dataplane", "team/b", bad.clone());
    }
}

fn the_double_reports_by_scope_and_release() {
    for era in [&V0, &V1] {
        let at = estate(&[("observabilityplane", "x")], era);
        at.order("finalizers on");
        at.control.run(&["certs", "ca", "--out-dir", "other"]).expect(0);
        let (good, bad) = (value(&at, "old/ca.crt"), value(&at, "other/ca.crt"));
        const OF: &str = "observabilityplane";

        // A new plane whose CA can't be read.
        create(&at, OF, "/unread", Some("unread"), &json!({}));
        create(&at, OF, "team/unread", None, &json!({}));
        for key in ["/unread", "team/unread"] {
            let held = until(&at, OF, key, |plane| plane["metadata"]["finalizers"].is_array());
            let name = kind(OF, key.starts_with('/')).to_lowercase();
            assert_eq!(held["metadata"]["finalizers"], json!([format!("openchoreo.dev/{name}-cleanup")]));
            if era.name == "v0" {
                until(&at, OF, key, |plane| is_created(plane) && agents(plane) == Some(0));
            } else {
                std::thread::sleep(A_WHILE);
                assert_eq!(get(&at, OF, key)["status"], Value::Null);
            }
            // One that can be read and parsed by nobody is created, for nobody is connected.
            client_ca(&at, OF, key, json!({"value": "hello"}));
            let created = until(&at, OF, key, |plane| is_created(plane) && agents(plane) == Some(0));
            let reason = format!("{}Created", kind(OF, key.starts_with('/')));
            assert_eq!(created["status"]["conditions"][0]["reason"], reason.as_str());
        }

        // Both count the agents: one those of the planeID, the other those that it authorizes.
        create(&at, OF, "/a", Some("x"), &good);
        create(&at, OF, "/b", Some("x"), &bad);
        create(&at, OF, "team/a", Some("x"), &good);
        create(&at, OF, "team/b", Some("x"), &bad);
        for (key, count) in [("/a", 1), ("/b", 1), ("team/a", 1), ("team/b", 0)] {
            let plane = until(&at, OF, key, |plane| agents(plane) == Some(count));
            assert_eq!(plane["status"]["observedGeneration"], 1, "{plane:#}");
        }
        let (namespace, kinds) = ("-n=team", [kind(OF, true), kind(OF, false)]);
        for (kind, place) in [(&kinds[0], "-n=default"), (&kinds[1], namespace)] {
            let reported = at.control.kubectl(&["get", "events", place, "-o", "json"], "").json();
            let is_of = |event: &&Value| event["involvedObject"]["kind"] == kind.as_str();
            assert_eq!(reported["items"].as_array().unwrap().iter().filter(is_of).count(), 3, "{reported:#}");
        }

        // Only an edit of a namespaced plane is noticed.
        for key in ["/b", "team/b"] {
            client_ca(&at, OF, key, good.clone());
        }
        let edited = until(&at, OF, "team/b", |plane| agents(plane) == Some(1));
        assert_eq!(edited["status"]["observedGeneration"], 2);
        assert_eq!(get(&at, OF, "/b")["status"]["observedGeneration"], 1);

        // Edited so that its CA can't be read: from v1.0 on, nothing is reported any more, and so its heartbeat ages.
        client_ca(&at, OF, "team/b", json!({}));
        client_ca(&at, OF, "/b", json!({}));
        if era.name == "v0" {
            until(&at, OF, "team/b", |plane| agents(plane) == Some(0));
        } else {
            std::thread::sleep(A_WHILE);
            let before = get(&at, OF, "team/b");
            std::thread::sleep(A_WHILE);
            assert_eq!(before["status"]["observedGeneration"], 2);
            assert_eq!(
                (get(&at, OF, "team/b")["status"].clone(), agents(&before)),
                (before["status"].clone(), Some(1))
            );
        }
        let beat = |plane: &Value| plane["status"]["agentConnection"]["lastHeartbeatTime"].clone();
        let before = get(&at, OF, "/b");
        until(&at, OF, "/b", |plane| beat(plane) != beat(&before) && agents(plane) == Some(1));

        // What the gateway doesn't answer isn't reported. Up to v0.17 the double doesn't play that.
        if era.name == "v1" {
            for mode in ["other", "expired", "silent"] {
                at.order(&format!("gateway {mode}"));
                std::thread::sleep(A_WHILE);
                let before = get(&at, OF, "/a");
                std::thread::sleep(A_WHILE);
                assert_eq!(
                    (get(&at, OF, "/a")["status"].clone(), agents(&before)),
                    (before["status"].clone(), Some(1))
                );
                at.order("gateway well");
                until(&at, OF, "/a", |plane| beat(plane) != beat(&before));
            }
        }
    }
}

fn the_double_lets_go_of_planes_of_its_own_release_only() {
    let at = estate(&[("buildplane", "x")], &V0);
    at.order("finalizers on");
    let ca = value(&at, "old/ca.crt");
    for (era, own) in [(&V0, "buildplane"), (&V1, "workflowplane")] {
        at.order(&format!("era {}", era.name));
        at.order("finalizers on");
        for plane_type in era.types {
            for key in ["/gone", "team/gone"] {
                create(&at, plane_type, key, Some("gone"), &ca);
                until(&at, plane_type, key, is_created);
                delete(&at, plane_type, key);
            }
        }
        create(&at, own, "/left", Some("left"), &ca);
        until(&at, own, "/left", is_created);
    }
    // No controller of v1.x holds a build plane, so nobody lets go of it.
    at.control.api().delete(&path("buildplane", "/left"));
    std::thread::sleep(A_WHILE);
    assert_ne!(get(&at, "buildplane", "/left"), Value::Null);
    // Without the gateway nothing can be deleted.
    at.order("gateway silent");
    at.control.api().delete(&path("workflowplane", "/left"));
    std::thread::sleep(A_WHILE);
    assert_ne!(get(&at, "workflowplane", "/left"), Value::Null);
    at.order("gateway well");
    until(&at, "workflowplane", "/left", Value::is_null);
}

fn the_double_has_agents_of_several_families() {
    let families = V1.types.map(|plane_type| (plane_type, "default"));
    let at = estate(&families, &V1);
    at.order("logs on");
    for plane_type in V1.types {
        // A pod of the time before is not on the node, and had another type's release.
        let (namespace, name) = names(plane_type);
        at.build.kubectl(&["rollout", "restart", "deployment", "-n", &namespace, &name], "");
        let folder = if plane_type == V1.types[0] { "old" } else { plane_type };
        create(&at, plane_type, "/default", Some("default"), &value(&at, &format!("{folder}/ca.crt")));
        create(&at, plane_type, "team/b", Some("default"), &value(&at, "old/ca.crt"));
    }
    for plane_type in V1.types {
        until(&at, plane_type, "/default", |plane| agents(plane) == Some(1));
        let of_data = i64::from(plane_type == V1.types[0]);
        until(&at, plane_type, "team/b", |plane| agents(plane) == Some(of_data));
    }
    // Who loses its CA is the only one that is refused.
    at.order("reset");
    client_ca(&at, "workflowplane", "/default", value(&at, "old/ca.crt"));
    until(&at, "workflowplane", "/default", |plane| agents(plane) == Some(0));
    let reported = at.numbers();
    for plane_type in V1.types {
        let (namespace, name) = names(plane_type);
        let of_agent = &reported["agents"][format!("{namespace}/{name}")];
        let [authorized, refused] = ["authorized", "refused"].map(|is| of_agent[is].as_u64() > Some(0));
        assert!(if plane_type == "workflowplane" { refused } else { authorized && !refused }, "{reported:#}");
    }
    assert_eq!(
        (&reported["refusals"][0]["planeType"], &reported["refusals"][0]["planeID"]),
        (&json!("workflowplane"), &json!("default"))
    );

    // The logs of the gateway, and of an agent.
    let gateway = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "gateway"},
        "spec": {"nodeName": "double", "containers": [{"name": "gateway", "image": "gateway"}]}});
    at.control.kubectl(&["apply", "-f", "-"], &gateway.to_string());
    let log = at.control.kubectl(&["logs", "gateway"], "").stdout;
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let connected = lines.iter().filter(|line| line["msg"] == "agent connected successfully");
    let connected: Vec<_> = connected.map(|line| (line["planeType"].as_str().unwrap(), &line["validCRs"])).collect();
    assert!(connected.contains(&("dataplane", &json!(["/default", "team/b"]))), "{log}");
    assert!(connected.contains(&("observabilityplane", &json!(["/default"]))), "{log}");
    let agents_log = |plane_type: &str| {
        let (namespace, name) = names(plane_type);
        let more = ["--tail=1", "-n", &namespace];
        at.build.kubectl(&[&["logs", &format!("deployment/{name}")][..], &more].concat(), "").stdout
    };
    assert!(agents_log("observabilityplane").contains("connected to control plane"));
    assert!(agents_log("workflowplane").contains("dial failed: websocket: bad handshake"));

    // An agent of another release doesn't run, whatever the gateway is.
    let (namespace, name) = names("dataplane");
    for (image, plane_type, runs) in [
        ("agent", "buildplane", false),
        ("agent:v0", "buildplane", true),
        ("agent:v0", "workflowplane", false),
        ("agent:v1", "workflowplane", true),
    ] {
        let mut wanted = agent("dataplane", "default");
        let container = &mut wanted["spec"]["template"]["spec"]["containers"][0];
        container["image"] = image.into();
        container["args"][1] = format!("--plane-type={plane_type}").into();
        at.build.api().write(&format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}"), &wanted);
        let deadline = Instant::now() + SOON;
        loop {
            let pods = at.build.api().get(&format!("/api/v1/namespaces/{namespace}/pods")).unwrap();
            let states = pods["items"].as_array().unwrap().iter().filter_map(|pod| {
                let container = &pod["spec"]["containers"][0];
                let is_meant =
                    container["image"] == image && container["args"][1] == format!("--plane-type={plane_type}");
                is_meant.then(|| pod["status"]["containerStatuses"][0]["state"].clone())
            });
            let states: Vec<_> = states.collect();
            let crashes = |state: &Value| state["waiting"]["reason"] == "CrashLoopBackOff";
            if states.iter().any(|state| if runs { state["running"].is_object() } else { crashes(state) }) {
                break;
            }
            assert!(Instant::now() < deadline, "{image} as {plane_type}: {states:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
