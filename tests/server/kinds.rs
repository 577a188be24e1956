//! One table of all kinds of planes, each of which goes through every verb on an API server of its release; and all of
//! them side by side.

use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

stories!(
    Server:
        each_kind_of_v0_17_goes_through_every_verb,
        each_kind_of_v1_2_goes_through_every_verb,
        all_kinds_are_distinguished_side_by_side;
);

/// A kind, the word that names it, and the field that only its family demands.
struct Kind {
    kind: &'static str,
    word: &'static str,
    releases: &'static [&'static str],
    observer: bool,
}

const BOTH: &[&str] = &["v0.17", "v1.2"];

const KINDS: [Kind; 8] = [
    Kind { kind: "ClusterBuildPlane", word: "cbp", releases: &["v0.17"], observer: false },
    Kind { kind: "BuildPlane", word: "buildplane", releases: &["v0.17"], observer: false },
    Kind { kind: "ClusterWorkflowPlane", word: "cwp", releases: &["v1.2"], observer: false },
    Kind { kind: "WorkflowPlane", word: "workflowplanes", releases: &["v1.2"], observer: false },
    Kind { kind: "ClusterDataPlane", word: "CDP", releases: BOTH, observer: false },
    Kind { kind: "DataPlane", word: "dp", releases: BOTH, observer: false },
    Kind { kind: "ClusterObservabilityPlane", word: "cop", releases: BOTH, observer: true },
    Kind { kind: "ObservabilityPlane", word: "ObservabilityPlane", releases: BOTH, observer: true },
];

impl Kind {
    fn is_namespaced(&self) -> bool {
        !self.kind.starts_with("Cluster")
    }

    fn lower(&self) -> String {
        self.kind.to_lowercase()
    }

    fn plural(&self) -> String {
        format!("{}s.openchoreo.dev", self.lower())
    }

    /// Installs its CRD of a release.
    fn install(&self, at: &ControlPlane, release: &str) {
        let crd = at.run(&["crd", self.word, "--release", release]).expect(0).stdout;
        at.kubectl(&["apply", "-f", "-"], &crd);
        at.kubectl(&["wait", "--for=condition=Established", "crd", &self.plural()], "");
    }

    fn secret_field(release: &str) -> &'static str {
        if release == "v0.17" { "secretRef" } else { "secretKeyRef" }
    }

    fn manifest(&self, release: &str, name: &str, plane_id: &str) -> Value {
        let secret = json!({"namespace": "default", "name": "none", "key": "ca.crt"});
        let mut spec =
            json!({"planeID": plane_id, "clusterAgent": {"clientCA": {(Self::secret_field(release)): secret}}});
        if self.observer {
            spec["observerURL"] = "https://observer.example.com".into();
        }
        let metadata =
            if self.is_namespaced() { json!({"name": name, "namespace": "team"}) } else { json!({"name": name}) };
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": self.kind, "metadata": metadata, "spec": spec})
    }

    /// Writes a connection as the controller would.
    fn connect(&self, at: &ControlPlane, namespace: &str, name: &str) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({"status": {"agentConnection": {
            "connected": true, "connectedAgents": 1, "lastConnectedTime": now, "lastHeartbeatTime": now,
        }}});
        let (plural, status) = (self.plural(), status.to_string());
        let mut patch = vec!["patch", plural.as_str(), name, "--subresource=status", "--type=merge", "-p", &status];
        if self.is_namespaced() {
            patch.extend(["-n", namespace]);
        }
        at.kubectl(&patch, "");
    }
}

fn each_kind_of_v0_17_goes_through_every_verb() {
    of_release("v0.17");
}

fn each_kind_of_v1_2_goes_through_every_verb() {
    of_release("v1.2");
}

