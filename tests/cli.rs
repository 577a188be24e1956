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
        .case("README.md")
        .case("docs/*.md");
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
fn a_folder_that_cannot_be_written_is_reported() {
    for folder in ["/proc/choreoctl", "/dev/null", "/dev/null/below"] {
        let output = Command::new(BINARY).args(["certs", "ca", "--out-dir", folder]).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && error.contains(folder.trim_end_matches("/below")), "{error}");
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

/// Runs `create` in a pseudo-terminal that util-linux's `script` makes, after a second in which it is not running yet.
/// Each of the keys is typed some time after the one before. Returns the screen, and the manifest. None without `script`.
fn typed(keys: &[&str]) -> Option<(String, String)> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).status().is_err() {
        println!("skipped: there is no `script` to make a pseudo-terminal");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let keys: Vec<_> = keys.iter().map(|keys| format!("'{keys}'")).collect();
    let typing = format!("for keys in {}; do sleep 0.8; printf $keys; done; sleep 0.5", keys.join(" "));
    let line = format!("sleep 1.2; {BINARY} create --dry-run client -o yaml >made.yaml; echo exit $?");
    let pipeline = format!("({typing}) | script -qec \"{}\" /dev/null", line.replace('$', "\\$"));
    let mut shell = Command::new("bash");
    shell.args(["-c", &pipeline]).current_dir(folder.path()).env("TERM", "xterm").env("NO_COLOR", "1");
    let output = shell.output().unwrap();
    let made = std::fs::read_to_string(folder.path().join("made.yaml")).unwrap();
    Some((String::from_utf8_lossy(&output.stdout).into_owned(), made))
}

#[test]
fn a_prompt_waits_for_enter_and_ignores_what_was_typed_before() {
    // Too early; then the name, planeID as proposed, the second choice (a Secret), and the Secret.
    let keys = [r"early\r", r"as\177sked\r", r"\r", r"\033[B", r"\r", r"ns/ca\r"];
    let Some((screen, made)) = typed(&keys) else {
        return;
    };
    assert!(screen.contains("Name of the plane") && screen.contains("Secret, as NAMESPACE/NAME"), "{screen}");
    assert!(made.contains("planeID: asked") && made.contains("namespace: ns"), "{made}\n{screen}");
}

#[test]
fn a_prompt_asks_again_until_the_input_ends() {
    // Too early; then no name, a name, planeID as proposed, the first choice (a file), no file, and the end of input.
    let Some((screen, made)) = typed(&["", r"\r", r"asked\r", r"\r", r"\r", r"\r", r"\004"]) else {
        return;
    };
    for text in ["error: a name has lower-case letters", "error: write the path of a file", "input ended", "exit 2"] {
        assert!(screen.contains(text), "no {text:?} in {screen}");
    }
    assert_eq!(made, "");
}

/// A folder with files of these names and texts.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

const PLANE: &str = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata:\n  name: a\n";
const FIXABLE: &str = "spec:\n  # as in the agent's values\n  planeId: a\n  clusterAgent: {clientCA: {secretRef: {namespace: s, name: a, key: k}}}\n";

fn validate(folder: &tempfile::TempDir, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(BINARY).arg("validate").args(args).current_dir(folder).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[test]
fn many_files_are_judged_in_order() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..1500 {
        let text = format!("{PLANE}spec: {{planeID: A{number}}}\n").replace("name: a", &format!("name: a{number}"));
        std::fs::write(folder.path().join(format!("{number:04}.yaml")), text).unwrap();
    }
    std::fs::write(folder.path().join("0007.yaml"), b"\xff").unwrap();
    let (code, out, error) = validate(&folder, &["-o", "json", "."]);
    assert!(code == 2 && error.contains("0007.yaml is not text"), "{code} {error}");
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    let files: Vec<_> = found["findings"].as_array().unwrap().iter().map(|f| f["file"].as_str().unwrap()).collect();
    assert!(files.is_sorted() && files.len() == 2 * 1499, "{}", files.len());
    assert_eq!((&found["files"], &found["planes"]), (&1499.into(), &1499.into()));
}

