//! `choreoctl status`: the whole fleet in one screen.

use std::time::Duration;

use clap::Args as ClapArgs;
use jiff::Timestamp;
use rayon::prelude::*;

use super::diagnosis::DiagnosisArgs;
use super::error::tell_missing;
use crate::args::{AtArgs, FileArgs, OutputArgs, Session, TextFormat, unless_swapped};
use crate::doctor::{Case, Checked, Gateway, Gathered, Status, checks, forecast};
use crate::estate::Extent;
use crate::manifest::json_text;
use crate::pki::Remaining;
use crate::plane::{Plane, Span};
use crate::render::status::{Fleet, Member, json, text};
use crate::term::{Exit, reader_gone};

/// How often a watched fleet is looked at.
const EVERY: Duration = Duration::from_secs(10);

/// Show which planes of the fleet need attention
///
/// Counts the planes of all kinds and namespaces by their states, and shows only those that need attention, each with its
/// root cause (or what could not be read, if the cause may be there) and the fix, then the next five dates on which a plane loses its connection. The clusters of the agents
/// come from the configuration (`choreoctl config set`) or --plane-context. If a cluster does not answer within
/// --cluster-timeout, the agents in it are not checked, and their planes are counted as not checked.
///
/// JSON: {"planes", "states":{state:n}, "attention":[{"name","kind","namespace","state","rootCause","message","hints"}],
/// "next":[{"date","reason","message","planes":[{"name","kind","namespace"}]}], "controlPlane":[{"id","message"}], "notChecked":n}. The exit
/// code is that of doctor: 2 if an object that a check needs can't be read, else 1 if a check failed.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl status
  choreoctl status --watch
  choreoctl status cdp -l region=eu -o json")]
pub struct Args {
    #[command(flatten)]
    diagnosis: DiagnosisArgs,

    /// Warn about certificates that expire within this time, or within this share of their lifetime
    #[arg(long, value_name = "DURATION|PERCENT", default_value = "33%")]
    expires_within: Remaining,

    /// Timeout of each plane's cluster
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    cluster_timeout: Span,

    /// Check again every 10 seconds
    #[arg(short, long, conflicts_with = "files")]
    watch: bool,

    #[command(flatten)]
    files: FileArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if !args.watch {
        let (shown, exit) = look(&args, session).await?;
        session.term.print(&shown)?;
        return Ok(exit);
    }
    let mut last = String::new();
    loop {
        let (shown, exit) = look(&args, session).await?;
        match session.term.redraws() && args.output.format == TextFormat::Text {
            true => session.term.redraw(&shown)?,
            false if shown != last => session.term.print(&shown)?,
            false => {}
        }
        last = shown;
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = reader_gone() => return Ok(exit),
        }
    }
}

/// Looks at all clusters or files once, and returns what is to be shown.
async fn look(args: &Args, session: &Session) -> anyhow::Result<(String, Exit)> {
    let (gathered, missing, now, exit) = if args.files.given() {
        args.diagnosis.refuse_clusters()?;
        let files = args.files.read(AtArgs::default(), &session.term)?;
        let read = args.diagnosis.read_files(&files, args.expires_within, &session.term).await?;
        let (gathered, missing, exit) = read;
        (gathered, missing, files.snapshot.now, exit)
    } else {
        gather(args, session).await?
    };
    let ground = checks(&gathered.ground, None);
    let member = |case: &Case| {
        let mut checked = checks(&gathered.ground, Some(case));
        checked.retain(Checked::counts);
        let plane = &case.facts.plane;
        let (state, breaks) = (plane.state(now), forecast(case, now));
        Member { key: plane.key(), state, checked, breaks, has_cluster: case.build.is_some() }
    };
    let members: Vec<_> = gathered.cases.par_iter().map(member).collect();
    let of_check = |checked: &Checked| {
        let failed = if checked.outcome.status == Status::Fail { Exit::No } else { Exit::Done };
        if checked.outcome.unknown { failed.and(Exit::Failed) } else { failed }
    };
    let all = members.iter().flat_map(|member| &member.checked).chain(&ground);
    let exit = all.map(of_check).fold(exit.and(tell_missing(&missing, &session.term)), Exit::and);
    let fleet = Fleet { members, ground, now, is_of_files: args.files.given() };
    let shown = match args.output.format {
        TextFormat::Text => text(&fleet),
        TextFormat::Json => json_text(&json(&fleet))? + "\n",
    };
    Ok((shown, exit))
}

async fn gather(args: &Args, session: &Session) -> anyhow::Result<(Gathered, Vec<anyhow::Error>, Timestamp, Exit)> {
    let (diagnosis, choice) = (&args.diagnosis, &args.diagnosis.choice);
    let control = session.connect().await?;
    let (named, lookup) = diagnosis.build().connect_while(session, choice.look_everywhere(control.clone())).await?;
    let lookup = lookup?;
    let chosen = choice.in_cluster(&lookup, Plane::without_history).await;
    let (planes, missing) = unless_swapped(&control, named.as_ref(), chosen).await?;
    let mut reach = diagnosis.reach(&lookup, Gateway::All, session);
    (reach.soon, reach.bound) = (args.expires_within, Some(args.cluster_timeout.duration()));
    let extent = Extent(lookup.whole(choice.selector.as_ref(), &missing));
    let keys = planes.iter().map(Plane::key).collect();
    let fleet = diagnosis.build().groups(session, &control, named, keys).await?;
    let gathered = diagnosis.gather(&reach, planes, &extent, &fleet).await;
    Ok((gathered, missing, control.now(), Exit::Done))
}
