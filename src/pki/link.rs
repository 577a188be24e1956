//! A certificate as a link of a chain: what Go's crypto/x509 reads of it, and as strictly.
//!
//! Not here: what a user is shown of it ([`super::Certificate`]), and whether chains hold ([`super::verify`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::constraints::{Constraints, Subtree};
use super::der::{self, Reader, Tag};
use super::names::{Name, is_domain, mailbox, uri_host};

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

/// Certificate policies and what is said of them (RFC 5280, 4.2.1.4, 5, 11 and 14); policies as DER of their OIDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policies {
    pub ids: Vec<Vec<u8>>,
    pub mappings: Vec<(Vec<u8>, Vec<u8>)>,
    pub require_explicit: Option<u64>,
    pub inhibit_mapping: Option<u64>,
    pub inhibit_any: Option<u64>,
}

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
    /// The alternative names, as they are written and as they are understood.
    pub san: Option<Vec<u8>>,
    pub names: Vec<Name>,
    /// Whether it says that it is a CA, where it says anything of that.
    pub ca: Option<bool>,
    pub path_length: Option<u64>,
    /// Whether its key usage, where it has one, allows to sign certificates.
    pub signs: bool,
    /// DER of the OIDs of its extended key usages.
    pub usages: Vec<Vec<u8>>,
    pub constraints: Option<Constraints>,
    pub policies: Policies,
    pub subject_key_id: Option<Vec<u8>>,
    pub authority_key_id: Option<Vec<u8>>,
    /// The OIDs of critical extensions that Go doesn't handle.
    pub unhandled: Vec<Vec<u8>>,
}

/// Why Go can't parse it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

type Parsed<T> = Result<T, Malformed>;

const EXTENSIONS: &[u8] = &[0x55, 0x1d];
const AUTHORITY_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];
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

fn need<T>(value: Option<T>, what: &'static str) -> Parsed<T> {
    value.ok_or(Malformed(what))
}

impl Link {
    /// Reads DER as `x509.ParseCertificate` does.
    pub fn parse(der: &[u8]) -> Parsed<Self> {
        let mut input = Reader::new(der);
        let mut outer = Reader::new(need(input.read(Tag::SEQUENCE), "it is no certificate")?);
        if !input.is_empty() {
            return Err(Malformed("something follows the certificate"));
        }
        let signed = need(outer.read_whole(Tag::SEQUENCE), "it is no certificate")?;
        let mut tbs = Reader::new(need(Reader::new(signed).read(Tag::SEQUENCE), "it is no certificate")?);
        let version = version(&mut tbs)?;
        let serial =
            need(tbs.read(Tag::INTEGER).filter(|serial| der::is_integer(serial)), "its serial number is broken")?;
        if serial[0] & 0x80 != 0 {
            return Err(Malformed("its serial number is negative"));
        }
        let inner = need(tbs.read(Tag::SEQUENCE), "its signature's algorithm is broken")?;
        let algorithm = need(outer.read(Tag::SEQUENCE), "its signature's algorithm is broken")?;
        if inner != algorithm {
            return Err(Malformed("its two signature algorithms differ"));
        }
        algorithm_identifier(algorithm)?;
        let issuer = name(&mut tbs)?;
        let mut validity = Reader::new(need(tbs.read(Tag::SEQUENCE), "its validity is broken")?);
        let (not_before, not_after) = (time(&mut validity)?, time(&mut validity)?);
        let subject = name(&mut tbs)?;
        let spki = need(tbs.read_whole(Tag::SEQUENCE), "its public key is broken")?;
        let (key, public_key) = public_key(spki)?;
        let mut link = Self {
            der: der.to_vec(),
            signed: signed.to_vec(),
            version,
            subject,
            issuer,
            key,
            spki: spki.to_vec(),
            public_key,
            algorithm: algorithm.to_vec(),
            signature: Vec::new(),
            not_before,
            not_after,
            san: None,
            names: Vec::new(),
            ca: None,
            path_length: None,
            signs: true,
            usages: Vec::new(),
            constraints: None,
            policies: Policies::default(),
            subject_key_id: None,
            authority_key_id: None,
            unhandled: Vec::new(),
        };
        if version > 1 {
            for id in [Tag::context(1), Tag::context(2)] {
                if tbs.peek() == Some(id) {
                    need(tbs.read(id), "its unique ID is broken")?;
                }
            }
        }
        if version == 3 && tbs.peek() == Some(Tag::constructed(3)) {
            link.extensions(need(tbs.read(Tag::constructed(3)), "its extensions are broken")?)?;
        }
        link.signature = need(outer.read_bits(), "its signature is broken")?;
        Ok(link)
    }

