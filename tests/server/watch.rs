//! `watch`: changes, and what it outlives.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::SOON;
use crate::control_plane::{ControlPlane, Running, SHARED, finish};
use crate::proxy::Proxy;

stories!(
    Server:
        states_change_because_time_passes,
        changes_are_watched,
        a_watch_outlives_the_api_server,
        a_watch_outlives_a_cut_connection,
        a_watch_outlives_a_mute_connection,
        an_expired_token_is_read_anew,
        a_terminal_is_redrawn_in_place,
        a_closed_pipe_ends_a_watch,
        signals_end_with_their_codes,
        who_may_not_watch_is_reported_by_polling;
);

fn states_change_because_time_passes() {
    let at = &*SHARED;
    for (name, ago) in [("ages-late", 105), ("ages-stale", 165)] {
        at.plane(name);
        at.status(name, true, 1, &[("lastHeartbeatTime", ago)], "1 agent connected");
    }
    let mut watch = at.spawn(&["watch", "ages-late", "ages-stale", "-o", "json"]);
    watch.event("synced", "", SOON);
    assert_eq!(watch.last("ages-late"), ("present".into(), "Connected".into()));
    assert_eq!(watch.last("ages-stale"), ("present".into(), "Late".into()));
    for (name, from, to, age) in [("ages-late", "Connected", "Late", 121), ("ages-stale", "Late", "Stale", 181)] {
        let change = watch
            .seen
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|event| event["type"] == "changed" && event["name"] == name);
        let change = change.unwrap_or_else(|| watch.event("changed", name, Duration::from_secs(30)));
        assert_eq!(
            (&change["from"], &change["state"], &change["heartbeatAgeSeconds"]),
            (&json!(from), &json!(to), &json!(age)),
            "{change}"
        );
    }
}

fn changes_are_watched() {
    let at = &*SHARED;
    at.kubectl(&["label", "--overwrite", "namespace", "default", "x=y"], "");
    let create =
        |name: &str| at.run(&["create", name, "--client-ca-secret", "default/none", "-l", "test=watched"]).expect(0);
    create("watched-a");
    let mut watch = at.spawn(&["watch", "-l", "test=watched", "-o", "json"]);
    assert_eq!(watch.event("present", "watched-a", SOON)["state"], "Unreported");
    watch.event("synced", "", SOON);
    create("watched-b");
    assert_eq!(watch.event("added", "watched-b", SOON)["planeID"], "watched-b");
    at.connect("watched-b");
    let change = watch.event("changed", "watched-b", SOON);
    assert_eq!(
        (&change["from"], &change["state"], &change["connectedAgents"]),
        (&json!("Unreported"), &json!("Connected"), &json!(1))
    );
    at.run(&["delete", "watched-a", "--yes"]).expect(0);
    assert_eq!(watch.event("deleted", "watched-a", SOON)["from"], "Unreported");

    let mut lines = at.spawn(&["watch", "watched-b"]);
    let line = lines.until("a line", SOON, |line| line.contains("watched-b"));
    let words: Vec<_> = line.split(' ').collect();
    assert_eq!((words[1], words[2], words[3]), ("watched-b", "Connected", "agents=1"), "{line}");
    assert!(words[0].parse::<jiff::Timestamp>().is_ok() && words[4].starts_with("heartbeat="), "{line}");
    at.run(&["watch", "watched-b", "--timeout", "1s"]).expect(124);
    at.run(&["watch", "watched-b", "not-there"]).expect(3);
    at.run(&["get", "-w", "not-there"]).expect(3);
}

