//! The cluster gateway, and TLS servers in general, as a client meets them: what they present, and what the gateway says
//! to an agent.

mod judge;
mod probe;

pub use probe::{Answer, Counted, GatewayUrl, Identity, ProbeError, Question, Reply, count, probe};

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::text::visible;

/// Why a server's certificate could not be seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} is no host name", visible(.0))]
    HostName(String),
    #[error("could not connect to {}", visible(.address))]
    Connect { address: String, source: std::io::Error },
    #[error("{} did not answer within {} s", visible(.address), .limit.as_secs())]
    TimedOut { address: String, limit: Duration },
    #[error("{} speaks no TLS", visible(.address))]
    Handshake { address: String, source: std::io::Error },
}

/// The certificates that a TLS server presents, its own first, in DER; they are not verified.
pub async fn presented(host: &str, port: u16, limit: Duration) -> Result<Vec<Vec<u8>>, Error> {
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::HostName(host.to_owned()))?;
    let look = look(&address, name);
    tokio::time::timeout(limit, look).await.unwrap_or_else(|_| Err(Error::TimedOut { address: address.clone(), limit }))
}

async fn look(address: &str, name: ServerName<'static>) -> Result<Vec<Vec<u8>>, Error> {
    let tcp = TcpStream::connect(address).await.map_err(|source| Error::Connect { address: address.into(), source })?;
    let _ = tcp.set_nodelay(true);
    let provider = Arc::new(aws_lc_rs::default_provider());
    let witness = Arc::new(Witness { algorithms: provider.signature_verification_algorithms, seen: Mutex::default() });
    let connector = TlsConnector::from(Arc::new(config(provider, witness.clone())?));
    let handshake = connector.connect(name, tcp).await;
    let seen = witness.seen.lock().map(|seen| seen.clone()).unwrap_or_default();
    match handshake {
        // A server that wants a client certificate may end the handshake; it has shown its own by then.
        Err(source) if seen.is_empty() => Err(Error::Handshake { address: address.into(), source }),
        _ => Ok(seen),
    }
}

fn config(provider: Arc<CryptoProvider>, witness: Arc<Witness>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder =
        builder.map_err(|error| Error::Handshake { address: String::new(), source: std::io::Error::other(error) })?;
    Ok(builder.dangerous().with_custom_certificate_verifier(witness).with_no_client_auth())
}

/// Takes down what is presented, whoever signed it. The key must fit, or it would be somebody else's certificate.
#[derive(Debug)]
struct Witness {
    algorithms: WebPkiSupportedAlgorithms,
    seen: Mutex<Vec<Vec<u8>>>,
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Ok(mut seen) = self.seen.lock() {
            *seen = std::iter::once(end_entity).chain(intermediates).map(|certificate| certificate.to_vec()).collect();
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
