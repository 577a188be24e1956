//! `choreoctl certs client`: make the client certificate of an agent.

use std::path::PathBuf;

use clap::{ArgGroup, Args as ClapArgs, ValueHint};
use jiff::Timestamp;

use super::signer::{SignerArgs, ca_beside, folder_of};
use crate::args::plane_id;
use crate::pki::{self, Folder, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, NewFile, PrivateKey};
use crate::plane::Span;
use crate::term::{Exit, Term};
use crate::text::visible;

/// Make an agent's client certificate
///
/// Writes tls.crt and tls.key: CN = planeID, O = OpenChoreo, for client authentication. It never outlives its CA.
#[derive(ClapArgs, Debug)]
#[command(group = ArgGroup::new("signer").args(["ca_dir", "ca_cert"]).required(true), after_help = "Examples:
  choreoctl certs client --plane-id shared-builder --ca-dir certs
  choreoctl certs client --plane-id ci --ca-cert ca.crt --ca-key ca.key --out-dir ci")]
pub struct Args {
    /// planeID of the agent
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    plane_id: String,

    #[command(flatten)]
    ca: SignerArgs,

    /// Folder for tls.crt and tls.key; the CA's, unless given
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: Option<PathBuf>,

    /// Kind of the key
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,

    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "1y")]
    valid_for: Span,

    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let (certificate_path, _) = args.ca.paths();
    let out_dir = args.out_dir.clone().unwrap_or_else(|| folder_of(&certificate_path));
    let folder = Folder::new(&out_dir);
    folder.check(&[LEAF_CERTIFICATE, LEAF_PRIVATE_KEY], args.force)?;
    let now = Timestamp::now();
    let authority = args.ca.read(now)?;
    let issued =
        pki::client(&args.plane_id, &authority, PrivateKey::generate(args.key_algorithm)?, args.valid_for, now)?;
    let key = issued.pair.key.to_pem();
    let ca = pki::encode("CERTIFICATE", &authority.certificate.der);
    let mut files = vec![
        NewFile { name: LEAF_PRIVATE_KEY, content: &key, secret: true },
        NewFile { name: LEAF_CERTIFICATE, content: &issued.pair.certificate, secret: false },
    ];
    files.extend(ca_beside(&folder, &certificate_path, &ca));
    folder.write(&files, args.force)?;
    folder.remarks().iter().for_each(|remark| term.warn(remark));
    let shown = |name| visible(&folder.file(name).to_string_lossy()).into_owned();
    let until = issued.pair.not_after.strftime("%Y-%m-%d");
    term.line(&format!(
        "{}: client certificate of planeID {}, valid until {until}",
        shown(LEAF_CERTIFICATE),
        args.plane_id
    ))?;
    term.line(&format!("{}: its private key, {}, for you only", shown(LEAF_PRIVATE_KEY), args.key_algorithm.name()))?;
    if issued.shortened {
        term.warn(&format!("it ends with its CA, at {}, sooner than was asked for", issued.pair.not_after));
    }
    Ok(Exit::Done)
}
