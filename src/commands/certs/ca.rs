//! `choreoctl certs ca`: make a CA.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};
use jiff::Timestamp;

use crate::pki::{self, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, KeyAlgorithm, NewFile};
use crate::plane::Span;
use crate::term::{Exit, Term};
use crate::text::visible;

/// Make a CA for agents' client certificates
///
/// Writes ca.crt, which goes into the plane, and ca.key, which only you can read and which stays with you.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:
  choreoctl certs ca --out-dir certs")]
pub struct Args {
    /// Folder for ca.crt and ca.key
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: PathBuf,

    /// Common name of the CA
    #[arg(long, value_name = "CN", default_value = "build plane agents")]
    name: String,

    /// Kind of the key
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,

    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "5y")]
    valid_for: Span,

    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let folder = Folder::new(&args.out_dir);
    folder.check(&[CA_CERTIFICATE, CA_PRIVATE_KEY], args.force)?;
    let made = pki::ca(&args.name, args.key_algorithm, args.valid_for, Timestamp::now())?;
    let key = made.key.to_pem();
    let files = [
        NewFile { name: CA_PRIVATE_KEY, content: &key, secret: true },
        NewFile { name: CA_CERTIFICATE, content: &made.certificate, secret: false },
    ];
    folder.write(&files, args.force)?;
    folder.remarks().iter().for_each(|remark| term.warn(remark));
    let shown = |name| visible(&folder.file(name).to_string_lossy()).into_owned();
    term.line(&format!(
        "{}: CA {}, valid until {}",
        shown(CA_CERTIFICATE),
        visible(&args.name),
        made.not_after.strftime("%Y-%m-%d")
    ))?;
    term.line(&format!("{}: its private key, {}, for you only", shown(CA_PRIVATE_KEY), args.key_algorithm.name()))?;
    Ok(Exit::Done)
}
