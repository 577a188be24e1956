//! Errors of the connection and of rights: their codes and hints.

use std::fs;
use std::time::Instant;

use serde_json::json;

use crate::SOON;
use crate::control_plane::{ControlPlane, SHARED, finish};
use crate::proxy::Proxy;

stories!(
    Server:
        who_may_not_read_secrets_sees_the_rest,
        a_proxy_of_the_kubeconfig_is_used,
        errors_have_codes_and_hints,
        a_missing_kind_is_reported;
);

/// Lets the guest read planes, and nothing else.
fn let_guest_read(at: &ControlPlane) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "planes"},
        "rules": [{"apiGroups": ["openchoreo.dev"], "resources": ["clusterbuildplanes"], "verbs": ["get", "list", "watch"]}]});
    at.kubectl(&["apply", "-f", "-"], &role.to_string());
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "planes"},
        "subjects": [{"kind": "User", "name": "guest"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "planes"}});
    at.kubectl(&["apply", "-f", "-"], &binding.to_string());
}

fn who_may_not_read_secrets_sees_the_rest() {
    let at = ControlPlane::start();
    at.plane("by-secret");
    at.run(&["create", "by-value", "--client-ca-file", &at.ca("rights")]).expect(0);
    let refused = at.run(&["get", "--context", "guest"]).expect(2);
    assert!(
        refused.stderr.contains("not allowed") && refused.stderr.contains("kubectl auth can-i --list --context guest"),
        "{}",
        refused.stderr
    );
    let_guest_read(&at);
    let wide = at.run(&["get", "-o", "wide", "--context", "guest"]).expect(0);
    let row = |name: &str| wide.stdout.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("by-secret").contains("forbidden") && row("by-value").contains("4y364d"), "{}", wide.stdout);
    let described = at.run(&["describe", "by-secret", "--context", "guest"]).expect(0);
    assert!(
        described.stdout.contains("Unreported") && described.stdout.contains("not allowed"),
        "{}",
        described.stdout
    );
    at.run(&["watch", "--context", "guest", "--timeout", "1s"]).expect(124);
    let refused = at.run(&["create", "x", "--client-ca-secret", "a/b", "--context", "guest"]).expect(2);
    assert!(refused.stderr.contains("cannot create"), "{}", refused.stderr);
    let unread = at.run(&["certs", "inspect", "secret/default/none", "--context", "guest"]).expect(2);
    assert!(unread.stderr.contains("not allowed"), "{}", unread.stderr);
    let acting = at.run(&["get", "--as", "guest", "--as-group", "nobodies"]).expect(0);
    assert!(acting.stdout.contains("by-value"));
}

fn a_proxy_of_the_kubeconfig_is_used() {
    let at = &*SHARED;
    let proxy = Proxy::tunnel();
    let config = fs::read_to_string(at.kubeconfig()).unwrap();
    let entry = format!("certificate-authority: apiserver.crt, proxy-url: \"http://127.0.0.1:{}\"", proxy.port);
    let proxied = at.write("proxied", &config.replace("certificate-authority: apiserver.crt", &entry));
    at.run(&["version", "--kubeconfig", &proxied]).expect(0);
    assert_eq!(proxy.connections(), 1);
    // That of the environment is for other machines.
    let mut command = at.command(&["version"]);
    command.env("HTTPS_PROXY", format!("http://127.0.0.1:{}", proxy.port));
    finish(command, "").expect(0);
    assert_eq!(proxy.connections(), 1);
}

