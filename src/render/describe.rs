//! A plane in full, as text and as the JSON that scripts rely on.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::certificates::{left, object};
use super::{NONE, cell, columns, cut, identity_json, state};
use crate::doctor::{Note, notes, remarks};
use crate::estate::{Facts, Peers, PlaneEvent};
use crate::paint;
use crate::pki::SOON;
use crate::plane::{DESCRIPTION, DISPLAY_NAME, Field, ObservabilityPlaneRef, Plane, PlaneKey, Scope, State, age, day};
use crate::text::visible;

/// Longest text of a field, in columns; the JSON has it whole.
const TEXT: usize = 400;

/// One plane.
pub fn text(facts: &Facts) -> String {
    let mut page = Page::default();
    let plane = &facts.plane;
    page.field("Name", &cell(plane.name()));
    if let Some(namespace) = &plane.metadata.namespace {
        page.field("Namespace", &cell(namespace));
    }
    page.field("Kind", plane.kind.kind);
    for (title, key) in [("Display name", DISPLAY_NAME), ("Description", DESCRIPTION)] {
        if let Some(text) = plane.annotation(key) {
            page.field(title, &cut(text, TEXT));
        }
    }
    let labels: Vec<_> =
        plane.labels().iter().map(|(key, value)| format!("{}={}", visible(key), visible(value))).collect();
    if !labels.is_empty() {
        page.field("Labels", &cut(&labels.join(", "), TEXT));
    }
    let left_out = if plane.spec.plane_id.is_none() { " (left out: the name)" } else { "" };
    page.field("Plane ID", &format!("{}{left_out}", cell(plane.plane_id())));
    page.field("Shared with", &shared(facts));
    if let Some(created) = plane.created() {
        page.field("Created", &format!("{created} ({} ago)", age(created, facts.now)));
    }
    page.field("Connection", &connection(plane, facts.now));
    if let Some(message) =
        plane.connection().and_then(|connection| connection.message.as_deref()).filter(|message| !message.is_empty())
    {
        page.field("", &format!("“{}”", cut(message, TEXT)));
    }
    page.field("Agents", counted(plane));
    page.client_ca(facts);
    if plane.kind.has(Field::SecretStore) {
        let store = plane.spec.secret_store_ref.as_ref();
        page.field("Secret store", &store.map_or_else(|| NONE.into(), |store| cell(&store.name)));
    }
    if plane.kind.has(Field::ObservabilityPlane) {
        page.field("Observability", &observability(facts));
    }
    if plane.kind.has(Field::Observer) {
        page.field("Observer URL", &cell(plane.observer_url().unwrap_or_default()));
    }
    page.conditions(facts);
    page.events(facts);
    page.notes("Notes", paint::warning, &notes(facts));
    page.notes("Remarks (no action needed)", paint::faint, &remarks(facts));
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn field(&mut self, title: &str, value: &str) {
        let title = if title.is_empty() { String::new() } else { format!("{title}:") };
        self.text.push_str(&format!("{} {value}\n", paint::strong(&format!("{title:<14}"))));
    }

    fn table(&mut self, title: &str, header: &[&str], rows: Vec<Vec<String>>) {
        self.text.push_str(&format!("{}\n", paint::strong(&format!("{title}:"))));
        for line in columns(Some(header), rows.into_iter()).lines() {
            self.text.push_str(&format!("  {line}\n"));
        }
    }

    fn notes(&mut self, title: &str, paint: fn(&str) -> String, notes: &[Note]) {
        if !notes.is_empty() {
            self.text.push_str(&format!("{title}:\n"));
        }
        for note in notes {
            let id = paint::faint(&format!("[{}]", note.id));
            self.text.push_str(&format!("  {} {} {id}\n", paint("•"), cut(&note.text, TEXT)));
        }
    }

    fn client_ca(&mut self, facts: &Facts) {
        let source = cell(facts.client_ca.source());
        match facts.client_ca.certificates() {
            Err(problem) => self.field("Client CA", &format!("{source}: {}", paint::bad(&cut(&problem.message, TEXT)))),
            Ok(certificates) => {
                let noun = if certificates.len() == 1 { "certificate" } else { "certificates" };
                self.field("Client CA", &format!("{source}, {} {noun}", certificates.len()));
                for certificate in certificates {
                    let role = if certificate.ca { "CA" } else { "not a CA" };
                    let line = format!(
                        "{}  {role}  {}  until {} ({})",
                        cell(&certificate.subject),
                        cell(&certificate.key_algorithm),
                        day(certificate.not_after),
                        left(certificate, certificate.expires_within(SOON, facts.now), facts.now)
                    );
                    self.field("", &line);
                }
            }
        }
    }

    fn conditions(&mut self, facts: &Facts) {
        let conditions = facts.plane.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let rows: Vec<_> = conditions
            .iter()
            .map(|condition| {
                vec![
                    cell(&condition.kind),
                    cell(&condition.status),
                    cell(&condition.reason),
                    condition.last_transition_time.map_or_else(|| NONE.into(), |time| age(time, facts.now)),
                    cell(&condition.message),
                ]
            })
            .collect();
        if !rows.is_empty() {
            self.table("Conditions", &["TYPE", "STATUS", "REASON", "AGE", "MESSAGE"], rows);
        }
    }

    fn events(&mut self, facts: &Facts) {
        match &facts.events {
            Err(problem) => self.field("Events", &cut(&problem.message, TEXT)),
            Ok(events) if events.is_empty() => self.field("Events", "none"),
            Ok(events) => {
                let rows = events.iter().map(|event| {
                    let last = event.last.map_or_else(|| NONE.into(), |time| age(time, facts.now));
                    vec![cell(&event.kind), cell(&event.reason), last, event.count.to_string(), cell(&event.message)]
                });
                self.table("Events", &["TYPE", "REASON", "AGE", "COUNT", "MESSAGE"], rows.collect());
            }
        }
    }
}

