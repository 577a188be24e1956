//! What a further kind takes: a row and a CRD. Two kinds that no release has go through every verb.

use std::time::Duration;

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, SHARED};

stories!(
    Kinds:
        a_further_kind_is_a_row_and_a_crd,
        a_further_namespaced_kind_is_a_row_and_a_crd;
);

/// A kind, the word that names it, and where its planes are.
struct Case {
    kind: &'static str,
    word: &'static str,
    namespace: Option<&'static str>,
}

impl Case {
    fn plural(&self) -> String {
        format!("{}s.openchoreo.dev", self.kind.to_lowercase())
    }

    fn named(&self, name: &str) -> String {
        format!("{}/{name}", self.word)
    }

    fn manifest(&self, name: &str, plane_id: &str) -> String {
        let metadata = json!({"name": name, "namespace": self.namespace.unwrap_or_default()});
        let metadata = if self.namespace.is_some() { metadata } else { json!({"name": name}) };
        json!({
            "apiVersion": "openchoreo.dev/v1alpha1", "kind": self.kind, "metadata": metadata,
            "spec": {
                "planeID": plane_id,
                "clusterAgent": {"clientCA": {"secretRef": {"namespace": "default", "name": "none", "key": "ca.crt"}}},
            },
        })
        .to_string()
    }

    /// Writes a connection as the controller would.
    fn connect(&self, at: &ControlPlane, name: &str) {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let status = json!({"status": {"agentConnection": {
            "connected": true, "connectedAgents": 1, "lastConnectedTime": now, "lastHeartbeatTime": now,
        }}});
        let (plural, status) = (self.plural(), status.to_string());
        let mut patch = vec!["patch", plural.as_str(), name, "--subresource=status", "--type=merge", "-p", &status];
        patch.extend(self.namespace.iter().flat_map(|namespace| ["-n", namespace]));
        at.kubectl(&patch, "");
    }
}

fn a_further_kind_is_a_row_and_a_crd() {
    every_verb(&SHARED, &Case { kind: "ClusterInventedPlane", word: "cip", namespace: None });
}

fn a_further_namespaced_kind_is_a_row_and_a_crd() {
    let at = &*SHARED;
    at.kubectl(&["create", "namespace", "team"], "");
    let case = Case { kind: "InventedPlane", word: "ip", namespace: Some("team") };
    at.kubectl(&["config", "set-context", "team", "--cluster=control", "--user=admin", "--namespace=team"], "");
    every_verb(at, &case);
    let alike = at.run(&["get", "ip/a", "--context", "control"]).expect(3);
    alike.says(&["a"]);
}

fn every_verb(at: &ControlPlane, case: &Case) {
    let crd = format!("{}/tests/kinds/{}.yaml", env!("CARGO_MANIFEST_DIR"), case.kind.to_lowercase());
    at.kubectl(&["apply", "-f", &crd], "");
    at.kubectl(&["wait", "--for=condition=Established", "crd", &case.plural()], "");
    let context = if case.namespace.is_some() { "team" } else { "control" };
    let run = |args: &[&str]| at.run(&[args, &["--context", context]].concat());
    let (a, b) = (case.named("a"), case.named("b"));

    let created = run(&["create", &a, "--client-ca-secret", "default/none"]).expect(0);
    assert!(created.stdout.contains(&format!("{}.openchoreo.dev/a created", case.kind.to_lowercase())), "{created:?}");
    run(&["create", &a, "--client-ca-secret", "default/none"]).expect(2);
    let file = at.write(&format!("{}.json", case.word), &case.manifest("b", "b"));
    run(&["validate", &file]).expect(0);
    run(&["diff", "-f", &file]).expect(1);
    run(&["apply", "-f", &file]).expect(0);
    assert!(run(&["apply", "-f", &file]).expect(0).stdout.contains("b unchanged"));
    let wrong = at.write(&format!("{}-wrong.json", case.word), &case.manifest("b", "B"));
    let found = run(&["validate", &wrong, "-o", "json"]).expect(1);
    assert!(found.stdout.contains("spec.planeID"), "{found:?}");

    let mut watch = at.spawn(&["watch", &a, "-o", "json", "--context", context]);
    watch.event("synced", "", Duration::from_secs(15));
    case.connect(at, "a");
    watch.event("changed", "a", Duration::from_secs(15));
    run(&["wait", &a, "--for", "connected", "--timeout", "15s"]).expect(0);
    run(&["wait", &a, "--for", "disconnected", "--timeout", "1s"]).expect(124);

    let both = run(&["get", &a, &b, "-o", "json"]).expect(0).json();
    let kinds: Vec<_> = both["items"].as_array().unwrap().iter().map(|item| item["kind"].clone()).collect();
    assert_eq!(kinds, [Value::from(case.kind), Value::from(case.kind)]);
    let one = run(&["describe", &a, "-o", "json"]).expect(0).json();
    assert_eq!(one["planes"][0]["connection"]["state"], "Connected", "{one}");
    let diagnosis = run(&["doctor", &a, "-o", "json"]);
    let checks = diagnosis.json();
    let status = |id: &str| {
        let all = [&checks["checks"], &checks["planes"][0]["checks"]];
        let mut all = all.into_iter().filter_map(Value::as_array).flatten();
        all.find(|check| check["id"] == id).unwrap_or_else(|| panic!("{id} in {checks}"))["status"].clone()
    };
    assert!(diagnosis.stdout.contains(&format!("{} of openchoreo.dev", case.kind)), "{diagnosis:?}");
    assert_eq!([status("crd"), status("plane-exists"), status("client-ca-readable")], ["pass", "pass", "fail"]);

    at.run(&["get", "a", "--context", context]).expect(3);
    run(&["delete", &a, &b, "--yes"]).expect(0);
    run(&["get", &a]).expect(3);
}
