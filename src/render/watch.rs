//! What a watch says, as lines and as JSON.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::{cut, state};
use crate::paint;
use crate::plane::{Plane, State};

/// One thing that happened.
#[derive(Clone, Debug)]
pub struct Change {
    pub time: Timestamp,
    pub kind: Kind,
    /// The plane as it is now, or last was; none where it is about the server.
    pub plane: Option<Plane>,
    /// The state before, where there was one.
    pub from: Option<State>,
    pub message: Option<String>,
}

/// What kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Present,
    Synced,
    Added,
    Changed,
    Deleted,
    Lost,
    Resumed,
}

impl Change {
    pub fn of(plane: Plane, time: Timestamp, kind: Kind, from: Option<State>) -> Self {
        Self { time, kind, plane: Some(plane), from, message: None }
    }

    /// The state now; none for a plane that is gone.
    pub fn to(&self) -> Option<State> {
        self.plane.as_ref().filter(|_| self.kind != Kind::Deleted).map(|plane| plane.state(self.time))
    }
}

fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2026-11-22T12:01:22Z shared-buildplane Connected -> Late agents=2 heartbeat=121s`; nothing for what only JSON says.
pub fn line(change: &Change, with_kind: bool) -> Option<String> {
    let time = seconds(change.time);
    let Some(plane) = &change.plane else {
        let message = change.message.as_deref().map(|message| format!(": {}", cut(message, 200))).unwrap_or_default();
        return match change.kind {
            Kind::Lost => Some(format!("{time} {}{message}", paint::warning("lost the API server"))),
            Kind::Resumed => Some(format!("{time} {}", paint::good("the API server answers again"))),
            _ => None,
        };
    };
    let now = change.to().map_or_else(|| paint::faint("deleted"), state);
    let states = match change.from {
        Some(from) if Some(from) != change.to() => format!("{} -> {now}", state(from)),
        _ => now,
    };
    let kind = if with_kind { format!("{}/", plane.kind.word()) } else { String::new() };
    let mut line = format!("{time} {kind}{} {states}", super::cell(&plane.key().to_string()));
    if let Some(connection) = plane.connection().filter(|_| change.kind != Kind::Deleted) {
        line.push_str(&format!(" agents={}", connection.connected_agents));
        if let Some(age) = connection.heartbeat_age(change.time) {
            line.push_str(&format!(" heartbeat={age}s"));
        }
    }
    Some(line)
}

/// The same as an object.
pub fn json(change: &Change) -> Value {
    let plane = change.plane.as_ref();
    let connection = plane.and_then(Plane::connection);
    json!({
        "time": seconds(change.time),
        "type": change.kind,
        "name": plane.map(Plane::name),
        "kind": plane.map(|plane| plane.kind.kind),
        "namespace": plane.and_then(|plane| plane.metadata.namespace.as_ref()),
        "planeID": plane.map(Plane::plane_id),
        "from": change.from.map(State::name),
        "state": change.to().map(State::name),
        "connectedAgents": connection.map(|connection| connection.connected_agents),
        "heartbeatAgeSeconds": connection.and_then(|connection| connection.heartbeat_age(change.time)),
        "message": change.message.as_deref().or_else(|| connection?.message.as_deref()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::plain;
    use crate::render::planes::tests::{now, planes};

    #[test]
    fn lines_and_objects_tell_the_same() {
        let late = planes().remove(1);
        let change =
            Change { time: now(), kind: Kind::Changed, plane: Some(late), from: Some(State::Connected), message: None };
        assert_eq!(
            plain(&line(&change, false).unwrap()),
            "2026-11-22T12:00:00Z late Connected -> Late agents=1 heartbeat=140s"
        );
        let object = json(&change);
        assert_eq!(
            (&object["state"], &object["from"], &object["heartbeatAgeSeconds"]),
            (&json!("Late"), &json!("Connected"), &json!(140))
        );
        let gone = Change { kind: Kind::Deleted, ..change.clone() };
        assert_eq!(plain(&line(&gone, false).unwrap()), "2026-11-22T12:00:00Z late Connected -> deleted");
        assert_eq!(json(&gone)["state"], Value::Null);
        let mut namespaced = gone.clone();
        let plane = namespaced.plane.as_mut().unwrap();
        (plane.kind, plane.metadata.namespace) = (crate::plane::Kind::of_word("dp").unwrap(), Some("n".into()));
        assert_eq!(plain(&line(&namespaced, true).unwrap()), "2026-11-22T12:00:00Z dp/n/late Connected -> deleted");
        let object = json(&namespaced);
        assert_eq!((&object["kind"], &object["namespace"]), (&json!("DataPlane"), &json!("n")));
        assert_eq!((&json(&gone)["kind"], &json(&gone)["namespace"]), (&json!("ClusterBuildPlane"), &Value::Null));
        let lost = Change { kind: Kind::Lost, plane: None, from: None, message: Some("\u{1b}x".into()), ..change };
        assert_eq!(plain(&line(&lost, false).unwrap()), r"2026-11-22T12:00:00Z lost the API server: \u{1b}x");
    }
}