    fn extensions(&mut self, list: &[u8]) -> Parsed<()> {
        let mut list = Reader::new(need(Reader::new(list).read(Tag::SEQUENCE), "its extensions are broken")?);
        let mut seen = BTreeSet::new();
        // All of them are read before any is understood.
        let mut extensions = Vec::new();
        while !list.is_empty() {
            let mut extension = Reader::new(need(list.read(Tag::SEQUENCE), "an extension is broken")?);
            let id = need(extension.read_oid(), "an extension is broken")?;
            let critical = match extension.peek() {
                Some(Tag::BOOLEAN) => need(extension.read_boolean(), "an extension is broken")?,
                _ => false,
            };
            let value = need(extension.read(Tag::OCTET_STRING), "an extension is broken")?;
            if !seen.insert(id) {
                return Err(Malformed("it has an extension twice"));
            }
            extensions.push((id, critical, value));
        }
        for (id, critical, value) in extensions {
            let handled = match id {
                AUTHORITY_INFO => self.authority_info(critical, value)?,
                [a, b, number] if [*a, *b] == EXTENSIONS => self.extension(*number, critical, value)?,
                _ => false,
            };
            if critical && !handled {
                self.unhandled.push(id.to_vec());
            }
        }
        Ok(())
    }

    /// One of id-ce, 2.5.29: whether it is handled.
    fn extension(&mut self, number: u8, critical: bool, value: &[u8]) -> Parsed<bool> {
        match number {
            14 => {
                if critical {
                    return Err(Malformed("its subject key identifier is critical"));
                }
                let id = need(Reader::new(value).read(Tag::OCTET_STRING), "its subject key identifier is broken")?;
                self.subject_key_id = Some(id.to_vec());
            }
            15 => {
                let bits = need(Reader::new(value).read_bit_string(), "its key usage is broken")?;
                // None set counts as none stated.
                let any = (0..9).any(|bit| bits.is_set(bit));
                self.signs = !any || bits.is_set(5);
            }
            17 => {
                self.names = alternative_names(value)?;
                self.san = Some(value.to_vec());
                return Ok(!self.names.is_empty());
            }
            19 => {
                let mut inner = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), BASIC)?);
                self.ca = Some(match inner.peek() {
                    Some(Tag::BOOLEAN) => need(inner.read_boolean(), BASIC)?,
                    _ => false,
                });
                if inner.peek() == Some(Tag::INTEGER) {
                    let length = need(inner.read_unsigned(), BASIC)?;
                    self.path_length = Some(need(i64::try_from(length).ok(), BASIC)? as u64);
                }
            }
            30 => return self.name_constraints(value),
            31 => distribution_points(value)?,
            32 => self.policies.ids = policies(value)?,
            33 => {
                let mut list = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), MAPPINGS)?);
                while !list.is_empty() {
                    let mut pair = Reader::new(need(list.read(Tag::SEQUENCE), MAPPINGS)?);
                    let mut id = || need(pair.read(Tag::OID), MAPPINGS).map(<[u8]>::to_vec);
                    self.policies.mappings.push((id()?, id()?));
                }
            }
            35 => {
                if critical {
                    return Err(Malformed("its authority key identifier is critical"));
                }
                let what = "its authority key identifier is broken";
                let mut inner = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), what)?);
                if inner.peek() == Some(Tag::context(0)) {
                    self.authority_key_id = Some(need(inner.read(Tag::context(0)), what)?.to_vec());
                }
            }
            36 => {
                let what = "its policy constraints are broken";
                let mut inner = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), what)?);
                let mut number = |id| match inner.peek() {
                    Some(tag) if tag == Tag::context(id) => {
                        let content = need(inner.read(Tag::context(id)), what)?;
                        need(der::signed(content), what).map(Some)
                    }
                    _ => Ok(None),
                };
                // A negative one counts for nothing.
                let counted = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
                self.policies.require_explicit = counted(number(0)?);
                self.policies.inhibit_mapping = counted(number(1)?);
            }
            37 => {
                let what = "its extended key usage is broken";
                let mut list = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), what)?);
                while !list.is_empty() {
                    self.usages.push(need(list.read_oid(), what)?.to_vec());
                }
            }
            54 => {
                let what = "its inhibitAnyPolicy is broken";
                let mut reader = Reader::new(value);
                let content = need(reader.read(Tag::INTEGER), what)?;
                self.policies.inhibit_any = u64::try_from(need(der::signed(content), what)?).ok();
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn authority_info(&self, critical: bool, value: &[u8]) -> Parsed<bool> {
        let what = "its authority information access is broken";
        if critical {
            return Err(Malformed("its authority information access is critical"));
        }
        let mut list = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), what)?);
        while !list.is_empty() {
            let mut access = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
            need(access.read_oid(), what)?;
            if access.peek() == Some(Tag::context(6)) {
                need(access.read(Tag::context(6)), what)?;
            }
        }
        Ok(true)
    }

    fn name_constraints(&mut self, value: &[u8]) -> Parsed<bool> {
        let mut outer = Reader::new(value);
        let mut inner = Reader::new(need(outer.read(Tag::SEQUENCE), CONSTRAINTS)?);
        let mut part = |id| match inner.peek() {
            Some(tag) if tag == Tag::constructed(id) => need(inner.read(tag), CONSTRAINTS).map(Some),
            _ => Ok(None),
        };
        let (permitted, excluded) = (part(0)?, part(1)?);
        if !outer.is_empty() || !inner.is_empty() {
            return Err(Malformed(CONSTRAINTS));
        }
        if permitted.is_none_or(<[u8]>::is_empty) && excluded.is_none_or(<[u8]>::is_empty) {
            return Err(Malformed("its name constraints are empty"));
        }
        let mut handled = true;
        let mut constraints = Constraints::default();
        for (part, subtrees) in [(permitted, &mut constraints.permitted), (excluded, &mut constraints.excluded)] {
            let mut list = Reader::new(part.unwrap_or_default());
            while !list.is_empty() {
                let mut subtree = Reader::new(need(list.read(Tag::SEQUENCE), CONSTRAINTS)?);
                let (tag, value) = need(subtree.read_any(), CONSTRAINTS)?;
                match subtree_of(tag, value)? {
                    Some(subtree) => subtrees.push(subtree),
                    None => handled = false,
                }
            }
        }
        self.constraints = Some(constraints);
        Ok(handled)
    }
}

