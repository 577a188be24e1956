//! What can go wrong between here and the API server, in words, each with the next step.

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use http_body_util::LengthLimitError;
use kube::client::AuthError;
use kube::config::KubeconfigError;
use kube::core::Status;
use tower::BoxError;

use super::Target;
use super::client::{LARGEST_ANSWER, NoAnswer, Unusable};
use crate::plane::{Kind, Span, closest, did_you_mean};
use crate::text::{shell_quoted, visible};

/// A failed request, or a cluster that could not be told or reached.
///
/// Texts of the server are made visible here, once. `command` is a command line for the same cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no cluster is configured: there is no kubeconfig, and this is not a pod")]
    NoKubeconfig,
    #[error("the kubeconfig has no current context")]
    NoContext { known: Vec<String> },
    #[error("the kubeconfig has no context {}", visible(.context))]
    UnknownContext { context: String, known: Vec<String> },
    #[error("the kubeconfig has no user {}", visible(.user))]
    UnknownUser { user: String },
    #[error("the kubeconfig can't be used: {reason}")]
    Kubeconfig { reason: String },
    #[error("a proxy of the scheme {} can't be used", visible(.scheme))]
    Proxy { scheme: String },
    #[error("the client could not be set up")]
    Setup { source: kube::Error },
    #[error("could not get credentials: {reason}")]
    Credentials { reason: String },
    #[error("could not reach the API server at {}", visible(.server))]
    Unreachable { server: String, source: BoxError, command: String },
    #[error("the API server at {} did not answer within {} s", visible(.server), .limit.as_secs())]
    TimedOut { server: String, limit: Duration },
    #[error("the API server at {} did not accept the credentials", visible(.server))]
    Unauthorized { server: String, command: String },
    #[error("not allowed: {message}")]
    Forbidden { message: String, command: String },
    #[error("the cluster has no {kind}")]
    NoSuchKind { kind: &'static str, renamed: Option<&'static str>, command: String },
    /// `similar` are names of existing objects that may be meant.
    #[error("{what} does not exist")]
    NotFound { what: String, similar: Vec<String>, command: String },
    /// A Secret or ConfigMap that something was to be read from.
    #[error("{what} does not exist")]
    NoSource { what: String, command: String },
    /// No agent in the build cluster, or none of the planeID.
    #[error("there is no agent{} in the namespace {}", .plane_id.as_deref().map(|id| format!(" of planeID {}", visible(id))).unwrap_or_default(), visible(.namespace))]
    NoAgent { namespace: String, plane_id: Option<String>, there: Vec<String>, command: String },
    #[error("there are several agents: {}", .names.join(", "))]
    SeveralAgents { names: Vec<String> },
    #[error("{what} has no key {}", visible(.key))]
    NoKey { what: String, key: String, keys: Vec<String> },
    #[error("{what} exists already")]
    Exists { what: String },
    #[error("{}", conflicts(.owned))]
    Owned { owned: Vec<OwnedField> },
    #[error("it was changed by somebody else at the same time")]
    Changed,
    #[error("the manifest's {field} is not that of the object: it was changed, or made anew, since it was read")]
    Outdated { field: &'static str },
    #[error("the API server rejected it: {message}")]
    Rejected { message: String },
    #[error("the result would hold both value and secretRef as the client CA, of which only value counts{}", .owner.as_deref().map(|owner| format!(": the other one belongs to {}", visible(owner))).unwrap_or_default())]
    BothSources { owner: Option<String>, command: String },
    #[error("the API server said {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("could not send a request to the API server at {}", visible(.server))]
    Unsendable { server: String, source: BoxError },
    #[error("the answer of the API server at {} can't be understood", visible(.server))]
    Answer { server: String, source: BoxError },
    #[error("the API server at {} answered with {found} instead of {expected}", visible(.server))]
    OtherAnswer { server: String, found: String, expected: String, command: String },
    #[error("the answer of the API server at {} is larger than {} MiB", visible(.server), LARGEST_ANSWER >> 20)]
    TooLarge { server: String },
    #[error("the list of the API server at {} does not end", visible(.server))]
    Endless { server: String },
    #[error("the API server at {} is busy and asks to wait {}", visible(.server), Span::from_seconds(.wait.as_secs()))]
    Busy { server: String, wait: Duration },
}

