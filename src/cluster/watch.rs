//! A watch that outlives restarts of the API server, expired resource versions and expired tokens, and says so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::select_all;
use futures_util::stream::{self, BoxStream};
use kube::api::ListParams;
use kube::runtime::watcher::{self, watcher};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::client::jittered;
use super::connection::Cluster;
use super::error::{Error, Unlisted};
use crate::plane::{Plane, PlaneKey, Selector};

/// How long the server keeps one watch open; the bound on noticing that a connection went dead in silence is 5 s more.
const WATCH_SECONDS: u32 = 10;
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Longest pause where the server answers, and each answer is that it forgot what it said before.
const LONGEST_PAUSE_AFTER_GONE: Duration = Duration::from_secs(30);
/// How often in a row the server may forget before it counts as lost.
const GONE: u32 = 3;
/// How often all planes are listed at most, once they are known.
const LIST_INTERVAL: Duration = Duration::from_secs(5);
/// A server that forgot longer ago than this forgets as every server does.
const FORGIVEN: Duration = Duration::from_secs(120);
/// How often planes are listed where they may not be watched: one of them, or all.
const POLL_ONE: Duration = Duration::from_secs(2);
const POLL_ALL: Duration = Duration::from_secs(5);

type Stream = BoxStream<'static, watcher::Result<watcher::Event<Plane>>>;

/// What a watch says.
#[derive(Debug)]
pub enum Event {
    /// All planes as they are now, at the start and whenever the watch had to begin anew.
    Synced(Listing),
    /// One was added or changed.
    Applied(Box<Plane>),
    Deleted(Box<Plane>),
    /// The server can't be heard; tries go on.
    Lost(Error),
    /// The server answers again.
    Resumed,
}

/// All planes of some kinds, each in a namespace or in all of them.
#[derive(Debug)]
pub struct Listing {
    pub planes: BTreeMap<PlaneKey, Plane>,
    places: Vec<PlaneKey>,
    /// Whether only those of one name were asked for.
    name: Option<String>,
}

impl Listing {
    /// Of all planes of all kinds.
    #[cfg(test)]
    pub fn of(planes: impl IntoIterator<Item = Plane>) -> Self {
        let places = crate::plane::KINDS.iter().map(|kind| PlaneKey { kind, ..PlaneKey::default() }).collect();
        Self { planes: planes.into_iter().map(|plane| (plane.key(), plane)).collect(), places, name: None }
    }

    /// Whether a plane would be in it if it existed.
    pub fn covers(&self, plane: &PlaneKey) -> bool {
        let is_there = |place: &PlaneKey| {
            place.kind == plane.kind && (place.namespace.is_none() || place.namespace == plane.namespace)
        };
        self.places.iter().any(is_there) && self.name.as_ref().is_none_or(|name| *name == plane.name)
    }
}

/// A running watch on planes of one kind.
struct Watch {
    cluster: Cluster,
    /// The planes that are watched.
    chosen: ListParams,
    stream: Stream,
    answers: Receiver<u64>,
    listing: BTreeMap<PlaneKey, Plane>,
    synced: bool,
    lost: Option<Loss>,
    means: Means,
    failures: Failures,
    /// No request is sent before this moment.
    rest: Option<Instant>,
    is_listing: bool,
    /// When the server last answered a list, with one or without.
    listed: Option<Instant>,
}

/// Why the server counts as lost, and so what ends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// It does not answer: any answer will do.
    Silent,
    /// Its answers are of no use: only a whole list will do.
    Useless,
}

/// How changes are noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Means {
    Watch,
    /// By a list now and then, for a user who may not watch.
    Poll,
}

impl Watch {
    /// Starts a watch on the planes that the selector chooses; on one only, where there is a name.
    fn start(cluster: &Cluster, selector: Option<Selector>, name: Option<String>) -> Self {
        let chosen = ListParams {
            label_selector: selector.map(|selector| selector.as_str().to_owned()),
            field_selector: name.map(|name| format!("metadata.name={name}")),
            ..ListParams::default()
        };
        Self {
            stream: watched(cluster, &chosen),
            answers: cluster.observed.answers(),
            cluster: cluster.clone(),
            chosen,
            listing: BTreeMap::new(),
            synced: false,
            lost: None,
            means: Means::Watch,
            failures: Failures::default(),
            rest: None,
            is_listing: false,
            listed: None,
        }
    }

