//! The extensions of a certificate (RFC 5280, 4.2) that Go's crypto/x509 handles, read as strictly.
//!
//! Not here: what they mean for a chain ([`super::chain`], [`super::policies`]).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::constraints::{Constraints, Subtree};
use super::der::{self, Parsed, Reader, Tag, broken, need};
use super::names::{Name, is_domain, mailbox, uri_host};

/// What a certificate's extensions say.
#[derive(Clone, Debug, Default)]
pub struct Extensions {
    /// The alternative names, as they are written and as they are understood.
    pub san: Option<Vec<u8>>,
    pub names: Vec<Name>,
    /// Whether it says that it is a CA, where it says anything of that.
    pub ca: Option<bool>,
    pub path_length: Option<u64>,
    pub signing: Signing,
    /// DER of the OIDs of its extended key usages.
    pub usages: Vec<Vec<u8>>,
    pub constraints: Option<Constraints>,
    pub policies: Policies,
    pub subject_key_id: Option<Vec<u8>>,
    pub authority_key_id: Option<Vec<u8>>,
    /// The OIDs of critical extensions that Go doesn't handle.
    pub unhandled: Vec<Vec<u8>>,
}

/// Whether the key usage, where there is one, allows to sign certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    #[default]
    Allowed,
    Forbidden,
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

/// Whether Go acts on what an extension says. A critical one that it doesn't act on makes a chain fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handling {
    Handled,
    PassedOver,
}

type Read = fn(&mut Extensions, &[u8]) -> Parsed<Handling>;

const AUTHORITY_INFO: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x01, 0x01];

/// The extensions that Go handles, by DER of their OIDs; and what it finds broken where it must not be critical.
const HANDLED: [(&[u8], Read, Option<&str>); 13] = [
    (AUTHORITY_INFO, |_, value| authority_info(value), Some("its authority information access is critical")),
    (&[0x55, 0x1d, 14], subject_key_id, Some("its subject key identifier is critical")),
    (&[0x55, 0x1d, 15], key_usage, None),
    (&[0x55, 0x1d, 17], alternative_names, None),
    (&[0x55, 0x1d, 19], basic_constraints, None),
    (&[0x55, 0x1d, 30], name_constraints, None),
    (&[0x55, 0x1d, 31], |_, value| distribution_points(value), None),
    (&[0x55, 0x1d, 32], policy_ids, None),
    (&[0x55, 0x1d, 33], policy_mappings, None),
    (&[0x55, 0x1d, 35], authority_key_id, Some("its authority key identifier is critical")),
    (&[0x55, 0x1d, 36], policy_constraints, None),
    (&[0x55, 0x1d, 37], extended_key_usage, None),
    (&[0x55, 0x1d, 54], inhibit_any_policy, None),
];
const BASIC: &str = "its basic constraints are broken";
const CONSTRAINTS: &str = "its name constraints are broken";
const NAMES: &str = "its alternative names are broken";

impl Extensions {
    /// Reads a list of extensions: all of them before any is understood.
    pub fn parse(list: &[u8]) -> Parsed<Self> {
        let what = "an extension is broken";
        let mut list = Reader::sequence(list, "its extensions are broken")?;
        let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
        while !list.is_empty() {
            let mut extension = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
            let id = need(extension.read_oid(), what)?;
            let is_critical = extension.peek() == Some(Tag::BOOLEAN) && need(extension.read_boolean(), what)?;
            let value = need(extension.read(Tag::OCTET_STRING), what)?;
            if !seen.insert(id) {
                return broken("it has a duplicate extension");
            }
            found.push((id, is_critical, value));
        }
        let mut extensions = Self::default();
        for (id, is_critical, value) in found {
            let handling = match HANDLED.iter().find(|(handled, ..)| *handled == id) {
                Some((.., Some(why))) if is_critical => return broken(why),
                Some((_, read, _)) => read(&mut extensions, value)?,
                None => Handling::PassedOver,
            };
            if is_critical && handling == Handling::PassedOver {
                extensions.unhandled.push(id.to_vec());
            }
        }
        Ok(extensions)
    }
}