fn of_release(release: &str) {
    let at = &ControlPlane::start();
    at.kubectl(&["delete", "crd", "clusterbuildplanes.openchoreo.dev"], "");
    at.kubectl(&["create", "namespace", "team"], "");
    let kinds: Vec<_> = KINDS.iter().filter(|kind| kind.releases.contains(&release)).collect();
    for kind in &kinds {
        kind.install(at, release);
    }
    // Without a word the cluster-scoped build kind is meant that the server has.
    at.run(&["create", "wordless", "--client-ca-secret", "default/none"]).expect(0);
    let wordless = at.run(&["get", "wordless", "-o", "name"]).expect(0).stdout;
    assert_eq!(wordless, format!("{}.openchoreo.dev/wordless\n", kinds[0].lower()));
    at.run(&["delete", "wordless", "--yes"]).expect(0);
    for kind in kinds {
        every_verb(at, kind, release);
    }
    if release == "v0.17" {
        // An upgrade's CRD prunes what it does not know, and says nothing.
        at.run(&["create", "cdp", "pruned", "--client-ca-secret", "default/none"]).expect(0);
        KINDS[4].install(at, "v1.2");
        let reported = "the CRD of v1.0 and later dropped its secretRef; write it as secretKeyRef";
        let is_reported = || at.run(&["describe", "cdp/pruned"]).expect(0).stdout.contains(reported);
        assert!((0..100).any(|_| is_reported() || (std::thread::sleep(Duration::from_millis(100)), false).1));
        assert!(at.run(&["doctor", "cdp/pruned"]).stdout.contains(reported));
    }
    let other = if release == "v0.17" { ("cwp", "ClusterBuildPlane") } else { ("cbp", "ClusterWorkflowPlane") };
    at.run(&["wait", other.0, "x", "--timeout", "5s"]).expect(2).says(&[&format!("it has {} instead", other.1)]);
    at.run(&["get", other.0]).expect(2).says(&["the cluster has no Cluster", &format!("it has {} instead", other.1)]);
}

