//! The cluster gateway's verdict on an agent's certificate, foretold: Go's `x509.Certificate.Verify` as the gateway of
//! OpenChoreo v0.15 and later calls it, with the CA of a plane as its roots.
//!
//! A pure function of what the agent presents, the plane's CA and the time. What can't be judged here is unknown.

use std::collections::BTreeSet;
use std::net::IpAddr;

use aws_lc_rs::signature::{self, ParsedPublicKey, VerificationAlgorithm};
use jiff::Timestamp;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Name};

use super::link::{Curve, Key, Link, Name, Subtree, mailbox};
use super::{pem, policies};

/// Whether the gateway would let the agent in.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Authorized {
        /// When it will no longer be, by itself; none where that lies beyond all dates.
        until: Option<Timestamp>,
    },
    Refused(Refusal),
    /// It hangs on something that can't be judged here.
    Unknown(String),
}

/// Why the gateway would not.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub reason: Reason,
    /// In a sentence, with the certificate that it is about.
    pub message: String,
}

/// The rule that isn't met. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
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

/// How many candidates Go looks at before it gives up.
const CANDIDATES: usize = 100;
/// The largest RSA key that a TLS handshake takes, in bits.
const LARGEST_KEY: usize = 8192;
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// The verdict for what an agent presents, its own certificate first, as DER; `ca` is the plane's CA as it stands there.
pub fn verify(presented: &[Vec<u8>], ca: &str, at: Timestamp) -> Verdict {
    let mut links = Vec::new();
    for (index, der) in presented.iter().enumerate() {
        match Link::parse(der) {
            Ok(link) => links.push(link),
            Err(why) => {
                let which = if index == 0 {
                    "the agent's certificate".to_owned()
                } else {
                    format!("certificate {}", index + 1)
                };
                return refused(Reason::Unparsable, format!("{which} can't be parsed: {}", why.0));
            }
        }
    }
    let Some((leaf, intermediates)) = links.split_first() else {
        return refused(Reason::Unparsable, "the agent presents no certificate".into());
    };
    if let Key::Rsa { bits } = leaf.key
        && bits > LARGEST_KEY
    {
        return refused(
            Reason::KeyTooLarge,
            format!("the agent's RSA key has {bits} bits, and {LARGEST_KEY} is the most"),
        );
    }
    if leaf.key == Key::Other {
        return refused(Reason::UnsupportedKey, format!("{} has a key of a kind that TLS can't use here", named(leaf)));
    }
    let mut roots: Vec<Link> = pem::certificates(ca).iter().filter_map(|der| Link::parse(der).ok()).collect();
    let mut seen = BTreeSet::new();
    roots.retain(|root| seen.insert(root.der.clone()));
    if roots.is_empty() {
        return refused(Reason::NoCa, "the plane's CA holds no certificate that can be parsed".into());
    }
    let judge = |at| Chains { roots: &roots, intermediates, at, candidates: 0, unknown: None }.judge(leaf);
    match judge(at) {
        Ok(()) => Verdict::Authorized { until: until(&links, &roots, at, |at| judge(at).is_ok()) },
        Err(Fault::Refused(refusal)) => Verdict::Refused(explained(refusal, leaf, &roots)),
        Err(Fault::Unknown(why)) => Verdict::Unknown(why),
    }
}

/// Says of a plane that pins the agent's former certificate what has happened.
fn explained(mut refusal: Refusal, leaf: &Link, roots: &[Link]) -> Refusal {
    let former = |root: &&Link| root.subject == leaf.subject && root.ca != Some(true) && root.der != leaf.der;
    if let Some(former) = roots.iter().find(former) {
        refusal.message.push_str(&format!(
            "; the plane pins another certificate of the same name, from {}, and the agent's was renewed at {}",
            when(former.not_before),
            when(leaf.not_before)
        ));
    }
    refusal
}

fn refused(reason: Reason, message: String) -> Verdict {
    Verdict::Refused(Refusal { reason, message })
}

