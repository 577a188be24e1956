//! What a TLS server presents, and whether an agent would accept it, within a handshake.
//!
//! rustls's own verifier has stricter rules than the agent's Go: it refuses, for example, a CA's certificate as that of a
//! server. So the verdict on the chain is [`Bundle::accepts_server`]'s; that the server has the key of its certificate is
//! still verified by rustls's provider.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, SignatureScheme};

use crate::pki::{self, Bundle, PublicKey, ServerFault};

/// Takes down what one server presents, and judges it by this machine's clock where it does so for an agent.
#[derive(Debug)]
pub struct Witness {
    algorithms: WebPkiSupportedAlgorithms,
    /// What the agent trusts, and the host of its URL.
    agent: Option<(Bundle, String)>,
    seen: Mutex<Seen>,
}

/// What came of a handshake.
#[derive(Debug, Default)]
pub struct Seen {
    /// In DER, the server's own first; empty before it came so far.
    pub presented: Vec<Vec<u8>>,
    /// Why an agent does not accept it.
    pub fault: Option<ServerFault>,
}

impl Witness {
    pub fn new(agent: Option<(Bundle, String)>) -> Arc<Self> {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Arc::new(Self { algorithms, agent, seen: Mutex::default() })
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client that shows this witness what it sees.
    pub fn client(self: &Arc<Self>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions()?;
        Ok(builder.dangerous().with_custom_certificate_verifier(self.clone()))
    }

    fn key(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
        pki::public_key(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented: Vec<_> = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        let judge = |(ca, host): &(Bundle, String)| ca.accepts_server(&presented, host, Timestamp::now()).err();
        let fault = self.agent.as_ref().and_then(judge);
        let verdict = match fault {
            None => Ok(ServerCertVerified::assertion()),
            Some(_) => Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)),
        };
        *self.seen() = Seen { presented, fault };
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = Self::key(certificate)?;
        // Of TLS 1.2 a scheme says no curve, so that several algorithms may be meant.
        let of_scheme = self.algorithms.mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
        let mut algorithms = of_scheme.map(|(_, algorithms)| algorithms.iter()).into_iter().flatten();
        let holds = algorithms.any(|algorithm| {
            algorithm.public_key_alg_id().as_ref() == key.algorithm
                && algorithm.verify_signature(&key.bits, message, signed.signature()).is_ok()
        });
        if holds {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let info = SubjectPublicKeyInfoDer::from(Self::key(certificate)?.info);
        verify_tls13_signature_with_raw_key(message, &info, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
