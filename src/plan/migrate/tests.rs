//! A migration over clusters in memory, from what is read to what is deleted.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::cluster::{Cluster, Fake, Target};
use crate::gateway::GatewayUrl;
use crate::migration::Record;
use crate::plan::Status;
use crate::plan::clusters::Clusters;
use crate::plan::fixtures::{
    BUILD, CONTROL, Reports, deployment, leaf, namespace, of_cert_manager, pair_secret, plane_object, root, secret,
};
use crate::plane::{DryRun, KINDS, Kind, PlaneKey, Release};

fn kind(word: &str) -> &'static Kind {
    Kind::of_word(word).unwrap()
}

fn key(word: &str, namespace: Option<&str>, name: &str) -> PlaneKey {
    PlaneKey { kind: kind(word), namespace: namespace.map(str::to_owned), name: name.into() }
}

/// A plane with a CA of this source.
fn plane(word: &str, namespace: Option<&str>, name: &str, ca: &Value) -> Value {
    let mut object = plane_object(name, name, "", Timestamp::now());
    object["kind"] = kind(word).kind.into();
    object["spec"]["clusterAgent"]["clientCA"] = ca.clone();
    if let Some(namespace) = namespace {
        object["metadata"]["namespace"] = namespace.into();
    }
    object
}

fn value() -> Value {
    json!({"value": "pem"})
}

fn reference(field: &str) -> Value {
    json!({field: {"namespace": "n", "name": "ca", "key": "ca.crt"}})
}

/// What the CRD of v1.0 leaves of a plane with a reference.
fn pruned(mut plane: Value) -> Value {
    plane["spec"]["clusterAgent"]["clientCA"] = json!({});
    let fields = json!({"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:secretRef": {}}}}});
    plane["metadata"]["managedFields"] =
        json!([{"manager": "argocd-controller", "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    plane
}

fn other(kind: &str, name: &str, fields: Value) -> Value {
    let version = if kind == "ClusterRole" { "rbac.authorization.k8s.io/v1" } else { "openchoreo.dev/v1alpha1" };
    let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}});
    if kind != "ClusterRole" {
        object["metadata"]["namespace"] = "team".into();
    }
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

fn controller(release: &str) -> Value {
    let labels = json!({"app.kubernetes.io/component": "controller-manager"});
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": CONTROL, "name": "manager", "labels": labels},
        "spec": {"containers": [{"name": "manager", "image": format!("controller:{release}")}]},
    })
}

/// A control plane of v0.17 that serves the kinds of these releases.
fn control(releases: &[Release]) -> Fake {
    let of = |plane: &str| json!({"spec": {"buildPlaneRef": {"kind": "ClusterBuildPlane", "name": plane}}});
    let rule = json!({"apiGroups": ["openchoreo.dev"], "resources": ["clusterbuildplanes"], "verbs": ["get"]});
    let mut images = plane("dp", Some("team"), "images", &value());
    images["spec"]["imagePullSecretRefs"] = json!(["registry"]);
    let fake = Fake::of([
        plane("cbp", None, "shared", &value()),
        plane("buildplane", Some("team"), "own", &reference("secretRef")),
        plane("cdp", None, "data", &reference("secretRef")),
        images,
        other("Workflow", "build", of("shared")),
        other("Project", "shop", of("shared")),
        other("ClusterRole", "builders", json!({"rules": [rule]})),
        controller("v0.17.0"),
    ]);
    let served: Vec<_> =
        KINDS.iter().filter(|kind| kind.family.releases.iter().any(|of| releases.contains(of))).collect();
    fake.serve(&served);
    fake
}

fn at<'l>(control: &'l Cluster, build: Option<&'l Cluster>) -> Look<'l> {
    Look {
        control,
        control_namespace: CONTROL,
        build: build.map(|build| (build, None)),
        gateway_url: None,
        limit: std::time::Duration::from_secs(1),
    }
}

