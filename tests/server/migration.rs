//! The way of clusters from OpenChoreo v0.17 to v1.2: the CRDs are upgraded, then gateway and controller, and the stages of
//! `migrate` are in between. Six planes with four agents, installed by the real helm, are to stay what they were.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control_plane::{Output, Running};
use super::estate::Estate;
use super::helm::cert_manager;
use super::hints::{paste, shell};

stories!(
    Go:
        an_upgrade_takes_away_references_and_the_agents_of_build_planes,
        planes_and_agents_are_migrated_and_every_stage_can_be_run_again,
        a_migration_waits_for_the_upgrade_and_goes_on,
        references_that_were_lost_come_back_out_of_another_record,
        what_a_migration_must_not_do_is_refused_before_anything_is_written,
        each_stage_reads_as_in_its_transcript;
);

/// How long something may take that takes several reports of the controller.
const SOON: Duration = Duration::from_secs(30);
/// For how long agents are counted: each tries ten times a second.
const A_WHILE: Duration = Duration::from_millis(1500);

const CONTROL: &str = "openchoreo-control-plane";
const GROUP: &str = "/apis/openchoreo.dev/v1alpha1";

// What is in the clusters.

/// An agent's release of a chart: its namespace, its Deployment, its plane type, and its planeID, by which its folder of
/// certificates is called, too.
const AGENTS: [[&str; 4]; 4] = [
    ["openchoreo-build-plane", "cluster-agent-buildplane", "buildplane", "shared"],
    // A second one in the cluster has a name of its own; it is installed as guides say.
    ["builds", "cluster-agent-own", "buildplane", "own"],
    ["openchoreo-data-plane", "cluster-agent-dataplane", "dataplane", "data"],
    ["openchoreo-observability-plane", "cluster-agent-observabilityplane", "observabilityplane", "obs"],
];

/// Where agents of workflow planes are that were build planes'.
const LATE: [[&str; 2]; 4] = [
    ["openchoreo-build-plane", "cluster-agent-workflowplane"],
    ["openchoreo-build-plane", "cluster-agent-workflow-shared"],
    ["builds", "cluster-agent-workflowplane"],
    ["builds", "cluster-agent-workflow-own"],
];

/// A plane: its kind in v0.17, its namespace, its name, which is its planeID, and where a Secret has its CA.
struct Plane {
    kind: &'static str,
    namespace: Option<&'static str>,
    name: &'static str,
    secret: Option<Reference>,
}

/// A Secret's namespace, if it is written, and name.
type Reference = (Option<&'static str>, &'static str);

const TEAM: Option<&str> = Some("team");

/// Two of each family. Those of the same planeID have one agent, which one of them authorizes by an inline CA.
const PLANES: [Plane; 6] = [
    Plane { kind: "ClusterBuildPlane", namespace: None, name: "shared", secret: None },
    Plane { kind: "BuildPlane", namespace: TEAM, name: "own", secret: Some((None, "own-ca")) },
    Plane { kind: "ClusterDataPlane", namespace: None, name: "data", secret: Some((TEAM, "data-ca")) },
    Plane { kind: "DataPlane", namespace: TEAM, name: "data", secret: None },
    Plane { kind: "ClusterObservabilityPlane", namespace: None, name: "obs", secret: None },
    Plane { kind: "ObservabilityPlane", namespace: TEAM, name: "obs", secret: Some((TEAM, "obs-ca")) },
];

/// Where the control plane's API has an object.
fn path(kind: &str, namespace: Option<&str>, name: &str) -> String {
    let namespace = namespace.map(|namespace| format!("namespaces/{namespace}/")).unwrap_or_default();
    format!("{GROUP}/{namespace}{}s/{name}", kind.to_lowercase())
}

impl Plane {
    fn path(&self) -> String {
        path(self.kind, self.namespace, self.name)
    }

    /// Where it is in v1.2.
    fn late_path(&self) -> String {
        path(&self.kind.replace("Build", "Workflow"), self.namespace, self.name)
    }

