//! Renewal and rotation on two API servers, with agents that come back ten times a second.

use std::time::Duration;

use serde_json::{Value, json};

use super::control_plane::finish;
use super::estate::{DEPLOYMENT, Estate, NAMESPACE, SECRET};
use super::hints::paste;

stories!(
    Go:
        a_rotation_refuses_nobody,
        an_unfinished_rotation_is_shown_with_both_ways_on,
        a_pinned_leaf_is_led_out_of_its_outage,
        a_rotation_leaves_to_others_what_is_theirs,
        cert_manager_issues_from_the_new_ca,
        a_secret_that_somebody_else_wrote_stops_a_rotation,
        a_rotation_minds_what_changes_beside_it;
);

const SOON: Duration = Duration::from_secs(60);
const ROTATE: [&str; 6] = ["certs", "rotate", "a", "--yes", "-o", "json"];

/// Planes of one planeID: `a` by value, `b` by Secret, and `c`, which trusts another agent only.
pub fn three_planes() -> Estate {
    let mut estate = Estate::start("shared");
    let at = &estate.control;
    at.run(&["certs", "ca", "--out-dir", "other", "--name", "other"]).expect(0);
    at.kubectl(&["create", "secret", "generic", "ca", "--from-file=ca.crt=old/ca.crt"], "");
    let create = |args: &[&str]| at.run(&[&["create", "--plane-id", "shared"], args].concat()).expect(0);
    create(&["a", "--client-ca-file", "old/ca.crt"]);
    create(&["b", "--client-ca-secret", "default/ca"]);
    create(&["c", "--client-ca-file", "other/ca.crt"]);
    estate.settle();
    estate
}

fn steps(lines: &str) -> Vec<(String, String, String)> {
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let step = |line: &str| {
        let step: Value = serde_json::from_str(line).unwrap();
        (word(&step["step"]), word(&step["status"]), word(&step["message"]))
    };
    lines.lines().map(step).collect()
}

pub fn of_secret(estate: &Estate) -> String {
    let at = &estate.control;
    at.kubectl(&["get", "secret", "ca", "-o", "go-template={{index .data \"ca.crt\" | base64decode}}"], "").stdout
}

/// Fails unless the planes trust the new CA alone, and the agent presents a certificate of it.
pub fn rotated(estate: &Estate, old: &str) -> String {
    let new = estate.value("a");
    assert!(new != old && new.matches("BEGIN CERTIFICATE").count() == 1, "{new}");
    assert_eq!(of_secret(estate), new);
    assert_eq!(estate.value("c"), std::fs::read_to_string(estate.control.path().join("other/ca.crt")).unwrap());
    estate.run(&["certs", "verify", "--cert", "agent", "--plane", "a"]).expect(0);
    assert_eq!(estate.secrets().trim(), format!("secret/{SECRET}"));
    new
}

pub fn a_rotation_refuses_nobody() {
    let mut estate = three_planes();
    let old = estate.value("a");
    let reported = estate.run(&ROTATE).expect(0);
    let reported = steps(&reported.stdout);
    assert!(
        reported.iter().any(|(step, status, what)| step == "stage" && status == "skipped" && what.contains("c trusts"))
    );
    for step in ["stage", "switch", "restart", "reconnect", "finish"] {
        assert!(reported.iter().any(|(of, status, _)| of == step && status == "done"), "{step} in {reported:#?}");
    }
    let new = rotated(&estate, &old);
    estate.nobody_was_refused();

    // Once more at once is a rerun, which has nothing to do.
    let again = steps(&estate.run(&ROTATE).expect(0).stdout);
    assert!(matches!(&again[..], [.., (step, status, _)] if step == "finish" && status == "found"), "{again:#?}");
    assert_eq!(estate.value("a"), new);

    // With the CA kept a renewal goes the same way.
    let dry = estate.run(&[&ROTATE[..], &["--again", "--out-dir", "new", "--dry-run", "server"]].concat()).expect(0);
    assert!(dry.stdout.contains("dry run") && estate.value("a") == new, "{dry:?}");
    estate.run(&[&ROTATE[..], &["--again", "--out-dir", "new"]].concat()).expect(0);
    rotated(&estate, &new);
    let before = estate.secret(SECRET);
    let renewed = estate.run(&["certs", "renew", "a", "--ca-dir", "new", "--yes", "-o", "json"]).expect(0);
    assert!(renewed.stdout.contains("reconnect"), "{renewed:?}");
    let after = estate.secret(SECRET);
    assert!(before["tls.key"] != after["tls.key"] && before["ca.crt"] == after["ca.crt"]);
    estate.run(&["certs", "renew", "a", "--ca-dir", "old", "--yes"]).expect(2).says(&["did not issue", "hint:"]);
    assert_eq!(estate.secret(SECRET), after);
    let pod = estate.build.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "json"], "").json();
    assert_eq!(pod["items"].as_array().unwrap().len(), 1);
    estate.nobody_was_refused();
}

