//! choreoctl: create, check and watch OpenChoreo planes, and make their agents' certificates.
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
//! | `plan` | changes of several steps over both clusters, each of which can be resumed: bootstrap, renewal, rotation |
//! | `doctor` | what is known of a plane beside its object, each part with its own error; checks, notes, forecasts, dumps |
//! | `migration` | manifests of v0.17 as those of v1.0: edits of planes and of what refers to them |
//! | `validate` | rules over a document: any CRD's schema and its CEL, the gateway's demands, practice; fixes |
//! | `estate` | what is known of the world: the objects of both clusters, read in one way from a cluster, files or a dump |
//! | `config` | the configuration file: where planes' clusters are |
//! | `cluster` | the Kubernetes client: target and connection, list, apply, watch; its errors and hints |
//! | `gateway` | what a TLS server presents, and what the cluster gateway says to an agent's certificate |
//! | `pki` | keys and certificates: made, read, verified as the gateway does, kept in files |
//! | `manifest` | YAML and JSON in, with positions; YAML and JSON out |
//! | `plane` | the domain: the resource, its CRD, its states, what releases differ in, names and spans |
//! | `term` | the only writer: streams, colour, prompts, progress, redraw, exit codes |
//! | `paint` | the few colours |
//! | `text` | text that is neutral in a terminal, words of a shell, the program's name in commands |
//! | `secrets` | private keys, tokens and certificates in untrusted text |
//! | `files` | files, written whole or not at all |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod args;
mod cli;
mod cluster;
mod commands;
mod complete;
mod config;
mod doctor;
mod estate;
mod files;
#[cfg(test)]
mod fuzz;
mod gateway;
mod manifest;
mod migration;
mod paint;
mod pki;
mod plan;
mod plane;
mod render;
mod secrets;
mod term;
mod text;
mod validate;

use std::process::ExitCode;

use clap_complete::CompleteEnv;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use args::Session;
use cli::Command;
use term::{Exit, Term};

/// Stack of the thread that works, as large as a main thread's.
const STACK: usize = 8 << 20;

/// The command runs on a thread of its own, so that a signal ends it wherever it is: in a request, while it reads a
/// pipe that says nothing, while it makes a large key. A write of files is let finish.
fn main() -> ExitCode {
    keep_memory_private();
    CompleteEnv::with_factory(cli::command).complete();
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return unparsed(&error),
    };
    let (term, options) = (cli.global.term(), cli.global.cluster_options());
    let session = Session { term, options, no_config: cli.global.no_config };
    let term = session.term.clone();
    let (sender, result) = oneshot::channel();
    let work = move || drop(sender.send(run(cli.command, &session)));
    let ended = std::thread::Builder::new().stack_size(STACK).spawn(work).map_err(anyhow::Error::from).and_then(|_| {
        runtime()?.block_on(async {
            tokio::select! {
                biased;
                exit = signalled() => Ok(exit),
                result = result => result?,
            }
        })
    });
    files::finish_writes();
    let exit = ended.unwrap_or_else(|error| fail(&term, &error));
    if exit == Exit::Interrupted {
        term.recover();
    }
    if matches!(exit, Exit::Interrupted | Exit::Ended) {
        term.interrupted();
    }
    exit.into()
}

/// Prints clap's help, version or error. Its own `exit` would not notice that the output was lost.
fn unparsed(error: &clap::Error) -> ExitCode {
    match term::printed(error.print()) {
        Err(lost) if !error.use_stderr() => fail(&Term::new(term::Options::default()), &lost).into(),
        _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Failed.code())),
    }
}

/// Switches off core dumps and debuggers of other processes: private keys are in memory. Where the system refuses, the
/// command runs all the same.
fn keep_memory_private() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { maximum, .. } = getrlimit(Resource::Core);
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum });
    }
    // A core dump that is piped to a program knows no limit.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn run(command: Command, session: &Session) -> anyhow::Result<Exit> {
    let runtime = runtime()?;
    let result = runtime.block_on(cli::run(command, session));
    // A request that still runs is not waited for.
    runtime.shutdown_background();
    result
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
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

/// Reports an error, and with which code to end.
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
        None if error.is::<args::NotInFiles>() => Exit::NotFound,
        _ => Exit::Failed,
    }
}
