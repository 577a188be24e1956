//! The binary against servers that answer, but not as an API server does: none of it needs a real one.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_choreoctl");
const DISCOVERY: &str = "/apis/openchoreo.dev/v1alpha1";
const PLANES: &str = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes";

/// A status line with headers, and a body.
type Answer = (String, String);

/// A server whose every answer a function makes of the request's path and query.
struct Server {
    folder: tempfile::TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// One that says which kinds it has as an API server does.
    fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let resources = json!([{"name": "clusterbuildplanes", "kind": "ClusterBuildPlane"}]);
        let kinds = json!({"kind": "APIResourceList", "apiVersion": "v1", "resources": resources});
        Self::hostile(move |path| if path == DISCOVERY { ok(&kinds) } else { answer(path) })
    }

    fn hostile(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": format!("http://127.0.0.1:{port}")}}],
            "users": [{"name": "u", "user": {}}],
        });
        fs::write(folder.path().join("kubeconfig"), kubeconfig.to_string()).unwrap();
        let requests: Arc<Mutex<Vec<String>>> = Arc::default();
        let (seen, answer) = (requests.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
                    let first = lines.next().unwrap_or_default();
                    lines.take_while(|line| !line.is_empty()).for_each(drop);
                    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                    let (head, body) = answer(&path);
                    seen.lock().unwrap().push(path);
                    let length = body.len();
                    let mut stream = stream;
                    let _ = write!(
                        stream,
                        "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                    );
                });
            }
        });
        Self { folder, requests }
    }

    /// One that gives every request the same answer, and one that does so but for what it has.
    fn saying(head: &str, body: &str) -> [Self; 2] {
        let answer = (head.to_owned(), body.to_owned());
        let same = move |_: &str| answer.clone();
        [Self::hostile(same.clone()), Self::start(same)]
    }

    fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(args).env("KUBECONFIG", self.folder.path().join("kubeconfig")).env("NO_COLOR", "1");
        command.output().unwrap()
    }

    /// Runs a command that ends with this code, and returns both of its outputs.
    #[track_caller]
    fn ends(&self, args: &[&str], code: i32) -> (String, String) {
        let output = self.run(args);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
        (out, err)
    }

    fn count(&self, part: &str) -> usize {
        self.requests.lock().unwrap().iter().filter(|path| path.contains(part)).count()
    }
}

fn ok(body: &Value) -> Answer {
    ("200 OK\r\nContent-Type: application/json".into(), body.to_string())
}

fn plane(name: &str) -> Value {
    json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
        "metadata": {"name": name, "uid": name, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"planeID": name, "clusterAgent": {"clientCA": {"value": "x"}}},
    })
}

fn list(items: Value) -> Value {
    json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlaneList",
        "metadata": {"resourceVersion": "1"}, "items": items,
    })
}

#[test]
fn what_answers_instead_of_an_api_server_is_named() {
    let json = "Content-Type: application/json";
    let secrets = json!({"apiVersion": "v1", "kind": "SecretList", "metadata": {"resourceVersion": "1"},
        "items": [{"metadata": {"name": "s"}, "data": {"a": "eA=="}}]});
    for (head, body, words) in [
        (
            "200 OK\r\nContent-Type: text/html".to_owned(),
            "<html>".to_owned(),
            "answered with text/html (200 OK) instead of JSON",
        ),
        (
            "302 Found\r\nLocation: https://login.example/".into(),
            String::new(),
            "a redirect to https://login.example/ (302 Found)",
        ),
        ("502 Bad Gateway\r\nContent-Type: text/html".into(), "<html>".into(), "text/html (502 Bad Gateway)"),
        ("429 Too Many Requests\r\nRetry-After: 3600".into(), String::new(), "is busy and asks to wait 1h"),
        (format!("200 OK\r\n{json}"), secrets.to_string(), "a SecretList instead of LIST"),
        (format!("200 OK\r\n{json}"), "{}".into(), "an object without a kind instead of LIST"),
        (format!("200 OK\r\n{json}"), "{".into(), "can't be understood"),
    ] {
        for (server, list) in
            Server::saying(&head, &body).into_iter().zip(["an APIResourceList", "a ClusterBuildPlaneList"])
        {
            let words = &words.replace("LIST", list);
            let started = Instant::now();
            let (out, err) = server.ends(&["get", "--request-timeout", "5s"], 2);
            assert!(out.is_empty() && err.contains(words), "{words}: {out}{err}");
            assert!(err.contains("127.0.0.1") && started.elapsed() < Duration::from_secs(4), "{err}");
            assert!(words.contains("understood") || err.contains("hint:"), "{err}");
            for args in
                [&["describe"][..], &["certs", "inspect"], &["wait", "--all", "--for", "connected", "--timeout", "9s"]]
            {
                let (out, err) = server.ends(args, 2);
                assert!(!out.contains('s') && err.contains(words), "{args:?}: {out}{err}");
            }
        }
    }
}

#[test]
fn an_object_of_another_kind_or_name_is_no_plane() {
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    for (object, words) in [
        (plane("other"), "the ClusterBuildPlane other instead of a"),
        (secret, "a Secret instead of a ClusterBuildPlane"),
        (json!({}), "an object without a kind"),
    ] {
        let server =
            Server::start(
                move |path| {
                    if path.starts_with(&format!("{PLANES}/")) { ok(&object) } else { ok(&list(json!([]))) }
                },
            );
        for args in [&["get", "a"][..], &["get", "a", "-o", "yaml"], &["describe", "a"], &["delete", "a", "--yes"]] {
            let (out, err) = server.ends(args, 2);
            assert!(out.is_empty() && err.contains(words), "{args:?}: {out}{err}");
        }
    }
    // A watch does not take it for a plane either.
    let secrets = list(json!([{"metadata": {"name": "s", "resourceVersion": "1"}, "data": {}}]));
    let server = Server::start(move |_| ok(&secrets));
    let (out, err) = server.ends(&["watch", "--timeout", "5s"], 2);
    assert!(out.is_empty() && err.contains("an object without a kind"), "{out}{err}");
}