/// What a certificate can do as the CA of a plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Certificates that it issues are authorized.
    Issuer,
    /// It is authorized itself, and nothing else is.
    Itself,
}

/// Whether a certificate in a plane's CA lets any agent in at all, and which.
///
/// # Errors
/// The rule that keeps it from that.
pub fn trust(der: &[u8], at: Timestamp) -> Result<Trust, Refusal> {
    let refuse = |reason, message: &str| Err(Refusal { reason, message: message.to_owned() });
    let link = match Link::parse(der) {
        Ok(link) => link,
        Err(why) => return refuse(Reason::Unparsable, &format!("can't be parsed: {}", why.0)),
    };
    if is_past(link.not_after, at) {
        return refuse(Reason::Expired, &format!("has expired at {}", when(link.not_after)));
    }
    if at.as_second() < link.not_before {
        return refuse(Reason::NotYetValid, &format!("is valid only from {} on", when(link.not_before)));
    }
    if !link.unhandled.is_empty() {
        return refuse(Reason::CriticalExtension, "has a critical extension that the gateway doesn't know");
    }
    if misuse(&[&link]).is_some() {
        return refuse(Reason::Usage, "is not for client certificates, by its extended key usage");
    }
    if link.key == Key::Other {
        return refuse(Reason::UnknownAuthority, "has a key that the gateway can't verify anything with");
    }
    let issues = link.signs && link.ca.unwrap_or(link.version < 3);
    Ok(if issues { Trust::Issuer } else { Trust::Itself })
}

/// Whether one certificate signed another, by its name and its key; when, and whether it may, is not asked.
pub fn issued(child: &[u8], parent: &[u8]) -> bool {
    match (Link::parse(child), Link::parse(parent)) {
        (Ok(child), Ok(parent)) => child.issuer == parent.subject && signature(&child, &parent).is_ok(),
        _ => false,
    }
}

/// The last moment of the present verdict: it can change only where a certificate begins or ends.
fn until(links: &[Link], roots: &[Link], at: Timestamp, holds: impl Fn(Timestamp) -> bool) -> Option<Timestamp> {
    let all = links.iter().chain(roots);
    let changes: BTreeSet<i64> = all.flat_map(|link| [link.not_before, link.not_after.saturating_add(1)]).collect();
    let fails = |seconds: &&i64| Timestamp::from_second(**seconds).is_ok_and(|at| !holds(at));
    let change = changes.range(at.as_second() + 1..).find(fails)?;
    Timestamp::from_second(change - 1).ok()
}

/// Why there is no chain.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    Refused(Refusal),
    Unknown(String),
}

fn fault(reason: Reason, link: &Link, why: &str) -> Fault {
    Fault::Refused(Refusal { reason, message: format!("{} {why}", named(link)) })
}

/// A certificate by its subject.
fn named(link: &Link) -> String {
    let subject = X509Name::from_der(&link.subject).map(|(_, name)| name.to_string()).unwrap_or_default();
    let subject =
        if subject.is_empty() { "without a subject".into() } else { crate::term::visible(&subject).into_owned() };
    format!("the certificate {subject}")
}

/// What stands above a certificate in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leaf,
    Intermediate,
    Root,
}

/// The search for chains at one moment.
struct Chains<'a> {
    roots: &'a [Link],
    intermediates: &'a [Link],
    at: Timestamp,
    candidates: usize,
    /// What could not be judged, and might have made a chain.
    unknown: Option<String>,
}

type Chain<'a> = Vec<&'a Link>;

impl<'a> Chains<'a> {
    fn judge(mut self, leaf: &'a Link) -> Result<(), Fault> {
        self.valid(Role::Leaf, leaf, &[])?;
        // Where no chain that can be judged holds, one that can't be might.
        self.chain(leaf).map_err(|fault| self.unknown.map_or(fault, Fault::Unknown))
    }

