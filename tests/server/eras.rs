//! Doctor's verdict in v1.x, on a workflow plane, a data plane of a namespace and an observability plane: what is wrong
//! there as everywhere, and what only these releases can have.

use serde_json::{Value, json};

use super::control_plane::Output;
use super::estate::{Estate, Subject, WORKFLOW, agent, names};
use super::faults::{Fault, Warning, fault, only_live, warning};
use super::hints::paste;
use super::patient::*;

stories!(
    Go:
        doctor_names_what_is_wrong_with_a_workflow_plane,
        doctor_names_what_is_wrong_with_a_data_plane_of_a_namespace,
        doctor_names_what_is_wrong_with_an_observability_plane,
        planes_of_an_older_release_are_reported_what_became_of_their_kind,
        two_planes_in_migration_are_one_at_each_stage;
);

pub const DATA: Subject = Subject { kind: "DataPlane", word: "dp", plane_type: "dataplane", namespace: Some("team") };
const OBSERVABILITY: Subject =
    Subject { kind: "ClusterObservabilityPlane", word: "cop", plane_type: "observabilityplane", namespace: None };

static OF_WORKFLOW: &[Fault] = &[
    fault("clientCA is empty", |at| client_ca(at, json!({})), "client-ca-readable"),
    fault("the CA's Secret is missing", |at| in_secret(at, "none", "ca.crt"), "client-ca-readable"),
    fault("the Secret's namespace is missing", without_namespace, "client-ca-readable"),
    fault("another CA", |at| value(at, &file(at, "other/ca.crt")), "agent-trusted"),
    fault("an agent of the older type", |at| at.deploy(PLANE, "--plane-type=buildplane"), "agent-plane-type"),
    fault("an agent of the older release", |at| image(at, "agent:v0"), "agent-running"),
    fault("another planeID: Helm's planeId", |at| at.deploy("default", "--x=y"), "agent-plane-id"),
    only_live("a gateway of the older release", |at| at.order("gateway newer"), "plane-type-known"),
    // Of the former certificate nothing more is known than that it was there when the pod started.
    fault("the controller's certificate ended", |at| controller(at, 100, -20, 70), "controller-certificate"),
    fault("no gateway runs", without_gateway, "gateway-running"),
];

static OF_DATA: &[Fault] = &[
    fault("clientCA is empty", |at| client_ca(at, json!({})), "client-ca-readable"),
    fault("no Secret in the plane's namespace", without_namespace, "client-ca-readable"),
    fault("base64 of PEM", |at| value(at, &base64(&file(at, "old/ca.crt"))), "client-ca-usable"),
    fault("the certificate of before, pinned", |at| value(at, &openssl(at, "former", LEAF)), "agent-trusted"),
    fault("an expired certificate", just_ended, "agent-trusted"),
    fault("no agent", without_agent, "agent-exists"),
    fault("a URL of https", |at| at.deploy(PLANE, "--server-url=https://localhost:1/ws"), "agent-server-url"),
    fault("still referenced by environments", blocked, "deletion"),
    fault("a change that the controller could not take over", not_taken_over, "controller"),
    only_live("a gateway of another CA", |at| at.order("gateway stranger"), "gateway-reachable"),
];

static OF_OBSERVABILITY: &[Fault] = &[
    fault(
        "a CA for servers",
        |at| value(at, &openssl(at, "server", &["extendedKeyUsage=serverAuth"])),
        "client-ca-usable",
    ),
    fault("another planeID in the plane", |at| spec(at, json!({"planeID": "moved"})), "agent-plane-id"),
    fault("the placeholder", |at| server_ca(at, "# filled in later"), "agent-server-ca"),
    fault("the agent's Secret is missing", without_secret, "agent-certificate"),
    fault("scaled to zero", scaled_to_zero, "agent-replicas"),
    only_live("a header that nobody sets", header_only, "gateway-answer"),
    only_live("a gateway that can't read", |at| at.order("gateway blind"), "gateway-answer"),
    fault("the controller's Secret is missing", without_controller_secret, "controller-certificate"),
];

