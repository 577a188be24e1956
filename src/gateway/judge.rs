//! Whether an agent would accept the gateway's certificate, asked within a TLS handshake.
//!
//! rustls's own verifier has stricter rules than the agent's Go: it refuses, for example, a CA's certificate as that of a
//! server. So the verdict on the chain is [`Bundle::accepts_server`]'s; that the gateway has the key of its certificate is
//! still verified by rustls's provider.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

use crate::pki::{self, Bundle, PublicKey, ServerFault};

/// Judges one handshake, by this machine's clock.
#[derive(Debug)]
pub(super) struct Judge {
    algorithms: WebPkiSupportedAlgorithms,
    /// What the agent trusts.
    ca: Bundle,
    /// The host of the agent's URL.
    host: String,
    fault: Mutex<Option<ServerFault>>,
    accepted: AtomicBool,
}

impl Judge {
    pub fn new(ca: &str, host: &str) -> Self {
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        Self {
            algorithms,
            ca: ca.into(),
            host: host.to_owned(),
            fault: Mutex::default(),
            accepted: AtomicBool::default(),
        }
    }

    /// Whether the agent trusts anything at all.
    pub fn has_roots(&self) -> bool {
        self.ca.has_roots()
    }

    /// Returns why the certificate was not accepted, where that is what ended the handshake.
    pub fn fault(&self) -> Option<ServerFault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the handshake came as far as the certificate, and it was accepted.
    pub fn accepted(&self) -> bool {
        self.accepted.load(Ordering::Relaxed)
    }

    fn key(certificate: &CertificateDer<'_>) -> Result<PublicKey, Error> {
        pki::public_key(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented: Vec<_> = std::iter::once(end_entity).chain(intermediates).map(|der| der.to_vec()).collect();
        self.ca.accepts_server(&presented, &self.host, Timestamp::now()).map_err(|fault| {
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
            Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
        })?;
        self.accepted.store(true, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
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
