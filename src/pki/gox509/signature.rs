//! Signatures on certificates and requests, by the algorithms that Go's crypto/x509 accepts.

use aws_lc_rs::digest;
use aws_lc_rs::signature::{self as aws, ParsedPublicKey, VerificationAlgorithm};

use super::der::{self, Reader, Tag};
use super::key::{Curve, Key};
use super::link::Link;
use super::recovery;

/// What there is to say of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    Holds,
    Fails,
    /// MD5 or SHA-1, which Go doesn't accept.
    Insecure,
    /// An algorithm that Go doesn't know, or one of another kind of key.
    Mismatch,
    /// Of a kind that can't be verified here, although Go can.
    Unsupported(&'static str),
}

/// Something that is signed: its octets, the content of the signature's AlgorithmIdentifier, and the signature.
pub struct Signed<'s> {
    pub octets: &'s [u8],
    pub algorithm: &'s [u8],
    pub signature: &'s [u8],
}

/// Whether a signature is one of a key, given as what it is and its bits.
pub fn check(signed: &Signed<'_>, key: &Key, public_key: &[u8]) -> Check {
    match algorithm(signed.algorithm) {
        Algorithm::Insecure => Check::Insecure,
        Algorithm::Unknown => Check::Mismatch,
        Algorithm::Known(scheme, hash) => match verifier(scheme, hash, key) {
            Verifier::Never => Check::Mismatch,
            Verifier::Unsupported(what) => Check::Unsupported(what),
            Verifier::With(algorithm) => {
                let key = ParsedPublicKey::new(algorithm, public_key).ok();
                let holds = key.is_some_and(|key| key.verify_sig(signed.octets, signed.signature).is_ok());
                if holds { Check::Holds } else { Check::Fails }
            }
        },
    }
}

/// Whether a certificate's signature is that of another's key.
pub fn signature(child: &Link, parent: &Link) -> Check {
    let signers = child.signers.get().filter(|_| parent.key == Key::Ecdsa(Curve::P256));
    if signers.is_some_and(|signers| !signers.contains(&parent.public_key)) {
        return Check::Fails;
    }
    let signed = Signed { octets: &child.signed, algorithm: &child.algorithm, signature: &child.signature };
    check(&signed, &parent.key, &parent.public_key)
}

/// Finds the keys that a certificate's signature is of, where that is possible: trying another key is a comparison then.
pub fn recover_signers(child: &Link) {
    if let Algorithm::Known(Scheme::Ecdsa, hash) = algorithm(&child.algorithm)
        && let Some(hash) = hash.digest()
        && let Some(signers) = recovery::signers(&child.signed, hash, &child.signature)
    {
        child.signers.get_or_init(|| signers);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Pkcs1,
    Pss,
    Ecdsa,
    Ed25519,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
    /// Ed25519 brings its own.
    Own,
}

impl Hash {
    fn digest(self) -> Option<&'static digest::Algorithm> {
        match self {
            Self::Sha256 => Some(&digest::SHA256),
            Self::Sha384 => Some(&digest::SHA384),
            Self::Sha512 => Some(&digest::SHA512),
            Self::Own => None,
        }
    }
}

#[derive(Clone, Copy)]
enum Algorithm {
    Known(Scheme, Hash),
    Insecure,
    Unknown,
}

/// The algorithms that have no parameters to look at, by DER of their OIDs.
const ALGORITHMS: [(&[u8], Algorithm); 11] = [
    // RSA with MD2, MD5 and SHA-1, which has two identifiers.
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 2], Algorithm::Insecure),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 4], Algorithm::Insecure),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 5], Algorithm::Insecure),
    (&[0x2b, 0x0e, 0x03, 0x02, 0x1d], Algorithm::Insecure),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 11], Algorithm::Known(Scheme::Pkcs1, Hash::Sha256)),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 12], Algorithm::Known(Scheme::Pkcs1, Hash::Sha384)),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 13], Algorithm::Known(Scheme::Pkcs1, Hash::Sha512)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 1], Algorithm::Insecure),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 2], Algorithm::Known(Scheme::Ecdsa, Hash::Sha256)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 3], Algorithm::Known(Scheme::Ecdsa, Hash::Sha384)),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 3, 4], Algorithm::Known(Scheme::Ecdsa, Hash::Sha512)),
];

