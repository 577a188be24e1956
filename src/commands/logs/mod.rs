//! `choreoctl logs`: the agent's log from the plane's cluster, and the gateway's lines about the plane.

mod follow;
mod reader;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args as ClapArgs;
use futures_util::future::join_all;
use tokio::sync::mpsc::channel;
use tokio::time::Instant;

use super::refusals::Refusal;
use crate::args::{ControlArgs, OutputArgs, PlaneArgs, PlaneClusterArgs, Session, TextFormat, unless_swapped};
use crate::cluster::LogRange;
use crate::estate::GatewayLines;
use crate::manifest::json_line;
use crate::plane::{NamespacedName, Plane, Span};
use crate::render::logs::{Entry, LogSource, Prefix, json, sort, text};
use crate::term::{Exit, Term, reader_gone};
use crate::text::{shell_quoted, visible};
use follow::{Following, Reports};
use reader::{Pods, Reader, Side, is_gone};

/// Lines of several logs that are written within this time are shown in the order of their times.
const TOGETHER: Duration = Duration::from_millis(200);
/// How many lines wait to be shown.
const WAITING: usize = 1024;

/// Show the agent's log
///
/// Structured lines are shown as time, level, message and KEY=VALUE for each other field; other lines are unchanged. The lines
/// of several pods are sorted by time, and begin with the pod's name. With --follow, the logs of new pods are read, too. Private
/// keys, certificates and tokens are left out.
///
/// With -o json, each line is an object: time, source (agent or gateway), pod, level, message, and fields with the other
/// fields. The time and level are null where the log has none.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl logs shared-builder --plane-context build
  choreoctl logs shared-builder --plane-context build --follow --since 10m
  choreoctl logs shared-builder --plane-context build --gateway --tail 50
  choreoctl logs cwp/default --plane-context build --previous
  choreoctl logs shared-builder --plane-context build -o json | jq -r 'select(.level == \"ERROR\") | .message'")]
pub struct Args {
    #[command(flatten)]
    plane: PlaneArgs,

    /// Show new lines as they are written, also from new pods
    #[arg(short, long)]
    follow: bool,

    /// Show only lines of the last DURATION, such as 10m
    #[arg(long, value_name = "DURATION")]
    since: Option<Span>,

    /// Lines of each pod to show, counted from the end [default: all]
    #[arg(long, value_name = "NUMBER")]
    tail: Option<u32>,

    /// Show the log of the containers before their last restart
    #[arg(short, long, conflicts_with = "follow")]
    previous: bool,

    /// Add the gateway's log lines about this plane
    #[arg(long)]
    gateway: bool,

    #[command(flatten)]
    control: ControlArgs,

    #[command(flatten)]
    build: PlaneClusterArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let (control, build, key) = args.build.connect_for(&args.plane, session).await?;
    let plane: Plane = unless_swapped(&control, Some(&build), control.plane(&key.name).await).await?;
    let namespace = build.namespace(key.kind.family).to_owned();
    let agent = build.cluster.agent(&namespace, key.kind.family, Some(plane.plane_id())).await?;
    let name = agent.name.clone();
    let mut sides = vec![Side { cluster: build.cluster, namespace, program: Pods::Agent(Box::new(agent)) }];
    if args.gateway {
        let namespace = args.control.control_namespace.clone();
        sides.push(Side { cluster: control, namespace, program: Pods::Gateway(GatewayLines::about(&plane)) });
    }
    let view =
        View { term: session.term.clone(), format: args.output.format, gateway: args.gateway, pods: BTreeSet::new() };
    show(&args, sides, &name, view).await
}