#[test]
fn files_are_fixed_in_place() {
    let text = format!("{PLANE}{FIXABLE}");
    let marked = format!("\u{feff}{text}");
    let folder = files(&[
        ("a.yaml", &text),
        ("b/c.yml", &text),
        ("good.yaml", &text.replace("planeId", "planeID")),
        ("marked.yaml", &marked),
    ]);
    let path = |name: &str| folder.path().join(name);
    std::os::unix::fs::symlink("../a.yaml", path("b/link.yaml")).unwrap();
    std::fs::set_permissions(path("a.yaml"), std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    let read = |name: &str| std::fs::read_to_string(path(name)).unwrap();
    let (code, shown, _) = validate(&folder, &["--fix", "--dry-run", "server", "a.yaml"]);
    assert!(code == 1 && shown.contains("-  planeId: a\n+  planeID: a\n") && read("a.yaml") == text, "{shown}");
    let (_, _, error) = validate(&folder, &["--fix", "a.yaml", "b", "good.yaml", "marked.yaml"]);
    let fixed = text.replace("planeId", "planeID");
    assert!(error.contains("a.yaml: 1 finding fixed") && error.contains("marked.yaml is not fixed"), "{error}");
    assert_eq!((read("a.yaml"), read("b/c.yml"), read("good.yaml")), (fixed.clone(), fixed.clone(), fixed));
    assert_eq!(read("marked.yaml"), marked);
    assert!(path("b/link.yaml").is_symlink());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(path("a.yaml")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 4, "no temporary file stays");
}

#[test]
fn manifests_are_migrated_in_place_below_a_folder_or_through_a_pipe() {
    let text = format!("{PLANE}{}", FIXABLE.replace("planeId", "planeID"));
    let migrated = text.replace("ClusterBuildPlane", "ClusterWorkflowPlane").replace("secretRef", "secretKeyRef");
    let marked = format!("\u{feff}{text}");
    let folder = files(&[("a/a.yaml", &text), ("a/b/c.yml", &text), ("marked.yaml", &marked)]);
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let migrate = |args: &[&str], input: &str| {
        let mut command = Command::new(BINARY);
        command.arg("migrate").args(args).current_dir(&folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    };
    let (code, out, error) = migrate(&["-f", "-", "-q"], &text);
    assert_eq!((code, out), (0, migrated.clone()));
    assert!(error.contains("1 file, 1 changed: 2 changes"), "{error}");
    assert_eq!(migrate(&["-f", "-", "--output", "json"], &migrated).1, migrated);
    let (code, out, _) = migrate(&["-f", "a", "-R", "-f", "marked.yaml", "-o", "new"], "");
    assert!(code == 0 && out.ends_with("3 files, 3 changed: 6 changes\n"), "{out}");
    for (before, after) in
        [("a/a.yaml", "new/a.yaml"), ("a/b/c.yml", "new/b/c.yml"), ("marked.yaml", "new/marked.yaml")]
    {
        assert_eq!((read(before).trim_start_matches('\u{feff}'), read(after)), (text.as_str(), migrated.clone()));
    }
    // Without -R only what is in the folder itself.
    assert_eq!(migrate(&["-f", "a"], "").0, 0);
    assert_eq!((read("a/a.yaml"), read("a/b/c.yml")), (migrated, text));
    let (code, out, _) = migrate(&["-f", "marked.yaml", "-f", "a"], "");
    assert!(
        code == 1
            && out.contains("marked.yaml:1: by hand: the file is not changed: it begins with a byte order mark")
            && read("marked.yaml") == marked,
        "{out}"
    );
    let (code, _, error) = migrate(&["-f", "marked.yaml", "-o", "a/a.yaml"], "");
    assert!(code == 2 && error.contains("a/a.yaml is not a folder"), "{error}");
    let (_, _, error) = migrate(&["-f", "a/b/c.yml", "-f", "a/b/c.yml"], "");
    assert!(error.ends_with("next: choreoctl validate a/b/c.yml --release v1.2\n"), "{error}");
    std::fs::remove_dir_all(folder.path().join("a/b")).unwrap();
    std::fs::write(folder.path().join("a/bad.yaml"), b"\xff").unwrap();
    let (code, out, error) = migrate(&["-f", "a", "-R"], "");
    assert!(
        code == 2 && out.contains("1 file, nothing to change") && error.contains("a/bad.yaml is not text"),
        "{out}{error}"
    );
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", folder.path().join("a/link.yaml")).unwrap();
        std::os::unix::fs::symlink("user@host.1", folder.path().join("a/.#a.yaml")).unwrap();
        let (code, _, error) = migrate(&["-f", "a"], "");
        assert!(code == 2 && error.contains("a/link.yaml does not exist") && !error.contains(".#a"), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn a_file_with_other_hard_links_is_warned_of() {
    let text = format!("{PLANE}{FIXABLE}");
    let folder = files(&[("a.yaml", &text), ("alone.yaml", &text)]);
    std::fs::hard_link(folder.path().join("a.yaml"), folder.path().join("same")).unwrap();
    let (_, _, error) = validate(&folder, &["--fix", "a.yaml", "alone.yaml"]);
    assert!(error.contains("warning: a.yaml had 2 hard links: the others still have the old content"), "{error}");
    assert_eq!(error.matches("hard links").count(), 1, "{error}");
    assert_eq!(std::fs::read_to_string(folder.path().join("same")).unwrap(), text);
}

#[test]
#[cfg(target_os = "linux")]
fn memory_with_keys_is_not_dumped() {
    let script = format!("ulimit -S -c hard; exec {BINARY} validate -");
    let mut child = Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    let started = std::time::Instant::now();
    // It is set before anything is read, but the process has to get there.
    let limited = loop {
        let text = std::fs::read_to_string(&limits).unwrap();
        let soft = text
            .lines()
            .find(|line| line.starts_with("Max core file size"))
            .and_then(|line| line.split_whitespace().nth(4));
        if soft == Some("0") || started.elapsed() > std::time::Duration::from_secs(5) {
            break soft == Some("0");
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(limited, "core dumps are not switched off");
}

#[test]
fn mending_goes_on_when_nobody_reads() {
    let text = format!("{PLANE}{FIXABLE}");
    let names: Vec<_> = (0..40).map(|number| format!("{number}.yaml")).collect();
    let folder = files(&names.iter().map(|name| (name.as_str(), text.as_str())).collect::<Vec<_>>());
    // Findings that stay, so that there is something to print.
    std::fs::write(folder.path().join("00.yaml"), format!("{PLANE}  colour: a\n{FIXABLE}")).unwrap();
    let script = format!("{BINARY} validate --fix . | true; exit ${{PIPESTATUS[0]}}");
    let status = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output().unwrap().status;
    assert_eq!(status.code(), Some(1));
    for name in names {
        assert!(!std::fs::read_to_string(folder.path().join(&name)).unwrap().contains("planeId"), "{name}");
    }
}

#[test]
fn what_mending_brings_to_light_is_fixed_too() {
    let text = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nMetadata: {name: 'on'}\nspec:\n  ClusterAgent: {clientCA: {SecretRef: {name: a, namespace: b, key: c}}}\n";
    let folder = files(&[(
        "a.yaml",
        &format!("{text}---\n{}", text.replace("'on'", "b").replace("spec:", "spec:\n  PLANEID: on")),
    )]);
    let (code, out, _) = validate(&folder, &["--fix", "--dry-run", "client", "-o", "json", "a.yaml"]);
    assert!(code == 1 && serde_json::from_str::<serde_json::Value>(&out).is_ok(), "{out}");
    let (code, out, _) = validate(&folder, &["--fix", "a.yaml"]);
    let fixed = std::fs::read_to_string(folder.path().join("a.yaml")).unwrap();
    assert!(fixed.contains("  planeID: \"on\"\n  clusterAgent: {clientCA: {secretRef"), "{fixed}");
    // What is not a slip stays: a planeID that is a boolean.
    assert!(
        code == 1 && fixed.contains("  planeID: on\n") && out.contains("1 file, 2 planes: 1 error"),
        "{out}{fixed}"
    );
    let (_, _, error) = validate(&folder, &["--fix", "a.yaml"]);
    assert!(!error.contains("fixed"), "{error}");
}

#[test]
fn files_are_found_once_and_pipes_left_alone() {
    let folder =
        files(&[("d/a.yaml", &format!("{PLANE}{}", FIXABLE.replace("planeId", "planeID"))), ("d/x/b.txt", "")]);
    std::os::unix::fs::symlink("a.yaml", folder.path().join("d/link.yaml")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path().join("d/pipe.yaml")).status().unwrap().success());
    let (code, out, _) = validate(&folder, &["d", "d/a.yaml", "./d/../d/a.yaml", "--strict"]);
    assert!(code == 0 && out == "1 file, 1 plane: no findings\n", "{out}");
    let (code, out, error) = validate(&folder, &["d/x", "none", "d"]);
    assert!(code == 2 && out.starts_with("1 file, 1 plane") && error.matches("error:").count() == 2, "{out}{error}");
}

#[test]
fn sarif_is_sarif() {
    let folder = files(&[("größe.yaml", &format!("{PLANE}{FIXABLE}")), ("none.yaml", "kind: ConfigMap\n")]);
    for (args, results) in [(&["größe.yaml"][..], 1), (&["none.yaml"], 1), (&["--list-rules"], 0)] {
        let (_, out, _) = validate(&folder, &[&["-o", "sarif"], args].concat());
        let log: serde_json::Value = serde_json::from_str(&out).unwrap();
        // What the schema doesn't have would be lost on the way.
        let typed: serde_sarif::sarif::Sarif = serde_json::from_value(log.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap(), log);
        assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), results, "{out}");
    }
    let (_, out, _) = validate(&folder, &["-o", "sarif", "größe.yaml"]);
    let log: serde_json::Value = serde_json::from_str(&out).unwrap();
    let result = &log["runs"][0]["results"][0];
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "gr%C3%B6%C3%9Fe.yaml");
    let region = serde_json::json!({"startLine": 7, "startColumn": 3, "endLine": 7, "endColumn": 10});
    assert_eq!(place["region"], region);
    let change = serde_json::json!({"deletedRegion": region, "insertedContent": {"text": "planeID"}});
    assert_eq!(result["fixes"][0]["artifactChanges"][0]["replacements"][0], change);
}

/// Each is judged in two minutes with an address space of 3 GiB, which a debug build needs some of for itself.
#[test]
fn hostile_files_end_soon_and_in_little_memory() {
    let wide = |levels: usize| {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..levels {
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 10].join(", ")));
        }
        bomb
    };
    let certificate = "-----BEGIN CERTIFICATE-----\\nAAAA\\n-----END CERTIFICATE-----\\n";
    let texts = [
        ("bomb.yaml", wide(12)),
        ("bombs.yaml", format!("{}---\n", wide(4)).repeat(3000)),
        ("deep-flow.yaml", "[".repeat(10_000)),
        ("deep-block.yaml", (0..10_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect()),
        ("deep.json", "{\"a\":".repeat(10_000)),
        ("scalar.yaml", format!("{PLANE}spec: {{planeID: {}}}\n", "a".repeat(60_000_000))),
        ("documents.yaml", "---\na: 1\n".repeat(1_000_000)),
        ("planes.yaml", format!("---\n{PLANE}").replace("metadata:\n  name: a\n", "").repeat(100_000)),
        ("items.yaml", format!("{PLANE}spec: [{}]\n", "1,".repeat(1_000_000))),
        ("keys.yaml", format!("{PLANE}spec:\n{}", (0..200_000).map(|i| format!("  k{i}: 1\n")).collect::<String>())),
        (
            "certificates.yaml",
            format!(
                "{PLANE}spec: {{planeID: a, clusterAgent: {{clientCA: {{value: \"{}\"}}}}}}\n",
                certificate.repeat(20_000)
            ),
        ),
        (
            "owners.yaml",
            PLANE.to_owned()
                + "  ownerReferences:\n"
                + &"  - {apiVersion: v1, kind: A, name: a, uid: u}\n".repeat(20_000),
        ),
        ("tabs.yaml", format!("{PLANE}spec:\n{}", "\t".repeat(10_000_000))),
    ];
    for (name, text) in texts {
        let folder = files(&[(name, &text)]);
        let script = format!("ulimit -v 3145728; exec timeout 120 {BINARY} validate {name}");
        let output = Command::new("bash").args(["-c", &script]).current_dir(&folder).output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout);
        let reported = shown.lines().last().unwrap_or_default();
        assert!(matches!(output.status.code(), Some(0 | 1)) && reported.starts_with("1 file, "), "{name}: {output:?}");
        assert!(shown.len() < 16 << 20, "{name}: {}", shown.len());
    }
}

