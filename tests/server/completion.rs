//! Completion in a shell, with names from the cluster.

use std::process::Command;

use crate::control_plane::{SHARED, finish};

stories!(
    Server:
        names_complete;
);

fn names_complete() {
    let at = &*SHARED;
    at.plane("completed-plane");
    let complete = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_choreoctl"));
        command
            .arg("--")
            .args(words)
            .env("COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", (words.len() - 1).to_string())
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("_CLAP_IFS", "\n")
            .env("KUBECONFIG", at.kubeconfig());
        finish(command, "").expect(0).stdout
    };
    assert!(complete(&["choreoctl", "get", "completed"]).contains("completed-plane"));
    assert_eq!(complete(&["choreoctl", "--context", "gu"]).trim(), "guest");
    assert_eq!(complete(&["choreoctl", "get", "--context", "nowhere", "completed"]).trim(), "");
    assert!(complete(&["choreoctl", "wait", "x", "--for", "conn"]).contains("connected"));
    at.kubectl(&["label", "cbp", "completed-plane", "completed=yes"], "");
    for (words, found) in [
        (&["get", "-l", "compl"][..], "completed=yes"),
        (&["delete", "-l", "a=b,compl"], "a=b,completed=yes"),
        (&["get", "-L", "a,compl"], "a,completed"),
        (&["get", "-o", "cust"], "custom-columns="),
        (&["certs", "inspect", "plane/completed"], "plane/completed-plane"),
        (&["certs", "verify", "--cert", "ag"], "agent"),
        (&["get", "cd"], "cdp"),
        (&["get", "-n", "kube-p"], "kube-public"),
        (&["get", "--state", "!nev"], "!NeverConnected"),
        (&["watch", "--state", "Late,sta"], "Late,Stale"),
        (&["get", "--sort-by", "hea"], "heartbeat"),
        (&["get", "--cluster", "contr"], "control"),
        (&["doctor", "--explain", "agent-tr"], "agent-trusted"),
        (&["doctor", "--plane-context", "gu"], "guest"),
    ] {
        assert_eq!(complete(&[&["choreoctl"], words].concat()).trim(), found, "{words:?}");
    }
}
