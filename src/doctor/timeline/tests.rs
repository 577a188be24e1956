use serde_json::{Value, json};

use super::*;
use crate::plane::{DEFAULT_KIND, Side};

fn at(minute: u32) -> String {
    format!("2026-11-22T{:02}:{:02}:00Z", minute / 60, minute % 60)
}

fn moment(minute: u32) -> Timestamp {
    at(minute).parse().unwrap()
}

/// An entry of managedFields.
fn wrote(manager: &str, minute: u32, fields: Value) -> Value {
    json!({
        "manager": manager, "operation": "Update", "apiVersion": "v1", "time": at(minute), "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    })
}

fn object(kind: &str, name: &str, managed: &[Value]) -> Value {
    let metadata = json!({"namespace": "n", "name": name, "creationTimestamp": at(0), "managedFields": managed});
    json!({"kind": kind, "metadata": metadata})
}

fn plane(managed: &[Value], connection: Value) -> Plane {
    serde_json::from_value(json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": DEFAULT_KIND.kind,
        "metadata": {"name": "p", "creationTimestamp": at(0), "managedFields": managed},
        "spec": {"planeID": "p", "clusterAgent": {"clientCA": {"value": "x"}}},
        "status": {"conditions": [], "agentConnection": connection},
    }))
    .unwrap()
}

/// A connection that was reported as lost.
fn lost(minute: u32) -> Value {
    json!({
        "connected": false, "connectedAgents": 0, "lastConnectedTime": at(10), "lastDisconnectedTime": at(minute),
    })
}

fn history(plane: Plane, objects: Vec<(Side, Value)>, missing: Vec<Missing>) -> History {
    History { plane, now: moment(120), objects, missing, unread: Vec::new() }
}

fn reported(history: &History) -> Timeline {
    Timeline::of(history)
}

/// The text of the entry that is marked.
fn marked(history: &History) -> Option<(String, String)> {
    let timeline = reported(history);
    let mut marked = timeline.entries.into_iter().filter(|entry| entry.is_last_before_loss);
    let first = marked.next().map(|entry| (entry.object, entry.text));
    assert!(marked.next().is_none(), "one at most is the last");
    first
}

fn pair(object: &str, text: &str) -> Option<(String, String)> {
    Some((object.into(), text.into()))
}

fn deployment(minute: u32) -> (Side, Value) {
    (Side::Build, object("Deployment", "agent", &[wrote("helm", minute, json!({"f:spec": {"f:replicas": {}}}))]))
}

fn secret(minute: u32) -> (Side, Value) {
    (Side::Build, object("Secret", "tls", &[wrote("cert-manager", minute, json!({"f:data": {"f:tls.crt": {}}}))]))
}

fn pod(started: u32, ended: Option<u32>) -> (Side, Value) {
    let mut pod = object("Pod", "agent-1", &[]);
    pod["metadata"]["creationTimestamp"] = at(started).into();
    let mut status = json!({"name": "agent", "state": {"running": {"startedAt": at(started)}}});
    if let Some(ended) = ended {
        let terminated = json!({"exitCode": 137, "reason": "OOMKilled", "finishedAt": at(ended)});
        status["lastState"] = json!({"terminated": terminated});
    }
    pod["status"] =
        json!({"containerStatuses": [status, {"name": "other", "state": {"running": {"startedAt": at(1)}}}]});
    (Side::Build, pod)
}

#[test]
fn who_wrote_which_part_is_reported_but_not_the_status() {
    let ca = json!({"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:value": {}}}, "f:planeID": {}}});
    let mut applied = wrote("argocd", 3, json!({"f:spec": {"f:a": {}, "f:b": {}, "f:c": {}, "f:d": {}}}));
    applied["operation"] = "Apply".into();
    let mut status = wrote("controller", 9, json!({"f:metadata": {}, "f:status": {}}));
    status["subresource"] = "status".into();
    let managed = [
        wrote("a-controller", 0, json!({"f:metadata": {"f:finalizers": {}}})),
        wrote("choreoctl", 0, ca.clone()),
        wrote("kubectl-patch", 5, ca),
        wrote("controller", 2, json!({"f:metadata": {"f:finalizers": {}}})),
        wrote("old-controller", 8, json!({"f:status": {}})),
        applied,
        status,
    ];
    let timeline = reported(&history(plane(&managed, Value::Null), Vec::new(), Vec::new()));
    let entries: Vec<_> =
        timeline.entries.iter().map(|entry| (entry.text.as_str(), entry.by.as_deref().unwrap())).collect();
    let expected = [
        ("created", "choreoctl"),
        ("written: metadata", "a-controller"),
        ("written: metadata", "controller"),
        ("applied: spec", "argocd"),
        ("written: spec.clusterAgent.clientCA, spec.planeID", "kubectl-patch"),
    ];
    assert_eq!(entries, expected);
    assert!(timeline.lost.is_none() && timeline.entries.iter().all(|entry| !entry.is_last_before_loss));
}

