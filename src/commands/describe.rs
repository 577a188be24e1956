//! `choreoctl describe`: planes in full.

use clap::Args as ClapArgs;
use clap_complete::ArgValueCandidates;
use serde_json::json;

use crate::args::{FileArgs, Session, TextFormat};
use crate::complete;
use crate::doctor::{self, Facts};
use crate::manifest::json_text;
use crate::plane::{Plane, PlaneName, Selector};
use crate::render;
use crate::term::Exit;

/// Show build planes in full
///
/// What the spec says and defaults to, the certificates that the CA holds, who shares the planeID, the connection in
/// words, conditions, events, and notes on what looks wrong. What may not be read is said so, and the rest is shown.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl describe shared-builder
  choreoctl describe -l team=ci -o json
  choreoctl describe -f dump.yaml")]
pub struct Args {
    /// Names of the planes; all, unless given
    #[arg(add = ArgValueCandidates::new(complete::planes))]
    names: Vec<PlaneName>,

    /// Labels that the planes must have
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "names")]
    selector: Option<Selector>,

    /// How to print it
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: TextFormat,

    #[command(flatten)]
    files: FileArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut facts, missing) = gather(&args, session).await?;
    facts.sort_by(|a, b| a.plane.name().cmp(b.plane.name()));
    let noted = facts.iter().map(|facts| (facts, doctor::notes(facts)));
    if args.output == TextFormat::Json {
        let planes: Vec<_> = noted.map(|(facts, notes)| render::describe::json(facts, &notes)).collect();
        session.term.line(&json_text(&json!({"planes": planes}))?)?;
    } else {
        let pages: Vec<_> = noted.map(|(facts, notes)| render::describe::text(facts, &notes)).collect();
        session.term.print(&pages.join("\n"))?;
        if facts.is_empty() && missing.is_empty() {
            session.term.note("No resources found");
        }
    }
    for error in &missing {
        session.term.error(&crate::commands::error_text(error));
    }
    Ok(if missing.is_empty() { Exit::Done } else { Exit::NotFound })
}

/// The facts of the planes that were asked for, and an error for each that doesn't exist.
async fn gather(args: &Args, session: &Session) -> anyhow::Result<(Vec<Facts>, Vec<anyhow::Error>)> {
    let mut missing = Vec::new();
    if args.files.given() {
        let (_, snapshot) = args.files.read(&session.term)?;
        let all = snapshot
            .planes
            .iter()
            .filter(|plane| args.selector.as_ref().is_none_or(|selector| selector.matches(plane.labels())));
        let mut names: Vec<_> = all.map(|plane| plane.name().to_owned()).collect();
        if !args.names.is_empty() {
            missing.extend(
                args.names
                    .iter()
                    .filter(|name| !names.iter().any(|known| known == name.as_str()))
                    .map(|name| anyhow::anyhow!("there is no plane {name} in the files")),
            );
            names.retain(|known| args.names.iter().any(|name| name.as_str() == known));
        }
        return Ok((doctor::facts_of_files(&snapshot, &names), missing));
    }
    let cluster = session.connect().await?;
    let mut planes = Vec::new();
    if args.names.is_empty() {
        planes = cluster.planes::<Plane>(args.selector.as_ref()).await?;
    }
    for name in args.names.iter().collect::<std::collections::BTreeSet<_>>() {
        match cluster.plane(name.as_str()).await {
            Ok(plane) => planes.push(plane),
            Err(error) if error.is_not_found() => missing.push(error.into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok((doctor::facts(&cluster, planes).await, missing))
}
