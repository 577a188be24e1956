//! Transcripts: what a user types and gets, in tests/cmd and in the README. `TRYCMD=overwrite` writes them anew.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs::{File, OpenOptions};
use std::process::{Command, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_choreoctl");

#[test]
fn transcripts() {
    trycmd::TestCases::new()
        .env("KUBECONFIG", "/nothing")
        .env("HOME", "/nothing")
        .env("COLUMNS", "100")
        .case("tests/cmd/*.trycmd")
        .case("README.md");
}

#[test]
fn a_full_disk_is_an_error() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(BINARY).args(["crd", "-q"]).stdout(full).stderr(Stdio::piped()).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("could not write to standard output") && error.contains("No space left"), "{error}");
}

#[test]
fn a_file_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.yaml");
    File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let output = Command::new(BINARY).arg("validate").arg(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("larger than 64 MiB"));
}

#[test]
fn a_hostile_subject_is_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(BINARY).args(args).current_dir(&folder).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!text.contains(|c: char| (c.is_control() && c != '\n') || c == '\u{202e}'), "{args:?}: {text:?}");
        (output.status.code(), text)
    };
    let evil = "\u{1b}[2J\u{202e}x\ny";
    assert_eq!(run(&["certs", "ca", "--out-dir", "ca", "--name", evil]).0, Some(2));
    std::fs::create_dir(folder.path().join("ca")).unwrap();
    let subject = format!("/O=OpenChoreo/CN={evil}");
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-utf8",
        "-keyout",
        "ca/ca.key",
        "-out",
        "ca/ca.crt",
        "-subj",
    ]);
    assert!(openssl.arg(&subject).current_dir(&folder).output().unwrap().status.success());
    let (_, table) = run(&["certs", "inspect", "ca/ca.crt"]);
    assert!(table.contains(r"\u{1b}[2J\u{202e}x\ny") && table.lines().count() == 2, "{table}");
    let (_, json) = run(&["certs", "inspect", "ca/ca.crt", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["certificates"][0]["subject"], format!("O=OpenChoreo, CN={evil}"));
    assert_eq!(run(&["certs", "client", "--plane-id", "a", "--ca-dir", "ca", "--out-dir", "leaf"]).0, Some(0));
    let leaf = ["certs", "client", "--plane-id", "a", "--ca-cert", "leaf/tls.crt", "--ca-key", "leaf/tls.key"];
    assert_eq!(run(&[&leaf[..], &["--out-dir", "other"]].concat()).0, Some(2));
    let (_, yaml) = run(&[
        "create",
        "a",
        "--client-ca-file",
        "ca/ca.crt",
        "--display-name",
        evil,
        "--dry-run",
        "client",
        "-o",
        "yaml",
    ]);
    std::fs::write(folder.path().join("plane.yaml"), &yaml).unwrap();
    let (code, page) = run(&["describe", "-f", "plane.yaml"]);
    assert!(code == Some(0) && page.matches(r"\u{1b}[2J").count() == 2, "{page}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told() {
    for folder in ["/proc/choreoctl", "/dev/null", "/dev/null/below"] {
        let output = Command::new(BINARY).args(["certs", "ca", "--out-dir", folder]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(folder), "{error}");
    }
}

/// Nothing comes through the pipe, and a key of this size takes a while: a signal ends both at once.
#[test]
fn a_signal_ends_what_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let large_key = ["certs", "ca", "--out-dir", "ca", "--key-algorithm", "rsa-4096"];
    for args in [&["validate", "-"][..], &large_key] {
        let mut command = Command::new(BINARY);
        let mut child =
            command.args(args).current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        // Kept open: to wait for a child closes its standard input.
        let _open = child.stdin.take();
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        let code = child.wait().unwrap().code();
        let made = folder.path().join("ca/ca.key").exists();
        assert!(code == Some(130) || (code == Some(0) && made), "{args:?}: {code:?}");
    }
}

/// A person at a terminal, by way of util-linux's `script`, which makes a pseudo-terminal.
#[test]
fn what_is_missing_is_asked_for() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a pseudo-terminal");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Name, planeID as proposed, the second choice (a Secret), the Secret.
    let typing = r"for keys in 'asked\r' '\r' '\033[B' '\r' 'ns/ca\r'; do sleep 0.8; printf $keys; done; sleep 0.5";
    let pipeline =
        format!("({typing}) | script -qec \"{BINARY} create --dry-run client -o yaml >made.yaml\" /dev/null");
    let output =
        Command::new("bash").args(["-c", &pipeline]).current_dir(folder.path()).env("TERM", "xterm").output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    let made = std::fs::read_to_string(folder.path().join("made.yaml")).unwrap();
    assert!(screen.contains("Name of the plane") && screen.contains("Secret, as NAMESPACE/NAME"), "{screen}");
    assert!(made.contains("planeID: asked") && made.contains("namespace: ns"), "{made}\n{screen}");
}