fn every_verb(at: &ControlPlane, kind: &Kind, release: &str) {
    let a = format!("{}/a", kind.word);
    let namespace: &[&str] = if kind.is_namespaced() { &["-n", "team"] } else { &[] };
    let run = |args: &[&str]| at.run(&[args, namespace].concat());
    let observer: &[&str] = if kind.observer { &["--observer-url", "https://observer.example.com"] } else { &[] };
    let create = [&["create", kind.word, "a", "--client-ca-secret", "default/none"], observer].concat();

    let created = run(&create).expect(0);
    assert_eq!(created.stdout, format!("{}.openchoreo.dev/a created\n", kind.lower()));
    run(&create).expect(2).says(&["exists already"]);
    let stored = run(&["get", &a, "-o", "json"]).expect(0).json();
    assert_eq!(stored["kind"], kind.kind);
    let field = Kind::secret_field(release);
    assert_eq!(stored["spec"]["clusterAgent"]["clientCA"][field]["name"], "none", "{stored}");

    let file = at.write(&format!("{}.json", kind.lower()), &kind.manifest(release, "b", "b").to_string());
    at.run(&["validate", &file, "--release", release]).expect(0);
    at.run(&["diff", "-f", &file]).expect(1);
    at.run(&["apply", "-f", &file]).expect(0);
    assert!(at.run(&["apply", "-f", &file]).expect(0).stdout.contains("b unchanged"));
    if kind.releases == BOTH {
        // The reference to a Secret as the other release calls it: the line and the way out, instead of the server's word.
        let (other, next) = match release {
            "v0.17" => ("v1.2", "--release v0.17 --fix"),
            _ => ("v0.17", "choreoctl migrate -f "),
        };
        let former = at.write(&format!("{}-other.json", kind.lower()), &kind.manifest(other, "c", "c").to_string());
        for verb in ["apply", "diff"] {
            let refused = at.run(&[verb, "-f", &former]).expect(2);
            refused.says(&[Kind::secret_field(other), &format!("write `{field}`"), "-other.json:1:", next]);
        }
    }
    let wrong = at.write(&format!("{}-wrong.json", kind.lower()), &kind.manifest(release, "b", "B").to_string());
    let found = at.run(&["validate", &wrong, "--release", release, "-o", "json"]).expect(1);
    assert!(found.stdout.contains("spec.planeID"), "{found:?}");

    let mut watch = at.spawn(&[&["watch", &a, "-o", "json"], namespace].concat());
    watch.event("synced", "", Duration::from_secs(15));
    kind.connect(at, "team", "a");
    let changed = watch.event("changed", "a", Duration::from_secs(15));
    assert_eq!([&changed["kind"], &changed["state"]], [kind.kind, "Connected"], "{changed}");
    run(&["wait", &a, "--for", "connected", "--timeout", "15s"]).expect(0);
    run(&["wait", kind.word, "a", "--for", "disconnected", "--timeout", "1s"]).expect(124);

    let both = run(&["get", kind.word, "a", "b", "-o", "name"]).expect(0).stdout;
    let lower = kind.lower();
    assert_eq!(both, format!("{lower}.openchoreo.dev/a\n{lower}.openchoreo.dev/b\n"));
    let piped: Vec<_> = both.lines().collect();
    assert!(run(&[&["get"], piped.as_slice()].concat()).expect(0).stdout.contains("Connected"));
    let one = run(&["describe", kind.word, "a", "-o", "json"]).expect(0).json();
    let plane = &one["planes"][0];
    assert_eq!([&plane["kind"], &plane["connection"]["state"]], [kind.kind, "Connected"], "{one}");
    let (own, counts) = if kind.is_namespaced() { (json!("team"), "plane") } else { (Value::Null, "planeID") };
    assert_eq!((&plane["namespace"], &plane["connection"]["counts"]), (&own, &json!(counts)), "{one}");

    let diagnosis = run(&["doctor", &a, "-o", "json"]).expect(1).json();
    let status = |id: &str| {
        let all = [&diagnosis["checks"], &diagnosis["planes"][0]["checks"]];
        let mut all = all.into_iter().filter_map(Value::as_array).flatten();
        all.find(|check| check["id"] == id).unwrap_or_else(|| panic!("{id} in {diagnosis}"))["status"].clone()
    };
    assert_eq!([status("crd"), status("plane-exists"), status("client-ca-readable")], ["pass", "pass", "fail"]);
    assert_eq!(diagnosis["planes"][0]["rootCause"], "client-ca-readable");
    let dump = format!("{}-dump.yaml", kind.lower());
    run(&["dump", &a, "-o", &dump, "--force"]).expect(0);
    let reported = at.run(&["doctor", "-f", &dump, "-o", "json"]).expect(1).json();
    assert_eq!(
        [&reported["planes"][0]["kind"], &reported["planes"][0]["rootCause"]],
        [kind.kind, "client-ca-readable"]
    );
    let forecast = run(&["forecast", kind.word, "-o", "json"]).expect(0).json();
    assert_eq!(forecast["planes"].as_array().unwrap().len(), 2, "{forecast}");

    if kind.is_namespaced() {
        at.run(&["get", kind.word, "a"]).expect(3).says(&["in the namespace default", "-A"]);
    }
    run(&["delete", kind.word]).expect(2).says(&["no plane is selected"]);
    run(&["delete", kind.word, "a", "b", "--yes"]).expect(0);
    run(&["get", &a]).expect(3);
}

