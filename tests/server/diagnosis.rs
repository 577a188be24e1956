//! What doctor and dump do beside naming a cause: what they read, and what they say where they may or can not.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::estate::Estate;
use super::hints::paste;
use super::patient::*;
use super::proxy::Proxy;

stories!(
    Go:
        a_url_inside_of_a_cluster_is_not_checked,
        without_the_build_cluster_the_gateway_says_whether_an_agent_is_there,
        the_agent_of_another_plane_is_not_taken_for_ones_own,
        an_old_crd_and_a_missing_one_are_reported,
        roles_that_are_printed_grant_what_was_missing,
        doctor_only_reads_and_says_what_it_can,
        what_may_not_be_read_is_not_taken_for_missing,
        a_dump_is_written_to_a_pipe_and_one_that_is_cut_off_is_reported,
        one_silent_cluster_hides_nothing_of_the_other,
        a_last_report_that_stays_is_reported;
);

/// The chart's default URL leads nowhere outside of a cluster: nothing is wrong.
fn a_url_inside_of_a_cluster_is_not_checked() {
    let at = well();
    at.deploy(PLANE, "--server-url=wss://cluster-gateway.openchoreo-control-plane.svc.cluster.local:8443/ws");
    let reported = until(&at, |plane| plane["healthy"] == true && status_of(plane, "agent-running") == "pass");
    let plane = &reported["planes"][0];
    assert!(plane["healthy"] == true && plane["unchecked"][0] == "the gateway was not contacted", "{plane:#}");
    assert_eq!(status(&reported, "gateway-answer"), "skip", "{plane:#}");
}

fn without_the_build_cluster_the_gateway_says_whether_an_agent_is_there() {
    let at = well();
    twin(&at, PLANE, "old");
    value(&at, &file(&at, "other/ca.crt"));
    let url = format!("wss://localhost:{}/ws", at.port);
    let alone = ["doctor", PLANE, "--gateway-url", &url, "-o", "json"];
    let reported = ask(|| at.control.run(&alone).json(), |plane| plane["rootCause"] == "agent-authorized");
    assert_eq!(reported["planes"][0]["rootCause"], "agent-authorized", "{:#}", reported["planes"][0]);
    // With a certificate and no plane's cluster its word is reported, too.
    let word = ["--cert", "old/tls.crt", "--key", "old/tls.key"];
    let reported = at.control.run(&[&alone[..], &word].concat()).json();
    assert_eq!(status(&reported, "gateway-answer"), "pass", "{reported:#}");
}

fn the_agent_of_another_plane_is_not_taken_for_ones_own() {
    let at = well();
    at.order("reports off");
    at.control.run(&["create", "twin", "--plane-id", "beta", "--client-ca-file", "other/ca.crt"]).expect(0);
    at.control.connect("twin");
    let reported = at.run(&["doctor", "-o", "json"]).expect(0).json();
    let (sick, beta) = (&reported["planes"][0], &reported["planes"][1]);
    assert!(sick["name"] == PLANE && is_well(sick) && is_well(beta), "{reported:#}");
    at.control.status("twin", false, 0, &[], "No agents connected");
    let reported = at.run(&["doctor", "twin", "-o", "json"]).expect(1).json();
    assert_eq!(reported["planes"][0]["rootCause"], "agent-exists", "{reported:#}");
}

fn an_old_crd_and_a_missing_one_are_reported() {
    let at = well();
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/observabilityPlaneRef";
    let patch = json!([{"op": "replace", "path": field, "value": {"type": "string"}}]).to_string();
    let name = "clusterbuildplanes.openchoreo.dev";
    at.control.kubectl(&["patch", "crd", name, "--type=json", "-p", &patch], "");
    let reported = diagnose(&at);
    assert_eq!(
        (&reported["checks"][1]["id"], &reported["checks"][1]["status"]),
        (&json!("crd"), &json!("warn")),
        "{reported:#}"
    );
    // Where the other cluster serves the kind, the clusters are named in the place of each other.
    at.control.kubectl(&["delete", "crd", name], "");
    let reported = at.run(&["doctor"]).expect(2);
    reported.says(&["the contexts are swapped"]);
    let hint = reported.stderr.split("hint: ").nth(1).unwrap().trim();
    let reported = paste(&at, &format!("{hint} -o json")).json();
    assert_eq!(reported["checks"][1]["status"], "pass", "{reported:#}");
    at.build.kubectl(&["delete", "crd", name], "");
    let reported = at.run(&["doctor", "-o", "json"]).expect(2).json();
    assert_eq!(
        (&reported["checks"][1]["status"], &reported["planes"][0]["name"]),
        (&json!("fail"), &json!(PLANE)),
        "{reported:#}"
    );
    assert_eq!(status(&reported, "agent-certificate"), "pass");
}

