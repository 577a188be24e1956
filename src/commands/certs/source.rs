//! What stands in a [`Source`], for the verbs that read certificates.

use std::time::Duration;

use crate::args::Session;
use crate::cluster::Cluster;
use crate::gateway;
use crate::manifest::{self, Input};
use crate::pki::{self, CA_CERTIFICATE, LEAF_CERTIFICATE};
use crate::plane::Source;

/// How long a TLS server may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The bytes of a file, or of an object's key; of a Secret without a key those of `keys` that it has.
pub async fn bytes(source: &Source, keys: &[&str], cluster: Option<&Cluster>) -> anyhow::Result<Vec<u8>> {
    match (source, cluster) {
        (Source::File(path), _) => Ok(manifest::read_bytes(&Input::Path(path.clone()))?),
        (Source::Stdin, _) => Ok(manifest::read_bytes(&Input::Stdin)?),
        (Source::Secret(name, key), Some(cluster)) => {
            let key = key.as_deref();
            Ok(cluster.secret_keys(name, key.as_ref().map_or(keys, std::slice::from_ref)).await?.concat())
        }
        (Source::ConfigMap(name, key), Some(cluster)) => {
            Ok(cluster.config_map_keys(name, &[key.as_deref().unwrap_or(CA_CERTIFICATE)]).await?.concat())
        }
        _ => anyhow::bail!("there are no such bytes in {source}"),
    }
}

/// The certificates that an agent with this source would present, or that a server does, in DER and their order.
pub async fn presented(source: &Source, cluster: Option<&Cluster>, session: &Session) -> anyhow::Result<Vec<Vec<u8>>> {
    if let Source::Server { host, port } = source {
        let patience = session.options.request_timeout.map_or(PATIENCE, |limit| limit.min(PATIENCE));
        return Ok(gateway::presented(host, *port, patience).await?);
    }
    let bytes = bytes(source, &[LEAF_CERTIFICATE], cluster).await?;
    let found = pki::certificates(&String::from_utf8_lossy(&bytes));
    if found.is_empty() { Ok(pki::certificates(&pki::bundle(&bytes)?)) } else { Ok(found) }
}