const BASIC: &str = "its basic constraints are broken";
const CONSTRAINTS: &str = "its name constraints are broken";
const MAPPINGS: &str = "its policy mappings are broken";
const NAMES: &str = "its alternative names are broken";

fn version(tbs: &mut Reader<'_>) -> Parsed<u8> {
    if tbs.peek() != Some(Tag::constructed(0)) {
        return Ok(1);
    }
    let what = "its version is broken";
    let mut inner = Reader::new(need(tbs.read(Tag::constructed(0)), what)?);
    let number = need(inner.read(Tag::INTEGER).and_then(der::signed), what)?;
    match number {
        0..=2 if inner.is_empty() => Ok(number as u8 + 1),
        _ => Err(Malformed(what)),
    }
}

fn algorithm_identifier(content: &[u8]) -> Parsed<(&[u8], &[u8])> {
    let what = "an algorithm is broken";
    let mut inner = Reader::new(content);
    let id = need(inner.read_oid(), what)?;
    let parameters = inner.rest();
    if !parameters.is_empty() {
        let whole = need(inner.read_any_whole(), what)?;
        return Ok((id, whole));
    }
    Ok((id, parameters))
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
                return Err(Malformed(what));
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

/// What a SubjectPublicKeyInfo in DER holds: what the key is, and its bits.
pub(super) fn public_key(spki: &[u8]) -> Parsed<(Key, Vec<u8>)> {
    let what = "its public key is broken";
    let mut inner = Reader::new(need(Reader::new(spki).read(Tag::SEQUENCE), what)?);
    let (id, parameters) = algorithm_identifier(need(inner.read(Tag::SEQUENCE), what)?)?;
    let bits = need(inner.read_bits(), what)?;
    let key = match id {
        RSA => {
            if parameters != [0x05, 0x00] {
                return Err(Malformed("its RSA key lacks its NULL parameters"));
            }
            let mut key = Reader::new(need(Reader::new(&bits).read(Tag::SEQUENCE), what)?);
            let modulus = need(key.read(Tag::INTEGER).filter(|number| der::is_positive(number)), what)?;
            let exponent = need(key.read(Tag::INTEGER).and_then(der::signed).filter(|number| *number > 0), what)?;
            let _ = exponent;
            Key::Rsa { bits: der::bit_length(modulus) }
        }
        ECDSA => {
            let curve = need(Reader::new(parameters).read_oid(), what)?;
            let known = CURVES.iter().find(|(id, ..)| *id == curve);
            let (_, curve, octets) = need(known, "its curve is one that Go doesn't know")?;
            if bits.first() != Some(&4) || bits.len() != 1 + 2 * octets || !is_on_curve(*curve, &bits) {
                return Err(Malformed(what));
            }
            Key::Ecdsa(*curve)
        }
        ED25519 if parameters.is_empty() && bits.len() == 32 => Key::Ed25519,
        ED25519 => return Err(Malformed(what)),
        DSA => {
            let mut numbers = Reader::new(need(Reader::new(parameters).read(Tag::SEQUENCE), what)?);
            for number in
                [Reader::new(&bits).read(Tag::INTEGER)].into_iter().chain([(); 3].map(|()| numbers.read(Tag::INTEGER)))
            {
                need(number.filter(|number| der::is_positive(number)), what)?;
            }
            Key::Dsa
        }
        _ => Key::Other,
    };
    Ok((key, bits))
}

/// Whether a point is one of its curve; of P-224 it can't be told here.
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

fn ia5(value: &[u8], what: &'static str) -> Parsed<String> {
    if value.is_ascii() { Ok(String::from_utf8_lossy(value).into_owned()) } else { Err(Malformed(what)) }
}

fn alternative_names(value: &[u8]) -> Parsed<Vec<Name>> {
    let mut list = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), NAMES)?);
    let mut names = Vec::new();
    while !list.is_empty() {
        let (tag, value) = need(list.read_any(), NAMES)?;
        match tag {
            tag if tag == Tag::context(1) => names.push(Name::Email(ia5(value, NAMES)?)),
            tag if tag == Tag::context(2) => names.push(Name::Dns(ia5(value, NAMES)?)),
            tag if tag == Tag::context(6) => names.push(Name::Uri(host(&ia5(value, NAMES)?)?)),
            tag if tag == Tag::context(7) => names.push(Name::Ip(need(address(value), NAMES)?)),
            _ => {}
        }
    }
    Ok(names)
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(octets).ok().map(Into::into),
        _ => None,
    }
}

