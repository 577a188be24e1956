//! Why a certificate is refused: the rules of Go's crypto/x509 and crypto/tls that it can break.

use serde::Serialize;

/// Why a certificate is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub reason: Reason,
    /// In a sentence, with the certificate that it is about.
    pub message: String,
}

/// The rule that isn't met. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The agent's certificate, or one beside it, doesn't parse: the TLS handshake ends.
    Unparsable,
    /// An RSA key of more than 8192 bits ends the handshake, too.
    KeyTooLarge,
    /// The agent's key is of a kind that its TLS can't use.
    UnsupportedKey,
    /// The plane names no CA, or what it names isn't there: the gateway skips the plane.
    CaUnreadable,
    /// The plane's CA holds no certificate that parses: the gateway skips the plane.
    NoCa,
    Expired,
    NotYetValid,
    /// No chain leads to the plane's CA.
    UnknownAuthority,
    /// What would issue it is no CA, or may not sign.
    NotACa,
    PathLength,
    /// Its key usage doesn't allow client authentication.
    Usage,
    NameConstraints,
    CriticalExtension,
    /// A signature of an algorithm that is no longer accepted.
    InsecureSignature,
    Policies,
    TooManyChecks,
}
