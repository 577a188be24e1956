//! Planes with every value that the API server takes, however odd: each verb reads all of them, and shows the ordinary
//! plane among them right.

use std::collections::BTreeSet;
use std::time::Duration;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use super::api::Api;
use super::control_plane::{ControlPlane, Output, SHARED};
use super::planes::manifest;

stories!(
    Server:
        every_verb_reads_whatever_the_server_stores,
        hostile_text_is_harmless;
);

const PLANES: &str = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes";
const HEALTHY: &str = "healthy";

fn text(random: &mut Rng) -> String {
    const ODD: [&str; 12] = [
        "",
        " ",
        "x",
        "\u{1b}[2J",
        "a\r\nb",
        "\u{0}",
        "\u{202e}abc",
        "ünïcödé 日本 😀",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
        "null",
        "{{.}}%s$(x)`y`",
        "'\"\\",
    ];
    match random.u8(0..8) {
        0 => random.choice(ODD).unwrap().repeat(random.usize(1..900)),
        1..4 => (0..random.usize(0..40)).map(|_| random.char(..)).collect(),
        _ => (*random.choice(ODD).unwrap()).to_owned(),
    }
}

fn time(random: &mut Rng) -> Value {
    const ODD: [&str; 14] = [
        "9999-12-31T23:59:59Z",
        "9999-12-31T00:00:00-12:00",
        "2026-11-25T13:00:00.1234567891234Z",
        "0000-01-01T00:00:00Z",
        "0000-01-01T00:00:00+23:59",
        "0001-01-01T00:00:00Z",
        "1969-12-31T23:59:59.999999999-00:00",
        "2026-11-25t13:00:00z",
        "2026-11-25T13:00:00+99:99",
        "2026-11-25T13:00:00x5Z",
        "2026-11-25T13:00:00,5Z",
        "2026-11-25T13:00:60Z",
        "2026-02-30T13:00:00Z",
        "2024-02-29T23:59:59.0Z",
    ];
    if random.u8(0..3) > 0 {
        return (*random.choice(ODD).unwrap()).into();
    }
    let (year, month, day) = (random.u16(0..10_000), random.u8(1..13), random.u8(1..29));
    let (hour, minute, second) = (random.u8(0..24), random.u8(0..60), random.u8(0..60));
    let fraction = ["", ".5", ".000000000000000001"][random.usize(0..3)];
    let zone = ["Z", "z", "+14:00", "-23:59", "+25:00"][random.usize(0..5)];
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}{zone}").into()
}

fn number(random: &mut Rng) -> Value {
    match random.u8(0..8) {
        0 => i64::MAX.into(),
        1 => i64::MIN.into(),
        2 => u64::MAX.into(),
        3 => json!(1e30),
        4 => json!(2.0),
        5 => json!(-1e19),
        6 => random.i64(..).into(),
        _ => random.u8(0..4).into(),
    }
}

/// An object of which each field is there, absent or null.
fn some(random: &mut Rng, fields: Vec<(&str, Value)>) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        match random.u8(0..16) {
            0 => drop(object.insert(name.into(), Value::Null)),
            1..3 => {}
            _ => drop(object.insert(name.into(), value)),
        }
    }
    object.into()
}

fn name(random: &mut Rng) -> String {
    let length = random.usize(1..64);
    let inner = "abcdefghijklmnopqrstuvwxyz0123456789-".chars().collect::<Vec<_>>();
    let middle: String = (0..length).map(|_| *random.choice(&inner).unwrap()).collect();
    format!("x{}", &middle[1..]) + if middle.ends_with('-') { "0" } else { "" }
}

fn metadata(random: &mut Rng, name: &str) -> Value {
    let (note, label) = (text(random), ["", "x", "A.b_c-9"][random.usize(0..3)]);
    let labels = some(random, vec![("test", "odd".into()), ("example.com/team", label.into())]);
    let annotations =
        some(random, vec![("openchoreo.dev/display-name", note.clone().into()), ("example.com/note", note.into())]);
    let owner = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": text(random) + "u"}]);
    let held = if random.u8(0..20) == 0 { json!(["example.com/hold"]) } else { json!([]) };
    let mut metadata = some(
        random,
        vec![("labels", labels), ("annotations", annotations), ("ownerReferences", owner), ("finalizers", held)],
    );
    metadata["name"] = name.into();
    metadata
}

