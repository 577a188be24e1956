//! `unregister`: the state before the registration comes back in both clusters, and what others use stays.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::control_plane::{ControlPlane, Output};
use super::estate::{Estate, NAMESPACE};
use super::helm::prepared;
use super::hints::paste;

stories!(
    Go:
        both_clusters_return_to_the_state_before,
        what_other_planes_use_stays,
        a_dry_run_and_a_plane_that_is_not_there_change_nothing;
);

const SOON: Duration = Duration::from_secs(30);
const CONTROL: &str = "openchoreo-control-plane";

/// All objects but those that come and go by themselves or with their owner, each with what says it from another one of
/// its name, and with its version where only people change it.
fn stored(at: &ControlPlane) -> BTreeSet<String> {
    let kinds = at.kubectl(&["api-resources", "--verbs=list", "-o", "name"], "").stdout;
    let passing = |kind: &&str| {
        let name = kind.split('.').next().unwrap();
        !["events", "leases", "componentstatuses", "endpoints", "endpointslices"].contains(&name)
    };
    let kinds: Vec<_> = kinds.lines().filter(passing).collect();
    let list = at.kubectl(&["get", &kinds.join(","), "-A", "-o", "json"], "").json();
    let reported = |object: &Value| {
        let metadata = &object["metadata"];
        if metadata["ownerReferences"].is_array() {
            return None;
        }
        let kind = object["kind"].as_str().unwrap();
        let is_still = ["Secret", "ConfigMap"].contains(&kind);
        let version = if is_still { &metadata["resourceVersion"] } else { &metadata["generation"] };
        Some(format!("{kind} {}/{} {} {version}", metadata["namespace"], metadata["name"], metadata["uid"]))
    };
    list["items"].as_array().unwrap().iter().filter_map(reported).collect()
}

pub fn both(at: &Estate) -> [BTreeSet<String>; 2] {
    [stored(&at.control), stored(&at.build)]
}

/// Waits until both clusters have what they had.
#[track_caller]
pub fn returned_to(at: &Estate, before: &[BTreeSet<String>; 2]) {
    let deadline = Instant::now() + SOON;
    loop {
        let after = both(at);
        if after == *before {
            return;
        }
        let between = |one: &[BTreeSet<String>; 2], other: &[BTreeSet<String>; 2]| -> Vec<String> {
            one.iter().zip(other).flat_map(|(one, other)| one.difference(other).cloned().collect::<Vec<_>>()).collect()
        };
        let (more, less) = (between(&after, before), between(before, &after));
        assert!(Instant::now() < deadline, "left: {more:#?}\nmissing: {less:#?}");
    }
}

fn with_build(at: &Estate, line: &str) -> String {
    format!("{line} --plane-kubeconfig {}", at.build.kubeconfig().display())
}

/// From nothing; with `--install` to connected.
fn register(at: &Estate, plane: &str, more: &str) -> Output {
    let url = format!("wss://localhost:{}/ws", at.port);
    let line = format!("choreoctl bootstrap {plane} --gateway-url {url} --out-dir {plane} --yes -o json {more}");
    paste(at, &with_build(at, &line)).expect(0)
}

fn unregister(at: &Estate, plane: &str, more: &str) -> Output {
    paste(at, &with_build(at, &format!("choreoctl unregister {plane} --yes -o json {more}")))
}

/// An estate in which nothing is registered, and no agent has what it needs.
pub fn empty() -> Estate {
    let at = prepared();
    at.build.kubectl(&["delete", "configmap", "cluster-gateway-ca", "-n", NAMESPACE], "");
    at
}

/// Ends a namespace that is to be deleted as its controller does, which runs only beside OpenChoreo's own programs.
pub fn finalize(at: &Estate, name: &str) {
    if at.is_real() {
        return;
    }
    let Some(mut namespace) = at.build.api().get(&format!("/api/v1/namespaces/{name}")) else { return };
    assert!(namespace["metadata"]["deletionTimestamp"].is_string(), "{namespace}");
    namespace["spec"]["finalizers"] = Value::Array(Vec::new());
    at.build.api().write(&format!("/api/v1/namespaces/{name}/finalize"), &namespace);
}

/// Registers a plane whose agent's namespace is a new one, and installs its chart by the command that is printed.
pub fn register_elsewhere(at: &Estate, namespace: &str) {
    let more = format!("--plane-namespace {namespace} --agent-certificate own --client-ca-in secret");
    let reported = register(at, "second", &more).stdout;
    let step = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let helm = reported.lines().map(step).find(|step| step["step"] == "helm").unwrap();
    paste(at, helm["message"].as_str().unwrap().strip_prefix("run: ").unwrap()).expect(0);
}

