//! `choreoctl certs`: the CA and the client certificate of an agent.

mod bundle;
mod ca;
mod client;
mod inspect;
mod renew;
mod request;
mod rotate;
mod secret;
mod sign;
mod signer;
mod verify;

use clap::Subcommand;

use crate::args::Session;
use crate::term::Exit;

/// Issue, check and replace the certificates of agents
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ca(ca::Args),
    Client(client::Args),
    Request(request::Args),
    Sign(sign::Args),
    Bundle(bundle::Args),
    Secret(secret::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Renew(renew::Args),
    Rotate(rotate::Args),
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    match args.command {
        Command::Ca(args) => ca::run(&args, &session.term),
        Command::Client(args) => client::run(&args, &session.term),
        Command::Request(args) => request::run(&args, &session.term),
        Command::Sign(args) => sign::run(&args, &session.term),
        Command::Bundle(args) => bundle::run(&args, &session.term),
        Command::Secret(args) => secret::run(&args, &session.term),
        Command::Inspect(args) => inspect::run(args, session).await,
        Command::Verify(args) => verify::run(args, session).await,
        Command::Renew(args) => renew::run(args, session).await,
        Command::Rotate(args) => rotate::run(args, session).await,
    }
}