/// The host of a URI, which must be a domain for Go.
fn host(uri: &str) -> Parsed<Option<String>> {
    let host = uri_host(uri).map_err(|()| Malformed(NAMES))?;
    match host {
        Some(host) if !is_domain(&host, false) => Err(Malformed(NAMES)),
        host => Ok(host.map(|host| String::from_utf8_lossy(&host).into_owned())),
    }
}

fn subtree_of(tag: Tag, value: &[u8]) -> Parsed<Option<Subtree>> {
    let domain = || {
        let text = ia5(value, CONSTRAINTS)?;
        if is_domain(text.as_bytes(), true) { Ok(text) } else { Err(Malformed(CONSTRAINTS)) }
    };
    Ok(match tag {
        tag if tag == Tag::context(1) => {
            let text = ia5(value, CONSTRAINTS)?;
            let fits = if text.contains('@') { mailbox(&text).is_some() } else { is_domain(text.as_bytes(), true) };
            if !fits {
                return Err(Malformed(CONSTRAINTS));
            }
            Some(Subtree::Email(text))
        }
        tag if tag == Tag::context(2) => Some(Subtree::Dns(domain()?)),
        tag if tag == Tag::context(6) => {
            let text = domain()?;
            if text.parse::<IpAddr>().is_ok() {
                return Err(Malformed(CONSTRAINTS));
            }
            Some(Subtree::Uri(text))
        }
        tag if tag == Tag::context(7) => {
            if !matches!(value.len(), 8 | 32) {
                return Err(Malformed(CONSTRAINTS));
            }
            let (octets, mask) = value.split_at(value.len() / 2);
            let ones: u32 = mask.iter().map(|octet| octet.leading_ones()).take_while(|ones| *ones > 0).sum();
            let set: u32 = mask.iter().map(|octet| octet.count_ones()).sum();
            let address = need(address(octets), CONSTRAINTS)?;
            if set != ones || !is_mask(mask) {
                return Err(Malformed(CONSTRAINTS));
            }
            Some(Subtree::Ip { address, prefix: set as u8 })
        }
        _ => None,
    })
}

/// Ones, and then zeros only.
fn is_mask(mask: &[u8]) -> bool {
    let bits = mask.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1));
    bits.skip_while(|bit| *bit).all(|bit| !bit)
}

fn distribution_points(value: &[u8]) -> Parsed<()> {
    let what = "its CRL distribution points are broken";
    let mut list = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), what)?);
    while !list.is_empty() {
        let mut point = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
        if point.peek() == Some(Tag::constructed(0)) {
            let mut name = Reader::new(need(point.read(Tag::constructed(0)), what)?);
            need(name.read(Tag::constructed(0)), what)?;
        }
    }
    Ok(())
}

fn policies(value: &[u8]) -> Parsed<Vec<Vec<u8>>> {
    let what = "its certificate policies are broken";
    let mut list = Reader::new(need(Reader::new(value).read(Tag::SEQUENCE), what)?);
    let (mut ids, mut seen) = (Vec::new(), BTreeSet::new());
    while !list.is_empty() {
        let mut policy = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
        let id = need(policy.read_long_oid(), what)?;
        if !seen.insert(id) {
            return Err(Malformed(what));
        }
        ids.push(id.to_vec());
    }
    Ok(ids)
}
