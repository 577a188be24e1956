//! The logs of an agent's pods and of the gateway's: which pods there are, and what is new in their logs.

use std::cmp::Ordering;

use futures_util::StreamExt as _;
use jiff::Timestamp;

use crate::cluster::{Agent, AgentPod, CONTAINER, Cluster, Error, LogLine, LogRange};
use crate::estate::{DeployedGateway, GatewayLines};
use crate::plane::{GATEWAY_CONTAINER, NamespacedName};
use crate::render::logs::{Entry, LogSource, Program, Reading};
use crate::text::visible;

/// A program whose pods' logs are read.
#[derive(Clone)]
pub struct Side {
    pub cluster: Cluster,
    pub namespace: String,
    pub program: Pods,
}

#[derive(Clone)]
pub enum Pods {
    Agent(Box<Agent>),
    /// Only the lines about a plane are shown.
    Gateway(GatewayLines),
}

/// A pod of a program.
pub struct Found {
    pub name: String,
    /// Why its container does not run, where it never did.
    pub waiting: Option<String>,
}

impl From<AgentPod> for Found {
    fn from(pod: AgentPod) -> Self {
        Self { name: pod.name, waiting: pod.waiting.filter(|_| pod.restarts == 0) }
    }
}

impl Side {
    /// Returns the pods that there are now.
    pub async fn pods(&self) -> anyhow::Result<Vec<Found>> {
        match &self.program {
            Pods::Agent(agent) => Ok(self.cluster.agent_pods(agent).await?.into_iter().map(Found::from).collect()),
            Pods::Gateway(_) => {
                let gateway = DeployedGateway::of(&self.cluster, &self.namespace).await;
                let gateway = gateway.map_err(|why| anyhow::Error::msg(why.message))?;
                let ready = gateway.map(|gateway| gateway.ready).unwrap_or_default();
                Ok(ready.into_iter().map(|name| Found { name, waiting: None }).collect())
            }
        }
    }

    pub fn noun(&self) -> &'static str {
        match self.program {
            Pods::Agent(_) => "agent",
            Pods::Gateway(_) => "gateway",
        }
    }
}

/// Reads the log of a pod; from one reading to the next no line twice.
pub struct Reader {
    side: Side,
    pub source: LogSource,
    reading: Reading,
    seen: Seen,
    /// From where to go on where no line was seen: since then new lines are new.
    from: Option<Timestamp>,
}

impl Reader {
    pub fn of(side: &Side, pod: &str) -> Self {
        let program = match side.program {
            Pods::Agent(_) => Program::Agent,
            Pods::Gateway(_) => Program::Gateway,
        };
        let source = LogSource { program, pod: pod.to_owned() };
        Self { side: side.clone(), reading: Reading::of(source.clone()), source, seen: Seen::default(), from: None }
    }

    /// The same with the credentials of now.
    pub fn with_cluster(mut self, cluster: &Cluster) -> Self {
        self.side.cluster = cluster.clone();
        self
    }

    /// Reads what there is in a range.
    pub async fn read(&mut self, range: LogRange) -> Result<Vec<Entry>, Error> {
        // Of the gateway's lines, the last ones about the plane are meant.
        let is_part = matches!(self.side.program, Pods::Gateway(_));
        let asked = LogRange { tail: range.tail.filter(|_| !is_part), ..range };
        let (start, mut entries) = (self.side.cluster.now(), Vec::new());
        self.each(asked, async |entry| {
            entries.push(entry);
            true
        })
        .await?;
        self.from = Some(start);
        if let Some(tail) = range.tail.and_then(|tail| usize::try_from(tail).ok()) {
            entries.drain(..entries.len().saturating_sub(tail));
        }
        Ok(entries)
    }

    /// Goes on behind the lines that were seen, until the log ends; `take` says whether to.
    pub async fn follow(&mut self, take: impl AsyncFnMut(Entry) -> bool) -> Result<(), Error> {
        let from = self.seen.last.or(self.from);
        self.seen.begin_anew();
        self.each(LogRange { from, follow: true, ..LogRange::default() }, take).await
    }

