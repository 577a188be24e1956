//! The agent's chart, by the real helm: installed, repaired and rotated by the commands that choreoctl prints.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::Output;
use super::estate::{DEPLOYMENT, Estate, NAMESPACE, SECRET};
use super::hints::{paste, try_out};

stories!(
    Go:
        a_cert_manager_that_is_down_is_found_before_the_first_write,
        a_second_agent_in_the_cluster_is_installed_and_removed,
        what_helm_was_reported_wrongly_is_put_right_by_the_command_that_is_printed,
        the_charts_own_certificate_is_led_to_a_ca,
        a_rotation_from_ca_to_ca_goes_by_helm_and_back,
        a_certificate_that_is_not_issued_is_the_cause,
        the_certificate_in_the_running_pod_stays_in_sight;
);

pub const PLANE: &str = "chart";

/// cert-manager's CRDs, as far as the double fills them in. OpenChoreo's programs come with the real ones.
pub fn cert_manager(at: &Estate) {
    if at.is_real() {
        return;
    }
    for (plural, kind) in
        [("certificates", "Certificate"), ("certificaterequests", "CertificateRequest"), ("issuers", "Issuer")]
    {
        let schema = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let version =
            json!({"name": "v1", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}}});
        let names = json!({"plural": plural, "kind": kind, "singular": kind.to_lowercase()});
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.cert-manager.io")},
            "spec": {"group": "cert-manager.io", "scope": "Namespaced", "names": names, "versions": [version]}});
        at.build.kubectl(&["apply", "-f", "-"], &crd.to_string());
        at.build.kubectl(&["wait", "--for=condition=Established", &format!("crd/{plural}.cert-manager.io")], "");
    }
}

/// A command line with the flags of the plane's cluster.
pub fn with_build(at: &Estate, line: &str) -> Output {
    paste(at, &format!("{line} --build-kubeconfig {}", at.build.kubeconfig().display()))
}

/// Gives the release other values, as somebody does by mistake.
fn helm(at: &Estate, values: &[&str]) {
    let sets: String = values.iter().map(|value| format!(" --set clusterAgent.{value}")).collect();
    let chart = "oci://ghcr.io/openchoreo/helm-charts/openchoreo-build-plane";
    let upgrade = format!("helm upgrade openchoreo-build-plane {chart} --version 0.17.0 --namespace {NAMESPACE}");
    let line = format!("{upgrade} --reuse-values --kubeconfig {}{sets}", at.build.kubeconfig().display());
    paste(at, &line).expect(0);
}

pub fn diagnose(at: &Estate) -> Value {
    let reported = with_build(at, &format!("choreoctl doctor {PLANE} -o json"));
    reported.json()["planes"][0].clone()
}

pub fn check(plane: &Value, id: &str) -> Value {
    plane["checks"].as_array().unwrap().iter().find(|check| check["id"] == id).unwrap().clone()
}

/// The diagnosis once it fits, or the last one.
pub fn until(at: &Estate, fits: impl Fn(&Value) -> bool) -> Value {
    // OpenChoreo's controller asks once a minute.
    let deadline = Instant::now() + Duration::from_secs(if at.is_real() { 90 } else { 30 });
    loop {
        let plane = diagnose(at);
        if fits(&plane) || Instant::now() > deadline {
            return plane;
        }
    }
}

/// Waits until nothing is wrong. A pod that started in the second in which its Secret was written is restarted, as the
/// hint says.
#[track_caller]
fn is_well(at: &Estate) {
    let behind = json!(["agent-current"]);
    let well = |plane: &Value| plane["healthy"] == true && plane["warnings"] == json!([]);
    let plane = until(at, |plane| well(plane) || (plane["healthy"] == true && plane["warnings"] == behind));
    if plane["warnings"] == behind {
        std::thread::sleep(Duration::from_millis(1100));
        paste(at, check(&plane, "agent-current")["hint"].as_str().unwrap()).expect(0);
    }
    let plane = until(at, well);
    assert!(well(&plane), "{plane:#}");
}