    /// Its object in v0.17.
    fn object(&self, at: &Estate) -> Value {
        let client_ca = match self.secret {
            None => json!({"value": at.control.read(format!("{}/ca.crt", self.name))}),
            Some((None, name)) => json!({"secretRef": {"name": name, "key": "ca.crt"}}),
            Some((Some(namespace), name)) => {
                json!({"secretRef": {"name": name, "namespace": namespace, "key": "ca.crt"}})
            }
        };
        let mut spec = json!({"clusterAgent": {"clientCA": client_ca}});
        match self.kind.trim_start_matches("Cluster") {
            "ObservabilityPlane" => spec["observerURL"] = "https://observer.example.com".into(),
            "DataPlane" => spec["imagePullSecretRefs"] = json!(["registry"]),
            _ => spec["observabilityPlaneRef"] = json!({"kind": "ClusterObservabilityPlane", "name": "obs"}),
        }
        let mut metadata = json!({
            "name": self.name, "labels": {"example.com/team": "builds"},
            "annotations": {"openchoreo.dev/display-name": format!("{} of old", self.kind)},
        });
        match self.namespace {
            // Without a planeID it is the name.
            Some(namespace) => metadata["namespace"] = namespace.into(),
            None => spec["planeID"] = self.name.into(),
        }
        json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": self.kind, "metadata": metadata, "spec": spec})
    }
}

/// The CRD of another kind than planes, as far as it refers to them.
fn crd(kind: &str, fields: &Value) -> String {
    let (singular, plural) = (kind.to_lowercase(), format!("{}s", kind.to_lowercase()));
    let spec = json!({"type": "object", "properties": fields});
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}});
    let version = json!({"name": "v1alpha1", "served": true, "storage": true, "schema": schema});
    let names = json!({"kind": kind, "plural": plural, "singular": singular});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.openchoreo.dev")},
        "spec": {"group": "openchoreo.dev", "scope": "Namespaced", "names": names, "versions": [version]},
    })
    .to_string()
}

/// The schema of a reference to planes of these kinds.
fn reference(kinds: &[&str]) -> Value {
    let properties = json!({"kind": {"type": "string", "enum": kinds}, "name": {"type": "string"}});
    json!({"type": "object", "required": ["kind", "name"], "properties": properties})
}

/// Applies CRDs as the upgrade guides say.
fn apply_crds(at: &Estate, release: &str, kinds: &[&str], others: &[String]) {
    let of_planes = kinds.iter().map(|kind| at.control.run(&["crd", kind, "--release", release]).expect(0).stdout);
    let all: Vec<_> = of_planes.chain(others.iter().cloned()).collect();
    at.control.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &all.join("\n---\n"));
    at.control.kubectl(&["wait", "--for=condition=Established", "crd", "--all"], "");
}

/// An object that shows the running release, as its chart makes it.
fn write_in_control(at: &Estate, plural: &str, mut object: Value) {
    object["apiVersion"] = "v1".into();
    object["metadata"]["namespace"] = CONTROL.into();
    let path = format!("/api/v1/namespaces/{CONTROL}/{plural}/{}", object["metadata"]["name"].as_str().unwrap());
    at.control.api().delete(&path);
    at.control.api().write(&path, &object);
}

