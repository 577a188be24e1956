//! What became of manifests that were migrated, file by file, and what a migration breaks on a running platform.

use serde_json::{Value, json};

use jiff::Timestamp;

use super::redacted_json;
use crate::migration::{Carried, Left};
use crate::paint;
use crate::plan::migrate::Problem;
use crate::secrets::redacted;
use crate::text::{count, program};

/// A file and what became of it.
pub type Migrated<'c> = (&'c str, &'c Carried);

/// The changes of each file, what is left to do, and the sums. `suffix` is put behind the sums.
pub fn text(files: &[Migrated<'_>], suffix: &str) -> String {
    let mut text = String::new();
    for (file, carried) in files {
        let changes: Vec<_> = carried.changes.iter().map(|(noun, number)| count(*number, noun)).collect();
        if !changes.is_empty() {
            text.push_str(&format!("{file}: {}\n", changes.join(", ")));
        }
        for Left { line, message, help, .. } in &carried.left {
            text.push_str(&format!("{file}:{line}: {} {message}\n    {help}\n", paint::warning("by hand:")));
        }
    }
    let (changed, changes, left) = sums(files);
    let files = count(files.len(), "file");
    let sums = match (changed, left) {
        (0, 0) => "nothing to change".to_owned(),
        (0, _) => format!("nothing to change, {left} to do by hand"),
        (_, 0) => format!("{changed} changed{suffix}: {}", count(changes, "change")),
        _ => format!("{changed} changed{suffix}: {}, {left} to do by hand", count(changes, "change")),
    };
    format!("{text}{files}, {sums}\n")
}

/// How many files are changed, how often, and how much is left to do.
fn sums(files: &[Migrated<'_>]) -> (usize, usize, usize) {
    let changed = files.iter().filter(|(_, carried)| carried.after.is_some()).count();
    let changes = files.iter().flat_map(|(_, carried)| carried.changes.values()).sum();
    (changed, changes, files.iter().map(|(_, carried)| carried.left.len()).sum())
}

/// All of it as one object.
pub fn json(files: &[Migrated<'_>]) -> Value {
    let (changed, changes, left) = sums(files);
    let file = |(file, carried): &Migrated<'_>| {
        let left = carried
            .left
            .iter()
            .map(|Left { line, message, help, .. }| json!({"line": line, "message": redacted(message), "help": help}));
        json!({"file": file, "changes": carried.changes, "left": left.collect::<Vec<_>>()})
    };
    let reported = files.iter().filter(|(_, carried)| carried.after.is_some() || !carried.left.is_empty());
    let reported: Vec<_> = reported.map(file).collect();
    json!({"read": files.len(), "changed": changed, "changes": changes, "left": left, "files": reported})
}

/// Something that breaks, and what helps.
pub fn problem(problem: &Problem) -> String {
    let Problem { message, fix, .. } = problem;
    format!("{} {message}\n    {} {}\n", paint::bad("breaks:"), paint::good("fix:"), program(fix))
}

/// The same as one object, like a step.
pub fn problem_json(problem: &Problem, at: Timestamp) -> Value {
    let Problem { id, plane, message, fix, .. } = problem;
    let plane =
        plane.as_ref().map(|plane| json!({"kind": plane.kind.kind, "namespace": plane.namespace, "name": plane.name}));
    let time = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    redacted_json(json!({
        "time": time, "step": "breaks", "status": "failed", "id": id, "plane": plane, "message": message, "fix": fix,
    }))
}