/// How to continue and how to go back, as it is printed.
fn both_ways(text: &str) -> (String, String) {
    let line = |word: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(word));
        line.unwrap_or_else(|| panic!("no {word} in {text}")).trim().to_owned()
    };
    (line("continue:"), line("undo:"))
}

fn an_unfinished_rotation_is_shown_with_both_ways_on() {
    let mut estate = three_planes();
    let (before, pair) = (estate.value("a"), estate.secret(SECRET));
    let check = |id: &str| {
        let reported = estate.run(&["doctor", "a", "-o", "json"]).json();
        let checks = reported["planes"][0]["checks"].as_array().unwrap();
        checks.iter().find(|check| check["id"] == id).unwrap().clone()
    };
    let stage = || estate.run(&[&ROTATE[..], &["--until", "stage"]].concat()).expect(0).stderr;
    let hint = |number: usize| check("rotation")["hints"][number]["text"].as_str().unwrap().to_owned();
    for (number, finished) in [(1, false), (0, true)] {
        let reported = stage();
        let (go_on, back) = both_ways(&reported);
        assert!(go_on.starts_with("choreoctl certs rotate a ") && back.ends_with(" --rollback"), "{reported}");
        for plane in ["a", "b"] {
            let notes = estate.control.run(&["describe", plane, "-o", "json"]).json()["planes"][0]["notes"].clone();
            assert!(notes.to_string().contains("rotation-unfinished"), "{notes}");
            let wide = estate.control.run(&["get", plane, "-o", "wide"]).stdout;
            assert!(wide.contains("rotation-unfinished"), "{wide}");
        }
        assert_eq!(check("rotation")["status"], "warn");
        paste(&estate, &hint(number)).expect(0);
        assert_eq!(check("rotation")["status"], "pass");
        assert_eq!((estate.value("a") == before, estate.secret(SECRET) == pair), (!finished, !finished));
        assert!(!estate.control.run(&["describe", "a"]).stdout.contains("rotation"));
    }
    estate.nobody_was_refused();

    // Interrupted while it waits, it says the same.
    estate.order("reports off");
    let args = ["certs", "rotate", "a", "--yes", "--again"];
    let mut run = estate.spawn(&args);
    run.until("restart", SOON, |line| line.starts_with("restart"));
    assert_eq!(run.signal("-INT"), 130);
    let (go_on, back) = both_ways(&run.stderr());
    estate.order("reports on");
    paste(&estate, &back).expect(0);
    estate.run(&[&args[..], &["--until", "switch"]].concat()).expect(0);
    paste(&estate, &go_on).expect(0);

    // A certificate of another CA in the Secret takes the plane's CA of before along, and what is trusted is reported.
    let at = &estate.control;
    at.run(&["certs", "ca", "--out-dir", "foreign", "--name", "foreign"]).expect(0);
    at.run(&["certs", "client", "--plane-id", "shared", "--ca-dir", "foreign"]).expect(0);
    let secret = at.run(&["certs", "secret", "foreign", "-n", NAMESPACE]).expect(0).stdout;
    estate.build.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &secret);
    let reported = steps(&estate.run(&["certs", "rotate", "a", "--yes", "--again", "-o", "json"]).expect(0).stdout);
    let trusted = reported.iter().find(|(_, _, message)| message.starts_with("a trusts ")).unwrap();
    assert!(!trusted.2.contains("also"), "{trusted:?}");
    assert_eq!(estate.value("a").matches("BEGIN CERTIFICATE").count(), 1);
}

