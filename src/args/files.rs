//! Planes and what stands around them, read from files in the place of a cluster.

use std::collections::BTreeSet;

use clap::{Args, ValueHint};
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::Value;

use crate::manifest::{self, Input, Manifest, Object, objects};
use crate::plane::{Moment, Plane, Snapshot};
use crate::term::Term;

/// Planes out of files.
#[derive(Args, Clone, Debug)]
pub struct FileArgs {
    /// Read from a file, a folder or - (standard input) instead of a cluster (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub files: Vec<Input>,

    /// With -f, moment that ages count from: a time as 2026-11-22T12:00:00Z, or +30d; the newest time in the files otherwise
    #[arg(long, value_name = "TIME", requires = "files")]
    at: Option<Moment>,
}

/// What files hold.
pub struct FromFiles {
    /// The planes as they stand there.
    pub values: Vec<Value>,
    pub snapshot: Snapshot,
}

impl FileArgs {
    pub fn of(files: &[Input]) -> Self {
        Self { files: files.to_vec(), at: None }
    }

    /// The same with more files.
    pub fn with(&self, more: &[Input]) -> Self {
        Self { files: [self.files.as_slice(), more].concat(), at: self.at }
    }

    pub fn given(&self) -> bool {
        !self.files.is_empty()
    }

    /// The planes in the files as their own objects, and what stands around them. A field that can't be read is
    /// told, and counts as unknown.
    pub fn read(&self, term: &Term) -> anyhow::Result<FromFiles> {
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
                if !object.is_plane() {
                    related.push(value);
                    continue;
                }
                let plane = Plane::deserialize(&value)?;
                plane.unreadable.iter().for_each(|field| term.warn(&field.warning(plane.name())));
                planes.push(plane);
                values.push(value);
            }
        }
        let at = self.at.map(|moment| moment.from(Timestamp::now()));
        let snapshot = Snapshot::of_files(planes, related, at);
        term.note(&format!("from files; ages count from {}", snapshot.now.strftime("%Y-%m-%dT%H:%M:%SZ")));
        Ok(FromFiles { values, snapshot })
    }
}

/// Where an object stands, for an error: `FILE:LINE`.
pub fn place(manifest: &Manifest, object: Object<'_>) -> String {
    format!("{}:{}", manifest.file, manifest.position(object.node.span.start).0)
}

/// Reads manifests whole; the first fault is an error.
pub fn read_manifests(inputs: &[Input], recursive: bool) -> Result<Vec<Manifest>, manifest::Error> {
    let mut manifests = Vec::new();
    for (input, text) in manifest::read_inputs(inputs, recursive)? {
        let manifest = manifest::parse(input.to_string(), text?);
        manifest.sound()?;
        manifests.push(manifest);
    }
    if manifests.iter().all(|manifest| manifest.documents.is_empty()) {
        let file = inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(manifest::Error::Empty { file });
    }
    Ok(manifests)
}
