//! A fleet over three API servers: the control plane's, that of three agents, and one of another agent that is down. The
//! configuration says where they are.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use super::control_plane::{ControlPlane, Output, finish};
use super::estate::Estate;
use super::hints::shell;

stories!(
    Go:
        the_status_of_a_fleet_is_one_screen,
        a_context_of_another_cluster_is_noticed,
        commands_find_the_cluster_of_each_plane;
);

/// The planes, each with the plane type of its agent, and the folder of the CA that it trusts.
const PLANES: [[&str; 4]; 4] = [
    ["ClusterWorkflowPlane", "well", "workflowplane", "old"],
    ["ClusterDataPlane", "wrong", "dataplane", "old"],
    ["ClusterObservabilityPlane", "pinned", "observabilityplane", "observabilityplane"],
    ["ClusterDataPlane", "gone", "", "old"],
];

fn word(kind: &str) -> &'static str {
    match kind {
        "ClusterWorkflowPlane" => "cwp",
        "ClusterDataPlane" => "cdp",
        _ => "cop",
    }
}

/// A command line of choreoctl with the configuration of the fleet.
fn command(at: &Estate, line: &str) -> Command {
    let mut command = shell(at, line);
    command.env("CHOREOCTL_CONFIG", at.control.path().join("config/choreoctl.yaml"));
    command
}

fn run(at: &Estate, line: &str) -> Output {
    finish(command(at, line), "")
}

/// The fleet, with the cluster of the fourth agent still up.
fn fleet() -> (Estate, ControlPlane) {
    let agents: Vec<_> = PLANES.iter().filter(|plane| !plane[2].is_empty()).map(|plane| (plane[2], plane[1])).collect();
    let at = Estate::of(&agents);
    let other = ControlPlane::start();
    at.order("era v1");
    at.control_namespace();
    for kind in ["cwp", "workflowplane", "cdp", "dp", "cop", "observabilityplane"] {
        let crd = at.control.run(&["crd", kind, "--release", "v1.2"]).expect(0).stdout;
        at.control.kubectl(&["apply", "-f", "-"], &crd);
    }
    at.control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
    for (number, [kind, name, plane_type, folder]) in PLANES.into_iter().enumerate() {
        // A plane that trusts one certificate, which is no more the agent's.
        let pinned = name == "pinned";
        let ca = at.control.read(format!("{folder}/{}", if pinned { "tls.crt" } else { "ca.crt" }));
        let mut spec = json!({"planeID": name, "clusterAgent": {"clientCA": {"value": ca}}});
        if kind == "ClusterObservabilityPlane" {
            spec["observerURL"] = "https://observer.example.com".into();
        }
        let object = json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec,
        });
        let path = format!("/apis/openchoreo.dev/v1alpha1/{}s/{name}", kind.to_lowercase());
        at.control.api().write(&path, &object);
        let cluster = if number == 3 { &other } else { &at.build };
        let place = format!("--plane-kubeconfig {}", cluster.kubeconfig().display());
        let url = format!("--gateway-url wss://localhost:{}/ws", at.port);
        run(&at, &format!("choreoctl config set {}/{name} {place} {url}", word(kind))).expect(0);
        if pinned {
            at.control
                .run(&["certs", "client", "--plane-id", name, "--ca-dir", folder, "--out-dir", "renewed"])
                .expect(0);
            std::fs::copy(at.control.path().join(format!("{folder}/ca.crt")), at.control.path().join("renewed/ca.crt"))
                .unwrap();
        }
        if plane_type.is_empty() {
            continue;
        }
        let namespace = super::estate::names(plane_type).0;
        let held = if pinned {
            "renewed"
        } else if number == 0 {
            "old"
        } else {
            plane_type
        };
        let secret = at.control.run(&["certs", "secret", held, "-n", &namespace]).expect(0).stdout;
        at.build.kubectl(&["apply", "-f", "-"], &secret);
        // Its pods start with what the Secret holds then.
        let agent = Estate::agent_of(plane_type, name, at.port);
        let (namespace, deployment) = super::estate::names(plane_type);
        at.build.api().write(&format!("/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}"), &agent);
    }
    (at, other)
}

