//! A certificate and its key as files and Secrets keep them.

use zeroize::Zeroizing;

use super::bundle::Bundle;
use super::certificate::Certificate;

/// A certificate, and others that go with it, and its key, all in PEM.
#[derive(Clone)]
pub struct PemPair {
    pub certificate: String,
    pub key: Zeroizing<String>,
}

impl PemPair {
    /// The first of its certificates; none where it can't be parsed.
    pub fn leaf(&self) -> Option<Certificate> {
        Bundle::from(self.certificate.as_str()).certificates().first().cloned()
    }
}
