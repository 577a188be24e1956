//! A CA that can sign: its certificate and the key that belongs to it, checked before use.

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use x509_parser::der_parser::Oid;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::gox509::Link;
use super::key::{KeyError, PrivateKey};

/// A certificate, and others that go with it, and its key, all in PEM.
#[derive(Clone)]
pub struct PemPair {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

impl PemPair {
    /// The first of its certificates; none where it can't be parsed.
    pub fn leaf(&self) -> Option<Certificate> {
        Certificate::all_in(&self.certificate).into_iter().next()
    }
}

/// A CA certificate with its key.
pub struct Authority {
    pub certificate: Certificate,
    key: PrivateKey,
}

/// Why a certificate and a key are no CA to sign with.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error("the CA's file holds no certificate that can be parsed")]
    NoCertificate,
    #[error("the CA's key file: {0}")]
    Key(#[from] KeyError),
    #[error("the key matches no certificate in the CA's file")]
    Mismatch,
    #[error("{subject} is not a CA: its basic constraints don't say so")]
    NotCa { subject: String },
    #[error("{subject} may not sign certificates: its key usage lacks keyCertSign")]
    MayNotSign { subject: String },
    #[error("{subject} expired at {at}")]
    Expired { subject: String, at: Timestamp },
    #[error("{subject} is valid only from {at} on")]
    NotYetValid { subject: String, at: Timestamp },
    #[error("{subject} does not allow clientAuth in the certificates that it signs")]
    NoClientAuth { subject: String },
    #[error("the CA's certificate can't be used to sign: {reason}")]
    Unusable { reason: String },
}

impl AuthorityError {
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Key(error) => return error.hint(),
            Self::NotCa { .. } | Self::Expired { .. } => "create a CA with `choreoctl certs ca --out-dir DIR`",
            Self::Mismatch => "use the ca.crt and ca.key that were created together",
            Self::NotYetValid { .. } => "check this machine's clock",
            Self::NoCertificate | Self::MayNotSign { .. } | Self::NoClientAuth { .. } | Self::Unusable { .. } => {
                return None;
            }
        };
        Some(hint.into())
    }
}

impl Authority {
    /// Takes the certificate that the key belongs to, and checks that it may sign at `now`.
    pub fn from_pem(certificates: &str, key: &str, now: Timestamp) -> Result<Self, AuthorityError> {
        let mut fitting = Certificate::all_in(certificates);
        if fitting.is_empty() {
            return Err(AuthorityError::NoCertificate);
        }
        let key = PrivateKey::from_pem(key)?;
        let public = key.public_key_info();
        fitting.retain(|certificate| belong_together(&certificate.der, &public));
        if fitting.is_empty() {
            return Err(AuthorityError::Mismatch);
        }
        // A renewed CA may keep its key: of several that fit, the first that may sign now.
        let usable = fitting.iter().position(|certificate| check(certificate, now).is_ok());
        let certificate = fitting.swap_remove(usable.unwrap_or(0));
        check(&certificate, now)?;
        Ok(Self { certificate, key })
    }

    /// Another one of the same certificate and key.
    pub fn again(&self) -> Result<Self, KeyError> {
        Ok(Self { certificate: self.certificate.clone(), key: PrivateKey::from_pem(&self.key_to_pem())? })
    }

    /// Its key in PKCS#8, for a Secret that issues.
    pub fn key_to_pem(&self) -> Zeroizing<String> {
        self.key.to_pem()
    }

    /// As a file or a Secret keeps it.
    pub fn pem_pair(&self) -> PemPair {
        PemPair { certificate: self.certificate.to_pem(), key: self.key_to_pem() }
    }

    pub(super) fn issuer(&self) -> Result<Issuer<'static, &KeyPair>, AuthorityError> {
        let der = self.certificate.der.clone().into();
        Issuer::from_ca_cert_der(&der, self.key.pair())
            .map_err(|error| AuthorityError::Unusable { reason: error.to_string() })
    }
}

/// Whether a certificate may sign others at `now`.
fn check(certificate: &Certificate, now: Timestamp) -> Result<(), AuthorityError> {
    let Certificate { der, not_before, not_after, ext_key_usage, .. } = certificate;
    let subject = crate::text::visible(&certificate.subject).into_owned();
    let (_, parsed) = x509_parser::parse_x509_certificate(der).map_err(|_| AuthorityError::NoCertificate)?;
    if !certificate.ca {
        return Err(AuthorityError::NotCa { subject });
    }
    if parsed.key_usage().ok().flatten().is_some_and(|usage| !usage.value.key_cert_sign()) {
        return Err(AuthorityError::MayNotSign { subject });
    }
    if !ext_key_usage.is_empty() && !ext_key_usage.iter().any(|usage| usage == "clientAuth" || usage == "any") {
        return Err(AuthorityError::NoClientAuth { subject });
    }
    if let Some(oid) = Link::parse(der).ok().and_then(|link| link.extensions.unhandled.into_iter().next()) {
        let oid = Oid::new(oid.into());
        let reason = format!("{subject} has the critical extension {oid}, which the gateway can't handle");
        return Err(AuthorityError::Unusable { reason });
    }
    if *not_after < now {
        return Err(AuthorityError::Expired { subject, at: *not_after });
    }
    if *not_before > now {
        return Err(AuthorityError::NotYetValid { subject, at: *not_before });
    }
    Ok(())
}

/// Whether a certificate in DER is about this public key, a SubjectPublicKeyInfo in DER.
pub fn belong_together(certificate: &[u8], public_key_info: &[u8]) -> bool {
    x509_parser::parse_x509_certificate(certificate).is_ok_and(|(_, parsed)| parsed.public_key().raw == public_key_info)
}
