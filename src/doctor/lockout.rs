//! Whom a change would lock out: agents that are authorized now, and would not be at their next connection.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;

use crate::cluster::{Cluster, Error, Listed};
use crate::estate::{AT_ONCE, ClientCa, Unavailable, client_cas};
use crate::pki::{self, Certificate, Verdict};
use crate::plane::{Plane, State};
use crate::text::visible;

/// Whom applying these planes would lock out, in sentences.
pub async fn of_apply(cluster: &Cluster, wanted: &[Plane]) -> Result<Vec<String>, Error> {
    let read = async |plane: &Plane| cluster.around(&plane.key()).plane_if_any::<Plane>(plane.name()).await;
    let read = stream::iter(wanted).map(read).buffered(AT_ONCE);
    let before: Vec<_> = read.try_collect().await?;
    // A plane whose CA does not change authorizes the same agents as before.
    let changed: Vec<_> = wanted
        .iter()
        .zip(before)
        .filter(|(plane, before)| {
            before.as_ref().is_none_or(|before| {
                let client_ca = |plane: &Plane| plane.spec.cluster_agent.client_ca.clone();
                before.plane_id() != plane.plane_id() || client_ca(before) != client_ca(plane)
            })
        })
        .collect();
    let new = client_cas(cluster, &changed.iter().map(|(plane, _)| (*plane).clone()).collect::<Vec<_>>()).await;
    let standing: Vec<_> = changed.iter().filter_map(|(_, before)| before.clone()).collect();
    let mut old = client_cas(cluster, &standing).await.into_iter();
    let now = cluster.now();
    let (mut reported, mut unlisted) = (Vec::new(), Vec::new());
    for ((plane, before), new) in changed.iter().zip(&new) {
        if let Some((before, old)) = before.as_ref().zip(before.as_ref().and_then(|_| old.next()))
            && is_connected(before, now)
        {
            reported.extend(if before.plane_id() == plane.plane_id() {
                left_out(plane, &old, new, now)
            } else {
                let (name, from, to) = (title(plane), visible(before.plane_id()), visible(plane.plane_id()));
                Some(format!("{name} no longer authorizes the agents of planeID {from}: its planeID becomes {to}"))
            });
        }
        if let Some(problem) = unreadable(new) {
            let known = concerned(cluster, wanted).await?;
            reported.extend(disconnected(plane, problem, &known.planes, now));
            unlisted.extend(known.unlisted);
        }
    }
    match unlisted.into_iter().next().filter(|_| reported.is_empty()) {
        None => Ok(reported),
        Some(unlisted) => Err(unlisted.into()),
    }
}

/// Whom deleting these planes would lock out, or throw out for a while, in sentences.
pub async fn of_delete(cluster: &Cluster, planes: &[Plane]) -> Result<Vec<String>, Error> {
    let now = cluster.now();
    let Listed { planes: all, unlisted } = concerned(cluster, planes).await?;
    // Deleting one throws out the agents of all that have its planeID.
    let is_heard =
        |plane: &&Plane| planes.iter().chain(&all).any(|other| have_one_id(plane, other) && is_connected(other, now));
    let gone: Vec<_> = planes.iter().filter(is_heard).cloned().collect();
    let goes = |plane: &Plane| planes.iter().any(|gone| gone.is(plane));
    let stay: Vec<_> = all.iter().filter(|plane| !goes(plane)).cloned().collect();
    let (old, rest) = (client_cas(cluster, &gone).await, client_cas(cluster, &stay).await);
    let mut reported = Vec::new();
    for (plane, old) in gone.iter().zip(&old) {
        let others: Vec<_> = stay.iter().zip(&rest).filter(|(other, _)| have_one_id(plane, other)).collect();
        let that = |wanted: Option<bool>| {
            let those = others.iter().filter(|(_, rest)| common(old, rest, now) == wanted);
            those.map(|(other, _)| title(other)).collect::<Vec<_>>().join(", ")
        };
        let (name, id) = (title(plane), visible(plane.plane_id()));
        let unlisted = unlisted.iter().find(|unlisted| unlisted.kind.family == plane.kind.family);
        reported.push(match (that(Some(true)), that(None)) {
            (sure, _) if !sure.is_empty() => {
                format!("all agents with planeID {id} are disconnected for some seconds: then {sure} authorizes them again")
            }
            (_, unknown) if !unknown.is_empty() => format!(
                "all agents of planeID {id} are disconnected: it is unknown whether {unknown} authorizes them again"
            ),
            _ if let Some(unlisted) = unlisted => format!(
                "the connected agents with planeID {id} may lose access: it is unknown whether another plane trusts the CA of {name}: {unlisted}"
            ),
            _ => format!(
                "the connected agents with planeID {id} lose access: no other plane trusts the CA of {name}"
            ),
        });
    }
    Ok(reported)
}