    fn chain(&mut self, leaf: &'a Link) -> Result<(), Fault> {
        let chains =
            if self.roots.iter().any(|root| root.der == leaf.der) { vec![vec![leaf]] } else { self.build(&[leaf])? };
        // Of several chains one that holds is enough; the reason told is the most telling one.
        let (mut constrained, mut misused) = (None, None);
        let mut against_policy = false;
        for chain in &chains {
            if !policies::hold(chain) {
                against_policy = true;
            } else if let Some(link) = misuse(chain) {
                misused.get_or_insert(link);
            } else if let Some(fault) = against_constraints(chain) {
                constrained.get_or_insert(fault);
            } else {
                return Ok(());
            }
        }
        Err(match (constrained, misused) {
            (Some(constrained), _) => constrained,
            (None, Some(link)) if !against_policy => {
                fault(Reason::Usage, link, "may not be used for client authentication, by its extended key usage")
            }
            _ => fault(Reason::Policies, leaf, "has no chain whose certificate policies hold"),
        })
    }

    /// Every chain from the last certificate of `chain` to a root.
    fn build(&mut self, chain: &[&'a Link]) -> Result<Vec<Chain<'a>>, Fault> {
        let Some(child) = chain.last().copied() else {
            return Ok(Vec::new());
        };
        let (mut chains, mut last, mut hint) = (Vec::new(), None, None);
        let (roots, intermediates) = (self.roots, self.intermediates);
        let candidates = candidates(child, roots).map(|link| (Role::Root, link));
        for (role, parent) in
            candidates.chain(self::candidates(child, intermediates).map(|link| (Role::Intermediate, link)))
        {
            self.candidates += 1;
            if self.candidates > CANDIDATES {
                last = Some(fault(Reason::TooManyChecks, child, "has more possible issuers than the gateway tries"));
                break;
            }
            if parent.key == Key::Other || stands_in(chain, parent) {
                continue;
            }
            match signed_by(child, parent) {
                Ok(()) => {}
                Err(Fault::Unknown(why)) => {
                    self.unknown.get_or_insert(why);
                    continue;
                }
                Err(fault) => {
                    hint.get_or_insert(fault);
                    continue;
                }
            }
            last = match self.valid(role, parent, chain) {
                Err(fault) => {
                    hint.get_or_insert_with(|| fault.clone());
                    Some(fault)
                }
                Ok(()) => {
                    let longer = [chain, &[parent]].concat();
                    match role {
                        Role::Root => {
                            chains.push(longer);
                            None
                        }
                        _ => match self.build(&longer) {
                            Ok(found) => {
                                chains.extend(found);
                                None
                            }
                            Err(fault) => Some(fault),
                        },
                    }
                }
            };
        }
        if !chains.is_empty() {
            return Ok(chains);
        }
        Err(last
            .or_else(|| {
                hint.filter(
                    |hint| !matches!(hint, Fault::Refused(refusal) if refusal.reason == Reason::UnknownAuthority),
                )
            })
            .unwrap_or_else(|| fault(Reason::UnknownAuthority, child, "was not issued by a CA of this plane")))
    }

    /// Whether a certificate may stand above a chain.
    fn valid(&self, role: Role, link: &Link, chain: &[&Link]) -> Result<(), Fault> {
        if !link.unhandled.is_empty() {
            return Err(fault(Reason::CriticalExtension, link, "has a critical extension that Go doesn't know"));
        }
        if self.at.as_second() < link.not_before {
            return Err(fault(Reason::NotYetValid, link, &format!("is valid only from {} on", when(link.not_before))));
        }
        if is_past(link.not_after, self.at) {
            return Err(fault(Reason::Expired, link, &format!("has expired at {}", when(link.not_after))));
        }
        if role == Role::Intermediate && link.ca != Some(true) {
            return Err(fault(Reason::NotACa, link, "is no CA"));
        }
        let below = chain.len().saturating_sub(1) as u64;
        if link.ca.is_some() && link.path_length.is_some_and(|most| below > most) {
            return Err(fault(Reason::PathLength, link, "allows fewer CAs below it than there are"));
        }
        Ok(())
    }
}

/// Whether a second is over: its beginning is the last moment of it that counts.
fn is_past(seconds: i64, at: Timestamp) -> bool {
    at.as_second() > seconds || (at.as_second() == seconds && at.subsec_nanosecond() > 0)
}

fn when(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "a time beyond all dates".into(), |time| time.to_string())
}

/// Those that may have issued a certificate, by their name; the ones whose key identifier fits come first.
fn candidates<'a>(child: &Link, pool: &'a [Link]) -> impl Iterator<Item = &'a Link> {
    let mut found: Vec<_> = pool.iter().filter(|link| link.subject == child.issuer).collect();
    found.sort_by_key(|link| match (&link.subject_key_id, &child.authority_key_id) {
        (Some(own), Some(wanted)) if own == wanted => 0,
        (Some(_), Some(_)) => 2,
        _ => 1,
    });
    found.into_iter()
}