/// One who may read all and nothing else, in a cluster.
fn reader(control_plane: &ControlPlane) {
    let role = ["create", "clusterrole", "reader", "--verb=get,list,watch", "--resource=*.*"];
    control_plane.kubectl(&role, "");
    let resource = json!([{"op": "add", "path": "/rules/-", "value": {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}}]);
    control_plane.kubectl(&["patch", "clusterrole", "reader", "--type=json", "-p", &resource.to_string()], "");
    control_plane.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=reader", "--user=reader"], "");
}

/// What the reader did, as the API server took it down: verbs and resources.
fn taken_down(control_plane: &ControlPlane) -> Vec<(String, String)> {
    let log = std::fs::read_to_string(control_plane.path().join("audit.log")).unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let event = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        (word(&event["verb"]), word(&event["objectRef"]["resource"]))
    };
    log.lines().map(event).collect()
}

fn roles_that_are_printed_grant_what_was_missing() {
    let at = well();
    let as_guest = ["doctor", PLANE, "-o", "json", "--context", "guest", "--build-context", "guest"];
    for _ in 0..3 {
        // What can be read leads to more that is needed.
        let reported = at.run(&as_guest).json();
        for hint in reported["checks"][2]["hints"].as_array().unwrap() {
            let grant = hint["text"].as_str().unwrap().split("USER with\n").nth(1).unwrap();
            paste(&at, &grant.replace("--context guest", "--context control").replace("USER", "guest")).expect(0);
        }
    }
    let reported = at.run(&as_guest).expect(0).json();
    assert!(reported["checks"][2]["status"] == "pass" && reported["planes"][0]["healthy"] == true, "{reported:#}");
}

const AS_READER: [&str; 4] = ["--context", "reader", "--build-context", "reader"];

fn doctor_only_reads_and_says_what_it_can() {
    let at = well();
    let run = |args: &[&str]| at.run(&[args, &AS_READER].concat());
    for control_plane in [&at.control, &at.build] {
        // Who may read nothing is reported so, and nothing is called healthy.
        let reported = run(&["doctor", PLANE]).expect(2);
        assert!(reported.stdout.contains("warn  rights") && reported.stdout.contains("not allowed"), "{reported:#?}");
        reader(control_plane);
    }
    run(&["dump", PLANE, "-o", "read.yaml"]).expect(0);
    run(&["forecast", PLANE]).expect(0);
    let reported = run(&["doctor", PLANE]).expect(0);
    assert!(reported.stdout.contains("sick: healthy"), "{}", reported.stdout);
    for control_plane in [&at.control, &at.build] {
        let done = taken_down(control_plane);
        let read = |done: &&(String, String)| ["get", "list", "watch"].contains(&done.0.as_str());
        assert!(done.len() > 10 && done.iter().filter(read).count() == done.len(), "{done:?}");
        assert!(done.iter().any(|(_, resource)| resource == "secrets"), "{done:?}");
    }
    // Nor does the gateway get an agent by it.
    let reported = diagnose(&at);
    let counted =
        reported["planes"][0]["checks"].as_array().unwrap().iter().find(|check| check["id"] == "agent-authorized");
    assert_eq!(counted.unwrap()["message"], "the gateway counts 1 for this plane");
    assert_eq!(at.upgrades(), 0);
}

/// Lets the guest read the planes and the Deployments, and nothing else.
fn let_guest_read(at: &Estate) {
    let may = |control_plane: &ControlPlane, verbs: &str, resource: &str| {
        let name = resource.replace('.', "-");
        let (verbs, resource) = (format!("--verb={verbs}"), format!("--resource={resource}"));
        control_plane.kubectl(&["create", "clusterrole", &name, &verbs, &resource], "");
        let binding = ["create", "clusterrolebinding", &name, &format!("--clusterrole={name}"), "--user=guest"];
        control_plane.kubectl(&binding, "");
    };
    may(&at.control, "get,list", "clusterbuildplanes.openchoreo.dev");
    may(&at.build, "get,list", "deployments.apps");
}