/// Why the API server would not take one object as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    pub message: String,
    /// What the message names, field by field.
    pub causes: Vec<Cause>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// As `spec.planeID`.
    pub field: String,
    pub message: String,
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedField {
    /// As `.spec.planeID`.
    pub field: String,
    /// The server's words, which name the manager.
    pub message: String,
}

/// The kind that a status means, which names it by its plural.
fn singular(plural: &str, kind: &Kind) -> String {
    if plural == kind.plural { "plane".into() } else { visible(plural).into_owned() }
}

fn conflicts(owned: &[OwnedField]) -> String {
    let fields: Vec<_> =
        owned.iter().map(|owned| format!("{} ({})", visible(&owned.field), visible(&owned.message))).collect();
    format!("fields belong to another manager: {}", fields.join(", "))
}

/// How many contexts are listed.
const LISTED: usize = 10;
const NO_CONTEXTS: &str = "it names no context at all: kubectl config get-contexts";

/// The first of the contexts, and how many more there are.
fn some(contexts: &[String]) -> String {
    let listed = contexts.iter().take(LISTED).map(|name| shell_quoted(name)).collect::<Vec<_>>().join(", ");
    match contexts.len().saturating_sub(LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more (kubectl config get-contexts)"),
    }
}

impl Error {
    pub(super) fn of(error: kube::Error, target: &Target, kind: &'static Kind) -> Self {
        let server = target.server.clone();
        if find::<LengthLimitError>(&error).is_some() {
            return Self::TooLarge { server };
        }
        match error {
            kube::Error::Api(status) => Self::of_status(*status, target, kind),
            kube::Error::Service(source) => Self::of_service(source, server, target),
            kube::Error::HyperError(source) => Self::unreachable(source.into(), server, target),
            kube::Error::ReadEvents(source) => Self::unreachable(source.into(), server, target),
            kube::Error::SerdeError(source) => Self::Answer { server, source: source.into() },
            kube::Error::FromUtf8(source) => Self::Answer { server, source: source.into() },
            source => Self::of_setup(source),
        }
    }

    fn of_service(source: BoxError, server: String, target: &Target) -> Self {
        match source.downcast::<AuthError>() {
            Ok(error) => Self::of_auth(&error),
            Err(source) => match (find::<NoAnswer>(source.as_ref()), find::<Unusable>(source.as_ref())) {
                (Some(NoAnswer(limit)), _) => Self::TimedOut { server, limit: *limit },
                (None, Some(answer)) => Self::of_unusable(answer, target),
                (None, None) => Self::unreachable(source, server, target),
            },
        }
    }

    fn of_unusable(answer: &Unusable, target: &Target) -> Self {
        let found = match answer {
            Unusable::Busy { wait, .. } => return Self::Busy { server: target.server.clone(), wait: *wait },
            Unusable::Redirect { status, location } => match location {
                Some(location) => format!("a redirect to {} ({status})", visible(location)),
                None => format!("a redirect ({status})"),
            },
            Unusable::NotJson { status, content_type } => format!("{} ({status})", visible(content_type)),
        };
        Self::other_answer(target, found, "JSON".into())
    }

    /// An answer of another kind than the one that was asked for, or of another server altogether.
    pub(super) fn other_answer(target: &Target, found: String, expected: String) -> Self {
        let command = target.command("kubectl version");
        Self::OtherAnswer { server: target.server.clone(), found, expected, command }
    }

    fn unreachable(source: BoxError, server: String, target: &Target) -> Self {
        Self::Unreachable { server, source, command: target.command("kubectl cluster-info") }
    }

    /// A parser's error shows the text that it stumbled over, which may be a token: so only the place is told.
    pub(super) fn of_kubeconfig(error: &KubeconfigError, path: Option<&Path>) -> Self {
        let told = match error {
            KubeconfigError::Parse(error) => match error.location() {
                Some(at) => format!("it is not valid at line {}, column {}", at.line(), at.column()),
                None => "it is not valid".into(),
            },
            KubeconfigError::ReadConfig(error, _) => error.to_string(),
            other => other.to_string(),
        };
        let file = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
        Self::Kubeconfig { reason: visible(&format!("{file}{told}")).into_owned() }
    }

