//! Waiting until planes reach their goals, for every verb that waits.
//!
//! Not here: what a plane trusts; the caller says how to find out.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::args::{Lookup, WriteArgs};
use crate::cluster::{Cluster, Event, Namespaces};
use crate::paint;
use crate::plane::{DryRun, Goal, Plane, PlaneKey, Scope, Span, State, closest, did_you_mean};
use crate::render;
use crate::term::{Exit, Term, Waiting};
use crate::text::visible;

/// How long till the next look at what no event reports.
pub const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What is waited for.
pub struct Wish {
    pub planes: Vec<PlaneKey>,
    pub goals: Vec<Goal>,
    pub any: bool,
    /// None to look once.
    pub deadline: Option<Instant>,
}

/// How it came out.
pub struct Outcome {
    pub exit: Exit,
    /// Each plane, whether its goals hold, and its last state; none where it isn't there.
    pub planes: Vec<(PlaneKey, bool, Option<State>)>,
}

/// When the time is over; none for 0.
pub fn deadline(timeout: Span) -> Option<Instant> {
    (timeout.seconds() > 0).then(|| Instant::now() + timeout.duration())
}

/// After a write: waits until the planes are connected, where that was asked for.
pub async fn if_asked(args: &WriteArgs, cluster: &Cluster, planes: Vec<PlaneKey>, term: &Term) -> anyhow::Result<Exit> {
    if !args.wait || args.dry_run != DryRun::None {
        return Ok(Exit::Done);
    }
    let goals = vec![Goal::State(State::Connected)];
    let wish = Wish { planes, goals, any: false, deadline: deadline(args.timeout) };
    Ok(until(cluster, &wish, async |_| Ok(()), term).await?.exit)
}

pub fn word(state: Option<State>) -> String {
    state.map_or_else(|| "not there".into(), render::state)
}

/// Waits until the wish is true, a plane is missing, or the time has run out. Where planes are to trust a certificate,
/// `trusts` says whether one does now, or why not; nothing says when that changes.
pub async fn until(
    cluster: &Cluster,
    wish: &Wish,
    trusts: impl AsyncFn(&Plane) -> Result<(), String>,
    term: &Term,
) -> anyhow::Result<Outcome> {
    let goals = wish.goals.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ");
    let mut waiting = wish.deadline.map(|_| term.wait(&format!("waiting for {}: {goals}", title(&wish.planes))));
    let lookup = Lookup::of_keys(cluster.clone(), wish.planes.clone(), &Namespaces::Context);
    let mut watch = lookup.watch(None);
    let mut roll = Roll::new(wish);
    let bears_absence = wish.goals.iter().any(|goal| goal.bears_absence());
    loop {
        let wake = roll.wake(watch.now()).min(Instant::now() + Waiting::EVERY);
        let wake = if wish.goals.contains(&Goal::Trusted) { wake.min(Instant::now() + LOOK_AGAIN) } else { wake };
        let wake = wish.deadline.map_or(wake, |deadline| wake.min(deadline));
        tokio::select! {
            event = watch.next() => roll.take(event?, waiting.as_mut()),
            () = tokio::time::sleep_until(wake) => {}
        }
        // Looking once takes as long as an answer takes, which the request's time limit bounds.
        let over = wish.deadline.map_or(roll.synced, |deadline| Instant::now() >= deadline);
        if !roll.synced && !over {
            continue;
        }
        roll.ask_for_trust(&trusts).await;
        let planes = roll.judge(watch.now());
        roll.show(&planes, waiting.as_mut());
        let met = planes.iter().filter(|(_, met, _)| *met).count();
        let exit = if met == planes.len() || (wish.any && met > 0) {
            Exit::Done
        } else if roll.synced && planes.iter().any(|(_, met, state)| !met && state.is_none() && !bears_absence) {
            Exit::NotFound
        } else if over {
            Exit::TimedOut
        } else {
            continue;
        };
        drop(waiting);
        if exit == Exit::Done {
            roll.note_sharing(cluster, term).await;
        } else {
            roll.fail(exit, &planes, cluster, term).await;
        }
        return Ok(Outcome { exit, planes });
    }
}