/// A self-signed certificate as the chart's cert-manager makes it: no CA, 90 days.
fn pinned_leaf(estate: &Estate, serial: u8) -> String {
    let name = format!("pinned-{serial}");
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "90", "-subj", "/O=OpenChoreo/CN=pinned"]);
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=clientAuth"]);
    openssl.args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.crt")]);
    finish(
        {
            openssl.current_dir(estate.control.path());
            openssl
        },
        "",
    )
    .expect(0);
    let pem = |kind: &str| std::fs::read_to_string(estate.control.path().join(format!("{name}.{kind}"))).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": SECRET, "namespace": NAMESPACE, "annotations": {"cert-manager.io/certificate-name": SECRET}},
        "stringData": {"tls.crt": pem("crt"), "tls.key": pem("key"), "ca.crt": pem("crt")},
    });
    estate.build.kubectl(&["apply", "-f", "-"], &secret.to_string());
    format!("{name}.crt")
}

fn a_pinned_leaf_is_led_out_of_its_outage() {
    let mut estate = Estate::start("pinned");
    let leaf = pinned_leaf(&estate, 1);
    let restart = ["rollout", "restart", "deployment", DEPLOYMENT, "-n", NAMESPACE];
    // A pod that starts in the second of a write may have read what was there before.
    std::thread::sleep(Duration::from_millis(1100));
    estate.build.kubectl(&restart, "");
    estate.control.run(&["create", "pinned", "--client-ca-file", &leaf]).expect(0);
    estate.settle();

    // On day 0 everybody warns, and gives the day.
    let day = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(75 * 24);
    let day = day.strftime("%Y-%m-%d").to_string();
    let plane = estate.control.run(&["get", "pinned", "-o", "yaml"]).expect(0).stdout;
    for reported in [
        estate.control.run_with(&["validate", "-"], &plane).expect(0),
        estate.control.run(&["describe", "pinned"]).expect(0),
        estate.control.run(&["certs", "inspect", "plane/pinned"]).expect(0),
        estate.run(&["certs", "inspect"]).expect(0),
    ] {
        assert!(format!("{}{}", reported.stdout, reported.stderr).contains(&day), "{day} in {reported:#?}");
    }
    let forecast = |more: &[&str]| estate.run(&[&["forecast", "pinned", "-o", "json"], more].concat());
    let reported = forecast(&["--within", "70d"]).expect(0).json();
    let first = &reported["planes"][0];
    assert_eq!((&first["reason"], &first["date"].as_str().unwrap()[..10]), (&json!("pinned-leaf-renewed"), &day[..]));
    assert_eq!(first["next"][0]["reason"], "running-certificate-expires");
    let last: jiff::Timestamp = first["next"][0]["date"].as_str().unwrap().parse().unwrap();
    let renewal: jiff::Timestamp = first["date"].as_str().unwrap().parse().unwrap();
    assert_eq!(last.duration_since(renewal).as_hours(), 360);
    forecast(&["--within", "80d"]).expect(1);
    assert!(first["message"].as_str().unwrap().contains("if by cert-manager, on"), "{first}");
    let table = estate.run(&["forecast"]).expect(0).stdout;
    assert!(table.contains("LEFT") && table.contains("pinned-leaf-renewed"), "{table}");
    let later = forecast(&["--at", "+100d"]).expect(0).json();
    assert_eq!(later["planes"][0]["reason"], "pinned-leaf-renewed");
    assert!(later.to_string().contains("\"refused\""), "{later}");
    let verify = ["certs", "verify", "--cert", "agent", "--plane", "pinned"];
    estate.run(&verify).expect(0);

    // On day 75 cert-manager renews: the running pod goes on, and is refused once it is restarted.
    pinned_leaf(&estate, 2);
    estate.reset();
    let behind = estate.run(&["certs", "inspect", "agent"]).expect(0);
    assert!(
        behind.stderr.contains("presents an older certificate") || behind.stderr.contains("may present"),
        "{behind:?}"
    );
    let refused = estate.run(&verify).expect(1);
    assert!(refused.stdout.contains("pins another certificate of the same name"), "{refused:?}");
    estate.build.kubectl(&restart, "");
    std::thread::sleep(Duration::from_secs(2));
    assert!(estate.count().1 > 0);

    // Once the agent has the new certificate the rotation can't be rolled back: it would be refused with the other one.
    let rotate = ["certs", "rotate", "pinned", "--yes"];
    estate.run(&[&rotate[..], &["--to", "own", "--until", "switch"]].concat()).expect(0);
    estate
        .run(&[&rotate[..], &["--rollback"]].concat())
        .expect(2)
        .says(&["the rotation can't be rolled back", "hint: complete the rotation instead"]);
    estate.settle();
    let reported = estate.run(&[&rotate[..], &["--to", "own"]].concat()).expect(0);
    assert!(reported.stdout.contains("--set clusterAgent.tls.clientSecretName=cluster-agent-tls-"), "{reported:?}");
    estate.run(&verify).expect(0);
    estate.settle();
    assert_eq!(estate.value("pinned").matches("BEGIN CERTIFICATE").count(), 1);
    let described = estate.control.run(&["describe", "pinned", "-o", "json"]).expect(0).json();
    assert_eq!(described["planes"][0]["clientCA"]["certificates"][0]["ca"], true);
    let reported = estate.run(&["forecast", "pinned", "-o", "json"]).expect(0).json();
    assert_eq!(reported["planes"][0]["reason"], "certificate-expires");
    let metrics = estate.run(&["forecast", "-o", "prometheus"]).expect(0).stdout;
    assert!(
        metrics.contains(
            "{plane=\"pinned\",kind=\"ClusterBuildPlane\",namespace=\"\",plane_id=\"pinned\",reason=\"ca-expires\"} "
        ),
        "{metrics}"
    );
}

