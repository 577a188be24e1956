//! From nothing to authorized in one command, again and again, and cut off in between.

use serde_json::{Value, json};

use super::control_plane::{Output, SHARED, finish};
use super::estate::{DEPLOYMENT, Estate, NAMESPACE};
use super::hints::paste;
use super::terminal::Terminal;

stories!(
    Server:
        everything_is_written_for_a_cluster_elsewhere;
    Go:
        dry_runs_of_a_registration_change_nothing,
        nothing_is_registered_without_the_gateways_ca,
        nothing_is_registered_at_a_gateway_of_another_release,
        a_second_registration_writes_nothing,
        files_of_a_registration_that_somebody_changed_are_asked_about,
        a_registration_stays_with_its_own_certificate_where_cert_manager_comes,
        a_registration_installs_the_agent_by_helm,
        what_differs_is_not_replaced_unasked,
        what_was_registered_by_hand_is_taken_over_without_a_change,
        several_planes_are_registered_at_once,
        planes_that_can_not_share_an_agent_are_refused_before_anything_is_written,
        a_ca_that_is_brought_along_must_authorize_the_agent,
        a_person_registers_a_build_plane,
        nothing_is_registered_without_the_rights;
);

pub const OWN: &str = "cluster-agent-own-tls";

/// Status by step.
fn steps(lines: &str) -> Vec<(String, String)> {
    let step = |line: &str| {
        let step: Value = serde_json::from_str(line).unwrap();
        (step["step"].as_str().unwrap().to_owned(), step["status"].as_str().unwrap().to_owned())
    };
    lines.lines().map(step).collect()
}

/// The versions of all that a registration writes.
pub fn versions(at: &Estate) -> Vec<String> {
    let version = "jsonpath={range .items[*]}{.kind}/{.metadata.name}@{.metadata.resourceVersion} {end}";
    let planes = at.control.kubectl(&["get", "cbp,secrets", "-A", "-o", version], "").stdout;
    let build = at.build.kubectl(&["get", "secrets,configmaps", "-n", NAMESPACE, "-o", version], "").stdout;
    // The status is the controller's to write.
    let objects = planes.split_whitespace().filter(|object| !object.starts_with("ClusterBuildPlane"));
    let generation = ["get", "cbp", "boot", "--ignore-not-found", "-o", "jsonpath={.metadata.generation}"];
    let generation = at.control.kubectl(&generation, "").stdout;
    objects.chain(build.split_whitespace()).map(str::to_owned).chain([generation]).collect()
}

pub fn clear(at: &Estate) {
    at.control.kubectl(&["delete", "cbp", "boot", "--ignore-not-found"], "");
    at.build.kubectl(&["delete", "secret", OWN, "-n", NAMESPACE, "--ignore-not-found"], "");
    at.build.kubectl(&["delete", "configmap", "cluster-gateway-ca", "-n", NAMESPACE, "--ignore-not-found"], "");
    let _ = std::fs::remove_dir_all(at.control.path().join("out"));
}

/// An estate in which nothing is registered yet.
pub fn prepared() -> Estate {
    let at = Estate::start("boot");
    at.control_namespace();
    clear(&at);
    at
}

/// Where agents reach the gateway.
pub fn url(at: &Estate) -> String {
    format!("wss://localhost:{}/ws", at.port)
}

fn arguments(url: &str) -> [&str; 9] {
    ["bootstrap", "boot", "--gateway-url", url, "--out-dir", "out", "--yes", "-o", "json"]
}

fn bootstrap(at: &Estate, more: &[&str]) -> Output {
    at.run(&[&arguments(&url(at))[..], more].concat())
}

/// An estate with a build plane.
fn registered() -> Estate {
    let at = prepared();
    bootstrap(&at, &[]).expect(0);
    at
}

/// A plane as others write it.
fn plane(name: &str, id: &str) -> Value {
    json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": name, "uid": "x"}, "spec": {"planeID": id}})
}

/// What would be done is reported, and nothing is.
fn dry_runs_of_a_registration_change_nothing() {
    let at = prepared();
    let before = versions(&at);
    for dry_run in ["client", "server"] {
        let reported = bootstrap(&at, &["--dry-run", dry_run]).expect(0).stdout;
        assert!(reported.contains("Secret openchoreo-build-plane/cluster-agent-own-tls created ("), "{reported}");
        assert!(versions(&at) == before && !at.control.path().join("out").exists(), "--dry-run {dry_run}");
    }
}

