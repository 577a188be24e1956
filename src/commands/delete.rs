//! `choreoctl delete`: delete planes, and say what holds them.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde_json::json;
use tokio::time::Instant;

use super::error::{none_found, tell_missing};
use super::objects::object_name;
use super::{error_text, remains};
use crate::args::{ChangeArgs, Group, Lookup, OutputArgs, PlaneClusterArgs, PlanesArgs, Session, TextFormat};
use crate::cluster::{Cluster, Error, Event, Namespaces};
use crate::doctor::{held, lockout};
use crate::estate::{Remover, removers};
use crate::manifest::json_text;
use crate::plane::{CONTROL_NAMESPACE, DEFAULT_KIND, DryRun, Kind, Plane, Span};
use crate::render::{PlanesJson, identity_json};
use crate::term::{Exit, Term, Waiting};
use crate::text::visible;

/// How long a finalizer may take before it is reported.
const PATIENCE: Duration = Duration::from_secs(3);

/// Delete planes
///
/// Asks for confirmation, and waits until the planes are gone. A finalizer keeps a plane until the controller has notified
/// the gateway: if one of them is down, the deletion hangs, and the command reports why. It also prints the commands
/// that remove the agent from its cluster; with --plane-context they have the exact names.
///
/// -o json prints one object at the end: {"dryRun", "planes": [{"name", "kind", "namespace", "deleted", "gone"}]}. deleted
/// is whether the API server accepted the deletion; gone is null if the command did not wait.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("timeout", |timeout| timeout.default_value("0")), after_help = "Examples:
  choreoctl delete shared-builder
  choreoctl delete -l team=old --yes --timeout 2m
  choreoctl delete --all --yes -o json")]
pub struct Args {
    #[command(flatten)]
    which: PlanesArgs,

    /// Succeed if a plane does not exist
    #[arg(long)]
    ignore_not_found: bool,

    /// Wait until the planes are gone
    #[arg(long, value_name = "WHETHER", default_value = "true", default_missing_value = "true", num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set)]
    wait: bool,

    #[command(flatten)]
    change: ChangeArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    build: PlaneClusterArgs,
}

/// What became of a plane.
struct Outcome {
    plane: Plane,
    deleted: bool,
    /// None where that was not awaited.
    gone: Option<bool>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let mut outcomes = Vec::new();
    let result = delete(&args, session, &mut outcomes).await;
    // What an error leaves undone is reported, too.
    if args.output.format == TextFormat::Json && (result.is_ok() || !outcomes.is_empty()) {
        let before = vec![("dryRun", json!(!args.change.dry_run.stores()))];
        let json = |outcome: &Outcome| {
            identity_json(&outcome.plane.key(), json!({"deleted": outcome.deleted, "gone": outcome.gone}))
        };
        session.term.line(&json_text(&PlanesJson { before, planes: &outcomes, json })?)?;
    }
    result
}

