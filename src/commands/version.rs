//! `choreoctl version`: the program's and the server's.

use clap::Args as ClapArgs;
use serde_json::json;

use crate::args::{OutputArgs, Session, TextFormat};
use crate::manifest::json_text;
use crate::term::Exit;
use crate::text::visible;

/// Print the versions of choreoctl and of the API server
#[derive(ClapArgs, Debug)]
pub struct Args {
    /// Print only the version of choreoctl
    #[arg(long)]
    client: bool,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    let client = env!("CARGO_PKG_VERSION");
    let server = if args.client {
        None
    } else {
        Some(match session.connect().await {
            Ok(cluster) => cluster.version().await.map_err(anyhow::Error::from),
            Err(error) => Err(error),
        })
    };
    let known = server.as_ref().and_then(|server| server.as_ref().ok());
    match args.output.format {
        TextFormat::Json => session.term.line(&json_text(
            &json!({"client": {"version": client}, "server": known.map(|version| json!({"version": version}))}),
        )?)?,
        TextFormat::Text => {
            session.term.line(&format!("choreoctl {client}"))?;
            if let Some(version) = known {
                session.term.line(&format!("API server {}", visible(version)))?;
            }
        }
    }
    match server {
        Some(Err(error)) => Err(error.context("could not get the server's version")),
        _ => Ok(Exit::Done),
    }
}
