//! Planes as a table, a row each.

use std::cmp::Reverse;
use std::str::FromStr;

use jiff::Timestamp;

use super::{NONE, cell, columns, cut, state};
use crate::doctor::ClientCa;
use crate::plane::{Plane, State, age};
use crate::term::paint;

const HEADER: [&str; 7] = [
    "NAME",
    "PLANE-ID",
    "STATE",
    "AGENTS",
    "HEARTBEAT",
    "SINCE",
    "AGE",
];
const WIDE: [&str; 5] = [
    "CLIENT-CA",
    "CA-EXPIRES",
    "SECRET-STORE",
    "OBSERVABILITY",
    "MESSAGE",
];
/// Widest message in a table.
const MESSAGE: usize = 60;
/// A CA that ends within this many days is shown in the colour of a warning.
const SOON_DAYS: i64 = 30;

/// What rows are sorted by: a column's name in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    #[default]
    Name,
    PlaneId,
    State,
    Agents,
    Heartbeat,
    Since,
    Age,
}

impl FromStr for SortBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [
            Self::Name,
            Self::PlaneId,
            Self::State,
            Self::Agents,
            Self::Heartbeat,
            Self::Since,
            Self::Age,
        ];
        let found = HEADER
            .iter()
            .position(|name| name.eq_ignore_ascii_case(text));
        found
            .and_then(|index| all.get(index).copied())
            .ok_or_else(|| format!("not a column: one of {}", HEADER.join(", ").to_lowercase()))
    }
}

/// Puts planes in order. By state the worst come first, by a time the newest; equal ones stay by name.
pub fn sort(planes: &mut [Plane], by: SortBy, now: Timestamp) {
    planes.sort_by(|a, b| a.name().cmp(b.name()));
    let connection = |plane: &Plane| plane.connection().cloned().unwrap_or_default();
    match by {
        SortBy::Name => {}
        SortBy::PlaneId => planes.sort_by(|a, b| a.plane_id().cmp(b.plane_id())),
        SortBy::State => planes.sort_by_key(|plane| plane.state(now)),
        SortBy::Agents => planes.sort_by_key(|plane| Reverse(connection(plane).connected_agents)),
        SortBy::Heartbeat => {
            planes.sort_by_key(|plane| Reverse(connection(plane).last_heartbeat_time))
        }
        SortBy::Since => planes.sort_by_key(|plane| Reverse(plane.since(now))),
        SortBy::Age => planes.sort_by_key(|plane| Reverse(plane.created())),
    }
}

/// The table. With CAs, one for each plane, the wide one.
pub fn table(planes: &[Plane], cas: Option<&[ClientCa]>, headers: bool, now: Timestamp) -> String {
    let header: Vec<_> = HEADER
        .into_iter()
        .chain(cas.iter().flat_map(|_| WIDE))
        .collect();
    let rows = planes.iter().enumerate().map(|(index, plane)| {
        let mut row = row(plane, now);
        if let Some(ca) = cas.and_then(|cas| cas.get(index)) {
            row.extend(wide(plane, ca, now));
        }
        row
    });
    columns(headers.then_some(&header), rows.collect())
}

fn row(plane: &Plane, now: Timestamp) -> Vec<String> {
    let connection = plane.connection();
    let since =
        |time: Option<Timestamp>| time.map_or_else(|| NONE.to_owned(), |time| age(time, now));
    vec![
        cell(plane.name()),
        cell(plane.plane_id()),
        state(plane.state(now)),
        connection.map_or_else(
            || NONE.to_owned(),
            |connection| connection.connected_agents.to_string(),
        ),
        since(
            connection
                .and_then(|connection| connection.last_heartbeat_time)
                .map(|heartbeat| heartbeat.min(now)),
        ),
        since(plane.since(now)),
        since(plane.created()),
    ]
}

fn wide(plane: &Plane, ca: &ClientCa, now: Timestamp) -> [String; 5] {
    let expires = match (&ca.certificates, ca.expires()) {
        (_, Some(end)) if end < now => paint::bad(&format!("{} ago", age(end, now))),
        (_, Some(end)) if end.duration_since(now).as_hours() < SOON_DAYS * 24 => {
            paint::warning(&age(end, now))
        }
        (_, Some(end)) => age(end, now),
        (Err(problem), None) if problem.word == "forbidden" => paint::faint(problem.word),
        (Err(problem), None) => paint::bad(problem.word),
        (Ok(_), None) => NONE.to_owned(),
    };
    let spec = &plane.spec;
    [
        cell(&ca.source),
        expires,
        cell(
            spec.secret_store_ref
                .as_ref()
                .map_or("", |store| &store.name),
        ),
        cell(
            spec.observability_plane_ref
                .as_ref()
                .map_or("", |reference| reference.name()),
        ),
        match plane
            .connection()
            .and_then(|connection| connection.message.as_deref())
        {
            None | Some("") => NONE.to_owned(),
            Some(message) => cut(message, MESSAGE),
        },
    ]
}