static WARNINGS: &[Warning] = &[
    ("an API that is published", |at| published(at, true), "gateway-api-exposed"),
    ("an API at the agents' port, which is published", |at| published(at, false), "gateway-api-exposed"),
    ("an older certificate of the controller", |at| controller(at, 30, -5, 85), "controller-certificate"),
    ("two CAs for a planeID", |at| twin(at, PLANE, "other"), "plane-id-shared"),
];

/// As a controller leaves a data plane to which environments refer.
fn blocked(at: &Estate) {
    at.order("reports off");
    held(at);
    let condition = json!({
        "type": "Finalizing", "status": "False", "reason": "DeletionBlocked", "lastTransitionTime": "2026-01-01T00:00:00Z",
        "message": "Deletion blocked: dataplane is still referenced by 2 environment(s)",
    });
    let status = json!({"status": {"conditions": [condition]}});
    at.control.api().merge(&format!("{}/status", plane_path(at)), &status);
}

/// As a controller leaves a namespaced plane that it can't look at since it was changed.
fn not_taken_over(at: &Estate) {
    stale(at);
    let status = json!({"status": {"observedGeneration": 0}});
    at.control.api().merge(&format!("{}/status", plane_path(at)), &status);
}

/// The gateway believes a proxy, and there is none.
fn header_only(at: &Estate) {
    at.order("gateway terminated");
    gateway_pod(at, 0, &[&MUTUAL[..], &["--agent-auth-mode=forwarded-header"]].concat());
}

/// The gateway's Service is published, and its API authenticates nobody: at its own port, or at the agents'.
fn published(at: &Estate, has_own_port: bool) {
    at.order(if has_own_port { "api open" } else { "api shared" });
    gateway_pod(at, 0, &["--internal-mtls=false"]);
    let ports = [("websocket", at.port), ("internal-api", at.api_port)];
    service(at, "cluster-gateway", "LoadBalancer", &ports[..if has_own_port { 2 } else { 1 }]);
}

/// What is wrong with doctor's verdicts on a plane of this kind, one that is well among them.
fn doctor_names(subject: Subject, faults: &[Fault], warnings: &[Warning]) -> Estate {
    let at = well_with(subject);
    run(&at, "doctor", &["-q", "--strict"]).expect(0);
    let mut wrong: Vec<_> = faults.iter().flat_map(|fault| fault.find(&at)).collect();
    wrong.extend(warnings.iter().flat_map(|row| warning(&at, row)));
    assert!(wrong.is_empty(), "{} are wrong: {}", wrong.len(), wrong.join("\n"));
    be_well(&at, "the rest");
    at
}

