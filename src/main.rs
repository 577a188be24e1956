//! choreoctl: create, check and watch OpenChoreo build planes, and make their agents' certificates.
//!
//! # The map
//! Data flows one way: command line -> commands -> (cluster | manifest | pki) gather -> plane, validate, doctor decide
//! -> render -> term. A module imports only from those below it; `tests/layers.rs` holds the table.
//!
//! | module | its job |
//! |---|---|
//! | `main` | this map, the completion hook, the runtime, the exit code |
//! | `cli` | the command tree and its dispatch; `completions` |
//! | `commands` | one file a verb: `Args` and `run`; errors to text |
//! | `args` | groups of flags that verbs share |
//! | `complete` | live candidates for completion |
//! | `render` | pure: what is known, and the time -> text |
//! | `doctor` | what is known of a plane beside its object, each part with its own error; notes on it |
//! | `cluster` | the Kubernetes client: target and connection, list, apply, watch; its errors and hints |
//! | `gateway` | what a TLS server presents |
//! | `validate` | rules over a document: schema, CEL, the gateway's demands |
//! | `pki` | keys and certificates: made, read, kept in files |
//! | `manifest` | YAML and JSON in, with positions; YAML and JSON out |
//! | `plane` | the domain: the resource, its CRD, its states, what releases differ in, names and spans |
//! | `term` | the only writer: streams, colour, prompts, progress, redraw, exit codes |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod args;
mod cli;
mod cluster;
mod commands;
mod complete;
mod doctor;
mod gateway;
mod manifest;
mod pki;
mod plane;
mod render;
mod term;
mod validate;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;

use args::Session;
use cli::Cli;
use term::{Exit, Term};

fn main() -> ExitCode {
    CompleteEnv::with_factory(Cli::command).complete();
    let cli = Cli::parse();
    let session = Session { term: cli.global.term(), options: cli.global.cluster_options() };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&session.term, &anyhow::Error::new(error).context("could not start")).into();
        }
    };
    let result = runtime.block_on(async {
        tokio::select! {
            biased;
            exit = signalled() => Ok(exit),
            result = cli::run(cli.command, &session) => result,
        }
    });
    // A request that still runs is not waited for.
    runtime.shutdown_background();
    result.unwrap_or_else(|error| fail(&session.term, &error)).into()
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Completes when the process is asked to end.
async fn signalled() -> Exit {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        {
            return tokio::select! {
                _ = interrupt.recv() => Exit::Interrupted,
                _ = terminate.recv() => Exit::Ended,
            };
        }
    }
    match tokio::signal::ctrl_c().await {
        Ok(()) => Exit::Interrupted,
        Err(_) => std::future::pending().await,
    }
}

/// Tells of an error, and with which code to end.
fn fail(term: &Term, error: &anyhow::Error) -> Exit {
    if error.is::<term::ClosedPipe>() {
        return Exit::Done;
    }
    if error.is::<term::Interrupted>() {
        return Exit::Interrupted;
    }
    term.error(&commands::error_text(error));
    match error.downcast_ref::<cluster::Error>() {
        Some(error) if error.is_not_found() => Exit::NotFound,
        _ => Exit::Failed,
    }
}