/// Whether the same subject with the same key and names stands in a chain already.
fn stands_in(chain: &[&Link], link: &Link) -> bool {
    let same = chain.iter().filter(|other| other.subject == link.subject && other.spki == link.spki);
    for other in same {
        match (&other.san, &link.san) {
            (None, None) => return true,
            (Some(other), Some(own)) if other == own => return true,
            (Some(_), Some(_)) => {}
            _ => return false,
        }
    }
    false
}

/// Whether a certificate was signed by another, which may sign.
fn signed_by(child: &Link, parent: &Link) -> Result<(), Fault> {
    if parent.ca == Some(false) || (parent.version == 3 && parent.ca.is_none()) {
        return Err(fault(Reason::NotACa, parent, "is no CA"));
    }
    if !parent.signs {
        return Err(fault(Reason::NotACa, parent, "may not sign certificates, by its key usage"));
    }
    signature(child, parent)
}

/// Whether a certificate's signature is that of another's key.
fn signature(child: &Link, parent: &Link) -> Result<(), Fault> {
    let unknown_authority = || fault(Reason::UnknownAuthority, child, "was not issued by a CA of this plane");
    match algorithm(&child.algorithm) {
        Algorithm::Insecure => {
            Err(fault(Reason::InsecureSignature, child, "is signed with MD5 or SHA-1, which the gateway rejects"))
        }
        Algorithm::Unknown => Err(unknown_authority()),
        Algorithm::Known(scheme, hash) => match verifier(scheme, hash, &parent.key) {
            Verifier::Never => Err(unknown_authority()),
            Verifier::Unsupported(what) => Err(Fault::Unknown(format!("{what} can't be verified here"))),
            Verifier::With(algorithm) => {
                let key = ParsedPublicKey::new(algorithm, &parent.public_key).ok();
                let holds = key.is_some_and(|key| key.verify_sig(&child.signed, &child.signature).is_ok());
                if holds { Ok(()) } else { Err(unknown_authority()) }
            }
        },
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

enum Algorithm {
    Known(Scheme, Hash),
    Insecure,
    Unknown,
}

/// What Go makes of a signature's AlgorithmIdentifier.
fn algorithm(identifier: &[u8]) -> Algorithm {
    use super::der::Reader;
    const PKCS1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let mut reader = Reader::new(identifier);
    let Some(id) = reader.read_oid() else {
        return Algorithm::Unknown;
    };
    if let Some([last]) = id.strip_prefix(PKCS1) {
        return match last {
            // MD2, MD5 and SHA-1.
            2 | 4 | 5 => Algorithm::Insecure,
            10 => pss(reader.rest()),
            11 => Algorithm::Known(Scheme::Pkcs1, Hash::Sha256),
            12 => Algorithm::Known(Scheme::Pkcs1, Hash::Sha384),
            13 => Algorithm::Known(Scheme::Pkcs1, Hash::Sha512),
            _ => Algorithm::Unknown,
        };
    }
    match id.strip_prefix(ECDSA) {
        Some([1]) => Algorithm::Insecure,
        Some([3, 2]) => Algorithm::Known(Scheme::Ecdsa, Hash::Sha256),
        Some([3, 3]) => Algorithm::Known(Scheme::Ecdsa, Hash::Sha384),
        Some([3, 4]) => Algorithm::Known(Scheme::Ecdsa, Hash::Sha512),
        _ if id == [0x2b, 0x65, 0x70] && reader.is_empty() => Algorithm::Known(Scheme::Ed25519, Hash::Own),
        // Another identifier of RSA with SHA-1.
        _ if id == [0x2b, 0x0e, 0x03, 0x02, 0x1d] => Algorithm::Insecure,
        _ => Algorithm::Unknown,
    }
}

/// RSASSA-PSS (RFC 4055, 3.1) of one of three kinds: a hash, the same in MGF1, and a salt of its length.
fn pss(parameters: &[u8]) -> Algorithm {
    use super::der::{Reader, Tag, signed};
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
        let salt = signed(Reader::new(list.read(Tag::constructed(2))?).read(Tag::INTEGER)?)?;
        let trailer = match list.peek() {
            Some(tag) if tag == Tag::constructed(3) => signed(Reader::new(list.read(tag)?).read(Tag::INTEGER)?)?,
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
            (Sha256, true) => With(&signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY),
            (Sha512, true) => With(&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY),
            (_, true) => Unsupported("SHA-384 with an RSA key of less than 2048 bits"),
            (Sha256, _) => With(&signature::RSA_PKCS1_2048_8192_SHA256),
            (Sha384, _) => With(&signature::RSA_PKCS1_2048_8192_SHA384),
            (Sha512, _) => With(&signature::RSA_PKCS1_2048_8192_SHA512),
            (Own, _) => Never,
        },
        (Scheme::Pss, Key::Rsa { bits }) => match hash {
            _ if *bits < 2048 => Unsupported("PSS with an RSA key of less than 2048 bits"),
            Sha256 => With(&signature::RSA_PSS_2048_8192_SHA256),
            Sha384 => With(&signature::RSA_PSS_2048_8192_SHA384),
            Sha512 => With(&signature::RSA_PSS_2048_8192_SHA512),
            Own => Never,
        },
        (Scheme::Ecdsa, Key::Ecdsa(curve)) => match (curve, hash) {
            (Curve::P224, _) => Unsupported("the curve P-224"),
            (Curve::P256, Sha256) => With(&signature::ECDSA_P256_SHA256_ASN1),
            (Curve::P256, Sha384) => With(&signature::ECDSA_P256_SHA384_ASN1),
            (Curve::P256, Sha512) => With(&signature::ECDSA_P256_SHA512_ASN1),
            (Curve::P384, Sha256) => With(&signature::ECDSA_P384_SHA256_ASN1),
            (Curve::P384, Sha384) => With(&signature::ECDSA_P384_SHA384_ASN1),
            (Curve::P384, Sha512) => With(&signature::ECDSA_P384_SHA512_ASN1),
            (Curve::P521, Sha256) => With(&signature::ECDSA_P521_SHA256_ASN1),
            (Curve::P521, Sha384) => With(&signature::ECDSA_P521_SHA384_ASN1),
            (Curve::P521, Sha512) => With(&signature::ECDSA_P521_SHA512_ASN1),
            (_, Own) => Never,
        },
        (Scheme::Ed25519, Key::Ed25519) => With(&signature::ED25519),
        _ => Never,
    }
}

/// The certificate, from the root down, by which a chain allows no client authentication. None stated allows any.
fn misuse<'a>(chain: &[&'a Link]) -> Option<&'a Link> {
    let allows = |link: &Link| {
        link.usages.is_empty() || link.usages.iter().any(|usage| usage == ANY_USAGE || usage == CLIENT_AUTH)
    };
    chain.iter().rev().find(|link| !allows(link)).copied()
}