/// What a check says.
#[track_caller]
fn message(reported: &Value, id: &str) -> String {
    let checks = reported["planes"][0]["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == id).unwrap();
    check["message"].as_str().unwrap().to_owned()
}

/// Whom doctor takes the agents' number from that are a plane's own.
#[track_caller]
fn counts_by(at: &Estate, words: &str) {
    let reported = until(at, |plane| status_of(plane, "agent-authorized") == "pass");
    assert!(message(&reported, "agent-authorized").contains(words), "{reported:#}");
}

fn doctor_names_what_is_wrong_with_a_workflow_plane() {
    let at = doctor_names(WORKFLOW, OF_WORKFLOW, WARNINGS);
    // With mutual TLS the gateway's log says whose agents are connected, in a dump, too.
    counts_by(&at, "the gateway has authorized 1 for this plane, by its log");
    run(&at, "dump", &["-o", "dump.yaml", "--force"]).expect(0);
    let dumped = at.control.run(&["doctor", "-f", "dump.yaml", "-o", "json"]).expect(0).json();
    assert!(message(&dumped, "agent-authorized").ends_with("by its log"), "{dumped:#}");
    assert!(message(&dumped, "plane-type-known").contains("by the label of its Service"), "{dumped:#}");
    at.order("api open");
    gateway_pod(&at, 0, &["--internal-mtls=false"]);
    counts_by(&at, "the gateway counts 1 for this plane");
    assert_eq!(at.upgrades(), 0);

    // An agent that only another plane authorizes, seen without the plane's cluster.
    be_well(&at, "another plane's agent");
    twin(&at, PLANE, "old");
    value(&at, &file(&at, "other/ca.crt"));
    let url = format!("wss://localhost:{}/ws", at.port);
    let alone = || at.control.run(&["doctor", "cwp/sick", "--gateway-url", &url, "-o", "json"]).json();
    let reported = ask(alone, |plane| plane["rootCause"] == "agent-authorized");
    assert!(
        message(&reported, "agent-authorized").contains("by other planes with the same planeID (twin)"),
        "{reported:#}"
    );

    // Who fails by a crash is reported why.
    be_well(&at, "an older agent");
    image(&at, "agent:v0");
    let why = "the agent logs `plane-type must be`: its image is of another release";
    let reported = until(&at, |plane| {
        let checks = plane["checks"].as_array().unwrap();
        checks.iter().any(|check| check["id"] == "agent-running" && check["message"].as_str().unwrap().contains(why))
    });
    assert!(message(&reported, "agent-running").contains(why), "{reported:#}");

    // When the controller's certificate ends is predicted.
    be_well(&at, "the forecast");
    controller(&at, 30, -5, 85);
    let reported = run(&at, "forecast", &["-o", "json"]).expect(0).json();
    let plane = &reported["planes"][0];
    let mut breaks = std::iter::once(plane).chain(plane["next"].as_array().unwrap());
    let of_controller = breaks.find(|one| one["reason"] == "controller-certificate-expires").unwrap();
    let date: jiff::Timestamp = of_controller["date"].as_str().unwrap().parse().unwrap();
    let days = date.duration_since(jiff::Timestamp::now()).as_hours() / 24;
    assert!((59..=60).contains(&days), "{of_controller}");
    roles_grant_what_was_missing(&at);
}

/// What doctor prints for an administrator is enough, whatever it reads in these releases.
fn roles_grant_what_was_missing(at: &Estate) {
    be_well(at, "a guest");
    let as_guest = ["doctor", "cwp/sick", "-o", "json", "--context", "guest", "--build-context", "guest"];
    for _ in 0..4 {
        // What can be read leads to more that is needed.
        let reported = at.run(&as_guest).json();
        for hint in reported["checks"][2]["hints"].as_array().unwrap() {
            let grant = hint["text"].as_str().unwrap().split("USER with\n").nth(1).unwrap();
            paste(at, &grant.replace("--context guest", "--context control").replace("USER", "guest")).expect(0);
        }
    }
    let reported = at.run(&as_guest).expect(0).json();
    assert!(
        reported["checks"][2]["status"] == "pass" && reported["planes"][0]["unchecked"] == json!([]),
        "{reported:#}"
    );
}

fn doctor_names_what_is_wrong_with_a_data_plane_of_a_namespace() {
    let at = doctor_names(DATA, OF_DATA, &[]);
    // What is reported on a namespaced plane is its own, whichever user else is connected by the planeID.
    counts_by(&at, "the status counts only the agents of this plane");
    blocked(&at);
    let reported = diagnose(&at);
    assert!(message(&reported, "deletion").ends_with("still referenced by 2 environment(s)"), "{reported:#}");
    be_well(&at, "a change");
    not_taken_over(&at);
    let reported = diagnose(&at);
    assert!(message(&reported, "controller").contains("could not take over the last change"), "{reported:#}");
    let page = at.control.run(&["describe", "dp/sick", "-n", "team"]).expect(0).stdout;
    assert!(page.contains("could not take over the last change"), "{page}");
}

fn doctor_names_what_is_wrong_with_an_observability_plane() {
    let at = doctor_names(OBSERVABILITY, OF_OBSERVABILITY, &[]);
    header_only(&at);
    let reported = until(&at, |plane| plane["rootCause"] == "gateway-answer");
    assert!(message(&reported, "gateway-answer").contains("from the header X-Forwarded-Client-Cert"), "{reported:#}");
}

/// How a build plane is held.
const FINALIZER: &str = "openchoreo.dev/clusterbuildplane-cleanup";

/// A build plane that is left of the time before.
fn left(at: &Estate, name: &str, finalizers: &[&str]) {
    let crd = at.control.run(&["crd", "cbp", "--release", "v0.17"]).expect(0).stdout;
    at.control.kubectl(&["apply", "-f", "-"], &crd);
    at.control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    let spec = json!({"planeID": name, "clusterAgent": {"clientCA": {"value": file(at, "old/ca.crt")}}});
    let plane = json!({
        "apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane",
        "metadata": {"name": name, "finalizers": finalizers}, "spec": spec,
    });
    at.control.api().write(&format!("/apis/openchoreo.dev/v1alpha1/clusterbuildplanes/{name}"), &plane);
}

/// The first hint of a check, with its kind.
#[track_caller]
fn hint(reported: &Value, id: &str) -> (String, String) {
    let checks = reported["planes"][0]["checks"].as_array().unwrap();
    let hint = &checks.iter().find(|check| check["id"] == id).unwrap()["hints"][0];
    (hint["kind"].as_str().unwrap().to_owned(), hint["text"].as_str().unwrap().to_owned())
}

fn planes_of_an_older_release_are_reported_what_became_of_their_kind() {
    let at = well_with(WORKFLOW);
    left(&at, "old", &[FINALIZER, "example.com/kept"]);
    let url = format!("wss://localhost:{}/ws", at.port);
    let doctor = || at.run(&["doctor", "cbp/old", "--gateway-url", &url, "-o", "json"]);
    let reported = doctor().expect(1).json();
    assert_eq!(reported["planes"][0]["rootCause"], "plane-type-known", "{reported:#}");
    let why = message(&reported, "plane-type-known");
    assert!(
        why.ends_with("OpenChoreo v1.0 and later): in that release the kind is called ClusterWorkflowPlane"),
        "{why}"
    );
    let (kind, line) = hint(&reported, "plane-type-known");
    assert!(kind == "advice" && line.starts_with("choreoctl migrate cbp/old "), "{line}");
    assert!(line.contains(" --plane-kubeconfig ") && line.ends_with(" --out-dir DIR"), "{line}");
    at.run(&["dump", "cbp/old", "-o", "dump.yaml"]).expect(0);
    let reported = at.control.run(&["doctor", "-f", "dump.yaml", "-o", "json"]).expect(1).json();
    assert_eq!(reported["planes"][0]["rootCause"], "plane-type-known", "{reported:#}");
    // A workflow plane on a gateway of v0.x is reported the same the other way round.
    at.order("gateway newer");
    let reported = until(&at, |plane| plane["rootCause"] == "plane-type-known");
    let why = message(&reported, "plane-type-known");
    assert!(why.ends_with("OpenChoreo v0.15 to v0.17): in that release the kind is called ClusterBuildPlane"), "{why}");
    at.order("gateway well");

    // Nobody lets go of it, whatever is started.
    let words = ["is held by the finalizer", FINALIZER, "no controller removes it", "kubectl patch"];
    let deleted: Output = at.control.run(&["delete", "cbp/old", "--yes", "--timeout", "4s"]).expect(124);
    deleted.says(&words);
    let page = at.control.run(&["describe", "cbp/old"]).expect(0).stdout;
    assert!(words.iter().all(|word| page.contains(word)), "{page}");
    // Where a controller of v0.x still runs, it lets go of it, whatever is served.
    let manager = "/api/v1/namespaces/openchoreo-control-plane/pods/former-manager";
    let container = json!({"name": "manager", "image": "example.com/controller:v0.17.0"});
    let labels = json!({"app.kubernetes.io/component": "controller-manager"});
    let metadata = json!({"name": "former-manager", "namespace": "openchoreo-control-plane", "labels": labels});
    let spec = json!({"containers": [container]});
    at.control.api().write(manager, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}));
    let page = at.control.run(&["describe", "cbp/old"]).expect(0).stdout;
    assert!(page.contains("check that both are running") && !page.contains("kubectl patch"), "{page}");
    at.control.api().delete(manager);
    let reported = doctor().expect(1).json();
    assert_eq!(reported["planes"][0]["rootCause"], "deletion", "{reported:#}");
    let (kind, fix) = hint(&reported, "deletion");
    assert_eq!(kind, "fix", "{fix}");
    paste(&at, &fix).expect(0);
    let path = "/apis/openchoreo.dev/v1alpha1/clusterbuildplanes/old";
    let rest = at.control.api().get(path).unwrap()["metadata"]["finalizers"].clone();
    assert_eq!(rest, json!(["example.com/kept"]), "only that one is removed");
    at.control.api().merge(path, &json!({"metadata": {"finalizers": []}}));
    at.control.run(&["get", "cbp/old"]).expect(3);
}

