//! Every verb against servers that break, lie, or never end: none of it needs a real API server.
//!
//! What is asserted of each run: it ends, it does not panic, its exit code does not call a failure a success, its memory is
//! bounded, its output holds nothing that a terminal obeys, and its token goes to no other host. How long runs take is
//! printed. SIEGE=long runs all pairs of a verb and a break, and breaks every kind of request, not only those about planes.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_choreoctl");
const DISCOVERY: &str = "/apis/openchoreo.dev/v1alpha1";
const PLANES: &str = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes";
const TOKEN: &str = "siege-token-of-nobody-else";
/// Most memory that a run may take.
const MEMORY: usize = 256 << 20;
/// The time-out of a request or of what is waited for, and a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// A run that takes longer hangs.
const HANGS: Duration = Duration::from_secs(120);
/// How long a server that is slow or silent keeps a connection open.
const SILENCE: Duration = Duration::from_secs(20);
/// How many of the slowest and of the largest runs are reported.
const TOLD: usize = 12;
/// How many runs there are at once: most of their time they wait.
const AT_ONCE: usize = 12;

/// Every verb that talks to a cluster. FOLDER is a folder of the run's own, FILES what all runs share.
const VERBS: &[&str] = &[
    "get",
    "get a",
    "get planes -A -o wide",
    "get -o json",
    "get -o yaml",
    "get -o name",
    "get -o custom-columns=N:.metadata.name,S:.connection.state",
    "get -w",
    "describe",
    "describe a -o json",
    "doctor",
    "doctor a --plane-context c -o json",
    "status",
    "forecast",
    "timeline a --plane-context c",
    "dump a --plane-context c -o FOLDER/dump.json",
    "logs a --plane-context c",
    "restart a --plane-context c --yes --timeout 2s",
    "watch --timeout 2s",
    "watch planes -A -o json --timeout 2s",
    "wait a --for connected --timeout 2s",
    "wait --all --for deleted --timeout 2s",
    "wait a --for trusted --cert FILES/tls.crt --timeout 2s",
    "certs inspect",
    "certs inspect secret/n/s plane/a configmap/n/c",
    "certs verify --cert FILES/tls.crt",
    "certs renew a --plane-context c --yes --timeout 2s",
    "certs rotate a --plane-context c --yes --timeout 2s",
    "create b --client-ca-file FILES/ca.crt",
    "create b --client-ca-file FILES/ca.crt --dry-run server",
    "apply -f FILES/plane.json --wait --timeout 2s",
    "diff -f FILES/plane.json",
    "delete a --yes --timeout 2s",
    "validate --server FILES/plane.json",
    "bootstrap a --plane-context c --out-dir FOLDER/out --yes --timeout 2s",
    "unregister a --plane-context c --yes --timeout 2s",
    "migrate a --plane-context c --out-dir FOLDER/out --yes --timeout 2s",
    "version",
    "completion",
];

/// What comes out of a break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nothing that a verb was asked for can be known.
    Failure,
    /// The answers are odd, and can be represented.
    Odd,
}
use Outcome::{Failure, Odd};

/// What a break is done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Planes,
    Watch,
    Everything,
}

type Answer = fn(&Request, TcpStream);

struct Break {
    name: &'static str,
    outcome: Outcome,
    target: Target,
    answer: Answer,
}

const fn of(name: &'static str, outcome: Outcome, answer: Answer) -> Break {
    Break { name, outcome, target: Target::Planes, answer }
}

const fn of_watch(name: &'static str, answer: Answer) -> Break {
    Break { name, outcome: Odd, target: Target::Watch, answer }
}

