//! `choreoctl certs request`: ask for a client certificate, where the key must not travel.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use super::signer::write;
use crate::args::{KeyArgs, NewFilesArgs, plane_id};
use crate::pki::{self, LEAF_PRIVATE_KEY, NewFile, PrivateKey, REQUEST};
use crate::term::{Exit, Term};

/// Create an agent's private key and certificate signing request (CSR)
///
/// Writes tls.key and tls.csr. Send tls.csr to the owner of the CA, who runs `choreoctl certs sign`; keep tls.key.
#[derive(ClapArgs, Debug)]
#[command(mut_arg("out_dir", |folder| folder.required(true)), after_help = "Examples:
  choreoctl certs request --plane-id shared-builder --out-dir agent")]
pub struct Args {
    /// planeID of the agent
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    plane_id: String,

    #[command(flatten)]
    files: NewFilesArgs,

    #[command(flatten)]
    key: KeyArgs,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let folder = args.files.folder(PathBuf::new);
    folder.check(&[LEAF_PRIVATE_KEY, REQUEST], args.files.force)?;
    let algorithm = args.key.key_algorithm;
    let key = PrivateKey::generate(algorithm)?;
    let request = pki::request(&args.plane_id, &key)?;
    let files = [
        NewFile { name: LEAF_PRIVATE_KEY, content: &key.to_pem(), secret: true },
        NewFile { name: REQUEST, content: &request, secret: false },
    ];
    let about = format!("request for a certificate of planeID {}", args.plane_id);
    write(&folder, &files, &args.files, &about, Some(algorithm), term)?;
    Ok(Exit::Done)
}
