//! `choreoctl forecast`: when planes will break by themselves.

use clap::{Args as ClapArgs, ValueEnum, ValueHint};
use jiff::Timestamp;

use super::diagnosis::cut_off;
use super::error::tell_missing;
use crate::args::{BuildArgs, ChoiceArgs, ControlArgs, FileArgs, Session, unless_swapped};
use crate::doctor::{self, Break, Case, Few, Gateway, Reach, forecast};
use crate::gateway::GatewayUrl;
use crate::manifest::{Input, json_text};
use crate::pki::Remaining;
use crate::plane::{Moment, Plane, Span};
use crate::render::forecast::{Forecast, json, prometheus, table};
use crate::term::Exit;

/// Predict when planes will lose their connection
///
/// Shows when the CA expires, with --build-context also the agent's certificates, in the Secret and in the running pod, and
/// the day on which cert-manager renews a pinned one, and with a gateway's URL the gateway's own certificate. A certificate
/// that is unknown has its latest possible date, and counts for --within. It only reads.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl forecast
  choreoctl forecast shared-builder --build-context build --within 30d
  choreoctl forecast -o prometheus > choreoctl.prom")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// Where the gateway is; where the agent's arguments say, unless given
    #[arg(long, value_name = "URL", value_parser = GatewayUrl::of_agent, conflicts_with = "files")]
    gateway_url: Option<GatewayUrl>,

    /// Exit 1 when a plane breaks within a length of time
    #[arg(long, value_name = "DURATION")]
    within: Option<Span>,

    /// Look as if it were this time: 2026-11-22T12:00:00Z, or +30d
    #[arg(long, value_name = "TIME")]
    at: Option<Moment>,

    #[command(flatten)]
    control: ControlArgs,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,

    #[command(flatten)]
    build: BuildArgs,

    /// Read from a file, a folder or - (standard input) instead of a cluster (can be repeated)
    #[arg(short, long = "filename", value_name = "FILE", value_hint = ValueHint::AnyPath)]
    files: Vec<Input>,
}

/// What ends soon is no matter here: dates are told.
const SOON: Remaining = Remaining::Share(0.0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Prometheus,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    anyhow::ensure!(
        args.files.is_empty() || !args.build.is_named(),
        "with -f no cluster is asked: leave --build-context out"
    );
    let (cases, missing, now, mut exit) = if args.files.is_empty() {
        gather(&args, session).await?
    } else {
        let files = FileArgs::of(&args.files).read(&session.term)?;
        let (names, missing) = args.choice.in_files(&files.snapshot.planes);
        let (namespace, named) = (&args.control.control_namespace, !args.choice.names.is_empty());
        let cases = doctor::gather_of_files(&files.snapshot, &names, namespace, SOON, named).await.cases;
        let exit = cut_off(&files.snapshot, &session.term);
        (cases, missing, files.snapshot.now, exit)
    };
    let at = args.at.map_or(now, |moment| moment.from(now));
    let forecasts: Vec<_> = cases
        .iter()
        .map(|case| Forecast {
            name: case.facts.plane.name().to_owned(),
            plane_id: case.facts.plane.plane_id().to_owned(),
            breaks: forecast(case, at),
        })
        .collect();
    let within = |one: &Break| args.within.is_some_and(|within| one.may_precede(within.after(at)));
    match args.output {
        Format::Json => session.term.line(&json_text(&json(&forecasts))?)?,
        Format::Prometheus => session.term.print(&prometheus(&forecasts))?,
        Format::Table if forecasts.is_empty() && missing.is_empty() => session.term.note("No resources found"),
        Format::Table => session.term.print(&table(&forecasts, within, at))?,
    }
    // So may a gateway that was named and shows no certificate.
    if let Some(url) = args.gateway_url.as_ref().filter(|_| cases.iter().any(|case| case.gateway_certificate.is_none()))
    {
        session.term.warn(&format!("the certificate of {url} could not be seen"));
        exit = exit.and(Exit::Failed);
    }
    // So may an agent whose certificates were not looked at.
    for case in &cases {
        let name = crate::text::visible(case.facts.plane.name());
        match (&case.build, &case.elsewhere) {
            (Some(Err(problem)), Ok(agents)) if problem.is_missing() && !agents.is_empty() => {
                let names: Vec<_> = agents.iter().map(ToString::to_string).collect();
                let place = Few::of(&names);
                session.term.warn(&format!("{name}: its agent is {place}, which was not looked at: --build-namespace"));
                exit = exit.and(Exit::Failed);
            }
            (Some(Err(problem)), _) if problem.is_missing() => {
                session
                    .term
                    .warn(&format!("{name}: {}, so the certificates of its agent are not included", problem.message));
                if case.is_named {
                    exit = exit.and(Exit::Failed);
                }
            }
            _ => {}
        }
    }
    if args.files.is_empty() && !args.build.is_named() && !cases.is_empty() {
        session.term.note("the agents' certificates are not included: --build-context");
    }
    // What can't be read may break at any time.
    let unread = cases.iter().filter(|case| case.is_unread());
    for case in unread {
        let name = crate::text::visible(case.facts.plane.name());
        session.term.warn(&format!("{name}: a part of it can't be read, so an earlier date may be missing"));
        exit = exit.and(Exit::Failed);
    }
    if forecasts.iter().flat_map(|one| &one.breaks).any(within) {
        exit = exit.and(Exit::No);
    }
    Ok(exit.and(tell_missing(&missing, &session.term)))
}

type Gathered = (Vec<Case>, Vec<anyhow::Error>, Timestamp, Exit);

async fn gather(args: &Args, session: &Session) -> anyhow::Result<Gathered> {
    let control = args.choice.connect(session).await?;
    let build = args.build.connect(session).await?;
    let chosen = args.choice.in_cluster(&control, |plane: Plane| plane).await;
    let (planes, missing) = unless_swapped(&control, build.as_ref(), chosen).await?;
    let reach = Reach {
        control: &control,
        control_namespace: &args.control.control_namespace,
        build: build.as_ref().map(|build| (&build.cluster, build.namespace.as_str())),
        gateway_url: args.gateway_url.as_ref(),
        identity: None,
        limit: session.patience(),
        soon: SOON,
        named: !args.choice.names.is_empty(),
        gateway: Gateway::Certificate,
    };
    let cases = doctor::gather(&reach, planes, args.choice.is_whole()).await.cases;
    Ok((cases, missing, control.now(), Exit::Done))
}
