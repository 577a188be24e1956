//! The end of the old planes: no controller of v1.0 removes their finalizer, so that a deletion would never end.

use serde_json::json;

use super::prepare::{Meant, Swap};
use super::seen::Seen;
use crate::cluster::{Cluster, Error, Target};
use crate::migration::renamed;
use crate::plan::observer::{Observer, Status};
use crate::plane::{DEFAULT_KIND, DryRun, Plane};
use crate::text::{shell_quoted, visible};

/// An old plane.
pub struct Old {
    pub plane: Plane,
    /// Why it is not deleted; none where it can be.
    pub kept: Option<String>,
}

/// Returns the old planes that are meant. `is_connected` is whether the agent of a new one is known to be
/// connected.
pub fn old_planes(seen: &Seen, meant: &Meant, is_connected: impl Fn(&Plane) -> bool) -> Vec<Old> {
    let old = seen.planes.iter().filter(|plane| plane.kind.successor().is_some() && meant.means(&plane.key()));
    let judged = |plane: &Plane| {
        let key = renamed(&plane.key());
        let name = key.title();
        let kept = match seen.plane(&key) {
            None => Some(format!("{name} does not exist")),
            Some(new) if new.plane_id() != plane.plane_id() => {
                Some(format!("{name} has another planeID, {}", visible(new.plane_id())))
            }
            Some(new) if is_connected(new) => None,
            Some(_) => Some(format!("no agent is connected to {name} yet")),
        };
        Old { plane: plane.clone(), kept }
    };
    old.map(judged).collect()
}

/// Removes the finalizer of old planes and deletes them.
///
/// # Errors
/// Those of the control plane.
pub async fn finish(
    control: &Cluster,
    old: &[Old],
    dry_run: DryRun,
    observer: &mut dyn Observer,
) -> anyhow::Result<()> {
    observer.begin("delete", "the old planes");
    for Old { plane, kept } in old {
        let key = plane.key();
        let name = key.title();
        if let Some(why) = kept {
            observer.outcome("delete", Status::Skipped, &format!("{name} is kept: {why}"));
            continue;
        }
        let finalizers = plane.metadata.finalizers.clone().unwrap_or_default();
        let others: Vec<_> = finalizers.iter().filter(|finalizer| *finalizer != key.kind.finalizer).collect();
        if others.len() < finalizers.len() {
            let fields = json!({"metadata": {
                "uid": plane.metadata.uid, "resourceVersion": plane.metadata.resource_version, "finalizers": others,
            }});
            if dry_run.sends() {
                match control.merge_object(&key.path(), &fields, dry_run).await {
                    // It was deleted before, and its finalizer was what held it.
                    Err(Error::NotFound { .. } | Error::NoSource { .. }) => {}
                    removed => drop(removed?),
                }
            }
            let reported = format!("{} removed from {name}{}", key.kind.finalizer, dry_run.suffix());
            observer.outcome("finalizer", Status::Done, &reported);
        }
        if dry_run.sends() {
            match control.delete(plane, dry_run).await {
                Err(error) if error.is_not_found() => {}
                deleted => deleted?,
            }
        }
        let reported = format!("{name} deleted{}", dry_run.suffix());
        let rest: Vec<_> = others.iter().map(|finalizer| visible(finalizer).into_owned()).collect();
        if rest.is_empty() {
            observer.outcome("delete", Status::Done, &reported);
        } else {
            let held = format!("{reported}; another controller has to remove the finalizer {}", rest.join(", "));
            observer.outcome("delete", Status::Skipped, &held);
        }
    }
    Ok(())
}

/// Returns what is left over, each with the command that removes it.
pub fn leftovers(seen: &Seen, swaps: &[Swap], control: &Target, build: Option<&Target>) -> Vec<String> {
    let mut lines = Vec::new();
    let is_empty = |kind: &&&crate::plane::Kind| !seen.planes.iter().any(|plane| plane.kind == **kind);
    let old = seen.served.iter().filter(|kind| kind.successor().is_some());
    let crds: Vec<_> = old.filter(is_empty).map(|kind| kind.crd_name()).collect();
    if !crds.is_empty() {
        let command = control.command(&format!("kubectl delete crd {}", crds.join(" ")));
        lines.push(format!("CRDs without objects:\n  {command}"));
    }
    let Some(build) = build else {
        return lines;
    };
    let old_type = DEFAULT_KIND.family.plane_type;
    for facts in seen.agents.iter().flatten() {
        let agent = &facts.agent;
        let there = format!("--namespace {}", shell_quoted(&agent.name.namespace));
        let release = agent.release.as_deref();
        if agent.plane_type.as_deref() == Some(old_type) {
            let command = match release {
                Some(release) => format!("helm uninstall {} {there}", shell_quoted(release)),
                None => format!("kubectl delete deployment {} {there}", shell_quoted(&agent.name.name)),
            };
            let name = visible(&agent.name.to_string()).into_owned();
            lines.push(format!("the agent {name} of v0.x:\n  {}", build.command(&command)));
        }
    }
    let is_old_name = |swap: &&Swap| swap.agent.release.as_deref() == Some(DEFAULT_KIND.family.helm_release);
    lines.extend(swaps.iter().filter(|swap| swap.is_done).filter(is_old_name).map(|swap| {
        let release = visible(swap.agent.release.as_deref().unwrap_or_default()).into_owned();
        format!(
            "the Helm release {release} and the namespace {} keep their names: Helm can't rename them",
            visible(&swap.agent.name.namespace)
        )
    }));
    lines
}