const BREAKS: &[Break] = &[
    of("cut in mid-body", Failure, |_, to| say(to, "200 OK\r\nContent-Length: 100000", &text(&planes(3))[..900])),
    of("cut in mid-chunk", Failure, |_, to| say(to, "200 OK\r\nTransfer-Encoding: chunked", "fff\r\n{\"kind\":")),
    of("closed at once", Failure, |_, to| drop(to)),
    of("no HTTP", Failure, |_, mut to| drop(to.write_all(&b"\x16\x03\x01\x02\x00\x1b]0;x\x07\xff".repeat(99)))),
    of("429 and an hour", Failure, |_, to| say(to, "429 Too Many Requests\r\nRetry-After: 3600", "")),
    of("429 for ever", Failure, |_, to| say(to, "429 Too Many Requests", "")),
    of("500", Failure, |_, to| status(to, 500, "InternalError")),
    of("503", Failure, |_, to| status(to, 503, "ServiceUnavailable")),
    of("401 for ever", Failure, |_, to| status(to, 401, "Unauthorized")),
    of("401 once", Odd, |request, to| match request.number {
        0 => status(to, 401, "Unauthorized"),
        _ => honest(request, to),
    }),
    of("403", Failure, |_, to| status(to, 403, "Forbidden")),
    of("410 in mid-list", Failure, |request, to| match request.path.contains("continue=") || !request.is_list() {
        true => status(to, 410, "Expired"),
        false => ok(to, &page(planes(3), "next")),
    }),
    of("an HTML page", Failure, |_, to| say(to, "200 OK\r\nContent-Type: text/html", "<html>\x1b[2J")),
    of("an HTML page without a type", Failure, |_, to| say(to, "200 OK", "<html>\x1b[2J")),
    of("gzip that grows a thousandfold", Failure, |_, mut to| {
        static GZIP: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            gzip.write_all(b"{\"kind\":\"").unwrap();
            (0..200).for_each(|_| gzip.write_all(&vec![b'a'; 1 << 20]).unwrap());
            gzip.finish().unwrap()
        });
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\n\r\n");
        let _ = to.write_all(&GZIP);
    }),
    of("an endless text", Failure, |_, to| endless(to, "{\"kind\":\"", &"a".repeat(1 << 16))),
    of("an endless array", Failure, |_, to| endless(to, "{\"kind\":[", &"{\"\":0},".repeat(1 << 13))),
    of("endless items", Failure, |_, to| {
        let all = text(&planes(500));
        let (head, items) = all.split_once("\"items\":[").unwrap();
        endless(to, &format!("{head}\"items\":["), &format!("{},", items.trim_end_matches("]}")));
    }),
    of("endless headers", Failure, |_, to| endless(to, "HTTP/1.1 200 OK\r\n", &"X-A: b\r\n".repeat(1 << 10))),
    of("a continue token without end", Failure, |request, to| match request.is_list() {
        true => {
            // In the short form few planes are large: that takes less time to read.
            static PAGE: LazyLock<String> = LazyLock::new(|| match is_long() {
                true => text(&page(planes(500), "next")),
                false => text(&page(planes(50), "next")).replace("\"m\"", &format!("\"{}\"", "m".repeat(10_000))),
            });
            say(to, "200 OK\r\nContent-Type: application/json", &PAGE);
        }
        false => status(to, 500, "InternalError"),
    }),
    of("an empty page without end", Failure, |request, to| match request.is_list() {
        true => ok(to, &page(planes(0), "next")),
        false => status(to, 500, "InternalError"),
    }),
    of("a slow page without end", Failure, |request, to| {
        // Each is in time: all that are allowed would take longer than a run may.
        std::thread::sleep(Duration::from_millis(900));
        match request.is_list() {
            true => ok(to, &page(planes(1), "next")),
            false => status(to, 500, "InternalError"),
        }
    }),
    of("a redirect to another host", Failure, |request, to| {
        say(to, &format!("307 Temporary Redirect\r\nLocation: {}", request.elsewhere), "");
    }),
    of("a redirect that ends with the other host's answer", Failure, |request, to| {
        say(to, &format!("302 Found\r\nLocation: {}{}", request.elsewhere, request.path), &text(&planes(1)));
    }),
    of("silence", Failure, |_, to| {
        std::thread::sleep(SILENCE);
        drop(to);
    }),
    of("one byte a second", Failure, |_, mut to| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10000\r\n\r\n";
        let _ = to.write_all(head.as_bytes());
        for byte in text(&planes(1)).bytes().take(20) {
            if to.write_all(&[byte]).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_secs(1));
        }
    }),
    of("another kind", Failure, |_, to| {
        let secrets =
            json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {}, "items": [{"data": {"a": "eA=="}}]});
        ok(to, &secrets);
    }),
    of("no kind", Failure, |_, to| ok(to, &json!({}))),
    of("a status under 200", Failure, |_, to| {
        ok(to, &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 500}))
    }),
    of("an array", Failure, |_, to| ok(to, &json!([1, 2]))),
    of("bytes that are no UTF-8", Failure, |_, mut to| {
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n{\"\xff\":0");
    }),
    of("100,000 levels", Failure, |_, to| {
        let deep = format!("{{\"kind\":\"ClusterBuildPlaneList\",\"items\":{}", "[".repeat(100_000));
        say(to, "200 OK\r\nContent-Type: application/json", &deep);
    }),
    of("100,000 levels in a plane", Failure, |request, to| {
        let whole = if request.is_list() { planes(2) } else { plane("a") };
        let deep = format!("\"other\":{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        say(
            to,
            "200 OK\r\nContent-Type: application/json",
            &text(&whole).replace("\"planeID\"", &format!("{deep},\"planeID\"")),
        );
    }),
    of("100 MB in one annotation", Failure, |request, mut to| {
        let mut odd = plane("a");
        odd["metadata"]["annotations"] = json!({"a": "HERE"});
        let whole = text(&if request.is_list() { list(json!([odd])) } else { odd });
        let (head, tail) = whole.split_once("HERE").unwrap();
        let _ = write!(to, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{head}");
        let part = "a".repeat(1_000_000);
        if (0..100).all(|_| to.write_all(part.as_bytes()).is_ok()) {
            let _ = to.write_all(tail.as_bytes());
        }
    }),
    of("items that are null", Odd, |request, to| match request.is_list() {
        true => ok(to, &list(Value::Null)),
        false => status(to, 404, "NotFound"),
    }),
    of("fields that are null", Odd, |request, to| {
        odd(request, to, |plane| {
            for field in ["labels", "annotations", "managedFields", "creationTimestamp", "finalizers"] {
                plane["metadata"][field] = Value::Null;
            }
            (plane["spec"]["clusterAgent"], plane["status"]) = (Value::Null, Value::Null);
        })
    }),
    of("fields of other types", Odd, |request, to| {
        odd(request, to, |plane| {
            (plane["metadata"]["labels"], plane["spec"], plane["status"]) = (json!([1]), json!("a"), json!([{}]));
        })
    }),
    of("numbers out of range", Odd, |request, to| {
        odd(request, to, |plane| {
            let huge: Value = serde_json::from_str("1e308").unwrap();
            plane["metadata"]["generation"] = huge.clone();
            plane["status"] =
                json!({"observedGeneration": -9e300, "agentConnection": {"connected": true, "connectedAgents": huge}});
        })
    }),
    of("times of the year 99999", Odd, |request, to| {
        odd(request, to, |plane| {
            let time = "99999-12-31T23:59:59Z";
            plane["metadata"]["creationTimestamp"] = time.into();
            plane["metadata"]["deletionTimestamp"] = time.into();
            plane["status"] = json!({"agentConnection": {"connected": true, "connectedAgents": 1, "lastHeartbeatTime": time,
            "lastConnectedTime": time, "lastDisconnectedTime": "-99999-01-01T00:00:00Z"}});
        })
    }),
    of("names with escapes", Odd, |request, to| {
        odd(request, to, |plane| {
            let evil = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{202e}evil\r\n\u{9b}31m/../..";
            for pointer in ["/metadata/name", "/metadata/uid", "/spec/planeID", "/spec/clusterAgent/clientCA/value"] {
                *plane.pointer_mut(pointer).unwrap() = evil.into();
            }
            plane["metadata"]["labels"] = json!({evil: evil});
            plane["metadata"]["annotations"] = json!({"openchoreo.dev/display-name": evil});
            plane["status"] = json!({"agentConnection": {"connected": false, "connectedAgents": 0, "message": evil}});
        })
    }),
    of("warnings without end", Odd, |request, to| {
        let warnings: String =
            (0..90).map(|at| format!("\r\nWarning: 299 - \"\u{1b}[2J{at}{}\"", request.number)).collect();
        reply(request, to, &warnings);
    }),
    of_watch("a watch that is cut in mid-event", |_, to| {
        say(to, "200 OK\r\nContent-Length: 100000", &event("MODIFIED", &plane("a"))[..200]);
    }),
    of_watch("a watch that ends at once", |_, to| say(to, "200 OK", "")),
    of_watch("410 in mid-watch", |_, to| {
        let gone =
            json!({"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"});
        say(to, "200 OK", &format!("{}{}", event("MODIFIED", &plane("a")), event("ERROR", &gone)));
    }),
    of_watch("401 for every watch", |_, to| status(to, 401, "Unauthorized")),
    of_watch("403 for every watch", |_, to| status(to, 403, "Forbidden")),
    of_watch("429 for every watch", |_, to| say(to, "429 Too Many Requests\r\nRetry-After: 3600", "")),
    of_watch("500 for every watch", |_, to| status(to, 500, "InternalError")),
    of_watch("a silent watch", |_, to| {
        std::thread::sleep(SILENCE);
        drop(to);
    }),
    of_watch("an endless line", |_, to| endless(to, "{\"type\":\"", &"a".repeat(1 << 16))),
    of_watch("an endless event", |_, to| endless(to, "{\"object\":[", &"{\"\":0},".repeat(1 << 13))),
    of_watch("events of no kind", |_, to| say(to, "200 OK", &event("MODIFIED", &json!({"kind": "Secret"})))),
    of_watch("an event of no type", |_, to| say(to, "200 OK", &event("BROKEN", &plane("a")))),
    of_watch("100,000 levels in an event", |_, to| {
        say(to, "200 OK", &format!("{{\"object\":{}\n", "[".repeat(100_000)))
    }),
    of_watch("the same event without end", |_, to| endless(to, "", &event("MODIFIED", &plane("a")).repeat(50))),
];

