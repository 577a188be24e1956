//! What changed around a plane, in both clusters, in one list sorted by time; and the last change before its connection
//! was lost.

mod entries;
mod entry;

use jiff::{SignedDuration, Timestamp};

use self::entries::entries;
pub use self::entry::Entry;
use self::entry::Role;
use crate::estate::{History, Missing};
use crate::plane::{Plane, PlaneKey, Span, State};

/// For how long what pods do counts as a consequence of a write: as long as a rollout may take (the default of a
/// Deployment's `progressDeadlineSeconds`).
const ROLLOUT: SignedDuration = SignedDuration::from_mins(10);
/// How old the heartbeat of a healthy plane may be. Where no loss was reported, it happened within that time after the last
/// one.
const HEARTBEAT: SignedDuration = SignedDuration::from_secs(90);

/// What changed around a plane.
pub struct Timeline {
    pub key: PlaneKey,
    pub state: State,
    /// When the connection was lost: as the controller reported it, or the last heartbeat where that is too old. None where
    /// it is not lost.
    pub lost: Option<Timestamp>,
    /// The oldest first.
    pub entries: Vec<Entry>,
}

/// How late the controller may notice that an agent connected: it asks once a minute.
const REPORT: SignedDuration = SignedDuration::from_mins(1);

/// A connection that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    at: Timestamp,
    /// When it had happened at the latest.
    until: Timestamp,
    /// Since when the agent was connected.
    since: Option<Timestamp>,
    /// Whether the controller reported it.
    is_reported: bool,
}

impl Loss {
    fn of(plane: &Plane, now: Timestamp) -> Option<Self> {
        let connection = plane.connection()?;
        let since = connection.last_connected_time;
        match State::of(Some(connection), false, now) {
            State::Disconnected => {
                let at = connection.last_disconnected_time?;
                Some(Self { at, until: at, since, is_reported: true })
            }
            State::Late | State::Stale => {
                let at = connection.last_heartbeat_time?;
                let until = at.checked_add(HEARTBEAT).unwrap_or(Timestamp::MAX);
                Some(Self { at, until, since, is_reported: false })
            }
            _ => None,
        }
    }
}

impl Timeline {
    pub fn of(history: &History) -> Self {
        let (plane, now) = (&history.plane, history.now);
        let loss = Loss::of(plane, now);
        let mut entries = entries(plane, &history.objects, now, loss.is_some());
        entries.sort_by_key(Entry::order);
        entries.dedup();
        if let Some(loss) = loss {
            mark(&mut entries, loss, &history.missing);
        }
        Self { key: plane.key(), state: plane.state(now), lost: loss.map(|loss| loss.at), entries }
    }

    /// Whether the last change before the loss is among the entries.
    pub fn is_marked(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_last_before_loss)
    }

    /// Leaves out what is older than a length of time.
    pub fn only_since(&mut self, span: Span, now: Timestamp) {
        let length = i64::try_from(span.seconds()).map_or(SignedDuration::MAX, SignedDuration::from_secs);
        let first = now.checked_sub(length).unwrap_or(Timestamp::MIN);
        self.entries.retain(|entry| entry.time.is_none_or(|time| time >= first));
    }
}

/// Marks the last change before a loss. What does not exist may have been deleted at any time: it comes right before the
/// loss, and is the last change unless what refers to it was written after the agent had connected.
fn mark(entries: &mut Vec<Entry>, loss: Loss, missing: &[Missing]) {
    let place = entries.iter().position(|entry| entry.is_loss).unwrap_or(entries.len());
    let is_late = |entry: &Entry| entry.time > loss.since && entry.time <= Some(loss.until);
    let is_explained = |missing: &Missing| {
        let referrer = missing.needed_by;
        entries
            .iter()
            .any(|entry| entry.role == Role::Change && Some(entry.kind.as_str()) == referrer && is_late(entry))
    };
    let unexplained = missing.iter().position(|missing| loss.is_reported && !is_explained(missing));
    let last = match unexplained {
        Some(number) => Some(place + number),
        None => last_change(entries, loss).map(|last| if last < place { last } else { last + missing.len() }),
    };
    entries.splice(place..place, missing.iter().map(Entry::of_missing));
    if let Some(entry) = last.and_then(|last| entries.get_mut(last)) {
        entry.is_last_before_loss = true;
    }
}

/// The last change before a loss and after the connection was made; of what pods did soon after a write, that write.
fn last_change(entries: &[Entry], loss: Loss) -> Option<usize> {
    let before = |role: Role| {
        let first = loss.since.and_then(|since| since.checked_sub(REPORT).ok());
        let is_within = |time: Timestamp| first.is_none_or(|first| time > first) && time <= loss.until;
        entries.iter().rposition(|entry| entry.role == role && entry.time.is_some_and(is_within))
    };
    let time = |at: usize| entries.get(at).and_then(|entry| entry.time);
    match (before(Role::Change), before(Role::Process)) {
        (Some(change), Some(process)) => {
            let (written, ran) = (time(change)?, time(process)?);
            Some(if ran.duration_since(written) > ROLLOUT { process } else { change })
        }
        (change, process) => change.or(process),
    }
}

#[cfg(test)]
mod tests;