fn authority_info(value: &[u8]) -> Parsed<Handling> {
    let what = "its authority information access is broken";
    let mut list = Reader::sequence(value, what)?;
    while !list.is_empty() {
        let mut access = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
        need(access.read_oid(), what)?;
        access.read_optional(Tag::context(6), what)?;
    }
    Ok(Handling::Handled)
}

fn subject_key_id(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let id = need(Reader::new(value).read(Tag::OCTET_STRING), "its subject key identifier is broken")?;
    extensions.subject_key_id = Some(id.to_vec());
    Ok(Handling::Handled)
}

fn key_usage(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let bits = need(Reader::new(value).read_bit_string(), "its key usage is broken")?;
    // None set counts as none stated.
    let stated = (0..9).any(|bit| bits.is_set(bit));
    extensions.signing = if stated && !bits.is_set(5) { Signing::Forbidden } else { Signing::Allowed };
    Ok(Handling::Handled)
}

fn alternative_names(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let mut list = Reader::sequence(value, NAMES)?;
    while !list.is_empty() {
        let (tag, value) = need(list.read_any(), NAMES)?;
        extensions.names.extend(match tag {
            tag if tag == Tag::context(1) => Some(Name::Email(ia5(value, NAMES)?)),
            tag if tag == Tag::context(2) => Some(Name::Dns(ia5(value, NAMES)?)),
            tag if tag == Tag::context(6) => Some(Name::Uri(host(&ia5(value, NAMES)?)?)),
            tag if tag == Tag::context(7) => Some(Name::Ip(need(address(value), NAMES)?)),
            _ => None,
        });
    }
    extensions.san = Some(value.to_vec());
    Ok(if extensions.names.is_empty() { Handling::PassedOver } else { Handling::Handled })
}

fn basic_constraints(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let mut inner = Reader::sequence(value, BASIC)?;
    extensions.ca = Some(match inner.peek() {
        Some(Tag::BOOLEAN) => need(inner.read_boolean(), BASIC)?,
        _ => false,
    });
    if let Some(length) = inner.read_optional(Tag::INTEGER, BASIC)? {
        let length = der::signed(length).and_then(|length| u64::try_from(length).ok());
        extensions.path_length = Some(need(length, BASIC)?);
    }
    Ok(Handling::Handled)
}

fn name_constraints(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let mut outer = Reader::new(value);
    let mut inner = Reader::new(need(outer.read(Tag::SEQUENCE), CONSTRAINTS)?);
    let mut part = |id| inner.read_optional(Tag::constructed(id), CONSTRAINTS).map(Option::unwrap_or_default);
    let (permitted, excluded) = (part(0)?, part(1)?);
    if !outer.is_empty() || !inner.is_empty() {
        return broken(CONSTRAINTS);
    }
    if permitted.is_empty() && excluded.is_empty() {
        return broken("its name constraints are empty");
    }
    let (permitted, excluded) = (subtrees(permitted)?, subtrees(excluded)?);
    let known = permitted.iter().chain(&excluded).all(Option::is_some);
    let [permitted, excluded] = [permitted, excluded].map(|side| side.into_iter().flatten().collect());
    extensions.constraints = Some(Constraints { permitted, excluded });
    Ok(if known { Handling::Handled } else { Handling::PassedOver })
}

/// The subtrees of one side; none for each of a kind that Go doesn't know.
fn subtrees(list: &[u8]) -> Parsed<Vec<Option<Subtree>>> {
    let (mut list, mut subtrees) = (Reader::new(list), Vec::new());
    while !list.is_empty() {
        let mut subtree = Reader::new(need(list.read(Tag::SEQUENCE), CONSTRAINTS)?);
        let (tag, value) = need(subtree.read_any(), CONSTRAINTS)?;
        subtrees.push(subtree_of(tag, value)?);
    }
    Ok(subtrees)
}

