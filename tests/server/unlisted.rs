//! Kinds that may not be listed: what depends on their planes is unknown, and never taken for none.

use serde_json::{Value, json};

use crate::control_plane::ControlPlane;

stories!(
    Server:
        planes_that_may_not_be_listed_are_not_taken_for_none;
);

/// Lets the guest read planes of one kind.
fn let_guest_read(at: &ControlPlane, plural: &str) {
    let role =
        ["create", "clusterrole", plural, "--verb=get,list,watch", &format!("--resource={plural}.openchoreo.dev")];
    at.kubectl(&role, "").expect(0);
    let binding = ["create", "clusterrolebinding", plural, &format!("--clusterrole={plural}"), "--user=guest"];
    at.kubectl(&binding, "").expect(0);
}

fn planes_that_may_not_be_listed_are_not_taken_for_none() {
    let at = ControlPlane::start();
    for kind in ["clusterdataplane", "dataplane"] {
        let crd = at.run(&["crd", kind, "--release", "v1.2"]).expect(0).stdout;
        at.kubectl(&["apply", "-f", "-"], &crd).expect(0);
        let crd = format!("{kind}s.openchoreo.dev");
        at.kubectl(&["wait", "--for=condition=Established", "crd", &crd], "").expect(0);
    }
    let ca = at.ca("one");
    at.run(&["certs", "client", "--plane-id", "boot", "--ca-dir", "one"]).expect(0);
    at.run(&["create", "cdp/boot", "--client-ca-file", &ca]).expect(0);
    at.run(&["create", "dp/boot", "--client-ca-file", &ca]).expect(0);
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let connection =
        json!({"connected": true, "connectedAgents": 1, "lastConnectedTime": now, "lastHeartbeatTime": now});
    let status = json!({"status": {"agentConnection": connection}}).to_string();
    at.kubectl(&["patch", "clusterdataplane", "boot", "--subresource=status", "--type=merge", "-p", &status], "")
        .expect(0);
    let_guest_read(&at, "clusterdataplanes");
    let guest = ["--context", "guest"];
    let unlisted = "could not list DataPlanes: not allowed: dataplanes.openchoreo.dev is forbidden";

    let delete = ["delete", "cdp/boot", "--dry-run", "client"];
    at.run(&delete).expect(0).says(&["then default/boot authorizes them again"]);
    let deleted = at.run(&[&delete[..], &guest].concat()).expect(0);
    deleted.says(&["may lose access: it is unknown whether another plane trusts the CA of boot", unlisted]);

    let sharing = |more: &[&str]| {
        let reported = at.run(&[&["describe", "cdp/boot", "-o", "json"], more].concat()).expect(0).json();
        reported["planes"][0]["sharesPlaneIDWith"].clone()
    };
    assert_eq!((sharing(&[]), sharing(&guest)), (json!(["default/boot"]), Value::Null));
    let page = at.run(&["describe", "cdp/boot", "--context", "guest"]).expect(0).stdout;
    assert!(page.contains("DataPlanes are unknown: not allowed") && !page.contains("no other plane"), "{page}");

    let verify = |more: &[&str]| at.run(&[&["certs", "verify", "cdp", "--cert", "one/tls.crt"], more].concat());
    verify(&[]).expect(0);
    let verdicts = verify(&[&guest[..], &["-o", "json"]].concat()).expect(2).json();
    let [known, unknown] = verdicts["verdicts"].as_array().unwrap().as_slice() else { panic!("{verdicts}") };
    assert_eq!((&known["verdict"], &verdicts["authorized"]), (&json!("authorized"), &json!(false)));
    assert_eq!((&unknown["plane"], &unknown["kind"]), (&Value::Null, &json!("DataPlane")));
    assert!(unknown["message"].as_str().unwrap().starts_with(unlisted), "{unknown}");
    assert!(verify(&guest).expect(2).stdout.contains(&format!("DataPlanes: unknown: {unlisted}")));
    verify(&[&guest[..], &["--any"]].concat()).expect(0);

    let reported = at.run(&["doctor", "cdp/boot", "-o", "json", "--context", "guest"]).json();
    let checks = reported["planes"][0]["checks"].as_array().unwrap();
    for id in ["plane-id-shared", "ca-shared"] {
        let check = checks.iter().find(|check| check["id"] == id).unwrap();
        assert_eq!(check["status"], "skip", "{check}");
        assert!(check["message"].as_str().unwrap().starts_with("DataPlanes are unknown: "), "{check}");
    }

    // All verbs that read show what may be read, and an error for each kind that may not.
    let reported = at.run(&["get", "planes", "-A", "--context", "guest"]).expect(2);
    reported.says(&["error: could not list ClusterBuildPlanes: not allowed", &format!("error: {unlisted}")]);
    assert!(reported.stdout.contains("boot") && !reported.stderr.contains("No resources found"), "{reported:?}");
    let names = at.run(&["get", "planes", "-A", "-o", "name", "--context", "guest"]).expect(2).stdout;
    assert_eq!(names, "clusterdataplane.openchoreo.dev/boot\n");
    for verb in ["get", "describe", "doctor", "forecast"] {
        let reported = at.run(&[verb, "planes", "-A", "-o", "json", "--context", "guest"]).expect(2);
        assert!(
            reported.stderr.contains(unlisted) && !reported.stderr.contains("No resources found"),
            "{verb}: {reported:?}"
        );
        let reported = reported.json();
        let planes = if verb == "get" { &reported["items"] } else { &reported["planes"] };
        assert_eq!(planes.as_array().unwrap().len(), 1, "{verb}: {reported}");
        assert!(verb != "describe" || planes[0]["sharesPlaneIDWith"].is_null(), "{reported}");
        assert!(verb != "doctor" || reported["healthy"] == false, "{reported}");
    }
    let reported = at.run(&["watch", "planes", "-A", "--timeout", "1s", "--context", "guest"]).expect(124);
    assert!(reported.stdout.contains("boot") && reported.stderr.contains(unlisted), "{reported:?}");
    let reported = at.run(&["certs", "inspect", "-o", "json", "--context", "guest"]).expect(2).json();
    assert_eq!(reported["certificates"].as_array().unwrap().len(), 1, "{reported}");
    let sources: Vec<_> = reported["problems"].as_array().unwrap().iter().map(|problem| &problem["source"]).collect();
    assert_eq!(sources, ["cbp/*", "dp/*"]);
    // A part of them is not enough for those that act on all.
    for verb in [&["wait", "--for", "connected", "--timeout", "0"][..], &["delete", "--dry-run", "client"]] {
        let reported = at.run(&[verb, &["planes", "--all", "-A", "--context", "guest"]].concat()).expect(2);
        assert!(reported.stdout.is_empty() && reported.stderr.contains("could not list"), "{reported:?}");
    }
}
