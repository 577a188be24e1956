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
/// Shows a table on a terminal, and elsewhere one line for each change. It also reports a state that changes with time alone,
/// such as Connected to Late. It reconnects after restarts of the API server, and then reports the current state of each
/// plane that has changed; states in between may be missing. `choreoctl get --help` lists the states.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl watch
  choreoctl watch shared-builder -o lines
  choreoctl watch --state '!Connected' -o json | jq .")]
pub struct Args {
    #[command(flatten)]
    choice: ChoiceArgs,

    /// States to report, separated by commas, such as Late,Stale; !STATE hides a state
    #[arg(long, value_name = "STATES", add = ArgValueCompleter::new(complete::states))]
    state: Option<StateFilter>,

    /// Time after which to stop, with exit code 124
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,

    /// Output format [default: a table on a terminal, lines elsewhere]
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Format>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    watch(args.choice, args.state.unwrap_or_default(), args.timeout, args.output, session).await
}
