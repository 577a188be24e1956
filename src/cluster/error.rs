//! What can go wrong between here and the API server, in words, each with the next step.

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use kube::client::AuthError;
use kube::config::KubeconfigError;
use kube::core::response::StatusCause;
use tower::BoxError;

use crate::plane::{Kind, Release, Span, closest, did_you_mean};
use crate::text::{shell_quoted, shown, visible};

/// A failed request, or a cluster that could not be found or reached.
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
    #[error(transparent)]
    Unlisted(#[from] Unlisted),
    #[error("the cluster has no {kind}")]
    NoSuchKind { kind: &'static str, renamed: Option<&'static str>, command: String },
    /// `similar` are names of existing objects that may be meant.
    #[error("{what} does not exist")]
    NotFound { what: String, similar: Vec<String>, command: String },
    /// A Secret or ConfigMap that something was to be read from.
    #[error("{what} does not exist")]
    NoSource { what: String, command: String },
    /// No agent in the plane's cluster, or none of the planeID.
    #[error("there is no agent{} in the namespace {}", .plane_id.as_deref().map(|id| format!(" of planeID {}", visible(id))).unwrap_or_default(), visible(.namespace))]
    NoAgent { namespace: String, plane_id: Option<String>, there: Vec<String>, command: String },
    #[error("there are several agents: {}", .names.join(", "))]
    SeveralAgents { names: Vec<String> },
    #[error("{what} has no key {}", visible(.key))]
    NoKey { what: String, key: String, keys: Vec<String> },
    #[error("{what} exists already")]
    Exists { what: String },
    #[error("{}", conflicts(.owned))]
    Owned { owned: Vec<Cause> },
    #[error("another client changed {what} at the same time")]
    Changed { what: String },
    #[error(
        "the manifest's {field} differs from the object's: the object was changed or created again since it was read"
    )]
    Outdated { field: &'static str },
    #[error("the API server rejected it: {message}")]
    Rejected { message: String },
    #[error("the result would have both a value and a Secret as the client CA, and the gateway uses only the value{}", .owner.as_deref().map(|owner| format!(": the other one belongs to {}", visible(owner))).unwrap_or_default())]
    BothSources { owner: Option<String>, command: String },
    #[error("the API server answered {code}: {message}")]
    Refused { code: u16, message: String },
    #[error("could not send a request to the API server at {}", visible(.server))]
    Unsendable { server: String, source: BoxError },
    #[error("the answer of the API server at {} can't be understood", visible(.server))]
    Answer { server: String, source: BoxError },
    #[error("the API server at {} answered with {found} instead of {expected}", visible(.server))]
    OtherAnswer { server: String, found: String, expected: String, command: String },
    #[error("the API server at {} sent {excess}", visible(.server))]
    TooLarge { server: String, excess: String },
    #[error("the API server at {} is busy and asks to wait {}", visible(.server), Span::from_seconds(.wait.as_secs()))]
    Busy { server: String, wait: Duration },
}

/// The planes of a kind may not be listed: which of them exist is unknown.
#[derive(Clone, Debug, thiserror::Error)]
#[error("could not list {}s: not allowed: {message}", .kind.kind)]
pub struct Unlisted {
    pub kind: &'static Kind,
    message: String,
    command: String,
}

impl Unlisted {
    /// Of a failed list; the error itself where it is no matter of rights.
    pub(super) fn of(kind: &'static Kind, error: Error) -> Result<Self, Error> {
        match error {
            Error::Forbidden { message, command } => Ok(Self { kind, message, command }),
            error => Err(error),
        }
    }
}

/// Why the API server would not take one object as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejection {
    pub message: String,
    /// What the message names, field by field.
    pub causes: Vec<Cause>,
}

/// What is wrong with a field, or who owns it, in the server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// As `spec.planeID`; of one that another manager owns, as `.spec.planeID`.
    pub field: String,
    pub message: String,
}

impl From<StatusCause> for Cause {
    fn from(StatusCause { field, message, .. }: StatusCause) -> Self {
        Self { field, message }
    }
}

fn conflicts(owned: &[Cause]) -> String {
    let fields: Vec<_> =
        owned.iter().map(|owned| format!("{} ({})", visible(&owned.field), visible(&owned.message))).collect();
    format!("fields belong to another manager: {}", fields.join(", "))
}

fn listed(names: &[String]) -> String {
    names.iter().map(|name| visible(name)).collect::<Vec<_>>().join(", ")
}

/// How many contexts are listed.
const LISTED: usize = 10;
const NO_CONTEXTS: &str = "the kubeconfig has no contexts: kubectl config get-contexts";

/// The first of the contexts, and how many more there are.
fn some(contexts: &[String]) -> String {
    let listed = contexts.iter().take(LISTED).map(|name| shell_quoted(name)).collect::<Vec<_>>().join(", ");
    match contexts.len().saturating_sub(LISTED) {
        0 => listed,
        more => format!("{listed} and {more} more (kubectl config get-contexts)"),
    }
}

impl Error {
    /// A parser's error shows the text that it stumbled over, which may be a token: so only the place is reported.
    pub(super) fn of_kubeconfig(error: &KubeconfigError, path: Option<&Path>) -> Self {
        let reported = match error {
            KubeconfigError::Parse(error) => match error.location() {
                Some(at) => format!("it is not valid at line {}, column {}", at.line(), at.column()),
                None => "it is not valid".into(),
            },
            KubeconfigError::ReadConfig(error, _) => error.to_string(),
            other => other.to_string(),
        };
        let file = path.map(|path| format!("{}: ", path.display())).unwrap_or_default();
        Self::Kubeconfig { reason: visible(&format!("{file}{reported}")).into_owned() }
    }

