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

/// A person at a terminal, by way of util-linux's `script`, which makes a pseudo-terminal.
#[test]
fn what_is_missing_is_asked_for() {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a pseudo-terminal");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Name, planeID as proposed, the second choice (a Secret), the Secret.
    let typing = r"for keys in 'asked\r' '\r' '\033[B' '\r' 'ns/ca\r'; do sleep 0.4; printf $keys; done; sleep 0.5";
    let pipeline =
        format!("({typing}) | script -qec \"{BINARY} create --dry-run client -o yaml >made.yaml\" /dev/null");
    let output =
        Command::new("bash").args(["-c", &pipeline]).current_dir(folder.path()).env("TERM", "xterm").output().unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    let made = std::fs::read_to_string(folder.path().join("made.yaml")).unwrap();
    assert!(screen.contains("Name of the plane") && screen.contains("Secret, as NAMESPACE/NAME"), "{screen}");
    assert!(made.contains("planeID: asked") && made.contains("namespace: ns"), "{made}\n{screen}");
}