/// Whose agents the status counts.
fn counted(plane: &Plane) -> &'static str {
    match plane.kind.scope {
        Scope::Cluster => "the number includes all agents with the planeID, also those that this plane refuses",
        Scope::Namespaced => "the number includes only agents that this plane authorizes",
    }
}

fn shared(facts: &Facts) -> String {
    let known = facts.shares_plane_id_with.as_ref().map(Peers::few).unwrap_or_default();
    match (facts.all_known(), known.is_empty()) {
        (Ok(()), true) => "no other plane".into(),
        (Ok(()), false) => known.to_string(),
        (Err(unknown), true) => cut(&unknown, TEXT),
        (Err(unknown), false) => cut(&format!("{known}; {unknown}"), TEXT),
    }
}

/// The connection in a sentence.
fn connection(plane: &Plane, now: Timestamp) -> String {
    let current = plane.state(now);
    let word = state(current);
    let since = plane.since(now).map(|time| age(time.min(now), now));
    let during = since.as_deref().map(|since| format!(" for {since}")).unwrap_or_default();
    if current == State::Deleting {
        return format!("{word}{during}: waits for its finalizers");
    }
    let Some(connection) = plane.connection() else {
        return format!("{word}: no report yet");
    };
    let agents = match connection.connected_agents {
        1 => "1 agent".to_owned(),
        number => format!("{number} agents"),
    };
    let heartbeat = connection.last_heartbeat_time.map(|time| age(time.min(now), now));
    let heartbeat = heartbeat.map_or_else(|| "no heartbeat".into(), |age| format!("heartbeat {age} ago"));
    match current {
        State::Connected | State::Late => format!("{word}{during}, {agents}, {heartbeat}"),
        State::Stale => format!("{word}{during}: reported as connected ({agents}), but {heartbeat}"),
        State::Disconnected => {
            let gone = since.map(|since| format!(" {since} ago")).unwrap_or_default();
            format!("{word}{gone}, {heartbeat}")
        }
        State::NeverConnected => format!("{word}: no agent has ever connected"),
        State::Deleting | State::Unreported => word,
    }
}

/// The observability plane that is used, as far as it is known.
fn used(facts: &Facts) -> Option<&PlaneKey> {
    facts.observability_plane.as_ref().ok().and_then(Option::as_ref)
}

fn observability(facts: &Facts) -> String {
    let meant = facts.plane.observability_planes().into_iter().next();
    let plane = used(facts).or(meant.as_ref());
    let name = plane.map(|plane| format!("{} {}", plane.kind.kind, cell(&plane.to_string()))).unwrap_or_default();
    let named = if facts.plane.spec.observability_plane_ref.is_some() { "" } else { "used by default, " };
    let exists = match &facts.observability_plane {
        Ok(Some(_)) => "exists".to_owned(),
        Ok(None) => paint::warning("does not exist"),
        Err(problem) => cut(&problem.message, TEXT),
    };
    format!("{name} ({named}{exists})")
}