fn title(planes: &[PlaneKey]) -> String {
    match planes {
        [plane] => visible(&plane.to_string()).into_owned(),
        names => format!("{} planes", names.len()),
    }
}

/// The hint on the first plane that isn't there and whose name is like that of another.
async fn meant(planes: &[(PlaneKey, bool, Option<State>)], cluster: &Cluster) -> String {
    let keys = planes.iter().map(|(plane, ..)| plane.clone()).collect();
    let known = Lookup::of_keys(cluster.clone(), keys, &Namespaces::Context).known().await;
    for (plane, _, _) in planes.iter().filter(|(_, _, state)| state.is_none()) {
        if let Some(question) = did_you_mean(&closest(&plane.name, known.iter().map(String::as_str))) {
            return format!("\n\n{} {question}", paint::good("hint:"));
        }
    }
    String::new()
}

/// The planes that are waited for.
struct Roll<'w> {
    wish: &'w Wish,
    planes: BTreeMap<PlaneKey, Plane>,
    /// The object that had each name first: another one of the same name means that it was deleted.
    first: BTreeMap<PlaneKey, Option<String>>,
    reported: BTreeMap<PlaneKey, Option<State>>,
    /// Why the planes that don't trust the certificate don't.
    distrust: BTreeMap<PlaneKey, String>,
    synced: bool,
}

impl<'w> Roll<'w> {
    fn new(wish: &'w Wish) -> Self {
        Self {
            wish,
            planes: BTreeMap::new(),
            first: BTreeMap::new(),
            reported: BTreeMap::new(),
            distrust: BTreeMap::new(),
            synced: false,
        }
    }

    async fn ask_for_trust(&mut self, trusts: &impl AsyncFn(&Plane) -> Result<(), String>) {
        if !self.wish.goals.contains(&Goal::Trusted) {
            return;
        }
        self.distrust.clear();
        for (key, plane) in &self.planes {
            if let Err(why) = trusts(plane).await {
                self.distrust.insert(key.clone(), why);
            }
        }
    }

    /// Returns how a plane is called, with its kind where those of several kinds are waited for.
    fn name(&self, plane: &PlaneKey) -> String {
        let has_kinds = self.wish.planes.iter().any(|other| other.kind != plane.kind);
        visible(&if has_kinds { plane.with_word() } else { plane.to_string() }).into_owned()
    }

    fn wanted(&self, plane: &PlaneKey) -> bool {
        self.wish.planes.contains(plane)
    }

    fn take(&mut self, event: Event, waiting: Option<&mut Waiting>) {
        match event {
            Event::Synced(listing) => {
                self.planes.retain(|key, _| !listing.covers(key));
                let wanted = &self.wish.planes;
                self.planes.extend(listing.planes.into_iter().filter(|(key, _)| wanted.contains(key)));
                self.synced = true;
            }
            Event::Applied(plane) if self.wanted(&plane.key()) => drop(self.planes.insert(plane.key(), *plane)),
            Event::Deleted(plane) => drop(self.planes.remove(&plane.key())),
            Event::Applied(_) => {}
            Event::Lost(error) => show(waiting, &format!("lost the connection to the API server, retrying: {error}")),
            Event::Resumed => show(waiting, "the API server answers again"),
        }
        for (key, plane) in &self.planes {
            self.first.entry(key.clone()).or_insert_with(|| plane.metadata.uid.clone());
        }
    }

    fn wake(&self, now: jiff::Timestamp) -> Instant {
        let change = self.planes.values().filter_map(|plane| plane.next_change(now)).min();
        let nap =
            change.and_then(|change| Duration::try_from(change.duration_since(now)).ok()).unwrap_or(Waiting::EVERY);
        Instant::now() + nap + Duration::from_millis(1)
    }

