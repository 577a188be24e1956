//! Hints as they are printed, pasted into a shell.

use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::control_plane::{Output, finish};
use super::estate::Estate;
use super::openchoreo;

/// The charts' place, which can't be reached here.
const CHARTS: &str = "oci://ghcr.io/openchoreo/helm-charts";

/// Helm, built once.
pub static HELM: LazyLock<std::path::PathBuf> = LazyLock::new(|| {
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/helm");
    let mut build = Command::new("go");
    build.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(&program).arg("helm.sh/helm/v3/cmd/helm");
    assert!(build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm")).status().unwrap().success());
    program
});

/// Writes the chart of each family, which differ in their names, below a folder. On OpenChoreo's programs they are its own,
/// of that release or of the one that has the family.
fn charts(at: &Estate, folder: &str) {
    if let Some(release) = openchoreo::release() {
        let folder = at.control.path().join(folder);
        std::fs::create_dir(&folder).unwrap();
        for release in [release, openchoreo::V0_17, openchoreo::V1_2] {
            for entry in std::fs::read_dir(release.path("charts")).unwrap().map(Result::unwrap) {
                let own = folder.join(entry.file_name());
                if !own.exists() {
                    std::os::unix::fs::symlink(entry.path(), own).unwrap();
                }
            }
        }
        // What two of them demand, and have no default for.
        let gateway = json!({"gateway": {"tls": {"hostname": "*.example.com"}}});
        let url = json!([{"name": "OBSERVER_BASE_URL", "value": "http://observer.example.com"}]);
        let observer = json!({"observer": {"controlPlaneApiUrl": "http://api.example.com", "extraEnvs": url}});
        std::fs::write(folder.join("openchoreo-data-plane.json"), gateway.to_string()).unwrap();
        std::fs::write(folder.join("openchoreo-observability-plane.json"), observer.to_string()).unwrap();
        return;
    }
    let chart = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helm/chart");
    for family in ["build", "workflow", "data", "observability"] {
        let own = format!("{folder}/openchoreo-{family}-plane");
        std::fs::create_dir_all(at.control.path().join(&own).join("templates")).unwrap();
        for part in ["", "templates"] {
            for entry in std::fs::read_dir(chart.join(part)).unwrap().map(Result::unwrap) {
                if entry.path().is_file() {
                    let text = std::fs::read_to_string(entry.path()).unwrap();
                    let text = text.replace("build-plane", &format!("{family}-plane"));
                    let mut text = text.replace("buildplane", &format!("{family}plane"));
                    if family != "build" {
                        text = text.replace("0.17.0", "1.2.3");
                    }
                    at.control.write(&format!("{own}/{part}/{}", entry.file_name().to_string_lossy()), &text);
                }
            }
        }
    }
}

/// A folder of programs for a shell: the binary, kubectl, and helm with the tests' charts in the place of the real ones.
pub fn programs(at: &Estate) -> String {
    let folder = at.control.path().join("programs");
    if !folder.exists() {
        std::fs::create_dir(&folder).unwrap();
        charts(at, "programs/charts");
        let helm = format!(
            "#!/bin/sh\nfor word; do\n  shift\n  case $word in {CHARTS}/*) word={}/charts/${{word##*/}} chart=$word ;; esac\n  set -- \"$@\" \"$word\"\ndone\n[ ! -f \"$chart.json\" ] || set -- \"$@\" --values \"$chart.json\"\nexec {} \"$@\"\n",
            folder.display(),
            HELM.display()
        );
        let helm = at.control.write("programs/helm", &helm);
        std::fs::set_permissions(helm, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let kubectl = at.control.kubectl_command(&[]);
        std::os::unix::fs::symlink(kubectl.get_program(), folder.join("kubectl")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_choreoctl"), folder.join("choreoctl")).unwrap();
    }
    folder.to_string_lossy().into_owned()
}

/// Runs a command line as a person would who answers its question with yes.
pub fn paste(at: &Estate, line: &str) -> Output {
    let confirmed = if line.starts_with("choreoctl certs rotate") { format!("{line} --yes") } else { line.to_owned() };
    finish(shell(at, &confirmed), "")
}

/// A shell with all programs and the control plane's kubeconfig.
pub fn shell(at: &Estate, line: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(at.control.path());
    shell.env("PATH", format!("{}:/usr/bin:/bin", programs(at))).env("KUBECONFIG", at.control.kubeconfig());
    shell.env("HOME", at.control.path());
    shell
}

/// The hints of a check, by kind.
fn hints(check: &Value, kind: &str) -> Vec<String> {
    let hints = check["hints"].as_array().unwrap().iter().filter(|hint| hint["kind"] == kind);
    hints.map(|hint| hint["text"].as_str().unwrap().to_owned()).collect()
}

/// Pastes what a check hints at: commands that look must work, and each command that fixes must remove the fault, which is
/// made anew for every further one. Prints a row of a table, and returns what is wrong.
pub fn try_out(
    at: &Estate,
    situation: &str,
    check: &Value,
    remake: impl Fn() -> Value,
    is_fixed: impl Fn() -> bool,
) -> Vec<String> {
    let id = check["id"].as_str().unwrap();
    let mut wrong = Vec::new();
    let mut row = |kind: &str, line: &str, outcome: &str| {
        println!("| {situation} | {id} | {kind} | `{}` | {outcome} |", line.lines().next().unwrap_or_default());
        if outcome != "works" {
            wrong.push(format!("{situation}: {kind} of {id}: {line}: {outcome}"));
        }
    };
    for line in hints(check, "look") {
        // Logs are the kubelet's to give, and there is none.
        if line.contains(" logs ") {
            continue;
        }
        let output = paste(at, &line);
        let missing =
            ["NotFound", "not found", "doesn't have a resource type"].iter().any(|word| output.stderr.contains(word));
        // `validate` and `doctor` answer no by 1; kubectl says by it that something is missing, which is an answer, too.
        let works = output.code == 0 || (output.code == 1 && (line.contains("choreoctl") || missing));
        row("look", &line, if works { "works" } else { &output.stderr });
    }
    let mut check = check.clone();
    for number in 0..hints(&check, "fix").len() {
        if number > 0 {
            check = remake();
        }
        let line = hints(&check, "fix").remove(number);
        at.a_second_later();
        let _ = std::fs::remove_dir_all(at.control.path().join("sick-ca"));
        let output = paste(at, &line);
        let outcome = match output.code {
            0 if is_fixed() => "works".to_owned(),
            0 => "the fault stays".to_owned(),
            code => format!("exit code {code}: {}", output.stderr),
        };
        row("fix", &line, &outcome);
    }
    for line in hints(&check, "advice") {
        println!("| {situation} | {id} | hint | {} | not a command |", line.lines().next().unwrap_or_default());
    }
    wrong
}
