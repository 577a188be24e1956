//! The planes of v1.0 as they are written, and the agents that are awaited.

use serde_json::json;
use tokio::time::Instant;

use super::prepare::{Change, Swap, Work};
use crate::cluster::{self, Cluster, Error, Right};
use crate::plan::agent::Changeover;
use crate::plan::clusters::Clusters;
use crate::plan::observer::{Observer, Status, until};
use crate::plane::{DryRun, Plane, PlaneKey, Side, age};
use crate::text::visible;

/// How often a write is tried again when another client writes in between.
const TRIES: usize = 5;
const CLIENT_CA: &str = "/f:spec/f:clusterAgent/f:clientCA";

/// Returns what [`write_planes`] would do, in words.
pub fn pending(changes: &[Change], restores: bool) -> Vec<String> {
    let words = |change: &Change| match &change.work {
        Work::Create(_) => Some(format!("create {}", change.new.title())),
        Work::Restore(_) if restores => Some(format!("restore the CA of {}", change.new.title())),
        _ => None,
    };
    changes.iter().filter_map(words).collect()
}

/// Returns the rights that [`write_planes`] needs.
pub fn rights(changes: &[Change], restores: bool) -> Vec<(Side, Right)> {
    let needed = |change: &Change| {
        let verb = match change.work {
            Work::Create(_) => "create",
            Work::Restore(_) if restores => "patch",
            _ => return None,
        };
        Some(right(verb, &change.new))
    };
    changes.iter().filter_map(needed).collect()
}

/// A right to do something with a plane.
pub fn right(verb: &'static str, plane: &PlaneKey) -> (Side, Right) {
    (Side::Control, Right::new(verb, plane.kind.group, plane.kind.plural, plane.namespace.as_deref()))
}

/// Creates the new planes, and where `restores`, gives those their CA again that lost it.
///
/// # Errors
/// Those of the control plane; what was written is right, and a rerun continues.
pub async fn write_planes(
    control: &Cluster,
    changes: &[Change],
    restores: bool,
    dry_run: DryRun,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    observer.begin("plane", "the planes of v1.0");
    for change in changes {
        let name = change.new.title();
        let suffix = dry_run.suffix();
        match &change.work {
            Work::None if change.old != change.new => {
                observer.outcome("plane", Status::Found, &format!("{name} exists"));
            }
            Work::Later => observer.outcome("plane", Status::Skipped, &format!("{name}: its CRD is not installed yet")),
            Work::Gone => {
                observer.outcome(
                    "plane",
                    Status::Skipped,
                    &format!("{} is in the record, but does not exist any more", change.old.title()),
                );
            }
            Work::Create(manifest) => {
                let created = match dry_run.sends() {
                    true => control.around(&change.new).create(manifest, dry_run).await.map(drop),
                    false => Ok(()),
                };
                match created {
                    Ok(()) => observer.outcome("plane", Status::Done, &format!("{name} created{suffix}")),
                    Err(Error::Exists { .. }) => observer.outcome("plane", Status::Found, &format!("{name} exists")),
                    Err(error) => return Err(error.into()),
                }
            }
            Work::Restore(client_ca) if restores => {
                let owner = match dry_run.sends() {
                    true => restore(control, &change.new, client_ca, dry_run).await?,
                    false => None,
                };
                let source = owner.map(|manager| {
                    format!("; {} manages the plane: change the field in its source, too", visible(&manager))
                });
                let reported = format!("the CA of {name} is restored{suffix}{}", source.unwrap_or_default());
                observer.outcome("reference", Status::Done, &reported);
            }
            Work::None | Work::Lost | Work::Restore(_) => {}
        }
    }
    Ok(())
}

/// Writes the CA of a plane that has none, and returns who would put back what was there.
async fn restore(
    control: &Cluster,
    key: &PlaneKey,
    client_ca: &serde_json::Value,
    dry_run: DryRun,
) -> Result<Option<String>, Error> {
    let control = control.around(key);
    let mut tries = TRIES;
    loop {
        let plane: Plane = control.plane(&key.name).await?;
        let fields = json!({
            "metadata": {"resourceVersion": plane.metadata.resource_version},
            "spec": {"clusterAgent": {"clientCA": client_ca}},
        });
        match control.merge_object(&key.path(), &fields, dry_run).await {
            Err(Error::Changed { .. }) if tries > 1 => tries -= 1,
            written => {
                written?;
                let writers = cluster::writers(&plane.metadata, CLIENT_CA);
                return Ok(writers.into_iter().find(cluster::Writer::restores).map(|writer| writer.manager));
            }
        }
    }
}

/// Waits until an agent of v1.0 is connected in the place of the old one. `was_swapped` is whether that was done just now.
///
/// # Errors
/// [`Error::TimedOut`](crate::plan::Error::TimedOut), and those of the clusters.
pub async fn connected(
    clusters: Clusters<'_>,
    swap: &Swap,
    was_swapped: bool,
    deadline: Option<Instant>,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    observer.begin("wait", "the agent is connected");
    let namespace = &swap.agent.name.namespace;
    let family = swap.plane.kind.family;
    let is_it = |agent: &cluster::Agent| {
        agent.plane_type.as_deref() == Some(family.plane_type) && agent.plane_id == swap.agent.plane_id
    };
    let agent = until(deadline, observer, async || {
        let agents = clusters.build.agents(namespace).await?;
        Ok(agents.into_iter().find(is_it).ok_or_else(|| format!("the namespace {namespace} has no agent of v1.0 yet")))
    })
    .await?;
    if agent.replicas == 0 {
        let name = visible(&agent.name.name);
        observer.outcome("wait", Status::Skipped, &format!("Deployment {name} is scaled to zero"));
        return Ok(());
    }
    let plane: Plane = clusters.control.around(&swap.plane).plane(&swap.plane.name).await?;
    let changeover = Changeover { clusters, namespace, plane: &plane, deadline };
    let how = changeover.reconnected(&agent, observer).await?;
    let now = clusters.control.now();
    let gap = swap
        .last_heartbeat
        .filter(|_| was_swapped)
        .map(|last| format!("; the last heartbeat before was {} ago", age(last, now)));
    let status = if was_swapped { Status::Done } else { Status::Found };
    observer.outcome("wait", status, &format!("{how}{}", gap.unwrap_or_default()));
    Ok(())
}