/// Waits until a check has a status, and pastes its hints.
#[track_caller]
pub fn repair(at: &Estate, situation: &str, id: &str, status: &str) {
    let has = |plane: &Value| check(plane, id)["status"] == status;
    let plane = until(at, has);
    assert!(has(&plane), "{situation}: {plane:#}");
    let is_fixed = || check(&until(at, |plane| check(plane, id)["status"] == "pass"), id)["status"] == "pass";
    let wrong = try_out(at, situation, &check(&plane, id), || panic!("{id} has one fix"), is_fixed);
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Reason and date of what is predicted.
pub fn forecast(at: &Estate) -> Vec<(String, String)> {
    let reported = with_build(at, &format!("choreoctl forecast {PLANE} -o json")).json();
    let first = &reported["planes"][0];
    let all = std::iter::once(first).chain(first["next"].as_array().unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all.map(|one| (text(&one["reason"]), text(&one["date"]))).collect()
}

pub fn date_of(forecast: &[(String, String)], reason: &str) -> Option<String> {
    forecast.iter().find(|(of, _)| of == reason).map(|(_, date)| date.clone())
}

/// An estate with cert-manager, and without an agent.
pub fn prepared() -> Estate {
    let at = Estate::start(PLANE);
    at.build.kubectl(&["delete", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
    at.build.kubectl(&["delete", "secret", SECRET, "-n", NAMESPACE], "");
    at.control_namespace();
    cert_manager(&at);
    at
}

fn bootstrap(at: &Estate, plane: &str, more: &str) -> Output {
    let line =
        format!("choreoctl bootstrap {plane} --gateway-url wss://localhost:{}/ws --out-dir {plane} --yes", at.port);
    with_build(at, &format!("{line} --agent-certificate cert-manager -o json {more}"))
}

/// From nothing to connected.
pub fn installed() -> Estate {
    let at = prepared();
    let reported = bootstrap(&at, PLANE, "--install").expect(0);
    assert!(reported.stdout.lines().last().unwrap().contains("counts 1 for chart"), "{reported:?}");
    is_well(&at);
    at
}

/// A cert-manager whose controller is down issues nothing.
fn a_cert_manager_that_is_down_is_found_before_the_first_write() {
    let at = prepared();
    let labels = json!({"app.kubernetes.io/name": "cert-manager", "app.kubernetes.io/component": "controller"});
    let pod = json!({"containers": [{"name": "controller", "image": "controller"}]});
    let controller = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "cert-manager", "namespace": "default", "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}});
    at.build.kubectl(&["apply", "-f", "-"], &controller.to_string());
    bootstrap(&at, PLANE, "")
        .expect(2)
        .says(&["Deployment default/cert-manager has no available pod", "--agent-certificate own"]);
    at.control.run(&["get", PLANE]).expect(3);
    let status = json!({"status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1}}).to_string();
    let patch = ["patch", "deployment", "cert-manager", "--subresource=status", "--type=merge", "-p", &status];
    at.build.kubectl(&patch, "");
    bootstrap(&at, PLANE, "--install").expect(0);
    is_well(&at);
}

/// It gets names of its own; a second Argo Workflows is refused before anything is written.
fn a_second_agent_in_the_cluster_is_installed_and_removed() {
    let at = installed();
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "workflows.argoproj.io", "annotations": {
            "meta.helm.sh/release-name": "openchoreo-build-plane", "meta.helm.sh/release-namespace": NAMESPACE}},
        "spec": {"group": "argoproj.io", "scope": "Namespaced",
            "names": {"plural": "workflows", "kind": "Workflow", "singular": "workflow"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    at.build.kubectl(&["apply", "-f", "-"], &crd.to_string());
    let refused = bootstrap(&at, "second", "--build-namespace second").expect(2);
    refused.says(&["has already installed Argo Workflows", "choreoctl create second --plane-id chart"]);
    at.control.run(&["get", "second"]).expect(3);
    assert!(!at.control.path().join("second").exists());
    at.build.kubectl(&["delete", "crd", "workflows.argoproj.io"], "");
    let reported = bootstrap(&at, "second", "--build-namespace second").expect(0).stdout;
    let step = |line: &str| serde_json::from_str::<Value>(line).unwrap();
    let reported = reported.lines().map(step).find(|step| step["step"] == "helm").unwrap();
    paste(&at, reported["message"].as_str().unwrap().strip_prefix("run: ").unwrap()).expect(0);
    at.build.kubectl(&["get", "deployment", "cluster-agent-second", "-n", "second"], "");

    // What the second plane leaves behind is removed by the commands that are printed, which touch nothing else.
    let reported = with_build(&at, "choreoctl delete second --yes --wait=false").expect(0).stderr;
    let lines: Vec<_> = reported.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert!(
        lines.len() == 4 && lines[0].starts_with("helm uninstall openchoreo-build-plane --namespace second"),
        "{reported}"
    );
    for line in lines {
        // Nobody empties a namespace here.
        let wait = if line.starts_with("kubectl delete namespace") { " --wait=false" } else { "" };
        paste(&at, &format!("{line}{wait}")).expect(0);
    }
    is_well(&at);
}

pub fn what_helm_was_reported_wrongly_is_put_right_by_the_command_that_is_printed() {
    let at = installed();
    for (values, id) in [
        (&["planeID=wrong"][..], "agent-plane-id"),
        (&["tls.enabled=false"], "agent-tls"),
        (&[&format!("serverUrl=https://localhost:{}/ws", at.port)], "agent-server-url"),
        (&[&format!("serverUrl=wss://localhost:{}", at.port)], "agent-server-url"),
    ] {
        helm(&at, values);
        repair(&at, &format!("Helm's {}", values[0]), id, "fail");
        is_well(&at);
    }
}

/// It is refused, then pinned by hand, and led to a CA; Helm is run for it.
pub fn the_charts_own_certificate_is_led_to_a_ca() {
    let at = installed();
    helm(&at, &["tls.generateCerts=true"]);
    repair(&at, "the chart's self-signed certificate", "agent-trusted", "fail");
    is_well(&at);
    helm(&at, &["tls.generateCerts=true"]);
    until(&at, |plane| check(plane, "agent-trusted")["status"] == "fail");
    let pinned = at.secret(SECRET)["tls.crt"].clone();
    let patch = json!({"spec": {"clusterAgent": {"clientCA": {"value": pinned}}}}).to_string();
    at.control.kubectl(&["patch", "cbp", PLANE, "--type=merge", "-p", &patch], "");
    repair(&at, "a pinned certificate of cert-manager's", "ca-outlives", "warn");
    is_well(&at);
}

/// From one CA to the next the Issuer stays, so cert-manager is asked to issue anew; and back again, once Helm is.
pub fn a_rotation_from_ca_to_ca_goes_by_helm_and_back() {
    let at = installed();
    let rotate = |more: &str| with_build(&at, &format!("choreoctl certs rotate {PLANE} {more}"));
    let ca = at.value(PLANE);
    rotate("--again --install").expect(0);
    assert_ne!(at.value(PLANE), ca);
    is_well(&at);
    // A registration that is run again knows the new CA: only its file of values is an old one.
    let ca = at.value(PLANE);
    bootstrap(&at, PLANE, "--install").expect(2).says(&["values.yaml", "--force"]);
    bootstrap(&at, PLANE, "--install --force").expect(0);
    assert_eq!(at.value(PLANE), ca);
    is_well(&at);
    // Helm keeps its releases beside them.
    let names = || -> Vec<String> {
        at.secrets().lines().filter(|name| !name.contains("helm.release")).map(str::to_owned).collect()
    };
    let (ca, before) = (at.value(PLANE), names());
    rotate("--again --install --until switch").expect(0);
    let waiting = rotate("--rollback --timeout 2s").expect(124).stderr;
    let command =
        waiting.lines().find_map(|line| line.split("the new CA: ").nth(1)).unwrap_or_else(|| panic!("{waiting}"));
    paste(&at, command).expect(0);
    rotate("--rollback").expect(0);
    assert_eq!((at.value(PLANE), names()), (ca, before));
    is_well(&at);
}

/// With what its condition says, be it old.
pub fn a_certificate_that_is_not_issued_is_the_cause() {
    let at = installed();
    at.order("issuing off");
    at.build.kubectl(&["delete", "secret", SECRET, "-n", NAMESPACE], "");
    let plane = diagnose(&at);
    assert_eq!(plane["rootCause"], "agent-certificate-issued", "{plane:#}");
    assert!(check(&plane, "agent-certificate-issued")["message"].as_str().unwrap().contains("did not issue it again"));
    let status =
        json!({"status": {"conditions": [{"type": "Ready", "status": "False", "message": "the issuer is away"}]}});
    let name = format!("{DEPLOYMENT}-tls");
    let patch = ["patch", "certificates.cert-manager.io", &name, "-n", NAMESPACE, "--subresource=status"];
    at.build.kubectl(&[&patch[..], &["--type=merge", "-p", &status.to_string()]].concat(), "");
    let plane = diagnose(&at);
    assert_eq!(plane["rootCause"], "agent-certificate-issued", "{plane:#}");
    assert!(check(&plane, "agent-certificate-issued")["message"].as_str().unwrap().contains("the issuer is away"));
    at.order("issuing on");
}

/// When cert-manager has renewed the one in the Secret.
fn the_certificate_in_the_running_pod_stays_in_sight() {
    let at = installed();
    helm(&at, &["tls.duration=2h", "tls.renewBefore=1h59m40s"]);
    at.build.kubectl(&["delete", "secret", SECRET, "-n", NAMESPACE, "--ignore-not-found"], "");
    while !at.secrets().contains(SECRET) {}
    // So much later that the pod surely reads this one.
    std::thread::sleep(Duration::from_secs(7));
    let restart = ["rollout", "restart", "deployment", DEPLOYMENT, "-n", NAMESPACE];
    at.build.kubectl(&restart, "");
    at.build.kubectl(&["rollout", "status", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
    let (held, before) = (at.secret(SECRET)["tls.crt"].clone(), forecast(&at));
    let date = date_of(&before, "running-certificate-expires").unwrap_or_else(|| panic!("{before:?}"));
    let deadline = Instant::now() + Duration::from_secs(40);
    while at.secret(SECRET)["tls.crt"] == held {
        assert!(Instant::now() < deadline, "not renewed");
    }
    let after = forecast(&at);
    assert_eq!(date_of(&after, "running-certificate-expires"), Some(date.clone()), "{after:?}");
    let behind = check(&diagnose(&at), "agent-current");
    assert!(behind["status"] == "warn" && behind["message"].as_str().unwrap().contains(&date), "{behind}");
    // Without a record it is unknown, which no limit of time clears.
    at.build.kubectl(&["delete", "certificaterequests.cert-manager.io", "--all", "-n", NAMESPACE], "");
    let unknown = forecast(&at);
    assert!(date_of(&unknown, "running-certificate-unknown").is_some(), "{unknown:?}");
    with_build(&at, &format!("choreoctl forecast {PLANE} --within 1s")).expect(1);
    let metrics = with_build(&at, &format!("choreoctl forecast {PLANE} -o prometheus")).stdout;
    assert!(metrics.contains("running-certificate-unknown"), "{metrics}");
    // After a restart it is that of the Secret again.
    std::thread::sleep(Duration::from_millis(1100));
    at.build.kubectl(&restart, "");
    at.build.kubectl(&["rollout", "status", "deployment", DEPLOYMENT, "-n", NAMESPACE], "");
    let restarted = forecast(&at);
    assert!(date_of(&restarted, "running-certificate-expires").is_some_and(|new| new > date), "{restarted:?}");
}