    /// The next event to report.
    ///
    /// # Errors
    /// Those of the first list: an error of the first list is returned at once, a later one is retried.
    async fn next(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(rest) = self.rest {
                tokio::time::sleep_until(rest).await;
                self.rest = None;
            }
            let item = tokio::select! {
                biased;
                answered = self.answers.changed(), if self.lost == Some(Loss::Silent) => {
                    if answered.is_ok() {
                        self.lost = None;
                        return Ok(Event::Resumed);
                    }
                    continue;
                }
                item = self.stream.next() => item,
            };
            let reported = match item {
                Some(Ok(event)) => match self.take(event) {
                    Ok(reported) => reported,
                    Err(error) => self.failed(error).await?,
                },
                Some(Err(error)) => {
                    let error = self.error(error);
                    self.failed(error).await?
                }
                None => {
                    self.restart();
                    None
                }
            };
            if let Some(reported) = reported {
                return Ok(reported);
            }
        }
    }

    /// Takes an event of the stream.
    ///
    /// # Errors
    /// [`Error::OtherAnswer`] for an object that is no plane.
    fn take(&mut self, event: watcher::Event<Plane>) -> Result<Option<Event>, Error> {
        Ok(match event {
            watcher::Event::Init => {
                self.listing.clear();
                self.is_listing = true;
                self.space_lists();
                None
            }
            watcher::Event::InitApply(plane) => {
                let plane = self.plane(plane)?;
                self.listing.insert(plane.key(), plane);
                None
            }
            watcher::Event::InitDone => {
                self.synced = true;
                self.is_listing = false;
                self.listed = Some(Instant::now());
                self.failures.listed();
                if self.lost == Some(Loss::Useless) {
                    self.lost = None;
                    // The list is reported by the next turn.
                    let rest = std::mem::replace(&mut self.stream, stream::pending().boxed());
                    self.stream = stream::iter([Ok(watcher::Event::InitDone)]).chain(rest).boxed();
                    return Ok(Some(Event::Resumed));
                }
                let planes = std::mem::take(&mut self.listing);
                let name = self.chosen.field_selector.as_deref().and_then(|field| field.strip_prefix("metadata.name="));
                let name = name.map(str::to_owned);
                Some(Event::Synced(Listing { planes, places: vec![self.cluster.key("")], name }))
            }
            watcher::Event::Apply(plane) => {
                self.failures.heard();
                Some(Event::Applied(Box::new(self.plane(plane)?)))
            }
            watcher::Event::Delete(plane) => {
                self.failures.heard();
                Some(Event::Deleted(Box::new(self.plane(plane)?)))
            }
        })
    }

    fn plane(&self, mut plane: Plane) -> Result<Plane, Error> {
        self.cluster.recognize(&plane)?;
        self.cluster.heed(&plane);
        plane.metadata.managed_fields = None;
        Ok(plane)
    }

    fn error(&self, error: watcher::Error) -> Error {
        match error {
            watcher::Error::InitialListFailed(source)
            | watcher::Error::WatchStartFailed(source)
            | watcher::Error::WatchFailed(source) => self.cluster.error(source),
            watcher::Error::WatchError(status) => self.cluster.error(kube::Error::Api(status)),
            watcher::Error::NoResourceVersion => Error::other_answer(
                self.cluster.target(),
                "a list without a resourceVersion".into(),
                "one that can be watched".into(),
            ),
        }
    }

    async fn failed(&mut self, error: Error) -> Result<Option<Event>, Error> {
        if matches!(error, Error::Forbidden { .. }) && self.synced && self.means == Means::Watch {
            self.poll();
            return Ok(None);
        }
        let gone = matches!(error, Error::Refused { code: 410, .. });
        let (pause, failures) = self.failures.next(gone);
        self.rest = Some(Instant::now() + jittered(pause));
        let is_answer =
            !matches!(error, Error::Unreachable { .. } | Error::TimedOut { .. } | Error::Unauthorized { .. });
        if self.is_listing && is_answer {
            self.listed = Some(Instant::now());
        }
        // The watcher begins anew by itself: nothing is lost.
        if gone && failures < GONE {
            return Ok(None);
        }
        if !self.synced {
            return Err(self.cluster.explain(error).await);
        }
        if matches!(error, Error::Unauthorized { .. })
            && let Ok(cluster) = self.cluster.reconnect().await
        {
            self.cluster = cluster;
            self.answers = self.cluster.observed.answers();
            self.restart();
        }
        self.answers.mark_unchanged();
        let misunderstood = matches!(error, Error::OtherAnswer { .. } | Error::Answer { .. });
        if misunderstood {
            // A change may have been reported in it: only a new list makes up for that.
            self.restart();
        }
        let loss = if gone || misunderstood { Loss::Useless } else { Loss::Silent };
        Ok(self.lost.replace(loss).is_none().then_some(Event::Lost(error)))
    }

    /// Keeps lists apart where the server makes the watch begin anew again and again, and says so.
    fn space_lists(&mut self) {
        let next = self.listed.map(|listed| listed + LIST_INTERVAL).filter(|next| *next > Instant::now());
        if self.synced && self.means == Means::Watch && next.is_some() {
            self.rest = self.rest.max(next);
            self.cluster.observed.warn_once(&format!(
                "the API server makes the watch begin anew again and again; {} are listed every {} s at most",
                self.cluster.kind().plural,
                LIST_INTERVAL.as_secs()
            ));
        }
    }

    /// Goes on by listing, and says so.
    fn poll(&mut self) {
        self.means = Means::Poll;
        let every = self.interval().as_secs();
        let plural = self.cluster.kind().plural;
        self.cluster.observed.warn_once(&format!("not allowed to watch {plural}; polling every {every} s"));
        self.restart();
        self.rest = Some(Instant::now() + self.interval());
    }

    fn interval(&self) -> Duration {
        if self.chosen.field_selector.is_some() { POLL_ONE } else { POLL_ALL }
    }

    fn restart(&mut self) {
        self.stream = match self.means {
            Means::Watch => watched(&self.cluster, &self.chosen),
            Means::Poll => polled(&self.cluster, &self.chosen, self.interval()),
        };
    }
}