/// The causes of the planes that need attention.
fn causes(reported: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    reported["attention"].as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["rootCause"]))).collect()
}

fn the_status_of_a_fleet_is_one_screen() {
    let (at, other) = fleet();
    let expected: BTreeMap<_, _> = [("wrong", "agent-trusted"), ("pinned", "agent-trusted"), ("gone", "agent-exists")]
        .map(|(name, cause)| (name.to_owned(), cause.to_owned()))
        .into();
    other.kill();
    let deadline = Instant::now() + 3 * super::SOON;
    let reported = loop {
        let reported = run(&at, "choreoctl status -o json");
        let json = reported.json();
        if causes(&json) == expected && json["states"]["Connected"] == 1 {
            break reported;
        }
        assert!(Instant::now() < deadline, "{json:#}");
        std::thread::sleep(std::time::Duration::from_millis(300));
    };
    // What can't be read is not known.
    reported.expect(2);
    let screen = run(&at, "choreoctl status").stdout;
    assert!(screen.starts_with("4 planes: 1 connected, 3 need attention; next outage in "), "{screen}");
    for words in ["cdp/wrong", "cop/pinned", "cdp/gone", "refuse", "    fix: choreoctl "] {
        assert!(screen.contains(words), "no {words} in {screen}");
    }

    if Command::new("jq").arg("--version").output().is_ok() {
        let reported = run(&at, &super::planes::example("fleet.sh")).expect(2).stdout;
        assert!(
            reported.contains("ClusterDataPlane wrong: ") && reported.contains("[agent-trusted]\n  choreoctl "),
            "{reported}"
        );
    } else {
        println!("there is no jq: the example for cron is not run");
    }

    // Nothing is asked twice.
    let started = Instant::now();
    let requests = run(&at, "choreoctl status -v").stderr;
    let took = started.elapsed().as_millis();
    let answered =
        requests.lines().filter_map(|line| line.strip_suffix(" ms")?.rsplit(' ').next()?.parse::<u128>().ok());
    println!("status of three clusters: {took} ms, of which its slowest answer {} ms", answered.max().unwrap());
    let asked =
        requests.lines().filter_map(|line| Some(line.split_once("GET ")?.1.split(' ').next().unwrap().to_owned()));
    let mut counts = BTreeMap::<_, usize>::new();
    asked.for_each(|path| *counts.entry(path).or_default() += 1);
    let again: Vec<_> =
        counts.iter().filter(|(path, count)| **count > 1 && !path.contains(&other.port().to_string())).collect();
    assert!(counts.len() > 20 && again.is_empty(), "{again:#?}");

    // `doctor` without a flag looks at the same clusters.
    let reported = run(&at, "choreoctl doctor cdp/wrong -o json").json();
    assert_eq!(reported["planes"][0]["rootCause"], "agent-trusted");
    let ignored = run(&at, "choreoctl doctor cdp/wrong -o json --no-config").json();
    assert_ne!(ignored["planes"][0]["rootCause"], "agent-trusted");
}