async fn seen(fake: &Fake, build: Option<&Fake>) -> Seen {
    let (control, build) = (fake.cluster(), build.map(Fake::cluster));
    look(&at(&control, build.as_ref())).await.unwrap()
}

fn recorded(seen: &Seen, before: &Record) -> Record {
    let mut record = before.clone();
    record.update(&seen.objects, seen.is_pruned());
    record
}

/// The ids of what breaks, each with its plane.
fn reported(seen: &Seen, record: &Record, meant: &Meant) -> Vec<String> {
    let prepared = prepare(seen, record, None, meant).unwrap();
    let (control, build) = (Target::default(), Target::default());
    let commands = Commands { control: &control, build: Some(&build), folder: "out" };
    let title = |problem: Problem| match problem.plane {
        Some(plane) => format!("{} {plane}", problem.id),
        None => problem.id.to_owned(),
    };
    problems(seen, record, &prepared, meant, &commands).into_iter().map(title).collect()
}

fn works(seen: &Seen, record: &Record) -> Vec<String> {
    let prepared = prepare(seen, record, None, &Meant::default()).unwrap();
    let word = |change: &prepare::Change| {
        let work = format!("{:?}", change.work);
        format!("{} {}", change.new.with_word(), work.split('(').next().unwrap())
    };
    prepared.changes.iter().map(word).collect()
}

#[tokio::test]
async fn what_breaks_is_listed_worst_first_before_and_after_the_upgrade() {
    let fake = control(&[Release::V0]);
    let before = seen(&fake, None).await;
    assert!(!before.is_pruned() && !before.running.is_late());
    assert_eq!(before.running.keeps_old(), Some("a controller of v0.x is running and uses them"));
    let record = recorded(&before, &Record::default());
    let meant = Meant::default();
    let expected =
        ["secret-ref data", "workflow-plane-missing shared", "project-plane", "role", "pull-secrets team/images"];
    assert_eq!(reported(&before, &record, &meant), expected);
    let later = ["workflowplane/team/own Later", "cwp/shared Later", "cdp/data None", "dp/team/images None"];
    assert_eq!(works(&before, &record), later);

    // The CRDs of v1.0.
    let fake = control(&Release::ALL);
    fake.put(pruned(plane("cdp", None, "data", &value())));
    let default = json!({"spec": {"workflowPlaneRef": {"kind": "ClusterWorkflowPlane", "name": "default"}}});
    fake.put(other("Workflow", "build", default));
    let after = seen(&fake, None).await;
    let lost = recorded(&after, &Record::default());
    assert_eq!(reported(&after, &lost, &meant)[0], "reference-lost data");
    let kept = recorded(&after, &record);
    assert_eq!(reported(&after, &kept, &meant)[..2], ["secret-ref data", "workflow-plane-missing shared"]);
    let works = works(&after, &kept);
    assert_eq!(
        works,
        ["workflowplane/team/own Create", "cwp/shared Create", "cdp/data Restore", "dp/team/images None"]
    );
    // A second plane of the planeID runs what names none.
    let mut default = plane("cwp", None, "default", &value());
    default["spec"]["planeID"] = "shared".into();
    fake.put(default);
    assert!(!reported(&seen(&fake, None).await, &kept, &meant).iter().any(|id| id.starts_with("workflow")));
}

