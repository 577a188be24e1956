//! A certificate as a link of a chain: what Go's crypto/x509 reads of it, and as strictly.
//!
//! Not here: what a user is shown of it ([`crate::pki::Certificate`]), and whether chains hold ([`super::verify`]).

use std::sync::OnceLock;

use super::der::{self, Parsed, Reader, Tag, broken, need};
use super::extensions::Extensions;
use super::key::{Key, algorithm_identifier, public_key};

/// A certificate that Go can parse.
#[derive(Clone, Debug)]
pub struct Link {
    pub der: Vec<u8>,
    /// The part that is signed.
    pub signed: Vec<u8>,
    /// 1 to 3.
    pub version: u8,
    pub subject: Vec<u8>,
    /// The subject in a sentence, once that was asked for.
    pub title: OnceLock<String>,
    pub issuer: Vec<u8>,
    pub key: Key,
    /// SubjectPublicKeyInfo, and the key's bits in it.
    pub spki: Vec<u8>,
    pub public_key: Vec<u8>,
    /// The content of the signature's AlgorithmIdentifier.
    pub algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    /// The keys that its signature is of, where they were recovered.
    pub signers: OnceLock<Vec<Vec<u8>>>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub extensions: Extensions,
}

const BROKEN: &str = "it is not a certificate";

impl Link {
    /// Reads DER as `x509.ParseCertificate` does.
    pub fn parse(der: &[u8]) -> Parsed<Self> {
        let mut input = Reader::new(der);
        let mut outer = Reader::new(need(input.read(Tag::SEQUENCE), BROKEN)?);
        if !input.is_empty() {
            return broken("something follows the certificate");
        }
        let signed = need(outer.read_whole(Tag::SEQUENCE), BROKEN)?;
        let mut tbs = Reader::sequence(signed, BROKEN)?;
        let version = version(&mut tbs)?;
        serial(&mut tbs)?;
        let inner = need(tbs.read(Tag::SEQUENCE), "its signature's algorithm is broken")?;
        let algorithm = need(outer.read(Tag::SEQUENCE), "its signature's algorithm is broken")?;
        if inner != algorithm {
            return broken("its two signature algorithms differ");
        }
        algorithm_identifier(algorithm)?;
        let issuer = name(&mut tbs)?;
        let mut validity = Reader::new(need(tbs.read(Tag::SEQUENCE), "its validity is broken")?);
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let subject = name(&mut tbs)?;
        let spki = need(tbs.read_whole(Tag::SEQUENCE), "its public key is broken")?;
        let (key, public_key) = public_key(spki)?;
        let extensions = extensions(&mut tbs, version)?;
        Ok(Self {
            der: der.to_vec(),
            signed: signed.to_vec(),
            version,
            subject,
            title: OnceLock::new(),
            issuer,
            key,
            spki: spki.to_vec(),
            public_key,
            algorithm: algorithm.to_vec(),
            signature: need(outer.read_bits(), "its signature is broken")?,
            signers: OnceLock::new(),
            not_before,
            not_after,
            extensions,
        })
    }
}

fn version(tbs: &mut Reader<'_>) -> Parsed<u8> {
    let what = "its version is broken";
    let Some(inner) = tbs.read_optional(Tag::constructed(0), what)? else {
        return Ok(1);
    };
    let mut inner = Reader::new(inner);
    let number = need(inner.read(Tag::INTEGER).and_then(der::signed), what)?;
    match number {
        0..=2 if inner.is_empty() => Ok(number as u8 + 1),
        _ => broken(what),
    }
}

fn serial(tbs: &mut Reader<'_>) -> Parsed<()> {
    let serial = need(tbs.read(Tag::INTEGER).filter(|serial| der::is_integer(serial)), "its serial number is broken")?;
    if serial[0] & 0x80 == 0 { Ok(()) } else { broken("its serial number is negative") }
}

/// The extensions behind the unique IDs of issuer and subject, which count for nothing.
fn extensions(tbs: &mut Reader<'_>, version: u8) -> Parsed<Extensions> {
    if version > 1 {
        tbs.read_optional(Tag::context(1), "its unique ID is broken")?;
        tbs.read_optional(Tag::context(2), "its unique ID is broken")?;
    }
    if version < 3 {
        return Ok(Extensions::default());
    }
    let list = tbs.read_optional(Tag::constructed(3), "its extensions are broken")?;
    list.map_or_else(|| Ok(Extensions::default()), Extensions::parse)
}

/// A distinguished name as it is written; each of its texts must be what its type says.
fn name(tbs: &mut Reader<'_>) -> Parsed<Vec<u8>> {
    let what = "a name in it is broken";
    let whole = need(tbs.read_whole(Tag::SEQUENCE), what)?;
    let mut sets = Reader::new(need(Reader::new(whole).read(Tag::SEQUENCE), what)?);
    while !sets.is_empty() {
        let mut set = Reader::new(need(sets.read(Tag::SET), what)?);
        while !set.is_empty() {
            let mut attribute = Reader::new(need(set.read(Tag::SEQUENCE), what)?);
            need(attribute.read_oid(), what)?;
            let (tag, value) = need(attribute.read_any(), what)?;
            if !is_text(tag, value) {
                return broken(what);
            }
        }
    }
    Ok(whole.to_vec())
}