fn a_rotation_leaves_to_others_what_is_theirs() {
    let mut estate = three_planes();
    let at = &estate.control;
    let argo = |file: &str| {
        at.kubectl(
            &["apply", "--server-side", "--force-conflicts", "--field-manager=argocd-controller", "-f", file],
            "",
        )
    };
    let plane = at.run(&["get", "a", "-o", "json"]).expect(0).json();
    let theirs = json!({"apiVersion": plane["apiVersion"], "kind": plane["kind"], "metadata": {"name": "a"}, "spec": plane["spec"]});
    argo(&at.write("theirs.json", &theirs.to_string()));
    estate.run(&ROTATE).expect(2).says(&["clientCA.value of a belongs to argocd-controller", "hint:", "--out-dir"]);
    assert_eq!(estate.secrets().trim(), format!("secret/{SECRET}"));

    // Who may read and not write is reported before anything is changed.
    at.kubectl(&["create", "clusterrole", "reader", "--verb=get,list", "--resource=clusterbuildplanes,secrets"], "");
    at.kubectl(&["create", "clusterrolebinding", "reader", "--clusterrole=reader", "--user=guest"], "");
    let guest = estate.run(&[&ROTATE[..], &["--context", "guest", "--out-dir", "git"]].concat()).expect(2);
    guest.says(&["the CA of b can't be written", "not allowed"]);
    // So is who may not list those of the other scope, once there can be some.
    let crd = at.run(&["crd", "buildplane", "--release", "v0.17"]).expect(0).stdout;
    at.kubectl(&["apply", "-f", "-"], &crd).expect(0);
    at.kubectl(&["wait", "--for=condition=Established", "crd", "buildplanes.openchoreo.dev"], "").expect(0);
    let guest = estate.run(&[&ROTATE[..], &["--context", "guest", "--until", "stage"]].concat()).expect(2);
    guest.says(&["could not find all planes of planeID shared", "could not list BuildPlanes: not allowed"]);
    guest.says(&["hint: ask for the permission to list buildplanes.openchoreo.dev"]);
    assert_eq!(estate.secrets().trim(), format!("secret/{SECRET}"));

    let old = estate.value("a");
    let mut run = estate.spawn(&[&ROTATE[..], &["--out-dir", "git"]].concat());
    for file in ["git/stage-a.yaml", "git/finish-a.yaml"] {
        run.until("manifest", SOON, |line| line.contains("is to be applied by it"));
        argo(file);
    }
    run.until("end", SOON, |line| line.contains("deleted"));
    assert_eq!(run.wait(), 0);
    rotated(&estate, &old);
    estate.nobody_was_refused();
}