fn subtree_of(tag: Tag, value: &[u8]) -> Parsed<Option<Subtree>> {
    Ok(match tag {
        tag if tag == Tag::context(1) => Some(Subtree::Email(mailboxes(value)?)),
        tag if tag == Tag::context(2) => Some(Subtree::Dns(domain(value)?)),
        tag if tag == Tag::context(6) => {
            let domain = domain(value)?;
            if domain.parse::<IpAddr>().is_ok() {
                return broken(CONSTRAINTS);
            }
            Some(Subtree::Uri(domain))
        }
        tag if tag == Tag::context(7) => Some(net(value)?),
        _ => None,
    })
}

fn domain(value: &[u8]) -> Parsed<String> {
    let text = ia5(value, CONSTRAINTS)?;
    if is_domain(text.as_bytes(), true) { Ok(text) } else { broken(CONSTRAINTS) }
}

/// One mailbox, or a domain of mailboxes.
fn mailboxes(value: &[u8]) -> Parsed<String> {
    let text = ia5(value, CONSTRAINTS)?;
    if !text.contains('@') {
        return domain(value);
    }
    if mailbox(&text).is_some() { Ok(text) } else { broken(CONSTRAINTS) }
}

/// An address and a mask behind it: ones, and then zeros only.
fn net(value: &[u8]) -> Parsed<Subtree> {
    let (octets, mask) = value.split_at(value.len() / 2);
    let address = need(address(octets).filter(|_| octets.len() == mask.len()), CONSTRAINTS)?;
    let bits = mask.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1));
    if !bits.skip_while(|bit| *bit).all(|bit| !bit) {
        return broken(CONSTRAINTS);
    }
    let prefix = mask.iter().map(|octet| octet.count_ones() as u8).sum();
    Ok(Subtree::Ip { address, prefix })
}

fn distribution_points(value: &[u8]) -> Parsed<Handling> {
    let what = "its CRL distribution points are broken";
    let mut list = Reader::sequence(value, what)?;
    while !list.is_empty() {
        let mut point = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
        if let Some(name) = point.read_optional(Tag::constructed(0), what)? {
            need(Reader::new(name).read(Tag::constructed(0)), what)?;
        }
    }
    Ok(Handling::Handled)
}

fn policy_ids(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let what = "its certificate policies are broken";
    let (mut list, mut seen) = (Reader::sequence(value, what)?, BTreeSet::new());
    while !list.is_empty() {
        let mut policy = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
        let id = need(policy.read_long_oid(), what)?;
        if !seen.insert(id) {
            return broken(what);
        }
        extensions.policies.ids.push(id.to_vec());
    }
    Ok(Handling::Handled)
}

fn policy_mappings(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let what = "its policy mappings are broken";
    let mut list = Reader::sequence(value, what)?;
    while !list.is_empty() {
        let mut pair = Reader::new(need(list.read(Tag::SEQUENCE), what)?);
        let mut id = || need(pair.read(Tag::OID), what).map(<[u8]>::to_vec);
        extensions.policies.mappings.push((id()?, id()?));
    }
    Ok(Handling::Handled)
}

fn authority_key_id(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let what = "its authority key identifier is broken";
    let id = Reader::sequence(value, what)?.read_optional(Tag::context(0), what)?;
    extensions.authority_key_id = id.map(<[u8]>::to_vec);
    Ok(Handling::Handled)
}

fn policy_constraints(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let what = "its policy constraints are broken";
    let mut inner = Reader::sequence(value, what)?;
    // A negative one counts for nothing.
    let mut number = |id| match inner.read_optional(Tag::context(id), what)? {
        Some(number) => need(der::signed(number), what).map(|number| u64::try_from(number).ok()),
        None => Ok(None),
    };
    extensions.policies.require_explicit = number(0)?;
    extensions.policies.inhibit_mapping = number(1)?;
    Ok(Handling::Handled)
}

fn extended_key_usage(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let what = "its extended key usage is broken";
    let mut list = Reader::sequence(value, what)?;
    while !list.is_empty() {
        extensions.usages.push(need(list.read_oid(), what)?.to_vec());
    }
    Ok(Handling::Handled)
}

fn inhibit_any_policy(extensions: &mut Extensions, value: &[u8]) -> Parsed<Handling> {
    let what = "its inhibitAnyPolicy is broken";
    let number = need(Reader::new(value).read(Tag::INTEGER).and_then(der::signed), what)?;
    extensions.policies.inhibit_any = u64::try_from(number).ok();
    Ok(Handling::Handled)
}