/// Running watches on planes of several kinds, which report as one.
pub struct Watches {
    watches: Vec<Watch>,
    /// What the watches have listed that were first, until all have; none from then on.
    begun: Option<Vec<Listing>>,
    /// Those that have lost the server.
    lost: BTreeSet<usize>,
    /// Those whose planes may not be listed, where the others are shown all the same.
    denied: BTreeSet<usize>,
    is_part_enough: bool,
    unlisted: Vec<Unlisted>,
}

impl Watches {
    /// Starts a watch in each place, on the planes that the selector chooses; on one only, where there is a name.
    pub fn start<'p>(places: impl Iterator<Item = (&'p Cluster, Option<Selector>, Option<String>)>) -> Self {
        let watches = places.map(|(cluster, selector, name)| Watch::start(cluster, selector, name)).collect();
        let (lost, denied) = (BTreeSet::new(), BTreeSet::new());
        Self { watches, begun: Some(Vec::new()), lost, denied, is_part_enough: false, unlisted: Vec::new() }
    }

    /// The same, which goes on without the kinds that may not be listed.
    pub fn of_what_may_be_listed(self) -> Self {
        Self { is_part_enough: true, ..self }
    }

    /// Takes the kinds that were found not to be listable since the last call.
    pub fn take_unlisted(&mut self) -> Vec<Unlisted> {
        std::mem::take(&mut self.unlisted)
    }

    /// The API server's clock.
    pub fn now(&self) -> jiff::Timestamp {
        self.watches.first().map_or_else(jiff::Timestamp::now, |watch| watch.cluster.now())
    }

    /// The next thing to report; nothing before all planes were listed once.
    ///
    /// # Errors
    /// Those of the first lists.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let watches = self.watches.iter_mut().enumerate().filter(|(at, _)| !self.denied.contains(at));
            let events = watches.map(|(at, watch)| Box::pin(async move { (at, watch.next().await) }));
            let ((from, event), ..) = select_all(events).await;
            let event = match event {
                Err(error) if self.is_part_enough && self.denied.len() + 1 < self.watches.len() => {
                    self.unlisted.push(Unlisted::of(self.watches[from].cluster.kind(), error)?);
                    self.denied.insert(from);
                    self.begin()
                }
                event => self.take(event?, from),
            };
            if let Some(event) = event {
                return Ok(event);
            }
        }
    }

    /// Returns the first lists as one, once all of them are there.
    fn begin(&mut self) -> Option<Event> {
        let begun = self.begun.take_if(|begun| begun.len() + self.denied.len() >= self.watches.len())?;
        let mut listings = begun.into_iter();
        let mut all = listings.next()?;
        for listing in listings {
            all.planes.extend(listing.planes);
            all.places.extend(listing.places);
            all.name = None;
        }
        Some(Event::Synced(all))
    }

    fn take(&mut self, event: Event, from: usize) -> Option<Event> {
        match event {
            Event::Lost(_) if !self.lost.insert(from) || self.lost.len() > 1 => None,
            Event::Resumed if !self.lost.remove(&from) || !self.lost.is_empty() => None,
            event @ (Event::Lost(_) | Event::Resumed) => Some(event),
            event => match (&mut self.begun, event) {
                (None, event) => Some(event),
                (Some(begun), Event::Synced(listing)) => {
                    begun.retain(|before| before.places != listing.places);
                    begun.push(listing);
                    self.begin()
                }
                (Some(begun), Event::Applied(plane)) => {
                    let key = plane.key();
                    begun.iter_mut().filter(|listing| listing.covers(&key)).for_each(|listing| {
                        listing.planes.insert(key.clone(), (*plane).clone());
                    });
                    None
                }
                (Some(begun), Event::Deleted(plane)) => {
                    begun.iter_mut().for_each(|listing| drop(listing.planes.remove(&plane.key())));
                    None
                }
                (Some(_), event) => Some(event),
            },
        }
    }
}

