//! From nothing to authorized in one command, again and again, and cut off in between.

use std::time::Duration;

use serde_json::{Value, json};

use super::estate::{DEPLOYMENT, Estate, NAMESPACE};

const SOON: Duration = Duration::from_secs(30);
const OWN: &str = "cluster-agent-own-tls";

/// Status by step.
fn steps(lines: &str) -> Vec<(String, String)> {
    let step = |line: &str| {
        let step: Value = serde_json::from_str(line).unwrap();
        (step["step"].as_str().unwrap().to_owned(), step["status"].as_str().unwrap().to_owned())
    };
    lines.lines().map(step).collect()
}

/// The versions of all that a registration writes.
fn versions(at: &Estate) -> Vec<String> {
    let version = "jsonpath={range .items[*]}{.kind}/{.metadata.name}@{.metadata.resourceVersion} {end}";
    let planes = at.control.kubectl(&["get", "cbp,secrets", "-A", "-o", version], "").stdout;
    let build = at.build.kubectl(&["get", "secrets,configmaps", "-n", NAMESPACE, "-o", version], "").stdout;
    // The status is the controller's to write.
    let objects = planes.split_whitespace().filter(|object| !object.starts_with("ClusterBuildPlane"));
    let generation = at.control.kubectl(&["get", "cbp", "boot", "-o", "jsonpath={.metadata.generation}"], "").stdout;
    objects.chain(build.split_whitespace()).map(str::to_owned).chain([generation]).collect()
}

fn clear(at: &Estate) {
    at.control.kubectl(&["delete", "cbp", "boot", "--ignore-not-found"], "");
    at.build.kubectl(&["delete", "secret", OWN, "-n", NAMESPACE, "--ignore-not-found"], "");
    at.build.kubectl(&["delete", "configmap", "cluster-gateway-ca", "-n", NAMESPACE, "--ignore-not-found"], "");
    let _ = std::fs::remove_dir_all(at.control.path().join("out"));
}

