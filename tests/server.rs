//! The binary against a real kube-apiserver and etcd. Where these can't be had, every test counts as skipped.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "server/bootstrap.rs"]
mod bootstrap;
#[path = "server/control_plane.rs"]
mod control_plane;
#[allow(dead_code, reason = "the verdicts on servers are compared where they are made, in src/pki")]
#[path = "server/corpus.rs"]
mod corpus;
#[path = "server/diagnosis.rs"]
mod diagnosis;
#[path = "server/differential.rs"]
mod differential;
#[path = "server/estate.rs"]
mod estate;
#[path = "server/helm.rs"]
mod helm;
#[path = "server/hints.rs"]
mod hints;
#[path = "server/oddities.rs"]
mod oddities;
#[path = "server/peers.rs"]
mod peers;
#[path = "server/proxy.rs"]
mod proxy;
#[path = "server/rotation.rs"]
mod rotation;
#[path = "server/terminal.rs"]
mod terminal;

use std::fs;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Trial};
use serde_json::{Value, json};

use bootstrap::{
    a_build_plane_is_registered_in_one_go, a_person_registers_a_build_plane,
    everything_is_written_for_a_cluster_elsewhere, nothing_is_registered_without_the_rights,
};
use control_plane::{ControlPlane, Output, Running, available, finish};
use diagnosis::{
    doctor_names_the_injected_cause, doctor_only_reads_and_tells_what_it_can, doctor_warns_of_what_will_hurt,
};
use helm::the_chart_is_installed_repaired_and_rotated_by_helm;
use oddities::{every_verb_reads_whatever_the_server_stores, who_may_not_watch_is_told_by_polling};
use peers::{certificates_please_others, zlint_has_nothing_against_certificates};
use proxy::Proxy;
use rotation::{
    a_pinned_leaf_is_led_out_of_its_outage, a_rotation_can_be_rolled_back, a_rotation_leaves_to_others_what_is_theirs,
    a_rotation_minds_what_changes_beside_it, a_rotation_refuses_nobody, a_rotation_that_is_cut_off_goes_on,
    a_secret_that_somebody_else_wrote_stops_a_rotation, an_unfinished_rotation_is_shown_with_both_ways_on,
    cert_manager_issues_from_the_new_ca,
};
use terminal::Terminal;

const SOON: Duration = Duration::from_secs(15);

/// The control plane of all tests that don't break theirs. Each has planes of its own names.
static SHARED: LazyLock<ControlPlane> = LazyLock::new(ControlPlane::start);

macro_rules! tests {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), $name as fn())),*] };
}

fn main() {
    let tests = tests![
        the_examples_become_every_state,
        states_change_because_time_passes,
        changes_are_watched,
        a_watch_outlives_the_api_server,
        a_watch_outlives_a_cut_connection,
        a_watch_outlives_a_mute_connection,
        a_terminal_is_redrawn_in_place,
        a_terminal_has_a_summary,
        a_closed_pipe_ends_a_watch,
        signals_end_with_their_codes,
        apply_takes_over_what_create_set,
        apply_takes_over_what_kubectl_set,
        a_field_of_somebody_else_is_a_conflict,
        a_take_over_leaves_finalizers_and_owners,
        one_bad_object_does_not_stop_the_others,
        never_two_sources,
        dry_runs_change_nothing,
        differences_are_told,
        wait_ends_with_the_state,
        wait_ends_with_the_time,
        delete_tells_of_finalizers,
        an_existing_plane_is_left_as_it_is,
        a_ca_of_other_plane_ids_is_told,
        what_a_deleted_plane_leaves_is_told,
        a_question_takes_no_answer_from_before,
        similar_planes_are_proposed,
        who_may_not_read_secrets_sees_the_rest,
        who_may_not_watch_is_told_by_polling,
        every_verb_reads_whatever_the_server_stores,
        a_proxy_of_the_kubeconfig_is_used,
        errors_have_codes_and_hints,
        a_missing_kind_is_told,
        an_expired_token_is_read_anew,
        hostile_text_is_harmless,
        certificates_are_read_wherever_they_are,
        certificates_please_others,
        names_complete,
        lists_come_in_pages,
        the_readmes_first_command_runs,
        the_readmes_tour_runs,
        output_is_kubectls,
        validate_judges_as_the_server_by_the_reference,
        validate_judges_as_the_server_by_a_stricter_crd,
        the_server_is_asked_and_its_causes_have_their_lines,
        verdicts_are_told_for_every_plane_of_a_plane_id,
        whom_a_change_locks_out_is_told,
        wait_ends_with_trust,
        everything_is_written_for_a_cluster_elsewhere,
    ];
    // By Go's own crypto, or with agents that a program in Go stands in for.
    let of_go = tests![
        certificates_satisfy_a_go_server,
        zlint_has_nothing_against_certificates,
        verdicts_are_gos,
        a_rotation_refuses_nobody,
        a_rotation_that_is_cut_off_goes_on,
        a_rotation_can_be_rolled_back,
        a_pinned_leaf_is_led_out_of_its_outage,
        a_rotation_leaves_to_others_what_is_theirs,
        cert_manager_issues_from_the_new_ca,
        a_secret_that_somebody_else_wrote_stops_a_rotation,
        a_rotation_minds_what_changes_beside_it,
        an_unfinished_rotation_is_shown_with_both_ways_on,
        doctor_names_the_injected_cause,
        doctor_warns_of_what_will_hurt,
        doctor_only_reads_and_tells_what_it_can,
        a_build_plane_is_registered_in_one_go,
        a_person_registers_a_build_plane,
        nothing_is_registered_without_the_rights,
        the_chart_is_installed_repaired_and_rotated_by_helm,
    ];
    let args = Arguments::from_args();
    let listing = args.list;
    let missing = if listing { None } else { available().err() };
    if let Some(why) = &missing {
        println!("skipped, {why}");
    }
    let go = Command::new("go").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    let no_go = missing.clone().or_else(|| (!go).then(|| "Go is not on this machine".to_owned()));
    let trial = |(name, test): (&'static str, fn()), missing: &Option<String>| {
        let missing = missing.clone();
        Trial::ignorable_test(name, move || {
            if let Some(why) = missing {
                return Ok(Completion::ignored_with(why));
            }
            test();
            Ok(Completion::Completed)
        })
    };
    let trials = tests.map(|test| trial(test, &missing)).into_iter().chain(of_go.map(|test| trial(test, &no_go)));
    let trials = trials.collect();
    let conclusion = libtest_mimic::run(&args, trials);
    if missing.is_none() && !listing {
        // Statics are never dropped.
        let _ =
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control-plane/down")).arg(SHARED.path()).status();
        let _ = fs::remove_dir_all(SHARED.path());
    }
    conclusion.exit();
}

fn example(name: &str) -> String {
    format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A new CA in a folder of the control plane; its certificate's path.
fn ca(at: &ControlPlane, folder: &str) -> String {
    at.run(&["certs", "ca", "--out-dir", folder]).expect(0);
    format!("{folder}/ca.crt")
}

fn pem(at: &ControlPlane, path: &str) -> String {
    fs::read_to_string(at.path().join(path)).unwrap()
}

fn object(at: &ControlPlane, name: &str) -> Value {
    at.kubectl(&["get", "cbp", name, "-o", "json", "--show-managed-fields"], "").json()
}

fn manifest(name: &str, spec: Value) -> String {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name}, "spec": spec}).to_string()
}

/// A CA in a Secret, and a spec that has it.
fn secret_ref(name: &str) -> Value {
    json!({"secretRef": {"name": name, "namespace": "default", "key": "ca.crt"}})
}

fn by_secret(plane_id: &str, name: &str) -> Value {
    json!({"planeID": plane_id, "clusterAgent": {"clientCA": secret_ref(name)}})
}

fn states(output: &Output) -> Vec<(String, String)> {
    let row = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words[0].to_owned(), words[2].to_owned())
    };
    output.stdout.lines().skip(1).map(row).collect()
}

