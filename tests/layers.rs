//! Who may import whom: a module only from those below it, and a crate only in its rooms.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules, from the top down.
const ORDER: [&str; 18] = [
    "main", "cli", "commands", "args", "complete", "render", "plan", "doctor", "cluster", "gateway", "validate", "pki",
    "manifest", "plane", "term", "paint", "text", "secrets",
];

/// What stands in one place only, and where.
const ROOMS: [(&str, &[&str]); 18] = [
    ("kube::Client", &["cluster"]),
    ("kube::api", &["cluster"]),
    ("kube::runtime", &["cluster"]),
    ("kube::config", &["cluster"]),
    ("kube::client", &["cluster"]),
    ("kube::Config", &["cluster"]),
    ("hyper", &["cluster", "gateway"]),
    ("hyper_util", &["cluster", "gateway"]),
    ("tokio_rustls", &["gateway"]),
    ("rcgen", &["pki"]),
    ("x509_parser", &["pki"]),
    ("granit_parser", &["manifest"]),
    ("serde_saphyr", &["manifest"]),
    ("kube_cel", &["validate"]),
    ("rayon", &["commands"]),
    ("comfy_table", &["render"]),
    ("annotate_snippets", &["render"]),
    ("dialoguer", &["term"]),
];

/// Crates and calls that write to a stream or to the terminal.
const WRITERS: [&str; 7] = ["io::stdout", "io::stderr", "println!", "eprintln!", "print!(", "indicatif::", "colored::"];

fn sources(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// The modules that know nothing of a terminal.
const PURE: [&str; 8] = ["render", "plan", "doctor", "gateway", "validate", "pki", "manifest", "plane"];

/// Every source file with its module and its text, tests and comments left out.
fn modules() -> Vec<(String, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |path: PathBuf| {
        let relative = path.strip_prefix(&root).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("\n#[cfg(test)]\npub(crate) mod tests").next().unwrap();
        let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap();
        let text = text.split("\n#[cfg(all(test, unix))]\nmod tests").next().unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        (first.trim_end_matches(".rs").to_owned(), path.clone(), code.collect::<Vec<_>>().join("\n"))
    };
    files.into_iter().map(module).collect()
}

/// Whether a path such as `kube::api` is named in the code, as itself and not as a part of another name.
fn names(code: &str, path: &str) -> bool {
    code.match_indices(path).any(|(at, _)| {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        let after = code[at + path.len()..].chars().next().unwrap_or(' ');
        !before.is_alphanumeric() && !matches!(before, '_' | ':' | '.') && !after.is_alphanumeric() && after != '_'
    })
}

#[test]
fn imports_go_down() {
    let level = |module: &str| ORDER.iter().position(|known| *known == module);
    for (module, path, code) in modules() {
        let own = level(&module).unwrap_or_else(|| panic!("{} is in no room", path.display()));
        for (above, name) in ORDER.iter().enumerate().filter(|(above, _)| *above < own) {
            assert!(
                !names(&code, &format!("crate::{name}")),
                "{} imports {name}, level {above} above {own}",
                path.display()
            );
        }
    }
}

#[test]
fn pure_modules_know_no_terminal() {
    for (module, path, code) in modules().into_iter().filter(|(module, ..)| PURE.contains(&module.as_str())) {
        assert!(!names(&code, "crate::term"), "{}, of {module}, imports term", path.display());
    }
}

#[test]
fn the_table_of_the_map_is_this_one() {
    let main = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/main.rs")).unwrap();
    let rows = main.lines().filter_map(|line| line.strip_prefix("//! | `")?.split('`').next());
    assert_eq!(rows.collect::<Vec<_>>(), ORDER);
}

#[test]
fn crates_stay_in_their_rooms() {
    for (module, path, code) in modules() {
        for (name, rooms) in ROOMS {
            assert!(rooms.contains(&module.as_str()) || !names(&code, name), "{} uses {name}", path.display());
        }
    }
}

#[test]
fn only_the_terminal_layer_writes() {
    for (module, path, code) in modules() {
        for writer in WRITERS {
            assert!(
                matches!(module.as_str(), "term" | "paint") || !code.contains(writer),
                "{} uses {writer}",
                path.display()
            );
        }
    }
}
