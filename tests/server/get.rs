//! `get`: tables and lists, and what `get` prints as kubectl does.

use std::time::Instant;

use serde_json::{Value, json};

use crate::SOON;
use crate::control_plane::{ControlPlane, SHARED};
use crate::planes::{example, manifest};
use crate::terminal::Terminal;

stories!(
    Server:
        the_examples_become_every_state,
        the_table_has_states_agents_and_ages,
        a_terminal_has_a_summary,
        similar_planes_are_proposed,
        lists_come_in_pages,
        output_is_kubectls,
        custom_columns_are_kubectls,
        computed_fields_are_those_of_describe;
);

/// The examples and some more, with a plane in every state.
fn every_state() -> ControlPlane {
    let at = ControlPlane::start();
    for file in ["basic.yaml", "secret-store.yaml", "observability.yaml"] {
        let applied = at.run(&["apply", "-f", &example(file)]).expect(0);
        assert!(applied.stdout.contains(" created"), "{applied:?}");
        assert!(applied.stderr.contains("context control (https://127.0.0.1:"), "{applied:?}");
    }
    assert!(at.states().values().all(|state| state == "Unreported"));
    let hour = 3600;
    let report = |name: &str, agents: u32, times: &[(&str, i64)], message: &str| {
        at.status(name, agents > 0, agents, times, message);
    };
    for name in ["late", "stale", "never"] {
        at.plane(name);
    }
    report("late", 1, &[("lastHeartbeatTime", 140)], "x");
    report("stale", 1, &[("lastHeartbeatTime", 2 * hour)], "x");
    report("never", 0, &[], "x");
    let connected = [("lastConnectedTime", 76 * hour), ("lastHeartbeatTime", 12)];
    report("shared-buildplane", 2, &connected, "2 agents connected (HA mode)");
    let disconnected = [("lastConnectedTime", 9 * hour), ("lastDisconnectedTime", 180), ("lastHeartbeatTime", 240)];
    report("secure-buildplane", 0, &disconnected, "No agents connected");
    let held = r#"{"metadata":{"finalizers":["example.com/held"]}}"#;
    at.kubectl(&["patch", "cbp", "monitored-buildplane", "--type=merge", "-p", held], "");
    at.run(&["delete", "monitored-buildplane", "--yes", "--wait=false"]).expect(0);
    at.plane("new");
    at
}

/// Each plane of those with its state, the worst first.
const STATES: [(&str, &str); 7] = [
    ("stale", "Stale"),
    ("secure-buildplane", "Disconnected"),
    ("never", "NeverConnected"),
    ("new", "Unreported"),
    ("late", "Late"),
    ("monitored-buildplane", "Deleting"),
    ("shared-buildplane", "Connected"),
];

fn the_examples_become_every_state() {
    let at = every_state();
    assert_eq!(at.states(), STATES.map(|(name, state)| (name.to_owned(), state.to_owned())).into());
    let only = at.run(&["get", "--state", "stale,Late", "-o", "name"]).expect(0);
    assert_eq!(only.stdout, "clusterbuildplane.openchoreo.dev/late\nclusterbuildplane.openchoreo.dev/stale\n");
    let described = at.run(&["describe", "secure-buildplane", "-o", "json"]).expect(0).json();
    let ca = &described["planes"][0]["clientCA"];
    assert_eq!(ca["source"], "secret/openchoreo-system/buildplane-agent-ca:ca.crt");
    assert!(ca["problem"].as_str().unwrap().contains("does not exist"), "{ca}");
}

fn the_table_has_states_agents_and_ages() {
    let table = every_state().run(&["get", "--sort-by", "state"]).expect(0).stdout;
    let rows: Vec<Vec<_>> = table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.iter().map(|row| (row[0], row[2])).collect::<Vec<_>>(), STATES, "{table}");
    let row = |name: &str| rows.iter().find(|row| row[0].starts_with(name)).unwrap();
    assert_eq!((row("shared")[3], row("shared")[5]), ("2", "3d4h"));
    let heartbeat: u32 = row("shared")[4].trim_end_matches('s').parse().unwrap();
    assert!((12..60).contains(&heartbeat), "{table}");
    assert!(row("secure")[4].starts_with("4m") && row("secure")[5].starts_with("3m"), "{table}");
    assert_eq!(row("stale")[4], "120m");
}