fn the_examples_become_every_state() {
    let at = ControlPlane::start();
    for file in ["basic.yaml", "secret-store.yaml", "observability.yaml"] {
        let applied = at.run(&["apply", "-f", &example(file)]).expect(0);
        assert!(applied.stdout.contains(" created"), "{applied:?}");
        assert!(applied.stderr.contains("context control (https://127.0.0.1:"), "{applied:?}");
    }
    let names = ["monitored-buildplane", "secure-buildplane", "shared-buildplane"];
    let all = states(&at.run(&["get"]).expect(0));
    assert_eq!(all, names.map(|name| (name.to_owned(), "Unreported".to_owned())));

    let hour = 3600;
    for (extra, connected, agents, times) in [
        ("late", true, 1, vec![("lastHeartbeatTime", 140)]),
        ("stale", true, 1, vec![("lastHeartbeatTime", 2 * hour)]),
        ("never", false, 0, vec![]),
    ] {
        at.plane(extra);
        at.status(extra, connected, agents, &times, "x");
    }
    at.status(
        "shared-buildplane",
        true,
        2,
        &[("lastConnectedTime", 76 * hour), ("lastHeartbeatTime", 12)],
        "2 agents connected (HA mode)",
    );
    at.status(
        "secure-buildplane",
        false,
        0,
        &[("lastConnectedTime", 9 * hour), ("lastDisconnectedTime", 180), ("lastHeartbeatTime", 240)],
        "No agents connected",
    );
    at.kubectl(
        &[
            "patch",
            "cbp",
            "monitored-buildplane",
            "--type=merge",
            "-p",
            r#"{"metadata":{"finalizers":["example.com/held"]}}"#,
        ],
        "",
    );
    at.run(&["delete", "monitored-buildplane", "--yes", "--wait=false"]).expect(0);
    at.plane("new");

    let table = at.run(&["get", "--sort-by", "state"]).expect(0);
    let expected = [
        ("stale", "Stale"),
        ("secure-buildplane", "Disconnected"),
        ("never", "NeverConnected"),
        ("new", "Unreported"),
        ("late", "Late"),
        ("monitored-buildplane", "Deleting"),
        ("shared-buildplane", "Connected"),
    ];
    assert_eq!(states(&table), expected.map(|(name, state)| (name.to_owned(), state.to_owned())), "{}", table.stdout);
    let row = |name: &str| {
        table
            .stdout
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(row("shared")[3], "2");
    let heartbeat: u32 = row("shared")[4].trim_end_matches('s').parse().unwrap();
    assert!((12..60).contains(&heartbeat), "{:?}", row("shared"));
    assert_eq!(row("shared")[5], "3d4h");
    assert!(row("secure")[4].starts_with("4m") && row("secure")[5].starts_with("3m"), "{:?}", row("secure"));
    assert_eq!(row("stale")[4], "120m");

    let only = at.run(&["get", "--state", "stale,Late", "-o", "name"]).expect(0);
    assert_eq!(only.stdout, "clusterbuildplane.openchoreo.dev/late\nclusterbuildplane.openchoreo.dev/stale\n");
    let described = at.run(&["describe", "secure-buildplane", "-o", "json"]).expect(0).json();
    let plane = &described["planes"][0];
    assert_eq!(plane["connection"]["state"], "Disconnected");
    assert_eq!(plane["clientCA"]["source"], "secret/openchoreo-system/buildplane-agent-ca:ca.crt");
    assert!(plane["clientCA"]["problem"].as_str().unwrap().contains("does not exist"), "{plane}");
}

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
fn behind_the_back(at: &ControlPlane, watch: &mut Running, away: impl FnOnce(), back: impl FnOnce()) {
    for name in ["kept", "changed", "deleted", "replaced"] {
        at.plane(name);
    }
    for name in ["kept", "changed", "deleted", "replaced"] {
        if !watch.seen.iter().any(|line| line.contains(&format!(r#""name":"{name}""#))) {
            watch.event("added", name, SOON);
        }
    }
    away();
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
        || {
            at.kill();
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
    behind_the_back(&at, &mut watch, || proxy.cut(), || proxy.open());
    assert!(watch.seen.iter().any(|line| line.contains(r#""type":"lost""#)), "{:#?}", watch.seen);
    assert!(watch.seen.iter().any(|line| line.contains(r#""type":"resumed""#)), "{:#?}", watch.seen);
}

fn a_watch_outlives_a_mute_connection() {
    let at = ControlPlane::start();
    let proxy = Proxy::start(at.port());
    let mut watch =
        at.spawn(&["watch", "-o", "json", "--kubeconfig", &through(&at, &proxy), "--request-timeout", "5s"]);
    watch.event("synced", "", SOON);
    behind_the_back(&at, &mut watch, || proxy.mute(), || proxy.open());
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

fn apply_takes_over_what_create_set() {
    let at = &*SHARED;
    let (old, new) = (ca(at, "create-old"), ca(at, "create-new"));
    at.run(&["create", "created", "--client-ca-file", &old, "-l", "team=a", "--secret-store", "vault"]).expect(0);
    let twice = at.run(&["create", "created", "--client-ca-file", &old]).expect(2);
    assert!(twice.stderr.contains("exists already") && twice.stderr.contains("apply"), "{}", twice.stderr);

    let with = |ca: Value| manifest("created", json!({"planeID": "created", "clusterAgent": {"clientCA": ca}}));
    let client_ca = || object(at, "created")["spec"]["clusterAgent"]["clientCA"].clone();
    let applied = at.run_with(&["apply", "-f", "-"], &with(json!({"value": pem(at, &new)}))).expect(0);
    assert!(applied.stdout.ends_with("/created configured\n"), "{applied:?}");
    assert_eq!(client_ca(), json!({"value": pem(at, &new)}));
    // What create set and the manifest leaves out goes, too.
    assert_eq!(object(at, "created")["spec"].get("secretStoreRef"), None);
    assert_eq!(object(at, "created")["metadata"].get("labels"), None);

    let secret = secret_ref("ca");
    at.run_with(&["apply", "-f", "-"], &with(secret.clone())).expect(0);
    assert_eq!(client_ca(), secret);
    let before = object(at, "created")["metadata"]["resourceVersion"].clone();
    let again = at.run_with(&["apply", "-f", "-"], &with(secret)).expect(0);
    assert!(again.stdout.ends_with("/created unchanged\n"), "{again:?}");
    assert_eq!(object(at, "created")["metadata"]["resourceVersion"], before);
    at.run_with(&["apply", "-f", "-"], &with(json!({"value": pem(at, &old)}))).expect(0);
    assert_eq!(client_ca(), json!({"value": pem(at, &old)}));
}

fn apply_takes_over_what_kubectl_set() {
    let at = &*SHARED;
    let spec = |ca: Value| manifest("by-kubectl", json!({"planeID": "x", "clusterAgent": {"clientCA": ca}}));
    at.kubectl(&["apply", "-f", "-"], &spec(secret_ref("ca")));
    let value = json!({"value": pem(at, &ca(at, "by-kubectl"))});
    at.run_with(&["apply", "-f", "-"], &spec(value.clone())).expect(0);
    let plane = object(at, "by-kubectl");
    assert_eq!(plane["spec"]["clusterAgent"]["clientCA"], value);
    let managers: Vec<_> =
        plane["metadata"]["managedFields"].as_array().unwrap().iter().map(|entry| entry["manager"].clone()).collect();
    assert_eq!(managers, ["choreoctl"]);
}

fn a_field_of_somebody_else_is_a_conflict() {
    let at = &*SHARED;
    let spec = |id: &str| manifest("owned", by_secret(id, "ca"));
    at.kubectl(&["apply", "--server-side", "--field-manager=argocd", "-f", "-"], &spec("theirs"));
    let conflict = at.run_with(&["apply", "-f", "-"], &spec("ours")).expect(2);
    conflict.says(&["argocd", ".spec.planeID", "--force-conflicts"]);
    assert_eq!(object(at, "owned")["spec"]["planeID"], "theirs");
    at.run_with(&["diff", "-f", "-"], &spec("ours")).expect(2);
    at.run_with(&["apply", "-f", "-", "--force-conflicts"], &spec("ours")).expect(0);
    assert_eq!(object(at, "owned")["spec"]["planeID"], "ours");
}

fn a_take_over_leaves_finalizers_and_owners() {
    let at = &*SHARED;
    let spec = json!({"planeID": "f", "clusterAgent": {"clientCA": {"value": null, "secretRef": {"name": "ca", "namespace": "default", "key": "k"}}}});
    let mut created: Value = serde_json::from_str(&manifest("finalized", spec.clone())).unwrap();
    created["metadata"]["finalizers"] = json!(["example.com/held"]);
    created["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}]);
    at.kubectl(&["create", "-f", "-"], &created.to_string());
    let plain = manifest("finalized", spec);
    assert_eq!(at.run_with(&["diff", "-f", "-"], &plain).expect(0).stdout, "");
    at.run_with(&["apply", "-f", "-"], &plain).expect(0);
    let metadata = object(at, "finalized")["metadata"].clone();
    assert_eq!(metadata["finalizers"], json!(["example.com/held"]));
    assert_eq!(metadata["ownerReferences"].as_array().map(Vec::len), Some(1));
    at.kubectl(&["patch", "cbp", "finalized", "--type=merge", "-p", r#"{"metadata":{"finalizers":[]}}"#], "");
}

fn one_bad_object_does_not_stop_the_others() {
    let at = &*SHARED;
    at.plane("outdated");
    let old = at.run(&["get", "outdated", "-o", "yaml"]).stdout;
    at.connect("outdated");
    let new = manifest("beside", by_secret("x", "ca"));
    let applied = at.run_with(&["apply", "-f", "-"], &format!("{old}---\n{new}\n")).expect(2);
    assert!(applied.stdout.contains("/beside created") && !applied.stdout.contains("/outdated"), "{applied:?}");
    assert!(applied.stderr.contains("resourceVersion is not that of the object"), "{applied:?}");
    let nameless = new.replace(r#""name":"beside""#, r#""generateName":"beside-""#);
    assert!(at.run_with(&["apply", "-f", "-"], &nameless).expect(2).stderr.contains("has no name"));
    let stream = at
        .run_with(&["get", "-o", "name", "-f", "-"], &format!("{new}\n{}", new.replace("beside", "behind")))
        .expect(0);
    assert_eq!(stream.stdout.lines().count(), 2);
}

fn never_two_sources() {
    let at = &*SHARED;
    let spec = |ca: Value| manifest("two-sources", json!({"planeID": "x", "clusterAgent": {"clientCA": ca}}));
    at.kubectl(&["apply", "--server-side", "--field-manager=argocd", "-f", "-"], &spec(secret_ref("ca")));
    let value = json!({"value": pem(at, &ca(at, "two-sources"))});
    let refused = at.run_with(&["apply", "-f", "-", "--force-conflicts"], &spec(value)).expect(2);
    refused.says(&["both value and secretRef", "argocd", "kubectl patch"]);
    assert_eq!(object(at, "two-sources")["spec"]["clusterAgent"]["clientCA"].get("value"), None);
}

fn dry_runs_change_nothing() {
    let at = &*SHARED;
    for how in ["client", "server"] {
        let made = at.run(&["create", "dry", "--client-ca-secret", "default/ca", "--dry-run", how]).expect(0);
        assert!(made.stdout.contains("created (") && made.stdout.contains("dry run)"), "{made:?}");
    }
    let spec = manifest("dry", by_secret("dry", "ca"));
    let applied = at.run_with(&["apply", "-f", "-", "--dry-run", "server", "-o", "json"], &spec).expect(0);
    assert_eq!(applied.json()["spec"]["planeID"], "dry");
    at.run(&["get", "dry"]).expect(3);
    at.plane("dry-delete");
    at.run(&["delete", "dry-delete", "--dry-run", "server"]).expect(0);
    at.run(&["get", "dry-delete"]).expect(0);
    let asked = at.run(&["delete", "dry-delete"]).expect(2);
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    at.run(&["get", "dry-delete"]).expect(0);
}

fn differences_are_told() {
    let at = &*SHARED;
    at.plane("diffed");
    let spec = |secret: &str| manifest("diffed", by_secret("diffed", secret));
    assert_eq!(at.run_with(&["diff", "-f", "-"], &spec("none")).expect(0).stdout, "");
    let diff = at.run_with(&["diff", "-f", "-"], &spec("other")).expect(1);
    assert!(diff.stdout.contains("-        name: none\n+        name: other\n"), "{}", diff.stdout);
    at.kubectl(&["label", "cbp", "diffed", "aa=1", "bb=2", "cc=3"], "");
    let labels = at.run_with(&["diff", "-f", "-"], &spec("other")).expect(1).stdout;
    assert!(!labels.contains("+    bb") && !labels.contains("-    cc"), "{labels}");
    let new = at.run_with(&["diff", "-f", "-"], &spec("none").replace("diffed", "diffed-new")).expect(1);
    assert!(new.stdout.starts_with("--- /dev/null"), "{}", new.stdout);
    at.run_with(&["diff", "-f", "-"], "kind: Other\napiVersion: v1\n").expect(2);
}

fn wait_ends_with_the_state() {
    let at = &*SHARED;
    at.plane("waited");
    let mut wait = at.spawn(&["wait", "waited", "--for", "connected", "--timeout", "30s"]);
    std::thread::sleep(Duration::from_millis(500));
    at.connect("waited");
    wait.until("the plane", SOON, |line| line.ends_with("/waited Connected"));
    assert_eq!(wait.wait(), 0);
    at.run(&["wait", "cbp/waited", "--for", "Connected", "--timeout", "0"]).expect(0);
    at.run(&["wait", "waited", "--timeout", "0"]).expect(0);
    at.run(&["wait", "-l", "no=plane", "--for", "deleted"]).expect(0);
    at.run(&["wait", "not-there", "--for", "connected"]).expect(3);
    at.run(&["wait", "not-there", "--for", "deleted"]).expect(0);

    at.run(&["wait", "-l", "no=plane", "--for", "exists", "--timeout", "1s"]).expect(124);
    let mut exists = at.spawn(&["wait", "waited-later", "--for", "exists"]);
    std::thread::sleep(Duration::from_millis(300));
    at.plane("waited-later");
    assert_eq!(exists.wait(), 0);

    at.run(&["create", "waited-twin", "--plane-id", "waited", "--client-ca-secret", "default/none"]).expect(0);
    let shared = at.run(&["wait", "waited", "--for", "connected", "-o", "json"]).expect(0);
    assert_eq!(shared.json(), json!({"planes": [{"name": "waited", "met": true, "state": "Connected"}]}));
    assert!(shared.stderr.contains("waited-twin"), "{}", shared.stderr);
    at.run(&["wait", "waited", "waited-twin", "--for", "connected", "--any", "--timeout", "0"]).expect(0);

    let mut created = at.spawn(&["create", "waited-create", "--client-ca-secret", "default/none", "--wait"]);
    created.until("the object", SOON, |line| line.ends_with("created"));
    at.connect("waited-create");
    assert_eq!(created.wait(), 0);
}

fn wait_ends_with_the_time() {
    let at = &*SHARED;
    at.plane("timed");
    for timeout in ["0", "1s"] {
        let late = at.run(&["wait", "timed", "--for", "connected", "--timeout", timeout]).expect(124);
        assert!(late.stderr.contains("timed: Unreported"), "{}", late.stderr);
    }
    at.status("timed", false, 0, &[], "No agents connected");
    at.run(&["wait", "timed", "--for", "disconnected", "--timeout", "0"]).expect(0);
    at.run(&["wait", "timed", "--for", "nonsense"]).expect(2);
}

fn delete_tells_of_finalizers() {
    let at = &*SHARED;
    at.plane("held");
    let finalizer = |list: &str| {
        at.kubectl(
            &["patch", "cbp", "held", "--type=merge", "-p", &format!(r#"{{"metadata":{{"finalizers":[{list}]}}}}"#)],
            "",
        )
    };
    finalizer(r#""openchoreo.dev/clusterbuildplane-cleanup""#);
    let slow = at.run(&["delete", "held", "--yes", "--timeout", "5s"]).expect(124);
    assert!(
        slow.stdout.contains("held deleted")
            && slow.stderr.contains("openchoreo.dev/clusterbuildplane-cleanup")
            && slow.stderr.contains("controller"),
        "{slow:?}"
    );
    assert_eq!(states(&at.run(&["get", "held"]).expect(0))[0].1, "Deleting");
    let mut wait = at.spawn(&["wait", "held", "--for", "deleted"]);
    let mut delete = at.spawn(&["delete", "held", "--yes"]);
    std::thread::sleep(Duration::from_millis(500));
    finalizer("");
    assert_eq!((wait.wait(), delete.wait()), (0, 0));
    at.run(&["delete", "held", "--yes"]).expect(3);
    at.run(&["delete", "held", "--yes", "--ignore-not-found"]).expect(0);
    at.plane("held");
    let file = at.write("held.yaml", &manifest("held", json!({})));
    let misspelt =
        at.write("misspelt.yaml", &manifest("held", json!({})).replace("ClusterBuildPlane", "ClusterBuildplane"));
    assert!(at.run(&["delete", "-f", &misspelt, "--yes"]).expect(2).stderr.contains("holds no ClusterBuildPlane"));
    at.run(&["wait", "-f", &misspelt, "--for", "deleted"]).expect(2);
    at.run(&["delete", "-f", &file, "--yes"]).expect(0);
}

fn an_existing_plane_is_left_as_it_is() {
    let at = &*SHARED;
    let create = |more: &[&str]| {
        let words = ["create", "existing", "--client-ca-secret", "default/none", "--if-not-exists"];
        at.run(&[&words[..], more].concat()).expect(0)
    };
    assert!(create(&["-l", "a=1"]).stdout.ends_with("/existing created\n"));
    let version = object(at, "existing")["metadata"]["resourceVersion"].clone();
    let again = create(&["-l", "a=1"]);
    assert!(again.stdout.ends_with("/existing unchanged\n") && !again.stderr.contains("warning"), "{again:?}");
    let other = create(&["--plane-id", "other", "-l", "a=2", "-o", "json"]);
    assert_eq!(other.json()["spec"]["planeID"], "existing");
    other.says(&["/existing exists and differs: metadata.labels[a], spec.planeID; left as it is"]);
    let dry = create(&["--dry-run", "server"]);
    assert!(dry.stdout.ends_with("/existing unchanged (server dry run)\n"), "{dry:?}");
    assert_eq!(object(at, "existing")["metadata"]["resourceVersion"], version);
}

fn a_ca_of_other_plane_ids_is_told() {
    let at = ControlPlane::start();
    let file = ca(&at, "shared-ca");
    let create = |name: &str, more: &[&str]| {
        at.run(&[&["create", name, "--client-ca-file", &file][..], more].concat()).expect(0).stderr
    };
    assert!(!create("sharing-0", &[]).contains("ca-shared"));
    assert!(!create("sharing-same", &["--plane-id", "sharing-0"]).contains("ca-shared"));
    assert!(create("sharing-dry", &["--dry-run", "server"]).contains("as sharing-0, sharing-same, which"));
    for number in 1..8 {
        create(&format!("sharing-{number}"), &[]);
    }
    let told = create("sharing-8", &[]);
    let sentence = "warning: sharing-8 trusts the same CA as sharing-0, sharing-1, sharing-2, sharing-3, sharing-4 and 4 more, which have other planeIDs";
    assert!(told.contains(sentence) && told.matches("ca-shared").count() == 1, "{told}");
    let spec = manifest(
        "sharing-9",
        json!({"planeID": "sharing-9", "clusterAgent": {"clientCA": {"value": pem(&at, &file)}}}),
    );
    at.run_with(&["apply", "-f", "-"], &spec).expect(0).says(&[
        "sharing-9 trusts the same CA",
        "and 5 more",
        "[ca-shared]",
    ]);
    // What is as it was is not warned of again.
    assert!(!at.run_with(&["apply", "-f", "-"], &spec).expect(0).stderr.contains("ca-shared"));
}

fn what_a_deleted_plane_leaves_is_told() {
    let at = &*SHARED;
    at.kubectl(&["create", "secret", "generic", "left-ca", "-n", "default"], "");
    let create = |name: &str| at.run(&["create", name, "--client-ca-secret", "default/left-ca"]).expect(0);
    create("left-a");
    create("left-b");
    let told = at.run(&["delete", "left-a", "--yes", "--context", "control"]).expect(0);
    told.says(&[
        "the agent of planeID left-a, if one was installed, remains in its cluster",
        "helm uninstall RELEASE ",
        "--kube-context CONTEXT",
    ]);
    assert!(!told.stderr.contains("left-ca"), "{told:?}");
    let quiet = at.run(&["delete", "left-b", "--yes", "-q", "--dry-run", "server"]).expect(0);
    assert!(!quiet.stderr.contains("remains"), "{quiet:?}");
    let told = at.run(&["delete", "left-b", "--yes", "--context", "control"]).expect(0).stderr;
    let command = told.lines().find_map(|line| line.trim().strip_prefix("kubectl delete secret left-ca "));
    let words: Vec<_> = command.unwrap_or_else(|| panic!("{told}")).split(' ').collect();
    at.kubectl(&[&["delete", "secret", "left-ca"][..], &words].concat(), "");
}

fn a_question_takes_no_answer_from_before() {
    if !Terminal::available() {
        println!("there is no `script` to make a pseudo-terminal: prompts are not looked at");
        return;
    }
    let at = &*SHARED;
    at.plane("asked");
    let exists = || at.run(&["get", "asked"]).code == 0;
    let start = || {
        let mut terminal = Terminal::start_after(at, "sleep 1", &["delete", "asked"]);
        // The answer to another question, before this one is put.
        terminal.types("y\r");
        terminal.sees("Do you want to delete plane asked");
        std::thread::sleep(Duration::from_millis(300));
        assert!(exists());
        terminal
    };
    for (keys, said) in
        [("\r", "not confirmed"), ("\u{4}", "not confirmed"), ("no\r", "not confirmed"), ("\u{3}", "^C")]
    {
        let mut terminal = start();
        terminal.types(keys);
        let (code, screen) = terminal.ends();
        assert!(code == if keys == "\u{3}" { 130 } else { 2 } && screen.contains(said) && exists(), "{code} {screen}");
    }
    let mut terminal = start();
    terminal.types("what\r");
    terminal.sees("answer y or n");
    terminal.sees("[y/N] ");
    terminal.types("y");
    std::thread::sleep(Duration::from_millis(500));
    assert!(exists(), "no Enter yet");
    terminal.types("\r");
    assert_eq!(terminal.ends().0, 0);
    assert!(!exists());
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
        let told = at.run(args).expect(3);
        assert_eq!(told.stderr.matches("did you mean similar-builder?").count(), 1, "{args:?}: {told:?}");
    }
    let told = at.run(&["get", "nothing-like-that"]).expect(3).stderr;
    assert!(told.ends_with("hint: choreoctl get\n"), "{told}");
    // One that was found costs one request.
    let found = at.run(&["get", "similar-builder", "-v"]).expect(0).stderr;
    assert_eq!(found.matches("/clusterbuildplanes").count(), 1, "{found}");
}

/// Lets the guest read planes, and nothing else.
fn let_guest_read(at: &ControlPlane) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "planes"},
        "rules": [{"apiGroups": ["openchoreo.dev"], "resources": ["clusterbuildplanes"], "verbs": ["get", "list", "watch"]}]});
    at.kubectl(&["apply", "-f", "-"], &role.to_string());
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "planes"},
        "subjects": [{"kind": "User", "name": "guest"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "planes"}});
    at.kubectl(&["apply", "-f", "-"], &binding.to_string());
}

fn who_may_not_read_secrets_sees_the_rest() {
    let at = ControlPlane::start();
    at.plane("by-secret");
    at.run(&["create", "by-value", "--client-ca-file", &ca(&at, "rights")]).expect(0);
    let refused = at.run(&["get", "--context", "guest"]).expect(2);
    assert!(
        refused.stderr.contains("not allowed") && refused.stderr.contains("kubectl auth can-i --list --context guest"),
        "{}",
        refused.stderr
    );
    let_guest_read(&at);
    let wide = at.run(&["get", "-o", "wide", "--context", "guest"]).expect(0);
    let row = |name: &str| wide.stdout.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("by-secret").contains("forbidden") && row("by-value").contains("4y364d"), "{}", wide.stdout);
    let described = at.run(&["describe", "by-secret", "--context", "guest"]).expect(0);
    assert!(
        described.stdout.contains("Unreported") && described.stdout.contains("not allowed"),
        "{}",
        described.stdout
    );
    at.run(&["watch", "--context", "guest", "--timeout", "1s"]).expect(124);
    let refused = at.run(&["create", "x", "--client-ca-secret", "a/b", "--context", "guest"]).expect(2);
    assert!(refused.stderr.contains("cannot create"), "{}", refused.stderr);
    let unread = at.run(&["certs", "inspect", "secret/default/none", "--context", "guest"]).expect(2);
    assert!(unread.stderr.contains("not allowed"), "{}", unread.stderr);
    let acting = at.run(&["get", "--as", "guest", "--as-group", "nobodies"]).expect(0);
    assert!(acting.stdout.contains("by-value"));
}

fn a_proxy_of_the_kubeconfig_is_used() {
    let at = &*SHARED;
    let proxy = Proxy::tunnel();
    let config = fs::read_to_string(at.kubeconfig()).unwrap();
    let entry = format!("certificate-authority: apiserver.crt, proxy-url: \"http://127.0.0.1:{}\"", proxy.port);
    let proxied = at.write("proxied", &config.replace("certificate-authority: apiserver.crt", &entry));
    at.run(&["version", "--kubeconfig", &proxied]).expect(0);
    assert_eq!(proxy.connections(), 1);
    // That of the environment is for other machines.
    let mut command = at.command(&["version"]);
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port));
    finish(command, "").expect(0);
    assert_eq!(proxy.connections(), 1);
}

fn errors_have_codes_and_hints() {
    let at = &*SHARED;
    let fails = |args: &[&str], code, words: &[&str]| {
        let output = at.run(args).expect(code);
        output.says(words);
        assert!(output.stderr.contains("error: ") && output.stderr.contains("\nhint: "), "{}", output.stderr);
        assert_eq!(output.stdout, "");
    };
    fails(&["get", "--context", "nowhere"], 2, &["no context nowhere", "the kubeconfig has: control, guest"]);
    fails(&["get", "--context", "contrl"], 2, &["hint: did you mean control? The kubeconfig has: control, guest"]);
    fails(&["get", "not-there"], 3, &["plane not-there does not exist"]);
    fails(&["get", "--kubeconfig", "/not/there"], 2, &["kubeconfig", "/not/there"]);
    fails(&["get", "--user", "nobody"], 2, &["no user nobody"]);

    let config = fs::read_to_string(at.kubeconfig()).unwrap();
    let token = config.split("token: ").nth(1).unwrap().split('}').next().unwrap();
    let expired = at.write("expired", &config.replace(token, "00000000"));
    fails(
        &["get", "--kubeconfig", &expired],
        2,
        &["did not accept the credentials", "kubectl auth whoami --kubeconfig"],
    );
    let dead = at.write("dead", &config.replace(&format!(":{}", at.port()), ":1"));
    fails(
        &["get", "--kubeconfig", &dead],
        2,
        &["could not reach the API server at https://127.0.0.1:1", "refused", "kubectl cluster-info --kubeconfig"],
    );
    let other = at.write(
        "other",
        &config.replace("certificate-authority: apiserver.crt", "certificate-authority: errors-ca/ca.crt"),
    );
    ca(at, "errors-ca");
    fails(&["get", "--kubeconfig", &other], 2, &["certificate authority is not this server's"]);
    let plugin = at.write("plugin", &config.replace(&format!("{{token: {token}}}"), "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c, 'echo SECRET; echo no login >&2; exit 1']}}"));
    fails(&["get", "--kubeconfig", &plugin], 2, &["could not get credentials", "no login"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = at.write(
        "mute",
        &config.replace(&format!(":{}", at.port()), &format!(":{}", listener.local_addr().unwrap().port())),
    );
    let started = Instant::now();
    fails(&["get", "--kubeconfig", &mute, "--request-timeout", "1s"], 2, &["--request-timeout"]);
    at.run(&["wait", "x", "--for", "deleted", "--kubeconfig", &mute, "--request-timeout", "0", "--timeout", "1s"])
        .expect(124);
    at.run(&["wait", "x", "--for", "deleted", "--kubeconfig", &mute, "--request-timeout", "1s", "--timeout", "0"])
        .expect(2);
    at.run(&["wait", "-l", "a=b", "--for", "deleted", "--kubeconfig", &mute, "--timeout", "1s"]).expect(124);
    assert!(started.elapsed() < SOON);

    let broken = at.write("broken", &config.replace("users:", "users: ["));
    fails(&["get", "--kubeconfig", &broken], 2, &["broken", "line 11"]);

    // No output anywhere shows a token or what a plugin printed.
    for kubeconfig in [&at.kubeconfig().to_string_lossy().into_owned(), &plugin, &broken] {
        let output = at.run(&["get", "-vvv", "--kubeconfig", kubeconfig]);
        let all = output.stdout + &output.stderr;
        assert!(!all.contains(token) && !all.contains("SECRET"), "{all}");
    }
    // An empty current context is none, and the next file's counts, as for kubectl.
    let empty = at.write("empty", "apiVersion: v1\nkind: Config\ncurrent-context: \"\"\n");
    let mut command = at.command(&["get"]);
    command.env("KUBECONFIG", format!("{empty}:{}", at.kubeconfig().display()));
    finish(command, "").expect(0);
    // Missing files of a list are passed over, as kubectl does.
    let mut command = at.command(&["get"]);
    command.env("KUBECONFIG", format!("/not/there:{}", at.kubeconfig().display()));
    finish(command, "").expect(0);
    let mut command = at.command(&["get"]);
    command.env("KUBECONFIG", "/not/there").env("HOME", "/not/there");
    assert!(finish(command, "").expect(2).stderr.contains("no cluster is configured"));
}

fn a_missing_kind_is_told() {
    let at = ControlPlane::start();
    at.kubectl(&["delete", "crd", "clusterbuildplanes.openchoreo.dev"], "");
    let missing = at.run(&["get"]).expect(2);
    assert!(
        missing.stderr.contains("the cluster has no ClusterBuildPlane")
            && missing.stderr.contains("control plane's context"),
        "{}",
        missing.stderr
    );
    for args in [
        &["get", "x"][..],
        &["create", "x", "--client-ca-secret", "a/b"],
        &["wait", "x", "--for", "connected"],
        &["watch"],
        &["describe"],
    ] {
        at.run(args).expect(2);
    }
    let renamed = at
        .run(&["crd"])
        .stdout
        .replace("clusterbuildplanes", "clusterworkflowplanes")
        .replace("clusterbuildplane", "clusterworkflowplane")
        .replace("ClusterBuildPlane", "ClusterWorkflowPlane")
        .replace("[cbp, cbps]", "[cwp, cwps]");
    at.kubectl(&["apply", "-f", "-"], &renamed);
    let deadline = Instant::now() + SOON;
    loop {
        let told = at.run(&["get"]).expect(2);
        if told.stderr.contains("ClusterWorkflowPlane") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", told.stderr);
    }
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
                let own = anstream::adapter::strip_str(text).to_string();
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

fn certificates_are_read_wherever_they_are() {
    let at = &*SHARED;
    let authority = ca(at, "read");
    at.run(&["certs", "client", "--plane-id", "read", "--ca-dir", "read"]).expect(0);
    let secret = at.run(&["certs", "secret", "read", "-n", "default", "--name", "agent"]).expect(0).stdout;
    at.kubectl(&["apply", "-f", "-"], &secret);
    at.kubectl(&["create", "configmap", "ca", "--from-file", &authority], "");
    at.run(&["create", "read", "--client-ca-secret", "default/agent"]).expect(0);
    let count = |source: &str| {
        at.run(&["certs", "inspect", source, "-o", "json"]).expect(0).json()["certificates"].as_array().unwrap().len()
    };
    assert_eq!(
        ["secret/default/agent", "secret/default/agent:tls.crt", "configmap/default/ca", "plane/read", "read/tls.crt"]
            .map(count),
        [2, 1, 1, 1, 1]
    );
    let server = format!("https://127.0.0.1:{}", at.port());
    let presented = at.run(&["certs", "inspect", &server, "-o", "json"]).expect(0).json();
    assert!(
        presented["certificates"][0]["extKeyUsage"].as_array().unwrap().contains(&json!("serverAuth")),
        "{presented}"
    );
    let certificate = &at.run(&["certs", "inspect", "read/tls.crt", "-o", "json"]).json()["certificates"][0];
    for field in [
        "source",
        "index",
        "subject",
        "issuer",
        "serial",
        "notBefore",
        "notAfter",
        "lifetimeUsed",
        "ca",
        "keyAlgorithm",
        "extKeyUsage",
        "dnsNames",
        "sha256",
        "spkiSha256",
    ] {
        assert!(certificate.get(field).is_some(), "{field}");
    }
    at.run(&["certs", "inspect", "plane/read", "--expires-within", "10y"]).expect(1);
    at.run(&["certs", "inspect", "plane/read", "--expires-within", "30d"]).expect(0);
    at.run(&["certs", "inspect", "plane/read", "--expires-within", "30d", "--at", "+1800d"]).expect(1);
    at.run(&["certs", "inspect", "secret/default/nothing"]).expect(2);
    at.run(&["certs", "inspect", "secret/default/agent:nothing"]).expect(2);
    at.run(&["certs", "inspect", "plane/not-there"]).expect(2);
    let wide = at.run(&["get", "read", "-o", "wide"]).expect(0);
    assert!(wide.stdout.contains("secret/default/agent:ca.crt") && wide.stdout.contains("4y364d"), "{}", wide.stdout);
}

/// The gateway's rules, by Go's own crypto: a server that verifies as OpenChoreo's does.
fn certificates_satisfy_a_go_server() {
    let at = &*SHARED;
    let program = at.path().join("gateway");
    let build = Command::new("go")
        .args(["build", "-buildvcs=false", "-o"])
        .arg(&program)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway"))
        .status()
        .unwrap();
    assert!(build.success());
    let verdict = |authority: &str, folder: &str| {
        let mut command = Command::new(&program);
        command.args([authority, &format!("{folder}/tls.crt"), &format!("{folder}/tls.key")]).current_dir(at.path());
        finish(command, "").stdout.trim().to_owned()
    };
    for algorithm in peers::ALGORITHMS {
        let folder = format!("go-{algorithm}");
        at.run(&["certs", "ca", "--out-dir", &folder, "--key-algorithm", algorithm]).expect(0);
        at.run(&["certs", "client", "--plane-id", "a", "--ca-dir", &folder, "--key-algorithm", algorithm]).expect(0);
        assert_eq!(verdict(&format!("{folder}/ca.crt"), &folder), "authorized", "{algorithm}");
    }
    assert!(verdict("go-rsa-2048/ca.crt", "go-ed25519").contains("unknown authority"));
    at.run(&["certs", "bundle", "go-rsa-2048/ca.crt", "go-ed25519/ca.crt"]).expect(0);
    at.write("both.crt", &at.run(&["certs", "bundle", "go-rsa-2048/ca.crt", "go-ed25519/ca.crt"]).stdout);
    assert_eq!(["go-rsa-2048", "go-ed25519"].map(|folder| verdict("both.crt", folder)), ["authorized", "authorized"]);

    // Keys that a user brings, as other tools write them.
    let openssl = |args: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(args).current_dir(at.path());
        finish(command, "").expect(0);
    };
    for (form, args) in [
        ("pkcs1", &["genrsa", "-traditional", "-out", "pkcs1.key", "2048"][..]),
        ("sec1", &["ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.key"]),
        ("pkcs8", &["genpkey", "-algorithm", "ED25519", "-out", "pkcs8.key"]),
    ] {
        openssl(args);
        let (key, certificate) = (format!("{form}.key"), format!("{form}.crt"));
        openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-out",
            &certificate,
            "-days",
            "30",
            "-subj",
            &format!("/C=CH/O=Example/OU=Platform/CN={form} ca"),
        ]);
        at.run(&[
            "certs",
            "client",
            "--plane-id",
            "a",
            "--ca-cert",
            &certificate,
            "--ca-key",
            &key,
            "--out-dir",
            &format!("leaf-{form}"),
        ])
        .expect(0);
        assert_eq!(verdict(&certificate, &format!("leaf-{form}")), "authorized", "{form}");
    }
    let mismatch = at
        .run(&[
            "certs",
            "client",
            "--plane-id",
            "a",
            "--ca-cert",
            "sec1.crt",
            "--ca-key",
            "pkcs1.key",
            "--out-dir",
            "leaf-mismatch",
        ])
        .expect(2);
    assert!(
        mismatch.stderr.contains("belongs to none") && !at.path().join("leaf-mismatch").exists(),
        "{}",
        mismatch.stderr
    );
    openssl(&["req", "-x509", "-new", "-key", "sec1.key", "-out", "doubled.crt", "-subj", "/OU=a/OU=b/CN=doubled"]);
    let doubled = at
        .run(&[
            "certs",
            "client",
            "--plane-id",
            "a",
            "--ca-cert",
            "doubled.crt",
            "--ca-key",
            "sec1.key",
            "--out-dir",
            "leaf-doubled",
        ])
        .expect(2);
    assert!(doubled.stderr.contains("repeats an attribute"), "{}", doubled.stderr);
}

fn names_complete() {
    let at = &*SHARED;
    at.plane("completed-plane");
    let complete = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_choreoctl"));
        command
            .arg("--")
            .args(words)
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n")
            .env("KUBECONFIG", at.kubeconfig());
        finish(command, "").expect(0).stdout
    };
    assert!(complete(&["choreoctl", "get", "completed"]).contains("completed-plane"));
    assert_eq!(complete(&["choreoctl", "--context", "gu"]).trim(), "guest");
    assert_eq!(complete(&["choreoctl", "get", "--context", "nowhere", "completed"]).trim(), "");
    assert!(complete(&["choreoctl", "wait", "x", "--for", "conn"]).contains("connected"));
    at.kubectl(&["label", "cbp", "completed-plane", "completed=yes"], "");
    for (words, found) in [
        (&["get", "-l", "compl"][..], "completed=yes"),
        (&["delete", "-l", "a=b,compl"], "a=b,completed=yes"),
        (&["certs", "inspect", "plane/completed"], "plane/completed-plane"),
        (&["certs", "verify", "--cert", "ag"], "agent"),
        (&["get", "--state", "!nev"], "!NeverConnected"),
        (&["watch", "--state", "Late,sta"], "Late,Stale"),
        (&["get", "--sort-by", "hea"], "heartbeat"),
        (&["get", "--cluster", "contr"], "control"),
        (&["doctor", "--explain", "agent-tr"], "agent-trusted"),
        (&["doctor", "--build-context", "gu"], "guest"),
    ] {
        assert_eq!(complete(&[&["choreoctl"], words].concat()).trim(), found, "{words:?}");
    }
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

    // Each of the three answers has the warning; it is told once.
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

/// A folder that looks like the repository, in which a control plane of its own can run.
fn checkout() -> tempfile::TempDir {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // The folders are real, so that `..` in them leads here and not into the repository.
    for path in ["tests/control-plane", "target/control-plane", "examples"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let link =
        |path: std::path::PathBuf| std::os::unix::fs::symlink(root.join(&path), folder.path().join(&path)).unwrap();
    for listed in ["tests/control-plane", "examples"] {
        for entry in fs::read_dir(root.join(listed)).unwrap() {
            link(std::path::Path::new(listed).join(entry.unwrap().file_name()));
        }
    }
    link("src".into());
    link("target/control-plane/bin".into());
    folder
}

/// Runs the README's blocks of a kind there; a failing command ends them.
fn run_readme(fence: &str, folder: &std::path::Path) -> Output {
    let readme = include_str!("../README.md");
    let block = readme.split(&format!("\n{fence}\n")).nth(1).unwrap().split("\n```").next().unwrap();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_choreoctl")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euxc", block]).current_dir(folder).env("PATH", path).env_remove("KUBECONFIG");
    command.env("CHOREOCTL", env!("CARGO_BIN_EXE_choreoctl"));
    finish(command, "")
}

fn the_readmes_first_command_runs() {
    let folder = checkout();
    let output = run_readme("```sh", folder.path()).expect(0);
    for word in ["demo/ca.crt", "demo/tls.crt", "1 file, 1 plane: no findings", "choreoctl apply -f demo/plane.yaml"] {
        assert!(output.stdout.contains(word), "{word} in {}", output.stdout);
    }
    let at = &*SHARED;
    let mut command = Command::new("bash");
    command.args([&example("provision.sh"), "provisioned"]).current_dir(at.path()).env("KUBECONFIG", at.kubeconfig());
    command.env("CHOREOCTL", env!("CARGO_BIN_EXE_choreoctl")).env("APPLY", "yes");
    assert!(finish(command, "").expect(0).stdout.contains("/provisioned created"));
    at.run(&["get", "provisioned"]).expect(0);
}

fn the_readmes_tour_runs() {
    let folder = checkout();
    let output = run_readme("```sh tour", folder.path()).expect(0);
    assert!(output.stdout.contains("shared-buildplane") && output.stdout.contains("/demo deleted"), "{output:?}");
}

fn output_is_kubectls() {
    let at = &*SHARED;
    at.run(&["create", "same", "--client-ca-file", &ca(at, "same"), "--display-name", "Same", "-l", "a=b"]).expect(0);
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
    assert!(at.run_with(&["describe", "-f", "-"], &yaml).expect(0).stdout.contains("build plane agents"));
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

/// How many mutants are judged by each CRD, and what they are made from. SEED and MUTANTS in the environment try others.
fn mutants() -> (usize, u64) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    (number("MUTANTS", 3000) as usize, number("SEED", 20_261_122))
}

/// Replaces the CRD, and waits until the new schema is served: until a plane of that planeID is refused.
fn install(at: &ControlPlane, crd: &str, refused: &str) {
    at.kubectl(&["replace", "-f", crd], "");
    let args = ["create", "probe", "--plane-id", refused, "--client-ca-secret", "a/b", "--dry-run", "server"];
    let deadline = Instant::now() + SOON;
    while at.run(&args).code == 0 {
        assert!(Instant::now() < deadline, "the CRD isn't served");
    }
}

/// With CRD in the environment by the CRD in that file instead.
fn validate_judges_as_the_server_by_the_reference() {
    let at = ControlPlane::start();
    let (count, seed) = mutants();
    match std::env::var("CRD") {
        Ok(path) => {
            at.write("crd.yaml", &fs::read_to_string(path).unwrap());
            at.kubectl(&["replace", "-f", "crd.yaml"], "");
            std::thread::sleep(SOON / 3);
        }
        Err(_) => drop(at.write("crd.yaml", include_str!("../src/plane/crd.yaml"))),
    }
    differential::compare(&at, "crd.yaml", &differential::planes(), count, seed);
}

fn validate_judges_as_the_server_by_a_stricter_crd() {
    let at = ControlPlane::start();
    let (count, seed) = mutants();
    at.write("strict.yaml", &differential::strict_crd());
    install(&at, "strict.yaml", "forbidden");
    differential::compare(&at, "strict.yaml", &differential::strict_planes(), count, seed);
}

fn the_server_is_asked_and_its_causes_have_their_lines() {
    let at = ControlPlane::start();
    at.write("strict.yaml", &differential::strict_crd());
    install(&at, "strict.yaml", "forbidden");
    let plane = |name: &str, spec: &str| {
        format!(
            "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {{name: {name}}}\nspec:\n  clusterAgent: {{clientCA: {{secretRef: {{namespace: a, name: {name}, key: c}}}}}}\n{spec}"
        )
    };
    let text = [
        plane("good", "  planeID: good\n"),
        plane("rule", "  # why not\n  planeID: forbidden\n"),
        plane("bounds", "  planeID: bounds\n  builders: [a, b, c, d]\n"),
        plane("field", "  planeID: field\n  unheard: of\n"),
        plane("twice", "  planeID: twice\n  planeID: twice\n"),
    ]
    .join("---\n");
    at.write("planes.yaml", &text);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "listed"}, "spec": {"planeID": "L"}},
    ]});
    at.write("list.json", &list.to_string());
    let judged = at.run(&["validate", "--server", "-o", "json", "planes.yaml", "list.json"]).expect(1).json();
    let findings = judged["findings"].as_array().unwrap();
    let told = |finding: &Value| {
        let part = |key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        (part("rule"), part("path"), finding["line"].as_u64().unwrap(), finding["column"].as_u64().unwrap())
    };
    let rejected = |path: &str, line, column| ("server-rejected".to_owned(), path.to_owned(), line, column);
    let expected = [
        rejected("spec.planeID", 14, 12),
        rejected("spec.builders", 22, 3),
        rejected("spec.unheard", 30, 3),
        ("duplicate-key".into(), String::new(), 38, 3),
        rejected("spec.clusterAgent", 1, 139),
        rejected("spec.planeID", 1, 157),
    ];
    assert_eq!(findings.iter().map(told).collect::<Vec<_>>(), expected, "{findings:#?}");
    // Nothing was stored, and one that exists already is judged all the same.
    assert_eq!(at.run(&["get", "--no-headers"]).expect(0).stdout, "");
    at.run(&["create", "good", "--client-ca-secret", "a/b"]).expect(0);
    at.write("good.yaml", &plane("good", "  planeID: good\n"));
    at.run(&["validate", "--server", "good.yaml"]).expect(0);
    let denied = at.run(&["validate", "--server", "--context", "guest", "good.yaml"]).expect(2);
    denied.says(&["not allowed", "hint:"]);
    at.run(&["validate", "--server", "--context", "nowhere", "good.yaml"]).expect(2);
}

/// RANDOM and SEED in the environment are how many chains are made at random, and from what.
fn verdicts_are_gos() {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    let (count, seed) = (number("RANDOM", 400), number("SEED", 5));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("verdicts");
    let mut build = Command::new("go");
    build.args(["build", "-buildvcs=false", "-o"]).arg(&program).arg("./verdicts");
    assert!(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/gateway")).status().unwrap().success());
    let cases = corpus::cases(count as usize, seed);
    let question = |case: &corpus::Case| {
        use base64::Engine as _;
        let presented: Vec<_> =
            case.presented.iter().map(|der| base64::engine::general_purpose::STANDARD.encode(der)).collect();
        let at = jiff::Timestamp::from_second(case.at).unwrap().to_string();
        json!({"Presented": presented, "CA": case.ca, "At": at}).to_string() + "\n"
    };
    let questions: String = cases.iter().map(question).collect();
    let asked = folder.path().join("questions");
    fs::write(&asked, &questions).unwrap();
    let answers = Command::new(&program).stdin(fs::File::open(&asked).unwrap()).output().unwrap().stdout;
    let answers = String::from_utf8(answers).unwrap();
    let theirs: Vec<_> = answers.lines().map(|line| line.split('\t').next().unwrap()).collect();
    assert_eq!(theirs.len(), cases.len());
    let ours: Vec<_> = std::thread::scope(|scope| {
        let judge = |cases| scope.spawn(move || verdicts(cases));
        let threads: Vec<_> = cases.chunks(cases.len().div_ceil(2)).map(judge).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let (mut differences, mut unknown, mut by_release) = (0, 0, 0);
    for (((case, ours), theirs), words) in cases.iter().zip(&ours).zip(&theirs).zip(answers.lines()) {
        unknown += usize::from(ours == "unknown");
        if ours == BY_RELEASE && matches!(*theirs, "authorized" | "name-constraints") {
            by_release += 1;
        } else if ours != theirs && ours != "unknown" {
            differences += 1;
            println!("{}: {ours}, and Go: {words}", case.name);
        }
    }
    println!(
        "{} cases, seed {seed}: {:?}, {unknown} unknown here, {by_release} by release",
        cases.len(),
        counts(theirs.iter().copied())
    );
    assert_eq!((differences, unknown), (0, 0));
}

/// Refused by some Go releases, which may not be the one on this machine.
const BY_RELEASE: &str = "by release";

/// How many cases have each verdict.
fn counts<'v>(verdicts: impl Iterator<Item = &'v str>) -> std::collections::BTreeMap<&'v str, usize> {
    let mut counts = std::collections::BTreeMap::new();
    verdicts.for_each(|verdict| *counts.entry(verdict).or_default() += 1);
    counts
}

/// What `certs verify` says of cases: `authorized`, `unknown`, or the reason.
fn verdicts(cases: &[corpus::Case]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let verdict = |case: &corpus::Case| {
        let pem: String = case.presented.iter().map(|der| corpus::pem(der)).collect();
        fs::write(path("presented.pem"), pem).unwrap();
        fs::write(path("ca"), &case.ca).unwrap();
        let at = jiff::Timestamp::from_second(case.at).unwrap().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_choreoctl"));
        command.args([
            "certs",
            "verify",
            "-o",
            "json",
            "--cert",
            &path("presented.pem"),
            "--ca",
            &path("ca"),
            "--at",
            &at,
        ]);
        let told = finish(command, "");
        let verdict = &told.json()["verdicts"][0];
        let word = |key: &str| verdict[key].as_str().map(str::to_owned);
        let code = match word("verdict").as_deref() {
            Some("authorized") => 0,
            Some("refused") => 1,
            _ => 2,
        };
        assert_eq!(told.code, code, "{}: {told:?}", case.name);
        if word("message").is_some_and(|message| message.contains("(by Go ")) {
            return BY_RELEASE.to_owned();
        }
        word("reason").or_else(|| word("verdict")).unwrap()
    };
    cases.iter().map(verdict).collect()
}

fn verdicts_are_told_for_every_plane_of_a_plane_id() {
    let at = ControlPlane::start();
    let own = ca(&at, "own");
    let other = ca(&at, "other");
    at.run(&["certs", "client", "--plane-id", "shared", "--ca-dir", "own"]).expect(0);
    let secret = |name: &str, path: &str| {
        at.kubectl(&["create", "secret", "generic", name, &format!("--from-file=ca.crt={path}")], "");
    };
    secret("right", &own);
    secret("wrong", &other);
    let plane = |name: &str, flag: &str, source: &str| {
        at.run(&["create", name, "--plane-id", "shared", flag, source]).expect(0);
    };
    plane("by-value", "--client-ca-file", &own);
    plane("by-secret", "--client-ca-secret", "default/right");
    let verify = |more: &[&str]| at.run(&[&["certs", "verify", "--cert", "own/tls.crt"], more].concat());
    let authorized = verify(&["-o", "json"]).expect(0).json();
    assert_eq!((&authorized["authorized"], &authorized["planeID"]), (&json!(true), &json!("shared")));
    assert!(authorized["verdicts"].as_array().unwrap().iter().all(|one| one["until"].is_string()), "{authorized}");
    // After the leaf's end, and from what the Secret of an agent would hold.
    verify(&["--at", "+2y"]).expect(1);
    at.kubectl(&["create", "secret", "tls", "agent", "--cert=own/tls.crt", "--key=own/tls.key"], "");
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--plane", "by-value"]).expect(0);
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--ca", "plane/by-secret"]).expect(0);
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--ca", "secret/default/wrong"]).expect(1);
    // Only a plane that isn't there is a 3.
    at.run(&["certs", "verify", "--cert", "secret/default/none", "--plane", "by-value"]).expect(2);
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--plane", "none"]).expect(3);

    plane("other", "--client-ca-secret", "default/wrong");
    plane("nothing", "--client-ca-secret", "default/none");
    let told = verify(&["-o", "json"]).expect(1).json();
    let reasons: Vec<_> = told["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["plane"].as_str().unwrap(), one["reason"].as_str()))
        .collect();
    let expected = [
        ("by-secret", None),
        ("by-value", None),
        ("nothing", Some("ca-unreadable")),
        ("other", Some("unknown-authority")),
    ];
    assert_eq!(reasons, expected);
    verify(&["--any"]).expect(0);
    verify(&["--plane-id", "none"]).expect(2).says(&["no plane has the planeID none", "hint:"]);
    verify(&["--plane", "none"]).expect(3);

    // Who may read planes and no Secrets knows of the inline one only.
    at.kubectl(&["create", "clusterrole", "planes", "--verb=get,list", "--resource=clusterbuildplanes"], "");
    at.kubectl(&["create", "clusterrolebinding", "planes", "--clusterrole=planes", "--user=guest"], "");
    let guest = ["--context", "guest"];
    let unknown = verify(&guest).expect(2);
    assert!(
        unknown.stdout.contains("by-secret: unknown") && unknown.stdout.contains("by-value: authorized"),
        "{unknown:?}"
    );
    verify(&[&guest[..], &["--any"]].concat()).expect(0);
}

fn whom_a_change_locks_out_is_told() {
    let at = ControlPlane::start();
    let (old, new) = (ca(&at, "old"), ca(&at, "new"));
    at.write("both.crt", &at.run(&["certs", "bundle", &old, &new]).stdout);
    at.run(&["certs", "client", "--plane-id", "a", "--ca-dir", "old"]).expect(0);
    let file = |name: &str, plane_id: &str, pem: &str| {
        let spec = json!({"planeID": plane_id, "clusterAgent": {"clientCA": {"value": pem}}});
        at.write(name, &manifest("a", spec))
    };
    let apply = |path: &str, more: &[&str]| at.run(&[&["apply", "-f", path], more].concat());
    let (by_old, by_new) = (file("old.json", "a", &pem(&at, &old)), file("new.json", "a", &pem(&at, &new)));
    apply(&by_old, &[]).expect(0);
    // Nobody is connected, so nobody is locked out.
    assert_eq!(at.run(&["diff", "-f", &by_new]).expect(1).stderr, "");
    at.connect("a");
    at.run(&["diff", "-f", &by_new]).expect(1).says(&["the agents of a, which are connected now, are refused"]);
    let refused = apply(&by_new, &[]).expect(2);
    refused.says(&["nothing in common", "nothing was sent", "hint: put the new CA beside the old one"]);
    apply(&by_new, &["--dry-run", "server"]).expect(0).says(&["nothing in common"]);
    assert_eq!(object(&at, "a")["spec"]["clusterAgent"]["clientCA"]["value"], pem(&at, &old));
    // A bundle with the old CA, the leaf that it issued made a pinned one, and the same again lock nobody out.
    let both = file("both.json", "a", &pem(&at, "both.crt"));
    assert!(!apply(&both, &[]).expect(0).stderr.contains("warning"));
    // Nor does one that was renewed under its name and with its key.
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-new", "-key", "old/ca.key", "-subj", "/O=OpenChoreo/CN=build plane agents"]);
    openssl.args(["-utf8", "-out", "renewed.crt"]);
    finish(
        {
            openssl.current_dir(at.path());
            openssl
        },
        "",
    )
    .expect(0);
    let renewed = file("renewed.json", "a", &pem(&at, "renewed.crt"));
    let told = at.run(&["diff", "-f", &renewed]).expect(1).stderr;
    assert!(!told.contains("refused"), "{told}");
    let gone = manifest("a", json!({"planeID": "a", "clusterAgent": {"clientCA": secret_ref("gone")}}));
    at.write("gone.json", &gone);
    at.run(&["diff", "-f", "gone.json"]).says(&["can't be read"]);
    at.run(&["diff", "-f", &file("moved.json", "elsewhere", &pem(&at, "both.crt"))])
        .says(&["its planeID becomes elsewhere"]);
    apply(&by_new, &["--allow-lockout", "--dry-run", "none"]).expect(0);

    // A new plane of the planeID whose CA can't be read throws everybody out.
    at.write("b.json", &manifest("b", by_secret("a", "none")));
    apply("b.json", &[]).expect(2).says(&["the agents of a, which have the same planeID, are disconnected"]);
    at.run(&["create", "b", "--plane-id", "a", "--client-ca-file", &new]).expect(0);
    let deleted = at.run(&["delete", "a", "--dry-run", "client"]).expect(0);
    deleted.says(&["all agents of planeID a are disconnected for some seconds: b then lets them in"]);
    at.run(&["delete", "a", "b", "--dry-run", "client"]).expect(0).says(&["are locked out: no other plane"]);
}

fn wait_ends_with_trust() {
    let at = &*SHARED;
    let (own, other) = (ca(at, "trusted"), ca(at, "distrusted"));
    at.run(&["certs", "client", "--plane-id", "trust", "--ca-dir", "trusted"]).expect(0);
    at.run(&["create", "trust", "--client-ca-file", &other]).expect(0);
    let wait = |timeout| ["wait", "trust", "--for", "trusted", "--cert", "trusted/tls.crt", "--timeout", timeout];
    at.run(&wait("0")).expect(124).says(&["trust: Unreported, not trusted", "was not issued by a CA of this plane"]);
    at.run(&["wait", "trust", "--for", "trusted"]).expect(2).says(&["hint: name its context with --build-context"]);
    at.run(&["wait", "none", "--for", "trusted", "--cert", "trusted/tls.crt"]).expect(3);
    let mut waiting = at.spawn(&[&wait("30s")[..], &["--for", "exists"]].concat());
    std::thread::sleep(Duration::from_millis(500));
    let value = json!({"spec": {"clusterAgent": {"clientCA": {"value": pem(at, &own)}}}}).to_string();
    at.kubectl(&["patch", "cbp", "trust", "--type=merge", "-p", &value], "");
    waiting.until("the plane", SOON, |line| line.contains("/trust"));
    assert_eq!(waiting.wait(), 0);
}
