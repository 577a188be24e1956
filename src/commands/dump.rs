//! `choreoctl dump`: what a diagnosis looks at, in a file for somebody else.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as ClapArgs, ValueHint};

use super::diagnosis::ClusterArgs;
use crate::args::{NamedArgs, Session, unless_swapped};
use crate::doctor;
use crate::files::{self, Existing, Rights};
use crate::manifest::to_yaml;
use crate::plane::Plane;
use crate::render::redacted_json;
use crate::term::Exit;
use crate::text::{shown, visible};

/// Save what `doctor` reads to a file, without secrets
///
/// Saves the objects of both clusters that concern the planes. Before anything is written, all private data
/// is removed: of Secrets only certificates stay, of pods only the agent's and the gateway's containers without their
/// environment variables. The file is input for `doctor -f FILE`,
/// and also for get, describe, status, forecast and timeline.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl dump shared-builder --plane-context build -o dump.yaml
  choreoctl doctor -f dump.yaml")]
pub struct Args {
    #[command(flatten)]
    which: NamedArgs,

    /// File to write; - for standard output
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: PathBuf,

    /// Overwrite an existing file
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    clusters: ClusterArgs,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let control = session.connect().await?;
    let (build, lookup) = args.clusters.build.connect_while(session, args.which.look(control.clone())).await?;
    let lookup = lookup?;
    let chosen = lookup.planes_as(None, |plane: Plane| plane.key()).await;
    let (planes, mut missing) = unless_swapped(&control, build.as_ref(), chosen).await?;
    if let Some(error) = missing.pop() {
        return Err(error);
    }
    let build = args.clusters.build.of_planes(session, &control, build, &planes).await?;
    let reach = args.clusters.reach(&lookup.cluster, lookup.kinds(), build.as_ref());
    let (list, unread) = doctor::dump(&reach, &planes).await?;
    for reported in &unread {
        session.term.warn(&format!("missing in the dump: {}", visible(reported)));
    }
    let list = redacted_json(list);
    let count = list["items"].as_array().map_or(0, Vec::len);
    let text = to_yaml(&list)?;
    if args.output == Path::new("-") {
        session.term.print(&text)?;
        return Ok(Exit::Done);
    }
    write(&args.output, &text, args.force)?;
    let shown = shown(&args.output);
    session.term.line(&format!("{shown}: {count} objects"))?;
    Ok(Exit::Done)
}

/// Writes for the owner only, and not over a file that exists.
fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let existing = if force { Existing::Replace } else { Existing::Keep };
    let path = &path.canonicalize().unwrap_or_else(|_| path.to_owned());
    match files::write(path, text, Rights::Owner, existing) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            anyhow::bail!("{} exists already: --force replaces it", shown(path))
        }
        written => written.with_context(|| format!("could not write {}", shown(path))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_replaced_only_if_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dump.yaml");
        write(&path, "one", false).unwrap();
        let error = write(&path, "two", false).unwrap_err().to_string();
        assert!(error.ends_with("dump.yaml exists already: --force replaces it"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        write(&path, "two", true).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        let error = write(&folder.path().join("no/dump.yaml"), "", false).unwrap_err().to_string();
        assert!(error.starts_with("could not write "), "{error}");
    }
}