/// A name in a chain that a CA above it doesn't allow (RFC 5280, 4.2.1.10).
fn against_constraints(chain: &[&Link]) -> Option<Fault> {
    for (index, link) in chain.iter().enumerate().filter(|(_, link)| link.san.is_some()) {
        for above in chain[index + 1..].iter() {
            let Some(constraints) = &above.constraints else {
                continue;
            };
            for name in &link.names {
                let permitted = permits(name, &constraints.permitted, true);
                let excluded = permits(name, &constraints.excluded, false);
                if permitted != Some(true) || excluded != Some(false) {
                    return Some(fault(Reason::NameConstraints, above, "doesn't allow a name of what is below it"));
                }
            }
        }
    }
    None
}

/// Whether a name lies in one of the subtrees of its kind; `otherwise` where there are none. None: it can't be told.
fn permits(name: &Name, subtrees: &[Subtree], otherwise: bool) -> Option<bool> {
    let domain_fits = |domain: &str, constraint: &str| in_domain(domain, constraint);
    let mut of_kind = false;
    let mut found = false;
    let whole = match name {
        Name::Dns(domain) => super::link::is_domain(domain, false).then_some(()),
        Name::Email(email) => mailbox(email).map(|_| ()),
        Name::Uri(host) => host.as_deref().filter(|host| plain_host(host).is_some()).map(|_| ()),
        Name::Ip(_) => Some(()),
    };
    for subtree in subtrees {
        let fits = match (name, subtree) {
            (Name::Dns(domain), Subtree::Dns(constraint)) => domain_fits(domain, constraint),
            (Name::Email(email), Subtree::Email(constraint)) => match (mailbox(email), mailbox(constraint)) {
                (Some((local, domain)), Some((wanted, at))) => local == wanted && domain.eq_ignore_ascii_case(at),
                (Some((_, domain)), None) => domain_fits(domain, constraint),
                _ => false,
            },
            (Name::Uri(Some(host)), Subtree::Uri(constraint)) => {
                plain_host(host).is_some_and(|host| domain_fits(host, constraint))
            }
            (Name::Ip(address), Subtree::Ip { address: net, prefix }) => match in_net(*address, *net, *prefix) {
                Some(fits) => fits,
                None => {
                    of_kind = true;
                    continue;
                }
            },
            (Name::Uri(None), Subtree::Uri(_)) => return None,
            _ => continue,
        };
        of_kind = true;
        found |= fits;
    }
    whole?;
    Some(if of_kind { found } else { otherwise })
}