fn watched(cluster: &Cluster, chosen: &ListParams) -> Stream {
    let ListParams { label_selector, field_selector, .. } = chosen.clone();
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    watcher(cluster.api(), watcher::Config { label_selector, field_selector, ..config }).boxed()
}

/// Lists the planes again and again, and reports each list as a watch that begins again does.
fn polled(cluster: &Cluster, chosen: &ListParams, every: Duration) -> Stream {
    let start = (cluster.api(), chosen.clone(), None);
    let lists = stream::unfold(start, move |(api, params, next)| async move {
        if let Some(next) = next {
            tokio::time::sleep_until(next).await;
        }
        let list = api.list(&params).await.map_err(watcher::Error::InitialListFailed);
        let events: Vec<_> = match list {
            Ok(list) => {
                let planes = list.items.into_iter().map(|plane| Ok(watcher::Event::InitApply(plane)));
                [Ok(watcher::Event::Init)].into_iter().chain(planes).chain([Ok(watcher::Event::InitDone)]).collect()
            }
            Err(error) => vec![Err(error)],
        };
        Some((stream::iter(events), (api, params, Some(Instant::now() + every))))
    });
    lists.flatten().boxed()
}

/// How often tries failed since the last success.
#[derive(Debug, Default)]
struct Failures {
    /// Since anything else was heard.
    any: u32,
    /// Since a change was reported, or for long: the server answers, and forgets what it answered before.
    gone: u32,
    last_gone: Option<Instant>,
}

impl Failures {
    /// Counts a failure, and returns the pause after it and how many there were of its sort.
    ///
    /// Pauses are twice the last, from 0.1 s on: somebody waits for the answer.
    fn next(&mut self, gone: bool) -> (Duration, u32) {
        if gone && self.last_gone.replace(Instant::now()).is_some_and(|last| last.elapsed() > FORGIVEN) {
            self.gone = 0;
        }
        let (count, longest) =
            if gone { (&mut self.gone, LONGEST_PAUSE_AFTER_GONE) } else { (&mut self.any, LONGEST_PAUSE) };
        let pause = Duration::from_millis(100 << (*count).min(16)).min(longest);
        *count += 1;
        (pause, *count)
    }

    /// A list was answered.
    fn listed(&mut self) {
        self.any = 0;
    }

    /// A change was reported.
    fn heard(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Fake, Namespaces};
    use crate::plane::Kind;

    fn key(word: &str, namespace: Option<&str>, name: &str) -> PlaneKey {
        PlaneKey { kind: Kind::of_word(word).unwrap(), namespace: namespace.map(str::to_owned), name: name.to_owned() }
    }

    fn plane(word: &str, namespace: Option<&str>, name: &str) -> Plane {
        let mut plane = Plane::new(Kind::of_word(word).unwrap(), name);
        plane.metadata.namespace = namespace.map(str::to_owned);
        plane
    }

    fn listing(places: &[PlaneKey], name: Option<&str>, planes: Vec<Plane>) -> Listing {
        Listing { places: places.to_vec(), name: name.map(str::to_owned), ..Listing::of(planes) }
    }

    #[test]
    fn a_listing_covers_the_planes_that_would_be_in_it() {
        let places = [key("cdp", None, ""), key("dp", Some("x"), ""), key("observabilityplane", None, "")];
        let all = listing(&places, None, vec![]);
        let one = listing(&places, Some("a"), vec![]);
        for (plane, is_covered) in [
            (key("cdp", None, "a"), true),
            (key("dp", Some("x"), "a"), true),
            (key("dp", Some("y"), "a"), false),
            (key("observabilityplane", Some("any"), "a"), true),
            (key("cop", None, "a"), false),
        ] {
            assert_eq!((all.covers(&plane), one.covers(&plane)), (is_covered, is_covered), "{plane:?}");
            let other = PlaneKey { name: "b".into(), ..plane };
            assert_eq!((all.covers(&other), one.covers(&other)), (is_covered, false), "{other:?}");
        }
    }