    pub(super) fn of_setup(source: kube::Error) -> Self {
        match source {
            kube::Error::Auth(error) => Self::of_auth(&error),
            source => Self::Setup { source },
        }
    }

    /// What a credential plugin printed, or was given, may be a token, so only its own complaints are told.
    pub(super) fn of_auth(error: &AuthError) -> Self {
        let reason = match error {
            AuthError::AuthExecStart(error) => {
                format!("the plugin of the kubeconfig can't be started: {error}")
            }
            AuthError::AuthExecRun { out, .. } => {
                let said = String::from_utf8_lossy(&out.stderr);
                let said = said.lines().next_back().unwrap_or_default();
                format!("the plugin of the kubeconfig ended with {}: {}", out.status, visible(said))
            }
            AuthError::ReadTokenFile(error, path) => {
                format!("{}: {error}", visible(&path.to_string_lossy()))
            }
            AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
                "the plugin of the kubeconfig printed no credential".into()
            }
            AuthError::MissingCommand => "the plugin of the kubeconfig has no command".into(),
            _ => "the kubeconfig's way to log in does not work here".into(),
        };
        Self::Credentials { reason }
    }

    pub(super) fn no_such_kind(target: &Target, kind: &'static Kind) -> Self {
        let command = target.command(&format!("kubectl get crd {}", kind.crd_name()));
        Self::NoSuchKind { kind: kind.kind, renamed: None, command }
    }

    fn of_status(status: Status, target: &Target, kind: &'static Kind) -> Self {
        let message = visible(&status.message).into_owned();
        let (name, of, causes) =
            status.details.map_or_else(Default::default, |details| (details.name, details.kind, details.causes));
        let what = || {
            if name.is_empty() { message.clone() } else { format!("{} {}", singular(&of, kind), visible(&name)) }
        };
        match (status.code, status.reason.as_str()) {
            (401, _) => {
                Self::Unauthorized { server: target.server.clone(), command: target.command("kubectl auth whoami") }
            }
            (403, _) => Self::Forbidden { message, command: target.command("kubectl auth can-i --list") },
            (404, _) if name.is_empty() => Self::no_such_kind(target, kind),
            (404, _) if of == kind.plural => {
                Self::NotFound { what: what(), similar: Vec::new(), command: target.command("choreoctl get") }
            }
            (404, _) => Self::NoSource { what: what(), command: target.command("kubectl get namespaces") },
            (409, "AlreadyExists") => Self::Exists { what: what() },
            (409, _) if causes.iter().any(|cause| cause.reason == "FieldManagerConflict") => {
                let owned = causes.into_iter().map(|cause| OwnedField { field: cause.field, message: cause.message });
                Self::Owned { owned: owned.collect() }
            }
            (409, _) => Self::Changed,
            (400 | 422, _) => Self::Rejected { message },
            // No HTTP status is 0: the answer is something else than the status that it was taken for.
            (0, _) => Self::other_answer(target, "an event of no known type".into(), "a watch event".into()),
            (code, _) => Self::Refused { code, message },
        }
    }

    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoKubeconfig => Some("name a kubeconfig with --kubeconfig, or set KUBECONFIG".into()),
            Self::NoContext { known } if known.is_empty() => Some(NO_CONTEXTS.into()),
            Self::NoContext { known } => Some(format!("name one with --context: {}", some(known))),
            Self::UnknownContext { known, .. } if known.is_empty() => Some(NO_CONTEXTS.into()),
            Self::UnknownContext { context, known } => {
                let close = did_you_mean(&closest(context, known.iter().map(String::as_str)));
                Some(match close {
                    Some(question) => format!("{question} The kubeconfig has: {}", some(known)),
                    None => format!("the kubeconfig has: {}", some(known)),
                })
            }
            Self::UnknownUser { .. } | Self::Kubeconfig { .. } => Some("kubectl config view".into()),
            Self::Proxy { .. } => Some("use a proxy of the scheme http or socks5".into()),
            Self::Credentials { .. } => Some("log in again the way your cluster wants it".into()),
            Self::Unreachable { source, command, .. } => Some(match find::<rustls::Error>(source.as_ref()) {
                Some(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. },
                )) => "the API server's certificate has expired, or this machine's clock is wrong".into(),
                Some(rustls::Error::InvalidCertificate(_)) => {
                    "the kubeconfig's certificate authority is not this server's: is it another cluster's?".into()
                }
                _ => format!("is this the right context? {command}"),
            }),
            Self::OtherAnswer { command, .. } => Some(format!(
                "does the kubeconfig name the API server itself, and not a proxy or another service? {command}"
            )),
            Self::TooLarge { .. } | Self::Endless { .. } => {
                Some("does the kubeconfig name the API server? If so, name planes, or choose some with -l".into())
            }
            Self::Busy { .. } => Some("try again then".into()),
            Self::TimedOut { .. } => Some("try again, or allow more with --request-timeout 2m".into()),
            Self::Unauthorized { command, .. } => Some(format!("has the token or certificate expired? {command}")),
            Self::Forbidden { command, .. } => Some(format!("ask for the right, or see what is allowed: {command}")),
            Self::NoSuchKind { renamed: Some(later), .. } => Some(format!(
                "it has {later} instead, which is what the kind is called since OpenChoreo 1.0; this tool serves releases to v0.17"
            )),
            Self::NoSuchKind { command, .. } => {
                Some(format!("is this the control plane's context? OpenChoreo's chart installs the CRD: {command}"))
            }
            Self::NotFound { similar, command, .. } => Some(match did_you_mean(similar) {
                Some(question) => format!("{question} All planes: {command}"),
                None => command.clone(),
            }),
            Self::NoSource { command, .. } => Some(command.clone()),
            Self::NoAgent { there, command, .. } => Some(match there.as_slice() {
                [] => format!("name its namespace with --build-namespace: {command}"),
                ids => format!(
                    "this namespace has the agent of planeID {}: name another one with --build-namespace, or compare the planeIDs: {command}",
                    ids.iter().map(|id| visible(id)).collect::<Vec<_>>().join(", ")
                ),
            }),
            Self::SeveralAgents { .. } => Some("name the planeID with --plane-id, or a plane".into()),
            Self::NoKey { keys, .. } => {
                Some(format!("it has {}", keys.iter().map(|key| visible(key)).collect::<Vec<_>>().join(", ")))
            }
            Self::Exists { .. } => Some("change it with `choreoctl apply -f FILE`".into()),
            Self::Owned { .. } => {
                Some("leave the fields to their owner, or take them over with --force-conflicts".into())
            }
            Self::Changed => Some("try again".into()),
            Self::Outdated { .. } => {
                Some("read it again, or leave resourceVersion and uid out to apply it all the same".into())
            }
            Self::BothSources { command, .. } => {
                Some(format!("remove the other one first, if its owner lets you: {command}"))
            }
            Self::Setup { .. } | Self::Rejected { .. } | Self::Refused { .. } => None,
            Self::Unsendable { .. } | Self::Answer { .. } => None,
        }
    }

    /// Adds the names, of those known, that a name probably means which doesn't exist.
    pub fn with_similar(self, name: &str, known: &[String]) -> Self {
        match self {
            Self::NotFound { what, command, .. } => {
                let similar = closest(name, known.iter().map(String::as_str));
                Self::NotFound { what, similar: similar.into_iter().map(str::to_owned).collect(), command }
            }
            other => other,
        }
    }

    /// Whether the thing that was asked for isn't there, as opposed to not being known.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether it is about one object only, so that others may still go well.
    pub fn is_about_one_object(&self) -> bool {
        matches!(
            self,
            Self::Owned { .. }
                | Self::Changed
                | Self::Outdated { .. }
                | Self::Rejected { .. }
                | Self::BothSources { .. }
        )
    }
}