/// A request, as far as it matters here.
struct Request {
    method: String,
    path: String,
    /// How many requests of this sort came before it.
    number: usize,
    /// The URL of another server.
    elsewhere: String,
    body: Vec<u8>,
}

impl Request {
    fn is_watch(&self) -> bool {
        self.path.contains("watch=true")
    }

    fn is_list(&self) -> bool {
        self.method == "GET" && self.path.split('?').next().unwrap().ends_with("planes")
    }

    fn is_meant(&self, target: Target) -> bool {
        match target {
            Target::Everything => true,
            Target::Planes => self.path.starts_with(PLANES),
            Target::Watch => self.is_watch(),
        }
    }
}

fn text(value: &Value) -> String {
    value.to_string()
}

fn plane(name: &str) -> Value {
    json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z",
            "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "openchoreo.dev/v1alpha1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:planeID": {}}}}]},
        "spec": {"planeID": name, "clusterAgent": {"clientCA": {"value": "-----BEGIN CERTIFICATE-----\n".to_owned() + &"A".repeat(900)}}},
        "status": {"agentConnection": {"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-01-01T00:00:00Z"},
            "conditions": [{"type": "Created", "status": "True", "reason": "X", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
    })
}

fn list(items: Value) -> Value {
    json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlaneList",
        "metadata": {"resourceVersion": "1"}, "items": items,
    })
}

