//! The planes of a watch as they were last reported, and the changes that events and the passing of time make.
//!
//! Not here: the connection (cluster), and how changes are shown (watching).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::args::Lookup;
use crate::cluster::Event;
use crate::plane::{Plane, PlaneKey, State, StateFilter};
use crate::render::watch::{Change, Kind};

/// The planes that are watched, each with its state when it was last looked at.
#[derive(Default)]
pub struct Watched {
    lookup: Option<Lookup>,
    filter: StateFilter,
    planes: BTreeMap<PlaneKey, Known>,
    /// When states change without a write, soonest first, so that a write costs the same however many planes there are.
    due: BTreeSet<(Timestamp, PlaneKey)>,
    synced: bool,
    /// Whether the first list was searched for the names.
    begun: bool,
}

/// A plane, its state, and the moment for which it is in `due`.
type Known = (Plane, State, Option<Timestamp>);

impl Watched {
    /// Without names, all planes are watched.
    pub fn new(lookup: Lookup, filter: StateFilter) -> Self {
        Self { lookup: Some(lookup), filter, ..Self::default() }
    }

    /// Whether the first list is complete.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Returns the planes whose state passes the filter, by name.
    pub fn shown(&self) -> impl Iterator<Item = &Plane> {
        self.planes.values().filter(|(_, state, _)| self.filter.keeps(*state)).map(|(plane, ..)| plane)
    }

    /// Returns how long no state changes without a write; nothing where one is overdue, or writes that come faster than
    /// the least wait would put it off for ever.
    pub fn nap(&self, now: Timestamp) -> Duration {
        self.due.first().map_or(Duration::MAX, |(change, _)| {
            Duration::try_from(change.duration_since(now) + SignedDuration::from_millis(1)).unwrap_or_default()
        })
    }

    /// Returns a plane that was named and does not exist when the watch begins; none at any later call.
    pub fn missing(&mut self) -> Option<String> {
        if !self.synced || std::mem::replace(&mut self.begun, true) {
            return None;
        }
        let exists = |name: &String| self.planes.keys().any(|key| key.name == *name);
        self.lookup.iter().flat_map(Lookup::names).find(|name| !exists(name))
    }

    /// Returns the changes that an event of the server makes.
    pub fn take(&mut self, event: Event, time: Timestamp) -> Vec<Change> {
        let about_server = |kind, message| vec![Change { time, kind, plane: None, from: None, message }];
        match event {
            Event::Applied(plane) => self.put(*plane, time),
            Event::Deleted(plane) => self.remove(&plane.key(), time).into_iter().collect(),
            Event::Lost(error) => about_server(Kind::Lost, Some(error.to_string())),
            Event::Resumed => about_server(Kind::Resumed, None),
            Event::Synced(listing) => {
                let is_gone = |key: &&PlaneKey| listing.covers(key) && !listing.planes.contains_key(*key);
                let gone: Vec<_> = self.planes.keys().filter(is_gone).cloned().collect();
                let mut changes: Vec<_> = gone.iter().filter_map(|key| self.remove(key, time)).collect();
                changes.extend(listing.planes.into_values().flat_map(|plane| self.put(plane, time)));
                if !self.synced {
                    self.synced = true;
                    changes.extend(about_server(Kind::Synced, None));
                }
                changes
            }
        }
    }

    /// Returns the changes that time alone makes. Where nothing is due, all states are computed again: the clock jumped.
    pub fn pass(&mut self, time: Timestamp) -> Vec<Change> {
        if self.due.first().is_some_and(|(change, _)| *change <= time) {
            return self.pass_due(time);
        }
        let all: Vec<_> = self.planes.keys().cloned().collect();
        all.iter().filter_map(|key| self.look_again(key, time)).collect()
    }

    /// Returns the changes that are due.
    pub fn pass_due(&mut self, time: Timestamp) -> Vec<Change> {
        let is_due = |(change, _): &&(Timestamp, PlaneKey)| *change <= time;
        let due: Vec<_> = self.due.iter().take_while(is_due).map(|(_, key)| key.clone()).collect();
        due.iter().filter_map(|key| self.look_again(key, time)).collect()
    }

    fn look_again(&mut self, key: &PlaneKey, time: Timestamp) -> Option<Change> {
        let (plane, state, due) = self.planes.get_mut(key)?;
        let to = plane.state(time);
        let from = std::mem::replace(state, to);
        let kept = from != to && (self.filter.keeps(from) || self.filter.keeps(to));
        let change = kept.then(|| Change::of(plane.clone(), time, Kind::Changed, Some(from)));
        let next = plane.next_change(time);
        let before = std::mem::replace(due, next);
        self.schedule(key, before, next);
        change
    }

    fn schedule(&mut self, key: &PlaneKey, before: Option<Timestamp>, change: Option<Timestamp>) {
        if before != change {
            before.map(|before| self.due.remove(&(before, key.clone())));
            self.due.extend(change.map(|change| (change, key.clone())));
        }
    }

    fn put(&mut self, plane: Plane, time: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        let key = plane.key();
        if self.lookup.as_ref().is_some_and(|lookup| !lookup.means(&key)) {
            return changes;
        }
        // One of the same name that was made anew while nobody looked.
        if self.planes.get(&key).is_some_and(|(old, ..)| old.metadata.uid != plane.metadata.uid) {
            changes.extend(self.remove(&key, time));
        }
        let to = plane.state(time);
        let next = plane.next_change(time);
        let before = self.planes.insert(key.clone(), (plane.clone(), to, next));
        self.schedule(&key, before.as_ref().and_then(|(.., due)| *due), next);
        let (kind, from) = match before {
            Some((old, from, _)) if old.metadata.resource_version == plane.metadata.resource_version && from == to => {
                return changes;
            }
            Some((_, from, _)) => (Kind::Changed, Some(from)),
            None if self.synced => (Kind::Added, None),
            None => (Kind::Present, None),
        };
        if self.filter.keeps(to) || from.is_some_and(|from| self.filter.keeps(from)) {
            changes.push(Change::of(plane, time, kind, from));
        }
        changes
    }

