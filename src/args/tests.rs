//! Command lines for the tests of flags, and a session that reaches nothing.

use clap::{Args, Parser};

use super::Session;
use crate::cluster;
use crate::manifest::Input;
use crate::term::{self, Term};

#[derive(Debug, Parser)]
struct Line<A: Args> {
    #[command(flatten)]
    args: A,
}

/// Reads flags as a verb does that takes only these.
pub fn parse<A: Args>(words: &[&str]) -> Result<A, String> {
    let line = Line::try_parse_from(["choreoctl"].iter().chain(words));
    line.map(|line| line.args).map_err(|error| error.to_string())
}

pub fn session() -> Session {
    let term = Term::new(term::Options { quiet: true, no_input: true, ..term::Options::default() });
    Session { term, options: cluster::Options::default(), no_config: true }
}

/// A folder with files of these names and texts, and each as an input.
pub fn files(texts: &[(&str, &str)]) -> (tempfile::TempDir, Vec<Input>) {
    let folder = tempfile::tempdir().unwrap();
    let write = |(name, text): &(&str, &str)| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Input::Path(path)
    };
    let inputs = texts.iter().map(write).collect();
    (folder, inputs)
}

/// A manifest of a plane.
pub const PLANE: &str = "apiVersion: openchoreo.dev/v1alpha1
kind: ClusterBuildPlane
metadata: {name: a, labels: {team: x}}
spec: {clusterAgent: {clientCA: {secretRef: {namespace: ns, name: ca, key: ca.crt}}}}
";
