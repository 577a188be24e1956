//! Public keys as Go reads them out of a SubjectPublicKeyInfo (RFC 5280, 4.1.2.7).
//!
//! Not here: what a key verifies ([`super::signature`]).

use super::der::{self, Parsed, Reader, Tag, broken, need};

/// What Go knows of a public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// With the size of its modulus in bits.
    Rsa {
        bits: usize,
    },
    Ecdsa(Curve),
    Ed25519,
    /// Go parses it, and verifies nothing with it.
    Dsa,
    /// X25519 and what Go has no name for: nothing can be verified with it.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Curve {
    P224,
    P256,
    P384,
    P521,
}

const BROKEN: &str = "its public key is broken";
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const DSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x01];
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const CURVES: [(&[u8], Curve, usize); 4] = [
    (&[0x2b, 0x81, 0x04, 0x00, 0x21], Curve::P224, 28),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07], Curve::P256, 32),
    (&[0x2b, 0x81, 0x04, 0x00, 0x22], Curve::P384, 48),
    (&[0x2b, 0x81, 0x04, 0x00, 0x23], Curve::P521, 66),
];

/// Reads a SubjectPublicKeyInfo in DER: what the key is, and its bits.
pub fn public_key(spki: &[u8]) -> Parsed<(Key, Vec<u8>)> {
    let mut inner = Reader::sequence(spki, BROKEN)?;
    let (id, parameters) = algorithm_identifier(need(inner.read(Tag::SEQUENCE), BROKEN)?)?;
    let bits = need(inner.read_bits(), BROKEN)?;
    let key = match id {
        RSA => rsa(parameters, &bits)?,
        ECDSA => ecdsa(parameters, &bits)?,
        ED25519 if parameters.is_empty() && bits.len() == 32 => Key::Ed25519,
        ED25519 => return broken(BROKEN),
        DSA => dsa(parameters, &bits)?,
        _ => Key::Other,
    };
    Ok((key, bits))
}

/// Splits an AlgorithmIdentifier's content into the OID and the whole parameters, which may be empty.
pub(super) fn algorithm_identifier(content: &[u8]) -> Parsed<(&[u8], &[u8])> {
    let what = "an algorithm is broken";
    let mut inner = Reader::new(content);
    let id = need(inner.read_oid(), what)?;
    let parameters = if inner.is_empty() { &[][..] } else { need(inner.read_any_whole(), what)? };
    Ok((id, parameters))
}

fn rsa(parameters: &[u8], bits: &[u8]) -> Parsed<Key> {
    if parameters != [0x05, 0x00] {
        return broken("its RSA key lacks its NULL parameters");
    }
    let mut key = Reader::sequence(bits, BROKEN)?;
    let modulus = need(key.read(Tag::INTEGER).filter(|number| der::is_positive(number)), BROKEN)?;
    need(key.read(Tag::INTEGER).and_then(der::signed).filter(|exponent| *exponent > 0), BROKEN)?;
    Ok(Key::Rsa { bits: der::bit_length(modulus) })
}

fn ecdsa(parameters: &[u8], bits: &[u8]) -> Parsed<Key> {
    let curve = need(Reader::new(parameters).read_oid(), BROKEN)?;
    let known = CURVES.iter().find(|(id, ..)| *id == curve);
    let (_, curve, octets) = need(known, "its curve is not supported by Go")?;
    if bits.first() != Some(&4) || bits.len() != 1 + 2 * octets || !is_on_curve(*curve, bits) {
        return broken(BROKEN);
    }
    Ok(Key::Ecdsa(*curve))
}

/// Whether a point is one of its curve; of P-224 it is unknown here.
fn is_on_curve(curve: Curve, point: &[u8]) -> bool {
    use aws_lc_rs::signature::{self, ParsedPublicKey};
    let algorithm = match curve {
        Curve::P224 => return true,
        Curve::P256 => &signature::ECDSA_P256_SHA256_ASN1,
        Curve::P384 => &signature::ECDSA_P384_SHA384_ASN1,
        Curve::P521 => &signature::ECDSA_P521_SHA512_ASN1,
    };
    ParsedPublicKey::new(algorithm, point).is_ok()
}

fn dsa(parameters: &[u8], bits: &[u8]) -> Parsed<Key> {
    let mut domain = Reader::sequence(parameters, BROKEN)?;
    let mut key = Reader::new(bits);
    for number in
        [key.read(Tag::INTEGER), domain.read(Tag::INTEGER), domain.read(Tag::INTEGER), domain.read(Tag::INTEGER)]
    {
        need(number.filter(|number| der::is_positive(number)), BROKEN)?;
    }
    Ok(Key::Dsa)
}