/// Shows the logs of some programs; `name` is that of the agent's Deployment.
async fn show(args: &Args, sides: Vec<Side>, name: &NamespacedName, mut view: View) -> anyhow::Result<Exit> {
    let term = view.term.clone();
    let mut exit = Exit::Done;
    let mut readers = Vec::new();
    for side in &sides {
        let pods = side.pods().await.with_context(|| format!("could not look for pods of the {}", side.noun()));
        match (pods, &side.program) {
            (Ok(pods), Pods::Gateway(_)) if pods.is_empty() && !args.follow => {
                term.warn(&format!("no pod of the gateway is ready in the namespace {}", visible(&side.namespace)));
                exit = Exit::Failed;
            }
            (Ok(pods), _) => {
                if pods.is_empty() && (args.follow || args.gateway) {
                    term.note(&format!("the {} has no pod at the moment", side.noun()));
                }
                // With --follow those that are not running yet are read as soon as they run.
                let read = pods.iter().filter(|pod| !args.follow || pod.waiting.is_none());
                readers.extend(read.map(|pod| Reader::of(side, &pod.name)));
            }
            (Err(error), Pods::Agent(_)) => return Err(error),
            (Err(error), Pods::Gateway(_)) => {
                term.warn(&format!("{error:#}"));
                exit = Exit::Failed;
            }
        }
    }
    view.pods.extend(readers.iter().map(|reader| reader.source.clone()));
    let range = LogRange { since: args.since, tail: args.tail, previous: args.previous, ..LogRange::default() };
    let logs = join_all(readers.iter_mut().map(|reader| reader.read(range))).await;
    let (mut known, mut failed) = (Vec::new(), Vec::new());
    for (reader, log) in readers.iter().zip(logs) {
        match log {
            Ok(log) => known.push(log),
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                let context = format!("could not read the log of {}", reader.title());
                failed.push(anyhow::Error::new(error).context(context));
            }
        }
    }
    if !args.follow && known.is_empty() && failed.is_empty() {
        let describe = format!("kubectl -n {} describe deployment {}", name.namespace, shell_quoted(&name.name));
        let command = sides.first().map(|side| side.cluster.target().command(&describe)).unwrap_or_default();
        return Err(Refusal::NoPods { agent: name.to_string(), command }.into());
    }
    if known.is_empty() && !failed.is_empty() {
        return Err(failed.swap_remove(0));
    }
    view.print(sort(known))?;
    if args.follow {
        // What failed is tried again there, and reported.
        return follow(sides, readers, view).await;
    }
    failed.iter().for_each(|error| term.warn(&format!("{error:#}")));
    Ok(if failed.is_empty() { exit } else { Exit::Failed })
}

/// Shows lines as they are written, until nobody reads them.
async fn follow(sides: Vec<Side>, mut readers: Vec<Reader>, mut view: View) -> anyhow::Result<Exit> {
    let (sender, mut reported) = channel(WAITING);
    let mut followings = Vec::new();
    for side in sides {
        let is_gateway = matches!(side.program, Pods::Gateway(_));
        let (own, others) = readers.into_iter().partition(|reader| reader.is_of_gateway() == is_gateway);
        readers = others;
        followings.push(Following::of(side, own, sender.clone()).run());
    }
    let (followings, gone) = (join_all(followings), reader_gone());
    tokio::pin!(followings, gone);
    let (mut waiting, mut due) = (Vec::new(), Instant::now());
    loop {
        tokio::select! {
            Some(reported) = reported.recv() => match reported {
                Reports::Entry(entry) => {
                    if waiting.is_empty() {
                        due = Instant::now() + TOGETHER;
                    }
                    waiting.push(*entry);
                }
                Reports::Note(text) => view.term.note(&text),
                Reports::Warning(text) => view.term.warn(&text),
            },
            _ = &mut followings => return Ok(Exit::Done),
            () = tokio::time::sleep_until(due), if !waiting.is_empty() => {
                view.print(sort(by_source(std::mem::take(&mut waiting))))?;
            }
            () = &mut gone => return Ok(Exit::Done),
        }
    }
}

/// Puts the lines of each log together again.
fn by_source(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut logs = std::collections::BTreeMap::<LogSource, Vec<Entry>>::new();
    entries.into_iter().for_each(|entry| logs.entry(entry.source.clone()).or_default().push(entry));
    logs.into_values().collect()
}

/// How lines are shown.
struct View {
    term: Term,
    format: TextFormat,
    /// Whether lines of the gateway are, too.
    gateway: bool,
    /// The pods so far.
    pods: BTreeSet<LogSource>,
}

