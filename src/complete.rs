//! Live candidates for completion. The completer only gets the word under the cursor, so the flags before it are read here.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::CompletionCandidate;
use clap_complete::engine::{PathCompleter, ValueCompleter as _};
use futures_util::future::join_all;
use jiff::Timestamp;

use crate::cluster::{self, Cluster, Namespaces, Options};
use crate::config::{self, Config, Place};
use crate::doctor::explained;
use crate::plane::{DEFAULT_KIND, KINDS, Kind, Plane, PlaneKey, Release, State};
use crate::term::{self, Term};
use crate::validate::RULES;

/// How long a shell may be kept waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the cluster that the line so far means; none where that takes too long.
fn asked<T>(ask: impl AsyncFnOnce(Cluster) -> Option<T>) -> Option<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let answer = async {
        let term = Term::new(term::Options { quiet: true, no_input: true, ..term::Options::default() });
        ask(Cluster::connect(options(std::env::args()), &term).await.ok()?).await
    };
    runtime
        .ok()
        .and_then(|runtime| runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await.ok().flatten() }))
}

/// Lists the planes of some kinds, where the line so far means them, and the time there.
fn listed(kinds: &[&'static Kind]) -> (Vec<Plane>, Timestamp) {
    let words: Vec<_> = std::env::args().collect();
    let namespace = flag(&words, "--namespace").or_else(|| flag(&words, "-n"));
    let namespaces = match namespace {
        Some(namespace) => Namespaces::Named(namespace),
        None if words.iter().any(|word| word == "-A" || word == "--all-namespaces") => Namespaces::All,
        None => Namespaces::Context,
    };
    let planes = asked(async |cluster| {
        let lists = kinds.iter().map(|kind| cluster.at(kind, &namespaces));
        let lists = join_all(lists.map(async |place| place.planes::<Plane>(None).await.unwrap_or_default())).await;
        Some((lists.concat(), cluster.now()))
    });
    planes.unwrap_or_else(|| (Vec::new(), Timestamp::now()))
}

/// The kinds that a word of the line names; the build kinds where none does.
fn kinds() -> (Vec<&'static Kind>, bool) {
    let words: Vec<_> = std::env::args().skip_while(|word| word != "--").skip(3).collect();
    // The last word is the one under the cursor.
    let (_, before) = words.split_last().unwrap_or((const { &String::new() }, &[]));
    let named = before.iter().find_map(|word| Kind::of_words(word));
    let is_named = named.is_some();
    (named.unwrap_or_else(|| [Some(DEFAULT_KIND), DEFAULT_KIND.successor()].into_iter().flatten().collect()), is_named)
}

/// Names of the planes in the cluster that the line so far means, each with its state.
pub fn planes() -> Vec<CompletionCandidate> {
    let (planes, now) = listed(&kinds().0);
    planes.iter().map(|plane| plane_candidate(plane, "", now)).collect()
}

/// The same, and where no word names kinds yet, these.
pub fn words() -> Vec<CompletionCandidate> {
    let mut words = planes();
    if !kinds().1 {
        let candidate = |kind: &Kind| CompletionCandidate::new(kind.word()).help(Some(kind.kind.into()));
        words.extend(KINDS.iter().map(candidate));
        words.push(CompletionCandidate::new("planes").help(Some("all kinds".into())));
        words.extend(configured());
    }
    words
}

/// The planes of the configuration, also those of a cluster that does not answer.
fn configured() -> Vec<CompletionCandidate> {
    let config = config::path().ok().and_then(|path| Config::read(&path).ok()).unwrap_or_default();
    let planes = config.control_planes.into_iter().flat_map(|control| control.planes);
    let candidate = |(key, place): (PlaneKey, Place)| {
        let help = place.context.map(|context| format!("agent in context {}", crate::text::visible(&context)).into());
        CompletionCandidate::new(format!("{}/{}", key.kind.word(), key.name)).help(help)
    };
    planes.map(candidate).collect()
}

/// Namespaces of the cluster that the line so far means.
pub fn namespaces() -> Vec<CompletionCandidate> {
    candidates(asked(async |cluster| cluster.namespaces().await.ok()).unwrap_or_default())
}

/// A plane's name behind a prefix. With its planeID where that differs.
fn plane_candidate(plane: &Plane, prefix: &str, now: Timestamp) -> CompletionCandidate {
    let mut help = plane.state(now).name().to_owned();
    if plane.plane_id() != plane.name() {
        help.push_str(&format!(", planeID {}", crate::text::visible(plane.plane_id())));
    }
    CompletionCandidate::new(format!("{prefix}{}", plane.name())).help(Some(help.into()))
}

/// Labels of the planes, as a selector takes them; those before the last comma stay.
pub fn labels(current: &OsStr) -> Vec<CompletionCandidate> {
    let (before, word) = last_of_list(current);
    let (planes, _) = listed(&kinds().0);
    let labels = planes.iter().flat_map(Plane::labels).map(|(key, value)| format!("{key}={value}"));
    let labels: std::collections::BTreeSet<_> = labels.filter(|label| label.starts_with(&word)).collect();
    labels.into_iter().map(|label| CompletionCandidate::new(format!("{before}{label}"))).collect()
}

/// Keys of the planes' labels; those before the last comma stay.
pub fn label_keys(current: &OsStr) -> Vec<CompletionCandidate> {
    let (before, word) = last_of_list(current);
    let (planes, _) = listed(&kinds().0);
    let keys = planes.iter().flat_map(|plane| plane.labels().keys());
    let keys: std::collections::BTreeSet<_> = keys.filter(|key| key.starts_with(&word)).collect();
    keys.into_iter().map(|key| CompletionCandidate::new(format!("{before}{key}"))).collect()
}

/// States as a filter takes them; those before the last comma, and a `!`, stay.
pub fn states(current: &OsStr) -> Vec<CompletionCandidate> {
    let (before, word) = last_of_list(current);
    let (not, word) = word.strip_prefix('!').map_or(("", word.as_str()), |word| ("!", word));
    let fits = |state: &State| state.name().to_lowercase().starts_with(&word.to_lowercase());
    let states = State::ALL.into_iter().filter(fits);
    states.map(|state| CompletionCandidate::new(format!("{before}{not}{}", state.name()))).collect()
}

/// What is before the last item of a list that commas join, and the item.
fn last_of_list(current: &OsStr) -> (String, String) {
    let text = current.to_string_lossy();
    let start = text.rfind(',').map_or(0, |comma| comma + 1);
    let (before, word) = text.split_at(start);
    (before.to_owned(), word.to_owned())
}

/// Sources of certificates: planes behind `plane/`, the other kinds of sources, and files.
pub fn sources(current: &OsStr) -> Vec<CompletionCandidate> {
    const KINDS: [(&str, &str); 5] = [
        ("plane/", "the CA of a plane"),
        ("secret/", "NAMESPACE/NAME[:KEY] of a Secret"),
        ("configmap/", "NAMESPACE/NAME[:KEY] of a ConfigMap"),
        ("https://", "HOST:PORT of a server"),
        ("agent", "the agent's certificate, with --plane-context"),
    ];
    let word = current.to_string_lossy();
    if let Some(name) = word.strip_prefix("plane/") {
        let (planes, now) = listed(&kinds().0);
        let named = planes.iter().filter(|plane| plane.name().starts_with(name));
        return named.map(|plane| plane_candidate(plane, "plane/", now)).collect();
    }
    let kinds = KINDS.iter().filter(|(kind, _)| kind.starts_with(word.as_ref()));
    let mut found: Vec<_> =
        kinds.map(|(kind, about)| CompletionCandidate::new(*kind).help(Some((*about).into()))).collect();
    found.extend(PathCompleter::any().stdio().complete(current));
    found
}

/// Names of the contexts in the kubeconfig.
pub fn contexts() -> Vec<CompletionCandidate> {
    candidates(cluster::contexts(&options(std::env::args())))
}

/// Names of the contexts in the kubeconfig of the plane's cluster.
pub fn plane_contexts() -> Vec<CompletionCandidate> {
    let mut options = options(std::env::args());
    let words: Vec<_> = std::env::args().collect();
    let kubeconfig = flag(&words, "--plane-kubeconfig").or_else(|| flag(&words, "--plane-kubeconfig"));
    options.kubeconfig = kubeconfig.map(Into::into).or(options.kubeconfig);
    candidates(cluster::contexts(&options))
}

/// Names of the clusters in the kubeconfig.
pub fn clusters() -> Vec<CompletionCandidate> {
    candidates(cluster::clusters(&options(std::env::args())))
}

/// Names of the users in the kubeconfig.
pub fn users() -> Vec<CompletionCandidate> {
    candidates(cluster::users(&options(std::env::args())))
}

fn candidates(names: Vec<String>) -> Vec<CompletionCandidate> {
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Ids of the rules of `validate`.
pub fn rules() -> Vec<CompletionCandidate> {
    RULES.iter().map(|rule| CompletionCandidate::new(rule.id).help(Some(rule.about.into()))).collect()
}

/// Words that name a kind.
pub fn kind_words() -> Vec<CompletionCandidate> {
    KINDS
        .iter()
        .map(|kind| CompletionCandidate::new(kind.kind.to_lowercase()).help(Some(kind.family.purpose.into())))
        .collect()
}

/// Releases that planes are judged by.
pub fn releases() -> Vec<CompletionCandidate> {
    Release::ALL.map(|release| CompletionCandidate::new(release.name()).help(Some(release.span().into()))).into()
}

/// Ids of the checks of `doctor`.
pub fn checks() -> Vec<CompletionCandidate> {
    explained().into_iter().map(|one| CompletionCandidate::new(one.id).help(Some(one.about.into()))).collect()
}

/// The value of a flag in a line, in either form: `--context X` and `--context=X`.
fn flag(words: &[String], name: &str) -> Option<String> {
    words.iter().enumerate().rev().find_map(|(index, word)| match word.strip_prefix(name) {
        Some("") => words.get(index + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    })
}

/// The flags of a line that say which cluster is meant.
fn options(words: impl Iterator<Item = String>) -> Options {
    let words: Vec<_> = words.collect();
    let flag = |name: &str| flag(&words, name);
    let context = flag("--context").or_else(|| flag("--control-context"));
    Options {
        kubeconfig: flag("--kubeconfig").map(Into::into),
        context,
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

    fn values(candidates: Vec<CompletionCandidate>) -> Vec<String> {
        candidates.iter().map(|candidate| candidate.get_value().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn states_complete_in_lists() {
        assert_eq!(values(states(OsStr::new("conn"))), ["Connected"]);
        assert_eq!(values(states(OsStr::new("Late,!dis"))), ["Late,!Disconnected"]);
        assert_eq!(values(states(OsStr::new("!"))).len(), State::ALL.len());
    }

    #[test]
    fn sources_have_their_kinds() {
        assert_eq!(values(sources(OsStr::new("sec"))), ["secret/"]);
        assert!(values(sources(OsStr::new(""))).contains(&"agent".to_owned()));
    }

    #[test]
    fn the_state_is_reported_beside_a_name() {
        let mut plane = Plane::default();
        plane.metadata.name = Some("a".into());
        let help =
            |plane: &Plane| plane_candidate(plane, "plane/", Timestamp::UNIX_EPOCH).get_help().map(ToString::to_string);
        assert_eq!(help(&plane).as_deref(), Some("Unreported"));
        plane.spec.plane_id = Some("b".into());
        assert_eq!(help(&plane).as_deref(), Some("Unreported, planeID b"));
    }

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
