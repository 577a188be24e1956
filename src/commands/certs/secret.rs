//! `choreoctl certs secret`: the Secret that the agent mounts.

use std::path::PathBuf;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args as ClapArgs, ValueHint};
use serde_json::json;
use zeroize::Zeroizing;

use crate::args::namespace;
use crate::commands::refusals::Refusal;
use crate::commands::source::{read, read_key};
use crate::manifest::to_yaml;
use crate::pki::{self, AuthorityError, CA_CERTIFICATE, Folder, LEAF_CERTIFICATE, LEAF_PRIVATE_KEY, PrivateKey};
use crate::plane::is_dns_subdomain;
use crate::term::{Exit, Term};
use crate::text::shell_quoted;

/// Print the manifest of the agent's Secret
///
/// Reads tls.crt, tls.key and ca.crt from a folder. The Secret holds the private key, so it is never printed to a terminal.
#[derive(ClapArgs, Debug)]
#[command(after_help = "Example:
  choreoctl certs secret certs -n openchoreo-build-plane | kubectl --context build apply -f -")]
pub struct Args {
    /// Folder with tls.crt, tls.key and ca.crt, the CA that issued tls.crt
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    dir: PathBuf,

    /// Namespace of the Secret, in the plane's cluster
    #[arg(short, long, value_name = "NAMESPACE", value_parser = namespace)]
    namespace: String,

    /// Name of the Secret
    #[arg(long, value_name = "NAME", default_value = "cluster-agent-tls", value_parser = name)]
    name: String,
}

pub fn run(args: &Args, term: &Term) -> anyhow::Result<Exit> {
    if term.shows_output() {
        let folder = args.dir.to_string_lossy();
        let command = format!(
            "choreoctl certs secret {} -n {} --name {} | kubectl apply -f -",
            shell_quoted(&folder),
            args.namespace,
            args.name
        );
        return Err(Refusal::ToTerminal { command }.into());
    }
    let file = |name: &str| args.dir.join(name);
    Folder::new(&args.dir).settle()?;
    let certificate = read(&file(LEAF_CERTIFICATE))?;
    let key = read_key(&file(LEAF_PRIVATE_KEY))?;
    let ca = read(&file(CA_CERTIFICATE))?;
    let public = PrivateKey::from_pem(&key)
        .with_context(|| format!("could not use {}", file(LEAF_PRIVATE_KEY).display()))?
        .public_key_info();
    let leaf = pki::certificates(&certificate).into_iter().next().ok_or(AuthorityError::NoCertificate)?;
    if !pki::belong_together(&leaf, &public) {
        anyhow::bail!(
            "{} and {} do not belong together",
            file(LEAF_CERTIFICATE).display(),
            file(LEAF_PRIVATE_KEY).display()
        );
    }
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": args.name, "namespace": args.namespace},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": STANDARD.encode(certificate), "tls.key": STANDARD.encode(key.as_bytes()), "ca.crt": STANDARD.encode(ca)},
    });
    term.print(&Zeroizing::new(to_yaml(&secret)?))?;
    Ok(Exit::Done)
}

fn name(text: &str) -> Result<String, String> {
    let fits = is_dns_subdomain(text).then(|| text.to_owned());
    fits.ok_or_else(|| "a name has lower-case letters, digits, hyphens and dots".into())
}