    fn remove(&mut self, key: &PlaneKey, time: Timestamp) -> Option<Change> {
        let (plane, from, due) = self.planes.remove(key)?;
        self.schedule(key, due, None);
        self.filter.keeps(from).then(|| Change::of(plane, time, Kind::Deleted, Some(from)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::ChoiceArgs;
    use crate::args::tests::parse;
    use crate::cluster::{Fake, Listing};
    use serde_json::json;

    const START: &str = "2026-01-01T00:00:00Z";

    fn at(seconds: i64) -> Timestamp {
        START.parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_secs(seconds)
    }

    fn plane(name: &str, uid: &str, version: u32, heartbeat: i64) -> Plane {
        serde_json::from_value(json!({
            "metadata": {"name": name, "uid": uid, "resourceVersion": version.to_string()},
            "status": {"agentConnection": {
                "connected": true, "connectedAgents": 1, "lastHeartbeatTime": at(heartbeat).to_string(),
            }},
        }))
        .unwrap()
    }

    fn synced(planes: Vec<Plane>) -> Watched {
        let mut watched = Watched::default();
        let changes = watched.take(Event::Synced(Listing::of(planes)), at(0));
        assert!(changes.iter().all(|change| matches!(change.kind, Kind::Present | Kind::Synced)));
        watched
    }

    fn kinds(changes: &[Change]) -> Vec<Kind> {
        changes.iter().map(|change| change.kind).collect()
    }

    #[test]
    fn states_change_when_they_are_due() {
        let mut watched = synced(vec![plane("a", "1", 1, 0), plane("b", "2", 1, -10)]);
        let first = watched.nap(at(0));
        assert!(first > Duration::ZERO && first < Duration::from_secs(300), "{first:?}");
        let mut seen = Vec::new();
        let mut now = at(0);
        while watched.nap(now) < Duration::MAX {
            now += jiff::SignedDuration::try_from(watched.nap(now)).unwrap();
            for change in watched.pass(now) {
                let plane = change.plane.unwrap();
                seen.push(format!("{} {:?}", plane.name(), plane.state(now)));
            }
        }
        assert_eq!(seen, ["b Late", "a Late", "b Stale", "a Stale"]);
    }

    #[test]
    fn a_write_moves_what_is_due() {
        let mut watched = synced(vec![plane("a", "1", 1, 0)]);
        let before = watched.nap(at(0));
        watched.take(Event::Applied(Box::new(plane("a", "1", 2, 60))), at(60));
        assert_eq!(watched.nap(at(60)), before);
        let scheduled = watched.planes.values().filter(|(.., due)| due.is_some()).count();
        assert_eq!((watched.due.len(), scheduled), (1, 1));
        let deleted = watched.take(Event::Deleted(Box::new(plane("a", "1", 2, 60))), at(61));
        assert_eq!((kinds(&deleted), watched.nap(at(61))), (vec![Kind::Deleted], Duration::MAX));
    }

    #[test]
    fn what_is_overdue_does_not_wait() {
        let mut watched = synced(vec![plane("a", "1", 1, 0), plane("b", "2", 1, 0)]);
        let due = at(0) + SignedDuration::try_from(watched.nap(at(0))).unwrap();
        assert_eq!(watched.nap(due), Duration::ZERO);
        assert_eq!(watched.pass_due(at(1)).len(), 0, "nothing is due");
        assert_eq!((kinds(&watched.pass_due(due)), watched.pass_due(due).len()), (vec![Kind::Changed; 2], 0));
        assert!(watched.nap(due) > Duration::ZERO);
    }

    #[test]
    fn a_clock_that_jumps_is_noticed() {
        let mut watched = synced(vec![plane("a", "1", 1, 0)]);
        assert_eq!(kinds(&watched.pass(at(100_000))), [Kind::Changed]);
        assert_eq!(kinds(&watched.pass(at(1))), [Kind::Changed], "it went back");
        assert_eq!(watched.pass(at(2)).len(), 0);
    }

    #[test]
    fn a_plane_that_was_made_anew_is_another_one() {
        let mut watched = synced(vec![plane("a", "1", 1, 0)]);
        let changes = watched.take(Event::Applied(Box::new(plane("a", "2", 2, 0))), at(1));
        assert_eq!(kinds(&changes), [Kind::Deleted, Kind::Added]);
        let changes = watched.take(Event::Synced(Listing::of([])), at(2));
        assert_eq!(kinds(&changes), [Kind::Deleted]);
    }

    #[tokio::test]
    async fn only_what_was_named_is_watched_and_missed() {
        let args: ChoiceArgs = parse(&["b"]).unwrap();
        let lookup = args.look(Fake::default().cluster()).await.unwrap();
        let mut watched = Watched::new(lookup, StateFilter::default());
        let changes = watched.take(Event::Synced(Listing::of([plane("a", "1", 1, 0)])), at(0));
        assert_eq!(kinds(&changes), [Kind::Synced]);
        assert_eq!(watched.missing().unwrap().as_str(), "b");
        assert!(watched.missing().is_none(), "it is reported once");
    }
}