#[test]
fn null_items_are_none() {
    let server = Server::start(|_| ok(&list(Value::Null)));
    assert!(server.ends(&["get"], 0).1.contains("No resources found"));
    server.ends(&["wait", "a", "--for", "deleted", "--timeout", "5s"], 0);
    assert!(server.ends(&["describe"], 0).1.contains("No resources found"));
}

#[test]
fn a_value_that_cannot_be_read_is_reported_once_and_costs_one_field() {
    let mut odd = plane("odd");
    odd["status"] =
        json!({"agentConnection": {"connected": true, "connectedAgents": 1e30, "lastHeartbeatTime": "never"}});
    let objects = list(json!([odd, plane("well")]));
    let server = Server::start(move |path| match path.contains("watch=true") {
        false => ok(&objects),
        true => ("200 OK\r\nContent-Type: application/json".into(), String::new()),
    });
    let warning =
        "warning: plane odd: status.agentConnection.lastHeartbeatTime is not a time and is treated as unknown";
    for args in [&["get"][..], &["get", "-o", "wide"], &["describe"], &["watch", "--timeout", "2s"]] {
        let output = server.run(args);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(out.contains("odd") && out.contains("well"), "{args:?}: {out}{err}");
        assert_eq!(err.matches(warning).count(), 1, "{args:?}: {err}");
    }
    let (out, _) = server.ends(&["get", "-o", "json"], 0);
    assert!(out.contains(r#""lastHeartbeatTime": "never""#), "{out}");
}

#[test]
fn a_server_that_ends_every_watch_is_not_flooded() {
    let event = json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "code": 410, "reason": "Expired", "message": "too old"}});
    for body in [String::new(), event.to_string() + "\n"] {
        let server = Server::start(move |path| match path.contains("watch=true") {
            false => ok(&list(json!([plane("a")]))),
            true => ("200 OK\r\nContent-Type: application/json".into(), body.clone()),
        });
        server.ends(&["watch", "--timeout", "6s"], 124);
        let (lists, watches) = (server.count("?") - server.count("watch=true"), server.count("watch=true"));
        assert!((2..=8).contains(&watches) && lists <= 8, "{lists} lists and {watches} watches in 6 s");
    }
}

#[test]
fn a_continue_token_that_always_expires_is_reported_and_not_asked_for_in_a_loop() {
    let server = Server::start(|path| {
        match path.contains("continue=") {
        true => (
            "410 Gone\r\nContent-Type: application/json".into(),
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}).to_string(),
        ),
        false => {
            let mut page = list(json!([plane("a")]));
            page["metadata"]["continue"] = "next".into();
            ok(&page)
        }
    }
    });
    let (_, err) = server.ends(&["watch", "--timeout", "6s"], 2);
    assert!(err.contains("410") && server.count("continue=") < 8, "{err}");
    server.ends(&["get"], 2);
}

#[test]
fn who_may_list_but_not_watch_sees_changes_by_polling() {
    let lists = Mutex::new(0);
    let server = Server::start(move |path| {
        match path.contains("watch=true") {
        true => (
            "403 Forbidden\r\nContent-Type: application/json".into(),
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 403, "reason": "Forbidden", "message": "no watch"}).to_string(),
        ),
        false => {
            let mut lists = lists.lock().unwrap();
            *lists += 1;
            let mut plane = plane("a");
            if *lists > 2 {
                plane["metadata"]["resourceVersion"] = "2".into();
                plane["status"] = json!({"agentConnection": {"connected": false, "connectedAgents": 0, "lastConnectedTime": "2026-01-01T00:00:00Z"}});
            }
            ok(&list(json!([plane])))
        }
    }
    });
    let (out, err) = server.ends(&["wait", "a", "--for", "disconnected", "--timeout", "20s"], 0);
    assert!(out.contains("Disconnected"), "{out}");
    let reported = "not allowed to watch clusterbuildplanes; polling every 2 s";
    assert_eq!(err.matches(reported).count(), 1, "{err}");
}

#[test]
fn certificates_are_judged_by_the_servers_clock() {
    let days = |count: i64| time::OffsetDateTime::now_utc() + time::Duration::days(count);
    let mut params = rcgen::CertificateParams::default();
    (params.not_before, params.not_after) = (days(-1), days(400));
    let pem = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let mut held = plane("a");
    held["spec"]["clusterAgent"]["clientCA"]["value"] = pem.into();
    let planes = list(json!([held]));
    let at = |ahead: i64| {
        let planes = planes.clone();
        Server::start(move |_| {
            let (head, body) = ok(&planes);
            let date = jiff::Timestamp::from_second(days(ahead).unix_timestamp()).unwrap();
            (
                format!(
                    "{head}\r\nDate: {}",
                    jiff::fmt::rfc2822::to_string(&date.to_zoned(jiff::tz::TimeZone::UTC)).unwrap()
                ),
                body,
            )
        })
    };
    at(0).ends(&["certs", "inspect", "--expires-within", "30d"], 0);
    at(390).ends(&["certs", "inspect", "--expires-within", "30d"], 1);
    let (out, _) = at(390).ends(&["certs", "inspect", "-o", "json"], 0);
    let reported: Value = serde_json::from_str(&out).unwrap();
    assert!(reported["certificates"][0]["lifetimeUsed"].as_f64().unwrap() > 0.9, "{reported}");
}
