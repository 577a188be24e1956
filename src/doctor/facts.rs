//! The facts around planes, from a cluster or from the objects of files.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use futures_util::stream;
use jiff::Timestamp;
use serde_json::Value;

use super::dump::Absent;
use super::neighbours::{Few, Neighbours};
use crate::cluster::{Cluster, PlaneEvent};
use crate::estate::{AT_ONCE, CaPlace, Cause, ClientCa, Files, Unavailable, client_cas};
use crate::plane::{OBSERVABILITY_KIND, Plane, PlaneKey, Side, Snapshot};

/// All that is known of one plane.
#[derive(Clone, Debug)]
pub struct Facts {
    pub plane: Plane,
    pub client_ca: ClientCa,
    /// The other planes of the same planeID; a problem where they could not be listed.
    pub shares_plane_id_with: Result<Vec<String>, Unavailable>,
    /// Planes of other planeIDs that have the same CA, as far as they are known.
    pub same_ca: Few,
    /// Whether the observability plane exists.
    pub observability_exists: Result<bool, Unavailable>,
    pub events: Result<Vec<PlaneEvent>, Unavailable>,
    pub now: Timestamp,
}

impl Facts {
    /// Of a plane that can't be read, for one and the same reason.
    pub fn unread(plane: Plane, problem: &Unavailable, now: Timestamp) -> Self {
        Self {
            client_ca: ClientCa::unread(problem.clone()),
            shares_plane_id_with: Err(problem.clone()),
            same_ca: Few::default(),
            observability_exists: Err(problem.clone()),
            events: Err(problem.clone()),
            now,
            plane,
        }
    }
}

/// The facts of planes in a cluster.
pub async fn facts(cluster: &Cluster, planes: Vec<Plane>) -> Vec<Facts> {
    let all = cluster.planes::<Plane>(None).await;
    let cas = client_cas(cluster, &planes).await;
    let now = cluster.now();
    let known: BTreeMap<_, _> = planes.iter().map(Plane::name).zip(&cas).collect();
    let known = |plane: &Plane| match (known.get(plane.name()), CaPlace::of(plane)) {
        (Some(ca), _) => (*ca).clone(),
        (None, CaPlace::Value(text)) => ClientCa::new("value".into(), Ok(text.into_bytes())),
        (None, _) => ClientCa::unread(Unavailable::not_in_files("it was not read")),
    };
    let others: Vec<_> = all.as_deref().unwrap_or_default().iter().map(|plane| (plane, known(plane))).collect();
    let neighbours = Neighbours::new(others.iter().map(|(plane, ca)| (*plane, ca)));
    let shares = |plane: &Plane| all.as_ref().map(|_| neighbours.sharing(plane)).map_err(Unavailable::from);
    let gathered = stream::iter(planes.iter().cloned().zip(cas.iter().cloned())).map(|(plane, client_ca)| async {
        let (observability, events) =
            tokio::join!(cluster.has_observability_plane(plane.observability_plane()), cluster.events(plane.name()));
        Facts {
            same_ca: neighbours.same_ca(&plane, &client_ca),
            client_ca,
            shares_plane_id_with: shares(&plane),
            observability_exists: observability.map_err(|error| Unavailable::from(&error)),
            events: events.map_err(|error| Unavailable::from(&error)),
            now,
            plane,
        }
    });
    gathered.buffered(AT_ONCE).collect().await
}

/// The facts of planes out of files, as far as these tell. `planes` are those to be shown.
pub async fn facts_of_files(snapshot: &Snapshot, planes: &BTreeSet<PlaneKey>) -> Vec<Facts> {
    let unknown = || Unavailable::not_in_files("unknown: not in the files");
    let absent = Absent::new(snapshot, Side::Control);
    let cas = client_cas(&Files::control(snapshot), &snapshot.planes).await;
    let neighbours = Neighbours::new(snapshot.planes.iter().zip(&cas));
    let shown = snapshot.planes.iter().zip(&cas).filter(|(plane, _)| planes.contains(&plane.key()));
    let facts = shown.map(|(plane, client_ca)| Facts {
        client_ca: client_ca.clone(),
        shares_plane_id_with: Ok(neighbours.sharing(plane)),
        same_ca: neighbours.same_ca(plane, client_ca),
        observability_exists: match snapshot.related(
            Side::Control,
            OBSERVABILITY_KIND,
            None,
            plane.observability_plane(),
        ) {
            Some(_) => Ok(true),
            None => match absent.observability(plane.observability_plane()) {
                problem if problem.is_missing() => Ok(false),
                problem if problem.cause == Cause::Forbidden => Err(problem),
                _ => Err(unknown()),
            },
        },
        events: events_of_files(snapshot, plane.name()).ok_or_else(unknown),
        now: snapshot.now,
        plane: plane.clone(),
    });
    facts.collect()
}

fn events_of_files(snapshot: &Snapshot, plane: &str) -> Option<Vec<PlaneEvent>> {
    let text =
        |event: &Value, pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let events = snapshot
        .related
        .iter()
        .filter(|object| text(object, "/kind") == "Event" && text(object, "/involvedObject/name") == plane);
    let events: Vec<_> = events
        .map(|event| PlaneEvent {
            kind: text(event, "/type"),
            reason: text(event, "/reason"),
            message: text(event, "/message"),
            last: text(event, "/lastTimestamp").parse().ok(),
            count: event["count"].as_i64().and_then(|count| i32::try_from(count).ok()).unwrap_or(1),
        })
        .collect();
    (!events.is_empty()).then_some(events)
}