fn nothing_is_registered_without_the_gateways_ca() {
    let at = Estate::start("boot");
    at.control.kubectl(&["create", "namespace", CONTROL], "");
    bootstrap(&at, &[]).expect(2).says(&["cluster-gateway-ca does not exist"]);
    at.control.run(&["get", "boot"]).expect(3);
}

fn nothing_is_registered_at_a_gateway_of_another_release() {
    let at = prepared();
    at.order("era v1");
    let reported = bootstrap(&at, &[]).expect(2);
    reported
        .says(&["OpenChoreo v1.0 and later, which has no kind ClusterBuildPlane", "register a ClusterWorkflowPlane"]);
    at.control.run(&["get", "boot"]).expect(3);
}

fn a_second_registration_writes_nothing() {
    let at = registered();
    let before = versions(&at);
    let reported = steps(&bootstrap(&at, &[]).expect(0).stdout);
    assert_eq!(versions(&at), before);
    let done: Vec<_> = reported.iter().filter(|(_, status)| status == "done").collect();
    assert!(done.is_empty(), "{done:?}");
    // Without a question nothing is announced.
    let quiet = bootstrap(&at, &[]).expect(0).stderr;
    assert!(!quiet.contains("will change") && quiet.lines().count() == 1, "{quiet}");
}

fn files_of_a_registration_that_somebody_changed_are_asked_about() {
    let at = registered();
    let url = url(&at);
    // No CA is made that nothing needs.
    let late = ["bootstrap", "boot", "--gateway-url", &url, "--out-dir", "late", "--yes"];
    at.run(&late).expect(0);
    assert!(at.control.path().join("late/values.yaml").exists() && !at.control.path().join("late/private").exists());
    // What somebody put into the values is asked about before anything is written, and shown without its escapes.
    let values = at.control.path().join("late/values.yaml");
    std::fs::write(&values, "mine: \"\u{1b}[2J\"\n").unwrap();
    let reported = at.run(&late).expect(2);
    reported.says(&["late/values.yaml already exists", "\\u{1b}[2J"]);
    assert!(!reported.stderr.contains("\u{1b}[2J") && !reported.stdout.contains("namespace:"), "{reported:?}");
}

/// Nor does the way change once cert-manager is there, as the chart wants it.
fn a_registration_stays_with_its_own_certificate_where_cert_manager_comes() {
    let at = registered();
    let before = versions(&at);
    let names = json!({"plural": "certificates", "kind": "Certificate", "singular": "certificate"});
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": schema});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "certificates.cert-manager.io"},
        "spec": {"group": "cert-manager.io", "scope": "Namespaced", "names": names, "versions": [version]}});
    at.build.kubectl(&["apply", "-f", "-"], &crd.to_string());
    at.build.kubectl(&["wait", "--for=condition=Established", "crd/certificates.cert-manager.io"], "");
    let reported = steps(&bootstrap(&at, &[]).expect(0).stdout);
    assert!(versions(&at) == before && reported.iter().all(|(_, status)| status != "done"), "{reported:?}");
    assert!(reported.contains(&("cert-manager".into(), "found".into())), "{reported:?}");
    at.build.kubectl(&["delete", "crd", "certificates.cert-manager.io"], "");
}