/// The first error of a type in a chain. Some links hide their cause from `source`, and hold it in an `io::Error`.
fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)
            && let Some(found) = find::<T>(inner)
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::plane::{DEFAULT_KIND, Plane};
    use serde_json::{Value, json};

    fn status(code: u16, reason: &str, name: &str, kind: &str, causes: Value) -> Error {
        let status = json!({
            "status": "Failure", "code": code, "reason": reason, "message": "m\u{1b}",
            "details": {"name": name, "kind": kind, "causes": causes},
        });
        Error::of_status(serde_json::from_value(status).unwrap(), &Target::default(), DEFAULT_KIND)
    }

    #[test]
    fn each_status_becomes_its_error() {
        let none = json!([]);
        for (code, reason, name, kind, text) in [
            (401, "Unauthorized", "", "", "did not accept the credentials"),
            (403, "Forbidden", "a", "clusterbuildplanes", r"not allowed: m\u{1b}"),
            (404, "NotFound", "", "", "the cluster has no ClusterBuildPlane"),
            (404, "NotFound", "a", "clusterbuildplanes", "plane a does not exist"),
            (404, "NotFound", "b", "secrets", "secrets b does not exist"),
            (409, "AlreadyExists", "a", "clusterbuildplanes", "plane a exists already"),
            (409, "Conflict", "a", "clusterbuildplanes", "changed by somebody else"),
            (422, "Invalid", "a", "clusterbuildplanes", "rejected it: m"),
            (0, "", "", "", "an event of no known type"),
            (507, "", "", "", "said 507: m"),
        ] {
            let error = status(code, reason, name, kind, none.clone());
            assert!(error.to_string().contains(text), "{code} {kind}: {error}");
        }
        assert!(status(404, "", "a", "clusterbuildplanes", none.clone()).is_not_found());
        assert!(!status(404, "", "a", "secrets", none).is_not_found());
    }

    #[test]
    fn a_conflict_names_the_fields_and_their_managers() {
        let causes =
            json!([{"reason": "FieldManagerConflict", "field": ".spec.planeID", "message": "conflict with \"x\""}]);
        let error = status(409, "Conflict", "a", "clusterbuildplanes", causes);
        assert_eq!(error.to_string(), "fields belong to another manager: .spec.planeID (conflict with \"x\")");
        assert!(error.is_about_one_object() && error.hint().unwrap().contains("--force-conflicts"));
    }

    #[test]
    fn a_context_that_is_like_another_one_is_proposed() {
        let known: Vec<_> = (0..12).map(|number| format!("prod-{number}")).collect();
        let hint = |context: &str, known: &[String]| {
            Error::UnknownContext { context: context.into(), known: known.to_vec() }.hint().unwrap()
        };
        let proposed = hint("prod-1O", &known);
        assert!(proposed.contains("prod-10") && proposed.contains("and 2 more"), "{proposed}");
        assert!(hint("zzz", &known[..1]).starts_with("the kubeconfig has: prod-0"));
        assert_eq!(hint("x", &[]), NO_CONTEXTS);
        assert_eq!(Error::NoContext { known: vec![] }.hint().as_deref(), Some(NO_CONTEXTS));
    }

    #[tokio::test]
    async fn a_kind_that_was_renamed_is_named() {
        let fake = Fake::default();
        let error = |fake: &Fake| {
            let cluster = fake.cluster();
            async move { cluster.planes::<Plane>(None).await.unwrap_err() }
        };
        let missing = json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "x", "details": {}});
        fake.answer("GET /apis/openchoreo.dev", 404, missing.clone());
        assert!(error(&fake).await.hint().unwrap().contains("the control plane's context?"));
        let resources = json!({"groupVersion": "openchoreo.dev/v1alpha1", "resources": [
            {"name": "clusterworkflowplanes", "singularName": "", "namespaced": false, "kind": "ClusterWorkflowPlane", "verbs": []},
        ]});
        fake.answer("GET /apis/openchoreo.dev/v1alpha1", 200, resources);
        fake.answer("GET /apis/openchoreo.dev/v1alpha1/", 404, missing);
        let hint = error(&fake).await.hint().unwrap();
        assert!(hint.contains("ClusterWorkflowPlane instead"), "{hint}");
    }
}