fn errors_have_codes_and_hints() {
    let at = &*SHARED;
    let fails = |args: &[&str], code, words: &[&str]| {
        let output = at.run(args).expect(code);
        output.says(words);
        assert!(output.stderr.contains("error: ") && output.stderr.contains("\nhint: "), "{}", output.stderr);
        assert_eq!(output.stdout, "");
    };
    fails(&["get", "--context", "nowhere"], 2, &["no context nowhere", "the kubeconfig has: control, guest"]);
    fails(&["get", "--context", "contrl"], 2, &["hint: did you mean control? The kubeconfig has: control, guest"]);
    fails(&["get", "not-there"], 3, &["plane not-there does not exist"]);
    fails(&["get", "--kubeconfig", "/not/there"], 2, &["kubeconfig", "/not/there"]);
    fails(&["get", "--user", "nobody"], 2, &["no user nobody"]);

    let config = fs::read_to_string(at.kubeconfig()).unwrap();
    let token = config.split("token: ").nth(1).unwrap().split('}').next().unwrap();
    let expired = at.write("expired", &config.replace(token, "00000000"));
    fails(
        &["get", "--kubeconfig", &expired],
        2,
        &["did not accept the credentials", "kubectl auth whoami --kubeconfig"],
    );
    let dead = at.write("dead", &config.replace(&format!(":{}", at.port()), ":1"));
    fails(
        &["get", "--kubeconfig", &dead],
        2,
        &["could not reach the API server at https://127.0.0.1:1", "refused", "kubectl cluster-info --kubeconfig"],
    );
    let other = at.write(
        "other",
        &config.replace("certificate-authority: apiserver.crt", "certificate-authority: errors-ca/ca.crt"),
    );
    at.ca("errors-ca");
    fails(&["get", "--kubeconfig", &other], 2, &["certificate authority is not this server's"]);
    let plugin = at.write("plugin", &config.replace(&format!("{{token: {token}}}"), "{exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c, 'echo SECRET; echo no login >&2; exit 1']}}"));
    fails(&["get", "--kubeconfig", &plugin], 2, &["could not get credentials", "no login"]);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = at.write(
        "mute",
        &config.replace(&format!(":{}", at.port()), &format!(":{}", listener.local_addr().unwrap().port())),
    );
    let started = Instant::now();
    fails(&["get", "--kubeconfig", &mute, "--request-timeout", "1s"], 2, &["--request-timeout"]);
    at.run(&["wait", "x", "--for", "deleted", "--kubeconfig", &mute, "--request-timeout", "0", "--timeout", "1s"])
        .expect(124);
    at.run(&["wait", "x", "--for", "deleted", "--kubeconfig", &mute, "--request-timeout", "1s", "--timeout", "0"])
        .expect(2);
    at.run(&["wait", "-l", "a=b", "--for", "deleted", "--kubeconfig", &mute, "--timeout", "1s"]).expect(124);
    assert!(started.elapsed() < SOON);

    let broken = at.write("broken", &config.replace("users:", "users: ["));
    fails(&["get", "--kubeconfig", &broken], 2, &["broken", "line 11"]);

    // No output anywhere shows a token or what a plugin printed.
    for kubeconfig in [&at.kubeconfig().to_string_lossy().into_owned(), &plugin, &broken] {
        let output = at.run(&["get", "-vvv", "--kubeconfig", kubeconfig]);
        let all = output.stdout + &output.stderr;
        assert!(!all.contains(token) && !all.contains("SECRET"), "{all}");
    }
    // An empty current context is none, and the next file's counts, as for kubectl.
    let empty = at.write("empty", "apiVersion: v1\nkind: Config\ncurrent-context: \"\"\n");
    let mut command = at.command(&["get"]);
    command.env("KUBECONFIG", format!("{empty}:{}", at.kubeconfig().display()));
    finish(command, "").expect(0);
    // Missing files of a list are passed over, as kubectl does.
    let mut command = at.command(&["get"]);
    command.env("KUBECONFIG", format!("/not/there:{}", at.kubeconfig().display()));
    finish(command, "").expect(0);
    let mut command = at.command(&["get"]);
    command.env("KUBECONFIG", "/not/there").env("HOME", "/not/there");
    assert!(finish(command, "").expect(2).stderr.contains("no cluster is configured"));
}

fn a_missing_kind_is_reported() {
    let at = ControlPlane::start();
    at.kubectl(&["delete", "crd", "clusterbuildplanes.openchoreo.dev"], "");
    let missing = at.run(&["get"]).expect(2);
    assert!(
        missing.stderr.contains("the cluster has no ClusterBuildPlane")
            && missing.stderr.contains("control plane's context"),
        "{}",
        missing.stderr
    );
    for args in [
        &["get", "x"][..],
        &["create", "x", "--client-ca-secret", "a/b"],
        &["wait", "x", "--for", "connected"],
        &["watch"],
        &["describe"],
    ] {
        at.run(args).expect(2);
    }
    let renamed = at
        .run(&["crd"])
        .stdout
        .replace("clusterbuildplanes", "clusterworkflowplanes")
        .replace("clusterbuildplane", "clusterworkflowplane")
        .replace("ClusterBuildPlane", "ClusterWorkflowPlane")
        .replace("[cbp, cbps]", "[cwp, cwps]");
    at.kubectl(&["apply", "-f", "-"], &renamed);
    let deadline = Instant::now() + SOON;
    loop {
        let reported = at.run(&["get", "cbp"]).expect(2);
        if reported.stderr.contains("ClusterWorkflowPlane") {
            break;
        }
        assert!(Instant::now() < deadline, "{}", reported.stderr);
    }
}