#[tokio::test]
async fn who_may_not_read_roles_is_reported_and_who_may_not_read_planes_is_refused() {
    let fake = control(&[Release::V0]);
    fake.forbid("GET /apis/rbac.authorization.k8s.io/v1/clusterroles");
    let found = seen(&fake, None).await;
    assert!(found.unread[0].starts_with("ClusterRoles were not searched for references"), "{:?}", found.unread);
    fake.forbid("GET /apis/openchoreo.dev/v1alpha1/dataplanes");
    let control = fake.cluster();
    assert!(look(&at(&control, None)).await.is_err());
    let build = Fake::of([deployment(BUILD, "agent", "id", "s")]);
    for (code, is_read) in [(403, true), (500, false)] {
        build.answer("GET /api/v1/namespaces/builders/secrets/s", code, json!({"kind": "Status", "code": code}));
        let (control, build) = (super::tests::control(&[Release::V0]).cluster(), build.cluster());
        assert_eq!(look(&at(&control, Some(&build))).await.is_ok(), is_read, "{code}");
    }
    let none = Fake::default();
    none.serve(&[]);
    let control = none.cluster();
    assert!(look(&at(&control, None)).await.is_err(), "a cluster without planes");
}

#[test]
fn names_mean_planes_of_both_releases() {
    let planes =
        [key("cbp", None, "a"), key("buildplane", Some("n"), "a"), key("cdp", None, "a"), key("dp", Some("n"), "a")];
    let means = |name: &str, namespace: Option<&str>| {
        let meant = Meant { names: vec![name.parse().unwrap()], namespace: namespace.map(str::to_owned) };
        planes.iter().map(|plane| meant.means(plane)).collect::<Vec<_>>()
    };
    assert_eq!(means("a", None), [true, true, false, false]);
    assert_eq!(means("cwp/a", None), [true, false, false, false]);
    assert_eq!(means("workflowplane/a", Some("m")), [false, false, false, false]);
    assert_eq!(means("dp/a", Some("n")), [false, false, false, true]);
    assert_eq!(means("planes/a", None), [true; 4]);
    assert!(planes.iter().all(|plane| Meant::default().means(plane)));
}

#[tokio::test]
async fn planes_are_created_and_restored_once() {
    let before = recorded(&seen(&control(&[Release::V0]), None).await, &Record::default());
    let fake = control(&Release::ALL);
    fake.put(pruned(plane("cdp", None, "data", &value())));
    let changes = |found: &Seen| prepare(found, &recorded(found, &before), None, &Meant::default()).unwrap().changes;
    let found = seen(&fake, None).await;
    let all = changes(&found);
    assert_eq!(pending(&all, false).len(), 2);
    assert_eq!(pending(&all, true)[2], "restore the CA of ClusterDataPlane data");
    let verbs: Vec<_> = rights(&all, true).into_iter().map(|(_, right)| right.verb).collect();
    assert_eq!(verbs, ["create", "create", "patch"]);
    for dry_run in [DryRun::Client, DryRun::Server] {
        write_planes(&fake.cluster(), &all, true, dry_run, &mut Reports::default()).await.unwrap();
    }
    assert!(fake.object("clusterworkflowplanes/shared").is_none());
    let mut reported = Reports::default();
    write_planes(&fake.cluster(), &all, true, DryRun::None, &mut reported).await.unwrap();
    assert!(reported.says("reference", "argocd-controller manages the plane"), "{:?}", reported.steps);
    let ca = |end: &str| fake.object(end).unwrap()["spec"]["clusterAgent"]["clientCA"].clone();
    assert_eq!(ca("clusterworkflowplanes/shared"), value());
    assert_eq!(ca("team/workflowplanes/own"), reference("secretKeyRef"));
    assert_eq!(ca("clusterdataplanes/data")["secretKeyRef"], reference("secretKeyRef")["secretKeyRef"]);
    // Another client was quicker.
    let mut reported = Reports::default();
    write_planes(&fake.cluster(), &all[..2], true, DryRun::None, &mut reported).await.unwrap();
    assert_eq!(reported.outcomes(), [("plane", Status::Found); 2]);
    assert_eq!(pending(&changes(&seen(&fake, None).await), true), [""; 0]);
}

