//! `validate` beside the API server.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::SOON;
use crate::control_plane::ControlPlane;
use crate::differential::{self, Subject};

stories!(
    Server:
        validate_judges_as_the_server_all_kinds_of_the_first_releases,
        validate_judges_as_the_server_all_kinds_of_later_releases,
        validate_judges_as_the_server_by_the_reference,
        validate_judges_as_the_server_by_a_stricter_crd,
        the_server_is_asked_and_its_causes_have_their_lines;
);

/// How many mutants of each kind in each release are judged where nothing else is said.
const MUTANTS_OF_A_KIND: u64 = 1000;
const REFERENCE: Subject = Subject { kind: "ClusterBuildPlane", release: "v0.17" };

/// How many mutants are judged by each CRD, and what they are made from. SEED and MUTANTS in the environment try others.
fn mutants(default: u64) -> (usize, u64) {
    let number = |name: &str, default| std::env::var(name).map_or(default, |text| text.parse::<u64>().unwrap());
    (number("MUTANTS", default) as usize, number("SEED", 20_261_122))
}

fn validate_judges_as_the_server_all_kinds_of_the_first_releases() {
    judge_all_kinds("v0.17");
}

fn validate_judges_as_the_server_all_kinds_of_later_releases() {
    judge_all_kinds("v1.2");
}

/// With CRDS in the environment the server has those in that folder, as `v1.2-dataplanes.yaml`.
fn judge_all_kinds(release: &str) {
    let at = ControlPlane::start();
    let subjects: Vec<_> = Subject::all().filter(|subject| subject.release == release).collect();
    for subject in &subjects {
        let plural = subject.plural();
        let crd = match std::env::var("CRDS") {
            Ok(folder) => fs::read_to_string(format!("{folder}/{release}-{plural}.yaml")).unwrap(),
            Err(_) => at.run(&["crd", &plural, "--release", release, "-q"]).expect(0).stdout,
        };
        at.kubectl(&["apply", "--server-side", "-f", "-"], &crd);
    }
    let deadline = Instant::now() + SOON;
    for subject in &subjects {
        while at.api().get(&subject.path()).is_none() {
            assert!(Instant::now() < deadline, "{subject:?} isn't served");
        }
        differential::compare(
            &at,
            *subject,
            &["--release", release],
            &differential::planes_of(*subject),
            mutants(MUTANTS_OF_A_KIND),
        );
    }
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
    let (count, seed) = mutants(3000);
    match std::env::var("CRD") {
        Ok(path) => {
            at.write("crd.yaml", &fs::read_to_string(path).unwrap());
            at.kubectl(&["replace", "-f", "crd.yaml"], "");
            std::thread::sleep(SOON / 3);
        }
        Err(_) => drop(at.write("crd.yaml", include_str!("../../src/plane/crd.yaml"))),
    }
    differential::compare(&at, REFERENCE, &["--crd", "crd.yaml"], &differential::planes(), (count, seed));
}

fn validate_judges_as_the_server_by_a_stricter_crd() {
    let at = ControlPlane::start();
    let (count, seed) = mutants(3000);
    at.write("strict.yaml", &differential::strict_crd());
    install(&at, "strict.yaml", "forbidden");
    differential::compare(&at, REFERENCE, &["--crd", "strict.yaml"], &differential::strict_planes(), (count, seed));
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
    let reported = |finding: &Value| {
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
    assert_eq!(findings.iter().map(reported).collect::<Vec<_>>(), expected, "{findings:#?}");
    // A plane of another kind is sent to its own namespace.
    let crd = at.run(&["crd", "dataplane", "-q"]).expect(0).stdout;
    at.kubectl(&["apply", "--server-side", "-f", "-"], &crd);
    at.kubectl(&["wait", "--for=condition=Established", "crd/dataplanes.openchoreo.dev"], "");
    at.kubectl(&["create", "namespace", "team"], "");
    let subject = Subject { kind: "DataPlane", release: "v1.2" };
    let mut data = differential::planes_of(subject).remove(1);
    data["metadata"]["namespace"] = "team".into();
    at.write("data.json", &data.to_string());
    at.run(&["validate", "--server", "data.json"]).expect(0);
    data["spec"]["gateway"]["ingress"]["external"]["http"]["port"] = json!(0);
    at.write("data.json", &data.to_string());
    let judged = at.run(&["validate", "--server", "-o", "json", "data.json"]).expect(1).json();
    assert_eq!(judged["findings"][0]["path"], "spec.gateway.ingress.external.http.port", "{judged}");
    // Nothing was stored, and one that exists already is judged all the same.
    assert_eq!(at.run(&["get", "--no-headers"]).expect(0).stdout, "");
    at.run(&["create", "good", "--client-ca-secret", "a/b"]).expect(0);
    at.write("good.yaml", &plane("good", "  planeID: good\n"));
    at.run(&["validate", "--server", "good.yaml"]).expect(0);
    let denied = at.run(&["validate", "--server", "--context", "guest", "good.yaml"]).expect(2);
    denied.says(&["not allowed", "hint:"]);
    at.run(&["validate", "--server", "--context", "nowhere", "good.yaml"]).expect(2);
}