/// Doctor's verdict on a plane of the two, which is healthy with one warning: what that says, and how many checks wait.
#[track_caller]
fn waits(reported: &Value) -> (String, usize) {
    let plane = &reported["planes"][0];
    let checks = plane["checks"].as_array().unwrap();
    let warned = checks.iter().filter(|check| check["status"] == "warn").map(|check| &check["id"]);
    assert_eq!(warned.collect::<Vec<_>>(), ["plane-type-known"], "{reported:#}");
    assert!(plane["healthy"] == true && plane["unchecked"] == json!([]), "{reported:#}");
    let is_waiting = |check: &&Value| check["message"] == "depends on plane-type-known";
    (message(reported, "plane-type-known"), checks.iter().filter(is_waiting).count())
}

fn two_planes_in_migration_are_one_at_each_stage() {
    let at = well_with(WORKFLOW);
    left(&at, PLANE, &[FINALIZER]);
    let doctor = |plane: &str| {
        let url = format!("wss://localhost:{}/ws", at.port);
        at.run(&["doctor", plane, "--gateway-url", &url, "-o", "json"]).json()
    };

    // The control plane is of v1.x. Of the former plane nothing matters any more, not even its CA.
    let bad = json!({"spec": {"clusterAgent": {"clientCA": {"value": "hello"}}}});
    at.control.api().merge("/apis/openchoreo.dev/v1alpha1/clusterbuildplanes/sick", &bad);
    let reported = ask(|| doctor("cbp/sick"), |plane| plane["healthy"] == true);
    let (why, waiting) = waits(&reported);
    assert!(why.starts_with("ClusterWorkflowPlane sick has replaced this plane: ") && waiting > 20, "{why}: {waiting}");
    let (kind, line) = hint(&reported, "plane-type-known");
    assert!(kind == "advice" && line.starts_with("choreoctl migrate cbp/sick "), "{line}");
    assert!(line.ends_with(" --out-dir DIR --until cleanup"), "{line}");
    let cleanup = line;
    be_well(&at, "the new one is judged in full");
    let forecast = |plane: &str| at.run(&["forecast", plane, "-o", "json"]).expect(0).json()["planes"][0].clone();
    assert_eq!((&forecast("cbp/sick")["date"], forecast("cwp/sick")["date"].is_string()), (&Value::Null, true));

    // All verbs that show planes say that the two are one.
    let pair = "ClusterBuildPlane sick and ClusterWorkflowPlane sick have the planeID sick and are one plane during the migration";
    let next = "next: choreoctl migrate cbp/sick";
    let get = |more: &[&str]| at.control.run(&[&["get"], more].concat()).expect(0).stderr;
    for more in [&[][..], &["-o", "wide"], &["cbp/sick", "cwp/sick"]] {
        let note = get(more);
        assert!(note.starts_with(pair) && note.contains(next) && note.ends_with(" --out-dir DIR\n"), "{note}");
    }
    for more in [&["-q"][..], &["-o", "name"], &["-o", "json"], &["cbp"]] {
        assert_eq!(get(more), "", "{more:?}");
    }
    for (plane, other) in [("cbp/sick", "ClusterWorkflowPlane sick"), ("cwp/sick", "ClusterBuildPlane sick")] {
        let page = at.control.run(&["describe", plane]).expect(0).stdout;
        assert!(
            page.contains(&format!("{other} has the same planeID, and both are one plane during the migration")),
            "{page}"
        );
    }

    // A dump of one of them has the other, too.
    for plane in ["cbp/sick", "cwp/sick"] {
        at.run(&["dump", plane, "-o", "dump.yaml", "--force"]).expect(0);
        let reported = at.control.run(&["doctor", "-f", "dump.yaml", "cbp/sick", "-o", "json"]).expect(0).json();
        assert!(waits(&reported).0.contains("by the label of its Service"), "{reported:#}");
        let reported = at.control.run(&["doctor", "-f", "dump.yaml", "cwp/sick", "-o", "json"]).expect(0).json();
        assert_eq!(message(&reported, "agent-plane-type"), "it is workflowplane", "{plane}: {reported:#}");
    }

    // The agent is still the former one: in its place, and in the namespace of the former chart.
    at.deploy(PLANE, "--plane-type=buildplane");
    let reported = until(&at, |plane| plane["rootCause"] == "agent-plane-type");
    let (kind, line) = hint(&reported, "agent-plane-type");
    assert!(kind == "advice" && line.starts_with("choreoctl migrate cbp/sick "), "{line}");
    let flags = " --out-dir DIR --plane-namespace openchoreo-workflow-plane --install";
    assert!(line.contains(" --plane-kubeconfig ") && line.ends_with(flags), "{line}");

    without_agent(&at);
    let (namespace, name) = names("buildplane");
    at.build.kubectl(&["create", "namespace", &namespace], "");
    let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
    at.build.api().write(&path, &agent("buildplane", PLANE));
    let reported = until(&at, |plane| plane["rootCause"] == "agent-exists");
    let (kind, line) = hint(&reported, "agent-exists");
    assert!(kind == "advice" && line.ends_with(" --out-dir DIR --install"), "{line}");
    at.build.api().delete(&path);

    // The control plane is still of v0.x.
    be_well(&at, "before the upgrade");
    at.order("gateway newer");
    let reported = ask(|| doctor("cwp/sick"), |plane| plane["healthy"] == true);
    let (why, waiting) = waits(&reported);
    assert!(why.contains("takes effect once the control plane's release is v1.0 or later"), "{why}");
    assert!(why.ends_with("and until then ClusterBuildPlane sick is used") && waiting > 10, "{why}: {waiting}");
    let reported = doctor("cbp/sick");
    assert!(
        message(&reported, "plane-type-known").starts_with("the gateway supports the plane type buildplane"),
        "{reported:#}"
    );
    assert_eq!(reported["planes"][0]["rootCause"], "client-ca-usable", "{reported:#}");

    // What doctor hints at ends the migration.
    be_well(&at, "the end");
    paste(&at, &format!("{cleanup} --yes")).expect(0);
    at.control.run(&["get", "cbp/sick"]).expect(3);
    assert_eq!(diagnose(&at)["planes"][0]["healthy"], true);
}
