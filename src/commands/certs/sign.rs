//! `choreoctl certs sign`: make the client certificate that a request asks for.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, ValueHint};
use jiff::Timestamp;

use super::signer::{SignerArgs, ca_beside, folder_of, write};
use crate::args::{NewFilesArgs, ValidityArgs, plane_id};
use crate::commands::source::read;
use crate::pki::{self, LEAF_CERTIFICATE, NewFile};
use crate::plane::day;
use crate::term::{Exit, Term};
use crate::text::visible;

/// Sign an agent's certificate signing request (CSR)
///
/// Writes tls.crt and a copy of the CA's ca.crt next to the request. The certificate's common name is the planeID, and its only
/// usage is client authentication: other usages in the request are ignored.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("out_dir", |folder| folder.help("Folder for the new files [default: that of the request]")), group = ArgGroup::new("signer").args(["ca_dir", "ca_cert"]).required(true), after_help = "Examples:
  choreoctl certs sign --csr agent/tls.csr --ca-dir certs")]
pub struct Args {
    /// Certificate signing request, in PEM
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    csr: PathBuf,

    #[command(flatten)]
    ca: SignerArgs,

    #[command(flatten)]
    files: NewFilesArgs,

    #[command(flatten)]
    validity: ValidityArgs,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let folder = args.files.folder(|| folder_of(&args.csr));
    folder.check(&[LEAF_CERTIFICATE], args.files.force)?;
    let now = Timestamp::now();
    let authority = args.ca.read(now)?;
    let signed = pki::sign(&read(&args.csr)?, &authority, args.validity.valid_for, now)?;
    if let Err(why) = plane_id(&signed.plane_id) {
        anyhow::bail!("the request's common name {} is not a planeID: {why}", visible(&signed.plane_id));
    }
    let ca = authority.certificate.to_pem();
    let mut files = vec![NewFile { name: LEAF_CERTIFICATE, content: &signed.certificate, secret: false }];
    files.extend(ca_beside(&folder, &args.ca.paths().0, &ca));
    let until = day(signed.not_after);
    let about = format!("client certificate of planeID {}, valid until {until}", signed.plane_id);
    write(&folder, &files, &args.files, &about, None, term)?;
    if signed.shortened {
        term.warn(&format!("the certificate expires with its CA, at {}, earlier than requested", signed.not_after));
    }
    Ok(Exit::Done)
}
