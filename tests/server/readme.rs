//! The commands of the README and the examples.

use std::fs;
use std::process::Command;

use crate::control_plane::{Output, SHARED, finish};
use crate::planes::example;

stories!(
    Server:
        the_readmes_first_command_runs,
        the_readmes_tour_runs;
);

/// A folder that looks like the repository, in which a control plane of its own can run.
fn checkout() -> tempfile::TempDir {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    // The folders are real, so that `..` in them leads here and not into the repository.
    for path in ["tests/control-plane", "target/control-plane", "examples"] {
        fs::create_dir_all(folder.path().join(path)).unwrap();
    }
    let link =
        |path: std::path::PathBuf| std::os::unix::fs::symlink(root.join(&path), folder.path().join(&path)).unwrap();
    for listed in ["tests/control-plane", "examples"] {
        for entry in fs::read_dir(root.join(listed)).unwrap() {
            link(std::path::Path::new(listed).join(entry.unwrap().file_name()));
        }
    }
    link("src".into());
    link("target/control-plane/bin".into());
    folder
}

/// Runs the README's blocks of a kind there; a failing command ends them.
fn run_readme(fence: &str, folder: &std::path::Path) -> Output {
    let readme = include_str!("../../README.md");
    let block = readme.split(&format!("\n{fence}\n")).nth(1).unwrap().split("\n```").next().unwrap();
    let binaries = std::path::Path::new(env!("CARGO_BIN_EXE_choreoctl")).parent().unwrap();
    let path = format!("{}:{}", binaries.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-euxc", block]).current_dir(folder).env("PATH", path).env_remove("KUBECONFIG");
    command.env("CHOREOCTL", env!("CARGO_BIN_EXE_choreoctl"));
    finish(command, "")
}

fn the_readmes_first_command_runs() {
    let folder = checkout();
    let output = run_readme("```sh", folder.path()).expect(0);
    for word in ["demo/ca.crt", "demo/tls.crt", "1 file, 1 plane: no findings", "choreoctl apply -f demo/plane.yaml"] {
        assert!(output.stdout.contains(word), "{word} in {}", output.stdout);
    }
    let at = &*SHARED;
    let mut command = Command::new("bash");
    command.args([&example("provision.sh"), "provisioned"]).current_dir(at.path()).env("KUBECONFIG", at.kubeconfig());
    command.env("CHOREOCTL", env!("CARGO_BIN_EXE_choreoctl")).env("APPLY", "yes");
    assert!(finish(command, "").expect(0).stdout.contains("/provisioned created"));
    at.run(&["get", "provisioned"]).expect(0);
}

fn the_readmes_tour_runs() {
    let folder = checkout();
    let output = run_readme("```sh tour", folder.path()).expect(0);
    // `#>` begins what a command prints, with `…` for what differs each time.
    let readme = include_str!("../../README.md");
    let promised: Vec<_> = readme.lines().filter_map(|line| line.strip_prefix("#> ")).collect();
    assert!(promised.len() > 4);
    for line in promised {
        let is_it = |printed: &str| {
            let mut rest = Some(printed);
            line.split('…').for_each(|part| rest = rest.and_then(|rest| Some(rest.split_once(part.trim())?.1)));
            rest.is_some()
        };
        assert!(output.stdout.lines().any(is_it), "no {line:?} in {}", output.stdout);
    }
}
