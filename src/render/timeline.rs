//! A timeline as a table, and as the JSON that scripts rely on.

use serde_json::{Value, json};

use super::{NONE, cell, columns, identity_json};
use crate::doctor::{Entry, Timeline};
use crate::paint;
use crate::plane::Side;

/// The word for a cluster.
fn word(side: Side) -> &'static str {
    match side {
        Side::Control => "control",
        Side::Build => "plane",
    }
}

/// A row for each entry, the oldest first.
pub fn table(timeline: &Timeline) -> String {
    let row = |entry: &Entry| {
        let time = entry.time.map_or_else(|| NONE.into(), |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let mark = match entry {
            Entry { is_last_before_loss: true, .. } => paint::bad("last-change"),
            Entry { is_loss: true, .. } => paint::warning("lost"),
            _ => NONE.into(),
        };
        let by = cell(entry.by.as_deref().unwrap_or_default());
        vec![time, word(entry.side).into(), mark, cell(&entry.object), cell(&entry.text), by]
    };
    let titles = ["TIME", "CLUSTER", "MARK", "OBJECT", "CHANGE", "BY"];
    columns(Some(&titles), timeline.entries.iter().map(row))
}

/// The plane, when its connection was lost, and the entries.
pub fn json(timeline: &Timeline) -> Value {
    let entry = |entry: &Entry| {
        json!({
            "time": entry.time,
            "cluster": word(entry.side),
            "object": entry.object,
            "type": entry.what.name(),
            "text": entry.text,
            "by": entry.by,
            "loss": entry.is_loss,
            "lastBeforeLoss": entry.is_last_before_loss,
        })
    };
    let rest = json!({
        "state": timeline.state.name(),
        "lost": timeline.lost,
        "entries": timeline.entries.iter().map(entry).collect::<Vec<_>>(),
    });
    super::redacted_json(identity_json(&timeline.key, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estate::{History, Missing};
    use crate::plane::Plane;

    fn timeline() -> Timeline {
        let wrote = json!({
            "manager": "kubectl-edit\u{1b}[2J", "operation": "Update", "time": "2026-11-22T11:59:00Z",
            "fieldsV1": {"f:spec": {"f:clusterAgent": {"f:clientCA": {"f:value": {}}}}},
        });
        let plane: Plane = serde_json::from_value(json!({
            "metadata": {"name": "p", "creationTimestamp": "2026-11-01T00:00:00Z", "managedFields": [wrote]},
            "status": {"agentConnection": {
                "connected": false, "connectedAgents": 0, "message": "No agents connected",
                "lastConnectedTime": "2026-11-01T00:01:00Z", "lastDisconnectedTime": "2026-11-22T12:00:00Z",
            }},
        }))
        .unwrap();
        let missing = Missing { side: Side::Build, title: "Secret n/tls".into(), needed_by: Some(plane.kind.kind) };
        let now = "2026-11-22T12:30:00Z".parse().unwrap();
        Timeline::of(&History { plane, now, objects: Vec::new(), missing: vec![missing], unread: Vec::new() })
    }

    #[test]
    fn the_last_change_and_the_loss_are_marked() {
        let expected = "\
TIME                  CLUSTER  MARK         OBJECT               CHANGE                                             BY
2026-11-01T00:00:00Z  control  -            ClusterBuildPlane p  created                                            -
2026-11-01T00:01:00Z  control  -            ClusterBuildPlane p  reported as connected                              -
2026-11-22T11:59:00Z  control  last-change  ClusterBuildPlane p  written: spec.clusterAgent.clientCA                kubectl-edit\\u{1b}[2J
-                     plane    -            Secret n/tls         does not exist: it was deleted, or never created   -
2026-11-22T12:00:00Z  control  lost         ClusterBuildPlane p  reported as disconnected: No agents connected      -
";
        let shown = crate::render::plain(&table(&timeline()));
        let squeezed = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(squeezed(&shown), squeezed(expected));
    }

    #[test]
    fn the_json_has_what_the_help_says() {
        let reported = json(&timeline());
        assert_eq!(
            (&reported["name"], &reported["state"], &reported["lost"]),
            (&json!("p"), &json!("Disconnected"), &json!("2026-11-22T12:00:00Z"))
        );
        let entries = reported["entries"].as_array().unwrap();
        assert_eq!(entries[2]["lastBeforeLoss"], true);
        let expected = json!({
            "time": null, "cluster": "plane", "object": "Secret n/tls", "type": "missing",
            "text": "does not exist: it was deleted, or never created", "by": null, "loss": false, "lastBeforeLoss": false,
        });
        assert_eq!(entries[3], expected);
        assert_eq!((&entries[4]["loss"], &entries[4]["type"]), (&json!(true), &json!("disconnected")));
    }
}