pub fn a_build_plane_is_registered_in_one_go() {
    let at = Estate::start("boot");
    let url = format!("wss://localhost:{}/ws", at.port);
    at.control.kubectl(&["create", "namespace", "openchoreo-control-plane"], "");
    let bootstrap = |more: &[&str]| {
        let args = ["bootstrap", "boot", "--gateway-url", &url, "--out-dir", "out", "--yes", "-o", "json"];
        at.run(&[&args[..], more].concat())
    };
    bootstrap(&[]).expect(2).says(&["cluster-gateway-ca does not exist"]);
    let gateway = ["create", "secret", "generic", "cluster-gateway-ca", "--from-file=ca.crt=gateway.crt"];
    at.control.kubectl(&[&gateway[..], &["-n", "openchoreo-control-plane"]].concat(), "");

    // Cut off after each step and run again it ends in the same state.
    for count in 0.. {
        clear(&at);
        let args = ["bootstrap", "boot", "--gateway-url", &url, "--out-dir", "out", "--yes", "-o", "json"];
        let mut run = at.spawn(&args);
        let mut cut = true;
        for _ in 0..count {
            cut = !run.until("step", SOON, |_| true).contains("\"wait\"");
            if !cut {
                break;
            }
        }
        if cut {
            run.signal("-9");
        } else {
            run.wait();
        }
        let told = steps(&bootstrap(&[]).expect(0).stdout);
        assert!(told.contains(&("probe".into(), "done".into())), "after {count}: {told:?}");
        let ca = std::fs::read_to_string(at.control.path().join("out/private/ca.crt")).unwrap();
        assert!(at.value("boot") == ca && at.secret(OWN)["ca.crt"] == ca, "after {count}");
        if !cut {
            assert!(count > 8, "only {count} steps");
            break;
        }
    }
    // Again: nothing is written.
    let before = versions(&at);
    let told = steps(&bootstrap(&[]).expect(0).stdout);
    assert_eq!(versions(&at), before);
    let done: Vec<_> = told.iter().filter(|(step, status)| status == "done" && step != "probe").collect();
    assert!(done.is_empty(), "{done:?}");

    // A helm that does what the chart would, and then the agent is connected.
    let patch =
        json!({"spec": {"template": {"spec": {"volumes": [{"name": "client-certs", "secret": {"secretName": OWN}}]}}}});
    at.control.write("patch.json", &patch.to_string());
    std::fs::create_dir(at.control.path().join("bin")).unwrap();
    let kubectl = at.build.kubectl_command(&["patch", "deployment", DEPLOYMENT, "-n", NAMESPACE]);
    let words: Vec<_> = kubectl.get_args().map(|word| word.to_str().unwrap()).collect();
    let helm = format!(
        "#!/bin/sh\necho \"$@\" > helm-was-told\nKUBECONFIG={} {} {} --patch-file patch.json >&2\n",
        at.build.kubeconfig().display(),
        kubectl.get_program().to_str().unwrap(),
        words.join(" ")
    );
    let path = at.control.write("bin/helm", &helm);
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kubeconfig = at.build.kubeconfig().to_string_lossy().into_owned();
    let args = ["bootstrap", "boot", "--gateway-url", &url, "--out-dir", "out", "--yes", "-o", "json", "--install"];
    let mut install = at.control.command(&[&args[..], &["--wait", "--build-kubeconfig", &kubeconfig]].concat());
    install.env("PATH", format!("{}/bin:/usr/bin:/bin", at.control.path().display()));
    let told = steps(&super::finish(install, "").expect(0).stdout);
    assert!(told.ends_with(&[("helm".into(), "done".into()), ("wait".into(), "done".into())]), "{told:?}");
    let words = std::fs::read_to_string(at.control.path().join("helm-was-told")).unwrap();
    assert!(words.starts_with("upgrade --install openchoreo-build-plane oci://"), "{words}");
    assert!(words.contains("--values out/values.yaml") && !words.contains("PRIVATE"), "{words}");
    let values: Value =
        serde_yaml::from_str(&std::fs::read_to_string(at.control.path().join("out/values.yaml")).unwrap()).unwrap();
    assert_eq!(values["clusterAgent"]["serverUrl"], url);
    assert_eq!(values["clusterAgent"]["tls"]["clientSecretName"], OWN);

    // What is there and differs is not replaced unasked.
    let other = std::fs::read_to_string(at.control.path().join("old/ca.crt")).unwrap();
    let patch = json!({"data": {"ca.crt": other}}).to_string();
    at.build.kubectl(&["patch", "configmap", "cluster-gateway-ca", "-n", NAMESPACE, "-p", &patch], "");
    bootstrap(&[]).expect(2).says(&["differs from what it would become", "hint: look at it, and add --force"]);
    bootstrap(&["--force"]).expect(0);

    // The guides' flow, done by hand, is taken over without a change.
    at.control.run(&["create", "hand", "--plane-id", "boot", "--client-ca-file", "old/ca.crt"]).expect(0);
    let hand = ["bootstrap", "hand", "--plane-id", "boot", "--agent-certificate", "existing", "--yes", "-o", "json"];
    let before = at.control.kubectl(&["get", "cbp", "hand", "-o", "jsonpath={.metadata.generation}"], "").stdout;
    let told = steps(&at.run(&[&hand[..], &["--gateway-url", &url]].concat()).expect(0).stdout);
    assert!(
        told.contains(&("plane".into(), "found".into())) && told.contains(&("probe".into(), "done".into())),
        "{told:?}"
    );
    assert_eq!(at.control.kubectl(&["get", "cbp", "hand", "-o", "jsonpath={.metadata.generation}"], "").stdout, before);

    // cert-manager gets a CA to issue from, and several planes go at once.
    let plane = |name: &str| json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name}, "spec": {}});
    let file = at.control.write(
        "planes.json",
        &json!({"apiVersion": "v1", "kind": "List", "items": [plane("one"), plane("two"), plane("boot")]}).to_string(),
    );
    let args = ["bootstrap", "-f", &file, "--agent-certificate", "cert-manager", "--yes", "--client-ca-in", "secret"];
    let told = at.run(&[&args[..], &["--gateway-url", &url]].concat()).expect(1);
    let row = |name: &str| told.stdout.lines().rfind(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("one ").contains("registered") && row("two ").contains("registered"), "{told:?}");
    assert!(row("boot ").contains("failed: the plane boot is there already"), "{told:?}");
    assert!(at.secret("one-agent-ca").contains_key("tls.key"));
    at.control.run(&["certs", "inspect", "plane/one", "plane/two"]).expect(0);
}

pub fn everything_is_written_for_a_cluster_elsewhere() {
    let at = &*super::SHARED;
    at.run(&["bootstrap", "elsewhere"]).expect(2).says(&["--build-context"]);
    let told =
        at.run(&["bootstrap", "elsewhere", "--out-dir", "elsewhere", "--gateway-url", "wss://g:8443/ws"]).expect(0);
    assert!(told.stdout.contains("README.md"), "{told:?}");
    at.run(&["validate", "elsewhere/control-plane"]).expect(0);
    let verify = ["certs", "verify", "--cert", "elsewhere/private/tls.crt", "-f", "elsewhere/control-plane/plane.yaml"];
    at.run(&verify).expect(0);
    let text = |name: &str| std::fs::read_to_string(at.path().join("elsewhere").join(name)).unwrap();
    for name in ["control-plane/plane.yaml", "build-plane/namespace.yaml", "values.yaml", "README.md"] {
        assert!(!text(name).contains("PRIVATE KEY"), "{name}");
    }
    assert!(text("private/.gitignore").contains("*.key"));
    let values: Value = serde_yaml::from_str(&text("values.yaml")).unwrap();
    assert_eq!(values["clusterAgent"]["planeID"], "elsewhere");
    at.run(&["bootstrap", "elsewhere", "--out-dir", "elsewhere"]).expect(2).says(&["holds the keys of a run before"]);
}