fn planes(count: usize) -> Value {
    list((0..count).map(|at| plane(&format!("a{at}"))).collect())
}

fn page(mut list: Value, token: &str) -> Value {
    list["metadata"]["continue"] = token.into();
    list
}

fn event(kind: &str, object: &Value) -> String {
    json!({"type": kind, "object": object}).to_string() + "\n"
}

/// Writes an answer; its length is not reported where the head has one.
fn say(mut to: TcpStream, head: &str, body: &str) {
    let _ = write!(to, "HTTP/1.1 {head}\r\nConnection: close\r\n\r\n{body}");
}

fn ok(to: TcpStream, body: &Value) {
    let body = body.to_string();
    say(to, &format!("200 OK\r\nContent-Type: application/json\r\nContent-Length: {}", body.len()), &body);
}

fn status(to: TcpStream, code: u16, reason: &str) {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": "no"});
    say(to, &format!("{code} {reason}\r\nContent-Type: application/json"), &body.to_string());
}

fn endless(mut to: TcpStream, start: &str, part: &str) {
    if !start.starts_with("HTTP") {
        let _ = to.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
    }
    let _ = to.write_all(start.as_bytes());
    let started = Instant::now();
    while started.elapsed() < HANGS && to.write_all(part.as_bytes()).is_ok() {}
}

