//! The logs of containers, line by line, as long as they are written.

use std::time::Duration;

use futures_util::io::AsyncBufReadExt as _;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, LogParams};

use super::connection::Cluster;
use super::error::Error;
use crate::plane::{NamespacedName, Span};

/// Which lines of a log are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRange {
    /// Those of this length of time before now.
    pub since: Option<Span>,
    /// Those from the second of this moment on, instead.
    pub from: Option<Timestamp>,
    /// The last ones.
    pub tail: Option<u32>,
    /// Those of the container before its last restart.
    pub previous: bool,
    /// Whether those that are still to be written are read, too.
    pub follow: bool,
}

/// A line of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When the container wrote it, by its node's clock.
    pub written: Option<Timestamp>,
    pub text: String,
}

impl LogLine {
    /// Reads a line that begins with its time.
    fn of(line: &str) -> Self {
        let line = line.strip_suffix('\n').unwrap_or(line);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (time, text) = line.split_once(' ').unwrap_or((line, ""));
        match time.parse() {
            Ok(written) => Self { written: Some(written), text: text.to_owned() },
            Err(_) => Self { written: None, text: line.to_owned() },
        }
    }
}

/// The lines of a log, until its end or an error.
pub type LogLines = BoxStream<'static, Result<LogLine, Error>>;

impl Cluster {
    /// Reads the log of a container.
    pub async fn log_lines(&self, pod: &NamespacedName, container: &str, range: LogRange) -> Result<LogLines, Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let params = LogParams {
            container: Some(container.to_owned()),
            follow: range.follow,
            previous: range.previous,
            since_seconds: range.since.map(|since| i64::try_from(since.seconds()).unwrap_or(i64::MAX).max(1)),
            // Rounded up, lines of its second would be missing.
            since_time: range.from.and_then(|from| Timestamp::from_second(from.as_second()).ok()),
            tail_lines: range.tail.map(i64::from),
            timestamps: true,
            ..LogParams::default()
        };
        let request = api.log_stream(&pod.name, &params);
        // A container that writes nothing is not answered for.
        let limit = self.target.options.request_timeout.filter(|_| !range.follow);
        let log =
            if range.follow { request.await.map_err(|error| self.error(error)) } else { self.ask(request).await }?;
        let lines = stream::unfold(Some((log, self.clone())), move |state| async move {
            let (mut log, cluster) = state?;
            let mut line = Vec::new();
            let read = within(limit, log.read_until(b'\n', &mut line)).await;
            match read {
                Some(Ok(0)) => None,
                Some(Ok(_)) => Some((Ok(LogLine::of(&String::from_utf8_lossy(&line))), Some((log, cluster)))),
                Some(Err(error)) => Some((Err(cluster.error(kube::Error::ReadEvents(error))), None)),
                None => {
                    let server = cluster.target.server.clone();
                    Some((Err(Error::TimedOut { server, limit: limit.unwrap_or_default() }), None))
                }
            }
        });
        Ok(lines.boxed())
    }
}

/// An answer, if it comes in time.
async fn within<T>(limit: Option<Duration>, answer: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, answer).await.ok(),
        None => Some(answer.await),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use serde_json::json;

    #[test]
    fn a_line_has_the_time_at_which_it_was_written() {
        let line = |text: &str| {
            let LogLine { written, text } = LogLine::of(text);
            (written.map(|time| time.to_string()), text)
        };
        let time = Some("2026-01-01T00:00:00.123456789Z".to_owned());
        assert_eq!(line("2026-01-01T00:00:00.123456789Z a  b\r\n"), (time.clone(), "a  b".into()));
        assert_eq!(line("2026-01-01T01:00:00.123456789+01:00 \n"), (time, String::new()));
        assert_eq!(line("unable to retrieve logs"), (None, "unable to retrieve logs".into()));
    }

    #[tokio::test]
    async fn a_log_is_read_as_it_is_asked_for() {
        let fake = Fake::default();
        fake.answer("GET /api/v1/namespaces/n/pods/p/log", 200, json!("2026-01-01T00:00:00Z a\nb"));
        let pod = NamespacedName { namespace: "n".into(), name: "p".into() };
        let range = LogRange {
            from: "2026-01-01T00:00:00.9Z".parse().ok(),
            tail: Some(3),
            follow: true,
            ..LogRange::default()
        };
        let lines: Vec<_> = fake.cluster().log_lines(&pod, "agent", range).await.unwrap().collect().await;
        let lines: Vec<_> = lines.into_iter().map(|line| line.unwrap().text).collect();
        assert_eq!(lines, ["a", "b"]);
        let asked = fake.asked().concat();
        for part in ["container=agent", "follow=true", "sinceTime=2026-01-01T00%3A00%3A00Z", "tailLines=3"] {
            assert!(asked.contains(part) && asked.contains("timestamps=true"), "{part} in {asked}");
        }
        fake.answer("GET /api/v1/namespaces/n/pods/q/log", 400, json!({"kind": "Status", "status": "Failure", "message": "it is waiting", "reason": "BadRequest", "code": 400}));
        let pod = NamespacedName { name: "q".into(), ..pod };
        let error = fake.cluster().log_lines(&pod, "agent", LogRange::default()).await.err().unwrap();
        assert!(error.to_string().contains("it is waiting"), "{error}");
    }
}