    #[tokio::test]
    async fn several_watches_begin_as_one_once_all_have_listed() {
        let places =
            ["cdp", "dp"].map(|word| Fake::default().cluster().at(Kind::of_word(word).unwrap(), &Namespaces::All));
        let mut watches = Watches::start(places.iter().map(|place| (place, None, None)));
        let [first, second] = [key("cdp", None, ""), key("dp", None, "")];
        let (a, b) = (plane("cdp", None, "a"), plane("cdp", None, "b"));
        let synced = |place: &PlaneKey, planes| Event::Synced(listing(std::slice::from_ref(place), None, planes));
        assert!(watches.take(synced(&first, vec![a.clone()]), 0).is_none());
        assert!(watches.take(Event::Applied(Box::new(b.clone())), 0).is_none(), "it is in the first list, then");
        assert!(watches.take(Event::Deleted(Box::new(a)), 0).is_none());
        let Some(Event::Synced(all)) = watches.take(synced(&second, vec![plane("dp", Some("x"), "a")]), 1) else {
            panic!("all have listed");
        };
        let keys: Vec<_> = all.planes.keys().map(ToString::to_string).collect();
        assert_eq!(keys, ["b", "x/a"]);
        assert!(all.covers(&key("cdp", None, "z")) && all.covers(&key("dp", Some("y"), "z")));
        // From then on each speaks for itself.
        assert!(matches!(watches.take(Event::Applied(Box::new(b)), 0), Some(Event::Applied(_))));
        let Some(Event::Synced(again)) = watches.take(synced(&first, vec![]), 0) else {
            panic!("one has listed again");
        };
        assert!(again.covers(&key("cdp", None, "b")) && !again.covers(&key("dp", Some("x"), "a")));
    }

    #[tokio::test]
    async fn a_list_that_is_made_again_before_all_have_listed_takes_the_place_of_the_first() {
        let places =
            ["cdp", "dp"].map(|word| Fake::default().cluster().at(Kind::of_word(word).unwrap(), &Namespaces::All));
        let mut watches = Watches::start(places.iter().map(|place| (place, None, None)));
        let [first, second] = [key("cdp", None, ""), key("dp", None, "")];
        let synced = |place: &PlaneKey, planes| Event::Synced(listing(std::slice::from_ref(place), None, planes));
        assert!(watches.take(synced(&first, vec![plane("cdp", None, "gone")]), 0).is_none());
        assert!(watches.take(synced(&first, vec![plane("cdp", None, "new")]), 0).is_none());
        let Some(Event::Synced(all)) = watches.take(synced(&second, vec![]), 1) else {
            panic!("all have listed");
        };
        assert_eq!(all.planes.into_keys().collect::<Vec<_>>(), [key("cdp", None, "new")]);
    }

    #[tokio::test]
    async fn a_server_that_several_watches_lose_is_lost_once_and_back_when_all_hear_it() {
        let places =
            ["cdp", "dp"].map(|word| Fake::default().cluster().at(Kind::of_word(word).unwrap(), &Namespaces::All));
        let mut watches = Watches::start(places.iter().map(|place| (place, None, None)));
        assert!(matches!(watches.take(Event::Lost(Error::Changed { what: String::new() }), 0), Some(Event::Lost(_))));
        assert!(watches.take(Event::Lost(Error::Changed { what: String::new() }), 1).is_none());
        assert!(watches.take(Event::Resumed, 0).is_none());
        assert!(matches!(watches.take(Event::Resumed, 1), Some(Event::Resumed)));
        assert!(watches.take(Event::Resumed, 1).is_none(), "it was not lost");
        assert!(matches!(watches.take(Event::Lost(Error::Changed { what: String::new() }), 1), Some(Event::Lost(_))));
    }

    #[test]
    fn pauses_grow_until_something_is_heard() {
        let mut failures = Failures::default();
        let pauses =
            |failures: &mut Failures, gone| (0..10).map(|_| failures.next(gone).0.as_millis()).collect::<Vec<_>>();
        assert_eq!(pauses(&mut failures, false), [100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000]);
        failures.listed();
        assert_eq!(failures.next(false).0.as_millis(), 100);
        assert_eq!(pauses(&mut failures, true), [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000]);
        failures.listed();
        assert_eq!(failures.next(true), (LONGEST_PAUSE_AFTER_GONE, 11), "a list alone is no success");
        failures.heard();
        assert_eq!(failures.next(true).1, 1);
    }
}
