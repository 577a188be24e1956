//! `choreoctl certs`: the CA and the client certificate of an agent.

mod bundle;
mod ca;
mod client;
mod inspect;
mod renew;
mod request;
mod rotate;
mod secret;
mod sign;
mod source;
mod verify;

pub use secret::ToTerminal;
pub use source::Reach;
pub use verify::Error as VerifyError;

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueHint};
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::args::Session;
use crate::manifest::{self, Input};
use crate::pki::{self, Authority, CA_CERTIFICATE, CA_PRIVATE_KEY, Folder, NewFile};
use crate::term::Exit;

/// Make and check the certificates of agents
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Ca(ca::Args),
    Client(client::Args),
    Request(request::Args),
    Sign(sign::Args),
    Bundle(bundle::Args),
    Secret(secret::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Renew(renew::Args),
    Rotate(rotate::Args),
}

pub async fn run(args: Args, session: &Session) -> anyhow::Result<Exit> {
    match args.command {
        Command::Ca(args) => ca::run(&args, &session.term),
        Command::Client(args) => client::run(&args, &session.term),
        Command::Request(args) => request::run(&args, &session.term),
        Command::Sign(args) => sign::run(&args, &session.term),
        Command::Bundle(args) => bundle::run(&args, &session.term),
        Command::Secret(args) => secret::run(&args, &session.term),
        Command::Inspect(args) => inspect::run(args, session).await,
        Command::Verify(args) => verify::run(args, session).await,
        Command::Renew(args) => renew::run(args, session).await,
        Command::Rotate(args) => rotate::run(args, session).await,
    }
}

/// The CA that signs.
#[derive(clap::Args, Clone, Debug)]
#[group(id = "ca", multiple = true)]
pub struct CaArgs {
    /// Folder with the CA's ca.crt and ca.key
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["ca_cert", "ca_key"])]
    ca_dir: Option<PathBuf>,

    /// The CA's certificate
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ca_key")]
    ca_cert: Option<PathBuf>,

    /// The CA's private key, in PKCS#8, PKCS#1 or SEC1
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "ca_cert")]
    ca_key: Option<PathBuf>,
}

impl CaArgs {
    /// A folder with the CA's certificate and its key.
    fn in_folder(folder: &Path) -> Self {
        Self { ca_dir: Some(folder.to_owned()), ca_cert: None, ca_key: None }
    }

    /// Where its certificate is, and its key.
    fn paths(&self) -> (PathBuf, PathBuf) {
        let folder = self.ca_dir.clone().unwrap_or_default();
        let path = |given: &Option<PathBuf>, name| given.clone().unwrap_or_else(|| folder.join(name));
        (path(&self.ca_cert, CA_CERTIFICATE), path(&self.ca_key, CA_PRIVATE_KEY))
    }

    fn read(&self, now: Timestamp) -> anyhow::Result<Authority> {
        let (certificate, key) = self.paths();
        Folder::new(&folder_of(&certificate)).settle()?;
        Ok(Authority::from_pem(&read(&certificate)?, &read_key(&key)?, now).map_err(pki::IssueError::from)?)
    }
}

/// The folder that a file stands in.
fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The CA's certificate as a file beside the leaf, unless it stands there already: with it the folder is all that the
/// agent's Secret needs.
fn ca_beside<'c>(folder: &Folder, source: &Path, ca: &'c str) -> Option<NewFile<'c>> {
    let path = folder.file(CA_CERTIFICATE);
    let canonical = |path: &Path| path.canonicalize().ok();
    let there = (path.exists() && canonical(&path) == canonical(source))
        || read(&path).is_ok_and(|text| pki::bundle(text.as_bytes()).is_ok_and(|bundle| bundle == ca));
    (!there).then_some(NewFile { name: CA_CERTIFICATE, content: ca, secret: false })
}

/// A file's text, which is wiped when it goes.
fn read_key(path: &Path) -> Result<Zeroizing<String>, manifest::Error> {
    let bytes = Zeroizing::new(manifest::read_bytes(&Input::Path(path.to_owned()))?);
    Ok(String::from_utf8_lossy(&bytes).into_owned().into())
}

/// A file's text. What isn't text holds no PEM.
fn read(path: &Path) -> Result<String, manifest::Error> {
    let bytes = manifest::read_bytes(&Input::Path(path.to_owned()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