/// What Go makes of a signature's AlgorithmIdentifier.
fn algorithm(identifier: &[u8]) -> Algorithm {
    let mut reader = Reader::new(identifier);
    match reader.read_oid() {
        Some([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 10]) => pss(reader.rest()),
        Some([0x2b, 0x65, 0x70]) if reader.is_empty() => Algorithm::Known(Scheme::Ed25519, Hash::Own),
        id => ALGORITHMS.iter().find(|(known, _)| Some(*known) == id).map_or(Algorithm::Unknown, |(_, known)| *known),
    }
}

/// RSASSA-PSS (RFC 4055, 3.1) of one of three kinds: a hash, the same in MGF1, and a salt of its length.
fn pss(parameters: &[u8]) -> Algorithm {
    const SHA2: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
    const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    fn hash(identifier: &[u8]) -> Option<u8> {
        let mut reader = Reader::new(identifier);
        let id = reader.read_oid()?;
        match (id.strip_prefix(SHA2)?, reader.rest()) {
            ([number], [] | [5, 0]) => Some(*number),
            _ => None,
        }
    }
    let read = || {
        let mut list = Reader::new(Reader::new(parameters).read(Tag::SEQUENCE)?);
        let own = hash(Reader::new(list.read(Tag::constructed(0))?).read(Tag::SEQUENCE)?)?;
        let mut mask = Reader::new(Reader::new(list.read(Tag::constructed(1))?).read(Tag::SEQUENCE)?);
        let mgf1 = mask.read_oid()? == MGF1;
        let inner = hash(mask.read(Tag::SEQUENCE)?)?;
        let salt = der::signed(Reader::new(list.read(Tag::constructed(2))?).read(Tag::INTEGER)?)?;
        let trailer = match list.peek() {
            Some(tag) if tag == Tag::constructed(3) => der::signed(Reader::new(list.read(tag)?).read(Tag::INTEGER)?)?,
            _ => 1,
        };
        (mgf1 && own == inner && trailer == 1).then_some((own, salt))
    };
    match read() {
        Some((1, 32)) => Algorithm::Known(Scheme::Pss, Hash::Sha256),
        Some((2, 48)) => Algorithm::Known(Scheme::Pss, Hash::Sha384),
        Some((3, 64)) => Algorithm::Known(Scheme::Pss, Hash::Sha512),
        _ => Algorithm::Unknown,
    }
}