/// Answers with one plane, or a list of it, that was made odd.
fn odd(request: &Request, to: TcpStream, change: fn(&mut Value)) {
    let mut odd = plane("a");
    change(&mut odd);
    ok(to, &if request.is_list() { list(json!([odd, plane("b")])) } else { odd });
}

/// Answers as an API server would that has one plane and nothing else.
fn honest(request: &Request, to: TcpStream) {
    reply(request, to, "");
}

fn reply(request: &Request, to: TcpStream, headers: &str) {
    let path = request.path.split('?').next().unwrap();
    let answer = match (request.method.as_str(), path) {
        _ if request.is_watch() => {
            say(to.try_clone().unwrap(), "200 OK\r\nContent-Type: application/json", "");
            return std::thread::sleep(Duration::from_secs(5));
        }
        ("GET", DISCOVERY) => {
            let resources = json!([{"name": "clusterbuildplanes", "kind": "ClusterBuildPlane"}]);
            json!({"kind": "APIResourceList", "apiVersion": "v1", "resources": resources})
        }
        ("GET", PLANES) => list(json!([plane("a")])),
        ("GET", "/version") => {
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""})
        }
        ("GET" | "PATCH" | "DELETE", path) if path == format!("{PLANES}/a") => plane("a"),
        ("POST", _) => {
            let mut object: Value = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
            if object["kind"] == "SelfSubjectAccessReview" {
                object["status"] = json!({"allowed": true});
            }
            object
        }
        _ => return status(to, 404, "NotFound"),
    };
    let body = answer.to_string();
    say(to, &format!("200 OK\r\nContent-Type: application/json{headers}\r\nContent-Length: {}", body.len()), &body);
}

/// Takes one request of a connection.
fn receive(stream: &TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header).ok()? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((method, path, body))
}

/// Starts a server that does this break to requests of this sort; its URL.
fn serve(answer: Answer, target: Target, elsewhere: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (count, elsewhere) = (count.clone(), elsewhere.clone());
            std::thread::spawn(move || {
                let Some((method, path, body)) = receive(&stream) else { return };
                let mut request = Request { method, path, number: 0, elsewhere, body };
                if request.is_meant(target) {
                    request.number = count.fetch_add(1, Ordering::SeqCst);
                    answer(&request, stream);
                } else {
                    honest(&request, stream);
                }
            });
        }
    });
    url
}

/// What all runs share: certificates, a manifest, and a server that nobody may ask.
struct Ground {
    folder: tempfile::TempDir,
    elsewhere: String,
    strays: Arc<AtomicUsize>,
}

impl Ground {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for args in ["certs ca --out-dir FILES", "certs client --plane-id a --ca-dir FILES"] {
            let args = args.replace("FILES", folder.path().to_str().unwrap());
            let made = Command::new(BINARY).args(args.split(' ')).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        let ca = fs::read_to_string(folder.path().join("ca.crt")).unwrap();
        let mut plane = plane("a");
        plane["metadata"] = json!({"name": "a"});
        plane["spec"]["clusterAgent"]["clientCA"]["value"] = ca.into();
        plane.as_object_mut().unwrap().remove("status");
        fs::write(folder.path().join("plane.json"), plane.to_string()).unwrap();
        let strays = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let elsewhere = format!("http://localhost:{}", listener.local_addr().unwrap().port());
        let seen = strays.clone();
        std::thread::spawn(move || {
            listener.incoming().for_each(|_| {
                seen.fetch_add(1, Ordering::SeqCst);
            })
        });
        Self { folder, elsewhere, strays }
    }
}