fn cert_manager_issues_from_the_new_ca() {
    let mut estate = three_planes();
    let old = estate.value("a");
    let mut run = estate.spawn(&[&ROTATE[..], &["--to", "cert-manager"]].concat());
    run.until("Secret", SOON, |line| line.contains("holds the CA for cert-manager"));
    let name = estate.secrets().lines().find(|line| line.contains("shared-agent-ca-")).unwrap().to_owned();
    let ca = estate.secret(name.trim_start_matches("secret/"));
    let at = &estate.control;
    let (certificate, key) = (at.write("cm.crt", &ca["tls.crt"]), at.write("cm.key", &ca["tls.key"]));
    let issue =
        ["certs", "client", "--plane-id", "shared", "--ca-cert", &certificate, "--ca-key", &key, "--out-dir", "cm"];
    at.run(&issue).expect(0);
    let mut secret: Value =
        serde_yaml::from_str(&at.run(&["certs", "secret", "cm", "-n", NAMESPACE]).expect(0).stdout).unwrap();
    secret["metadata"]["annotations"] = json!({"cert-manager.io/certificate-name": SECRET});
    estate.build.kubectl(&["apply", "-f", "-"], &secret.to_string());
    run.until("end", SOON, |line| line.contains("b trusts O=OpenChoreo, CN=build plane agents of shared"));
    assert_eq!(run.wait(), 0);
    assert!(estate.value("a") == ca["tls.crt"] && estate.value("a") != old);
    assert_eq!(estate.secrets().lines().count(), 2, "the CA stays for cert-manager: {}", estate.secrets());
    estate.run(&["certs", "verify", "--cert", "agent", "--plane", "b"]).expect(0);
    // A certificate of one's own under that CA is renewed with it: it lies beside the agent's Secret.
    estate.build.kubectl(&["annotate", "secret", SECRET, "-n", NAMESPACE, "cert-manager.io/certificate-name-"], "");
    estate.run(&["certs", "renew", "a", "--yes"]).expect(0);
    estate.build.kubectl(&["annotate", "secret", SECRET, "-n", NAMESPACE, "cert-manager.io/certificate-name=x"], "");

    // What cert-manager writes is not renewed here.
    let own = ["certs", "renew", "a", "--yes", "--ca-cert", &certificate, "--ca-key", &key];
    estate.run(&own).expect(2).says(&["cert-manager writes", "rollout restart deployment"]);
    estate.nobody_was_refused();
}

fn a_secret_that_somebody_else_wrote_stops_a_rotation() {
    let mut estate = three_planes();
    let (old, pair) = (estate.value("a"), estate.secret(SECRET));
    estate.run(&[&ROTATE[..], &["--until", "switch"]].concat()).expect(0);
    assert_eq!(estate.value("a").matches("BEGIN CERTIFICATE").count(), 2);
    // The old pair is what a rollback by hand would bring: it is replaced again. A third one is nobody's to decide on.
    let at = &estate.control;
    let write = |folder: &str| {
        let secret = at.run(&["certs", "secret", folder, "-n", NAMESPACE]).expect(0).stdout;
        estate.build.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &secret);
    };
    at.run(&["certs", "client", "--plane-id", "shared", "--ca-dir", "old", "--out-dir", "third"]).expect(0);
    write("third");
    estate.run(&ROTATE).expect(2).says(&["was changed since the rotation began", "--rollback"]);
    assert_eq!(estate.value("a").matches("BEGIN CERTIFICATE").count(), 2);
    write("old");
    estate.run(&[&ROTATE[..], &["--until", "switch"]].concat()).expect(0);
    assert_eq!(estate.value("a").matches("BEGIN CERTIFICATE").count(), 2);
    estate.run(&["certs", "rotate", "a", "--yes", "--rollback"]).expect(0);
    assert!(estate.value("a") == old && estate.secret(SECRET) == pair);
    estate.nobody_was_refused();
}