/// The commands that the examples for pre-commit and CI run.
#[test]
fn the_hooks_commands_run() {
    let read = |name: &str| std::fs::read_to_string(format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let yaml = |name: &str| serde_yaml::from_str::<serde_json::Value>(&read(name)).unwrap();
    let folder = files(&[("clusters/a.yaml", &format!("{PLANE}{FIXABLE}"))]);
    let run = |command: &str| {
        let path =
            format!("{}:{}", std::path::Path::new(BINARY).parent().unwrap().display(), std::env::var("PATH").unwrap());
        let done = Command::new("bash").args(["-c", command]).env("PATH", path).current_dir(&folder).output().unwrap();
        assert_eq!(done.status.code(), Some(1), "{command}: {done:?}");
    };
    let hook = &yaml("pre-commit-config.yaml")["repos"][0]["hooks"][0];
    run(&format!("{} clusters/a.yaml", hook["entry"].as_str().unwrap()));
    let steps = yaml("ci.yaml")["jobs"]["validate"]["steps"].clone();
    let command = steps
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|step| step["run"].as_str())
        .find(|run| run.starts_with("choreoctl"));
    run(command.unwrap());
    assert!(std::fs::read_to_string(folder.path().join("planes.sarif")).unwrap().contains("unknown-field"));
}