async fn delete(args: &Args, session: &Session, outcomes: &mut Vec<Outcome>) -> anyhow::Result<Exit> {
    let Session { term, .. } = session;
    let lookup = args.which.look(session.connect_to_write().await?, true).await?;
    let cluster = &lookup.cluster;
    let named = args.build.connect(session).await?;
    let (planes, missing) = args.which.planes(&lookup).await?;
    let mut exit = if args.ignore_not_found { Exit::Done } else { tell_missing(&missing, term) };
    if planes.is_empty() {
        if exit == Exit::Done {
            none_found(term);
        }
        return Ok(exit);
    }
    let keys: Vec<_> = planes.iter().map(Plane::key).collect();
    let fleet = args.build.groups(session, cluster, named, keys).await?;
    // What remains there is only described.
    fleet.iter().filter_map(Group::error).for_each(|error| term.warn(&format!("{error:#}")));
    // Only a remark: what can't be listed is not worth an error.
    lockout::of_delete(cluster, &planes).await.iter().flatten().for_each(|reported| term.warn(reported));
    if args.change.dry_run == DryRun::None {
        let title = |plane: &Plane| match plane.kind == DEFAULT_KIND {
            true => visible(plane.name()).into_owned(),
            false => format!("{} {}", plane.kind.kind, visible(&plane.key().to_string())),
        };
        let names: Vec<_> = planes.iter().map(title).collect();
        let what = if let [name] = names.as_slice() {
            if planes[0].kind == DEFAULT_KIND { format!("plane {name}") } else { name.clone() }
        } else {
            format!("{} planes ({})", names.len(), names.join(", "))
        };
        term.confirm(&format!("delete {what} in {}", cluster.target().title()), args.change.yes)?;
    }
    outcomes.extend(planes.into_iter().map(|plane| Outcome { plane, deleted: false, gone: None }));
    for Outcome { plane, deleted, .. } in outcomes.iter_mut() {
        if args.change.dry_run != DryRun::Client {
            match cluster.delete(plane, args.change.dry_run).await {
                Ok(()) => {}
                Err(Error::NotFound { .. }) if args.ignore_not_found => continue,
                Err(error @ Error::NotFound { .. }) => {
                    exit = exit.and(Exit::NotFound);
                    term.error(&error_text(&error.into()));
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        *deleted = true;
        if args.output.format == TextFormat::Text {
            term.line(&format!("{} deleted{}", object_name(&plane.key()), args.change.dry_run.suffix()))?;
        }
    }
    let mut left: Vec<_> = outcomes.iter().filter(|one| one.deleted).map(|one| one.plane.clone()).collect();
    if !left.is_empty() && !term.is_quiet() {
        let agents_in: Vec<_> = fleet.iter().filter_map(Group::usable).map(|build| &build.cluster).collect();
        remains::note(cluster, &agents_in, &left).await.iter().for_each(|reported| term.note(reported));
    }
    if !args.wait || !args.change.dry_run.stores() {
        return Ok(exit);
    }
    let in_time = wait(cluster, &mut left, args.change.timeout, term).await?;
    for one in outcomes.iter_mut().filter(|one| one.deleted) {
        one.gone = Some(!left.iter().any(|plane| plane.is(&one.plane)));
    }
    Ok(if in_time { exit } else { Exit::TimedOut })
}

/// Waits until these very planes are gone, and keeps those that are not; whether they are in time.
async fn wait(cluster: &Cluster, planes: &mut Vec<Plane>, timeout: Span, term: &Term) -> anyhow::Result<bool> {
    let keys = planes.iter().map(Plane::key).collect();
    let mut watch = Lookup::of_keys(cluster.clone(), keys, &Namespaces::Context).watch(None);
    let started = Instant::now();
    let deadline = (timeout.seconds() > 0).then(|| started + timeout.duration());
    let mut waiting: Option<Waiting> = None;
    // Only planes of kinds that not all releases have can be left without a controller.
    let removers = removers(cluster, planes.iter().map(|plane| plane.kind)).await;
    let remover = |kind: &Kind| removers.get(kind).copied().unwrap_or_default();
    loop {
        let wake = if waiting.is_none() { started + PATIENCE } else { Instant::now() + Waiting::EVERY };
        let wake = deadline.map_or(wake, |deadline| wake.min(deadline));
        tokio::select! {
            event = watch.next() => match event? {
                Event::Synced(present) => planes.retain(|plane| {
                    let key = plane.key();
                    let now = present.planes.get(&key);
                    !present.covers(&key) || now.is_some_and(|now| now.metadata.uid == plane.metadata.uid)
                }),
                Event::Deleted(gone) => planes.retain(|plane| plane.metadata.uid != gone.metadata.uid),
                Event::Applied(now) => planes.iter_mut().filter(|plane| plane.metadata.uid == now.metadata.uid).for_each(|plane| *plane = (*now).clone()),
                Event::Lost(error) => term.warn(&format!("lost the connection to the API server, retrying: {error}")),
                Event::Resumed => term.note("the API server answers again"),
            },
            () = tokio::time::sleep_until(wake) => {}
        }
        if planes.is_empty() {
            return Ok(true);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            drop(waiting);
            term.error(&format!("timed out: {}", reported(planes, remover)));
            return Ok(false);
        }
        match &mut waiting {
            Some(waiting) => waiting.remind(&format!("still there: {}", reported(planes, remover))),
            None if started.elapsed() >= PATIENCE => waiting = Some(term.wait(&reported(planes, remover))),
            None => {}
        }
    }
}

/// What holds planes that should be gone. `remover` says who removes the finalizer of a kind.
fn reported(planes: &[Plane], remover: impl Fn(&Kind) -> Remover) -> String {
    let words = planes
        .iter()
        .map(|plane| format!("{} {}", visible(plane.name()), held(plane, remover(plane.kind), CONTROL_NAMESPACE)));
    words.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_holds_each_plane_is_reported() {
        let plane = |name: &str, finalizers: &[&str]| -> Plane {
            serde_json::from_value(json!({"metadata": {"name": name, "finalizers": finalizers}})).unwrap()
        };
        let planes = [plane("a", &[]), plane("b", &["x/y"]), plane("c", &[DEFAULT_KIND.finalizer])];
        let running = reported(&planes, |_| Remover::Controller);
        assert!(running.starts_with("a is going; b is held by the finalizer x/y; c is held by "), "{running}");
        assert!(running.ends_with("check that both are running"), "{running}");
        let successors: Vec<_> = DEFAULT_KIND.successor().into_iter().collect();
        let unknown = reported(&planes, |kind| Remover::of(kind, None, &successors));
        assert!(unknown.contains("if OpenChoreo is v1.0 or later, no controller removes it"), "{unknown}");
    }
}
