//! Changes that take an agent's access, and what is said of them beforehand.

use std::process::Command;

use serde_json::json;

use crate::control_plane::{ControlPlane, finish};
use crate::planes::{by_secret, manifest, secret_ref};

stories!(
    Server:
        whom_a_change_locks_out_is_reported;
);

fn whom_a_change_locks_out_is_reported() {
    let at = ControlPlane::start();
    let (old, new) = (at.ca("old"), at.ca("new"));
    at.write("both.crt", &at.run(&["certs", "bundle", &old, &new]).stdout);
    at.run(&["certs", "client", "--plane-id", "a", "--ca-dir", "old"]).expect(0);
    let file = |name: &str, plane_id: &str, pem: &str| {
        let spec = json!({"planeID": plane_id, "clusterAgent": {"clientCA": {"value": pem}}});
        at.write(name, &manifest("a", spec))
    };
    let apply = |path: &str, more: &[&str]| at.run(&[&["apply", "-f", path], more].concat());
    let (by_old, by_new) = (file("old.json", "a", &at.read(&old)), file("new.json", "a", &at.read(&new)));
    apply(&by_old, &[]).expect(0);
    // Nobody is connected, so nobody is locked out.
    assert_eq!(at.run(&["diff", "-f", &by_new]).expect(1).stderr, "");
    at.connect("a");
    at.run(&["diff", "-f", &by_new])
        .expect(1)
        .says(&["the connected agents of a will be refused at their next connection"]);
    let refused = apply(&by_new, &[]).expect(2);
    refused.says(&["no certificate in common", "nothing was sent", "hint: keep the old CA next to the new one"]);
    apply(&by_new, &["--dry-run", "server"]).expect(0).says(&["no certificate in common"]);
    assert_eq!(at.object("a")["spec"]["clusterAgent"]["clientCA"]["value"], at.read(&old));
    // A bundle with the old CA, the leaf that it issued made a pinned one, and the same again lock nobody out.
    let both = file("both.json", "a", &at.read("both.crt"));
    assert!(!apply(&both, &[]).expect(0).stderr.contains("warning"));
    // Nor does one that was renewed under its name and with its key.
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-new", "-key", "old/ca.key", "-subj", "/O=OpenChoreo/CN=plane agents"]);
    openssl.args(["-utf8", "-out", "renewed.crt"]);
    finish(
        {
            openssl.current_dir(at.path());
            openssl
        },
        "",
    )
    .expect(0);
    let renewed = file("renewed.json", "a", &at.read("renewed.crt"));
    let reported = at.run(&["diff", "-f", &renewed]).expect(1).stderr;
    assert!(!reported.contains("refused"), "{reported}");
    let gone = manifest("a", json!({"planeID": "a", "clusterAgent": {"clientCA": secret_ref("gone")}}));
    at.write("gone.json", &gone);
    at.run(&["diff", "-f", "gone.json"]).says(&["can't be read"]);
    at.run(&["diff", "-f", &file("moved.json", "elsewhere", &at.read("both.crt"))])
        .says(&["its planeID becomes elsewhere"]);
    apply(&by_new, &["--allow-lockout", "--dry-run", "none"]).expect(0);

    // A new plane of the planeID whose CA can't be read throws everybody out.
    at.write("b.json", &manifest("b", by_secret("a", "none")));
    apply("b.json", &[]).expect(2).says(&["the agents of a, which have the same planeID, are disconnected"]);
    at.run(&["create", "b", "--plane-id", "a", "--client-ca-file", &new]).expect(0);
    let deleted = at.run(&["delete", "a", "--dry-run", "client"]).expect(0);
    deleted.says(&["all agents with planeID a are disconnected for some seconds: then b authorizes them again"]);
    at.run(&["delete", "a", "b", "--dry-run", "client"]).expect(0).says(&["lose access: no other plane"]);
}