#[test]
fn in_one_second_a_cause_comes_before_its_effects() {
    let mut event = json!({"kind": "Event", "metadata": {}, "reason": "Killing", "message": "m", "count": 3});
    (event["lastTimestamp"], event["source"]) = (at(20).into(), json!({"component": "kubelet"}));
    event["involvedObject"] = json!({"kind": "Pod", "namespace": "n", "name": "agent-1"});
    let mut release = object("Secret", "sh.helm.release.v1.agent.v2", &[wrote("helm", 20, json!({}))]);
    release["metadata"]["creationTimestamp"] = at(20).into();
    release["metadata"]["labels"] = json!({"owner": "helm", "name": "agent", "version": "2", "status": "deployed"});
    let objects = vec![(Side::Build, event), pod(20, Some(20)), deployment(20), secret(20), (Side::Build, release)];
    let timeline = reported(&history(plane(&[], lost(20)), objects, Vec::new()));
    let entries: Vec<_> = timeline
        .entries
        .iter()
        .filter(|entry| entry.time == Some(moment(20)))
        .map(|entry| (entry.object.as_str(), entry.text.as_str()))
        .collect();
    let expected = [
        ("Helm release n/agent", "revision 2 (deployed)"),
        ("Secret n/tls", "written: data"),
        ("Deployment n/agent", "written: spec.replicas"),
        ("Pod n/agent-1", "created"),
        ("Pod n/agent-1", "container agent ended with exit code 137 (OOMKilled)"),
        ("Pod n/agent-1", "container agent started"),
        ("Pod n/agent-1", "Killing: m (3 times)"),
        ("ClusterBuildPlane p", "reported as disconnected"),
    ];
    assert_eq!(entries, expected);
    assert!(timeline.entries[timeline.entries.len() - 1].is_loss);
    assert_eq!((timeline.state, timeline.lost), (State::Disconnected, Some(moment(20))));
}

#[test]
fn the_last_change_before_the_loss_is_marked() {
    let of = |objects: &[(Side, Value)]| marked(&history(plane(&[], lost(60)), objects.to_vec(), Vec::new()));
    let written = pair("Deployment n/agent", "written: spec.replicas");
    assert_eq!(of(&[secret(50), deployment(55)]), written);
    assert_eq!(of(&[secret(50), deployment(60)]), written, "in the second of the loss");
    assert_eq!(of(&[secret(50), deployment(61)]), pair("Secret n/tls", "written: data"), "after the loss");
    // Pods are replaced because of a write, unless that was long before.
    assert_eq!(of(&[secret(50), pod(59, None)]), pair("Secret n/tls", "written: data"));
    let ended = pair("Pod n/agent-1", "container agent ended with exit code 137 (OOMKilled)");
    assert_eq!(of(&[secret(30), pod(61, Some(59))]), ended);
    // What is only reported is no cause.
    assert_eq!(of(&[]), None);
    assert_eq!(of(&[secret(9)]), None, "it connected after that");
    assert_eq!(of(&[secret(10)]), pair("Secret n/tls", "written: data"), "the controller asks once a minute");
    let metadata = object("Secret", "tls", &[wrote("kubectl-label", 59, json!({"f:metadata": {"f:labels": {}}}))]);
    assert_eq!(of(&[(Side::Build, metadata), secret(50)]), pair("Secret n/tls", "written: data"));
}

#[test]
fn a_heartbeat_that_is_too_old_is_a_loss_within_the_next_one() {
    let heartbeat = |minute: u32| {
        json!({
            "connected": true, "connectedAgents": 1, "lastConnectedTime": at(10), "lastHeartbeatTime": at(minute),
        })
    };
    let timeline = reported(&history(plane(&[], heartbeat(60)), vec![secret(61)], Vec::new()));
    let losses: Vec<_> = timeline.entries.iter().filter(|entry| entry.is_loss).collect();
    assert!(matches!(losses.as_slice(), [only] if only.text == "last heartbeat"));
    let of = |connection: Value, objects: &[(Side, Value)]| {
        marked(&history(plane(&[], connection), objects.to_vec(), Vec::new()))
    };
    assert_eq!(of(heartbeat(60), &[secret(61)]), pair("Secret n/tls", "written: data"));
    assert_eq!(of(heartbeat(60), &[secret(62)]), None);
    assert_eq!(of(heartbeat(119), &[secret(61)]), None, "it is connected");
    // The controller stopped, which no write explains.
    let mut lease = object("Lease", "lease", &[]);
    lease["spec"] = json!({"renewTime": at(60), "holderIdentity": "controller-0"});
    let stopped = pair("Lease n/lease", "the controller renewed it for the last time");
    assert_eq!(of(heartbeat(60), &[secret(30), (Side::Control, lease)]), stopped);
}