    pub(super) fn of_setup(source: kube::Error) -> Self {
        match source {
            kube::Error::Auth(error) => Self::of_auth(&error),
            source => Self::Setup { source },
        }
    }

    /// What a credential plugin printed, or was given, may be a token, so only its own messages are reported.
    pub(super) fn of_auth(error: &AuthError) -> Self {
        let reason = match error {
            AuthError::AuthExecStart(error) => format!("the plugin of the kubeconfig can't be started: {error}"),
            AuthError::AuthExecRun { out, .. } => {
                let said = String::from_utf8_lossy(&out.stderr);
                let said = said.lines().next_back().unwrap_or_default();
                format!("the plugin of the kubeconfig ended with {}: {}", out.status, visible(said))
            }
            AuthError::ReadTokenFile(error, path) => format!("{}: {error}", shown(path)),
            AuthError::AuthExecParse(_) | AuthError::ExecPluginFailed => {
                "the plugin of the kubeconfig printed no credential".into()
            }
            AuthError::MissingCommand => "the plugin of the kubeconfig has no command".into(),
            _ => "choreoctl does not support the kubeconfig's authentication method".into(),
        };
        Self::Credentials { reason }
    }

    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NoKubeconfig => "name a kubeconfig with --kubeconfig, or set KUBECONFIG".into(),
            Self::NoContext { known } | Self::UnknownContext { known, .. } if known.is_empty() => NO_CONTEXTS.into(),
            Self::NoContext { known } => format!("name one with --context: {}", some(known)),
            Self::UnknownContext { context, known } => {
                match did_you_mean(&closest(context, known.iter().map(String::as_str))) {
                    Some(question) => format!("{question} The kubeconfig has: {}", some(known)),
                    None => format!("the kubeconfig has: {}", some(known)),
                }
            }
            Self::UnknownUser { .. } | Self::Kubeconfig { .. } => "kubectl config view".into(),
            Self::Proxy { .. } => "use a proxy of the scheme http or socks5".into(),
            Self::Credentials { .. } => "log in to the cluster again".into(),
            Self::Unreachable { source, command, .. } => match find::<rustls::Error>(source.as_ref()) {
                Some(rustls::Error::InvalidCertificate(
                    rustls::CertificateError::Expired | rustls::CertificateError::ExpiredContext { .. },
                )) => "the API server's certificate has expired, or this machine's clock is wrong".into(),
                Some(rustls::Error::InvalidCertificate(_)) => {
                    "the kubeconfig's certificate authority is not this server's: is it another cluster's?".into()
                }
                _ => format!("is this the right context? {command}"),
            },
            Self::OtherAnswer { command, .. } => {
                format!("does the kubeconfig name the API server itself, and not a proxy or another service? {command}")
            }
            Self::TooLarge { .. } => {
                "does the kubeconfig name the API server? If so, name planes, or choose some with -l".into()
            }
            Self::Busy { .. } => "try again after that".into(),
            Self::TimedOut { .. } => "try again, or allow more with --request-timeout 2m".into(),
            Self::Unauthorized { command, .. } => format!("has the token or certificate expired? {command}"),
            Self::Forbidden { command, .. } => format!("ask for this permission, or list your permissions: {command}"),
            Self::Unlisted(Unlisted { kind, command, .. }) => {
                format!("ask for the permission to list {}, or list your permissions: {command}", kind.crd_name())
            }
            Self::NoSuchKind { renamed: Some(other), .. } => {
                // Manifests are migrated to later releases only.
                let is_later = Kind::of_word(other).is_some_and(|other| other.release() == Release::V1);
                let rewrite = if is_later { "; rewrite manifests with `choreoctl migrate -f FILE`" } else { "" };
                let word = other.to_lowercase();
                format!(
                    "it has {other} instead: OpenChoreo 1.0 renamed the kind. Name it before the planes, such as `choreoctl get {word}`{rewrite}"
                )
            }
            Self::NoSuchKind { command, .. } => {
                format!("is this the control plane's context? OpenChoreo's chart installs the CRD: {command}")
            }
            Self::NotFound { similar, command, .. } => match did_you_mean(similar) {
                Some(question) => format!("{question} All planes: {command}"),
                None => command.clone(),
            },
            Self::NoSource { command, .. } => command.clone(),
            Self::NoAgent { there, command, .. } if there.is_empty() => {
                format!("name its namespace with --plane-namespace: {command}")
            }
            Self::NoAgent { there, command, .. } => format!(
                "this namespace has the agent of planeID {}: name another one with --plane-namespace, or compare the planeIDs: {command}",
                listed(there)
            ),
            Self::SeveralAgents { .. } => "name the planeID with --plane-id, or a plane".into(),
            Self::NoKey { keys, .. } => format!("it has {}", listed(keys)),
            Self::Exists { .. } => "change it with `choreoctl apply -f FILE`".into(),
            Self::Owned { .. } => {
                "remove the fields from the manifest, or take ownership with --force-conflicts".into()
            }
            Self::Changed { .. } => "try again".into(),
            Self::Outdated { .. } => {
                "read the object again, or remove resourceVersion and uid from the manifest".into()
            }
            Self::BothSources { command, .. } => {
                format!("remove the other one first, if its owner lets you: {command}")
            }
            Self::Setup { .. }
            | Self::Rejected { .. }
            | Self::Refused { .. }
            | Self::Unsendable { .. }
            | Self::Answer { .. } => return None,
        })
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
                | Self::Changed { .. }
                | Self::Outdated { .. }
                | Self::Rejected { .. }
                | Self::BothSources { .. }
        )
    }
}

/// The first error of a type in a chain. Some links hide their cause from `source`, and hold it in an `io::Error`.
pub(super) fn find<'e, T: StdError + 'static>(error: &'e (dyn StdError + 'static)) -> Option<&'e T> {
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
}