/// What a run came to.
struct Run {
    code: Option<i32>,
    output: String,
    elapsed: Duration,
    memory: usize,
}

/// The most memory that a process has held by now, in bytes; 0 where the system does not tell.
fn peak(id: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    // Before it is what it will be, it is a copy of the tests.
    if !status.starts_with("Name:\tchoreoctl\n") {
        return 0;
    }
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
    peak.and_then(|peak| peak.parse::<usize>().ok()).unwrap_or_default() << 10
}

fn kubeconfig(url: &str) -> String {
    let kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
    });
    kubeconfig.to_string()
}

fn run(verb: &str, url: &str, ground: &Ground) -> Run {
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("kubeconfig"), kubeconfig(url)).unwrap();
    let [out, err] = ["out", "err"].map(|name| fs::File::create(own.path().join(name)).unwrap());
    let mut command = Command::new(BINARY);
    if verb == "completion" {
        command.env("COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "2").args(["--", "choreoctl", "get", ""]);
    } else {
        let place = |path: &Path| path.to_str().unwrap().to_owned();
        let args = verb.replace("FOLDER", &place(own.path())).replace("FILES", &place(ground.folder.path()));
        command.args(args.split(' ')).args(["--request-timeout", "1s", "--no-config"]);
    }
    command.env("KUBECONFIG", own.path().join("kubeconfig")).env("NO_COLOR", "1").stdin(Stdio::null());
    let started = Instant::now();
    let mut child = command.stdout(out).stderr(err).spawn().unwrap();
    let mut memory = 0;
    // `get -w` goes on until it is interrupted.
    let limit = if verb == "get -w" { Duration::from_secs(3) } else { HANGS };
    let status = loop {
        memory = memory.max(peak(child.id()));
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if started.elapsed() > limit => {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let read = |name: &str| String::from_utf8_lossy(&fs::read(own.path().join(name)).unwrap()).into_owned();
    let code = match status {
        Some(status) => status.code(),
        None => (verb == "get -w").then_some(124),
    };
    Run { code, output: read("out") + &read("err"), elapsed: started.elapsed(), memory }
}

/// What is wrong with a run.
fn faults(verb: &str, outcome: Outcome, run: &Run) -> Vec<String> {
    let mut faults = Vec::new();
    let mut check = |holds: bool, text: &str| {
        if !holds {
            faults.push(text.to_owned());
        }
    };
    let judges = ["doctor", "forecast", "diff", "certs", "status"].iter().any(|word| verb.starts_with(word));
    match run.code {
        _ if verb == "completion" => check(run.code == Some(0), "a shell is not disturbed"),
        None => check(false, "it hangs or was killed"),
        Some(code) if outcome == Failure => {
            // Its own version is known in any case, and asked for is that of the server.
            check(matches!(code, 2 | 124) || (judges && code == 1), &format!("exit code {code}"));
        }
        Some(code) => check(matches!(code, 0..=3 | 124), &format!("exit code {code}")),
    }
    check(!run.output.contains("panicked") && !run.output.contains("overflowed"), "it panics");
    check(!run.output.contains(TOKEN), "it prints the token");
    check(run.memory < MEMORY, &format!("{} MiB", run.memory >> 20));
    let raw = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
    check(verb == "completion" || !run.output.contains(raw), "raw escapes");
    faults
}

/// Whether the environment asks for the long form.
fn is_long() -> bool {
    std::env::var("SIEGE").is_ok_and(|form| form == "long")
}

/// What is run: each break against each verb; in the short form each break against a third of them, and each verb against a
/// third of the breaks.
fn jobs() -> Vec<(&'static Break, Target, &'static str)> {
    let targets: &[Target] = if is_long() { &[Target::Planes, Target::Everything] } else { &[Target::Planes] };
    let mut jobs = Vec::new();
    for (row, breakage) in BREAKS.iter().enumerate() {
        let own = [breakage.target];
        for target in if breakage.target == Target::Planes { targets } else { &own } {
            let verbs = VERBS.iter().enumerate().filter(|(column, _)| is_long() || (row + column) % 9 == 0);
            jobs.extend(verbs.map(|(_, verb)| (breakage, *target, *verb)));
        }
    }
    let wanted = std::env::var("SIEGE_ONLY").unwrap_or_default();
    jobs.retain(|(breakage, _, verb)| format!("{verb}: {}", breakage.name).contains(&wanted));
    jobs
}

#[test]
fn every_verb_ends_well_against_every_break() {
    let ground = Ground::new();
    let jobs = Mutex::new(jobs());
    let count = jobs.lock().unwrap().len();
    let (wrong, runs) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some((breakage, target, verb)) = jobs.lock().unwrap().pop() else { break };
                    let url = serve(breakage.answer, target, ground.elsewhere.clone());
                    let run = run(verb, &url, &ground);
                    let title = format!("{verb}: {} ({target:?})", breakage.name);
                    // Verbs that do not read what is broken answer as ever.
                    let is_read = verb != "version" || target == Target::Everything;
                    for fault in faults(verb, if is_read { breakage.outcome } else { Odd }, &run) {
                        let tail: String = run.output.chars().take(300).collect();
                        wrong.lock().unwrap().push(format!("{title}: {fault}: {}", tail.escape_debug()));
                    }
                    runs.lock().unwrap().push((run.elapsed, run.memory, title));
                }
            });
        }
    });
    println!("{count} runs of {} verbs against {} breaks", VERBS.len(), BREAKS.len());
    let mut runs = runs.into_inner().unwrap();
    runs.sort_by_key(|(elapsed, ..)| std::cmp::Reverse(*elapsed));
    let late = runs.iter().filter(|(elapsed, ..)| *elapsed > PATIENCE).count();
    println!("{late} runs took longer than {} s", PATIENCE.as_secs());
    for (elapsed, _, title) in runs.iter().take(TOLD) {
        println!("{:6.1} s  {title}", elapsed.as_secs_f32());
    }
    runs.sort_by_key(|(_, memory, _)| std::cmp::Reverse(*memory));
    for (_, memory, title) in runs.iter().take(TOLD) {
        println!("{:4} MiB  {title}", memory >> 20);
    }
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {count} runs went wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(ground.strays.load(Ordering::SeqCst), 0, "another host was asked");
}