#[test]
fn what_does_not_exist_is_the_last_change_unless_a_write_explains_it() {
    let missing = |needed_by| vec![Missing { side: Side::Build, title: "Secret n/gone".into(), needed_by }];
    let of = |connection: Value, objects: &[(Side, Value)], needed_by| {
        marked(&history(plane(&[], connection), objects.to_vec(), missing(needed_by))).map(|(object, _)| object)
    };
    let by_agent = Some("Deployment");
    assert_eq!(of(lost(60), &[deployment(5)], by_agent).as_deref(), Some("Secret n/gone"));
    assert_eq!(of(lost(60), &[deployment(50)], by_agent).as_deref(), Some("Deployment n/agent"));
    assert_eq!(of(lost(60), &[deployment(70)], by_agent).as_deref(), Some("Secret n/gone"));
    assert_eq!(of(lost(60), &[deployment(50)], None).as_deref(), Some("Secret n/gone"));
    // Where the controller stopped to report, the agent has nothing to do with it.
    let stale = json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": at(60)});
    assert_eq!(of(stale, &[deployment(50)], None).as_deref(), Some("Deployment n/agent"));
    let timeline = reported(&history(plane(&[], lost(60)), vec![deployment(70)], missing(None)));
    let texts: Vec<_> = timeline.entries.iter().map(|entry| entry.what.name()).collect();
    assert_eq!(texts, ["created", "created", "connected", "missing", "disconnected", "written"]);
}

#[test]
fn a_restart_is_a_part_of_its_write() {
    let with = |restarted: &str| {
        let (side, mut deployment) = deployment(50);
        let annotations = json!({"kubectl.kubernetes.io/restartedAt": restarted});
        deployment["spec"]["template"]["metadata"]["annotations"] = annotations;
        let progress = json!({"type": "Progressing", "status": "True", "message": "it is", "lastUpdateTime": at(51)});
        deployment["status"]["conditions"] = json!([progress]);
        let timeline = reported(&history(plane(&[], Value::Null), vec![(side, deployment)], Vec::new()));
        let of_it = timeline.entries.iter().filter(|entry| entry.kind == "Deployment");
        of_it.map(|entry| format!("{} {}", entry.what.name(), entry.text)).collect::<Vec<_>>()
    };
    let condition = "condition Progressing is True: it is";
    let same = ["created created", "restarted written: spec.replicas; restart requested", condition];
    assert_eq!(with("2026-11-22T01:50:00+01:00"), same);
    let apart = ["created created", "restarted restart requested", "written written: spec.replicas", condition];
    assert_eq!(with(&at(40)), apart);
}

#[test]
fn certificates_begin_and_expire_but_not_in_the_future() {
    use base64::Engine as _;
    let certificate = |from: i64, to: i64| {
        let time =
            |minute: i64| time::OffsetDateTime::from_unix_timestamp(moment(0).as_second() + 60 * minute).unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        (params.not_before, params.not_after) = (time(from), time(to));
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem()
    };
    let of = |from: i64, to: i64| {
        let (side, mut secret) = secret(20);
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate(from, to));
        secret["data"] = json!({"tls.crt": encoded});
        history(plane(&[], lost(60)), vec![(side, secret)], Vec::new())
    };
    let types = |history: &History| {
        let entries = reported(history).entries;
        entries.iter().filter(|entry| entry.kind == "Secret").map(|entry| entry.what.name()).collect::<Vec<_>>()
    };
    assert_eq!(types(&of(5, 59)), ["created", "valid", "written", "expired"]);
    assert!(marked(&of(5, 59)).unwrap().1.ends_with(" expired"));
    assert_eq!(types(&of(5, 500)), ["created", "valid", "written"]);
    assert_eq!(types(&of(400, 500)), ["created", "written"]);
}

#[test]
fn what_is_older_is_left_out_and_with_it_the_mark() {
    let history = history(plane(&[], lost(60)), vec![secret(50), deployment(70)], Vec::new());
    let (mut short, mut long) = (reported(&history), reported(&history));
    short.only_since("65m".parse().unwrap(), history.now);
    assert!(!short.is_marked());
    let texts: Vec<_> = short.entries.iter().map(|entry| entry.what.name()).collect();
    assert_eq!(texts, ["disconnected", "written"]);
    long.only_since("90m".parse().unwrap(), history.now);
    assert!(long.is_marked());
}
