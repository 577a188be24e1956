//! `choreoctl forecast`: when planes will break by themselves.

use clap::{Args as ClapArgs, ValueEnum};
use jiff::Timestamp;

use super::diagnosis::DiagnosisArgs;
use super::error::{none_found, tell_missing};
use crate::args::{AtArgs, FileArgs, OutputArgs, Session, unless_swapped};
use crate::doctor::{Break, Case, Gateway, forecast};
use crate::estate::{Extent, Few};
use crate::manifest::json_text;
use crate::pki::Remaining;
use crate::plane::{Plane, Span};
use crate::render::forecast::{Forecast, json, prometheus, table};
use crate::term::Exit;

/// Predict when planes will lose their connection
///
/// Shows when the CA expires. With --plane-context, also when the agent's certificates in the Secret and in the pod expire,
/// and when cert-manager renews a certificate that the plane pins. With the gateway's URL, also when the gateway's
/// certificate expires. If it is unknown which certificate a running pod has read, its
/// date is the latest possible one (running-certificate-unknown), and counts for --within. It never writes. Exits 2 when an
/// object that it needs can't be read.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("output", |format| format.default_value("table")), after_help = "Examples:
  choreoctl forecast
  choreoctl forecast shared-builder --plane-context build --within 30d
  choreoctl forecast -o prometheus > choreoctl.prom")]
pub struct Args {
    #[command(flatten)]
    diagnosis: DiagnosisArgs,

    /// Exit 1 when a plane loses its connection within this time
    #[arg(long, value_name = "DURATION")]
    within: Option<Span>,

    #[command(flatten)]
    at: AtArgs,

    #[command(flatten)]
    output: OutputArgs<Format>,

    #[command(flatten)]
    files: FileArgs,
}

/// What ends soon is no matter here: dates are reported.
const SOON: Remaining = Remaining::Share(0.0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Prometheus,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let (cases, missing, now, mut exit) = if args.files.given() {
        args.diagnosis.refuse_clusters()?;
        let files = args.files.read(args.at, &session.term)?;
        let (gathered, missing, exit) = args.diagnosis.read_files(&files, SOON, &session.term).await?;
        (gathered.cases, missing, files.snapshot.now, exit)
    } else {
        gather(&args, session).await?
    };
    let at = args.at.from(now);
    let forecasts: Vec<_> = cases
        .iter()
        .map(|case| Forecast {
            key: case.facts.plane.key(),
            plane_id: case.facts.plane.plane_id().to_owned(),
            breaks: forecast(case, at),
        })
        .collect();
    let within = |one: &Break| args.within.is_some_and(|within| one.may_precede(within.after(at)));
    match args.output.format {
        Format::Json => session.term.line(&json_text(&json(&forecasts))?)?,
        Format::Prometheus => session.term.print(&prometheus(&forecasts))?,
        Format::Table if forecasts.is_empty() && missing.is_empty() => none_found(&session.term),
        Format::Table => session.term.print(&table(&forecasts, within, at))?,
    }
    // So may a gateway that was named and shows no certificate.
    if let Some(url) =
        args.diagnosis.gateway_url.as_ref().filter(|_| cases.iter().any(|case| case.gateway.certificate.is_none()))
    {
        session.term.warn(&format!("the certificate of {url} could not be read"));
        exit = exit.and(Exit::Failed);
    }
    // So may an agent whose certificates were not looked at; of two planes in migration it is that of the one in use.
    for case in cases.iter().filter(|case| case.used_instead().is_none()) {
        let name = crate::text::visible(&case.facts.plane.key().to_string()).into_owned();
        match (&case.build, &case.elsewhere) {
            (Some(Err(problem)), Ok(agents)) if problem.is_missing() && !agents.is_empty() => {
                let names: Vec<_> = agents.iter().map(ToString::to_string).collect();
                let place = Few::of(&names);
                session
                    .term
                    .warn(&format!("{name}: its agent is {place}, which was not checked: add --plane-namespace"));
                exit = exit.and(Exit::Failed);
            }
            (Some(Err(problem)), _) if problem.is_missing() => {
                let why = &problem.message;
                session.term.warn(&format!("{name}: {why}, so the certificates of its agent are not included"));
                if case.shared.is_named {
                    exit = exit.and(Exit::Failed);
                }
            }
            _ => {}
        }
    }
    if !args.files.given() && cases.iter().any(|case| case.build.is_none()) {
        session.term.note("the agents' certificates are not included: add --plane-context");
    }
    // What can't be read may break at any time.
    let unread = cases.iter().filter(|case| case.is_unread() && case.used_instead().is_none());
    for case in unread {
        let name = crate::text::visible(&case.facts.plane.key().to_string()).into_owned();
        session.term.warn(&format!("{name}: some objects can't be read, so an earlier date may be missing"));
        exit = exit.and(Exit::Failed);
    }
    if forecasts.iter().flat_map(|one| &one.breaks).any(within) {
        exit = exit.and(Exit::No);
    }
    Ok(exit.and(tell_missing(&missing, &session.term)))
}

type Gathered = (Vec<Case>, Vec<anyhow::Error>, Timestamp, Exit);

async fn gather(args: &Args, session: &Session) -> anyhow::Result<Gathered> {
    let choice = &args.diagnosis.choice;
    let control = session.connect().await?;
    let (build, lookup) = args.diagnosis.build().connect_while(session, choice.look(control.clone())).await?;
    let lookup = lookup?;
    let chosen = choice.in_cluster(&lookup, Plane::without_history).await;
    let (planes, missing) = unless_swapped(&control, build.as_ref(), chosen).await?;
    let reach = args.diagnosis.reach(&lookup, Gateway::Certificate, session);
    let extent = Extent(lookup.whole(choice.selector.as_ref(), &missing));
    let keys = planes.iter().map(Plane::key).collect();
    let fleet = args.diagnosis.build().groups(session, &control, build, keys).await?;
    let cases = args.diagnosis.gather(&reach, planes, &extent, &fleet).await.cases;
    Ok((cases, missing, control.now(), Exit::Done))
}