fn a_registration_installs_the_agent_by_helm() {
    let at = registered();
    let url = url(&at);
    // A helm that does what the chart would, and then the agent is connected.
    at.deploy("boot", "--x=y");
    let patch =
        json!({"spec": {"template": {"spec": {"volumes": [{"name": "client-certs", "secret": {"secretName": OWN}}]}}}});
    at.control.write("patch.json", &patch.to_string());
    std::fs::create_dir(at.control.path().join("bin")).unwrap();
    let kubectl = at.build.kubectl_command(&["patch", "deployment", DEPLOYMENT, "-n", NAMESPACE]);
    let words: Vec<_> = kubectl.get_args().map(|word| word.to_str().unwrap()).collect();
    let helm = format!(
        "#!/bin/sh\necho \"$@\" > helm-was-reported\nKUBECONFIG={} {} {} --patch-file patch.json >&2\n",
        at.build.kubeconfig().display(),
        kubectl.get_program().to_str().unwrap(),
        words.join(" ")
    );
    let path = at.control.write("bin/helm", &helm);
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let kubeconfig = at.build.kubeconfig().to_string_lossy().into_owned();
    let more = ["--install", "--wait", "--build-kubeconfig", &kubeconfig];
    let mut install = at.control.command(&[&arguments(&url)[..], &more].concat());
    install.env("PATH", format!("{}/bin:/usr/bin:/bin", at.control.path().display()));
    let reported = steps(&finish(install, "").expect(0).stdout);
    assert!(reported.ends_with(&[("helm".into(), "done".into()), ("wait".into(), "done".into())]), "{reported:?}");
    let reported = steps(&bootstrap(&at, &["--install"]).expect(0).stdout);
    assert!(reported.ends_with(&[("helm".into(), "found".into()), ("wait".into(), "found".into())]), "{reported:?}");
    let words = std::fs::read_to_string(at.control.path().join("helm-was-reported")).unwrap();
    assert!(words.starts_with("upgrade --install build --reuse-values oci://"), "{words}");
    assert!(words.contains("--values out/values.yaml") && !words.contains("PRIVATE"), "{words}");
    let values: Value =
        serde_yaml::from_str(&std::fs::read_to_string(at.control.path().join("out/values.yaml")).unwrap()).unwrap();
    assert_eq!(values["clusterAgent"]["serverUrl"], url);
    assert_eq!(values["clusterAgent"]["tls"]["clientSecretName"], OWN);
}

fn what_differs_is_not_replaced_unasked() {
    let at = registered();
    let other = std::fs::read_to_string(at.control.path().join("old/ca.crt")).unwrap();
    let patch = json!({"data": {"ca.crt": other}}).to_string();
    at.build.kubectl(&["patch", "configmap", "cluster-gateway-ca", "-n", NAMESPACE, "-p", &patch], "");
    let refused = bootstrap(&at, &[]).expect(2);
    refused.says(&[
        "differs from what choreoctl would create",
        "hint: check the difference, and add --force",
        "(as it is)",
        "sha256",
    ]);
    bootstrap(&at, &["--force"]).expect(0);
    // Other fields of the plane are compared, too; what is not asked for stays.
    at.control.kubectl(&["label", "cbp", "boot", "team=a"], "");
    bootstrap(&at, &["--secret-store", "vault"]).expect(2).says(&["+  secretStoreRef:", "+    name: vault"]);
    bootstrap(&at, &["--secret-store", "vault", "--force"]).expect(0);
    let plane = at.control.kubectl(&["get", "cbp", "boot", "-o", "json"], "").json();
    assert_eq!(plane["spec"]["secretStoreRef"]["name"], "vault");
    assert_eq!(plane["metadata"]["labels"]["team"], "a");
    let reported = steps(&bootstrap(&at, &[]).expect(0).stdout);
    assert!(reported.contains(&("plane".into(), "found".into())), "{reported:?}");
}

fn what_was_registered_by_hand_is_taken_over_without_a_change() {
    let at = prepared();
    at.trust_gateway();
    let url = url(&at);
    at.deploy("boot", "--x=y");
    at.control.run(&["create", "hand", "--plane-id", "boot", "--client-ca-file", "old/ca.crt"]).expect(0);
    let hand = ["bootstrap", "hand", "--plane-id", "boot", "--agent-certificate", "existing", "--yes", "-o", "json"];
    let before = at.control.kubectl(&["get", "cbp", "hand", "-o", "jsonpath={.metadata.generation}"], "").stdout;
    let reported = steps(&at.run(&[&hand[..], &["--gateway-url", &url]].concat()).expect(0).stdout);
    assert!(
        reported.contains(&("plane".into(), "found".into())) && reported.contains(&("probe".into(), "found".into())),
        "{reported:?}"
    );
    assert_eq!(at.control.kubectl(&["get", "cbp", "hand", "-o", "jsonpath={.metadata.generation}"], "").stdout, before);
}

