//! Public-key recovery: the keys that an ECDSA signature on P-256 is of (SEC 1, 4.1.6).
//!
//! A message and its signature determine the at most four keys under which it verifies. With these keys known, trying
//! one more of thousands of CAs is a comparison, not a verification.

use aws_lc_rs::digest::{Algorithm, digest};
use p256::ecdsa::{RecoveryId, Signature, VerifyingKey};

/// Returns the keys that a signature in DER is of, as uncompressed points; none where the signature can't be parsed.
pub(super) fn signers(octets: &[u8], hash: &'static Algorithm, signature: &[u8]) -> Option<Vec<Vec<u8>>> {
    let signature = Signature::from_der(signature).ok()?;
    let digest = digest(hash, octets);
    let ids = (0..=RecoveryId::MAX).filter_map(RecoveryId::from_byte);
    let keys = ids.filter_map(|id| VerifyingKey::recover_from_prehash(digest.as_ref(), &signature, id).ok());
    Some(keys.map(|key| key.to_sec1_point(false).as_bytes().to_vec()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::{SHA256, SHA384, SHA512};
    use aws_lc_rs::signature::{self as aws, ParsedPublicKey, VerificationAlgorithm};
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::hazmat::PrehashSigner as _;
    use proptest::prelude::*;

    const HASHES: [(&Algorithm, &dyn VerificationAlgorithm); 3] = [
        (&SHA256, &aws::ECDSA_P256_SHA256_ASN1),
        (&SHA384, &aws::ECDSA_P256_SHA384_ASN1),
        (&SHA512, &aws::ECDSA_P256_SHA512_ASN1),
    ];

    proptest! {
        /// Against another implementation, which verifies.
        #[test]
        fn a_signature_is_of_the_recovered_keys_and_of_no_others(
            (own, other) in any::<([u8; 32], [u8; 32])>(),
            hash in 0..3_usize,
            text in any::<Vec<u8>>(),
            altered in any::<Option<(prop::sample::Index, u8)>>(),
        ) {
            let key = |bytes: &[u8; 32]| SigningKey::from_slice(bytes).ok();
            let (Some(own), Some(other)) = (key(&own), key(&other)) else { return Ok(()) };
            let (hash, verifier) = HASHES[hash];
            let signature: Signature = own.sign_prehash(digest(hash, &text).as_ref()).unwrap();
            let mut signature = signature.to_der().as_bytes().to_vec();
            if let Some((at, to)) = altered {
                let at = at.index(signature.len());
                signature[at] = to;
            }
            if let Some(signers) = signers(&text, hash, &signature) {
                let points = [own, other].map(|key| key.verifying_key().to_sec1_point(false).as_bytes().to_vec());
                for key in points.iter().chain(&signers) {
                    let holds = ParsedPublicKey::new(verifier, key).unwrap().verify_sig(&text, &signature).is_ok();
                    prop_assert_eq!(signers.contains(key), holds);
                }
            }
        }
    }
}