fn a_terminal_has_a_summary() {
    if !Terminal::available() {
        println!("there is no `script` to make a pseudo-terminal: the summary is not looked at");
        return;
    }
    let at = ControlPlane::start();
    for name in ["sum-a", "sum-b", "sum-c"] {
        at.plane(name);
    }
    at.connect("sum-a");
    let screen = |args: &[&str]| Terminal::start(&at, args).ends().1;
    let all = screen(&["get"]);
    assert!(all.ends_with("3 planes: 1 Connected, 2 Unreported\r\n"), "{all}");
    for args in [&["get", "sum-a"][..], &["get", "--no-headers"], &["get", "-q"], &["get", "-o", "name"]] {
        let screen = screen(args);
        assert!(!screen.contains("Connected,") && !screen.contains(" planes"), "{args:?}: {screen}");
    }
    assert!(!at.run(&["get"]).expect(0).stdout.contains("planes:"));
    // What a filter leaves out isn't counted.
    let watched = screen(&["watch", "--state", "connected", "--timeout", "1s"]);
    assert!(watched.contains("1 plane: 1 Connected") && !watched.contains("3 planes"), "{watched}");
}

fn similar_planes_are_proposed() {
    let at = &*SHARED;
    at.plane("similar-builder");
    for args in [
        &["describe", "similar-bilder"][..],
        &["get", "similar-bilder"],
        &["delete", "similar-bilder", "--yes"],
        &["watch", "similar-bilder"],
        &["wait", "similar-bilder", "--for", "connected"],
    ] {
        let reported = at.run(args).expect(3);
        assert_eq!(reported.stderr.matches("did you mean similar-builder?").count(), 1, "{args:?}: {reported:?}");
    }
    let reported = at.run(&["get", "nothing-like-that"]).expect(3).stderr;
    assert!(reported.ends_with("hint: choreoctl get\n"), "{reported}");
    // One that was found costs one request.
    let found = at.run(&["get", "similar-builder", "-v"]).expect(0).stderr;
    assert_eq!(found.matches("/clusterbuildplanes").count(), 1, "{found}");
}

fn lists_come_in_pages() {
    let at = ControlPlane::start();
    let items: Vec<Value> = (0..1100)
        .map(|i| {
            serde_json::from_str(&manifest(
                &format!("p{i:04}"),
                json!({"planeID": "p", "clusterAgent": {"clientCA": {}}}),
            ))
            .unwrap()
        })
        .collect();
    at.kubectl(&["create", "-f", "-"], &json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string());
    let output = at.run(&["get", "-o", "name", "-v"]).expect(0);
    assert_eq!(output.stdout.lines().count(), 1100);
    assert_eq!(output.stderr.matches("limit=500").count(), 3, "{}", output.stderr);
    assert_eq!(at.run(&["get", "-o", "json"]).expect(0).json()["items"].as_array().unwrap().len(), 1100);

    // Each of the three answers has the warning; it is reported once.
    let deprecated = r#"[{"op": "add", "path": "/spec/versions/0/deprecated", "value": true}]"#;
    at.kubectl(&["patch", "crd", "clusterbuildplanes.openchoreo.dev", "--type=json", "-p", deprecated], "");
    let deadline = Instant::now() + SOON;
    loop {
        let warned = at.run(&["get", "-o", "name"]).expect(0).stderr;
        if warned.matches("warning: the API server says: ").count() == 1 && warned.contains("deprecated") {
            break;
        }
        assert!(Instant::now() < deadline, "{warned}");
    }
}

fn output_is_kubectls() {
    let at = &*SHARED;
    at.run(&["create", "same", "--client-ca-file", &at.ca("same"), "--display-name", "Same", "-l", "a=b"]).expect(0);
    at.connect("same");
    for format in ["json", "yaml"] {
        let (ours, theirs) = (
            at.run(&["get", "same", "-o", format]).expect(0).stdout,
            at.kubectl(&["get", "cbp", "same", "-o", format], "").stdout,
        );
        let parse = |text: &str| serde_yaml::from_str::<Value>(text).unwrap();
        assert_eq!(parse(&ours), parse(&theirs));
    }
    // What is printed can be read back, and piped on.
    let yaml = at.run(&["get", "same", "-o", "yaml"]).stdout;
    assert!(at.run_with(&["get", "-f", "-"], &yaml).expect(0).stdout.contains("Connected"));
    assert!(at.run_with(&["describe", "-f", "-"], &yaml).expect(0).stdout.contains("plane agents"));
    let unchanged = at.run_with(&["apply", "-f", "-"], &yaml).expect(0);
    assert!(unchanged.stdout.contains("unchanged"), "{unchanged:?}");
    let name = at.run(&["get", "same", "-o", "name"]).stdout;
    at.run(&["get", name.trim()]).expect(0);
    let version = at.run(&["version", "-o", "json"]).expect(0).json();
    assert_eq!(
        (&version["client"]["version"], version["server"]["version"].as_str().map(|v| v.starts_with('v'))),
        (&json!(env!("CARGO_PKG_VERSION")), Some(true))
    );
}

