//! `create`, `apply` and `diff`: who owns which field, and what stays.

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, SHARED};
use crate::planes::{by_secret, manifest, secret_ref};

stories!(
    Server:
        apply_takes_over_what_create_set,
        apply_takes_over_what_kubectl_set,
        a_field_of_somebody_else_is_a_conflict,
        a_take_over_leaves_finalizers_and_owners,
        one_bad_object_does_not_stop_the_others,
        never_two_sources,
        dry_runs_change_nothing,
        differences_are_reported,
        an_existing_plane_is_left_as_it_is,
        a_ca_of_other_plane_ids_is_reported;
);

fn apply_takes_over_what_create_set() {
    let at = &*SHARED;
    let (old, new) = (at.ca("create-old"), at.ca("create-new"));
    at.run(&["create", "created", "--client-ca-file", &old, "-l", "team=a", "--secret-store", "vault"]).expect(0);
    let twice = at.run(&["create", "created", "--client-ca-file", &old]).expect(2);
    assert!(twice.stderr.contains("exists already") && twice.stderr.contains("apply"), "{}", twice.stderr);

    let with = |ca: Value| manifest("created", json!({"planeID": "created", "clusterAgent": {"clientCA": ca}}));
    let client_ca = || at.object("created")["spec"]["clusterAgent"]["clientCA"].clone();
    let applied = at.run_with(&["apply", "-f", "-"], &with(json!({"value": at.read(&new)}))).expect(0);
    assert!(applied.stdout.ends_with("/created configured\n"), "{applied:?}");
    assert_eq!(client_ca(), json!({"value": at.read(&new)}));
    // What create set and the manifest leaves out goes, too.
    assert_eq!(at.object("created")["spec"].get("secretStoreRef"), None);
    assert_eq!(at.object("created")["metadata"].get("labels"), None);

    let secret = secret_ref("ca");
    at.run_with(&["apply", "-f", "-"], &with(secret.clone())).expect(0);
    assert_eq!(client_ca(), secret);
    let before = at.object("created")["metadata"]["resourceVersion"].clone();
    let again = at.run_with(&["apply", "-f", "-"], &with(secret)).expect(0);
    assert!(again.stdout.ends_with("/created unchanged\n"), "{again:?}");
    assert_eq!(at.object("created")["metadata"]["resourceVersion"], before);
    at.run_with(&["apply", "-f", "-"], &with(json!({"value": at.read(&old)}))).expect(0);
    assert_eq!(client_ca(), json!({"value": at.read(&old)}));
}

fn apply_takes_over_what_kubectl_set() {
    let at = &*SHARED;
    let spec = |ca: Value| manifest("by-kubectl", json!({"planeID": "x", "clusterAgent": {"clientCA": ca}}));
    at.kubectl(&["apply", "-f", "-"], &spec(secret_ref("ca")));
    let value = json!({"value": at.read(at.ca("by-kubectl"))});
    at.run_with(&["apply", "-f", "-"], &spec(value.clone())).expect(0);
    let plane = at.object("by-kubectl");
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
    assert_eq!(at.object("owned")["spec"]["planeID"], "theirs");
    at.run_with(&["diff", "-f", "-"], &spec("ours")).expect(2);
    at.run_with(&["apply", "-f", "-", "--force-conflicts"], &spec("ours")).expect(0);
    assert_eq!(at.object("owned")["spec"]["planeID"], "ours");
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
    let metadata = at.object("finalized")["metadata"].clone();
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
    assert!(applied.stderr.contains("resourceVersion differs from the object's"), "{applied:?}");
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
    let value = json!({"value": at.read(at.ca("two-sources"))});
    let refused = at.run_with(&["apply", "-f", "-", "--force-conflicts"], &spec(value)).expect(2);
    refused.says(&["both a value and a Secret", "argocd", "kubectl patch"]);
    assert_eq!(at.object("two-sources")["spec"]["clusterAgent"]["clientCA"].get("value"), None);
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

fn differences_are_reported() {
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
    let both = format!("{}\n---\n{}", spec("none"), spec("none").replace("diffed", "diffed-new"));
    let reported = at.run_with(&["diff", "-f", "-", "-o", "json", "--color", "always"], &both).expect(1).json();
    let [same, made] = reported["planes"].as_array().unwrap().as_slice() else { panic!("{reported}") };
    assert_eq!((&same["change"], &same["diff"]), (&json!("unchanged"), &json!(null)), "{reported}");
    assert_eq!((&made["name"], &made["change"]), (&json!("diffed-new"), &json!("created")), "{reported}");
    assert!(made["diff"].as_str().unwrap().starts_with("--- /dev/null\n+++ "), "{reported}");
}

fn an_existing_plane_is_left_as_it_is() {
    let at = &*SHARED;
    let create = |more: &[&str]| {
        let words = ["create", "existing", "--client-ca-secret", "default/none", "--if-not-exists"];
        at.run(&[&words[..], more].concat()).expect(0)
    };
    assert!(create(&["-l", "a=1"]).stdout.ends_with("/existing created\n"));
    let version = at.object("existing")["metadata"]["resourceVersion"].clone();
    let again = create(&["-l", "a=1"]);
    assert!(again.stdout.ends_with("/existing unchanged\n") && !again.stderr.contains("warning"), "{again:?}");
    let other = create(&["--plane-id", "other", "-l", "a=2", "-o", "json"]);
    assert_eq!(other.json()["spec"]["planeID"], "existing");
    other.says(&["/existing exists and differs: metadata.labels[a], spec.planeID; left as it is"]);
    let dry = create(&["--dry-run", "server"]);
    assert!(dry.stdout.ends_with("/existing unchanged (server dry run)\n"), "{dry:?}");
    assert_eq!(at.object("existing")["metadata"]["resourceVersion"], version);
}

fn a_ca_of_other_plane_ids_is_reported() {
    let at = ControlPlane::start();
    let file = at.ca("shared-ca");
    let create = |name: &str, more: &[&str]| {
        at.run(&[&["create", name, "--client-ca-file", &file][..], more].concat()).expect(0).stderr
    };
    assert!(!create("sharing-0", &[]).contains("ca-shared"));
    assert!(!create("sharing-same", &["--plane-id", "sharing-0"]).contains("ca-shared"));
    assert!(create("sharing-dry", &["--dry-run", "server"]).contains("as sharing-0, sharing-same, which"));
    for number in 1..8 {
        create(&format!("sharing-{number}"), &[]);
    }
    let reported = create("sharing-8", &[]);
    let sentence = "warning: sharing-8 trusts the same CA as sharing-0, sharing-1, sharing-2, sharing-3, sharing-4 and 4 more, which have other planeIDs";
    assert!(reported.contains(sentence) && reported.matches("ca-shared").count() == 1, "{reported}");
    let spec =
        manifest("sharing-9", json!({"planeID": "sharing-9", "clusterAgent": {"clientCA": {"value": at.read(&file)}}}));
    at.run_with(&["apply", "-f", "-"], &spec).expect(0).says(&[
        "sharing-9 trusts the same CA",
        "and 5 more",
        "[ca-shared]",
    ]);
    // What is as it was is not warned of again.
    assert!(!at.run_with(&["apply", "-f", "-"], &spec).expect(0).stderr.contains("ca-shared"));
}