/// The connection as an object.
fn connection_json(plane: &Plane, now: Timestamp) -> Value {
    let connection = plane.connection();
    json!({
        "state": plane.state(now).name(),
        "connected": connection.map(|connection| connection.connected),
        "connectedAgents": connection.map(|connection| connection.connected_agents),
        "since": plane.since(now),
        "lastConnectedTime": connection.and_then(|connection| connection.last_connected_time),
        "lastDisconnectedTime": connection.and_then(|connection| connection.last_disconnected_time),
        "lastHeartbeatTime": connection.and_then(|connection| connection.last_heartbeat_time),
        "heartbeatAgeSeconds": connection.and_then(|connection| connection.heartbeat_age(now)),
        "message": connection.and_then(|connection| connection.message.as_deref()),
        "counts": if plane.kind.scope == Scope::Cluster { "planeID" } else { "plane" },
    })
}

/// Returns what is computed of a plane and is not in its object.
pub fn computed(plane: &Plane, now: Timestamp) -> Value {
    json!({"planeID": plane.plane_id(), "connection": connection_json(plane, now)})
}

/// The same page as an object.
pub fn json(facts: &Facts) -> Value {
    let (plane, now) = (&facts.plane, facts.now);
    let ca = &facts.client_ca;
    let certificates = ca.certificates().unwrap_or_default();
    let certificates: Vec<_> = certificates
        .iter()
        .enumerate()
        .map(|(index, certificate)| object(ca.source(), index, certificate, now))
        .collect();
    let reference = plane.spec.observability_plane_ref.as_ref();
    let observability = plane.observability_planes();
    // Some of them would pass for all.
    let shared = facts.all_known().ok().and(facts.shares_plane_id_with.as_ref().ok());
    let page = json!({
        "planeID": plane.plane_id(),
        "displayName": plane.annotation(DISPLAY_NAME),
        "description": plane.annotation(DESCRIPTION),
        "labels": plane.labels(),
        "connection": connection_json(plane, now),
        "clientCA": {
            "source": ca.source(),
            "certificates": certificates,
            "problem": ca.certificates().err().map(|problem| &problem.message),
        },
        "sharesPlaneIDWith": shared.map(|others| others.names().collect::<Vec<_>>()),
        "secretStore": plane.spec.secret_store_ref.as_ref().map(|store| &store.name),
        "observabilityPlane": observability.first().map(|first| json!({
            "kind": used(facts).map(|plane| plane.kind.kind).or(reference.and_then(ObservabilityPlaneRef::kind)),
            "name": first.name,
            "named": reference.is_some(),
            "exists": facts.observability_plane.as_ref().ok().map(Option::is_some),
        })),
        "observerURL": plane.observer_url(),
        "conditions": plane.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default(),
        "events": facts.events.as_ref().ok().map(|events| {
            let event = |event: &PlaneEvent| json!({"type": event.kind, "reason": event.reason, "message": event.message, "last": event.last, "count": event.count});
            events.iter().map(event).collect::<Vec<_>>()
        }),
        "notes": notes(facts),
        "remarks": remarks(facts),
    });
    identity_json(&plane.key(), page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::planes::tests::{now, planes};
    use crate::render::planes::{Row, table};
    use crate::render::{Identity, plain};

    #[test]
    fn the_table_and_the_page_count_from_the_same_moment() {
        let mut planes = planes();
        for plane in &mut planes {
            if let Some(connection) = plane.status.as_mut().and_then(|status| status.agent_connection.as_mut()) {
                connection.last_connected_time.get_or_insert("2026-11-01T00:00:00Z".parse().unwrap());
            }
            let row = plain(&table(&[Row::new(plane.clone(), None)], false, Identity::default(), now()));
            let since = row.split_whitespace().nth(5).unwrap();
            let page = plain(&connection(plane, now()));
            let reported = page.split_once(" for ").or_else(|| page.split_once("Disconnected ")).map(|(_, rest)| rest);
            let reported = reported.map_or("-", |rest| rest.split([',', ' ', ':']).next().unwrap());
            assert_eq!(reported, since, "{row}{page}");
        }
    }

    #[test]
    fn a_plane_is_late_since_its_heartbeat_became_old() {
        let mut late = planes().remove(1);
        late.status.as_mut().unwrap().agent_connection.as_mut().unwrap().last_connected_time =
            Some("2026-11-22T11:00:00Z".parse().unwrap());
        assert_eq!(plain(&connection(&late, now())), "Late for 19s, 1 agent, heartbeat 2m20s ago");
    }
}