fn is_text(tag: Tag, value: &[u8]) -> bool {
    match tag {
        Tag::UTF8_STRING => str::from_utf8(value).is_ok(),
        Tag::PRINTABLE_STRING => value.iter().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?*&".contains(b)),
        Tag::IA5_STRING => value.is_ascii(),
        Tag::NUMERIC_STRING => value.iter().all(|b| b.is_ascii_digit() || *b == b' '),
        Tag::T61_STRING => true,
        Tag::BMP_STRING => {
            let (pairs, rest) = value.as_chunks::<2>();
            let pairs = pairs.strip_suffix(&[[0, 0]]).unwrap_or(pairs);
            let reserved = |unit: u16| matches!(unit, 0xfffe | 0xffff | 0xfdd0..=0xfdef | 0xd800..=0xdfff);
            rest.is_empty() && !pairs.iter().any(|pair| reserved(u16::from_be_bytes(*pair)))
        }
        _ => false,
    }
}

/// UTCTime or GeneralizedTime, in seconds since 1970.
fn time(validity: &mut Reader<'_>) -> Parsed<i64> {
    let what = "its validity is broken";
    let (tag, value) = need(validity.read_any(), what)?;
    let text = need(str::from_utf8(value).ok(), what)?;
    need(der::time(tag, text), what)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::pki::gox509::der::Malformed;
    use crate::pki::gox509::der::tests::element;

    /// A certificate of one subject, issued by the next one, that says nothing else.
    pub fn blank(subject: u8, issuer: u8) -> Link {
        Link {
            der: vec![subject, issuer],
            signed: Vec::new(),
            version: 3,
            subject: vec![subject],
            title: OnceLock::new(),
            issuer: vec![issuer],
            key: Key::Ed25519,
            spki: vec![subject],
            public_key: Vec::new(),
            algorithm: Vec::new(),
            signature: Vec::new(),
            signers: OnceLock::new(),
            not_before: 0,
            not_after: i64::MAX,
            extensions: Extensions::default(),
        }
    }

    /// The parts of a certificate's body, and the certificate with one of them replaced.
    fn altered(part: usize, other: &[u8]) -> Result<u8, Malformed> {
        let der = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.der().to_vec();
        let mut outer = Reader::sequence(&der, BROKEN).unwrap();
        let mut body = Reader::sequence(outer.read_whole(Tag::SEQUENCE).unwrap(), BROKEN).unwrap();
        let mut parts = Vec::new();
        while let Some(part) = body.read_any_whole() {
            parts.push(part);
        }
        if let Some(part) = parts.get_mut(part) {
            *part = other;
        }
        let body = element(Tag::SEQUENCE, &parts.concat());
        let whole = element(Tag::SEQUENCE, &[&body, outer.rest()].concat());
        Link::parse(&whole).map(|link| link.version)
    }

    #[test]
    fn each_part_is_read_as_strictly_as_go_does() {
        assert_eq!(altered(99, &[]), Ok(3));
        let text = |tag: Tag, text: &[u8]| {
            let attribute = element(Tag::SEQUENCE, &[&[6, 3, 0x55, 4, 3], &element(tag, text)[..]].concat());
            element(Tag::SEQUENCE, &element(Tag::SET, &attribute))
        };
        let name = "a name in it is broken";
        for (part, other, expected) in [
            (0, &[0xa0, 3, 2, 1, 3][..], Err("its version is broken")),
            (1, &[2, 2, 0, 1], Err("its serial number is broken")),
            (1, &[2, 1, 0x80], Err("its serial number is negative")),
            (2, &[0x30, 3, 6, 1, 1], Err("its two signature algorithms differ")),
            (3, &[5, 0], Err(name)),
            (3, &text(Tag::UTF8_STRING, &[0xff]), Err(name)),
            (3, &text(Tag::PRINTABLE_STRING, b"a_b"), Err(name)),
            (3, &text(Tag::IA5_STRING, &[0x80]), Err(name)),
            (3, &text(Tag::NUMERIC_STRING, b"a"), Err(name)),
            (3, &text(Tag::BMP_STRING, &[0xd8, 0]), Err(name)),
            (3, &text(Tag::BOOLEAN, b"a"), Err(name)),
            (3, &text(Tag::BMP_STRING, &[0, 0x41]), Ok(3)),
            (3, &text(Tag::T61_STRING, &[0xff]), Ok(3)),
            (4, &[0x30, 2, 0x17, 0], Err("its validity is broken")),
            (6, &[0x30, 2, 0x30, 0], Err("an algorithm is broken")),
            (7, &[0xa3, 2, 5, 0], Err("its extensions are broken")),
            // Something that Go passes over, in their place.
            (7, &[0xa4, 0], Ok(3)),
        ] {
            assert_eq!(altered(part, other), expected.map_err(Malformed), "{part} {other:?}");
        }
    }

    #[test]
    fn nothing_but_a_certificate_is_one() {
        let der = rcgen::generate_simple_self_signed([]).unwrap().cert.der().to_vec();
        assert_eq!(
            Link::parse(&[&der[..], &[0]].concat()).unwrap_err(),
            Malformed("something follows the certificate")
        );
        assert_eq!(Link::parse(b"none").unwrap_err(), Malformed(BROKEN));
        assert!((0..der.len()).all(|length| Link::parse(&der[..length]).is_err()));
    }
}