#[test]
fn what_a_cluster_verb_writes_to_a_full_disk_is_not_there() {
    if !Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .status()
        .is_ok_and(|mount| mount.success())
    {
        println!("skipped: a full disk needs the right to mount");
        return;
    }
    let ground = Ground::new();
    let url = serve(honest, Target::Everything, ground.elsewhere.clone());
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("kubeconfig"), kubeconfig(&url)).unwrap();
    fs::create_dir(own.path().join("disk")).unwrap();
    for (verb, file) in [
        ("dump a --plane-context c -o disk/dump.json --no-config", "dump.json\n"),
        ("config set cbp/a --plane-context c", "config.yaml\n"),
    ] {
        for (before, code, left) in [("", 0, file), ("cat /dev/zero > disk/fill 2> /dev/null;", 2, "fill\n")] {
            let run = format!("{BINARY} {verb}; code=$?; ls -A disk >&2; exit $code");
            let line = format!("mount -t tmpfs -o size=16k none disk && {before} {run}");
            let mut command = Command::new("unshare");
            command.args(["-rm", "sh", "-c", &line]).current_dir(own.path()).stdin(Stdio::null());
            command.env("KUBECONFIG", "kubeconfig").env("CHOREOCTL_CONFIG", "disk/config.yaml");
            let done = command.output().unwrap();
            let text = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.code() == Some(code) && text.ends_with(left), "{verb}: {:?}: {text}", done.status);
        }
    }
}
