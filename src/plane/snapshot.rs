//! Planes and what is around them, from a cluster or from files, and the moment that they are true for.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::resource::Plane;
use super::well_known::{DUMPED, SIDE};

/// How much newer than its plane's creation a time may be.
const PLAUSIBLE: SignedDuration = SignedDuration::from_hours(24 * 365 * 20);

/// What a view shows.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub planes: Vec<Plane>,
    /// Objects of other kinds that came along in files: Secrets, observability planes, events.
    pub related: Vec<Value>,
    /// The API server's clock, or for files the newest time in them.
    pub now: Timestamp,
}

/// One of the two clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Control,
    Build,
}

impl Side {
    pub fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Build => "build",
        }
    }

    /// Whether an object may be of this cluster.
    pub fn has(self, object: &Value) -> bool {
        let side = &object["metadata"]["annotations"][SIDE];
        side.is_null() || side == self.name()
    }
}

impl Snapshot {
    /// Of objects out of files. Ages count from the newest time that the planes hold.
    pub fn of_files(planes: Vec<Plane>, related: Vec<Value>) -> Self {
        let newest = newest(&planes);
        let dumped = planes.iter().filter_map(|plane| plane.annotation(DUMPED)?.parse().ok()).max();
        Self { now: dumped.or(newest).unwrap_or_else(Timestamp::now), planes, related }
    }
}

/// Returns the newest time that planes hold, but for times so far after the youngest plane's creation that they can only
/// be mistakes: one of them would make every other age wrong.
fn newest(planes: &[Plane]) -> Option<Timestamp> {
    let created = planes.iter().filter_map(Plane::created).filter(|time| *time < Timestamp::MAX).max();
    let limit = created.and_then(|created| created.checked_add(PLAUSIBLE).ok()).unwrap_or(Timestamp::MAX);
    planes.iter().flat_map(Plane::times).filter(|time| *time < limit).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ages_count_from_the_newest_time() {
        let plane: Plane = serde_json::from_value(json!({
            "metadata": {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "status": {"agentConnection": {"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-02-01T00:00:00Z"}}
        }))
        .unwrap();
        let snapshot = Snapshot::of_files(vec![plane.clone()], vec![]);
        assert_eq!(snapshot.now.to_string(), "2026-02-01T00:00:00Z");
        let mut odd = plane.clone();
        odd.status.as_mut().unwrap().agent_connection.as_mut().unwrap().last_heartbeat_time = Some(Timestamp::MAX);
        let snapshot = Snapshot::of_files(vec![odd, plane.clone()], vec![]);
        assert_eq!(snapshot.now.to_string(), "2026-02-01T00:00:00Z", "a time past all sense counts for nothing");
    }
}
