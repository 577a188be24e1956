//! `choreoctl certs ca`: make a CA.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use jiff::Timestamp;

use super::signer::write_as;
use crate::args::{KeyArgs, NewFilesArgs, OutputArgs, TextFormat, ValidityArgs};
use crate::commands::source::{CA, new_pair};
use crate::pki;
use crate::plane::day;
use crate::term::{Exit, Term};
use crate::text::visible;

/// Create a CA for agents' client certificates
///
/// Writes ca.crt for the plane, and ca.key, which only your user can read. Never copy ca.key into a plane.
///
/// -o json prints one object: {"files": [{"path", "private"}], "certificate"}, the certificate as in `certs inspect -o json`.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("out_dir", |folder| folder.required(true)), mut_arg("valid_for", |time| time.default_value("5y")), after_help = "Example:
  choreoctl certs ca --out-dir certs")]
pub struct Args {
    #[command(flatten)]
    files: NewFilesArgs,

    /// Common name of the CA
    #[arg(long, value_name = "CN", default_value = "plane agents")]
    name: String,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    validity: ValidityArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let folder = args.files.folder(PathBuf::new);
    folder.check(&CA, args.files.force)?;
    let algorithm = args.key.key_algorithm;
    let made = pki::ca(&args.name, algorithm, args.validity.valid_for, Timestamp::now())?;
    let key = made.key.to_pem();
    let files = new_pair(CA, &made.certificate, &key);
    let about = format!("CA {}, valid until {}", visible(&args.name), day(made.not_after));
    write_as(args.output.format, &folder, &files, &args.files, (&about, algorithm), term)?;
    Ok(Exit::Done)
}
