//! A watch that outlives restarts of the API server, expired resource versions and expired tokens, and says so.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, watcher};
use tokio::sync::watch::Receiver;

use super::{Cluster, Error};
use crate::plane::{Plane, Selector};

/// How long the server keeps one watch open; the bound on noticing that a connection went dead in silence is 5 s more.
const WATCH_SECONDS: u32 = 10;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What a watch tells.
#[derive(Debug)]
pub enum Event {
    /// All planes as they are now, at the start and whenever the watch had to begin anew.
    Synced(BTreeMap<String, Plane>),
    /// One was added or changed.
    Applied(Box<Plane>),
    Deleted(Box<Plane>),
    /// The server can't be heard; tries go on.
    Lost(Error),
    /// The server answers again.
    Resumed,
}

/// A running watch.
pub struct Watch {
    cluster: Cluster,
    selector: Option<Selector>,
    name: Option<String>,
    stream: BoxStream<'static, watcher::Result<watcher::Event<Plane>>>,
    answers: Receiver<u64>,
    listing: BTreeMap<String, Plane>,
    synced: bool,
    lost: bool,
}

impl Watch {
    /// Starts a watch on the planes that the selector chooses; on one only, where there is a name.
    pub fn start(cluster: &Cluster, selector: Option<Selector>, name: Option<String>) -> Self {
        Self {
            stream: stream(cluster, selector.as_ref(), name.as_deref()),
            answers: cluster.observed.answers(),
            cluster: cluster.clone(),
            selector,
            name,
            listing: BTreeMap::new(),
            synced: false,
            lost: false,
        }
    }

    /// The API server's clock.
    pub fn now(&self) -> jiff::Timestamp {
        self.cluster.now()
    }

    /// The next thing to tell.
    ///
    /// # Errors
    /// Those of the first list: who can't begin is told at once, who has begun goes on.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let item = tokio::select! {
                biased;
                answered = self.answers.changed(), if self.lost => {
                    if answered.is_ok() {
                        self.lost = false;
                        return Ok(Event::Resumed);
                    }
                    continue;
                }
                item = self.stream.next() => item,
            };
            match item {
                Some(Ok(watcher::Event::Init)) => self.listing.clear(),
                Some(Ok(watcher::Event::InitApply(plane))) => {
                    self.listing.insert(plane.name().to_owned(), plane);
                }
                Some(Ok(watcher::Event::InitDone)) => {
                    self.synced = true;
                    return Ok(Event::Synced(std::mem::take(&mut self.listing)));
                }
                Some(Ok(watcher::Event::Apply(plane))) => {
                    return Ok(Event::Applied(Box::new(plane)));
                }
                Some(Ok(watcher::Event::Delete(plane))) => {
                    return Ok(Event::Deleted(Box::new(plane)));
                }
                Some(Err(error)) => {
                    if let Some(event) = self.failed(error).await? {
                        return Ok(event);
                    }
                }
                None => self.restart(),
            }
        }
    }

    async fn failed(&mut self, error: watcher::Error) -> Result<Option<Event>, Error> {
        let error = match error {
            watcher::Error::InitialListFailed(source)
            | watcher::Error::WatchStartFailed(source)
            | watcher::Error::WatchFailed(source) => self.cluster.error(source),
            watcher::Error::WatchError(status) => self.cluster.error(kube::Error::Api(status)),
            watcher::Error::NoResourceVersion => return Ok(None),
        };
        // The watcher begins anew by itself: nothing is lost.
        if matches!(error, Error::Refused { code: 410, .. }) {
            return Ok(None);
        }
        if !self.synced {
            return Err(error);
        }
        if matches!(error, Error::Unauthorized { .. })
            && let Ok(cluster) = self.cluster.reconnect().await
        {
            self.cluster = cluster;
            self.answers = self.cluster.observed.answers();
            self.restart();
        }
        self.answers.mark_unchanged();
        Ok((!std::mem::replace(&mut self.lost, true)).then_some(Event::Lost(error)))
    }

    fn restart(&mut self) {
        self.stream = stream(&self.cluster, self.selector.as_ref(), self.name.as_deref());
    }
}

fn stream(
    cluster: &Cluster,
    selector: Option<&Selector>,
    name: Option<&str>,
) -> BoxStream<'static, watcher::Result<watcher::Event<Plane>>> {
    let mut config = watcher::Config::default().timeout(WATCH_SECONDS);
    if let Some(selector) = selector {
        config = config.labels(selector.as_str());
    }
    if let Some(name) = name {
        config = config.fields(&format!("metadata.name={name}"));
    }
    let slim = |event: watcher::Event<Plane>| event.modify(|plane| plane.metadata.managed_fields = None);
    watcher(cluster.api(), config).backoff(Pause::default()).map_ok(slim).boxed()
}

/// Pauses of 0.1 s to 2 s, each twice the last: somebody waits for the answer.
#[derive(Default)]
struct Pause(u32);

impl Iterator for Pause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(100 << self.0.min(5)).min(LONGEST_PAUSE);
        self.0 += 1;
        Some(pause)
    }
}

impl Backoff for Pause {
    fn reset(&mut self) {
        self.0 = 0;
    }
}
