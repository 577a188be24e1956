//! `delete`: finalizers, questions, and what stays behind.

use std::time::Duration;

use serde_json::json;

use crate::control_plane::SHARED;
use crate::planes::manifest;
use crate::terminal::Terminal;

stories!(
    Server:
        delete_says_of_finalizers,
        delete_in_json_says_what_is_gone,
        what_a_deleted_plane_leaves_is_reported,
        a_question_takes_no_answer_from_before;
);

fn delete_says_of_finalizers() {
    let at = &*SHARED;
    at.plane("held");
    let finalizer = |list: &str| {
        at.kubectl(
            &["patch", "cbp", "held", "--type=merge", "-p", &format!(r#"{{"metadata":{{"finalizers":[{list}]}}}}"#)],
            "",
        )
    };
    finalizer(r#""openchoreo.dev/clusterbuildplane-cleanup""#);
    let slow = at.run(&["delete", "held", "--yes", "--timeout", "5s"]).expect(124);
    assert!(
        slow.stdout.contains("held deleted")
            && slow.stderr.contains("openchoreo.dev/clusterbuildplane-cleanup")
            && slow.stderr.contains("controller"),
        "{slow:?}"
    );
    assert_eq!(at.states()["held"], "Deleting");
    let mut wait = at.spawn(&["wait", "held", "--for", "deleted"]);
    let mut delete = at.spawn(&["delete", "held", "--yes"]);
    std::thread::sleep(Duration::from_millis(500));
    finalizer("");
    assert_eq!((wait.wait(), delete.wait()), (0, 0));
    at.run(&["delete", "held", "--yes"]).expect(3);
    at.run(&["delete", "held", "--yes", "--ignore-not-found"]).expect(0);
    at.plane("held");
    let file = at.write("held.yaml", &manifest("held", json!({})));
    let misspelt =
        at.write("misspelt.yaml", &manifest("held", json!({})).replace("ClusterBuildPlane", "ClusterBuildplane"));
    assert!(at.run(&["delete", "-f", &misspelt, "--yes"]).expect(2).stderr.contains("holds no plane"));
    at.run(&["wait", "-f", &misspelt, "--for", "deleted"]).expect(2);
    at.run(&["delete", "-f", &file, "--yes"]).expect(0);
}

fn delete_in_json_says_what_is_gone() {
    let at = &*SHARED;
    at.plane("json-gone");
    at.plane("json-held");
    let held = r#"{"metadata":{"finalizers":["example.com/held"]}}"#;
    at.kubectl(&["patch", "cbp", "json-held", "--type=merge", "-p", held], "");
    let delete = |more: &[&str], code: i32| {
        let words = ["delete", "json-gone", "json-held", "--yes", "-o", "json"];
        at.run(&[&words[..], more].concat()).expect(code).json()
    };
    let plane = |name: &str, gone: serde_json::Value| json!({"name": name, "kind": "ClusterBuildPlane", "namespace": null, "deleted": true, "gone": gone});
    let planes = |gone: [serde_json::Value; 2]| {
        let [one, other] = gone;
        json!([plane("json-gone", one), plane("json-held", other)])
    };
    let tried = delete(&["--dry-run", "server"], 0);
    assert_eq!(tried, json!({"dryRun": true, "planes": planes([json!(null), json!(null)])}));
    let reported = delete(&["--timeout", "2s"], 124);
    assert_eq!(reported, json!({"dryRun": false, "planes": planes([json!(true), json!(false)])}));
    at.kubectl(&["patch", "cbp", "json-held", "--type=merge", "-p", r#"{"metadata":{"finalizers":[]}}"#], "");
    assert_eq!(delete(&[], 3), json!({"dryRun": false, "planes": []}));
}

fn what_a_deleted_plane_leaves_is_reported() {
    let at = &*SHARED;
    at.kubectl(&["create", "secret", "generic", "left-ca", "-n", "default"], "");
    let create = |name: &str| at.run(&["create", name, "--client-ca-secret", "default/left-ca"]).expect(0);
    create("left-a");
    create("left-b");
    let reported = at.run(&["delete", "left-a", "--yes", "--context", "control"]).expect(0);
    reported.says(&[
        "the agent of planeID left-a, if one was installed, remains in its cluster",
        "helm uninstall RELEASE ",
        "--kube-context CONTEXT",
    ]);
    assert!(!reported.stderr.contains("left-ca"), "{reported:?}");
    let quiet = at.run(&["delete", "left-b", "--yes", "-q", "--dry-run", "server"]).expect(0);
    assert!(!quiet.stderr.contains("remains"), "{quiet:?}");
    let reported = at.run(&["delete", "left-b", "--yes", "--context", "control"]).expect(0).stderr;
    let command = reported.lines().find_map(|line| line.trim().strip_prefix("kubectl delete secret left-ca "));
    let words: Vec<_> = command.unwrap_or_else(|| panic!("{reported}")).split(' ').collect();
    at.kubectl(&[&["delete", "secret", "left-ca"][..], &words].concat(), "");
}

fn a_question_takes_no_answer_from_before() {
    if !Terminal::available() {
        println!("there is no `script` to make a pseudo-terminal: prompts are not looked at");
        return;
    }
    let at = &*SHARED;
    at.plane("asked");
    let exists = || at.run(&["get", "asked"]).code == 0;
    let start = || {
        let mut terminal = Terminal::start_after(at, "sleep 1", &["delete", "asked"]);
        // The answer to another question, before this one is put.
        terminal.types("y\r");
        terminal.sees("Do you want to delete plane asked");
        std::thread::sleep(Duration::from_millis(300));
        assert!(exists());
        terminal
    };
    for (keys, said) in [
        ("\r", "you did not confirm"),
        ("\u{4}", "you did not confirm"),
        ("no\r", "you did not confirm"),
        ("\u{3}", "^C"),
    ] {
        let mut terminal = start();
        terminal.types(keys);
        let (code, screen) = terminal.ends();
        assert!(code == if keys == "\u{3}" { 130 } else { 2 } && screen.contains(said) && exists(), "{code} {screen}");
    }
    let mut terminal = start();
    terminal.types("what\r");
    terminal.sees("answer y or n");
    terminal.sees("[y/N] ");
    terminal.types("y");
    std::thread::sleep(Duration::from_millis(500));
    assert!(exists(), "no Enter yet");
    terminal.types("\r");
    assert_eq!(terminal.ends().0, 0);
    assert!(!exists());
}