/// Planes in two clusters, both up, and nothing but the configuration that says where.
fn commands_find_the_cluster_of_each_plane() {
    let (at, other) = fleet();
    let agent = Estate::agent_of("dataplane", "gone", at.port);
    let (namespace, _) = super::estate::names("dataplane");
    other.kubectl(&["create", "namespace", &namespace], "");
    at.control.run(&["certs", "client", "--plane-id", "gone", "--ca-dir", "old", "--out-dir", "gone"]).expect(0);
    let secret = at.control.run(&["certs", "secret", "gone", "-n", &namespace]).expect(0).stdout;
    other.kubectl(&["apply", "-f", "-"], &secret);
    other.kubectl(&["apply", "-f", "-"], &agent.to_string());

    // All agents of both clusters, each with its cluster.
    let reported = run(&at, "choreoctl certs inspect -o json").json();
    let sources: Vec<_> =
        reported["certificates"].as_array().unwrap().iter().map(|one| one["source"].clone()).collect();
    let agents = sources.iter().filter(|source| source.as_str().unwrap().starts_with("agent in ")).count();
    assert_eq!(agents, 4, "{sources:?}");
    // A plane has the certificate of its own agent.
    let reported = run(&at, "choreoctl certs verify --cert agent --plane cdp/gone").expect(0);
    assert!(reported.stdout.contains("gone"), "{}", reported.stdout);
    run(&at, "choreoctl wait cdp/gone cwp/well --for trusted --timeout 20s").expect(0);
    // Of several clusters none is chosen.
    let several = "the agents are in several clusters, and this command reads one: ";
    let reported = run(&at, "choreoctl dump planes -o - --all-namespaces");
    reported.expect(2).says(&[several, "cdp/gone", "hint: name planes of one cluster"]);
    run(&at, "choreoctl dump cdp/gone -o gone.yaml").expect(0);
    let reported = run(&at, "choreoctl get -f gone.yaml").expect(0);
    assert!(reported.stdout.contains("gone"), "{}", reported.stdout);
    // What remains of planes is named with the cluster of each.
    let reported = run(&at, "choreoctl delete cdp/gone cwp/well --yes --wait=false").expect(0).stderr;
    let kubeconfigs = [&at.build, &other].map(|cluster| cluster.kubeconfig().display().to_string());
    for kubeconfig in kubeconfigs {
        assert!(reported.contains(&format!("--kubeconfig {kubeconfig}")), "no {kubeconfig} in {reported}");
    }
    // A cluster that is down is no reason not to delete.
    other.kill();
    run(&at, "choreoctl delete cdp/wrong --yes --wait=false --request-timeout 2s").expect(0);
}

fn a_context_of_another_cluster_is_noticed() {
    let (at, other) = fleet();
    let listed = run(&at, "choreoctl config list").expect(0).stdout;
    assert_eq!(listed.lines().count(), 5, "{listed}");
    let path = at.control.path().join("config/choreoctl.yaml");
    let before = std::fs::read_to_string(&path).unwrap();

    // The kubeconfig of the agent now leads to the other one's cluster.
    let (build, wrong) = (at.build.kubeconfig(), other.kubeconfig());
    std::fs::write(&path, before.replace(&build.display().to_string(), &wrong.display().to_string())).unwrap();
    let secrets = || at.build.api().get("/api/v1/secrets").unwrap()["items"].clone();
    let stored = secrets();
    for line in ["certs rotate cwp/well --yes", "certs renew cwp/well --yes"] {
        let reported = run(&at, &format!("choreoctl {line}")).expect(2);
        reported.says(&["now points to another cluster than when the configuration was saved", "choreoctl config set"]);
    }
    assert_eq!(secrets(), stored);

    // So is that of the control plane.
    let identity = before.lines().find(|line| line.starts_with("  identity: ")).unwrap();
    std::fs::write(&path, before.replace(identity, "  identity: 00000000-0000-0000-0000-000000000000")).unwrap();
    run(&at, "choreoctl certs renew cwp/well --yes").expect(2).says(&["context control now points to another cluster"]);
    run(&at, "choreoctl status").expect(2).says(&["context control now points to another cluster"]);

    // A mistake has its place, and an entry can be removed.
    std::fs::write(&path, before.replace("planeKubeconfig", "kubeconfig")).unwrap();
    run(&at, "choreoctl status").expect(2).says(&["choreoctl.yaml:9:5: unknown field kubeconfig"]);
    std::fs::write(&path, &before).unwrap();
    run(&at, "choreoctl config unset cdp/wrong").expect(0);
    assert_eq!(run(&at, "choreoctl config list").expect(0).stdout.lines().count(), 4);
    run(&at, "choreoctl config unset cdp/wrong").expect(2).says(&["is not configured"]);
    assert_eq!(run(&at, "choreoctl config path").expect(0).stdout.trim(), path.display().to_string());
}