fn show_controller(at: &Estate, release: &str) {
    let labels = json!({"app.kubernetes.io/component": "controller-manager", "app.kubernetes.io/version": release});
    let container = json!({"name": "manager", "image": format!("example.com/controller:{release}")});
    let metadata = json!({"name": "controller-manager-0", "labels": labels});
    write_in_control(at, "pods", json!({"kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}));
}

fn show_gateway(at: &Estate, release: &str) {
    let labels = json!({"app": "gateway", "app.kubernetes.io/version": release});
    let container = json!({"name": "cluster-gateway", "image": format!("example.com/gateway:{release}")});
    let metadata = json!({"name": "gateway-0", "labels": labels});
    write_in_control(at, "pods", json!({"kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}));
    let spec = json!({"selector": {"app": "gateway"}, "ports": [{"name": "websocket", "port": at.port}]});
    let metadata = json!({"name": "cluster-gateway", "labels": labels});
    write_in_control(at, "services", json!({"kind": "Service", "metadata": metadata, "spec": spec}));
}

/// Installs an agent: with a certificate of its own, or with the chart's self-signed one, which its plane trusts then.
fn install(at: &Estate, [namespace, deployment, plane_type, plane_id]: [&str; 4]) {
    let release = format!("openchoreo-{}-plane", plane_type.trim_end_matches("plane"));
    let build = format!("--namespace {namespace} --kubeconfig {}", at.build.kubeconfig().display());
    let url = format!("wss://localhost:{}/ws", at.port);
    let is_pinned = namespace != release;
    let more = if is_pinned {
        format!("name={deployment}")
    } else {
        at.control.run(&["certs", "ca", "--out-dir", plane_id]).expect(0);
        at.control.run(&["certs", "client", "--plane-id", plane_id, "--ca-dir", plane_id]).expect(0);
        let secret = at.control.run(&["certs", "secret", plane_id, "-n", namespace, "--name", "agent-tls"]).expect(0);
        at.build.kubectl(&["apply", "-f", "-"], &secret.stdout);
        "tls.clientSecretName=agent-tls".to_owned()
    };
    let values = format!("clusterAgent.planeID={plane_id},clusterAgent.serverUrl={url},clusterAgent.{more}");
    let chart = format!("oci://ghcr.io/openchoreo/helm-charts/{release}");
    paste(at, &format!("helm install {release} {chart} {build} --set {values}")).expect(0);
    if is_pinned {
        at.build.kubectl(&["wait", "--for=create", "secret/cluster-agent-tls", "-n", namespace], "");
        let certificate = "kubectl get secret cluster-agent-tls -o 'jsonpath={.data.tls\\.crt}'";
        paste(at, &format!("mkdir {plane_id} && {certificate} {build} | base64 -d > {plane_id}/ca.crt")).expect(0);
    }
}

/// A control plane of v0.17 with all planes and what refers to them, and their agents, all of which are connected.
fn v0_17() -> Estate {
    let places: Vec<_> =
        AGENTS.iter().map(|agent| (agent[0], agent[1])).chain(LATE.map(|late| (late[0], late[1]))).collect();
    let mut at = Estate::for_agents(&places);
    at.control.kubectl(&["create", "namespace", "team"], "");
    at.control_namespace();
    let referred = reference(&["BuildPlane", "ClusterBuildPlane"]);
    let workflow = crd("Workflow", &json!({"x": {"type": "string"}, "buildPlaneRef": referred}));
    let project = crd("Project", &json!({"buildPlaneRef": referred}));
    apply_crds(&at, "v0.17", &["cbp", "buildplane", "cdp", "dp", "cop", "observabilityplane"], &[workflow, project]);
    show_controller(&at, "v0.17.0");
    show_gateway(&at, "v0.17.0");
    at.order("finalizers on");
    cert_manager(&at);
    for agent in AGENTS {
        install(&at, agent);
    }
    for plane in &PLANES {
        if let Some((namespace, secret)) = plane.secret {
            let file = format!("--from-file=ca.crt={}/ca.crt", plane.name);
            let namespace = namespace.or(plane.namespace).unwrap();
            at.control.kubectl(&["create", "secret", "generic", secret, &file, "-n", namespace], "");
        }
        at.control.api().write(&plane.path(), &plane.object(&at));
    }
    let of = |kind: &str, name: &str| json!({"kind": kind, "name": name});
    for (kind, name, spec) in [
        ("Workflow", "unnamed", json!({"x": "1"})),
        ("Workflow", "shared", json!({"x": "2", "buildPlaneRef": of("ClusterBuildPlane", "shared")})),
        ("Workflow", "own", json!({"x": "3", "buildPlaneRef": of("BuildPlane", "own")})),
        ("Project", "shop", json!({"buildPlaneRef": of("BuildPlane", "own")})),
    ] {
        let metadata = json!({"name": name, "namespace": "team"});
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec});
        at.control.api().write(&path(kind, TEAM, name), &object);
    }
    let role = ["create", "clusterrole", "builders", "--verb=get,list", "--resource=clusterbuildplanes.openchoreo.dev"];
    at.control.kubectl(&role, "");
    for plane in &PLANES {
        until_connected(&at, &plane.path());
    }
    at.settle();
    at
}

/// Applies the CRDs of v1.2. Helm removes none, so those of build planes stay.
fn upgrade_crds(at: &Estate) {
    let mut referred = reference(&["WorkflowPlane", "ClusterWorkflowPlane"]);
    referred["default"] = json!({"kind": "ClusterWorkflowPlane", "name": "default"});
    referred["x-kubernetes-validations"] = json!([{"rule": "self == oldSelf", "message": "the plane is immutable"}]);
    let workflow = crd("Workflow", &json!({"x": {"type": "string"}, "workflowPlaneRef": referred}));
    apply_crds(at, "v1.2", &["cwp", "workflowplane", "cdp", "dp", "cop", "observabilityplane"], &[workflow]);
    // The API server goes on with the schemas of before for a moment.
    let deadline = Instant::now() + SOON;
    while !client_ca(at, &PLANES[2]).as_object().unwrap().is_empty()
        || workflow_of(at, "own")["buildPlaneRef"] != json!(null)
    {
        assert!(Instant::now() < deadline, "the CRDs are not in force");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Replaces the gateway and the controller.
fn upgrade_gateway(at: &Estate) {
    at.order("era v1");
    show_controller(at, "v1.2.3");
    show_gateway(at, "v1.2.3");
}

// What became of it.

fn get(at: &Estate, path: &str) -> Value {
    at.control.api().get(path).unwrap_or_default()
}

fn client_ca(at: &Estate, plane: &Plane) -> Value {
    get(at, &plane.path())["spec"]["clusterAgent"]["clientCA"].clone()
}

fn workflow_of(at: &Estate, name: &str) -> Value {
    get(at, &path("Workflow", TEAM, name))["spec"].clone()
}

/// Waits until the controller reports agents of the plane at this path.
#[track_caller]
fn until_connected(at: &Estate, path: &str) {
    let deadline = Instant::now() + SOON;
    while get(at, path)["status"]["agentConnection"]["connected"] != true {
        assert!(Instant::now() < deadline, "{path}: {:#}", get(at, path));
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The planeIDs of agents that are refused, and why.
fn refused(at: &mut Estate) -> BTreeSet<(String, String)> {
    // What is under way began before.
    std::thread::sleep(Duration::from_millis(500));
    at.reset();
    std::thread::sleep(A_WHILE);
    let (authorized, _, reported) = at.count();
    assert!(authorized > 0, "nobody is connected: {reported:#}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    reported.as_array().unwrap().iter().map(|one| (text(&one["planeID"]), text(&one["text"]))).collect()
}

/// What `migrate` is for, as the API server and the gateway do it.
fn an_upgrade_takes_away_references_and_the_agents_of_build_planes() {
    let mut at = v0_17();
    upgrade_crds(&at);
    for plane in &PLANES {
        let field = match (plane.secret, plane.kind) {
            (None, _) => vec!["value"],
            (_, "BuildPlane") => vec!["secretRef"],
            // It is lost, with what data planes had of Secrets for images.
            _ => vec![],
        };
        let left: Vec<_> = client_ca(&at, plane).as_object().unwrap().keys().cloned().collect();
        assert_eq!(left, field, "{}", plane.kind);
        assert_eq!(get(&at, &plane.path())["spec"]["imagePullSecretRefs"], json!(null));
    }
    for name in ["unnamed", "shared", "own"] {
        assert_eq!(workflow_of(&at, name)["workflowPlaneRef"]["name"], "default", "{name}");
    }
    let other = json!({"spec": {"workflowPlaneRef": {"kind": "ClusterWorkflowPlane", "name": "shared"}}});
    let workflow = path("Workflow", TEAM, "shared");
    let (code, answer) = at.control.api().send("PATCH", &workflow, "application/merge-patch+json", &other);
    assert!(code == 422 && answer.to_string().contains("the plane is immutable"), "{answer}");

    // Only another plane of the planeID keeps the agent authorized.
    at.settle();
    at.control.api().delete(&PLANES[3].path());
    let lost = ("data".to_owned(), "no dataplane CRs found with planeID 'data'".to_owned());
    assert_eq!(refused(&mut at), BTreeSet::from([lost.clone()]));
    // A gateway of v0.17 does not read the field of v1.x.
    let reference = json!({"secretKeyRef": {"name": "data-ca", "namespace": "team", "key": "ca.crt"}});
    at.control.api().merge(&PLANES[2].path(), &json!({"spec": {"clusterAgent": {"clientCA": reference}}}));
    assert_eq!(refused(&mut at), BTreeSet::from([lost]));
    upgrade_gateway(&at);
    let why = "invalid planeType: must be 'dataplane', 'workflowplane', or 'observabilityplane'";
    assert_eq!(refused(&mut at), ["own", "shared"].map(|id| (id.to_owned(), why.to_owned())).into());
    // The new controller goes on with planes of kinds that it knows, and nobody holds the others.
    at.control.api().delete(&PLANES[0].path());
    until_connected(&at, &PLANES[2].path());
    let left = get(&at, &PLANES[0].path())["metadata"].clone();
    assert!(left["deletionTimestamp"].is_string(), "{left}");
    assert_eq!(left["finalizers"], json!(["openchoreo.dev/clusterbuildplane-cleanup"]));
}

// Migrations.

/// What follows of a command line that migrates all planes and finds all agents, but for the plane's cluster.
pub fn words(at: &Estate, more: &str) -> String {
    format!("--gateway-url wss://localhost:{}/ws --yes --timeout 60s -o json {more}", at.port)
}

fn line(at: &Estate, more: &str) -> String {
    let build = at.build.kubeconfig();
    format!("choreoctl migrate --out-dir out --plane-kubeconfig {} {}", build.display(), words(at, more))
}

fn migrate(at: &Estate, more: &str) -> Output {
    paste(at, &line(at, more))
}

fn lines(reported: &Output) -> impl Iterator<Item = Value> {
    reported.stdout.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// What breaks: ids, and what fixes it.
fn problems(reported: &Output) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let breaks = lines(reported).filter(|line| line["step"] == "breaks");
    breaks.map(|line| (text(&line["id"]), text(&line["fix"]))).collect()
}

/// The command of a fix, without when it is to be run.
fn command(fix: &str) -> &str {
    fix.rsplit(": ").next().unwrap()
}

fn ids(reported: &Output) -> BTreeSet<String> {
    problems(reported).into_iter().map(|(id, _)| id).collect()
}

/// The files of the record, and all that `migrate` may write in both clusters, without what others write all the time.
fn all(at: &Estate) -> Value {
    let entries = std::fs::read_dir(at.control.path().join("out")).into_iter().flatten();
    let files: serde_json::Map<String, Value> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap().into()))
        .collect();
    let kinds = PLANES.iter().flat_map(|plane| [plane.kind.to_owned(), plane.kind.replace("Build", "Workflow")]);
    let kinds: BTreeSet<_> = kinds.chain(["Workflow", "Project"].map(str::to_owned)).collect();
    let control = kinds.iter().map(|kind| get(at, &format!("{GROUP}/{}s", kind.to_lowercase())));
    let build =
        ["/apis/apps/v1/deployments", "/api/v1/secrets", "/api/v1/configmaps", "/apis/cert-manager.io/v1/issuers"];
    let build = build.map(|path| at.build.api().get(path).unwrap());
    let items = control.chain(build).flat_map(|list| list["items"].as_array().cloned().unwrap_or_default());
    let without_status = |mut object: Value| {
        object.as_object_mut().unwrap().remove("status");
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.remove("resourceVersion");
        if let Some(writers) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            writers.retain(|writer| writer["subresource"] != "status");
        }
        object
    };
    json!({"files": files, "objects": items.map(without_status).collect::<Vec<_>>()})
}

/// Migrates, and once more, which changes nothing.
fn twice(at: &Estate, more: &str) -> Output {
    let first = migrate(at, more);
    let before = all(at);
    let second = migrate(at, more);
    let both = format!("{more}: {}\nand then: {}", steps(&first), steps(&second));
    is_unchanged(at, &before, &both);
    // How a certificate is replaced depends on the agent.
    let is_same =
        if more.contains("install") { ids(&first) == ids(&second) } else { problems(&first) == problems(&second) };
    assert!(is_same && first.code == second.code, "{both}");
    assert!(lines(&second).all(|line| line["status"] != "done"), "{both}");
    second
}

/// Where two values differ; in texts, by which line.
fn first_difference(one: &Value, other: &Value, place: String) -> Option<String> {
    match (one, other) {
        (Value::Object(fields), Value::Object(others)) if fields.keys().eq(others.keys()) => {
            fields.iter().find_map(|(name, value)| first_difference(value, &others[name], format!("{place}.{name}")))
        }
        (Value::Array(items), Value::Array(others)) if items.len() == others.len() => {
            let mut pairs = items.iter().zip(others).enumerate();
            pairs.find_map(|(number, (one, other))| first_difference(one, other, format!("{place}[{number}]")))
        }
        (Value::String(one), Value::String(other)) => {
            let pair = one.lines().zip(other.lines()).find(|(one, other)| one != other);
            (one != other).then(|| format!("{place}: {:?}", pair.unwrap_or(("one is longer", ""))))
        }
        _ => (one != other).then(|| format!("{place}: {one} and {other}")),
    }
}

/// The steps without their times, for a person.
fn steps(reported: &Output) -> String {
    let words = |line: Value| {
        ["step", "status", "id", "message", "fix"].map(|field| line[field].as_str().unwrap_or_default().to_owned())
    };
    let lines: Vec<_> = lines(reported).map(|line| words(line).join("  ")).collect();
    format!("exit code {}\n{}\n{}", reported.code, lines.join("\n"), reported.stderr)
}

/// Fails where anything is not as it was.
#[track_caller]
fn is_unchanged(at: &Estate, before: &Value, after: &str) {
    assert_eq!(first_difference(before, &all(at), String::new()), None, "after {after}");
}

/// Fails unless the exit code is the one that is expected.
#[track_caller]
fn ends(reported: Output, code: i32) -> Output {
    assert_eq!(reported.code, code, "{}", steps(&reported));
    reported
}

/// Goes all the way by a function that migrates with more words; the agents are replaced by those of `installs`.
fn upgrade(at: &mut Estate, installs: &[&str], migrate: fn(&Estate, &str) -> Output) {
    let before: Vec<_> = PLANES.iter().map(|plane| get(at, &plane.path())).collect();
    at.reset();
    let reported = ends(migrate(at, ""), 1);
    for id in ["secret-ref", "pinned-certificate", "workflow-plane-missing", "project-plane", "role", "pull-secrets"] {
        assert!(ids(&reported).contains(id), "{id}: {}", steps(&reported));
    }
    let record = at.control.read("out/before.yaml");
    assert!(record.contains("secretRef") && record.contains("buildPlaneRef"), "{record}");
    let mode = std::fs::metadata(at.control.path().join("out/before.yaml")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o600);

    upgrade_crds(at);
    ends(migrate(at, ""), 1);
    let pruned =
        |record: &str| ["secretRef", "buildPlaneRef", "imagePullSecretRefs"].map(|field| record.matches(field).count());
    assert_eq!(pruned(&at.control.read("out/before.yaml")), pruned(&record), "what is pruned stays in the record");
    for plane in &PLANES {
        assert!(!get(at, &plane.late_path()).is_null(), "{} is created beforehand", plane.late_path());
    }
    at.nobody_was_refused();

    let started = Instant::now();
    upgrade_gateway(at);
    at.reset();
    for install in installs {
        ends(migrate(at, &format!("--until switch --install {install}")), 1);
    }
    for plane in &PLANES {
        until_connected(at, &plane.late_path());
    }
    let (_, _, refused) = at.count();
    println!("{:.1} s from the gateway to the last agent", started.elapsed().as_secs_f32());
    let is_known = |one: &Value| one["text"].as_str().unwrap().starts_with("invalid planeType");
    assert!(refused.as_array().unwrap().iter().all(is_known), "{refused:#}");
    at.settle();

    // What is left to a person.
    let reported = ends(super::migration::migrate(at, "--until switch"), 1);
    let fix = |id: &str| {
        let fixes = problems(&reported).into_iter().filter(|(of, _)| of == id);
        for fix in fixes.map(|(_, fix)| fix).collect::<BTreeSet<_>>() {
            paste(at, command(&fix)).expect(0);
        }
    };
    fix("workflow-plane-missing");
    fix("role");
    at.control.api().merge(&path("Project", TEAM, "shop"), &json!({"spec": {"buildPlaneRef": null}}));
    let reported = ends(migrate(at, ""), 1);
    assert_eq!(ids(&reported), ["pinned-certificate".to_owned()].into(), "{}", steps(&reported));
    at.nobody_was_refused();

    for (plane, before) in PLANES.iter().zip(before) {
        let after = get(at, &plane.late_path());
        let mut spec = before["spec"].clone();
        spec.as_object_mut().unwrap().remove("imagePullSecretRefs");
        let client_ca = spec["clusterAgent"]["clientCA"].as_object_mut().unwrap();
        if let Some(reference) = client_ca.remove("secretRef") {
            client_ca.insert("secretKeyRef".into(), reference);
        }
        assert_eq!(first_difference(&spec, &after["spec"], String::new()), None, "{}", plane.late_path());
        for field in ["labels", "annotations"] {
            assert_eq!(after["metadata"][field], before["metadata"][field], "{}", plane.late_path());
        }
        if plane.path() == plane.late_path() {
            assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        } else {
            assert_eq!(get(at, &plane.path()), Value::Null, "the old plane is deleted");
        }
        until_connected(at, &plane.late_path());
    }
    let role = at.control.kubectl(&["get", "clusterrole", "builders", "-o", "yaml"], "").stdout;
    assert!(role.contains("clusterworkflowplanes"), "{role}");
    assert_eq!(workflow_of(at, "shared")["x"], "2");
}

fn planes_and_agents_are_migrated_and_every_stage_can_be_run_again() {
    let mut at = v0_17();
    upgrade(&mut at, &[""], twice);
    for (name, kind) in [("shared", "ClusterWorkflowPlane"), ("own", "WorkflowPlane")] {
        assert_eq!(workflow_of(&at, name)["workflowPlaneRef"], json!({"kind": kind, "name": name}));
    }
    let (_, fix) = problems(&migrate(&at, "")).remove(0);
    paste(&at, command(&fix)).expect(0);
    ends(migrate(&at, ""), 0);
    at.nobody_was_refused();
}

/// Here the agents are replaced one by one, and as all Workflows run on one plane, it gets the name of the default, too.
pub fn is_migrated_with(migrate: fn(&Estate, &str) -> Output) {
    let mut at = v0_17();
    at.control.api().delete(&path("Workflow", TEAM, "own"));
    let installs = ["--plane-namespace openchoreo-build-plane", "--plane-namespace builds"];
    upgrade(&mut at, &installs, migrate);
    let default = path("ClusterWorkflowPlane", None, "default");
    assert_eq!(get(&at, &default)["spec"], get(&at, &PLANES[0].late_path())["spec"]);
    until_connected(&at, &default);
    assert_eq!(workflow_of(&at, "shared")["workflowPlaneRef"]["name"], "default");
}

/// One command before the upgrade is enough, once what it reported certificates was followed.
fn a_migration_waits_for_the_upgrade_and_goes_on() {
    let mut at = v0_17();
    let pinned = |reported: &Output| problems(reported).into_iter().find(|(id, _)| id == "pinned-certificate");
    let (_, fix) = pinned(&migrate(&at, "--until prepare")).unwrap();
    paste(&at, command(&fix)).expect(0);
    assert_eq!(pinned(&migrate(&at, "--until prepare")), None);
    at.nobody_was_refused();
    let mut run = Running::start(shell(&at, &format!("exec {}", line(&at, "--wait --install"))));
    run.until("record", SOON, |line| line.contains("before.yaml"));
    std::thread::sleep(A_WHILE);
    upgrade_crds(&at);
    upgrade_gateway(&at);
    let started = Instant::now();
    assert!(!run.comes_to(2 * SOON, |_| false));
    assert_eq!(run.wait(), 1, "Workflows, the Project and the role are left: {:#?}", run.seen);
    println!("{:.1} s from the gateway to the end", started.elapsed().as_secs_f32());
    for plane in &PLANES {
        until_connected(&at, &plane.late_path());
        if plane.path() != plane.late_path() {
            assert_eq!(get(&at, &plane.path()), Value::Null);
        }
    }
}

fn references_that_were_lost_come_back_out_of_another_record() {
    let at = v0_17();
    let kinds = "dataplanes,clusterdataplanes,observabilityplanes,clusterobservabilityplanes";
    let dump = at.control.kubectl(&["get", kinds, "-A", "-o", "yaml"], "").stdout;
    at.control.write("planes-of-before.yaml", &dump);
    let lost = |reported: &Output| problems(reported).iter().filter(|(id, _)| id == "reference-lost").count();
    upgrade_crds(&at);
    let reported = ends(migrate(&at, ""), 1);
    assert_eq!(lost(&reported), 2, "{}", steps(&reported));
    assert_eq!(problems(&reported)[0].0, "reference-lost", "the worst comes first");
    upgrade_gateway(&at);
    let reported = ends(migrate(&at, "--until switch"), 1);
    assert_eq!(lost(&reported), 2, "{}", steps(&reported));
    let references = [2, 5].map(|number| &PLANES[number]);
    assert_eq!(references.map(|plane| client_ca(&at, plane)), [json!({}), json!({})]);
    let reported = ends(migrate(&at, "--until switch --record planes-of-before.yaml"), 1);
    assert_eq!(lost(&reported), 0, "{}", steps(&reported));
    let secret = |name: &str| json!({"secretKeyRef": {"name": name, "namespace": "team", "key": "ca.crt"}});
    assert_eq!(references.map(|plane| client_ca(&at, plane)), ["data-ca", "obs-ca"].map(secret));
    until_connected(&at, &references[1].path());
    // From then on the folder has it, too.
    assert_eq!(lost(&ends(migrate(&at, "--until switch"), 1)), 0);
}

fn what_a_migration_must_not_do_is_refused_before_anything_is_written() {
    let at = v0_17();
    let run = |words: &[&str]| at.control.run(&[&["migrate"], words].concat());
    run(&[]).expect(2).says(&["--out-dir"]);
    run(&["cbp/none", "--out-dir", "none"]).expect(3).says(&["none"]);
    assert!(!at.control.path().join("none").exists());
    let guest = run(&["--out-dir", "guest", "--context", "guest"]).expect(2);
    guest.says(&["list", "clusterbuildplanes"]);
    assert!(!at.control.path().join("guest").exists());

    // A record belongs to one control plane.
    ends(migrate(&at, ""), 1);
    let before = all(&at);
    at.build.plane("elsewhere");
    let out = at.control.path().join("out").display().to_string();
    at.build.run(&["migrate", "--out-dir", &out]).expect(2).says(&["another control plane"]);
    at.build.run(&["delete", "elsewhere", "--yes"]).expect(0);
    is_unchanged(&at, &before, "another control plane");

    // Who may only read is reported what is missing.
    upgrade_crds(&at);
    let groups = ["openchoreo.dev", "rbac.authorization.k8s.io"];
    let rule = json!({"apiGroups": groups, "resources": ["*"], "verbs": ["get", "list"]});
    let mut role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": [rule]});
    role["metadata"] = json!({"name": "readers"});
    at.control.api().write("/apis/rbac.authorization.k8s.io/v1/clusterroles/readers", &role);
    at.control.kubectl(&["create", "clusterrolebinding", "readers", "--clusterrole=readers", "--user=guest"], "");
    let guest = run(&["--out-dir", "guest", "--context", "guest", "--yes"]).expect(2);
    guest.says(&["create", "clusterworkflowplanes"]);

    // Nothing is created without a yes; the files are no more than notes.
    let before = all(&at)["objects"].take();
    run(&["--out-dir", "out"]).expect(2).says(&["--yes"]);
    assert_eq!(first_difference(&before, &all(&at)["objects"], String::new()), None);
    let before = all(&at);
    for dry_run in ["client", "server"] {
        migrate(&at, &format!("--dry-run {dry_run}"));
        is_unchanged(&at, &before, dry_run);
    }

    // A chart that is not there leaves the agents as they are.
    upgrade_gateway(&at);
    ends(migrate(&at, "--until switch"), 1);
    let before = all(&at);
    for dry_run in ["client", "server"] {
        migrate(&at, &format!("--install --dry-run {dry_run}"));
        is_unchanged(&at, &before, dry_run);
    }
    let reported = ends(migrate(&at, "--until switch --install --chart ./none"), 2);
    let last = lines(&reported).last().unwrap();
    assert_eq!([&last["step"], &last["status"]], ["helm", "failed"], "{}", steps(&reported));
    reported.says(&["helm upgrade --install openchoreo-build-plane"]);
    is_unchanged(&at, &before, "a chart that is not there");

    // While a controller of v0.17 is left, its planes are.
    show_controller(&at, "v0.17.0");
    let reported = ends(migrate(&at, "--install --until cleanup"), 2);
    reported.says(&["a controller of v0.x is running"]);
    for plane in &PLANES {
        assert!(get(&at, &plane.path())["metadata"]["deletionTimestamp"].is_null(), "{}", plane.path());
    }
}

/// Compares what a stage prints with its transcript; `SNAPSHOTS=overwrite` writes that anew.
fn transcript(at: &Estate, stage: &str, reported: &Output) {
    let kubeconfig = |cluster: &super::control_plane::ControlPlane| cluster.kubeconfig().display().to_string();
    let mut text = reported.stdout.clone();
    for (found, shown) in [
        (format!(" --plane-kubeconfig {} --plane-context control", kubeconfig(&at.build)), " --plane-context build"),
        (format!(" --kubeconfig={}", kubeconfig(&at.build)), ""),
        (format!(" --kubeconfig {}", kubeconfig(&at.control)), ""),
        (at.control.path().display().to_string(), "."),
    ] {
        text = text.replace(&found, shown);
    }
    // Helm's own words and dates are not for a transcript.
    let is_ours = |line: &&str| line.starts_with("    fix: ") || line.split(' ').next().unwrap().ends_with(':');
    let is_date = |word: &str| word.len() == 10 && word.parse::<jiff::civil::Date>().is_ok();
    let word = |word: &str| if is_date(word) { "DATE".to_owned() } else { word.to_owned() };
    let shown = |line: &str| match line.rsplit_once(" [") {
        // What is seen first, the log or the heartbeat, and when.
        Some((_, status)) if line.starts_with("wait: ") => format!("wait: the agent is connected [{status}\n"),
        _ => line.split(' ').map(word).collect::<Vec<_>>().join(" ") + "\n",
    };
    let helm = ["NAME:", "LAST", "NAMESPACE:", "STATUS:", "REVISION:", "TEST", "NOTES:", "DESCRIPTION:"];
    let lines = text.lines().filter(is_ours).filter(|line| !helm.iter().any(|word| line.starts_with(word)));
    let lines = lines.map(shown);
    let path = format!("{}/tests/server/transcripts/{stage}.txt", env!("CARGO_MANIFEST_DIR"));
    snapbox::assert_data_eq!(lines.collect::<String>(), snapbox::Data::read_from(path.as_ref(), None));
}

fn each_stage_reads_as_in_its_transcript() {
    let at = v0_17();
    let run = |more: &str| {
        let (port, build) = (at.port, at.build.kubeconfig());
        let both = format!("--gateway-url wss://localhost:{port}/ws --plane-kubeconfig {}", build.display());
        paste(&at, &format!("choreoctl migrate --out-dir migration {both} --yes --timeout 60s {more}"))
    };
    transcript(&at, "prepare", &run("--until prepare").expect(1));
    upgrade_crds(&at);
    upgrade_gateway(&at);
    transcript(&at, "switch", &run("--until switch --install").expect(1));
    transcript(&at, "cleanup", &run("--until cleanup").expect(1));
    let guide = include_str!("../../docs/migrate.md");
    let block = guide.split("```text\nbreaks: ").nth(1).unwrap().split("```").next().unwrap();
    let transcript =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/server/transcripts/prepare.txt"));
    assert!(transcript.unwrap().contains(block), "the guide shows other text than is printed: {block}");
}