/// Each path has the value that kubectl finds for it.
fn custom_columns_are_kubectls() {
    let at = &*SHARED;
    let labels = "example.com/part-of=ci,my-team=a";
    at.run(&["create", "columns", "--client-ca-file", &at.ca("columns"), "-l", labels]).expect(0);
    at.connect("columns");
    let condition = |kind: &str| {
        let time = "2026-11-22T12:00:00Z";
        json!({"type": kind, "status": "True", "reason": "R", "message": "m", "lastTransitionTime": time})
    };
    let status = json!({"status": {"conditions": [condition("Created"), condition("Ready")]}}).to_string();
    at.kubectl(&["patch", "cbp", "columns", "--subresource=status", "--type=merge", "-p", &status], "");
    let paths = [
        ".metadata.name",
        "metadata.name",
        "{.metadata.name}",
        r".metadata.labels.example\.com/part-of",
        ".metadata.labels['my-team']",
        ".metadata.labels.my-team",
        ".metadata.labels",
        ".metadata.nothing",
        ".spec.clusterAgent.nothing.deeper",
        ".status.agentConnection.connected",
        ".status.agentConnection.connectedAgents",
        ".status.conditions[0].type",
        ".status.conditions[-1].type",
        ".status.conditions[0:1].type",
        ".status.conditions[1]",
        r#".status.conditions[?(@.type=="Ready")].status"#,
        ".status.conditions[*].type",
        r#".status.conditions[?(@.type=="None")].status"#,
    ];
    for path in paths {
        let format = format!("custom-columns=A:{path},B:.spec.planeID");
        let ours = at.run(&["get", "columns", "-o", &format]).expect(0).stdout;
        let theirs = at.kubectl(&["get", "cbp", "columns", "-o", &format], "").stdout;
        // kubectl puts one more blank between two columns.
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&ours), words(&theirs), "{path}");
    }
    let labels = ["-L", "my-team,example.com/part-of"];
    let ours = at.run(&[&["get", "columns"][..], &labels].concat()).expect(0).stdout;
    let theirs = at.kubectl(&[&["get", "cbp", "columns"][..], &labels].concat(), "").stdout;
    let last = |text: &str| {
        let two = |line: &str| line.split_whitespace().rev().take(2).map(str::to_owned).collect::<Vec<_>>();
        text.lines().map(two).collect::<Vec<_>>()
    };
    assert_eq!(last(&ours), last(&theirs));
}

fn computed_fields_are_those_of_describe() {
    let at = &*SHARED;
    at.plane("computed");
    at.connect("computed");
    let mut computed = at.run(&["get", "computed", "-o", "json", "--computed"]).expect(0).json();
    let mut described = at.run(&["describe", "computed", "-o", "json"]).expect(0).json()["planes"][0].clone();
    // It passes between the two.
    for connection in [&mut computed["computed"]["connection"], &mut described["connection"]] {
        connection["heartbeatAgeSeconds"].take();
    }
    assert_eq!(computed["computed"]["connection"], described["connection"]);
    assert_eq!(computed["computed"]["connection"]["state"], "Connected");
    let columns = "custom-columns=ID:.planeID,STATE:.connection.state,AGENTS:.computed.connection.connectedAgents";
    let table = at.run(&["get", "computed", "-o", columns]).expect(0).stdout;
    assert!(table.starts_with("ID        STATE      AGENTS\ncomputed  Connected  "), "{table}");
    // Nothing is asked but the plane.
    let asked = at.run(&["get", "computed", "-o", "json", "--computed", "-v"]).expect(0).stderr;
    assert_eq!(asked.matches("/clusterbuildplanes").count(), 1, "{asked}");
}
