//! What a TLS server presents, verified by nobody.

use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::url::authority;
use super::witness::Witness;
use crate::text::visible;

/// Why a server's certificate could not be seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is not a host name", visible(.0))]
    HostName(String),
    #[error("could not connect to {}", visible(.address))]
    Connect { address: String, source: std::io::Error },
    #[error("{} did not answer within {} s", visible(.address), .limit.as_secs())]
    TimedOut { address: String, limit: Duration },
    #[error("{} does not use TLS", visible(.address))]
    Handshake { address: String, source: std::io::Error },
}

/// The certificates that a TLS server presents, its own first, in DER; they are not verified.
pub async fn presented(host: &str, port: u16, limit: Duration) -> Result<Vec<Vec<u8>>, Error> {
    let address = authority(host, port);
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HostName(host.to_owned()))?;
    let look = look(&address, name);
    tokio::time::timeout(limit, look).await.unwrap_or_else(|_| Err(Error::TimedOut { address: address.clone(), limit }))
}

async fn look(address: &str, name: ServerName<'static>) -> Result<Vec<Vec<u8>>, Error> {
    let tcp = TcpStream::connect(address).await.map_err(|source| Error::Connect { address: address.into(), source })?;
    let _ = tcp.set_nodelay(true);
    let witness = Witness::new(None);
    let failed = |source| Error::Handshake { address: address.into(), source };
    let client = witness.client().map_err(|error| failed(std::io::Error::other(error)))?;
    let handshake = TlsConnector::from(std::sync::Arc::new(client.with_no_client_auth())).connect(name, tcp).await;
    let presented = std::mem::take(&mut witness.seen().presented);
    match handshake {
        // A server that wants a client certificate may end the handshake; it has shown its own by then.
        Err(source) if presented.is_empty() => Err(failed(source)),
        _ => Ok(presented),
    }
}