fn spec(random: &mut Rng) -> Value {
    let (value, key) = (text(random), text(random));
    let secret = json!({"name": name(random), "key": key});
    let secret = match random.u8(0..3) {
        0 => json!({"name": text(random), "key": text(random), "namespace": text(random)}),
        1 => json!({"name": name(random), "key": "ca.crt", "namespace": "default"}),
        _ => secret,
    };
    let ca = some(random, vec![("value", value.into()), ("secretRef", secret)]);
    let observability = json!({"name": name(random), "kind": if random.bool() { Value::Null } else { "ClusterObservabilityPlane".into() }});
    let (id, store) = (name(random), text(random));
    let mut spec = some(
        random,
        vec![
            ("planeID", id.into()),
            ("secretStoreRef", json!({"name": store})),
            ("observabilityPlaneRef", observability),
            ("later", json!({"deep": [1, null]})),
        ],
    );
    spec["clusterAgent"] = json!({"clientCA": ca});
    spec
}

fn status(random: &mut Rng) -> Value {
    let mut connection = vec![("message", text(random).into())];
    for field in ["lastConnectedTime", "lastDisconnectedTime", "lastHeartbeatTime"] {
        connection.push((field, time(random)));
    }
    let mut connection = some(random, connection);
    connection["connected"] = random.bool().into();
    connection["connectedAgents"] = number(random);
    let mut conditions = Vec::new();
    for kind in ["Ready", "Created", "example.com/Odd"] {
        let mut condition = json!({"type": kind, "status": "Unknown", "reason": "Odd"});
        (condition["message"], condition["lastTransitionTime"]) = (text(random).into(), time(random));
        if random.bool() {
            condition["observedGeneration"] = number(random);
        }
        if random.bool() {
            conditions.push(condition);
        }
    }
    let generation = number(random);
    some(
        random,
        vec![
            ("agentConnection", connection),
            ("conditions", conditions.into()),
            ("observedGeneration", generation),
            ("later", json!(1)),
        ],
    )
}

/// A patch that says when a field was written.
fn managed(version: &str, field: &str, time: Value) -> Value {
    json!({"metadata": {"managedFields": [{"manager": "m", "operation": "Update", "apiVersion": version,
        "time": time, "fieldsType": "FieldsV1", "fieldsV1": {field: {}}}]}})
}

/// Creates planes until so many of them have all of their odd values; what the server rejected is counted.
fn plant(api: &Api, random: &mut Rng, wanted: usize) -> (BTreeSet<String>, usize, usize) {
    let (mut planted, mut rejected, mut odd_statuses) = (BTreeSet::new(), 0, 0);
    while planted.len() < wanted {
        assert!(rejected < 20 * wanted, "nearly everything is rejected");
        let name = format!("odd-{}", planted.len());
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
            "metadata": metadata(random, &name), "spec": spec(random)});
        if api.send("POST", PLANES, "application/json", &object).0 != 201 {
            rejected += 1;
            continue;
        }
        planted.insert(name.clone());
        let patch = managed("openchoreo.dev/v1alpha1", "f:spec", time(random));
        let taken = api.send("PATCH", &format!("{PLANES}/{name}"), "application/merge-patch+json", &patch);
        rejected += usize::from(taken.0 != 200);
        // A status of a few tries: some of its values are rejected together with the others.
        for _ in 0..12 {
            let patch = json!({"status": status(random)});
            let path = format!("{PLANES}/{name}/status");
            if api.send("PATCH", &path, "application/merge-patch+json", &patch).0 == 200 {
                odd_statuses += 1;
                break;
            }
            rejected += 1;
        }
    }
    (planted, rejected, odd_statuses)
}

/// Ends with one of these codes, and complains of nothing that every plane has a right to.
#[track_caller]
fn reads(at: &ControlPlane, args: &[&str], codes: &[i32]) -> Output {
    let output = at.run(args);
    assert!(codes.contains(&output.code), "{args:?}: {} {}", output.code, last(&output.stderr));
    for wrong in ["can't be understood", "panicked", "plane healthy:", "said 0", "lost the API server"] {
        assert!(!output.stderr.contains(wrong), "{args:?}: {wrong}: {}", last(&output.stderr));
    }
    output
}