    fn judge(&self, now: jiff::Timestamp) -> Vec<(PlaneKey, bool, Option<State>)> {
        let judge = |key: &PlaneKey| {
            let plane = self.planes.get(key);
            let state = plane.map(|plane| plane.state(now));
            let replaced =
                plane.is_some_and(|plane| self.first.get(key).is_some_and(|first| *first != plane.metadata.uid));
            let trusted = plane.is_some() && !self.distrust.contains_key(key);
            let holds = |goal: &Goal| match goal {
                Goal::Deleted => replaced || goal.holds(state),
                Goal::Trusted => trusted,
                goal => goal.holds(state),
            };
            let met = self.synced && self.wish.goals.iter().all(holds);
            (key.clone(), met, state)
        };
        self.wish.planes.iter().map(judge).collect()
    }

    /// Reports each change of a state, once.
    fn show(&mut self, planes: &[(PlaneKey, bool, Option<State>)], waiting: Option<&mut Waiting>) {
        let Some(waiting) = waiting else {
            return;
        };
        for (key, _, state) in planes {
            if self.reported.insert(key.clone(), *state) != Some(*state) {
                waiting.show(&format!("{}: {}", self.name(key), word(*state)));
            }
        }
        let open = planes.iter().filter(|(_, met, _)| !met).count();
        waiting.remind(&format!("still waiting for {open} of {}", planes.len()));
    }

    /// Says what is missing.
    async fn fail(&self, exit: Exit, planes: &[(PlaneKey, bool, Option<State>)], cluster: &Cluster, term: &Term) {
        let why = match exit {
            Exit::TimedOut if !self.synced => "timed out before the API server listed any plane",
            Exit::TimedOut => "timed out",
            _ => "not all planes exist",
        };
        let line = |(key, _, state): &(PlaneKey, bool, Option<State>)| {
            let why = self.distrust.get(key).map(|why| format!(", not trusted: {}", visible(why)));
            format!("  {}: {}{}", self.name(key), word(*state), why.unwrap_or_default())
        };
        let states: Vec<_> = planes.iter().map(line).collect();
        let meant = if exit == Exit::NotFound { meant(planes, cluster).await } else { String::new() };
        term.error(&format!("{} {why}\n{}{meant}", paint::bad("error:"), states.join("\n")));
    }

    /// Says whose connection it is that was waited for.
    async fn note_sharing(&self, cluster: &Cluster, term: &Term) {
        if !self.wish.goals.contains(&Goal::State(State::Connected)) {
            return;
        }
        // A namespaced plane's status counts the agents that it authorizes itself.
        for plane in self.planes.values().filter(|plane| plane.kind.scope == Scope::Cluster) {
            // Only a remark: what can't be listed is not worth an error.
            let shares = |other: Plane| plane.shares_plane_id_with(&other).then(|| other.key().to_string());
            let others = cluster.of_kind(plane.kind).family_as(shares).await.unwrap_or_default().planes;
            let others: Vec<_> = others.into_iter().flatten().map(|other| visible(&other).into_owned()).collect();
            if !others.is_empty() {
                term.note(&format!(
                    "the connected agents have planeID {}, which {} shares with {}: an agent may be authorized for only one of them",
                    visible(plane.plane_id()),
                    visible(plane.name()),
                    others.join(", ")
                ));
            }
        }
    }
}

