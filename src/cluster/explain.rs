//! What an answer of the API server, or none, means: whether it is of use, and its error, with a command for the same
//! cluster.

use std::time::Duration;

use http::{Response, StatusCode};
use kube::client::AuthError;
use kube::core::Status;
use tower::BoxError;

use super::bounds::{Excess, NoAnswer};
use super::error::{Error, find};
use super::target::Target;
use crate::plane::{DEFAULT_KIND, Kind, Scope};
use crate::text::visible;

/// The kind that a status means, which names it by its plural.
pub(super) fn singular(plural: &str, kind: &Kind) -> String {
    match plural == kind.plural {
        true if kind == DEFAULT_KIND => "plane".into(),
        true => kind.kind.into(),
        false => visible(plural).into_owned(),
    }
}

impl Error {
    pub(super) fn of(error: kube::Error, target: &Target, kind: &'static Kind) -> Self {
        let server = target.server.clone();
        if let Some(excess) = find::<Excess>(&error) {
            return Self::TooLarge { server, excess: excess.to_string() };
        }
        if let Some(NoAnswer(limit)) = find(&error) {
            return Self::TimedOut { server, limit: *limit };
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
            Err(source) => match find::<Unusable>(source.as_ref()) {
                Some(answer) => Self::of_unusable(answer, target),
                None => Self::unreachable(source, server, target),
            },
        }
    }

    fn of_unusable(answer: &Unusable, target: &Target) -> Self {
        let found = match answer {
            Unusable::Busy { wait, .. } => return Self::Busy { server: target.server.clone(), wait: *wait },
            Unusable::Redirect { status, location: Some(location) } => {
                format!("a redirect to {} ({status})", visible(location))
            }
            Unusable::Redirect { status, location: None } => format!("a redirect ({status})"),
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

    pub(super) fn no_such_kind(target: &Target, kind: &'static Kind) -> Self {
        let command = target.command(&format!("kubectl get crd {}", kind.crd_name()));
        Self::NoSuchKind { kind: kind.kind, renamed: None, command }
    }

    /// A plane of a kind that doesn't exist.
    pub(super) fn no_plane(target: &Target, kind: &'static Kind, what: String) -> Self {
        let command = match (kind == DEFAULT_KIND, kind.scope) {
            (true, _) => "choreoctl get".to_owned(),
            (false, Scope::Cluster) => format!("choreoctl get {}", kind.word()),
            (false, Scope::Namespaced) => format!("choreoctl get {} -A", kind.word()),
        };
        Self::NotFound { what, similar: Vec::new(), command: target.command(&command) }
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
            (404, _) if of == kind.plural => Self::no_plane(target, kind, what()),
            (404, _) => Self::NoSource { what: what(), command: target.command("kubectl get namespaces") },
            (409, "AlreadyExists") => Self::Exists { what: what() },
            (409, _) if causes.iter().any(|cause| cause.reason == "FieldManagerConflict") => {
                Self::Owned { owned: causes.into_iter().map(Into::into).collect() }
            }
            (409, _) if name.is_empty() => Self::Changed { what: "the object".into() },
            (409, _) => Self::Changed { what: what() },
            (400 | 422, _) => Self::Rejected { message },
            // No HTTP status is 0: the answer is something else than the status that it was taken for.
            (0, _) => Self::other_answer(target, "an event of no known type".into(), "a watch event".into()),
            (code, _) => Self::Refused { code, message },
        }
    }
}

/// An answer that is not one of the Kubernetes API, or that comes with an order to wait.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    #[error("{status}, to be tried again after {} s", .wait.as_secs())]
    Busy { status: StatusCode, wait: Duration },
    #[error("{status}{}", .location.as_deref().map(|location| format!(" to {location}")).unwrap_or_default())]
    Redirect { status: StatusCode, location: Option<String> },
    #[error("{status}, {content_type} instead of JSON")]
    NotJson { status: StatusCode, content_type: String },
}

impl Unusable {
    /// Judges an answer by its status and headers. `patience` is how long a request may wait for its turn.
    pub(super) fn of<B>(response: &Response<B>, path: &str, patience: Duration) -> Option<Self> {
        let status = response.status();
        let header = |name| response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            let wait = header(http::header::RETRY_AFTER).and_then(|wait| wait.parse().ok()).map(Duration::from_secs);
            return wait.filter(|wait| *wait > patience).map(|wait| Self::Busy { status, wait });
        }
        if status.is_redirection() {
            let location = header(http::header::LOCATION).map(|location| location.into_owned());
            return Some(Self::Redirect { status, location });
        }
        // A log is plain text, and so are some refusals of the API server.
        let content_type = header(http::header::CONTENT_TYPE)?.to_ascii_lowercase();
        let foreign = match status {
            StatusCode::UNAUTHORIZED => false,
            status if status.is_success() => !content_type.contains("json") && !path.ends_with("/log"),
            _ => content_type.contains("html"),
        };
        foreign.then_some(Self::NotJson { status, content_type })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cluster::Fake;
    use crate::plane::{DEFAULT_KIND, Plane};

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
            (409, "Conflict", "a", "clusterbuildplanes", "another client changed plane a at the same time"),
            (422, "Invalid", "a", "clusterbuildplanes", "rejected it: m"),
            (0, "", "", "", "an event of no known type"),
            (507, "", "", "", "answered 507: m"),
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

    #[tokio::test]
    async fn a_kind_that_was_renamed_is_named() {
        let fake = Fake::default();
        let error = |fake: &Fake| {
            let cluster = fake.cluster();
            async move { cluster.planes::<Plane>(None).await.unwrap_err() }
        };
        let missing = json!({"status": "Failure", "code": 404, "reason": "NotFound", "message": "x", "details": {}});
        fake.answer("GET /apis/openchoreo.dev", 404, missing);
        assert!(error(&fake).await.hint().unwrap().contains("the control plane's context?"));
        let fake = Fake::default();
        fake.serve(&Kind::of_words("cwp").unwrap());
        let hint = error(&fake).await.hint().unwrap();
        assert!(hint.contains("ClusterWorkflowPlane instead"), "{hint}");
    }

    #[test]
    fn answers_of_other_servers_are_distinguished() {
        let judge = |status: u16, headers: &[(&str, &str)], path: &str| {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(*name, *value);
            }
            let response = response.body(()).unwrap();
            Unusable::of(&response, path, Duration::from_secs(5)).map(|error| error.to_string())
        };
        let html = ("content-type", "text/html; charset=utf-8");
        let json = ("content-type", "application/json;stream=watch");
        let text = ("content-type", "text/plain");
        for (status, headers, path, expected) in [
            (200, &[json][..], "/apis", None),
            (200, &[], "/apis", None),
            (200, &[html], "/apis", Some("200 OK, text/html; charset=utf-8 instead of JSON")),
            (200, &[text], "/apis", Some("200 OK, text/plain instead of JSON")),
            (200, &[text], "/api/v1/namespaces/a/pods/b/log", None),
            (401, &[html], "/apis", None),
            (404, &[text], "/apis", None),
            (502, &[html], "/apis", Some("502 Bad Gateway, text/html; charset=utf-8 instead of JSON")),
            (302, &[("location", "https://login")], "/apis", Some("302 Found to https://login")),
            (429, &[("retry-after", "1")], "/apis", None),
            (429, &[json], "/apis", None),
            (429, &[("retry-after", "3600")], "/apis", Some("429 Too Many Requests, to be tried again after 3600 s")),
        ] {
            assert_eq!(judge(status, headers, path).as_deref(), expected, "{status} {headers:?}");
        }
    }
}