fn what_may_not_be_read_is_not_taken_for_missing() {
    let at = well();
    let_guest_read(&at);
    let as_guest = ["--context", "guest", "--build-context", "guest"];
    let reported = at.run(&[&["dump", PLANE, "-o", "partly.yaml"][..], &as_guest].concat()).expect(0);
    reported
        .says(&["warning: missing in the dump: /api/v1/namespaces/openchoreo-build-plane/secrets/cluster-agent-tls"]);
    let live = at.run(&[&["doctor", PLANE, "-o", "json"][..], &as_guest].concat()).expect(2).json();
    let dumped = at.control.run(&["doctor", "-f", "partly.yaml", "-o", "json"]).expect(2).json();
    for reported in [live, dumped] {
        assert!(reported["healthy"] == false && reported["planes"][0]["rootCause"].is_null(), "{reported:#}");
        assert_eq!(reported["checks"][2]["status"], "warn");
    }
    at.control.run(&["forecast", "-f", "partly.yaml", "-q"]).expect(2);
}

fn a_dump_is_written_to_a_pipe_and_one_that_is_cut_off_is_reported() {
    let at = well();
    at.run(&["dump", PLANE, "-o", "read.yaml"]).expect(0);
    let cut = file(&at, "read.yaml").lines().take(60).map(|line| format!("{line}\n")).collect::<String>();
    at.control.write("cut.yaml", &cut);
    at.control.run(&["doctor", "-f", "cut.yaml"]).expect(2).says(&["the dump is truncated"]);
    // A pipe is written to, and stays one.
    let made = Command::new("mkfifo").arg(at.control.path().join("pipe")).status().unwrap();
    assert!(made.success());
    let mut read = Command::new("cat");
    read.arg("pipe").current_dir(at.control.path()).stdout(Stdio::piped());
    let read = read.spawn().unwrap();
    at.run(&["dump", PLANE, "-o", "pipe", "--force"]).expect(0);
    let read = String::from_utf8(read.wait_with_output().unwrap().stdout).unwrap();
    assert!(read.contains("kind: End") && !at.control.path().join("pipe").is_file());
}

/// And takes no longer than a request may.
fn one_silent_cluster_hides_nothing_of_the_other() {
    let at = well();
    let led = |control_plane: &ControlPlane, port: u16, name: &str| {
        let text = std::fs::read_to_string(control_plane.kubeconfig()).unwrap();
        let own = format!("127.0.0.1:{}", control_plane.port());
        at.control.write(name, &text.replace(&own, &format!("127.0.0.1:{port}")))
    };
    let mute = |control_plane: &ControlPlane| {
        let proxy = Proxy::start(control_plane.port());
        proxy.mute();
        proxy
    };
    let (control_proxy, build_proxy) = (mute(&at.control), mute(&at.build));
    for (control, build) in [(1, 1), (control_proxy.port, build_proxy.port)] {
        let started = Instant::now();
        let build = led(&at.build, build, "other-build");
        let reported = ["doctor", PLANE, "-o", "json", "--request-timeout", "2s"];
        let reported = at.control.run(&[&reported[..], &["--build-kubeconfig", &build]].concat()).expect(2).json();
        let seen = ["client-ca-usable", "agent-exists", "connected"].map(|id| status(&reported, id));
        assert_eq!((seen, &reported["healthy"]), (["pass", "skip", "pass"].map(String::from), &json!(false)));
        let control = led(&at.control, control, "other-control");
        let reported = ["doctor", PLANE, "-o", "json", "--request-timeout", "2s", "--kubeconfig", &control];
        let reported = at.run(&reported).expect(2);
        reported.says(&["API server at", "hint:"]);
        let reported = reported.json();
        let seen = ["plane-exists", "agent-exists", "agent-certificate", "connected"].map(|id| status(&reported, id));
        assert_eq!(seen, ["skip", "pass", "pass", "skip"].map(String::from));
        assert_eq!(
            (&reported["checks"][0]["status"], &reported["planes"][0]["rootCause"]),
            (&json!("fail"), &json!("api-server"))
        );
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    }
}

/// Without controller and gateway the last report stays for ever.
fn a_last_report_that_stays_is_reported() {
    let mut at = well();
    at.kill_double();
    let times = [("lastConnectedTime", 9000), ("lastHeartbeatTime", 8000)];
    at.control.status(PLANE, true, 1, &times, "1 agent connected");
    url(&at, 1);
    let reported = diagnose(&at);
    let stale = complaints(&reported["planes"][0]).into_iter().find(|check| check["id"] == "controller").unwrap();
    let message = stale["message"].as_str().unwrap();
    assert!(stale["status"] == "fail" && message.contains("check that the gateway is running"), "{stale}");
}