fn ia5(value: &[u8], what: &'static str) -> Parsed<String> {
    if value.is_ascii() { Ok(String::from_utf8_lossy(value).into_owned()) } else { broken(what) }
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
    match uri_host(uri) {
        Ok(Some(host)) if is_domain(&host, false) => Ok(Some(String::from_utf8_lossy(&host).into_owned())),
        Ok(None) => Ok(None),
        _ => broken(NAMES),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::gox509::der::Malformed;
    use crate::pki::gox509::der::tests::element;

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        element(Tag::SEQUENCE, &parts.concat())
    }

    #[derive(PartialEq, Eq)]
    enum Criticality {
        Critical,
        Plain,
    }

    /// One extension of id-ce, by its number.
    fn one(number: u8, criticality: Criticality, value: &[u8]) -> Vec<u8> {
        let critical: &[u8] = if criticality == Criticality::Critical { &[1, 1, 0xff] } else { &[] };
        sequence(&[&[6, 3, 0x55, 0x1d, number], critical, &element(Tag::OCTET_STRING, value)])
    }

    fn read(number: u8, value: &[u8]) -> Parsed<Extensions> {
        Extensions::parse(&sequence(&[&one(number, Criticality::Plain, value)]))
    }

    fn why(number: u8, criticality: Criticality, value: &[u8]) -> Option<&'static str> {
        Extensions::parse(&sequence(&[&one(number, criticality, value)])).err().map(|Malformed(why)| why)
    }

    #[test]
    fn what_go_does_not_handle_is_listed_where_it_is_critical() {
        let of = |number, criticality, value: &[u8]| {
            Extensions::parse(&sequence(&[&one(number, criticality, value)])).unwrap().unhandled.len()
        };
        assert_eq!(of(99, Criticality::Critical, &[]), 1);
        assert_eq!(of(99, Criticality::Plain, &[]), 0);
        assert_eq!(of(15, Criticality::Critical, &[3, 2, 5, 0x20]), 0);
        // Names of no kind that Go knows.
        assert_eq!(of(17, Criticality::Critical, &sequence(&[&[0x88, 1, 0x2a]])), 1);
        let registered = sequence(&[&element(Tag::constructed(0), &sequence(&[&[0x88, 1, 0x2a]]))]);
        assert_eq!(of(30, Criticality::Critical, &registered), 1);
    }

    #[test]
    fn an_extension_is_there_once_and_whole() {
        let usage = one(15, Criticality::Plain, &[3, 2, 5, 0x20]);
        let twice = Extensions::parse(&sequence(&[&usage, &usage]));
        assert_eq!(twice.unwrap_err(), Malformed("it has a duplicate extension"));
        for broken in [&[][..], &[0x30, 2, 6, 0], &[0x30, 3, 0x30, 1, 6]] {
            assert!(Extensions::parse(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn each_kind_is_reported_that_it_is_broken() {
        use Criticality::{Critical, Plain};
        let two: Vec<u8> = sequence(&[&sequence(&[&[6, 1, 1]]), &sequence(&[&[6, 1, 1]])]);
        let host = sequence(&[&element(Tag::context(6), b"https://a b/")]);
        let empty_constraints = sequence(&[]);
        let net = sequence(&[&element(Tag::constructed(0), &sequence(&[&element(Tag::context(7), &[1; 8])]))]);
        for (number, criticality, value, expected) in [
            (14, Critical, &[4, 1, 1][..], "its subject key identifier is critical"),
            (14, Plain, &[5, 0], "its subject key identifier is broken"),
            (15, Plain, &[5, 0], "its key usage is broken"),
            (17, Plain, &host, NAMES),
            (17, Plain, &sequence(&[&element(Tag::context(1), "\u{e9}".as_bytes())]), NAMES),
            (17, Plain, &sequence(&[&element(Tag::context(7), &[1, 2, 3])]), NAMES),
            (19, Plain, &sequence(&[&[1, 1, 7]]), BASIC),
            (19, Plain, &sequence(&[&[2, 1, 0xff]]), BASIC),
            (30, Plain, &empty_constraints, "its name constraints are empty"),
            (30, Plain, &net, CONSTRAINTS),
            (31, Plain, &sequence(&[&[5, 0]]), "its CRL distribution points are broken"),
            (32, Plain, &two, "its certificate policies are broken"),
            (33, Plain, &sequence(&[&sequence(&[&[6, 1, 1]])]), "its policy mappings are broken"),
            (35, Critical, &sequence(&[]), "its authority key identifier is critical"),
            (35, Plain, &[5, 0], "its authority key identifier is broken"),
            (36, Plain, &sequence(&[&[0x80, 0]]), "its policy constraints are broken"),
            (37, Plain, &sequence(&[&[5, 0]]), "its extended key usage is broken"),
            (54, Plain, &[5, 0], "its inhibitAnyPolicy is broken"),
        ] {
            assert_eq!(why(number, criticality, value), Some(expected), "{number} {value:?}");
        }
        let info = sequence(&[&[6, 8, 0x2b, 6, 1, 5, 5, 7, 1, 1], &[1, 1, 0xff], &[4, 2, 0x30, 0]]);
        let critical = Extensions::parse(&sequence(&[&info])).unwrap_err();
        assert_eq!(critical, Malformed("its authority information access is critical"));
    }

    #[test]
    fn what_they_say_is_read() {
        assert_eq!(read(15, &[3, 2, 7, 0x80]).unwrap().signing, Signing::Forbidden);
        assert_eq!(read(15, &[3, 2, 2, 0x04]).unwrap().signing, Signing::Allowed);
        assert_eq!(read(15, &[3, 1, 0]).unwrap().signing, Signing::Allowed);
        let basic = read(19, &sequence(&[&[1, 1, 0xff], &[2, 1, 3]])).unwrap();
        assert_eq!((basic.ca, basic.path_length), (Some(true), Some(3)));
        assert_eq!(read(19, &sequence(&[])).unwrap().ca, Some(false));
        let names =
            [element(Tag::context(2), b"a.b"), element(Tag::context(6), b"urn:x"), element(Tag::context(7), &[1; 4])];
        let names = read(17, &sequence(&[&names.concat()])).unwrap().names;
        assert_eq!(names, [Name::Dns("a.b".into()), Name::Uri(None), Name::Ip([1, 1, 1, 1].into())]);
        let limits = read(36, &sequence(&[&[0x80, 1, 2], &[0x81, 1, 0xff]])).unwrap().policies;
        assert_eq!((limits.require_explicit, limits.inhibit_mapping), (Some(2), None));
        let key = read(35, &sequence(&[&[0x80, 2, 7, 8]])).unwrap();
        assert_eq!(key.authority_key_id, Some(vec![7, 8]));
    }

    #[test]
    fn subtrees_are_those_that_go_takes() {
        let of = |kind: u8, text: &[u8]| {
            let subtree = sequence(&[&element(Tag::context(kind), text)]);
            let read = read(30, &sequence(&[&element(Tag::constructed(1), &subtree)]));
            read.map(|read| read.constraints.unwrap().excluded.remove(0)).ok()
        };
        assert_eq!(of(1, b"a@b.c"), Some(Subtree::Email("a@b.c".into())));
        assert_eq!(of(1, b".b.c"), Some(Subtree::Email(".b.c".into())));
        assert_eq!((of(1, b"@b.c"), of(1, b"a..b"), of(2, b"a..b"), of(6, b"10.0.0.1")), (None, None, None, None));
        assert_eq!(of(6, b".b.c"), Some(Subtree::Uri(".b.c".into())));
        let address = [10, 0, 0, 0].into();
        assert_eq!(of(7, &[10, 0, 0, 0, 0xff, 0xf0, 0, 0]), Some(Subtree::Ip { address, prefix: 12 }));
        assert_eq!((of(7, &[10, 0, 0, 0, 0xff, 0x0f, 0, 0]), of(7, &[10, 0, 0, 0, 0xff])), (None, None));
    }
}
