//! `choreoctl certs client`: make the client certificate of an agent.

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, ValueHint};
use jiff::Timestamp;

use super::super::create::plane_id;
use super::read;
use crate::pki::{
    self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, KeyAlgorithm, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, NewFile,
    PrivateKey,
};
use crate::plane::Span;
use crate::term::{Exit, Term, visible};

/// Make an agent's client certificate
///
/// Writes tls.crt and tls.key: CN = planeID, O = OpenChoreo, for client authentication. It never outlives its CA.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Examples:
  choreoctl certs client --plane-id shared-builder --ca-dir certs
  choreoctl certs client --plane-id ci --ca-cert ca.crt --ca-key ca.key --out-dir ci", group = clap::ArgGroup::new("ca").required(true).args(["ca_dir", "ca_cert"]))]
pub struct Args {
    /// planeID of the agent
    #[arg(long, value_name = "ID", value_parser = plane_id)]
    plane_id: String,

    /// Folder with the CA's ca.crt and ca.key
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    ca_dir: Option<PathBuf>,

    /// The CA's certificate
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ca_key")]
    ca_cert: Option<PathBuf>,

    /// The CA's private key, in PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ca_cert")]
    ca_key: Option<PathBuf>,

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
    let (certificate_path, key_path) = ca_paths(args);
    let out_dir = args.out_dir.clone().unwrap_or_else(|| match certificate_path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    });
    let folder = Folder::new(&out_dir);
    folder.check(&[LEAF_CERTIFICATE, LEAF_PRIVATE_KEY], args.force)?;
    let now = Timestamp::now();
    let ca_text = read(&certificate_path)?;
    let authority = Authority::from_pem(&ca_text, &read(&key_path)?, now).map_err(pki::IssueError::from)?;
    let issued =
        pki::client(&args.plane_id, &authority, PrivateKey::generate(args.key_algorithm)?, args.valid_for, now)?;
    let key = issued.pair.key.to_pem();
    let ca = pki::encode("CERTIFICATE", &authority.certificate.der);
    let mut files = vec![
        NewFile { name: LEAF_PRIVATE_KEY, content: &key, secret: true },
        NewFile { name: LEAF_CERTIFICATE, content: &issued.pair.certificate, secret: false },
    ];
    // A folder of its own gets the CA's certificate, too, so that it is all that the Secret needs.
    if !same(&folder.file(CA_CERTIFICATE), &certificate_path, &ca) {
        files.push(NewFile { name: CA_CERTIFICATE, content: &ca, secret: false });
    }
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

fn ca_paths(args: &Args) -> (PathBuf, PathBuf) {
    match (&args.ca_dir, &args.ca_cert, &args.ca_key) {
        (_, Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
        (Some(folder), ..) => (folder.join(CA_CERTIFICATE), folder.join(CA_PRIVATE_KEY)),
        _ => (CA_CERTIFICATE.into(), CA_PRIVATE_KEY.into()),
    }
}

/// Whether the CA's certificate stands there already.
fn same(path: &Path, source: &Path, ca: &str) -> bool {
    let canonical = |path: &Path| path.canonicalize().ok();
    (path.exists() && canonical(path) == canonical(source))
        || read(path).is_ok_and(|text| pki::bundle(text.as_bytes()).is_ok_and(|bundle| bundle == ca))
}
