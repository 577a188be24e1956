//! Live candidates for completion. The completer is told only the word under the cursor, so the flags before it are read here.

use std::time::Duration;

use clap_complete::CompletionCandidate;

use crate::cluster::{self, Cluster, Options};
use crate::plane::Plane;
use crate::term::{self, Term};
use crate::validate::RULES;

/// How long a shell may be kept waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Names of the planes in the cluster that the line so far means, with their planeIDs.
pub fn planes() -> Vec<CompletionCandidate> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let list = async {
        let term = Term::new(term::Options { quiet: true, no_input: true, ..term::Options::default() });
        let cluster = Cluster::connect(options(std::env::args()), &term).await.ok()?;
        cluster.planes::<Plane>(None).await.ok()
    };
    let planes = runtime
        .ok()
        .and_then(|runtime| runtime.block_on(async { tokio::time::timeout(PATIENCE, list).await.ok().flatten() }));
    let candidate = |plane: Plane| {
        CompletionCandidate::new(plane.name()).help(Some(term::visible(plane.plane_id()).into_owned().into()))
    };
    planes.unwrap_or_default().into_iter().map(candidate).collect()
}

/// Names of the contexts in the kubeconfig.
pub fn contexts() -> Vec<CompletionCandidate> {
    cluster::contexts(&options(std::env::args())).into_iter().map(CompletionCandidate::new).collect()
}

/// Ids of the rules of `validate`.
pub fn rules() -> Vec<CompletionCandidate> {
    RULES.iter().map(|rule| CompletionCandidate::new(rule.id).help(Some(rule.about.into()))).collect()
}

/// The flags of a line that say which cluster is meant, in either form: `--context X` and `--context=X`.
fn options(words: impl Iterator<Item = String>) -> Options {
    let words: Vec<_> = words.collect();
    let flag = |name: &str| {
        words.iter().enumerate().rev().find_map(|(index, word)| match word.strip_prefix(name) {
            Some("") => words.get(index + 1).cloned(),
            Some(rest) => rest.strip_prefix('=').map(str::to_owned),
            None => None,
        })
    };
    Options {
        kubeconfig: flag("--kubeconfig").map(Into::into),
        context: flag("--context"),
        cluster: flag("--cluster"),
        user: flag("--user"),
        impersonate: flag("--as"),
        impersonate_groups: Vec::new(),
        request_timeout: Some(PATIENCE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_of_the_line_are_read() {
        let options = options(
            ["choreoctl", "--context=a", "get", "--kubeconfig", "k", "--context", "b", ""]
                .map(str::to_owned)
                .into_iter(),
        );
        assert_eq!((options.context.as_deref(), options.kubeconfig), (Some("b"), Some("k".into())));
    }
}