pub fn both_clusters_return_to_the_state_before() {
    let at = empty();
    let before = both(&at);
    for certificate in ["own", "cert-manager"] {
        register(&at, "chart", &format!("--agent-certificate {certificate} --install --force"));
        assert_ne!(both(&at), before);
        let reported = unregister(&at, "chart", "--helm").expect(0);
        reported.says(&["this is removed in ", "Helm release openchoreo-build-plane/openchoreo-build-plane"]);
        reported.says(&["the connected agents with planeID chart lose access"]);
        returned_to(&at, &before);
        assert!(at.control.path().join("chart/values.yaml").exists(), "files stay");
    }
    // Without --helm Helm's command is printed, and what Helm has stays until that was run.
    register(&at, "chart", "--agent-certificate cert-manager --install --force");
    let reported = unregister(&at, "chart", "").expect(0).stdout;
    assert!(
        reported.contains("Secret openchoreo-build-plane/cluster-agent-tls is kept: cert-manager writes it"),
        "{reported}"
    );
    let helm = reported.split("run: ").nth(1).unwrap().split(", then run this command again").next().unwrap();
    at.control.run(&["get", "chart"]).expect(3);
    paste(&at, helm).expect(0);
    unregister(&at, "chart", "").expect(0);
    returned_to(&at, &before);
    unregister(&at, "chart", "").expect(3);
}

fn what_other_planes_use_stays() {
    let at = empty();
    register(&at, "chart", "--agent-certificate cert-manager --client-ca-in secret --install");
    // The agent, by the planeID.
    at.control.run(&["create", "twin", "--plane-id", "chart", "--client-ca-file", &at.control.ca("twin")]).expect(0);
    let beside = stored(&at.build);
    let reported = unregister(&at, "chart", "--helm").expect(0);
    reported.says(&["planeID chart is also used by ClusterBuildPlane twin"]);
    assert_eq!(stored(&at.build), beside);
    let secret = ["get", "secret", "chart-client-ca", "-n", CONTROL, "--ignore-not-found", "-o", "name"];
    assert_eq!(at.control.kubectl(&secret, "").stdout, "");

    // The Secret beside the gateway, the CA, and the namespace.
    at.control.run(&["delete", "twin", "--yes"]).expect(0);
    register(&at, "chart", "--agent-certificate cert-manager --client-ca-in secret --install");
    let by_secret = format!("{CONTROL}/chart-client-ca");
    at.control.run(&["create", "sharer", "--client-ca-secret", &by_secret]).expect(0);
    at.control.write("shared.crt", &at.secret("chart-agent-ca")["tls.crt"]);
    at.control.run(&["create", "truster", "--client-ca-file", "shared.crt"]).expect(0);
    let mut neighbour = super::estate::agent("buildplane", "truster");
    neighbour["metadata"]["name"] = "neighbour".into();
    at.build.kubectl(&["apply", "-f", "-"], &neighbour.to_string());
    let others = || {
        let names = [
            "/\"sharer\"",
            "/\"truster\"",
            "/\"neighbour\"",
            "/\"chart-client-ca\"",
            "/\"chart-agent-ca\"",
            "/\"cluster-gateway-ca\"",
        ];
        let is_other = |it: &String| names.iter().any(|name| it.contains(name)) || it.starts_with("Namespace ");
        both(&at).map(|all| all.into_iter().filter(is_other).collect::<BTreeSet<_>>())
    };
    let before = others();
    assert_eq!(before.iter().map(BTreeSet::len).sum::<usize>(), 7 + namespaces(&at), "{before:#?}");
    let reported = unregister(&at, "chart", "--helm").expect(0).stdout;
    for why in [
        "Secret openchoreo-build-plane/chart-agent-ca is kept: ",
        "Secret openchoreo-control-plane/chart-client-ca is kept: ClusterBuildPlane sharer has its CA there",
        "ConfigMap openchoreo-build-plane/cluster-gateway-ca is kept: the agent neighbour reads it",
        "Secret openchoreo-build-plane/cluster-agent-tls is kept: the agent neighbour presents it",
        "Namespace openchoreo-build-plane is kept: ",
    ] {
        assert!(reported.contains(why), "{why} in {reported}");
    }
    assert_eq!(others(), before);
}

fn namespaces(at: &Estate) -> usize {
    both(at).iter().flatten().filter(|it| it.starts_with("Namespace ")).count()
}

fn a_dry_run_and_a_plane_that_is_not_there_change_nothing() {
    let at = empty();
    register_elsewhere(&at, "second");
    let before = both(&at);
    for dry_run in ["client", "server"] {
        let line = format!("choreoctl unregister second --plane-namespace second --helm --dry-run {dry_run}");
        let reported = paste(&at, &with_build(&at, &line)).expect(0).stdout;
        for what in ["helm: Helm release", "namespace: Namespace second deleted (", "client-ca: Secret"] {
            assert!(reported.contains(what), "{what} in {reported}");
        }
        returned_to(&at, &before);
    }
    // What is left of the second one is not the other one's.
    unregister(&at, "secnod", "--plane-namespace second --helm").expect(3).says(&["did you mean second?"]);
    let refused = paste(&at, &with_build(&at, "choreoctl unregister second")).expect(2);
    refused.says(&["the agent of planeID second is in the namespace second", "hint: --plane-namespace second"]);
    let unasked = paste(&at, &with_build(&at, "choreoctl unregister second --plane-namespace second")).expect(2);
    unasked.says(&["this is removed in ", "--yes"]);
    returned_to(&at, &before);
    // A namespace with anything else in it stays, and what is kept.
    at.build.kubectl(&["create", "serviceaccount", "mine", "-n", "second"], "");
    let reported = unregister(&at, "second", "--plane-namespace second --helm --keep-ca").expect(0).stdout;
    assert!(reported.contains("Namespace second is kept: it has ServiceAccount mine"), "{reported}");
    assert!(reported.contains("second-client-ca is kept: --keep-ca keeps it"), "{reported}");
}
