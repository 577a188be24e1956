//! Two clusters that were named in the place of each other.

use super::clusters::BuildCluster;
use crate::cluster::{self, Cluster};
use crate::text::shell_quoted;

/// The two clusters were named in the place of each other.
#[derive(Debug, thiserror::Error)]
#[error("the contexts are swapped: {build} serves {kind}, and {control} does not")]
pub struct Swapped {
    control: String,
    build: String,
    kind: &'static str,
    command: String,
}

impl Swapped {
    pub fn hint(&self) -> Option<String> {
        Some(self.command.clone())
    }

    /// Of two clusters, with the command line that names them the other way round.
    pub fn of(control: &cluster::Target, build: &cluster::Target, kind: &'static str) -> Self {
        let words: Vec<_> = std::env::args().skip(1).collect();
        let words =
            without_flags(&words, &["context", "control-context", "kubeconfig", "build-context", "build-kubeconfig"]);
        let words: Vec<_> = words.iter().map(|word| shell_quoted(word)).collect();
        let (words, flags) = (words.join(" "), build.by_context("") + &control.by_context("build-"));
        let command = format!("choreoctl {words}{flags}");
        Self { control: control.title(), build: build.title(), kind, command }
    }
}

/// A command line without some of its flags and their values.
fn without_flags<'w>(words: &'w [String], flags: &[&str]) -> Vec<&'w str> {
    let mut words = words.iter();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        match word
            .strip_prefix("--")
            .map(|flag| flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value))))
        {
            Some((flag, None)) if flags.contains(&flag) => drop(words.next()),
            Some((flag, Some(_))) if flags.contains(&flag) => {}
            _ => kept.push(word.as_str()),
        }
    }
    kept
}

/// Whether the control plane's answer means that the two clusters were named in the place of each other.
pub async fn swapped(control: &Cluster, build: Option<&BuildCluster>, error: &cluster::Error) -> Option<Swapped> {
    let (cluster::Error::NoSuchKind { kind, .. }, Some(build)) = (error, build) else {
        return None;
    };
    let served = build.cluster.served().await.is_ok();
    served.then(|| Swapped::of(control.target(), build.cluster.target(), kind))
}

/// The control plane's answer, or that it is the other cluster that serves planes.
///
/// # Errors
/// [`Swapped`], and that of the control plane.
pub async fn unless_swapped<T>(
    control: &Cluster,
    build: Option<&BuildCluster>,
    answer: Result<T, cluster::Error>,
) -> anyhow::Result<T> {
    if let Err(error) = &answer
        && let Some(swapped) = swapped(control, build, error).await
    {
        return Err(swapped.into());
    }
    Ok(answer?)
}
