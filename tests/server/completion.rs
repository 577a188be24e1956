//! Completion in a shell, with names from the cluster.

use std::process::Command;

use crate::control_plane::{SHARED, finish};

stories!(
    Server:
        names_complete,
        names_complete_in_real_shells;
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

/// The arguments by which a shell completes a line; some wait for what it should offer.
type Script = fn(&str, &str) -> Vec<String>;

/// What a shell offers for a line, in each shell that is on this machine: planes and namespaces of the cluster, and contexts.
fn names_complete_in_real_shells() {
    let at = &*SHARED;
    at.plane("shell-completed");
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path();
    let program = env!("CARGO_BIN_EXE_choreoctl");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/packages/kubectl_complete-choreo");
    for (link, to) in [("choreoctl", program), ("kubectl-choreo", program), ("kubectl_complete-choreo", script)] {
        std::os::unix::fs::symlink(to, bin.join(link)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let said = |mut command: Command| {
        command.env("PATH", &path).env("KUBECONFIG", at.kubeconfig()).env("TERM", "dumb");
        finish(command, "").stdout
    };
    let shells: [(&str, Script); 3] = [
        ("bash", |line, _| {
            let script = format!(
                "source <(choreoctl completions bash); COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
                 COMP_TYPE=9; _clap_complete_choreoctl choreoctl \"${{COMP_WORDS[COMP_CWORD]}}\"; \
                 printf '%s\\n' \"${{COMPREPLY[@]}}\""
            );
            vec!["-c".into(), script]
        }),
        ("fish", |line, _| {
            vec![
                "--no-config".into(),
                "-c".into(),
                format!("choreoctl completions fish | source; complete -C '{line}'"),
            ]
        }),
        ("zsh", |line, found| {
            // A zsh of its own on a pseudo terminal, whose Tab key is pressed.
            let script = format!(
                "zmodload zsh/zpty; zpty z zsh -f -i; \
                 zpty -w z 'PS1=; autoload -Uz compinit; compinit -D -u; source <(choreoctl completions zsh); print REA\"\"DY'; \
                 zpty -r z text '*READY*'; zpty -w -n z $'{line}\\t'; zpty -r z text '*{found}*'; print -r -- $text"
            );
            vec!["-f".into(), "-c".into(), script]
        }),
    ];
    for (shell, script) in shells {
        if Command::new(shell).arg("--version").output().is_err() {
            println!("{shell} is not on this machine: its completion is not run");
            continue;
        }
        for (line, found) in [
            ("choreoctl get shell-c", "shell-completed"),
            ("choreoctl doctor --plane-context gue", "guest"),
            ("choreoctl get -n kube-pub", "kube-public"),
        ] {
            let mut command = Command::new("timeout");
            command.args(["60", shell]).args(script(line, found));
            let offered = said(command);
            assert!(offered.contains(found), "{shell}: {line}: {offered:?}");
        }
    }

    // kubectl completes its plugin.
    let completed = said(at.kubectl_command(&["__complete", "choreo", "get", "shell-c"]));
    assert!(
        completed.lines().any(|line| line.starts_with("shell-completed")) && completed.contains(":4"),
        "{completed}"
    );
    assert!(said(at.kubectl_command(&["choreo", "get", "shell-completed"])).contains("shell-completed"));
}