fn all_kinds_are_distinguished_side_by_side() {
    let at = &ControlPlane::start();
    let namespaces = ["team", "other", "third"];
    for namespace in namespaces {
        at.kubectl(&["create", "namespace", namespace], "");
    }
    // Both eras' CRDs are served after an upgrade: Helm removes none.
    let mut planes = Vec::new();
    for kind in &KINDS {
        let release = kind.releases[kind.releases.len() - 1];
        kind.install(at, release);
        let places: &[&str] = if kind.is_namespaced() { &namespaces } else { &["-"] };
        for place in places {
            let mut manifest = kind.manifest(release, "one", "id");
            if kind.is_namespaced() {
                manifest["metadata"]["namespace"] = (*place).into();
            }
            planes.push((kind, *place, manifest));
        }
    }
    assert_eq!(planes.len(), 16);
    let list =
        json!({"apiVersion": "v1", "kind": "List", "items": planes.iter().map(|(.., it)| it).collect::<Vec<_>>()});
    let file = at.write("all.json", &list.to_string());
    at.run(&["validate", &file]).expect(0);
    at.run(&["apply", "-f", &file]).expect(0);

    let identity = |value: &Value| {
        let text = |field: &str| value[field].as_str().unwrap_or("-").to_owned();
        (text("kind"), text("namespace"), text("name"))
    };
    let mut all: Vec<_> =
        planes.iter().map(|(kind, place, _)| (kind.kind.to_owned(), (*place).to_owned(), "one".to_owned())).collect();
    all.sort();
    let reported = at.run(&["describe", "planes", "-A", "-o", "json"]).expect(0).json();
    let mut found: Vec<_> = reported["planes"].as_array().unwrap().iter().map(identity).collect();
    found.sort();
    assert_eq!(found, all);
    // A planeID is shared within a plane type, over both scopes and all namespaces.
    for plane in reported["planes"].as_array().unwrap() {
        let shared: Vec<_> =
            plane["sharesPlaneIDWith"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
        let mut expected = vec!["one", "other/one", "team/one", "third/one"];
        let (_, namespace, _) = identity(plane);
        let own = if namespace == "-" { "one".to_owned() } else { format!("{namespace}/one") };
        expected.retain(|it| *it != own);
        assert_eq!(
            {
                let mut shared = shared;
                shared.sort_unstable();
                shared
            },
            expected,
            "{plane}"
        );
    }

    // A write of one changes that one only.
    let data = KINDS.iter().find(|kind| kind.kind == "DataPlane").unwrap();
    data.connect(at, "other", "one");
    let connected = at.run(&["get", "planes", "-A", "--state", "Connected"]).expect(0).stdout;
    let lines: Vec<_> = connected.lines().collect();
    assert_eq!(lines.len(), 2, "{connected}");
    assert!(lines[0].starts_with("NAMESPACE") && lines[1].starts_with("other"), "{connected}");
    at.run(&["wait", "dp/one", "-n", "other", "--timeout", "10s"]).expect(0);
    at.run(&["wait", "dp/one", "-n", "team", "--timeout", "1s"]).expect(124);
    at.run(&["wait", "cdp/one", "--timeout", "1s"]).expect(124);

    // Columns say what distinguishes planes, and no more.
    let header = |args: &[&str]| at.run(args).expect(0).stdout.lines().next().unwrap().to_owned();
    assert!(header(&["get", "planes", "-A"]).starts_with("NAMESPACE  KIND "));
    assert!(header(&["get", "dp", "-A"]).starts_with("NAMESPACE  NAME "));
    assert!(header(&["get", "dp", "-n", "team"]).starts_with("NAME "));
    assert!(header(&["get", "cwp,cdp"]).starts_with("KIND "));

    // Nothing says which build kind is meant: what reads shows both, what writes asks.
    let both = at.run(&["get", "one", "-o", "name"]).expect(0).stdout;
    assert_eq!(both, "clusterbuildplane.openchoreo.dev/one\nclusterworkflowplane.openchoreo.dev/one\n");
    at.run(&["delete", "one", "--yes"])
        .expect(2)
        .says(&["the command line does not name one of them", "cbp/NAME or cwp/NAME"]);
    at.run(&["create", "two", "--client-ca-secret", "default/none"])
        .expect(2)
        .says(&["the command line does not name one of them"]);
    at.run(&["create", "cwp", "two", "--client-ca-secret", "default/none"]).expect(0);
    at.run(&["get", "planes", "one", "-A"]).expect(2).says(&["omit --all-namespaces"]);
    assert_eq!(at.run(&["get", "planes/one", "-o", "name"]).expect(0).stdout.lines().count(), 4);
    assert_eq!(at.run(&["get", "planes,cdp", "one", "-o", "name"]).expect(0).stdout.lines().count(), 4);
    let deleted = at.run(&["delete", "planes/one", "--dry-run", "client"]).expect(0).stdout;
    assert_eq!(deleted.lines().filter(|line| line.contains("/one deleted")).count(), 4, "{deleted}");
    for verb in [&["create", "planes/two", "--client-ca-secret", "default/none"][..], &["bootstrap", "planes/two"]] {
        at.run(verb).expect(2).says(&["name one plane"]);
    }
    let missing = "error: plane none does not exist";
    at.run(&["get", "planes", "none", "-n", "team"]).expect(3).says(&[missing, "choreoctl get planes -A"]);
    at.run(&["watch", "planes/none"]).expect(3).says(&[missing, "choreoctl get planes -A"]);
    let missing = "error: DataPlane none in the namespace team does not exist";
    at.run(&["watch", "dp/none", "-n", "team"]).expect(3).says(&[missing, "choreoctl get dp -A"]);
    let both = ["cbp/one: Unreported", "cwp/one: Unreported"];
    at.run(&["wait", "one", "--for", "deleted", "--timeout", "0"]).expect(124).says(&both);
    at.run(&["wait", "one", "--for", "exists", "--timeout", "0"]).expect(0);
    at.run(&["wait", "three", "--for", "exists"]).expect(2).says(&["the command line does not name one of them"]);
    at.run(&["wait", "cwp/three", "--for", "deleted", "--timeout", "0"]).expect(0);
    at.ca("ca");
    at.run(&["certs", "client", "--plane-id", "id", "--ca-dir", "ca"]).expect(0);
    let verify = |more: &[&str]| at.run(&[&["certs", "verify", "--cert", "ca/tls.crt"], more].concat());
    let judged = verify(&[]).expect(1).stdout;
    let expected = ["cbp/one: ", "buildplane/team/one: ", "cwp/one: ", "workflowplane/third/one: "];
    assert!(judged.lines().count() == 8 && expected.iter().all(|one| judged.contains(one)), "{judged}");
    for (words, planes) in [(&["dp", "-A"][..], 3), (&["cdp"], 1), (&["planes", "-A"], 17)] {
        let reported = at.run(&[&["certs", "inspect", "-o", "json"], words].concat()).expect(2).json();
        assert_eq!(reported["problems"].as_array().map(Vec::len), Some(planes), "{words:?}: {reported}");
    }
    at.run(&["certs", "inspect", "./dp"]).expect(2).says(&["dp does not exist"]);
    at.run(&["create", "cdp", "far", "--client-ca-secret", "default/none"]).expect(0);
    verify(&["--plane-id", "far"]).expect(2).says(&[
        "no build plane or workflow plane has the planeID far; ClusterDataPlane far has",
        "hint: choreoctl certs verify cdp --cert ca/tls.crt --plane-id far",
    ]);
    verify(&["cdp", "--plane-id", "far"]).expect(1);
    at.run(&["delete", "cdp/far", "--yes"]).expect(0);

    // What is deleted is that one only.
    at.run(&["delete", "dp/one", "-n", "team", "--yes"]).expect(0);
    let left = at.run(&["get", "planes", "-A", "-o", "json"]).expect(0).json();
    assert_eq!(left["items"].as_array().unwrap().len(), 16, "one less, and one that was made here");
    at.run(&["get", "dp/one", "-n", "other"]).expect(0);
    at.run(&["get", "dp/one", "-n", "team"]).expect(3);
    at.run(&["get", "cdp/one"]).expect(0);
}