    async fn each(&mut self, range: LogRange, mut take: impl AsyncFnMut(Entry) -> bool) -> Result<(), Error> {
        let container = match self.side.program {
            Pods::Agent(_) => CONTAINER,
            Pods::Gateway(_) => GATEWAY_CONTAINER,
        };
        let pod = NamespacedName { namespace: self.side.namespace.clone(), name: self.source.pod.clone() };
        let mut lines = self.side.cluster.log_lines(&pod, container, range).await?;
        while let Some(line) = lines.next().await {
            let line = line?;
            if !self.seen.is_new(&line) {
                continue;
            }
            let concerns = match &mut self.side.program {
                Pods::Agent(_) => true,
                Pods::Gateway(lines) => lines.have(&line.text),
            };
            let Some(entry) = self.reading.entry(&line).filter(|_| concerns) else {
                continue;
            };
            if !take(entry).await {
                break;
            }
        }
        Ok(())
    }

    pub fn is_of_gateway(&self) -> bool {
        self.source.program == Program::Gateway
    }

    pub fn title(&self) -> String {
        format!("pod {}", visible(&self.source.pod))
    }
}

/// Whether a log is gone with its pod.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::NoSource { .. } | Error::NotFound { .. } | Error::NoSuchKind { .. })
}

/// Which lines of a log were seen: their times are not unique, and a log can be asked for by whole seconds only.
#[derive(Debug, Default)]
struct Seen {
    last: Option<Timestamp>,
    /// How many lines of the last time.
    count: usize,
    /// How many of them the log has had since it began anew, while it repeats what was seen.
    repeated: Option<usize>,
}

impl Seen {
    fn begin_anew(&mut self) {
        self.repeated = self.last.map(|_| 0);
    }

    fn is_new(&mut self, line: &LogLine) -> bool {
        let Some(written) = line.written else {
            return true;
        };
        let order = self.last.map_or(Ordering::Greater, |last| written.cmp(&last));
        if let Some(repeated) = &mut self.repeated {
            *repeated += usize::from(order == Ordering::Equal);
            if order == Ordering::Less || order == Ordering::Equal && *repeated <= self.count {
                return false;
            }
            self.repeated = None;
        }
        self.count = if order == Ordering::Equal { self.count + 1 } else { 1 };
        self.last = Some(written);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Fake;
    use crate::plane::Plane;
    use serde_json::json;

    #[test]
    fn no_line_is_seen_twice_and_none_is_missed() {
        let line =
            |second: &str| LogLine { written: format!("2026-01-01T00:00:{second}Z").parse().ok(), text: second.into() };
        let mut seen = Seen::default();
        let mut take = |seconds: &[&str]| {
            seen.begin_anew();
            seconds.iter().map(|second| seen.is_new(&line(second))).collect::<Vec<_>>()
        };
        assert_eq!(take(&["01", "02.5", "02.5"]), [true, true, true]);
        // The whole second comes again, with one more line of the last time, and others.
        assert_eq!(take(&["02.1", "02.5", "02.5", "02.5", "03"]), [false, false, false, true, true]);
        assert_eq!(take(&["03", "03"]), [false, true]);
        // A clock that is set back hides nothing that is new.
        assert_eq!(take(&["03", "03", "04", "01", "01"]), [false, false, true, true, true]);
        assert!(seen.is_new(&LogLine { written: None, text: String::new() }));
    }

    #[tokio::test]
    async fn of_the_gateway_s_log_the_last_lines_about_the_plane_are_read() {
        let plane: Plane =
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"planeID": "x"}})).unwrap();
        let line = |second: u32, id: &str| {
            format!("2026-01-01T00:00:0{second}Z {}\n", json!({"msg": format!("{id} {second}"), "planeID": id}))
        };
        let log = [line(1, "x"), line(2, "x"), line(3, "y"), line(4, "x"), line(5, "y")].concat();
        let fake = Fake::default();
        fake.answer("GET /api/v1/namespaces/n/pods/g/log", 200, json!(log));
        let program = Pods::Gateway(GatewayLines::about(&plane));
        let side = Side { cluster: fake.cluster(), namespace: "n".into(), program };
        let mut reader = Reader::of(&side, "g");
        let read = reader.read(LogRange { tail: Some(2), ..LogRange::default() }).await.unwrap();
        let text = |entry: &Entry| crate::render::logs::json(entry)["message"].as_str().unwrap().to_owned();
        assert_eq!(read.iter().map(text).collect::<Vec<_>>(), ["x 2", "x 4"]);
        let mut again = Vec::new();
        reader
            .follow(async |entry| {
                again.push(entry);
                true
            })
            .await
            .unwrap();
        assert_eq!(again, []);
    }
}