/// Whether the gateway takes the agents of both planes for the same.
fn have_one_id(one: &Plane, other: &Plane) -> bool {
    one.kind.family == other.kind.family && one.plane_id() == other.plane_id()
}

/// A plane as it is named in sentences.
fn title(plane: &Plane) -> String {
    visible(&plane.key().to_string()).into_owned()
}

/// All planes of the planeIDs of these, in both scopes and all namespaces, as far as they may be listed.
async fn concerned(cluster: &Cluster, planes: &[Plane]) -> Result<Listed<Plane>, Error> {
    let is_concerned = |other: &Plane| planes.iter().any(|plane| have_one_id(plane, other));
    let families: BTreeMap<_, _> = planes.iter().map(|plane| (plane.kind.family.plane_type, plane.kind)).collect();
    let mut concerned = Listed::default();
    for kind in families.into_values() {
        let listed = cluster.of_kind(kind).family_as(|plane| is_concerned(&plane).then_some(plane)).await?;
        concerned.planes.extend(listed.planes.into_iter().flatten());
        concerned.unlisted.extend(listed.unlisted);
    }
    Ok(concerned)
}

fn is_connected(plane: &Plane, now: Timestamp) -> bool {
    matches!(plane.state(now), State::Connected | State::Late | State::Stale)
}

/// Whether another CA authorizes the agents that one CA authorizes; none where that is unknown, as one can't be read or
/// lets nobody in anyway. A CA that stays, that keeps its name and key, or that issued what was pinned, is in common.
fn common(old: &ClientCa, new: &ClientCa, now: Timestamp) -> Option<bool> {
    let of_use = |ca: &ClientCa| {
        let all = ca.certificates().unwrap_or_default().iter();
        all.filter(|certificate| pki::trust(&certificate.der, now).is_ok()).cloned().collect::<Vec<_>>()
    };
    let (old_ones, new_ones) = (of_use(old), of_use(new));
    if old_ones.is_empty() {
        return None;
    }
    let same = |old: &Certificate| {
        new_ones.iter().any(|new| new.ca && new.subject == old.subject && new.spki_sha256 == old.spki_sha256)
    };
    let verdicts: Vec<_> = old_ones.iter().map(|old| new.verdict(std::slice::from_ref(&old.der), now)).collect();
    if old_ones.iter().any(same) || verdicts.iter().any(Verdict::is_authorized) {
        return Some(true);
    }
    if verdicts.iter().any(|verdict| matches!(verdict, Verdict::Unknown(_))) { None } else { Some(false) }
}

fn left_out(plane: &Plane, old: &ClientCa, new: &ClientCa, now: Timestamp) -> Option<String> {
    (common(old, new, now) == Some(false)).then(|| {
        let why = match new.text() {
            Ok(_) => "the old and the new CA have no certificate in common".to_owned(),
            Err(problem) => format!("the new CA can't be read: {}", problem.message),
        };
        format!("the connected agents of {} will be refused at their next connection: {why}", title(plane))
    })
}

/// Why a CA can't be read, where that is known.
fn unreadable(ca: &ClientCa) -> Option<&Unavailable> {
    ca.certificates().err().filter(|problem| problem.is_fault())
}

/// A plane whose CA can't be read throws out every agent of its planeID (release v0.17: at the first reconcile of it).
fn disconnected(plane: &Plane, problem: &Unavailable, all: &[Plane], now: Timestamp) -> Option<String> {
    let others: Vec<_> =
        all.iter().filter(|other| plane.shares_plane_id_with(other) && is_connected(other, now)).map(title).collect();
    (!others.is_empty()).then(|| {
        format!(
            "the agents of {}, which have the same planeID, are disconnected: the CA of {} can't be read: {}",
            others.join(", "),
            title(plane),
            problem.message
        )
    })
}