fn several_planes_are_registered_at_once() {
    let at = registered();
    let url = url(&at);
    let file = at.control.write(
        "planes.json",
        &json!({"apiVersion": "v1", "kind": "List", "items": [plane("one", "multi"), plane("two", "multi"), plane("boot", "multi")]}).to_string(),
    );
    let args = ["bootstrap", "-f", &file, "--agent-certificate", "cert-manager", "--yes", "--client-ca-in", "secret"];
    at.run(&args).expect(1).says(&["already has the agent of plane boot", "--plane-namespace"]);
    at.control.run(&["get", "one"]).expect(3);
    let args = [&args[..], &["--build-namespace", "multi"]].concat();
    let reported = at.run(&[&args[..], &["--gateway-url", &url]].concat()).expect(1);
    let row = |name: &str| reported.stdout.lines().rfind(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(row("one ").contains("registered") && row("two ").contains("registered"), "{reported:?}");
    assert!(row("boot ").contains("failed: the plane boot already exists"), "{reported:?}");
    let ca = ["get", "secret", "multi-agent-ca", "-n", "multi", "-o", "jsonpath={.data['tls\\.key']}"];
    assert!(!at.build.kubectl(&ca, "").stdout.is_empty());
    at.control.run(&["certs", "inspect", "plane/one", "plane/two"]).expect(0);
    let reported = ["bootstrap", "-f", &file, "--build-namespace", "multi", "--yes", "-o", "json"];
    let reported = at.run(&[&reported[..], &["--agent-certificate", "cert-manager"]].concat());
    let reported: Value = serde_json::from_str(reported.expect(1).stdout.lines().next().unwrap()).unwrap();
    assert_eq!(reported["plane"], "one");
    // Somebody else's Secret is not taken for the plane's, nor written over.
    let theirs = ["create", "secret", "generic", "three-client-ca", "--from-file=ca.crt=gateway.crt", "-n", CONTROL];
    at.control.kubectl(&theirs, "");
    let three = ["bootstrap", "three", "--plane-id", "multi", "--build-namespace", "multi", "--yes"];
    let reported = at.run(&[&three[..], &["--client-ca-in", "secret"]].concat()).expect(2);
    reported.says(&["Secret openchoreo-control-plane/three-client-ca already exists", "-CN=gateway-ca", "--force"]);
    at.control.run(&["get", "three"]).expect(3);
}

fn planes_that_can_not_share_an_agent_are_refused_before_anything_is_written() {
    let at = prepared();
    let refused = |planes: Value, word: &str| {
        let list = json!({"apiVersion": "v1", "kind": "List", "items": planes}).to_string();
        let file = at.control.write("refused.json", &list);
        let before = versions(&at);
        at.run(&["bootstrap", "-f", &file, "--yes", "--out-dir", "refused"]).expect(2).says(&[word]);
        assert!(versions(&at) == before && !at.control.path().join("refused").exists());
    };
    refused(json!([plane("a", "a"), plane("b", "b")]), "has one agent, of one planeID");
    refused(json!([plane("../../a", "a")]), "[name-format]");
    refused(json!([plane("a", "A_B")]), "[plane-id-format]");
}

fn a_ca_that_is_brought_along_must_authorize_the_agent() {
    let at = prepared();
    at.trust_gateway();
    let url = url(&at);
    let brought = ["bootstrap", "brought", "--plane-id", "boot", "--yes", "--gateway-url", &url];
    at.run(&[&brought[..], &["--client-ca-file", "old/ca.crt"]].concat()).expect(0);
    at.control.run(&["certs", "ca", "--out-dir", "other", "--name", "other"]).expect(0);
    let other = ["bootstrap", "other", "--plane-id", "boot", "--yes", "--client-ca-file", "other/ca.crt"];
    at.run(&other).expect(2).says(&["would not authorize an agent"]);
    at.control.run(&["get", "other"]).expect(3);
}

const CONTROL: &str = "openchoreo-control-plane";

/// The gateway's CA where OpenChoreo has it.
fn a_person_registers_a_build_plane() {
    if !Terminal::available() {
        println!("there is no `script` to make a pseudo-terminal: prompts are not answered");
        return;
    }
    let at = Estate::start("boot");
    at.control_namespace();
    let kubeconfig = at.build.kubeconfig().to_string_lossy().into_owned();
    let words = ["bootstrap", "boot", "--build-kubeconfig", &kubeconfig, "--out-dir", "out"];
    // No is an answer.
    let mut terminal = Terminal::start(&at.control, &words);
    terminal.sees("Where agents reach the gateway");
    terminal.types("\r");
    terminal.sees("Do you want to register boot?");
    terminal.types("n\r");
    assert_eq!(terminal.ends().0, 2);
    at.control.run(&["get", "boot"]).expect(3);
    assert!(!at.control.path().join("out").exists());

    // A URL that is none is asked for again.
    let mut terminal = Terminal::start(&at.control, &words);
    terminal.sees("control plane in context control");
    terminal.sees("Where agents reach the gateway");
    terminal.types("localhost\r");
    terminal.sees("write it as wss://HOST:PORT/ws");
    terminal.types(&"\u{7f}".repeat(9));
    terminal.types(&format!("wss://localhost:{}/ws\r", at.port));
    terminal.sees("this will change:");
    terminal.sees("Do you want to register boot?");
    terminal.types("y\r");
    terminal.sees("ok       contexts");
    terminal.sees("done     agent-secret");
    terminal.sees("the gateway authorizes the agent's certificate");
    terminal.sees("choreoctl wait boot --for connected");
    // Its cluster is remembered, and not asked about again.
    terminal.sees("Do you want to save the cluster of the agent of cbp/boot in the configuration?");
    terminal.types("y\r");
    let (code, screen) = terminal.ends();
    assert!(code == 0 && screen.contains("cbp/boot set in "), "{screen}");
    let config = std::fs::read_to_string(Terminal::config(&at.control)).unwrap();
    assert!(config.contains(&kubeconfig) && config.contains("name: boot"), "{config}");

    // What differs is shown and asked about.
    let other = std::fs::read_to_string(at.control.path().join("old/ca.crt")).unwrap();
    at.server_ca(json!({"ca.crt": other}));
    let held =
        || at.build.kubectl(&["get", "configmap", "cluster-gateway-ca", "-n", NAMESPACE, "-o", "yaml"], "").stdout;
    let before = held();
    let url = format!("wss://localhost:{}/ws", at.port);
    let words = [&words[..], &["--gateway-url", &url]].concat();
    for (key, code) in [("n\r", 2), ("y\r", 0)] {
        let mut terminal = Terminal::start(&at.control, &words);
        terminal.sees("Do you want to register boot?");
        terminal.types("y\r");
        terminal.sees("(as it would become)");
        terminal.sees("sha256");
        terminal.sees("Do you want to replace ConfigMap openchoreo-build-plane/cluster-gateway-ca?");
        terminal.types(key);
        let (ended, screen) = terminal.ends();
        assert!(ended == code && (held() == before) == (code == 2), "{screen}");
    }
    // Without questions it is the flag that is named.
    at.server_ca(json!({"ca.crt": other}));
    let reported =
        at.run(&["bootstrap", "boot", "--gateway-url", &url, "--out-dir", "out", "--yes", "--no-input"]).expect(2);
    reported.says(&["add --force to replace the object"]);
}

fn nothing_is_registered_without_the_rights() {
    let at = Estate::start("boot");
    at.control_namespace();
    at.server_ca(json!({"ca.crt": ""}));
    let as_guest = ["bootstrap", "boot", "--yes", "--context", "guest", "--build-context", "guest"];
    let before = versions(&at);
    let reported = at.run(&as_guest).expect(2);
    reported.says(&[
        "nothing was changed, because these permissions are missing",
        "create clusterbuildplanes of context guest",
    ]);
    reported.says(&[
        "get secrets in the namespace openchoreo-control-plane",
        "patch configmaps in the namespace openchoreo-build-plane",
    ]);
    // An administrator pastes the roles, and nothing is missing any more.
    let grant = reported.stderr.split("grants them to USER with\n").nth(1).unwrap();
    let grant = grant.replace("--context guest", "--context control").replace("USER", "guest");
    paste(&at, &grant).expect(0);
    let granted = [&as_guest[..], &["--dry-run", "server"]].concat();
    at.run(&granted).expect(0);
    for control_plane in [&at.control, &at.build] {
        let roles =
            ["delete", "clusterrole,clusterrolebinding,role,rolebinding", "choreoctl-bootstrap", "--ignore-not-found"];
        for namespace in ["default", CONTROL, NAMESPACE] {
            control_plane.kubectl(&[&roles[..], &["-n", namespace]].concat(), "");
        }
    }
    // With all but one of them that one is named.
    let rights = [
        (&at.control, "clusterbuildplanes", "get,create,patch"),
        (&at.control, "secrets", "get"),
        (&at.build, "secrets", "get,create,patch"),
        (&at.build, "namespaces", "get"),
        (&at.build, "configmaps", "get,create"),
    ];
    for (control_plane, resource, verbs) in rights {
        let resource_flag =
            format!("--resource={resource}{}", if resource.starts_with("cluster") { ".openchoreo.dev" } else { "" });
        control_plane.kubectl(&["create", "clusterrole", resource, &format!("--verb={verbs}"), &resource_flag], "");
        control_plane.kubectl(
            &["create", "clusterrolebinding", resource, &format!("--clusterrole={resource}"), "--user=guest"],
            "",
        );
    }
    let reported = at.run(&as_guest).expect(2);
    reported.says(&["nothing was changed, because these permissions are missing: patch configmaps in the namespace openchoreo-build-plane of context guest"]);
    assert!(!reported.stderr.contains("create "), "{}", reported.stderr);
    assert_eq!(versions(&at), before);
    at.build.kubectl(
        &[
            "patch",
            "clusterrole",
            "configmaps",
            "--type=json",
            "-p",
            r#"[{"op": "add", "path": "/rules/0/verbs/-", "value": "patch"}]"#,
        ],
        "",
    );
    at.run(&as_guest).expect(0);
    at.control.run(&["get", "boot"]).expect(0);
}

fn everything_is_written_for_a_cluster_elsewhere() {
    let at = &*SHARED;
    at.run(&["bootstrap", "elsewhere"]).expect(2).says(&["--plane-context"]);
    let reported =
        at.run(&["bootstrap", "elsewhere", "--out-dir", "elsewhere", "--gateway-url", "wss://g:8443/ws"]).expect(0);
    assert!(reported.stdout.contains("README.md"), "{reported:?}");
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
    // Again: the keys stay, and so does what somebody else wrote.
    let keys = || ["ca.crt", "ca.key", "tls.crt", "tls.key"].map(|name| text(&format!("private/{name}")));
    let before = keys();
    let again = ["bootstrap", "elsewhere", "--out-dir", "elsewhere", "--gateway-url", "wss://g:8443/ws"];
    at.run(&again).expect(0);
    std::fs::remove_file(at.path().join("elsewhere/control-plane/plane.yaml")).unwrap();
    at.run(&again).expect(0);
    assert_eq!(keys(), before);
    at.run(&verify).expect(0);
    at.write("elsewhere/README.md", "mine");
    at.run(&again).expect(2).says(&["elsewhere/README.md already exists", "--force"]);
    assert_eq!(text("README.md"), "mine");

    // With cert-manager there is a CA only, and the plane may have it in a Secret.
    let way = ["--agent-certificate", "cert-manager", "--client-ca-in", "secret"];
    let issued = ["bootstrap", "issued", "--out-dir", "issued"];
    at.run(&[&issued[..], &way, &["--dry-run", "client"]].concat()).expect(0);
    assert!(!at.path().join("issued").exists());
    at.run(&[&issued[..], &way].concat()).expect(0);
    let text = |name: &str| std::fs::read_to_string(at.path().join("issued").join(name)).unwrap();
    let values: Value = serde_yaml::from_str(&text("values.yaml")).unwrap();
    assert_eq!(values["clusterAgent"]["tls"]["caSecretName"], "issued-agent-ca");
    assert!(!at.path().join("issued/private/tls.key").exists());
    at.kubectl(&["create", "namespace", CONTROL], "");
    at.kubectl(&["apply", "-f", "issued/control-plane"], "");
    at.run(&["certs", "inspect", "plane/issued"]).expect(0);
    for flag in ["--install", "--wait"] {
        let reported = at.run(&["bootstrap", "x", "--out-dir", "x", flag]).expect(2);
        reported.says(&[flag, "needs access to both clusters", "--plane-context"]);
    }
}
