//! `certs inspect` and `certs verify` on what the cluster holds.

use serde_json::json;

use crate::control_plane::{ControlPlane, SHARED};

stories!(
    Server:
        certificates_are_read_wherever_they_are,
        verdicts_are_reported_for_every_plane_of_a_plane_id;
);

fn certificates_are_read_wherever_they_are() {
    let at = &*SHARED;
    let authority = at.ca("read");
    at.run(&["certs", "client", "--plane-id", "read", "--ca-dir", "read"]).expect(0);
    let secret = at.run(&["certs", "secret", "read", "-n", "default", "--name", "agent"]).expect(0).stdout;
    at.kubectl(&["apply", "-f", "-"], &secret);
    at.kubectl(&["create", "configmap", "ca", "--from-file", &authority], "");
    at.run(&["create", "read", "--client-ca-secret", "default/agent"]).expect(0);
    let count = |source: &str| {
        at.run(&["certs", "inspect", source, "-o", "json"]).expect(0).json()["certificates"].as_array().unwrap().len()
    };
    assert_eq!(
        ["secret/default/agent", "secret/default/agent:tls.crt", "configmap/default/ca", "plane/read", "read/tls.crt"]
            .map(count),
        [2, 1, 1, 1, 1]
    );
    let server = format!("https://127.0.0.1:{}", at.port());
    let presented = at.run(&["certs", "inspect", &server, "-o", "json"]).expect(0).json();
    assert!(
        presented["certificates"][0]["extKeyUsage"].as_array().unwrap().contains(&json!("serverAuth")),
        "{presented}"
    );
    let certificate = &at.run(&["certs", "inspect", "read/tls.crt", "-o", "json"]).json()["certificates"][0];
    for field in [
        "source",
        "index",
        "subject",
        "issuer",
        "serial",
        "notBefore",
        "notAfter",
        "lifetimeUsed",
        "ca",
        "keyAlgorithm",
        "extKeyUsage",
        "dnsNames",
        "sha256",
        "spkiSha256",
    ] {
        assert!(certificate.get(field).is_some(), "{field}");
    }
    at.run(&["certs", "inspect", "plane/read", "--expires-within", "10y"]).expect(1);
    at.run(&["certs", "inspect", "plane/read", "--expires-within", "30d"]).expect(0);
    at.run(&["certs", "inspect", "plane/read", "--expires-within", "30d", "--at", "+1800d"]).expect(1);
    at.run(&["certs", "inspect", "secret/default/nothing"]).expect(2);
    at.run(&["certs", "inspect", "secret/default/agent:nothing"]).expect(2);
    at.run(&["certs", "inspect", "plane/not-there"]).expect(2);
    let wide = at.run(&["get", "read", "-o", "wide"]).expect(0);
    assert!(wide.stdout.contains("secret/default/agent:ca.crt") && wide.stdout.contains("4y364d"), "{}", wide.stdout);
}

fn verdicts_are_reported_for_every_plane_of_a_plane_id() {
    let at = ControlPlane::start();
    let own = at.ca("own");
    let other = at.ca("other");
    at.run(&["certs", "client", "--plane-id", "shared", "--ca-dir", "own"]).expect(0);
    let secret = |name: &str, path: &str| {
        at.kubectl(&["create", "secret", "generic", name, &format!("--from-file=ca.crt={path}")], "");
    };
    secret("right", &own);
    secret("wrong", &other);
    let plane = |name: &str, flag: &str, source: &str| {
        at.run(&["create", name, "--plane-id", "shared", flag, source]).expect(0);
    };
    plane("by-value", "--client-ca-file", &own);
    plane("by-secret", "--client-ca-secret", "default/right");
    let verify = |more: &[&str]| at.run(&[&["certs", "verify", "--cert", "own/tls.crt"], more].concat());
    let authorized = verify(&["-o", "json"]).expect(0).json();
    assert_eq!((&authorized["authorized"], &authorized["planeID"]), (&json!(true), &json!("shared")));
    assert!(authorized["verdicts"].as_array().unwrap().iter().all(|one| one["until"].is_string()), "{authorized}");
    // After the leaf's end, and from what the Secret of an agent would hold.
    verify(&["--at", "+2y"]).expect(1);
    at.kubectl(&["create", "secret", "tls", "agent", "--cert=own/tls.crt", "--key=own/tls.key"], "");
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--plane", "by-value"]).expect(0);
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--ca", "plane/by-secret"]).expect(0);
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--ca", "secret/default/wrong"]).expect(1);
    // Only a plane that isn't there is a 3.
    at.run(&["certs", "verify", "--cert", "secret/default/none", "--plane", "by-value"]).expect(2);
    at.run(&["certs", "verify", "--cert", "secret/default/agent", "--plane", "none"]).expect(3);

    plane("other", "--client-ca-secret", "default/wrong");
    plane("nothing", "--client-ca-secret", "default/none");
    let reported = verify(&["-o", "json"]).expect(1).json();
    let reasons: Vec<_> = reported["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["plane"].as_str().unwrap(), one["reason"].as_str()))
        .collect();
    let expected = [
        ("by-secret", None),
        ("by-value", None),
        ("nothing", Some("ca-unreadable")),
        ("other", Some("unknown-authority")),
    ];
    assert_eq!(reasons, expected);
    verify(&["--any"]).expect(0);
    verify(&["--plane-id", "none"]).expect(2).says(&["no build plane has the planeID none", "hint:"]);
    verify(&["--plane", "none"]).expect(3);

    // Who may read planes and no Secrets knows of the inline one only.
    at.kubectl(&["create", "clusterrole", "planes", "--verb=get,list", "--resource=clusterbuildplanes"], "");
    at.kubectl(&["create", "clusterrolebinding", "planes", "--clusterrole=planes", "--user=guest"], "");
    let guest = ["--context", "guest"];
    let unknown = verify(&guest).expect(2);
    assert!(
        unknown.stdout.contains("by-secret: unknown") && unknown.stdout.contains("by-value: authorized"),
        "{unknown:?}"
    );
    verify(&[&guest[..], &["--any"]].concat()).expect(0);
}
