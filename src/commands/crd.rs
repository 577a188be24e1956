//! `choreoctl crd`: the CRD that the program carries.

use clap::Args as ClapArgs;

use crate::args::Session;
use crate::plane::DEFAULT_KIND;
use crate::term::Exit;

/// Print the CustomResourceDefinition of the API reference
///
/// For trying things out: a control plane gets its own from OpenChoreo's chart.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:
  choreoctl crd | kubectl apply -f -")]
pub struct Args {}

pub fn run(_: &Args, session: &Session) -> anyhow::Result<Exit> {
    session.term.note("for trying things out: a control plane gets its own from OpenChoreo's chart");
    session.term.print(&DEFAULT_KIND.crd(DEFAULT_KIND.release()).unwrap_or_default())?;
    Ok(Exit::Done)
}
