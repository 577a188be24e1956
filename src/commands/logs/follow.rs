//! Logs as they are written: those of the pods that there are, and of those that take their place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::Sender;

use super::reader::{Found, Reader, Side, is_gone};
use crate::cluster::Error;
use crate::render::logs::Entry;
use crate::text::visible;

/// How often it is looked for new pods, and a log that ended is tried again.
const EVERY: Duration = Duration::from_secs(1);
/// Reasons of a pod that is about to run.
const STARTING: [&str; 3] = ["ContainerCreating", "PodInitializing", "Pending"];

/// What is to be shown.
pub enum Reports {
    Entry(Box<Entry>),
    /// Something about the pods.
    Note(String),
    Warning(String),
}

/// The logs that are read, each until its end.
type Logs = FuturesUnordered<LocalBoxFuture<'static, (Reader, Result<(), Error>)>>;

/// Follows the logs of a program's pods.
pub struct Following {
    side: Side,
    sender: Sender<Reports>,
    /// The pods that there are; those whose logs are not read at the moment have their readers here.
    pods: BTreeMap<String, Option<Reader>>,
    /// What was reported for each of them, and for all.
    reported: BTreeSet<String>,
    is_lost: bool,
}

impl Following {
    pub fn of(side: Side, readers: Vec<Reader>, sender: Sender<Reports>) -> Self {
        let pods = readers.into_iter().map(|reader| (reader.source.pod.clone(), Some(reader))).collect();
        Self { side, sender, pods, reported: BTreeSet::new(), is_lost: false }
    }

    pub async fn run(mut self) {
        let mut logs = Logs::new();
        loop {
            let side = self.side.clone();
            let found = self.meanwhile(&mut logs, side.pods()).await;
            self.look(found).await;
            for reader in self.pods.values_mut().filter_map(Option::take) {
                logs.push(Box::pin(followed(reader.with_cluster(&self.side.cluster), self.sender.clone())));
            }
            self.meanwhile(&mut logs, tokio::time::sleep(EVERY)).await;
        }
    }

    /// Reads logs while it waits for something.
    async fn meanwhile<T>(&mut self, logs: &mut Logs, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Some((reader, result)) = logs.next() => self.ended(reader, result).await,
            }
        }
    }

    /// Takes which pods there are.
    async fn look(&mut self, found: anyhow::Result<Vec<Found>>) {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                if matches!(error.downcast_ref(), Some(Error::Unauthorized { .. }))
                    && let Ok(cluster) = self.side.cluster.reconnect().await
                {
                    self.side.cluster = cluster;
                }
                if !std::mem::replace(&mut self.is_lost, true) {
                    let reported = format!("could not look for pods of the {}: {error}", self.side.noun());
                    self.report(Reports::Warning(reported)).await;
                }
                return;
            }
        };
        if std::mem::take(&mut self.is_lost) {
            self.report(Reports::Note("the API server answers again".into())).await;
        }
        let names: BTreeSet<_> = found.iter().map(|pod| pod.name.as_str()).collect();
        let gone: Vec<_> = self.pods.keys().filter(|name| !names.contains(name.as_str())).cloned().collect();
        for name in gone {
            self.pods.remove(&name);
            self.report(Reports::Note(format!("pod {} of the {} ended", visible(&name), self.side.noun()))).await;
        }
        for pod in found {
            match pod.waiting {
                Some(reason) if STARTING.contains(&reason.as_str()) => {}
                Some(reason) => {
                    let reported = format!("pod {} is not running: {}", visible(&pod.name), visible(&reason));
                    self.tell_once(Reports::Note(reported.clone()), reported).await;
                }
                None if self.pods.contains_key(&pod.name) => {}
                None => {
                    self.report(Reports::Note(format!(
                        "pod {} of the {} started",
                        visible(&pod.name),
                        self.side.noun()
                    )))
                    .await;
                    self.pods.insert(pod.name.clone(), Some(Reader::of(&self.side, &pod.name)));
                }
            }
        }
    }

    /// A log ended: that of a container which did, too, or which is about to be started again.
    async fn ended(&mut self, reader: Reader, result: Result<(), Error>) {
        if let Err(error) = result.or_else(|error| if is_gone(&error) { Ok(()) } else { Err(error) }) {
            let reported = format!("could not read the log of {}: {error}", reader.title());
            self.tell_once(Reports::Warning(reported.clone()), reported).await;
        }
        // Of a pod that is gone nothing more is to be read.
        if let Some(place) = self.pods.get_mut(&reader.source.pod) {
            *place = Some(reader);
        }
    }

    async fn report(&self, reported: Reports) {
        // Nobody listens where the command ends.
        let _ = self.sender.send(reported).await;
    }

    async fn tell_once(&mut self, reported: Reports, text: String) {
        if self.reported.insert(text) {
            self.report(reported).await;
        }
    }
}

/// Reads a log to its end.
async fn followed(mut reader: Reader, sender: Sender<Reports>) -> (Reader, Result<(), Error>) {
    let result = reader.follow(async |entry| sender.send(Reports::Entry(Box::new(entry))).await.is_ok()).await;
    (reader, result)
}