fn last(text: &str) -> String {
    let lines: Vec<_> = text.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Times that the API server stores, of a heartbeat and of a condition.
fn an_odd_time_costs_one_field(at: &ControlPlane, api: &Api) {
    let condition = |time: &str| json!([{"type": "Ready", "status": "True", "reason": "R", "message": "", "lastTransitionTime": time}]);
    for (time, is_known) in [
        ("9999-12-31T23:59:59Z", true),
        ("9999-12-31T00:00:00-12:00", true),
        ("2026-11-25T13:00:00.1234567891234Z", true),
        ("2026-11-25T13:00:00+99:99", false),
    ] {
        at.plane("endless");
        let connection = json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": time});
        let patch = json!({"status": {"agentConnection": connection, "conditions": condition(time)}});
        let path = format!("{PLANES}/endless/status");
        assert_eq!(api.send("PATCH", &path, "application/merge-patch+json", &patch).0, 200, "{time} is taken");
        for args in [&["get"][..], &["describe"], &["forecast"], &["get", "endless", "-o", "yaml"]] {
            let output = reads(at, args, &[0]);
            let reported =
                output.stderr.matches("plane endless: status.agentConnection.lastHeartbeatTime is not a time").count();
            // As it is there, nothing is unknown.
            let expected = usize::from(!is_known && !args.contains(&"yaml"));
            assert_eq!(reported, expected, "{args:?} {time}: {}", output.stderr);
            assert!(output.stdout.contains("endless"));
        }
        at.run(&["delete", "endless", "--yes"]).expect(0);
    }
    // Objects of other kinds hold times, too.
    let endless = "9999-12-31T23:59:59Z";
    let event = json!({
        "metadata": {"name": "endless", "namespace": "default"}, "type": "Warning", "reason": "Endless", "message": "m",
        "involvedObject": {"kind": "ClusterBuildPlane", "name": HEALTHY}, "lastTimestamp": endless, "count": 1,
    });
    let ca = std::fs::read_to_string(at.path().join("certs/ca.crt")).unwrap();
    let secret = json!({"metadata": {"name": "endless"}, "stringData": {"ca.crt": ca}});
    assert_eq!(api.send("POST", "/api/v1/namespaces/default/events", "application/json", &event).0, 201);
    assert_eq!(api.send("POST", "/api/v1/namespaces/default/secrets", "application/json", &secret).0, 201);
    let patch = managed("v1", "f:type", endless.into());
    let path = "/api/v1/namespaces/default/secrets/endless";
    let (code, stored) = api.send("PATCH", path, "application/merge-patch+json", &patch);
    assert!(code == 200 && stored.to_string().contains(endless), "{code} {stored}");
    assert!(reads(at, &["describe", HEALTHY], &[0]).stdout.contains("Endless"));
    reads(at, &["certs", "inspect", "secret/default/endless:ca.crt"], &[0]);
}

/// ODDITIES and SEED in the environment are how many planes there are, and what they are made from.
fn every_verb_reads_whatever_the_server_stores() {
    let setting = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let mut random = Rng::with_seed(setting("SEED", 1));
    let at = ControlPlane::start();
    at.run(&["certs", "ca", "--out-dir", "certs"]).expect(0);
    at.run(&["certs", "client", "--plane-id", HEALTHY, "--ca-dir", "certs"]).expect(0);
    at.run(&["create", HEALTHY, "--client-ca-file", "certs/ca.crt"]).expect(0);
    at.connect(HEALTHY);
    let api = Api::of(&at);
    an_odd_time_costs_one_field(&at, &api);
    let wanted = usize::try_from(setting("ODDITIES", 1000)).unwrap();
    let (planted, rejected, statuses) = plant(&api, &mut random, wanted);
    println!("  {} planes and {statuses} statuses were accepted, {rejected} rejected", planted.len());
    assert!(planted.len() >= wanted && statuses * 2 > wanted);

    // However long that took.
    at.connect(HEALTHY);
    let table = reads(&at, &["get"], &[0]).stdout;
    assert_eq!(table.lines().count(), wanted + 2, "a row for each, and the header");
    let row = table.lines().find(|line| line.starts_with("healthy ")).unwrap();
    assert_eq!(row.split_whitespace().take(4).collect::<Vec<_>>(), [HEALTHY, HEALTHY, "Connected", "1"]);
    assert!(reads(&at, &["get", "-o", "wide"], &[0]).stdout.contains("healthy "));
    let objects = reads(&at, &["get", "-o", "json"], &[0]).json();
    assert_eq!(objects["items"].as_array().unwrap().len(), wanted + 1);
    let yaml = reads(&at, &["get", "-o", "yaml"], &[0]).stdout;
    assert_eq!(reads(&at, &["get", "-o", "name"], &[0]).stdout.lines().count(), wanted + 1);
    // What is printed is what is stored, and is read again.
    let file = at.write("planes.yaml", &yaml);
    assert_eq!(reads(&at, &["get", "-f", &file, "-o", "json"], &[0]).json()["items"], objects["items"]);
    let described = reads(&at, &["describe", "-o", "json"], &[0]).json();
    let page = described["planes"].as_array().unwrap().iter().find(|page| page["name"] == HEALTHY).unwrap();
    assert_eq!(
        (&page["connection"]["state"], &page["connection"]["connectedAgents"]),
        (&json!("Connected"), &json!(1))
    );
    assert_eq!(described["planes"].as_array().unwrap().len(), wanted + 1);
    reads(&at, &["describe"], &[0]);
    let doctor = reads(&at, &["doctor", "-o", "json"], &[0, 1, 2]).json();
    let case = doctor["planes"].as_array().unwrap().iter().find(|case| case["name"] == HEALTHY).unwrap();
    assert_eq!(case["rootCause"], Value::Null, "{case:#}");
    let forecast = reads(&at, &["forecast", "-o", "json"], &[0, 1]).json();
    assert!(forecast["planes"].as_array().unwrap().iter().any(|plane| plane["name"] == HEALTHY));
    reads(&at, &["certs", "inspect", "-o", "json"], &[0, 1, 2]);
    let verdict = reads(&at, &["certs", "verify", "--cert", "certs/tls.crt", "-o", "json"], &[0, 1, 2]).json();
    assert_eq!(verdict["authorized"], true, "{verdict:#}");
    let mut watch = at.spawn(&["watch", "-o", "json"]);
    watch.event("synced", "", Duration::from_secs(60));
    assert_eq!(watch.seen.iter().filter(|line| line.contains(r#""type":"present""#)).count(), wanted + 1);
    reads(&at, &["wait", HEALTHY, "--for", "connected", "--timeout", "10s"], &[0]);
    reads(&at, &["wait", "--all", "--for", "exists", "--timeout", "10s"], &[0]);
    let some: Vec<_> = planted.iter().take(100).map(String::as_str).chain([HEALTHY]).collect();
    let args = [&["dump"][..], &some, &["-o", "dump.json"]].concat();
    reads(&at, &args, &[0]);
    reads(&at, &["validate", "dump.json"], &[0, 1]);
    assert!(reads(&at, &["describe", HEALTHY, "-f", "dump.json"], &[0]).stdout.contains("Connected"));
    reads(&at, &["delete", "odd-0", "odd-1", "--yes", "--wait=false"], &[0]);
    let deleted = reads(&at, &["delete", "--all", "--yes", "--wait=false"], &[0]).stdout;
    assert!(deleted.lines().count() >= wanted - 1, "{}", last(&deleted));
    reads(&at, &["wait", HEALTHY, "--for", "deleted", "--timeout", "10s"], &[0]);
}

fn hostile_text_is_harmless() {
    let at = &*SHARED;
    let evil = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{202e}evil\nline\u{9b}31m";
    let mut plane: Value = serde_json::from_str(&manifest("hostile", json!({"planeID": "hostile", "clusterAgent": {"clientCA": {"secretRef": {"name": evil, "namespace": evil, "key": evil}}}, "secretStoreRef": {"name": evil}}))).unwrap();
    plane["metadata"]["annotations"] = json!({"openchoreo.dev/display-name": evil, "openchoreo.dev/description": evil});
    at.kubectl(&["create", "-f", "-"], &plane.to_string());
    // As much as fits into an object of etcd, beside the rest.
    let message = format!("{evil}{}", "m".repeat(1_000_000));
    let status = json!({"status": {"agentConnection": {"connected": false, "connectedAgents": 0, "message": message}, "conditions": [
        {"type": "Created", "status": "True", "reason": "X", "message": evil, "lastTransitionTime": "2026-01-01T00:00:00Z"}]}});
    let file = at.write("hostile-status.json", &status.to_string());
    at.kubectl(&["patch", "cbp", "hostile", "--subresource=status", "--type=merge", "--patch-file", &file], "");
    for args in [
        &["get", "hostile", "-o", "wide"][..],
        &["get", "hostile", "-o", "json"],
        &["get", "hostile", "-o", "yaml"],
        &["describe", "hostile"],
        &["describe", "hostile", "-o", "json"],
        &["watch", "hostile", "--timeout", "1s"],
        &["watch", "hostile", "--timeout", "1s", "-o", "json"],
        &["watch", "hostile", "--timeout", "1s", "-o", "table"],
        &["certs", "inspect", "plane/hostile"],
        &["wait", "hostile", "--for", "connected", "--timeout", "0"],
    ] {
        for color in ["never", "always"] {
            let output = at.run(&[args, &["--color", color]].concat());
            for text in [&output.stdout, &output.stderr] {
                let own = console::strip_ansi_codes(text).into_owned();
                let colors = text.len() - own.len();
                assert!(color == "always" || colors == 0, "{args:?}");
                assert!(!text.contains("\u{1b}]") && !text.contains("\u{1b}[2J"), "{args:?}");
                assert!(
                    !own.contains(|c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c))),
                    "{args:?}"
                );
                let whole = args.contains(&"json") || args.contains(&"yaml");
                assert!(whole || text.len() < 5_000, "{args:?} prints {} bytes", text.len());
            }
        }
    }
    assert_eq!(at.run(&["get", "hostile", "-o", "json"]).json()["status"]["agentConnection"]["message"], message);
    let row = at.run(&["get", "hostile", "-o", "wide"]).expect(0);
    assert_eq!(row.stdout.lines().count(), 2);
    assert!(row.stdout.contains(r"\u{1b}"), "{}", row.stdout);
    at.kubectl(&["delete", "cbp", "hostile"], "");
}
