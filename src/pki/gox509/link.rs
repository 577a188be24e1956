//! A certificate as a link of a chain: what Go's crypto/x509 reads of it, and as strictly.
//!
//! Not here: what a user is shown of it ([`crate::pki::Certificate`]), and whether chains hold ([`super::verify`]).

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
    pub issuer: Vec<u8>,
    pub key: Key,
    /// SubjectPublicKeyInfo, and the key's bits in it.
    pub spki: Vec<u8>,
    pub public_key: Vec<u8>,
    /// The content of the signature's AlgorithmIdentifier.
    pub algorithm: Vec<u8>,
    pub signature: Vec<u8>,
    /// Seconds since 1970.
    pub not_before: i64,
    pub not_after: i64,
    pub extensions: Extensions,
}

const BROKEN: &str = "it is no certificate";

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
            issuer,
            key,
            spki: spki.to_vec(),
            public_key,
            algorithm: algorithm.to_vec(),
            signature: need(outer.read_bits(), "its signature is broken")?,
            not_before,
            not_after,
            extensions,
        })
    }
}

fn version(tbs: &mut Reader<'_>) -> Parsed<u8> {
    if tbs.peek() != Some(Tag::constructed(0)) {
        return Ok(1);
    }
    let what = "its version is broken";
    let mut inner = Reader::new(need(tbs.read(Tag::constructed(0)), what)?);
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
    for id in [Tag::context(1), Tag::context(2)] {
        if version > 1 && tbs.peek() == Some(id) {
            need(tbs.read(id), "its unique ID is broken")?;
        }
    }
    match tbs.peek() {
        Some(tag) if version == 3 && tag == Tag::constructed(3) => {
            Extensions::parse(need(tbs.read(tag), "its extensions are broken")?)
        }
        _ => Ok(Extensions::default()),
    }
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
