//! `wait`: what ends it.

use std::time::Duration;

use serde_json::json;

use crate::SOON;
use crate::control_plane::SHARED;

stories!(
    Server:
        wait_ends_with_the_state,
        wait_ends_with_the_time,
        wait_ends_with_trust;
);

fn wait_ends_with_the_state() {
    let at = &*SHARED;
    at.plane("waited");
    let mut wait = at.spawn(&["wait", "waited", "--for", "connected", "--timeout", "30s"]);
    std::thread::sleep(Duration::from_millis(500));
    at.connect("waited");
    wait.until("the plane", SOON, |line| line.ends_with("/waited Connected"));
    assert_eq!(wait.wait(), 0);
    at.run(&["wait", "cbp/waited", "--for", "Connected", "--timeout", "0"]).expect(0);
    at.run(&["wait", "waited", "--timeout", "0"]).expect(0);
    at.run(&["wait", "-l", "no=plane", "--for", "deleted"]).expect(0);
    at.run(&["wait", "not-there", "--for", "connected"]).expect(3);
    at.run(&["wait", "not-there", "--for", "deleted"]).expect(0);

    at.run(&["wait", "-l", "no=plane", "--for", "exists", "--timeout", "1s"]).expect(124);
    let mut exists = at.spawn(&["wait", "waited-later", "--for", "exists"]);
    std::thread::sleep(Duration::from_millis(300));
    at.plane("waited-later");
    assert_eq!(exists.wait(), 0);

    at.run(&["create", "waited-twin", "--plane-id", "waited", "--client-ca-secret", "default/none"]).expect(0);
    let shared = at.run(&["wait", "waited", "--for", "connected", "-o", "json"]).expect(0);
    assert_eq!(
        shared.json(),
        json!({"planes": [{"name": "waited", "kind": "ClusterBuildPlane", "namespace": null, "met": true, "state": "Connected"}]})
    );
    assert!(shared.stderr.contains("waited-twin"), "{}", shared.stderr);
    at.run(&["wait", "waited", "waited-twin", "--for", "connected", "--any", "--timeout", "0"]).expect(0);

    let mut created = at.spawn(&["create", "waited-create", "--client-ca-secret", "default/none", "--wait"]);
    created.until("the object", SOON, |line| line.ends_with("created"));
    at.connect("waited-create");
    assert_eq!(created.wait(), 0);
}

fn wait_ends_with_the_time() {
    let at = &*SHARED;
    at.plane("timed");
    for timeout in ["0", "1s"] {
        let late = at.run(&["wait", "timed", "--for", "connected", "--timeout", timeout]).expect(124);
        assert!(late.stderr.contains("timed: Unreported"), "{}", late.stderr);
    }
    at.status("timed", false, 0, &[], "No agents connected");
    at.run(&["wait", "timed", "--for", "disconnected", "--timeout", "0"]).expect(0);
    at.run(&["wait", "timed", "--for", "nonsense"]).expect(2);
}

fn wait_ends_with_trust() {
    let at = &*SHARED;
    let (own, other) = (at.ca("trusted"), at.ca("distrusted"));
    at.run(&["certs", "client", "--plane-id", "trust", "--ca-dir", "trusted"]).expect(0);
    at.run(&["create", "trust", "--client-ca-file", &other]).expect(0);
    let wait = |timeout| ["wait", "trust", "--for", "trusted", "--cert", "trusted/tls.crt", "--timeout", timeout];
    at.run(&wait("0")).expect(124).says(&["trust: Unreported, not trusted", "was not issued by a CA of this plane"]);
    at.run(&["wait", "trust", "--for", "trusted"]).expect(2).says(&["hint: name its context with --plane-context"]);
    at.run(&["wait", "none", "--for", "trusted", "--cert", "trusted/tls.crt"]).expect(3);
    let mut waiting = at.spawn(&[&wait("30s")[..], &["--for", "exists"]].concat());
    std::thread::sleep(Duration::from_millis(500));
    let value = json!({"spec": {"clusterAgent": {"clientCA": {"value": at.read(&own)}}}}).to_string();
    at.kubectl(&["patch", "cbp", "trust", "--type=merge", "-p", &value], "");
    waiting.until("the plane", SOON, |line| line.contains("/trust"));
    assert_eq!(waiting.wait(), 0);
}
