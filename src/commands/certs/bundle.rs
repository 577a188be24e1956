//! `choreoctl certs bundle`: join CAs.

use clap::{Args as ClapArgs, ValueHint};

use crate::args::read_cas;
use crate::manifest::Input;
use crate::term::{Exit, Term};

/// Combine CA certificates into one PEM bundle
///
/// Leaves out duplicates and everything that is not a certificate. Any CA of a bundle can authorize an agent: a plane that
/// trusts the old and the new CA authorizes agents of both during a rotation.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:
  choreoctl certs bundle old/ca.crt new/ca.crt > ca.crt")]
pub struct Args {
    /// Certificates in PEM, DER or base64; - for standard input
    #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    files: Vec<Input>,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    term.print(&read_cas(&args.files)?)?;
    Ok(Exit::Done)
}