enum Verifier {
    With(&'static dyn VerificationAlgorithm),
    /// Such a key never verifies such a signature.
    Never,
    Unsupported(&'static str),
}

fn verifier(scheme: Scheme, hash: Hash, key: &Key) -> Verifier {
    use Hash::{Own, Sha256, Sha384, Sha512};
    use Verifier::{Never, Unsupported, With};
    match (scheme, key) {
        // Go refuses smaller keys.
        (Scheme::Pkcs1 | Scheme::Pss, Key::Rsa { bits: ..1024 }) => Never,
        (Scheme::Pkcs1 | Scheme::Pss, Key::Rsa { bits: 8193.. }) => Unsupported("an RSA key of more than 8192 bits"),
        (Scheme::Pkcs1, Key::Rsa { bits }) => match (hash, *bits < 2048) {
            (Sha256, true) => With(&aws::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
            (Sha512, true) => With(&aws::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
            (_, true) => Unsupported("SHA-384 with an RSA key of less than 2048 bits"),
            (Sha256, _) => With(&aws::RSA_PKCS1_2048_8192_SHA256),
            (Sha384, _) => With(&aws::RSA_PKCS1_2048_8192_SHA384),
            (Sha512, _) => With(&aws::RSA_PKCS1_2048_8192_SHA512),
            (Own, _) => Never,
        },
        (Scheme::Pss, Key::Rsa { bits }) => match hash {
            _ if *bits < 2048 => Unsupported("PSS with an RSA key of less than 2048 bits"),
            Sha256 => With(&aws::RSA_PSS_2048_8192_SHA256),
            Sha384 => With(&aws::RSA_PSS_2048_8192_SHA384),
            Sha512 => With(&aws::RSA_PSS_2048_8192_SHA512),
            Own => Never,
        },
        (Scheme::Ecdsa, Key::Ecdsa(curve)) => match (curve, hash) {
            (Curve::P224, _) => Unsupported("the curve P-224"),
            (Curve::P256, Sha256) => With(&aws::ECDSA_P256_SHA256_ASN1),
            (Curve::P256, Sha384) => With(&aws::ECDSA_P256_SHA384_ASN1),
            (Curve::P256, Sha512) => With(&aws::ECDSA_P256_SHA512_ASN1),
            (Curve::P384, Sha256) => With(&aws::ECDSA_P384_SHA256_ASN1),
            (Curve::P384, Sha384) => With(&aws::ECDSA_P384_SHA384_ASN1),
            (Curve::P384, Sha512) => With(&aws::ECDSA_P384_SHA512_ASN1),
            (Curve::P521, Sha256) => With(&aws::ECDSA_P521_SHA256_ASN1),
            (Curve::P521, Sha384) => With(&aws::ECDSA_P521_SHA384_ASN1),
            (Curve::P521, Sha512) => With(&aws::ECDSA_P521_SHA512_ASN1),
            (_, Own) => Never,
        },
        (Scheme::Ed25519, Key::Ed25519) => With(&aws::ED25519),
        _ => Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::gox509::der::tests::element;
    use aws_lc_rs::signature::{KeyPair as _, RsaEncoding, RsaKeyPair};
    use rcgen::{CertificateParams, KeyPair};

    fn own(algorithm: &'static rcgen::SignatureAlgorithm) -> Link {
        let key = KeyPair::generate_for(algorithm).unwrap();
        Link::parse(CertificateParams::default().self_signed(&key).unwrap().der()).unwrap()
    }

    #[test]
    fn a_signature_is_one_of_its_key() {
        let all = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P521_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
            &rcgen::PKCS_RSA_SHA384,
            &rcgen::PKCS_RSA_SHA512,
        ];
        let links: Vec<_> = all.into_iter().map(own).collect();
        for (number, link) in links.iter().enumerate() {
            assert_eq!(signature(link, link), Check::Holds, "{number}");
            let next = &links[(number + 1) % links.len()];
            assert!(matches!(signature(link, next), Check::Fails | Check::Mismatch), "{number}");
        }
    }

    /// Of each hash, and of other curves and algorithms, of which no keys are recovered.
    #[test]
    fn recovered_keys_change_no_answer() {
        let all = [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_ECDSA_P521_SHA512,
            &rcgen::PKCS_ED25519,
            &rcgen::PKCS_RSA_SHA256,
        ];
        let links: Vec<_> = all.iter().chain(&all).map(|algorithm| own(algorithm)).collect();
        let before: Vec<_> = links.iter().flat_map(|child| links.iter().map(|key| signature(child, key))).collect();
        links.iter().for_each(recover_signers);
        let after: Vec<_> = links.iter().flat_map(|child| links.iter().map(|key| signature(child, key))).collect();
        assert_eq!(before, after);
        assert_eq!(links[0].signers.get().map(|keys| keys.contains(&links[0].public_key)), Some(true));
        assert!(links[3].signers.get().is_none() && links[4].signers.get().is_none());
    }

    /// What is said of a signature that can't hold, by its algorithm and the key.
    fn reported(algorithm: &[u8], parameters: &[u8], key: &Key) -> Check {
        let algorithm = [&element(Tag::OID, algorithm), parameters].concat();
        check(&Signed { octets: b"", algorithm: &algorithm, signature: b"" }, key, b"")
    }

    #[test]
    fn algorithms_are_known_insecure_or_unsupported() {
        const RSA: [u8; 8] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
        const EC: [u8; 6] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4];
        let of_rsa = |last: u8, bits| reported(&[&RSA[..], &[last]].concat(), &[5, 0], &Key::Rsa { bits });
        let of_ec = |end: &[u8], curve| reported(&[&EC[..], end].concat(), &[], &Key::Ecdsa(curve));
        assert_eq!([2, 4, 5].map(|last| of_rsa(last, 2048)), [Check::Insecure; 3]);
        assert_eq!(
            [of_ec(&[1], Curve::P256), reported(&[0x2b, 0x0e, 3, 2, 0x1d], &[], &Key::Other)],
            [Check::Insecure; 2]
        );
        assert_eq!([11, 12, 13].map(|last| of_rsa(last, 2048)), [Check::Fails; 3]);
        assert_eq!([11, 13].map(|last| of_rsa(last, 1024)), [Check::Fails; 2]);
        assert!(matches!(of_rsa(12, 1024), Check::Unsupported(_)) && matches!(of_rsa(11, 8193), Check::Unsupported(_)));
        assert!(matches!(of_ec(&[3, 2], Curve::P224), Check::Unsupported(_)));
        for (end, curve) in [(2, Curve::P384), (3, Curve::P521), (4, Curve::P256)] {
            assert_eq!(of_ec(&[3, end], curve), Check::Fails);
        }
        assert_eq!(
            [of_rsa(11, 512), of_rsa(99, 2048), of_rsa(10, 2048), of_ec(&[3, 9], Curve::P256)],
            [Check::Mismatch; 4]
        );
        assert_eq!(reported(&[0x2b, 0x65, 0x70], &[], &Key::Dsa), Check::Mismatch);
        assert_eq!(check(&Signed { octets: b"", algorithm: b"", signature: b"" }, &Key::Other, b""), Check::Mismatch);
    }

    /// The parameters of RSASSA-PSS, with one hash in both places.
    fn pss(hash: u8, mgf1: u8, salt: u8, trailer: &[u8]) -> Vec<u8> {
        let sha2 = |number| element(Tag::SEQUENCE, &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, number]);
        let mask = [&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8][..], &sha2(mgf1)].concat();
        let parts = [
            element(Tag::constructed(0), &sha2(hash)),
            element(Tag::constructed(1), &element(Tag::SEQUENCE, &mask)),
            element(Tag::constructed(2), &[2, 1, salt]),
            trailer.to_vec(),
        ];
        element(Tag::SEQUENCE, &parts.concat())
    }

    #[test]
    fn pss_has_one_hash_and_a_salt_of_its_length() {
        const PSS: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
        let made = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let key = RsaKeyPair::from_pkcs8(made.serialized_der()).unwrap();
        let encodings: [(&'static dyn RsaEncoding, u8, u8); 3] =
            [(&aws::RSA_PSS_SHA256, 1, 32), (&aws::RSA_PSS_SHA384, 2, 48), (&aws::RSA_PSS_SHA512, 3, 64)];
        for (encoding, hash, salt) in encodings {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(encoding, &aws_lc_rs::rand::SystemRandom::new(), b"text", &mut signature).unwrap();
            let check = |parameters: &[u8], bits| {
                let algorithm = [&element(Tag::OID, &PSS), parameters].concat();
                let signed = Signed { octets: b"text", algorithm: &algorithm, signature: &signature };
                check(&signed, &Key::Rsa { bits }, key.public_key().as_ref())
            };
            assert_eq!(check(&pss(hash, hash, salt, &[]), 2048), Check::Holds);
            assert_eq!(check(&pss(hash, hash, salt, &[0xa3, 3, 2, 1, 1]), 2048), Check::Holds);
            assert!(matches!(check(&pss(hash, hash, salt, &[]), 1024), Check::Unsupported(_)));
            let others =
                [pss(hash, 9, salt, &[]), pss(hash, hash, 20, &[]), pss(hash, hash, salt, &[0xa3, 3, 2, 1, 2])];
            assert_eq!(others.map(|other| check(&other, 2048)), [Check::Mismatch; 3]);
        }
    }
}
