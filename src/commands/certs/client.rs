//! `choreoctl certs client`: make the client certificate of an agent.

use clap::{ArgGroup, Args as ClapArgs};
use jiff::Timestamp;

use super::signer::{SignerArgs, ca_beside, folder_of, write_as};
use crate::args::{KeyArgs, NewFilesArgs, OutputArgs, TextFormat, ValidityArgs, plane_id};
use crate::commands::source::{LEAF, new_pair};
use crate::pki::{self, PrivateKey};
use crate::plane::day;
use crate::term::{Exit, Term};

/// Issue an agent's client certificate
///
/// Writes tls.key, tls.crt (CN = planeID, O = OpenChoreo, for client authentication) and, if that is not the CA's folder, a
/// copy of ca.crt. The certificate expires no later than its CA.
///
/// -o json prints one object: {"files": [{"path", "private"}], "certificate"}, the certificate as in `certs inspect -o json`.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("out_dir", |folder| folder.help("Folder for the new files [default: that of the CA]")), group = ArgGroup::new("signer").args(["ca_dir", "ca_cert"]).required(true), after_help = "Examples:
  choreoctl certs client --plane-id shared-builder --ca-dir certs
  choreoctl certs client --plane-id ci --ca-cert ca.crt --ca-key ca.key --out-dir ci")]
pub struct Args {
    /// planeID of the agent
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    plane_id: String,

    #[command(flatten)]
    ca: SignerArgs,

    #[command(flatten)]
    files: NewFilesArgs,

    #[command(flatten)]
    key: KeyArgs,

    #[command(flatten)]
    validity: ValidityArgs,

    #[command(flatten)]
    output: OutputArgs<TextFormat>,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let (certificate_path, _) = args.ca.paths();
    let folder = args.files.folder(|| folder_of(&certificate_path));
    folder.check(&LEAF, args.files.force)?;
    let now = Timestamp::now();
    let authority = args.ca.read(now)?;
    let algorithm = args.key.key_algorithm;
    let key = PrivateKey::generate(algorithm)?;
    let issued = pki::client(&args.plane_id, &authority, key, args.validity.valid_for, now)?;
    let key = issued.pair.key.to_pem();
    let ca = authority.certificate.to_pem();
    let mut files = Vec::from(new_pair(LEAF, &issued.pair.certificate, &key));
    files.extend(ca_beside(&folder, &certificate_path, &ca));
    let until = day(issued.pair.not_after);
    let about = format!("client certificate of planeID {}, valid until {until}", args.plane_id);
    write_as(args.output.format, &folder, &files, &args.files, (&about, algorithm), term)?;
    if issued.shortened {
        term.warn(&format!(
            "the certificate expires with its CA, at {}, earlier than requested",
            issued.pair.not_after
        ));
    }
    Ok(Exit::Done)
}