/// Planes that are changed, deleted and made behind a watch's back; at the end its last line for each must be true.
fn behind_the_back(at: &ControlPlane, watch: &mut Running, away: impl FnOnce(&mut Running), back: impl FnOnce()) {
    for name in ["kept", "changed", "deleted", "replaced"] {
        at.plane(name);
    }
    for name in ["kept", "changed", "deleted", "replaced"] {
        if !watch.seen.iter().any(|line| line.contains(&format!(r#""name":"{name}""#))) {
            watch.event("added", name, SOON);
        }
    }
    away(watch);
    at.connect("changed");
    at.run(&["delete", "deleted", "replaced", "--yes"]).expect(0);
    at.plane("replaced");
    at.connect("replaced");
    at.plane("made");
    back();
    let limit = Duration::from_secs(45);
    let deadline = Instant::now() + limit;
    let truth = [
        ("kept", "Unreported"),
        ("changed", "Connected"),
        ("deleted", ""),
        ("replaced", "Connected"),
        ("made", "Unreported"),
    ];
    let is = |watch: &Running| {
        truth.iter().all(|(name, state)| {
            watch.seen.iter().any(|line| line.contains(&format!(r#""name":"{name}""#))) && watch.last(name).1 == *state
        })
    };
    while !is(watch) {
        watch.until("the truth", deadline.saturating_duration_since(Instant::now()), |_| true);
    }
    assert_eq!(watch.last("deleted").0, "deleted");
    // And it goes on.
    at.connect("kept");
    while watch.last("kept").1 != "Connected" {
        watch.event("changed", "kept", SOON);
    }
}

fn a_watch_outlives_the_api_server() {
    let at = ControlPlane::start();
    let mut watch = at.spawn(&["watch", "-o", "json"]);
    watch.event("synced", "", SOON);
    behind_the_back(
        &at,
        &mut watch,
        |watch| {
            at.kill();
            watch.event("lost", "", SOON);
            at.up();
        },
        || {},
    );
    let types = |watch: &Running, kind: &str| {
        watch.seen.iter().filter(|line| line.contains(&format!(r#""type":"{kind}""#))).count()
    };
    assert_eq!((types(&watch, "lost"), types(&watch, "resumed")), (1, 1), "{:#?}", watch.seen);
    // While it is away it is said so, and the first list of another watch fails at once.
    at.kill();
    watch.event("lost", "", SOON);
    let refused = at.run(&["watch"]).expect(2);
    assert!(
        refused.stderr.contains("could not reach the API server") && refused.stderr.contains("hint:"),
        "{}",
        refused.stderr
    );
    at.up();
    watch.event("resumed", "", SOON);
    assert_eq!(watch.signal("-TERM"), 143);
}

/// A kubeconfig that leads through a proxy.
fn through(at: &ControlPlane, proxy: &Proxy) -> String {
    let direct = fs::read_to_string(at.kubeconfig()).unwrap();
    at.write(
        &format!("kubeconfig-{}", proxy.port),
        &direct.replace(&format!(":{}", at.port()), &format!(":{}", proxy.port)),
    )
}

fn a_watch_outlives_a_cut_connection() {
    let at = ControlPlane::start();
    let proxy = Proxy::start(at.port());
    let mut watch = at.spawn(&["watch", "-o", "json", "--kubeconfig", &through(&at, &proxy)]);
    watch.event("synced", "", SOON);
    behind_the_back(
        &at,
        &mut watch,
        |watch| {
            proxy.cut();
            watch.event("lost", "", SOON);
        },
        || proxy.open(),
    );
    assert!(watch.seen.iter().any(|line| line.contains(r#""type":"resumed""#)), "{:#?}", watch.seen);
}

fn a_watch_outlives_a_mute_connection() {
    let at = ControlPlane::start();
    let proxy = Proxy::start(at.port());
    let mut watch =
        at.spawn(&["watch", "-o", "json", "--kubeconfig", &through(&at, &proxy), "--request-timeout", "5s"]);
    watch.event("synced", "", SOON);
    behind_the_back(&at, &mut watch, |_| proxy.mute(), || proxy.open());
}

fn an_expired_token_is_read_anew() {
    let at = ControlPlane::start();
    let mut watch = at.spawn(&["watch", "-o", "json"]);
    watch.event("synced", "", SOON);
    let tokens = fs::read_to_string(at.path().join("tokens.csv")).unwrap();
    let token = tokens.split(',').next().unwrap();
    let new = "0123456789abcdef";
    at.kill();
    for file in ["tokens.csv", "kubeconfig"] {
        let text = fs::read_to_string(at.path().join(file)).unwrap();
        at.write(file, &text.replace(token, new));
    }
    at.up();
    at.plane("after");
    watch.event("added", "after", Duration::from_secs(30));
}

fn a_terminal_is_redrawn_in_place() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("there is no `script` to make a pseudo-terminal: the redraw is not looked at");
        return;
    }
    let at = &*SHARED;
    at.plane("redrawn");
    let watch = format!("stty rows 20 cols 90; {} watch redrawn --timeout 2s", env!("CARGO_BIN_EXE_choreoctl"));
    let mut command = Command::new("script");
    command
        .args(["-qec", &watch, "/dev/null"])
        .env("KUBECONFIG", at.kubeconfig())
        .env("NO_COLOR", "1")
        .env("TERM", "xterm");
    let screen = finish(command, "").expect(124).stdout;
    let drawn = screen.matches("NAME").count();
    assert!(drawn > 1 && screen.matches("\u{1b}[4A\r").count() == drawn - 1, "{screen:?}");
    assert!(!screen.contains("\u{1b}[3"), "{screen:?}");
}

fn a_closed_pipe_ends_a_watch() {
    let at = &*SHARED;
    at.plane("piped");
    let started = Instant::now();
    let script =
        format!("set -o pipefail; {} watch | head -1; echo \"${{PIPESTATUS[0]}}\"", env!("CARGO_BIN_EXE_choreoctl"));
    let mut command = Command::new("bash");
    command.args(["-c", &script]).env("KUBECONFIG", at.kubeconfig());
    let output = finish(command, "");
    let lines: Vec<_> = output.stdout.lines().collect();
    assert_eq!((lines.len(), lines[1], output.stderr.as_str()), (2, "0", ""), "{output:?}");
    assert!(started.elapsed() < SOON);
}

fn signals_end_with_their_codes() {
    let at = &*SHARED;
    for (signal, code) in [("-INT", 130), ("-TERM", 143)] {
        let mut watch = at.spawn(&["watch", "-o", "json"]);
        watch.event("synced", "", SOON);
        assert_eq!(watch.signal(signal), code);
    }
}

/// A user who may get and list planes, and not watch them.
fn who_may_not_watch_is_reported_by_polling() {
    let at = ControlPlane::start();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "listers"},
        "rules": [{"apiGroups": ["openchoreo.dev"], "resources": ["clusterbuildplanes"], "verbs": ["get", "list"]}]});
    at.kubectl(&["apply", "-f", "-"], &role.to_string());
    at.kubectl(&["create", "clusterrolebinding", "listers", "--clusterrole=listers", "--user=guest"], "");
    let polling = |every: u8| format!("warning: not allowed to watch clusterbuildplanes; polling every {every} s");
    at.plane("polled");
    at.connect("polled");
    let wait = |args: &[&str]| at.run(&[&["wait", "polled", "--context", "guest", "--for"], args].concat());
    let done = wait(&["connected", "--timeout", "30s"]).expect(0);
    assert!(!done.stderr.contains("polling"), "what holds already needs no watch: {}", done.stderr);

    let late = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(&["disconnected", "--timeout", "30s"]));
        std::thread::sleep(Duration::from_secs(2));
        at.status("polled", false, 0, &[("lastConnectedTime", 60), ("lastDisconnectedTime", 1)], "");
        waiting.join().unwrap()
    });
    let late = late.expect(0);
    assert!(late.stdout.contains("Disconnected"), "{late:?}");
    assert_eq!(late.stderr.matches(&polling(2)).count(), 1, "{}", late.stderr);
    // The last state that is reported is the present one.
    let over = wait(&["connected", "--timeout", "4s"]).expect(124);
    assert!(over.stderr.contains("polled: Disconnected"), "{}", over.stderr);

    let mut watch = at.spawn(&["watch", "--context", "guest", "-o", "json"]);
    let soon = Duration::from_secs(20);
    watch.event("synced", "", soon);
    at.plane("added");
    watch.event("added", "added", soon);
    at.connect("polled");
    assert_eq!(watch.event("changed", "polled", soon)["state"], "Connected");
    at.run(&["delete", "added", "--yes"]).expect(0);
    watch.event("deleted", "added", soon);
    assert_eq!(watch.stderr().matches(&polling(5)).count(), 1);
}
