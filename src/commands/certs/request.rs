//! `choreoctl certs request`: ask for a client certificate, where the key must not travel.

use std::path::PathBuf;

use clap::{Args as ClapArgs, ValueHint};

use crate::args::plane_id;
use crate::pki::{self, Folder, KeyAlgorithm, LEAF_PRIVATE_KEY, NewFile, PrivateKey, REQUEST};
use crate::term::{Exit, Term};
use crate::text::visible;

/// Make an agent's key and a request for its certificate
///
/// Writes tls.key and tls.csr. The request goes to who has the CA, for `choreoctl certs sign`; the key stays.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl certs request --plane-id shared-builder --out-dir agent")]
pub struct Args {
    /// planeID of the agent
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    plane_id: String,

    /// Folder for tls.key and tls.csr
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out_dir: PathBuf,

    /// Kind of the key
    #[arg(long, value_name = "ALGORITHM", default_value = "ecdsa-p256")]
    key_algorithm: KeyAlgorithm,

    /// Replace files that exist
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    let folder = Folder::new(&args.out_dir);
    folder.check(&[LEAF_PRIVATE_KEY, REQUEST], args.force)?;
    let key = PrivateKey::generate(args.key_algorithm)?;
    let request = pki::request(&args.plane_id, &key)?;
    let files = [
        NewFile { name: LEAF_PRIVATE_KEY, content: &key.to_pem(), secret: true },
        NewFile { name: REQUEST, content: &request, secret: false },
    ];
    folder.write(&files, args.force)?;
    folder.remarks().iter().for_each(|remark| term.warn(remark));
    let shown = |name| visible(&folder.file(name).to_string_lossy()).into_owned();
    term.line(&format!("{}: request for a certificate of planeID {}", shown(REQUEST), args.plane_id))?;
    term.line(&format!("{}: its private key, {}, for you only", shown(LEAF_PRIVATE_KEY), args.key_algorithm.name()))?;
    Ok(Exit::Done)
}
