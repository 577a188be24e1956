//! Answers that are of no use: too large, too late, or not those of the Kubernetes API.

use std::time::Duration;

use http::{Response, StatusCode};

/// Largest answer, in bytes: a page of 500 planes of 1 MiB each fits.
pub(super) const LARGEST_ANSWER: usize = 512 << 20;

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

/// The server's answer did not begin in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", .0.as_secs())]
pub(super) struct NoAnswer(pub Duration);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_other_servers_are_told_apart() {
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