/// How many planes are in which state: `3 planes: 1 Connected, 2 Unreported`.
pub fn summary(planes: impl Iterator<Item = State>) -> String {
    let states: Vec<_> = planes.collect();
    let counts = State::ALL.into_iter().rev().filter_map(|wanted| {
        let count = states.iter().filter(|found| **found == wanted).count();
        (count > 0).then(|| format!("{count} {}", state(wanted)))
    });
    let counts: Vec<_> = counts.collect();
    let noun = if states.len() == 1 { "plane" } else { "planes" };
    if counts.is_empty() {
        format!("no {noun}")
    } else {
        format!("{} {noun}: {}", states.len(), counts.join(", "))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::doctor::Problem;
    use crate::render::plain;
    use serde_json::json;
    use snapbox::{assert_data_eq, str};

    pub(crate) fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    /// A plane whose connection is that of one state, and others that test the widths.
    pub(crate) fn planes() -> Vec<Plane> {
        let plane = |name: &str, connection: serde_json::Value| {
            let status = if connection.is_null() {
                json!({})
            } else {
                json!({"agentConnection": connection})
            };
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": "2026-11-13T12:00:00Z"},
                "spec": {"planeID": format!("{name}-id"), "clusterAgent": {"clientCA": {"value": "x"}}},
                "status": status,
            }))
            .unwrap()
        };
        vec![
            plane(
                "shared",
                json!({"connected": true, "connectedAgents": 2, "lastConnectedTime": "2026-11-19T08:00:00Z", "lastHeartbeatTime": "2026-11-22T11:59:48Z", "message": "2 agents connected (HA mode)"}),
            ),
            plane(
                "late",
                json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-11-22T11:57:40Z"}),
            ),
            plane(
                "stale",
                json!({"connected": true, "connectedAgents": 1, "lastHeartbeatTime": "2026-11-20T11:57:40Z"}),
            ),
            plane(
                "secure",
                json!({"connected": false, "connectedAgents": 0, "lastConnectedTime": "2026-11-01T00:00:00Z", "lastDisconnectedTime": "2026-11-22T11:57:00Z", "lastHeartbeatTime": "2026-11-22T11:56:00Z", "message": "No agents connected"}),
            ),
            plane("new", json!(null)),
            plane("never", json!({"connected": false, "connectedAgents": 0})),
        ]
    }

    #[test]
    fn the_table() {
        let mut planes = planes();
        sort(&mut planes, SortBy::State, now());
        assert_data_eq!(
            plain(&table(&planes, None, true, now())),
            str![[r#"
NAME    PLANE-ID   STATE           AGENTS  HEARTBEAT  SINCE  AGE
stale   stale-id   Stale           1       2d         47h    9d
secure  secure-id  Disconnected    0       4m         3m     9d
never   never-id   NeverConnected  0       -          -      9d
new     new-id     Unreported      -       -          -      9d
late    late-id    Late            1       2m20s      19s    9d
shared  shared-id  Connected       2       12s        3d4h   9d

"#]]
        );
        assert_data_eq!(
            plain(&summary(planes.iter().map(|plane| plane.state(now())))),
            str![
                "6 planes: 1 Connected, 1 Late, 1 Unreported, 1 NeverConnected, 1 Disconnected, 1 Stale"
            ]
        );
    }

    #[test]
    fn the_wide_table_tells_what_could_not_be_read() {
        let planes = &planes()[..1];
        let ca = |word| {
            [ClientCa {
                source: "secret/a/b:ca.crt".into(),
                certificates: Err(Problem {
                    word,
                    text: String::new(),
                }),
            }]
        };
        for word in ["forbidden", "missing"] {
            let text = plain(&table(planes, Some(&ca(word)), false, now()));
            assert!(
                text.contains(word) && text.contains("2 agents connected (HA mode)"),
                "{text}"
            );
        }
    }

    #[test]
    fn hostile_text_stays_in_its_cell() {
        let mut planes = planes();
        planes[0].metadata.name = Some("\u{1b}[2Jx\n\u{202e}y".into());
        planes[0]
            .status
            .as_mut()
            .unwrap()
            .agent_connection
            .as_mut()
            .unwrap()
            .message = Some("m\n".repeat(1 << 20));
        let ca = [ClientCa {
            source: "value".into(),
            certificates: Ok(vec![]),
        }];
        let text = plain(&table(&planes[..1], Some(&ca), false, now()));
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with(r"\u{1b}[2Jx\n\u{202e}y"), "{text}");
        assert!(text.len() < 400);
    }
}