fn show(waiting: Option<&mut Waiting>, text: &str) {
    if let Some(waiting) = waiting {
        waiting.show(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Listing;
    use jiff::Timestamp;
    use serde_json::json;

    const NOW: &str = "2026-11-22T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn plane(name: &str, uid: &str) -> Plane {
        let connection = json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": NOW});
        serde_json::from_value(
            json!({"metadata": {"name": name, "uid": uid}, "status": {"agentConnection": connection}}),
        )
        .unwrap()
    }

    fn wish(goals: &[Goal]) -> Wish {
        let planes = ["a", "b"].map(|name| plane(name, "").key()).to_vec();
        Wish { planes, goals: goals.to_vec(), any: false, deadline: None }
    }

    fn synced(wish: &Wish, planes: Vec<Plane>) -> Roll<'_> {
        let mut roll = Roll::new(wish);
        roll.take(Event::Synced(Listing::of(planes)), None);
        roll
    }

    fn met(roll: &Roll<'_>) -> Vec<bool> {
        roll.judge(now()).into_iter().map(|(_, met, _)| met).collect()
    }

    #[test]
    fn nothing_is_met_before_the_first_list() {
        let wish = wish(&[Goal::Deleted]);
        assert_eq!(met(&Roll::new(&wish)), [false, false]);
        assert_eq!(met(&synced(&wish, vec![])), [true, true]);
    }

    #[test]
    fn planes_of_several_kinds_are_called_by_their_kinds() {
        let mut wish = wish(&[Goal::Deleted]);
        assert_eq!(Roll::new(&wish).name(&wish.planes[0]), "a");
        let kind = crate::plane::Kind::of_word("cwp").unwrap();
        wish.planes.push(PlaneKey { kind, ..wish.planes[0].clone() });
        let roll = synced(&wish, vec![Plane::new(kind, "a")]);
        assert_eq!((met(&roll), roll.name(&wish.planes[0])), (vec![true, true, false], "cbp/a".into()));
        assert_eq!(roll.name(&wish.planes[2]), "cwp/a");
    }

    #[test]
    fn every_goal_has_to_hold_for_a_plane() {
        let connected = wish(&[Goal::Exists, Goal::State(State::Connected)]);
        let roll = synced(&connected, vec![plane("a", "1"), plane("other", "2")]);
        assert_eq!(met(&roll), [true, false]);
        assert_eq!(roll.judge(now())[1].2, None);
    }

    #[test]
    fn a_plane_that_was_made_anew_was_deleted() {
        let wish = wish(&[Goal::Deleted]);
        let mut roll = synced(&wish, vec![plane("a", "1"), plane("b", "2")]);
        assert_eq!(met(&roll), [false, false]);
        roll.take(Event::Applied(Box::new(plane("a", "3"))), None);
        roll.take(Event::Deleted(Box::new(plane("b", "2"))), None);
        assert_eq!(met(&roll), [true, true]);
    }

    #[tokio::test]
    async fn only_those_that_wait_for_trust_ask_for_it() {
        let trusts = async |plane: &Plane| if plane.name() == "a" { Ok(()) } else { Err("no".to_owned()) };
        let trusted = wish(&[Goal::Trusted]);
        let mut roll = synced(&trusted, vec![plane("a", "1"), plane("b", "2")]);
        roll.ask_for_trust(&trusts).await;
        assert_eq!(met(&roll), [true, false]);
        let exists = wish(&[Goal::Exists]);
        let mut roll = synced(&exists, vec![plane("a", "1"), plane("b", "2")]);
        roll.ask_for_trust(&trusts).await;
        assert!(roll.distrust.is_empty());
    }

    #[tokio::test]
    async fn a_similar_name_is_proposed() {
        let object = json!({"apiVersion": "openchoreo.dev/v1alpha1", "kind": "ClusterBuildPlane", "metadata": {"name": "shared-builder"}});
        let cluster = crate::cluster::Fake::of([object]).cluster();
        let missing = |name: &str| [(plane(name, "").key(), false, None)];
        assert!(meant(&missing("shared-bilder"), &cluster).await.ends_with("did you mean shared-builder?"));
        assert_eq!(meant(&missing("other"), &cluster).await, "");
    }

    #[test]
    fn no_time_is_no_deadline() {
        assert!(deadline(Span::default()).is_none() && deadline("1s".parse().unwrap()).is_some());
        assert_eq!((word(None), word(Some(State::Connected))), ("not there".into(), render::state(State::Connected)));
    }
}