#[tokio::test]
async fn an_agent_keeps_its_certificate_url_and_plane_id() {
    let now = Timestamp::now();
    let (ca, fake) = (root("ca", now), control(&[Release::V0]));
    let own = pair_secret("own", &leaf("shared", &ca, now), &ca.certificate);
    let chart = of_cert_manager(pair_secret("cluster-agent-tls", &leaf("own", &ca, now), &ca.certificate));
    let mut by_cert_manager = deployment("builds", "cluster-agent-workflowplane", "own", "cluster-agent-tls");
    by_cert_manager["spec"]["template"]["spec"]["containers"][0]["args"] =
        json!(["--plane-id=own", "--plane-type=buildplane", "--server-url=wss://g:8443/ws"]);
    let moved = |mut object: Value| {
        object["metadata"]["namespace"] = "builds".into();
        object
    };
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"namespace": "builds", "name": "agent"},
        "spec": {"secretName": "cluster-agent-tls", "issuerRef": {"name": "ca"}},
    });
    let issuer = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"namespace": "builds", "name": "ca"},
        "spec": {"ca": {"secretName": "own-agent-ca"}},
    });
    let build = Fake::of([
        deployment(BUILD, "cluster-agent-buildplane", "shared", "own"),
        own,
        by_cert_manager,
        moved(chart),
        certificate,
        issuer,
    ]);
    let found = seen(&fake, Some(&build)).await;
    let record = recorded(&found, &Record::default());
    let url = GatewayUrl::of_agent("wss://new:8443/ws").unwrap();
    let prepared = prepare(&found, &record, Some(&url), &Meant::default()).unwrap();
    let values: Vec<_> =
        prepared.swaps.iter().map(|swap| (swap.plane.to_string(), swap.values["clusterAgent"].clone())).collect();
    let expected = |name: &str, id: &str, tls: Value| {
        json!({
            "name": name, "planeType": "workflowplane", "planeID": id, "image": {"tag": ""}, "tls": tls,
            "serverUrl": "wss://new:8443/ws",
        })
    };
    let of_own = json!({"enabled": true, "clientSecretName": "own"});
    let of_ca = json!({"enabled": true, "generateCerts": false, "caSecretName": "own-agent-ca"});
    // The name of the chart's Deployment is taken in the other namespace, and there it is one of the old chart.
    assert_eq!(
        values,
        [
            ("shared".to_owned(), expected("cluster-agent-workflow-shared", "shared", of_own)),
            ("team/own".to_owned(), expected("cluster-agent-workflow-own", "own", of_ca)),
        ]
    );
    assert!(prepared.without_agent.is_empty() && prepared.swaps.iter().all(|swap| !swap.is_done));
    let absent = prepare(&seen(&fake, Some(&Fake::default())).await, &record, None, &Meant::default()).unwrap();
    assert_eq!(absent.without_agent.len(), 2);
    assert!(
        reported(&seen(&fake, Some(&Fake::default())).await, &record, &Meant::default())
            .ends_with(&["agent-unknown team/own".to_owned(), "agent-unknown shared".to_owned()])
    );
}

#[tokio::test]
async fn a_certificate_that_cert_manager_signed_by_itself_is_kept_and_reported() {
    let now = Timestamp::now();
    let ca = root("shared", now);
    let pair = crate::pki::PemPair { certificate: ca.certificate.clone(), key: ca.key.clone().into() };
    let held = of_cert_manager(pair_secret("cluster-agent-tls", &pair, &ca.certificate));
    let certificate = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"namespace": BUILD, "name": "agent"},
        "spec": {"secretName": "cluster-agent-tls", "issuerRef": {"name": "self"}},
    });
    let build =
        Fake::of([deployment(BUILD, "cluster-agent-buildplane", "shared", "cluster-agent-tls"), held, certificate]);
    let found = seen(&control(&[Release::V0]), Some(&build)).await;
    let record = recorded(&found, &Record::default());
    assert!(reported(&found, &record, &Meant::default()).contains(&"pinned-certificate shared".to_owned()));
    let prepared = prepare(&found, &record, None, &Meant::default()).unwrap();
    let agent = &prepared.swaps[0].values["clusterAgent"];
    assert_eq!(agent["name"], "cluster-agent-workflowplane");
    assert_eq!(
        agent["tls"],
        json!({"enabled": true, "clientSecretName": "cluster-agent-tls", "secretName": "cluster-agent-unused-tls"})
    );
}