#[test]
fn a_plugin_of_kubectl_names_itself_so() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-choreo");
    std::os::unix::fs::symlink(BINARY, &plugin).unwrap();
    let said = |args: &[&str]| {
        let output = Command::new(&plugin).args(args).env("KUBECONFIG", "/nothing").output().unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let help = said(&["get", "-h"]);
    assert!(help.contains("Usage: kubectl choreo get ") && help.contains("\n  kubectl choreo get planes -A"));
    assert!(help.contains("kubectl get cbp -o yaml | kubectl choreo get -f -"), "{help}");
    assert!(said(&["health"]).contains("`kubectl choreo status`"));
    assert!(said(&["validate"]).contains("hint: kubectl choreo validate FILE"));
}

#[test]
fn the_index_of_a_release_has_the_sums_of_its_archives() {
    let folder = tempfile::tempdir().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for target in ["x86_64-unknown-linux-musl", "aarch64-apple-darwin"] {
        std::fs::write(folder.path().join(format!("choreoctl-{version}-{target}.tar.gz")), target).unwrap();
    }
    let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packages/build"));
    build.arg("index").env("OUT_DIR", folder.path());
    assert!(!build.env_remove("REPOSITORY").output().unwrap().status.success(), "links need an address");
    let done = build.env("REPOSITORY", "https://example.com/choreoctl").output().unwrap();
    assert!(done.status.success(), "{done:?}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let sums = read("SHA256SUMS");
    let sum = |target: &str| {
        let name = format!("choreoctl-{version}-{target}.tar.gz");
        sums.lines().find_map(|line| line.strip_suffix(&name)).unwrap().trim().to_owned()
    };
    let plugin: serde_json::Value = serde_yaml::from_str(&read("choreo.yaml")).unwrap();
    let platforms = plugin["spec"]["platforms"].as_array().unwrap();
    let listed: Vec<_> = platforms.iter().map(|one| one["sha256"].as_str().unwrap()).collect();
    assert_eq!(listed, [sum("x86_64-unknown-linux-musl"), sum("aarch64-apple-darwin")]);
    let base = format!("https://example.com/choreoctl/releases/download/v{version}");
    assert_eq!(platforms[0]["uri"], format!("{base}/choreoctl-{version}-x86_64-unknown-linux-musl.tar.gz"));
    let formula = read("choreoctl.rb");
    for target in ["x86_64-unknown-linux-musl", "aarch64-apple-darwin"] {
        assert!(formula.contains(&format!("sha256 \"{}\"", sum(target))), "{formula}");
    }
    assert_eq!(formula.matches("url \"").count(), 2);
}

/// Draws the README's picture from a real run, for light and for dark pages. `SNAPSHOTS=overwrite` writes them anew.
#[test]
fn the_pictures_show_what_doctor_prints() {
    use anstyle_svg::Term;
    use snapbox::{assert_data_eq, file};
    let command = "choreoctl doctor shared-builder -f examples/dump.yaml";
    let mut doctor = Command::new(BINARY);
    doctor.args(command.split(' ').skip(1)).arg("-q").env("CLICOLOR_FORCE", "1").env("COLUMNS", "100");
    let printed = doctor.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap().stdout;
    // A command that does not fit is cut off, as in a terminal without wrapping.
    let printed = String::from_utf8(printed).unwrap();
    let lines = printed.lines().map(|line| console::truncate_str(line, 100, "…").into_owned());
    let text = format!("$ {command}\n{}", lines.collect::<Vec<_>>().join("\n"));
    let [black, white] = [anstyle::AnsiColor::Black, anstyle::AnsiColor::BrightWhite].map(anstyle::Color::Ansi);
    let drawn = |term: Term| term.min_width_px(840).render_svg(&text);
    assert_data_eq!(drawn(Term::new().fg_color(black).bg_color(white)), file!["../docs/doctor-light.svg": Text]);
    assert_data_eq!(drawn(Term::new().fg_color(white).bg_color(black)), file!["../docs/doctor-dark.svg": Text]);
}
