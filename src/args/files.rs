//! Planes and what is around them, read from files in the place of a cluster.

use std::collections::BTreeSet;

use clap::{Args, ValueHint};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use crate::manifest::{self, Input, Manifest, Object, objects};
use crate::plane::{Moment, Plane, Snapshot};
use crate::term::Term;

/// Help of `--at` in commands that read no dump, whose objects have times.
pub const AT_HELP: &str = "Time to use as now: a timestamp such as 2026-11-22T12:00:00Z, or +30d for in 30 days [default: the API server's clock if the command asks one, else this machine's clock]";

/// The time that a verb takes for the present.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct AtArgs {
    /// Time to use as now: a timestamp such as 2026-11-22T12:00:00Z, or +30d for 30 days after the default [default: the
    /// newest timestamp in the objects of -f, else the API server's clock, else this machine's clock]
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,
}

impl AtArgs {
    /// The time that is given, counted from another one, which is also taken where none is given.
    pub fn from(&self, now: Timestamp) -> Timestamp {
        self.at.map_or(now, |moment| moment.from(now))
    }
}

/// Planes out of files.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// Read from a file, a folder or - (standard input) instead of a cluster (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<Input>,
}

/// Planes out of files, at a time that can be given for them.
#[derive(Args, Clone, Debug)]
#[command(mut_arg("at", |at| at.requires("files")))]
pub struct SnapshotArgs {
    #[command(flatten)]
    files: FileArgs,

    #[command(flatten)]
    at: AtArgs,
}

impl SnapshotArgs {
    pub fn given(&self) -> bool {
        self.files.given()
    }

    /// Reads the files, and more of them.
    pub fn read(&self, more: &[Input], term: &Term) -> anyhow::Result<FromFiles> {
        let files = FileArgs { files: [self.files.files.as_slice(), more].concat() };
        let mut read = files.read(self.at, term)?;
        read.snapshot.now = self.at.from(read.snapshot.now);
        Ok(read)
    }
}

/// What files hold.
pub struct FromFiles {
    /// The planes as they stand there.
    pub values: Vec<Value>,
    pub snapshot: Snapshot,
}

impl FileArgs {
    pub fn given(&self) -> bool {
        !self.files.is_empty()
    }

    /// The planes in the files as their own objects, and what is around them, at the newest time in them. The time that the
    /// command takes for the present is reported, and so is a field that can't be read, which counts as unknown.
    pub fn read(&self, at: AtArgs, term: &Term) -> anyhow::Result<FromFiles> {
        let manifests = read_manifests(&self.files, false)?;
        let (mut values, mut planes, mut related) = (Vec::new(), Vec::new(), Vec::new());
        // What two files hold counts once.
        let mut seen = BTreeSet::new();
        for manifest in &manifests {
            for object in objects(manifest) {
                let value = object.node.to_json();
                if self.files.len() > 1 && !seen.insert(value.to_string()) {
                    continue;
                }
                // Of one without a spec a dump has no more than that it exists.
                if !object.is_plane() || value["spec"].is_null() {
                    related.push(value);
                    continue;
                }
                let plane = Plane::deserialize(&value)?;
                plane.unreadable.iter().for_each(|field| term.warn(&field.warning(plane.name())));
                planes.push(plane);
                values.push(value);
            }
        }
        let snapshot = Snapshot::of_files(planes, related);
        let now = at.from(snapshot.now).strftime("%Y-%m-%dT%H:%M:%SZ");
        term.note(&format!("reading files; ages are computed at {now}"));
        Ok(FromFiles { values, snapshot })
    }
}

/// Where an object is, for an error: `FILE:LINE`.
pub fn place(manifest: &Manifest, object: Object<'_>) -> String {
    format!("{}:{}", manifest.file, manifest.position(object.node.span.start).0)
}

/// Reads manifests whole; the first fault is an error.
pub fn read_manifests(inputs: &[Input], recursive: bool) -> Result<Vec<Manifest>, manifest::Error> {
    let listed = manifest::list_inputs(inputs, recursive);
    listed.missing.into_iter().next().map_or(Ok(()), Err)?;
    let mut manifests = Vec::new();
    for input in listed.inputs {
        let manifest = manifest::parse(input.to_string(), manifest::read_text(&input)?);
        manifest.sound()?;
        manifests.push(manifest);
    }
    if manifests.iter().all(|manifest| manifest.documents.is_empty()) {
        let file = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(manifest::Error::Empty { file });
    }
    Ok(manifests)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{PLANE, files, parse, session};

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_counts_from_now_and_is_now_where_none_is_given() {
        let now = time("2026-11-22T12:00:00Z");
        let at = |words: &[&str]| parse::<AtArgs>(words).unwrap().from(now);
        assert_eq!(at(&[]), now);
        assert_eq!(at(&["--at", "+1d"]), time("2026-11-23T12:00:00Z"));
        assert_eq!(at(&["--at", "2027-01-01T00:00:00Z"]), time("2027-01-01T00:00:00Z"));
        assert!(parse::<SnapshotArgs>(&["--at", "+1d"]).unwrap_err().contains("--filename"));
    }

    #[test]
    fn a_length_of_time_counts_from_the_newest_time_in_the_files() {
        let plane = "apiVersion: openchoreo.dev/v1alpha1\nkind: ClusterBuildPlane\nmetadata: {name: a, creationTimestamp: '2026-01-01T00:00:00Z'}\nspec: {planeID: a}\n";
        let (_folder, inputs) = files(&[("a.yaml", plane)]);
        let args: SnapshotArgs = parse(&["-f", &inputs[0].to_string(), "--at", "+1d"]).unwrap();
        assert_eq!(args.read(&[], &session().term).unwrap().snapshot.now, time("2026-01-02T00:00:00Z"));
    }

    #[test]
    fn what_two_files_hold_counts_once() {
        let other = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n";
        let (_folder, inputs) = files(&[("a.yaml", PLANE), ("b.yaml", &format!("{PLANE}---\n{other}"))]);
        let args: SnapshotArgs = parse(&["-f", &inputs[0].to_string(), "--at", "2026-11-22T12:00:00Z"]).unwrap();
        assert!(args.given());
        let read = args.read(&inputs[1..], &session().term).unwrap();
        assert_eq!((read.values.len(), read.snapshot.planes.len()), (1, 1));
        assert_eq!(read.snapshot.now, time("2026-11-22T12:00:00Z"));
        let twice = FileArgs { files: vec![inputs[0].clone()] }.read(AtArgs::default(), &session().term).unwrap();
        assert_eq!(twice.snapshot.planes[0].name(), "a");
    }

    #[test]
    fn files_without_a_manifest_and_with_a_fault_are_errors_with_their_place() {
        let (_folder, inputs) = files(&[("empty.yaml", "# nothing\n"), ("broken.yaml", "a: 1\nb: [\n")]);
        let error = read_manifests(&inputs[..1], false).unwrap_err().to_string();
        assert!(error.ends_with("empty.yaml holds no manifest"), "{error}");
        let error = read_manifests(&inputs[1..], false).unwrap_err().to_string();
        assert!(error.contains("broken.yaml:"), "{error}");
    }

    #[test]
    fn an_object_has_a_place() {
        let (_folder, inputs) = files(&[("a.yaml", &format!("# first\n{PLANE}"))]);
        let manifests = read_manifests(&inputs, false).unwrap();
        let object = objects(&manifests[0])[0];
        assert!(place(&manifests[0], object).ends_with("a.yaml:2"));
    }
}