#[tokio::test]
async fn an_upgrade_of_helm_that_was_interrupted_is_reported() {
    let mut release = secret(BUILD, "sh.helm.release.v1.release.v2", &[]);
    release["metadata"]["labels"] = json!({"owner": "helm", "name": "release", "status": "deployed"});
    let build = Fake::of([deployment(BUILD, "agent", "shared", "own"), release.clone()]);
    assert!(seen(&control(&[Release::V0]), Some(&build)).await.pending.is_empty());
    release["metadata"]["labels"]["status"] = "pending-upgrade".into();
    build.put(release);
    let found = seen(&control(&[Release::V0]), Some(&build)).await;
    let record = recorded(&found, &Record::default());
    assert!(reported(&found, &record, &Meant::default()).contains(&"helm-pending".to_owned()));
}

#[tokio::test]
async fn secrets_of_runs_that_v1_0_looks_for_elsewhere_are_reported() {
    let build = Fake::of([
        namespace("openchoreo-ci-team"),
        secret("openchoreo-ci-team", "git", &[]),
        secret("openchoreo-ci-team", "both", &[]),
        secret("workflows-team", "both", &[]),
        namespace("other"),
    ]);
    let found = seen(&control(&[Release::V0]), Some(&build)).await;
    let left = &found.secrets[0];
    assert_eq!((left.since.as_str(), left.names.as_slice()), ("workflows-team", &["git".to_owned()][..]));
    let record = recorded(&found, &Record::default());
    assert!(reported(&found, &record, &Meant::default()).contains(&"run-secrets".to_owned()));
    build.forbid("GET /api/v1/namespaces/openchoreo-ci-team/secrets");
    let found = seen(&control(&[Release::V0]), Some(&build)).await;
    assert!(found.unread[0].starts_with("Secrets of workflow runs were not looked for"), "{:?}", found.unread);
}

#[tokio::test]
async fn an_agent_of_the_new_chart_is_awaited() {
    let fake = Fake::of([plane("cwp", None, "shared", &value())]);
    let old = Fake::of([deployment(BUILD, "agent", "shared", "own")]);
    let before = seen(&control(&Release::ALL), Some(&old)).await;
    let prepared = prepare(&before, &recorded(&before, &Record::default()), None, &Meant::default()).unwrap();
    let swap = &prepared.swaps[0];
    let wait = async |build: &Fake, reported: &mut Reports| {
        let (control, build) = (fake.cluster(), build.cluster());
        let both = Clusters { control: &control, build: &build };
        connected(both, swap, true, Some(tokio::time::Instant::now()), reported).await
    };
    let error = wait(&old, &mut Reports::default()).await.unwrap_err().to_string();
    assert!(error.contains("has no agent of v1.0 yet"), "{error}");
    let mut new = deployment(BUILD, "agent", "shared", "own");
    new["spec"]["template"]["spec"]["containers"][0]["args"] =
        json!(["--plane-id=shared", "--plane-type=workflowplane"]);
    let mut reported = Reports::default();
    wait(&Fake::of([new.clone()]), &mut reported).await.unwrap();
    assert!(reported.says("wait", "is scaled to zero"));
    new["spec"]["replicas"] = 1.into();
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": BUILD, "name": "p", "labels": {"app": "cluster-agent"}}});
    pod["status"] = json!({"phase": "Running"});
    let build = Fake::of([new, pod, secret(BUILD, "own", &[])]);
    build.answer(&format!("GET /api/v1/namespaces/{BUILD}/pods/p/log"), 200, json!("connected to control plane"));
    let mut reported = Reports::default();
    wait(&build, &mut reported).await.unwrap();
    assert!(
        reported.says("wait", "logged that it is connected; the last heartbeat before was "),
        "{:?}",
        reported.steps
    );
}