/// A URI's host without its port; none for an address, which no constraint can be about.
fn plain_host(host: &str) -> Option<&str> {
    let plain = match host.rsplit_once(':') {
        Some((plain, port)) if port.bytes().all(|b| b.is_ascii_digit()) => plain,
        Some(_) => return None,
        None => host,
    };
    (plain.parse::<IpAddr>().is_err() && !plain.starts_with('[')).then_some(plain)
}

/// A domain is in itself and its parents; a constraint with a leading dot is about those below it only.
fn in_domain(domain: &str, constraint: &str) -> bool {
    let (domain, constraint) = (domain.to_ascii_lowercase(), constraint.to_ascii_lowercase());
    if constraint.is_empty() || domain == constraint {
        return true;
    }
    let suffix = if constraint.starts_with('.') { constraint } else { format!(".{constraint}") };
    domain.len() > suffix.len() && domain.ends_with(&suffix)
}

/// None where they are of different families.
fn in_net(address: IpAddr, net: IpAddr, prefix: u8) -> Option<bool> {
    let masked = |bits: u128, width: u32| bits.checked_shr(width - u32::from(prefix)).unwrap_or(0);
    match (address, net) {
        (IpAddr::V4(address), IpAddr::V4(net)) => {
            Some(masked(u128::from(address.to_bits()), 32) == masked(u128::from(net.to_bits()), 32))
        }
        (IpAddr::V6(address), IpAddr::V6(net)) => Some(masked(address.to_bits(), 128) == masked(net.to_bits(), 128)),
        _ => None,
    }
}
