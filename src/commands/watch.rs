//! `choreoctl watch`: planes as they change.

use clap::Args as ClapArgs;
use clap_complete::ArgValueCompleter;

use super::watching::{Format, watch};
use crate::args::{ChoiceArgs, Session};
use crate::complete;
use crate::plane::{Span, StateFilter};
use crate::term::Exit;

/// Watch planes for changes
///
/// Shows a table on a terminal, and elsewhere one line for each change. A state that changes only because time
/// passes is a change, too. The command reconnects after restarts of the API server, and always reports the last state of each plane.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl watch
  choreoctl watch shared-builder -o lines
  choreoctl watch --state '!Connected' -o json | jq .")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// States to report, separated by commas; !STATE hides a state
    #[arg(long, value_name = "STATES", add = ArgValueCompleter::new(complete::states))]
    state: Option<StateFilter>,

    /// Time after which to stop
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,

    /// Output format [default: a table on a terminal, lines elsewhere]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    watch(args.choice, args.state.unwrap_or_default(), args.timeout, args.output, session).await
}