#[tokio::test]
async fn old_planes_go_where_the_new_ones_are_used() {
    let mut old = plane("cbp", None, "shared", &value());
    old["metadata"]["finalizers"] = json!([kind("cbp").finalizer]);
    let mut held = plane("buildplane", Some("team"), "own", &value());
    held["metadata"]["finalizers"] = json!([kind("buildplane").finalizer, "example.com/kept"]);
    let mut elsewhere = plane("cwp", None, "moved", &value());
    elsewhere["spec"]["planeID"] = "other".into();
    let fake = Fake::of([
        old,
        held,
        plane("cbp", None, "moved", &value()),
        plane("cbp", None, "missing", &value()),
        elsewhere,
        plane("cwp", None, "shared", &value()),
        plane("workflowplane", Some("team"), "own", &value()),
        controller("v1.2.3"),
    ]);
    let found = seen(&fake, None).await;
    assert_eq!(found.running.keeps_old(), None);
    let kept = |insists: bool| {
        let old = old_planes(&found, &Meant::default(), |_| insists);
        old.into_iter().filter_map(|old| old.kept).collect::<Vec<_>>()
    };
    let reasons =
        ["ClusterWorkflowPlane missing does not exist", "ClusterWorkflowPlane moved has another planeID, other"];
    assert_eq!(kept(true), reasons);
    assert!(kept(false).contains(&"no agent is connected to ClusterWorkflowPlane shared yet".to_owned()));
    let old = old_planes(&found, &Meant::default(), |_| true);
    let mut reported = Reports::default();
    finish(&fake.cluster(), &old, DryRun::Client, &mut reported).await.unwrap();
    assert!(reported.says("delete", "ClusterBuildPlane shared deleted (dry run)"), "{:?}", reported.steps);
    assert!(fake.object("clusterbuildplanes/shared").is_some());
    let mut reported = Reports::default();
    finish(&fake.cluster(), &old, DryRun::None, &mut reported).await.unwrap();
    assert!(
        reported.says("finalizer", "openchoreo.dev/clusterbuildplane-cleanup removed from ClusterBuildPlane shared")
    );
    assert!(reported.says("delete", "another controller has to remove the finalizer example.com/kept"));
    assert!(reported.says("delete", "ClusterBuildPlane missing is kept: "));
    assert!(fake.object("clusterbuildplanes/shared").is_none() && fake.object("clusterbuildplanes/moved").is_some());
    // It went meanwhile.
    finish(&fake.cluster(), &old[..1], DryRun::None, &mut Reports::default()).await.unwrap();
}

#[tokio::test]
async fn what_is_left_over_has_commands() {
    let mut old = deployment(BUILD, "agent", "x", "s");
    old["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["--plane-id=x", "--plane-type=buildplane"]);
    let by_hand = |mut agent: Value| {
        agent["metadata"]["labels"].as_object_mut().unwrap().remove("app.kubernetes.io/instance");
        agent["metadata"]["name"] = "by-hand".into();
        agent
    };
    let fake = Fake::of([plane("cbp", None, "left", &value())]);
    let found = seen(&fake, Some(&Fake::of([old.clone(), by_hand(old)]))).await;
    let target = Target::default();
    let lines = leftovers(&found, &[], &target, Some(&target)).join("\n");
    for line in [
        "  kubectl delete crd buildplanes.openchoreo.dev",
        "  helm uninstall release --namespace builders",
        "  kubectl delete deployment by-hand --namespace builders",
    ] {
        assert!(lines.lines().any(|found| found == line), "no {line:?} in {lines}");
    }
    assert!(!lines.contains("clusterbuildplanes"), "one is left");
}
