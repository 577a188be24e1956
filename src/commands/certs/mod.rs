//! `choreoctl certs`: the CA and the client certificate of an agent.

mod bundle;
mod ca;
mod client;
mod inspect;
mod secret;
mod source;
mod verify;

pub use secret::ToTerminal;
pub use verify::Error as VerifyError;

use std::path::Path;

use clap::Subcommand;

use crate::args::Session;
use crate::manifest::{self, Input};
use crate::term::Exit;

/// Make and check the certificates of agents
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ca(ca::Args),
    Client(client::Args),
    Bundle(bundle::Args),
    Secret(secret::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    match args.command {
        Command::Ca(args) => ca::run(&args, &session.term),
        Command::Client(args) => client::run(&args, &session.term),
        Command::Bundle(args) => bundle::run(&args, &session.term),
        Command::Secret(args) => secret::run(&args, &session.term),
        Command::Inspect(args) => inspect::run(args, session).await,
        Command::Verify(args) => verify::run(args, session).await,
    }
}

/// A file's text. What isn't text holds no PEM.
fn read(path: &Path) -> Result<String, manifest::Error> {
    let bytes = manifest::read_bytes(&Input::Path(path.to_owned()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