impl View {
    fn print(&mut self, entries: Vec<Entry>) -> anyhow::Result<()> {
        self.pods.extend(entries.iter().map(|entry| entry.source.clone()));
        let prefix = match self.pods.len() {
            _ if self.gateway => Prefix::Program,
            0 | 1 => Prefix::None,
            _ => Prefix::Pod,
        };
        let mut shown = String::new();
        for entry in &entries {
            shown += &match self.format {
                TextFormat::Text => text(entry, prefix),
                TextFormat::Json => json_line(&json(entry))?,
            };
            shown.push('\n');
        }
        if shown.is_empty() { Ok(()) } else { self.term.print(&shown) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::args::tests::{parse, session};
    use crate::cluster::Fake;

    fn agent() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "n", "name": "agent"},
            "spec": {"selector": {"matchLabels": {"of": "x"}}, "template": {"spec": {"containers": []}}},
        })
    }

    fn pod(name: &str) -> Value {
        let metadata = json!({"namespace": "n", "name": name, "labels": {"of": "x"}});
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": []}})
    }

    /// How it ends in a cluster, with the gateway's side in another one.
    async fn ends(fake: &Fake, gateway: Option<&Fake>, words: &[&str]) -> anyhow::Result<Exit> {
        let agent = crate::cluster::Agent::of(serde_json::from_value(agent())?);
        let name = agent.name.clone();
        let side = |fake: &Fake, program| Side { cluster: fake.cluster(), namespace: "n".into(), program };
        let plane: Plane = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": {"planeID": "x"}}))?;
        let of_gateway = gateway.map(|fake| side(fake, Pods::Gateway(GatewayLines::about(&plane))));
        let sides = [side(fake, Pods::Agent(Box::new(agent)))].into_iter().chain(of_gateway).collect();
        let view =
            View { term: session().term, format: TextFormat::Json, gateway: gateway.is_some(), pods: BTreeSet::new() };
        show(&parse(&[&["p"], words].concat()).map_err(anyhow::Error::msg)?, sides, &name, view).await
    }

    #[tokio::test]
    async fn what_can_be_read_is_shown_and_what_cannot_is_no_success() {
        let error = ends(&Fake::default(), None, &[]).await.unwrap_err();
        let refusal: &Refusal = error.downcast_ref().unwrap();
        assert_eq!(refusal.to_string(), "there is no log: the agent n/agent has no pod");
        assert_eq!(refusal.hint().unwrap(), "kubectl -n n describe deployment agent");

        let fake = Fake::of([pod("a"), pod("b")]);
        let log = |name: &str| format!("GET /api/v1/namespaces/n/pods/{name}/log");
        let answer = |name: &str| fake.answer(&log(name), 200, json!("x\n"));
        answer("a");
        fake.forbid(&log("b"));
        assert_eq!(ends(&fake, None, &[]).await.unwrap(), Exit::Failed);
        // Without any of them there is nothing to follow either.
        fake.forbid(&log("a"));
        for words in [&[][..], &["-f"]] {
            let error = format!("{:#}", ends(&fake, None, words).await.unwrap_err());
            assert!(error.starts_with("could not read the log of pod a: not allowed"), "{error}");
        }
        answer("a");
        answer("b");
        assert_eq!(ends(&fake, None, &["--previous"]).await.unwrap(), Exit::Done);
        assert!(fake.asked().last().unwrap().contains("previous=true"));
        // A gateway that is not there, or may not be looked for, hides nothing of the agent.
        let forbidden = Fake::default();
        forbidden.forbid("GET /api/v1/namespaces/n/services");
        for gateway in [Fake::default(), forbidden] {
            assert_eq!(ends(&fake, Some(&gateway), &["--gateway"]).await.unwrap(), Exit::Failed);
        }
        fake.forbid("GET /api/v1/namespaces/n/pods?");
        let error = format!("{:#}", ends(&fake, None, &[]).await.unwrap_err());
        assert!(error.starts_with("could not look for pods of the agent: not allowed"), "{error}");
    }

    #[test]
    fn what_was_written_before_a_restart_is_not_followed() {
        assert!(parse::<Args>(&["a", "-f", "-p"]).unwrap_err().contains("cannot be used with"));
        assert!(parse::<Args>(&["a", "--tail", "-1"]).is_err());
    }
}
