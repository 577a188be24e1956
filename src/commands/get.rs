//! `choreoctl get`: planes as a table, or as the API server's objects.

use std::collections::BTreeSet;

use clap::{Args as ClapArgs, ValueEnum};
use clap_complete::ArgValueCandidates;
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{list, object_name, watch, without_managed_fields};
use crate::args::{FileArgs, Session};
use crate::cluster::{Cluster, Error};
use crate::complete;
use crate::doctor;
use crate::manifest::{json_text, to_yaml};
use crate::plane::{Plane, PlaneName, Selector, State, StateFilter};
use crate::render;
use crate::render::planes::{Row, SortBy};
use crate::term::{Exit, Term};

/// Show build planes
///
/// As a table, or with -o json and yaml as the API server's own objects. With -f from files, without a cluster.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl get
  choreoctl get -o wide --sort-by state
  choreoctl get --state '!Connected' -o name
  kubectl get cbp -o yaml | choreoctl get -f -")]
pub struct Args {
    /// Names of the planes; all, unless given
    #[arg(add = ArgValueCandidates::new(complete::planes))]
    names: Vec<PlaneName>,

    /// Labels that the planes must have
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<Selector>,

    /// States to show, joined by commas; with a ! before it, one to leave out
    #[arg(long, value_name = "STATES")]
    state: Option<StateFilter>,

    /// Column to sort by; by state the worst come first
    #[arg(long, value_name = "COLUMN", default_value = "name")]
    sort_by: SortBy,

    /// Leave the table's header out
    #[arg(long)]
    no_headers: bool,

    /// Go on watching
    #[arg(short, long, conflicts_with = "files")]
    watch: bool,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,

    /// With -o json and yaml, show who owns which field
    #[arg(long)]
    show_managed_fields: bool,

    #[command(flatten)]
    files: FileArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    if args.watch {
        let format = match args.output {
            Format::Json => Some(watch::Format::Json),
            Format::Table => None,
            _ => anyhow::bail!("with --watch the output is a table or json"),
        };
        return watch::run(watch::Args::new(args.names, args.selector, args.state, format), session).await;
    }
    let exit = match args.output {
        Format::Table | Format::Wide | Format::Name => show(&args, session).await?,
        Format::Json | Format::Yaml => print(&args, session).await?,
    };
    Ok(exit)
}

/// The planes as a table, or by name.
async fn show(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut rows, now, exit) = if args.files.given() {
        let (_, snapshot) = args.files.read(&session.term)?;
        let cas = doctor::client_cas_of_files(&snapshot).into_iter();
        let rows = snapshot
            .planes
            .iter()
            .cloned()
            .zip(cas)
            .map(|(plane, ca)| Row::new(plane, (args.output == Format::Wide).then_some(ca)));
        let mut rows: Vec<_> = rows.collect();
        let (chosen, exit) = chosen(&snapshot.planes, args, &session.term);
        rows.retain(|row| chosen.contains(&row.name));
        (rows, snapshot.now, exit)
    } else {
        let cluster = session.connect().await?;
        let (rows, exit) = rows(&cluster, args, &session.term).await?;
        (rows, cluster.now(), exit)
    };
    rows.retain(|row| keeps(args, row.state(now)));
    render::planes::sort(&mut rows, args.sort_by, now);
    if rows.is_empty() {
        if exit == Exit::Done {
            session.term.note("No resources found");
        }
    } else if args.output == Format::Name {
        let names: String = rows.iter().map(|row| object_name(&row.name) + "\n").collect();
        session.term.print(&names)?;
    } else {
        session.term.print(&render::planes::table(&rows, !args.no_headers, now))?;
    }
    Ok(exit)
}

async fn rows(cluster: &Cluster, args: &Args, term: &Term) -> Result<(Vec<Row>, Exit), Error> {
    if args.output != Format::Wide {
        return read(cluster, args, term, |plane| Row::new(plane, None)).await;
    }
    let (planes, exit) = read(cluster, args, term, |plane: Plane| plane).await?;
    let cas = doctor::client_cas(cluster, &planes).await;
    Ok((planes.into_iter().zip(cas).map(|(plane, ca)| Row::new(plane, Some(ca))).collect(), exit))
}

/// The planes as the API server has them.
async fn print(args: &Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut objects, now, exit) = if args.files.given() {
        let (objects, snapshot) = args.files.read(&session.term)?;
        let (names, exit) = chosen(&snapshot.planes, args, &session.term);
        let chosen = objects.into_iter().filter(|object| names.contains(super::apply::name(object))).collect();
        (chosen, snapshot.now, exit)
    } else {
        let cluster = session.connect().await?;
        let (objects, exit) = read(&cluster, args, &session.term, |object: Value| object).await?;
        (objects, cluster.now(), exit)
    };
    if args.state.is_some() {
        objects.retain(|object| Plane::deserialize(object).is_ok_and(|plane| keeps(args, plane.state(now))));
    }
    if !args.show_managed_fields {
        objects.iter_mut().for_each(without_managed_fields);
    }
    let result = match objects.as_slice() {
        [object] if args.names.len() == 1 => object.clone(),
        [] if !args.names.is_empty() => return Ok(exit),
        objects => list(objects),
    };
    match args.output {
        Format::Yaml => session.term.print(&to_yaml(&result)?)?,
        _ => session.term.line(&json_text(&result)?)?,
    }
    Ok(exit)
}

fn keeps(args: &Args, state: State) -> bool {
    args.state.as_ref().is_none_or(|filter| filter.keeps(state))
}

/// The named planes, or all that the selector chooses. One that doesn't exist is told, and the others are shown.
async fn read<T: DeserializeOwned, R>(
    cluster: &Cluster,
    args: &Args,
    term: &Term,
    make: impl Fn(T) -> R,
) -> Result<(Vec<R>, Exit), Error> {
    if args.names.is_empty() {
        return Ok((cluster.planes_as(args.selector.as_ref(), make).await?, Exit::Done));
    }
    let (mut planes, mut exit) = (Vec::new(), Exit::Done);
    for name in args.names.iter().collect::<BTreeSet<_>>() {
        match cluster.plane(name.as_str()).await {
            Ok(plane) => planes.push(make(plane)),
            Err(error) if error.is_not_found() => {
                exit = exit.and(Exit::NotFound);
                term.error(&crate::commands::error_text(&error.into()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((planes, exit))
}

/// The names of the planes out of files that are meant.
fn chosen(planes: &[Plane], args: &Args, term: &Term) -> (BTreeSet<String>, Exit) {
    let mut exit = Exit::Done;
    for name in &args.names {
        if planes.iter().all(|plane| plane.name() != name.as_str()) {
            exit = Exit::NotFound;
            term.error(&crate::commands::error_text(&anyhow::anyhow!("there is no plane {name} in the files")));
        }
    }
    let wanted = |plane: &&Plane| {
        (args.names.is_empty() || args.names.iter().any(|name| name.as_str() == plane.name()))
            && args.selector.as_ref().is_none_or(|selector| selector.matches(plane.labels()))
    };
    (planes.iter().filter(wanted).map(|plane| plane.name().to_owned()).collect(), exit)
}
