//! Private keys: made, or read from the three encodings that are about. They are never shown.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::Ed25519KeyPair;
use clap::ValueEnum;
use rcgen::{KeyPair, PublicKeyData as _, RsaKeySize};
use x509_parser::prelude::{FromDer as _, SubjectPublicKeyInfo};
use zeroize::{Zeroize as _, Zeroizing};

use super::certificate::key_algorithm;
use super::pem;

/// What kind of key to make.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KeyAlgorithm {
    #[default]
    EcdsaP256,
    EcdsaP384,
    Ed25519,
    #[value(name = "rsa-2048")]
    Rsa2048,
    #[value(name = "rsa-3072")]
    Rsa3072,
    #[value(name = "rsa-4096")]
    Rsa4096,
}

impl KeyAlgorithm {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Why a private key could not be read. Says nothing of the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it holds no private key")]
    Missing,
    #[error("its private key is encrypted")]
    Encrypted,
    #[error("its private key can't be parsed, or is of a kind that isn't supported")]
    Unusable,
    #[error("the key could not be generated")]
    Generate,
}

/// Eight random digits in hexadecimal, for names that must not clash.
pub fn random_suffix() -> Result<String, KeyError> {
    let mut octets = [0; 4];
    SystemRandom::new().fill(&mut octets).map_err(|_| KeyError::Generate)?;
    Ok(octets.iter().map(|octet| format!("{octet:02x}")).collect())
}

impl KeyError {
    pub fn hint(self) -> Option<String> {
        let hint = match self {
            Self::Encrypted => {
                "decrypt it into a file that only you can read: `openssl pkey -in KEY -out PLAIN`, with umask 077"
            }
            Self::Unusable => {
                "RSA, ECDSA P-256, P-384 and P-521 and Ed25519 keys can be read, in PKCS#8, PKCS#1 and SEC1"
            }
            Self::Missing | Self::Generate => return None,
        };
        Some(hint.into())
    }
}

/// A private key that can sign. It is wiped when it goes.
pub struct PrivateKey(KeyPair);

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PrivateKey {
    pub fn generate(algorithm: KeyAlgorithm) -> Result<Self, KeyError> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        let pair = match algorithm {
            KeyAlgorithm::EcdsaP256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            KeyAlgorithm::EcdsaP384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
            KeyAlgorithm::Ed25519 => return ed25519(),
            KeyAlgorithm::Rsa2048 => rsa(RsaKeySize::_2048),
            KeyAlgorithm::Rsa3072 => rsa(RsaKeySize::_3072),
            KeyAlgorithm::Rsa4096 => rsa(RsaKeySize::_4096),
        };
        pair.map(Self).map_err(|_| KeyError::Generate)
    }

    /// The first private key of a PEM text, in PKCS#8, PKCS#1 or SEC1.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let mut blocks = pem::blocks(text).into_iter();
        let block = blocks.find(|block| block.label.ends_with("PRIVATE KEY")).ok_or(KeyError::Missing)?;
        if block.headers || block.label.starts_with("ENCRYPTED") {
            return Err(KeyError::Encrypted);
        }
        let der = Zeroizing::new(block.der);
        KeyPair::try_from(der.as_slice()).map(Self).map_err(|_| KeyError::Unusable)
    }

    /// In PKCS#8, for a file that only its owner can read.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.serialize_pem().into()
    }

    /// The same in DER.
    pub fn to_der(&self) -> Vec<u8> {
        self.0.serialize_der()
    }

    /// What kind it is, where such a one can be made.
    pub fn algorithm(&self) -> Option<KeyAlgorithm> {
        let public = self.public_key_info();
        let info = SubjectPublicKeyInfo::from_der(&public).ok()?.1;
        KeyAlgorithm::from_str(&key_algorithm(&info), false).ok()
    }

    /// The public half as a SubjectPublicKeyInfo in DER (RFC 5280, 4.1.2.7).
    pub fn public_key_info(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    pub(super) fn pair(&self) -> &KeyPair {
        &self.0
    }
}

/// In the first version of PKCS#8 (RFC 5208): OpenSSL 3.0 and what is built on it don't read the second (RFC 5958), which
/// is what generating writes.
fn ed25519() -> Result<PrivateKey, KeyError> {
    let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
    let der = pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
    KeyPair::try_from(der.as_ref()).map(PrivateKey).map_err(|_| KeyError::Generate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back() {
        for algorithm in
            [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048]
        {
            let key = PrivateKey::generate(algorithm).unwrap();
            let text = format!(
                "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
                key.to_pem().as_str()
            );
            let read = PrivateKey::from_pem(&text).unwrap();
            assert_eq!(read.public_key_info(), key.public_key_info(), "{algorithm:?}");
            assert_eq!(read.algorithm(), Some(algorithm));
        }
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        let names = ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"];
        let algorithms: Vec<_> = names.iter().map(|name| KeyAlgorithm::from_str(name, false).unwrap()).collect();
        assert_eq!(algorithms, KeyAlgorithm::value_variants());
    }

    #[test]
    fn what_is_no_key_is_distinguished() {
        let error = |text: &str| PrivateKey::from_pem(text).map(|_| ()).unwrap_err();
        assert_eq!(error(""), KeyError::Missing);
        assert_eq!(error(&pem::encode("PRIVATE KEY", b"x")), KeyError::Unusable);
        assert_eq!(error(&pem::encode("ENCRYPTED PRIVATE KEY", b"x")), KeyError::Encrypted);
        let headed =
            pem::encode("RSA PRIVATE KEY", b"x").replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: X\n\n", 1);
        assert_eq!(error(&headed), KeyError::Encrypted);
    }
}
