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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_both_clusters_leave_the_line_in_either_spelling() {
        let words = ["get", "--context", "a", "-o", "json", "--build-context=b", "--contexts", "--context"];
        let words = words.map(str::to_owned);
        assert_eq!(without_flags(&words, &["context", "build-context"]), ["get", "-o", "json", "--contexts"]);
    }

    #[tokio::test]
    async fn only_a_missing_kind_beside_a_build_cluster_can_be_a_swap() {
        let control = cluster::Fake::default().cluster();
        let build = BuildCluster { cluster: control.clone(), namespace: "n".into() };
        let missing = || cluster::Error::NoSuchKind { kind: "ClusterBuildPlane", renamed: None, command: "c".into() };
        assert!(swapped(&control, None, &missing()).await.is_none());
        assert!(swapped(&control, Some(&build), &cluster::Error::Changed).await.is_none());
        let answer: Result<(), _> = Err(missing());
        let error = unless_swapped(&control, None, answer).await.unwrap_err();
        assert!(error.is::<cluster::Error>(), "{error}");
        assert_eq!(unless_swapped(&control, Some(&build), Ok(1)).await.unwrap(), 1);
    }

    #[test]
    fn a_swap_says_which_cluster_serves_planes() {
        let target = |context: &str| {
            let mut target = cluster::Target::default();
            target.context = Some(context.into());
            target
        };
        let swapped = Swapped::of(&target("one"), &target("two"), "ClusterBuildPlane");
        let text = swapped.to_string();
        assert!(text.starts_with("the contexts are swapped: ") && text.contains("two"), "{text}");
        assert!(swapped.hint().unwrap().ends_with(" --context two --build-context one"), "{:?}", swapped.hint());
    }
}
