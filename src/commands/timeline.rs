//! `choreoctl timeline`: what changed around a plane, in both clusters.

use clap::Args as ClapArgs;

use super::diagnosis::agents_in;
use crate::args::{
    ControlArgs, FromFiles, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, SnapshotArgs, TextFormat, unless_swapped,
};
use crate::doctor::Timeline;
use crate::estate::{Files, History, marks};
use crate::manifest::json_text;
use crate::plane::{Side, Span};
use crate::render;
use crate::term::Exit;
use crate::text::visible;

/// Show changes that concern a plane, in both clusters
///
/// Lists changes by time, the newest last: writes to the plane, to its CA and to the gateway's CA, with
/// --plane-context also to the agent's Secret, certificate, ConfigMap and Deployment, each with its field manager;
/// revisions of Helm releases, starts and ends of pods, events, the controller's lease, and the connection reported by
/// the controller. The API server records the last write of each field manager and which fields it owns, not every write.
///
/// If the connection is lost, MARK says `last-change` in the row of the last change before that, and `lost` in the row of
/// the loss: the reported disconnection, or the last heartbeat if it is too old. If a pod changed within 10 minutes after a
/// write, the write is marked, not the pod's change. Changes before the agent connected are never marked. A
/// missing object is listed without a time.
///
/// With -o json, an object: name, kind, namespace; state; lost (time of the loss, or null); entries, each with time (or
/// null), cluster (control, plane), object, type (expired, release, created, written, deleted, restarted, lease, ended,
/// started, valid, event, condition, disconnected, connected, heartbeat, missing), text, by (or null), loss and
/// lastBeforeLoss (both true or false). The types valid and expired are the dates of a certificate, release is a revision of
/// a Helm release, lease is about the controller's lease, started, restarted and ended are about containers.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl timeline shared-builder --plane-context build
  choreoctl timeline shared-builder --plane-context build --since 2h
  choreoctl timeline shared-builder -f dump.yaml -o json")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    /// Show only changes of the last DURATION, such as 2d [default: all]
    #[arg(long, value_name = "DURATION")]
    since: Option<Span>,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    files: SnapshotArgs,

    #[command(flatten)]
    control: ControlArgs,

    #[command(flatten)]
    build: PlaneClusterArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let term = &session.term;
    // A line without a name is refused before anything is asked.
    args.plane.key()?;
    let history = if args.files.given() { from_files(&args, session).await? } else { read(&args, session).await? };
    let mut timeline = Timeline::of(&history);
    let is_known = timeline.is_marked();
    if let Some(span) = args.since {
        timeline.only_since(span, history.now);
    }
    match args.output.format {
        TextFormat::Json => term.line(&json_text(&render::timeline::json(&timeline))?)?,
        TextFormat::Text => term.print(&render::timeline::table(&timeline))?,
    }
    match timeline.lost {
        Some(_) if !is_known => term.note("no change is recorded between the connection and its loss"),
        Some(_) if !timeline.is_marked() => term.warn("the last change before the loss is older than --since"),
        _ => {}
    }
    for (side, why) in &history.unread {
        let cluster = if *side == Side::Control { "the control plane's cluster" } else { "the plane's cluster" };
        term.warn(&format!("some objects in {cluster} could not be read: {}", visible(&why.message)));
    }
    Ok(if history.unread.is_empty() { Exit::Done } else { Exit::Failed })
}

async fn read(args: &Args, session: &Session) -> anyhow::Result<History> {
    let control = session.connect().await?;
    let (build, plane) = args.build.connect_while(session, args.plane.read(control.clone())).await?;
    let plane = unless_swapped(&control, build.as_ref(), plane).await?;
    let build = args.build.of_planes(session, &control, build, &[plane.key()]).await?;
    if build.is_none() {
        session.term.note("changes in the plane's cluster are not included: add --plane-context");
    }
    let agents = build.as_ref().map(|build| (&build.cluster, Some(build.namespace(plane.kind.family))));
    Ok(History::of(&control, &args.control.control_namespace, agents, plane).await)
}

async fn from_files(args: &Args, session: &Session) -> anyhow::Result<History> {
    anyhow::ensure!(!args.build.is_named(), "with -f no cluster is read: omit --plane-context");
    let term = &session.term;
    let FromFiles { snapshot, .. } = args.files.read(&[], term)?;
    let plane = args.plane.in_files(&snapshot.planes)?;
    let (control, build) = (Files::control(&snapshot), Files::build(&snapshot));
    let namespace = marks::namespace(&snapshot, Side::Control).unwrap_or(&args.control.control_namespace);
    let agents = build.as_ref().map(|build| (build, agents_in(&snapshot).namespace(plane.kind.family)));
    let mut history = History::of(&control, namespace, agents, plane).await;
    // Files need not hold everything, which is said once and not for each object.
    history.unread.clear();
    let whole = marks::is_dump(&snapshot) && !marks::is_cut_off(&snapshot);
    if !whole {
        let why =
            if marks::is_dump(&snapshot) { "the dump is truncated" } else { "the files may not contain all objects" };
        term.warn(&format!("{why}: changes of missing objects are not shown"));
    }
    Ok(history)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::tests::{PLANE, files, parse, session};

    #[tokio::test]
    async fn files_stand_for_both_clusters() {
        let (_folder, inputs) = files(&[("a.yaml", PLANE)]);
        let file = inputs[0].to_string();
        let args: Args = parse(&["a", "-f", &file, "--since", "1d"]).unwrap();
        let history = from_files(&args, &session()).await.unwrap();
        assert_eq!((history.plane.name(), history.unread.len()), ("a", 0));
        assert_eq!(run(args, &session()).await.unwrap(), Exit::Done);
        let args: Args = parse(&["b", "-f", &file]).unwrap();
        assert!(from_files(&args, &session()).await.is_err());
        let args: Args = parse(&["a", "-f", &file, "--plane-context", "b"]).unwrap();
        let error = from_files(&args, &session()).await.err().unwrap().to_string();
        assert!(error.contains("omit --plane-context"), "{error}");
    }
}