fn a_rotation_minds_what_changes_beside_it() {
    let mut estate = three_planes();
    let at = &estate.control;
    let rotate = |more: &[&str]| estate.run(&[&ROTATE[..], more].concat());
    let create = |name: &str, plane_id: &str, flag: &str, source: &str| {
        at.run(&["create", name, "--plane-id", plane_id, flag, source]).expect(0);
    };
    // A CA that another planeID needs, too, is not taken out of its Secret.
    create("stranger", "strange", "--client-ca-secret", "default/ca");
    rotate(&[]).expect(2).says(&["default/ca:ca.crt is also used by stranger with another planeID"]);
    at.kubectl(&["delete", "cbp", "stranger"], "");
    assert_eq!(estate.secrets().trim(), format!("secret/{SECRET}"));

    // A plane that comes in between goes along, one that goes holds nothing up, and nobody renews meanwhile.
    rotate(&["--until", "stage"]).expect(0);
    create("late", "shared", "--client-ca-file", "old/ca.crt");
    create("leaving", "shared", "--client-ca-file", "old/ca.crt");
    rotate(&["--until", "stage"]).expect(0);
    assert_eq!(estate.value("late").matches("BEGIN CERTIFICATE").count(), 2);
    at.kubectl(&["delete", "cbp", "leaving"], "");
    estate
        .run(&["certs", "renew", "a", "--ca-dir", "old", "--yes"])
        .expect(2)
        .says(&["a rotation of the CA is in progress"]);
    let reported = rotate(&["--out-dir", "kept"]).expect(0).stdout;
    assert!(
        reported.contains("leaving no longer exists") && reported.contains("the new CA and its key are in kept"),
        "{reported}"
    );
    let new = estate.value("late");
    assert!(new == estate.value("a") && new == at_file(&estate, "kept/ca.crt"));

    // A CA that was kept is not replaced unasked, and one that somebody adds stays.
    rotate(&["--again", "--out-dir", "kept"]).expect(2).says(&["kept/ca.crt exists already"]);
    rotate(&["--again", "--until", "stage"]).expect(0);
    at.run(&["certs", "ca", "--out-dir", "third", "--name", "third"]).expect(0);
    let third = at_file(&estate, "third/ca.crt");
    let value = json!({"spec": {"clusterAgent": {"clientCA": {"value": format!("{}{third}", estate.value("a"))}}}});
    at.kubectl(&["patch", "cbp", "a", "--type=merge", "-p", &value.to_string()], "");
    rotate(&["--rollback"]).expect(0);
    assert!(estate.value("a") == format!("{new}{third}") && estate.value("late") == new);

    // A namespaced BuildPlane authorizes the agent, too, and goes along.
    let at = &estate.control;
    at.kubectl(&["apply", "-f", "-"], &at.run(&["crd", "buildplane"]).expect(0).stdout);
    let namespaced = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "BuildPlane", "metadata": {"name": "shared", "namespace": "default"},
        "spec": {"planeID": "shared", "clusterAgent": {"clientCA": {"value": new}}}});
    let path = at.write("namespaced.json", &namespaced.to_string());
    let deadline = std::time::Instant::now() + SOON;
    while at.run(&["version"]).code != 0
        || !finish(at.kubectl_command(&["apply", "-f", &path]), "").stdout.contains("created")
    {
        assert!(std::time::Instant::now() < deadline);
    }
    let reported = rotate(&["--again"]).expect(0).stdout;
    assert!(reported.contains("default/shared trusts the new CA"), "{reported}");
    let object = at.kubectl(&["get", "buildplane", "shared", "-o", "json"], "").json();
    assert_eq!(object["spec"]["clusterAgent"]["clientCA"]["value"], estate.value("late"));
    estate.nobody_was_refused();
}

fn at_file(estate: &Estate, path: &str) -> String {
    std::fs::read_to_string(estate.control.path().join(path)).unwrap()
}
