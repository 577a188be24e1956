//! `choreoctl describe`: planes in full.

use clap::Args as ClapArgs;

use super::error::{none_found, tell_missing};
use crate::args::{ChoiceArgs, FromFiles, OutputArgs, Session, SnapshotArgs, TextFormat};
use crate::estate::{self, Extent, Facts, Files};
use crate::manifest::json_text;
use crate::plane::Plane;
use crate::render::{self, PlanesJson};
use crate::term::Exit;

/// Show the details of planes
///
/// Shows the spec with its defaults, the CA certificates, other planes with the same planeID, the connection,
/// conditions, events, and notes on possible problems. Objects that choreoctl has no permission to read are
/// named; the rest is shown.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl describe shared-builder
  choreoctl describe -l team=ci -o json
  choreoctl describe -f dump.yaml")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,

    #[command(flatten)]
    files: SnapshotArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let (mut facts, missing) = gather(&args, session).await?;
    facts.sort_by_cached_key(|facts| (facts.plane.name().to_owned(), facts.plane.key()));
    if args.output.format == TextFormat::Json {
        let planes = PlanesJson { before: Vec::new(), planes: &facts, json: render::describe::json };
        session.term.line(&json_text(&planes)?)?;
    } else {
        let pages: Vec<_> = facts.iter().map(render::describe::text).collect();
        session.term.print(&pages.join("\n"))?;
        if facts.is_empty() && missing.is_empty() {
            none_found(&session.term);
        }
    }
    Ok(tell_missing(&missing, &session.term))
}

/// The facts of the planes that were asked for, and an error for each that doesn't exist.
async fn gather(args: &Args, session: &Session) -> anyhow::Result<(Vec<Facts>, Vec<anyhow::Error>)> {
    if args.files.given() {
        let FromFiles { snapshot, .. } = args.files.read(&[], &session.term)?;
        let (names, missing) = args.choice.in_files(&snapshot.planes)?;
        let planes = snapshot.planes.iter().filter(|plane| names.contains(&plane.key())).cloned().collect();
        return Ok((estate::facts(&Files::control(&snapshot), planes, &Extent::default()).await, missing));
    }
    let lookup = args.choice.connect(session).await?;
    let (planes, missing) = args.choice.in_cluster(&lookup, Plane::without_history).await?;
    let extent = Extent(lookup.whole(args.choice.selector.as_ref(), &missing));
    Ok((estate::facts(&lookup.cluster, planes, &extent).await, missing))
}
