//! `logs` and `restart` on two API servers, with agents and a gateway that write logs.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::{Output, Running, finish};
use super::estate::{DEPLOYMENT, Estate, NAMESPACE, SECRET};
use super::hints::paste;

stories!(
    Go:
        logs_of_all_pods_and_of_the_gateway_are_read,
        logs_are_followed_over_a_restart,
        an_agent_is_restarted_and_its_certificate_reported,
        a_restart_that_would_end_the_connection_is_confirmed;
);

const SOON: Duration = Duration::from_secs(30);
const CONTROL: &str = "openchoreo-control-plane";

/// A plane `a` whose agent is connected, with logs of its pods and of a gateway's pod.
fn with_logs() -> Estate {
    let mut at = Estate::start("shared");
    at.order("logs on");
    at.control.run(&["create", "a", "--plane-id", "shared", "--client-ca-file", "old/ca.crt"]).expect(0);
    at.control.kubectl(&["create", "namespace", CONTROL], "");
    let labels = json!({"app": "gateway"});
    let place = |name: &str| json!({"name": name, "namespace": CONTROL, "labels": labels});
    let service = json!({"selector": labels, "ports": [{"name": "websocket", "port": 8443}]});
    let container = json!({"name": "cluster-gateway", "image": "gateway"});
    let pod = json!({"nodeName": "double", "terminationGracePeriodSeconds": 0, "containers": [container]});
    let objects = json!([
        {"apiVersion": "v1", "kind": "Service", "metadata": place("cluster-gateway"), "spec": service},
        {"apiVersion": "v1", "kind": "Pod", "metadata": place("gateway-0"), "spec": pod},
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    at.control.kubectl(&["apply", "-f", "-"], &list.to_string());
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    at.control.api().merge(&format!("/api/v1/namespaces/{CONTROL}/pods/gateway-0/status"), &ready);
    // Pods of the time before are on no node.
    restart(&at);
    at.settle();
    at
}

fn restart(at: &Estate) {
    at.build.kubectl(&["rollout", "restart", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
    at.build.kubectl(&["rollout", "status", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
}

fn pods(at: &Estate) -> Vec<String> {
    let pods = at.build.api().get(&at.pods_path()).unwrap();
    let pods = pods["items"].as_array().unwrap().iter();
    pods.map(|pod| pod["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

/// The lines of an output in JSON.
fn lines(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn logs(at: &Estate, more: &[&str]) -> Output {
    at.run(&[&["logs", "a"], more].concat())
}

/// Waits until the output of `logs` has a text, and returns it.
#[track_caller]
fn until(at: &Estate, more: &[&str], fits: impl Fn(&Output) -> bool) -> Output {
    let deadline = Instant::now() + SOON;
    loop {
        let output = logs(at, more);
        if fits(&output) {
            return output;
        }
        assert!(Instant::now() < deadline, "{output:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn logs_of_all_pods_and_of_the_gateway_are_read() {
    let at = with_logs();
    let one = logs(&at, &["--tail", "1"]).expect(0);
    assert!(one.stdout.ends_with(" INFO  connected to control plane\n"), "{one:?}");
    assert!(one.stdout.starts_with("20") && one.stdout.lines().count() == 1, "no pod is named: {one:?}");

    // Two replicas, each with its name.
    at.build.kubectl(&["scale", "deployment", DEPLOYMENT, "-n", NAMESPACE, "--replicas=2"], "");
    let connected = |output: &Output| output.stdout.matches("connected to control plane").count() == 2;
    let both = until(&at, &[], connected);
    let pods = pods(&at);
    assert!(pods.len() == 2 && pods.iter().all(|pod| both.stdout.contains(&format!("{pod} 20"))), "{both:?}");
    assert!(both.stdout.contains(" INFO  connecting to control plane url=wss://"), "{both:?}");

    // The gateway's lines about this plane, in the order of time with those of the agents.
    let say = |who: &str, text: &str| at.order(&format!("say {who} {text}"));
    let line = |id: &str, message: &str| {
        json!({"time": jiff::Timestamp::now(), "level": "WARN", "msg": message, "planeType": "buildplane", "planeID": id})
            .to_string()
    };
    say("gateway", &line("shared", "one"));
    say("agents", &line("shared", "two"));
    say("gateway", &line("shared", "three"));
    say("gateway", &line("another", "four"));
    say("gateway", "goroutine 1 [running]:");
    let merged = logs(&at, &["--gateway", "--tail", "2"]).expect(0);
    let reported: Vec<_> = merged.stdout.lines().map(|line| line.split(" planeType").next().unwrap()).collect();
    let reported: Vec<_> = reported.iter().filter(|line| line.contains("WARN")).collect();
    assert!(
        reported.len() == 4 && reported[0].starts_with("gateway/gateway-0 ") && reported[0].ends_with(" WARN  one"),
        "{merged:?}"
    );
    assert!(reported[1..3].iter().all(|line| line.starts_with("agent/") && line.ends_with(" two")), "{merged:?}");
    assert!(reported[3].ends_with(" three") && !merged.stdout.contains("four"), "{merged:?}");
    assert!(!merged.stdout.contains("goroutine"), "{merged:?}");
    let json = lines(&logs(&at, &["--gateway", "-o", "json"]).expect(0));
    let times: Vec<_> = json.iter().filter_map(|line| line["time"].as_str()?.parse::<jiff::Timestamp>().ok()).collect();
    assert!(times.is_sorted() && times.len() == json.len(), "{json:#?}");
    let of_gateway: Vec<_> = json.iter().filter(|line| line["source"] == "gateway").collect();
    assert!(of_gateway.iter().any(|line| line["message"] == "agent connected successfully"), "{json:#?}");
    let own = |line: &&Value| {
        line["fields"]["planeID"] == "shared" || line["fields"]["planeIdentifier"] == "buildplane/shared"
    };
    assert!(of_gateway.iter().all(own), "{of_gateway:#?}");

    // What belongs to nobody who reads a log.
    let key = at.control.read("old/tls.key");
    let body: Vec<_> = key.lines().filter(|line| !line.starts_with('-')).collect();
    key.lines().for_each(|line| say("agents", line));
    let jwt = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl";
    let (certificate, message) = (at.control.read("old/tls.crt"), format!("Authorization: Bearer {jwt}"));
    say("agents", &json!({"msg": message, "ca": certificate, "key": key, "password": "hunter2"}).to_string());
    say("agents", "that was all");
    for format in ["text", "json"] {
        let shown = logs(&at, &["-o", format]).expect(0).stdout;
        assert!(shown.matches("(private key, not shown)").count() == 4, "{shown}");
        assert!(shown.contains("(certificate, not shown)") && shown.contains("Bearer (token)"), "{shown}");
        assert_eq!(shown.matches("that was all").count(), 2, "{shown}");
        let encoded = certificate.lines().nth(1).unwrap();
        for secret in body.iter().copied().chain([jwt, "hunter2", encoded]) {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    // A range in time, the container before, and what is not there.
    std::thread::sleep(Duration::from_millis(4100));
    say("agents", "late");
    let late = logs(&at, &["--since", "3s"]).expect(0).stdout;
    assert!(late.matches("late").count() == 2 && late.lines().count() == 2, "{late}");
    logs(&at, &["--previous"]).expect(2).says(&["could not read the log of pod", "previous terminated container"]);
    at.control.run(&["create", "b", "--plane-id", "other", "--client-ca-file", "old/ca.crt"]).expect(0);
    at.run(&["logs", "b"]).expect(2).says(&["there is no agent of planeID other", "hint:"]);
    at.run(&["logs", "c"]).expect(3);
    at.control.run(&["logs", "a"]).expect(2).says(&["the agent is in the plane's cluster", "--plane-context"]);
    at.build.kubectl(&["scale", "deployment", DEPLOYMENT, "-n", NAMESPACE, "--replicas=0"], "");
    let none = until(&at, &[], |output| output.code == 2);
    none.says(&["has no pod", "hint: kubectl -n openchoreo-build-plane describe deployment"]);
    let hint = none.stderr.split("hint: ").nth(1).unwrap().trim().to_owned();
    assert!(paste(&at, &hint).expect(0).stdout.contains(DEPLOYMENT));
}

/// Reads lines in JSON until one has a message of a pod that is none of these; the pod.
#[track_caller]
fn said(run: &mut Running, message: &str, not: &[String]) -> String {
    let fits = |line: &Value| line["message"] == message && not.iter().all(|pod| line["pod"] != pod.as_str());
    let line = run.until(message, SOON, |line| fits(&serde_json::from_str(line).unwrap()));
    serde_json::from_str::<Value>(&line).unwrap()["pod"].as_str().unwrap().to_owned()
}

fn logs_are_followed_over_a_restart() {
    let at = with_logs();
    let mut run = at.spawn(&["logs", "a", "--follow", "--tail", "1", "--gateway", "-o", "json"]);
    let old = said(&mut run, "connected to control plane", &[]);
    at.order("say agents before");
    said(&mut run, "before", &[]);
    restart(&at);
    let new = said(&mut run, "connected to control plane", std::slice::from_ref(&old));
    at.order("say agents after");
    assert_eq!(said(&mut run, "after", &[]), new);
    at.order(r#"say gateway {"msg":"the gateway","planeID":"shared"}"#);
    said(&mut run, "the gateway", &[]);
    // Pods are looked for once a second.
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(run.signal("-INT"), 130);

    // Each line once, and all of the new pod.
    let seen: Vec<Value> = run.seen.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let distinct: BTreeSet<_> = seen.iter().map(Value::to_string).collect();
    assert_eq!(distinct.len(), seen.len(), "{seen:#?}");
    let of_new: Vec<_> =
        seen.iter().filter(|line| line["pod"] == new.as_str()).map(|line| line["message"].clone()).collect();
    assert_eq!(of_new, ["connecting to control plane", "connected to control plane", "after"]);
    let reported = run.stderr();
    assert!(reported.contains(&format!("pod {new} of the agent started")), "{reported}");
    assert!(reported.contains(&format!("pod {old} of the agent ended")) && !reported.contains("error"), "{reported}");

    // Once there are two pods, lines have their names; nobody who reads on is no error.
    let mut run = at.spawn(&["logs", "a", "-f", "--since", "1s"]);
    at.order("say agents alone");
    assert_eq!(run.until("a line", SOON, |line| line.ends_with("alone")), "alone");
    restart(&at);
    let line = run.until("the new pod", SOON, |line| line.contains("connected to control plane"));
    assert!(line.starts_with(&pods(&at)[0]), "{line}");
    drop(run);
    let mut command = at.control.command(&["logs", "a", "-f", "--plane-kubeconfig"]);
    command.arg(at.build.kubeconfig()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let head = Command::new("head").arg("-1").stdin(child.stdout.take().unwrap()).output().unwrap();
    assert!(String::from_utf8_lossy(&head.stdout).contains("connecting to control plane"));
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

fn an_agent_is_restarted_and_its_certificate_reported() {
    let mut at = with_logs();
    let before = pods(&at);
    let path = at.agent_path();
    let template = |at: &Estate| at.build.api().get(&path).unwrap()["spec"]["template"].clone();
    let unchanged = template(&at);
    for how in ["client", "server"] {
        let dry = at.run(&["restart", "a", "--dry-run", how]).expect(0);
        assert!(dry.stdout.contains("would be restarted") && template(&at) == unchanged, "{dry:?}");
    }
    // Nothing is asked where all is well, also at the second time.
    let leaf = at.control.run(&["certs", "inspect", "old/tls.crt", "-o", "json"]).json()["certificates"][0].clone();
    for _ in 0..2 {
        let before = pods(&at);
        let reported = lines(&at.run(&["restart", "a", "-o", "json"]).expect(0));
        let steps: Vec<_> =
            reported.iter().map(|step| (step["step"].as_str().unwrap(), step["status"].as_str().unwrap())).collect();
        assert_eq!(steps, [("restart", "done"), ("reconnect", "done"), ("certificate", "done")]);
        for field in ["subject", "sha256", "notAfter"] {
            assert_eq!(reported[2][field], leaf[field], "{reported:#?}");
        }
        assert_eq!(reported[2]["pods"], json!(pods(&at)), "{reported:#?}");
        assert!(pods(&at).iter().all(|pod| !before.contains(pod)));
    }
    assert!(pods(&at).iter().all(|pod| !before.contains(pod)));
    let reported = at.run(&["restart", "a"]).expect(0);
    assert!(reported.stdout.contains(&format!("1 pod presents {}", leaf["subject"].as_str().unwrap())), "{reported:?}");
    at.nobody_was_refused();

    // The configuration names the plane's cluster as the flags do.
    let kubeconfig = at.build.kubeconfig().to_string_lossy().into_owned();
    let configured = |args: &[&str]| {
        let mut command = at.control.command(args);
        command.env("CHOREOCTL_CONFIG", at.control.path().join("config.yaml"));
        finish(command, "")
    };
    configured(&["config", "set", "a", "--plane-kubeconfig", &kubeconfig]).expect(0);
    configured(&["restart", "a"]).expect(0);
    let log = configured(&["logs", "a"]).expect(0);
    assert!(log.stdout.contains("connected to control plane"), "{log:?}");

    at.build.kubectl(&["rollout", "pause", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
    let paused = at.run(&["restart", "a"]).expect(2);
    paused.says(&["can't be restarted: its Deployment is paused"]);
    let hint = paused.stderr.split("hint: ").nth(1).unwrap().trim().to_owned();
    paste(&at, &hint).expect(0);
    at.run(&["restart", "a"]).expect(0);
    at.run(&["restart", "b"]).expect(3);
}

fn a_restart_that_would_end_the_connection_is_confirmed() {
    let mut at = with_logs();
    // The plane pins the certificate that the agent presents, and the Secret gets another one of the CA.
    let pinned = at.control.read("old/tls.crt");
    at.control.api().replace(&at.subject.path("a"), "/spec/clusterAgent/clientCA/value", &pinned.into());
    at.control.run(&["certs", "client", "--plane-id", "shared", "--ca-dir", "old", "--out-dir", "next"]).expect(0);
    at.control.run(&["create", "b", "--plane-id", "shared", "--client-ca-file", "old/ca.crt"]).expect(0);
    at.settle();
    let before = pods(&at);
    at.a_second_later();
    let (certificate, key) = (at.control.read("next/tls.crt"), at.control.read("next/tls.key"));
    let patch = json!({"stringData": {"tls.crt": certificate, "tls.key": key}}).to_string();
    at.build.kubectl(&["patch", "secret", SECRET, "-n", NAMESPACE, "-p", &patch], "");
    at.reset();
    let refused = at.run(&["restart", "a", "-o", "json"]).expect(2);
    refused.says(&[
        "warning: plane a would refuse the certificate in secret/",
        "confirmation is needed",
        "hint: add --yes",
    ]);
    assert!(!refused.stderr.contains("plane b") && refused.stdout.is_empty(), "{refused:?}");
    at.run(&["restart", "a", "--dry-run", "server"]).expect(0).says(&["warning: plane a would refuse"]);
    // The other plane authorizes it, but the first one would lose it.
    at.run(&["restart", "b"]).expect(2).says(&["warning: plane a would refuse"]);
    assert_eq!(pods(&at), before);

    // With --yes it is restarted; the gateway lets it in for the other plane. Without that one it does not come back.
    let reported = at.run(&["restart", "a", "--yes", "-o", "json"]).expect(0);
    assert_eq!(lines(&reported)[2]["pods"], json!(pods(&at)), "{reported:?}");
    at.control.run(&["delete", "b", "--yes", "--wait=false"]).expect(0);
    let lost = at.run(&["restart", "a", "--yes", "--timeout", "5s"]).expect(124);
    lost.says(&["the agent did not reconnect before the timeout", "hint: choreoctl doctor"]);
    let hint = lost.stderr.split("hint: ").nth(1).unwrap().trim().to_owned();
    assert!(paste(&at, &hint).expect(1).stdout.contains("agent-trusted"), "{hint}");
}
