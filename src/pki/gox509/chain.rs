//! The search for a chain from a certificate to a root, as Go's `x509.Certificate.Verify` makes it.
//!
//! What doesn't depend on the time is found once for a search at several moments: possible issuers, signatures, names,
//! and what is said of whole chains. Not modelled: the public intermediates that Go 1.26.10 and 1.27.3 refuse by their
//! keys (<https://go.dev/issue/82345>).

use std::collections::{BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;
use x509_parser::prelude::{FromDer as _, X509Name};

use super::constraints::{Index, Objection};
use super::extensions::Signing;
use super::key::Key;
use super::link::Link;
use super::policies;
use super::signature::{Check, signature};

/// How many candidates Go looks at before it gives up.
const CANDIDATES: usize = 100;
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0x00];

/// Why a certificate is not accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub reason: Reason,
    /// In a sentence, with the certificate that it is about.
    pub message: String,
}

/// The rule that isn't met. Its name is what scripts get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(test, derive(clap::ValueEnum))]
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

/// What a certificate is presented for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// The extended key usage that allows it, as DER of its OID.
    usage: &'static [u8],
    words: &'static str,
    /// Whose CA it is.
    authority: &'static str,
}

pub(super) const CLIENT: Purpose = Purpose {
    usage: &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02],
    words: "client authentication",
    authority: "this plane",
};
pub(super) const SERVER: Purpose = Purpose {
    usage: &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01],
    words: "server authentication",
    authority: "the gateway",
};

/// Why there is no chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fault {
    Refused(Refusal),
    Unknown(String),
}

pub(super) fn fault(reason: Reason, link: &Link, why: &str) -> Fault {
    Fault::Refused(Refusal { reason, message: format!("{} {why}", named(link)) })
}

/// A certificate by its subject.
pub(super) fn named(link: &Link) -> &str {
    link.title.get_or_init(|| {
        let subject = X509Name::from_der(&link.subject).map(|(_, name)| name.to_string()).unwrap_or_default();
        let subject = if subject.is_empty() { "without a subject".into() } else { crate::text::visible(&subject) };
        format!("the certificate {subject}")
    })
}

pub(super) fn when(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| "a time after the year 9999".into(), |time| time.to_string())
}

/// Whether a second is over: its beginning is the last moment of it that counts.
pub(super) fn is_past(seconds: i64, at: Timestamp) -> bool {
    at.as_second() > seconds || (at.as_second() == seconds && at.subsec_nanosecond() > 0)
}

/// Whether the extended key usage of a certificate allows a purpose. None stated allows any.
pub(super) fn allows(link: &Link, purpose: Purpose) -> bool {
    link.extensions.usages.is_empty()
        || link.extensions.usages.iter().any(|usage| usage == ANY_USAGE || usage == purpose.usage)
}

/// Where a certificate is in a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Leaf,
    Intermediate,
    Root,
}

/// Certificates by their subject. A certificate is its number.
type Pool<'l> = HashMap<&'l [u8], Vec<usize>>;

/// Numbers certificates, each once.
fn pool<'l>(links: &mut Vec<&'l Link>, all: &'l [Link]) -> Pool<'l> {
    let (mut pool, mut seen) = (Pool::new(), HashSet::new());
    for link in all.iter().filter(|link| seen.insert(&link.der)) {
        pool.entry(&link.subject).or_default().push(links.len());
        links.push(link);
    }
    pool
}

/// The leaf, what was presented with it, and the roots.
pub(super) struct Chains<'l> {
    /// The leaf is the first.
    links: Vec<&'l Link>,
    intermediates: Pool<'l>,
    roots: Pool<'l>,
    purpose: Purpose,
    leaf_is_root: bool,
    candidates: HashMap<usize, Vec<(Role, usize)>>,
    signatures: HashMap<(usize, usize), Result<(), Fault>>,
    indexes: HashMap<usize, Index>,
    objections: HashMap<(usize, usize), Option<Objection>>,
    /// What is wrong with a whole chain, whenever it is.
    wrongs: HashMap<Vec<usize>, Option<Wrong>>,
}

#[derive(Clone)]
enum Wrong {
    Policies,
    Usage(usize),
    Constraints(Fault),
}

/// A search at one moment.
#[derive(Default)]
struct Attempt {
    at: Timestamp,
    candidates: usize,
    /// What could not be judged, and might have made a chain.
    unknown: Option<String>,
    /// The certificates whose validity counted.
    consulted: BTreeSet<usize>,
}

impl<'l> Chains<'l> {
    /// Takes a leaf with what is presented beside it, and the roots. Each certificate counts once.
    pub fn new(leaf: &'l Link, beside: &'l [Link], roots: &'l [Link], purpose: Purpose) -> Self {
        let mut links = vec![leaf];
        Self {
            leaf_is_root: roots.iter().any(|root| leaf.der == root.der),
            intermediates: pool(&mut links, beside),
            roots: pool(&mut links, roots),
            links,
            purpose,
            candidates: HashMap::new(),
            signatures: HashMap::new(),
            indexes: HashMap::new(),
            objections: HashMap::new(),
            wrongs: HashMap::new(),
        }
    }

    /// Whether the leaf itself is valid at a moment, without its issuer.
    pub fn leaf_is_valid(&self, at: Timestamp) -> Result<(), Fault> {
        self.valid(Role::Leaf, 0, &[], &mut Attempt { at, ..Attempt::default() })
    }

    /// Whether there is a chain at a moment.
    pub fn judge(&mut self, at: Timestamp) -> Result<(), Fault> {
        self.attempt(at).0
    }

    /// The same, and the certificates whose validity counted.
    fn attempt(&mut self, at: Timestamp) -> (Result<(), Fault>, BTreeSet<usize>) {
        let mut attempt = Attempt { at, ..Attempt::default() };
        let found = self.valid(Role::Leaf, 0, &[], &mut attempt).and_then(|()| {
            let found = self.chain(&mut attempt);
            // Where no chain that can be judged holds, one that can't be might.
            found.map_err(|fault| attempt.unknown.take().map_or(fault, Fault::Unknown))
        });
        (found, attempt.consulted)
    }

    /// The last moment until which there is a chain, where there is one at `at`.
    ///
    /// The search can only come to another end where one of the certificates that it looked at begins or expires.
    pub fn until(&mut self, at: Timestamp) -> Option<Timestamp> {
        let (mut at, mut counted) = (at, self.attempt(at).1);
        loop {
            let links = counted.iter().map(|number| self.links[*number]);
            let changes = links.flat_map(|link| [link.not_before, link.not_after.saturating_add(1)]);
            let change = changes.filter(|change| *change > at.as_second()).min()?;
            at = Timestamp::from_second(change).ok()?;
            let (found, consulted) = self.attempt(at);
            if found.is_err() {
                return Timestamp::from_second(change - 1).ok();
            }
            counted = consulted;
        }
    }

    fn chain(&mut self, attempt: &mut Attempt) -> Result<(), Fault> {
        let chains = if self.leaf_is_root { vec![vec![0]] } else { self.build(&[0], attempt)? };
        // Of several chains one that holds is enough; the reason reported is the most specific one.
        let (mut constrained, mut misused, mut against_policy) = (None, None, false);
        for chain in &chains {
            match self.wrong(chain) {
                None => return Ok(()),
                Some(Wrong::Policies) => against_policy = true,
                Some(Wrong::Usage(link)) => _ = misused.get_or_insert(link),
                Some(Wrong::Constraints(fault)) => _ = constrained.get_or_insert(fault),
            }
        }
        Err(match (constrained, misused) {
            (Some(constrained), _) => constrained,
            (None, Some(link)) if !against_policy => {
                let why = format!("may not be used for {}, by its extended key usage", self.purpose.words);
                fault(Reason::Usage, self.links[link], &why)
            }
            _ => fault(Reason::Policies, self.links[0], "has no chain with valid certificate policies"),
        })
    }

    /// What is wrong with a chain: its policies, its usages and its names, in this order.
    fn wrong(&mut self, chain: &[usize]) -> Option<Wrong> {
        if let Some(known) = self.wrongs.get(chain) {
            return known.clone();
        }
        let links: Vec<&Link> = chain.iter().map(|number| self.links[*number]).collect();
        let wrong = if !policies::hold(&links) {
            Some(Wrong::Policies)
        } else if let Some(link) = chain.iter().rev().find(|number| !allows(self.links[**number], self.purpose)) {
            Some(Wrong::Usage(*link))
        } else {
            self.against_constraints(chain).map(Wrong::Constraints)
        };
        self.wrongs.insert(chain.to_vec(), wrong.clone());
        wrong
    }

    /// A name in a chain that a CA above it doesn't allow (RFC 5280, 4.2.1.10).
    fn against_constraints(&mut self, chain: &[usize]) -> Option<Fault> {
        for (place, number) in chain.iter().enumerate() {
            for above in &chain[place + 1..] {
                if let Some(objection) = self.objection(*number, *above) {
                    let mut why = format!("does not allow the name {} in a certificate below it", objection.name);
                    if let Some(releases) = objection.releases {
                        why.push_str(&format!(" (by {releases})"));
                    }
                    return Some(fault(Reason::NameConstraints, self.links[*above], &why));
                }
            }
        }
        None
    }

    fn objection(&mut self, number: usize, above: usize) -> Option<Objection> {
        if let Some(known) = self.objections.get(&(number, above)) {
            return known.clone();
        }
        let (link, constraints) = (self.links[number], self.links[above].extensions.constraints.as_ref()?);
        link.extensions.san.as_ref()?;
        let index = self.indexes.entry(above).or_insert_with(|| Index::new(constraints));
        let objection = index.objection(&link.extensions.names);
        self.objections.insert((number, above), objection.clone());
        objection
    }

    /// Every chain from the last certificate of `chain` to a root.
    fn build(&mut self, chain: &[usize], attempt: &mut Attempt) -> Result<Vec<Vec<usize>>, Fault> {
        let Some(child) = chain.last().copied() else {
            return Ok(Vec::new());
        };
        let (mut chains, mut last, mut hint) = (Vec::new(), None, None);
        for (role, parent) in self.candidates(child) {
            attempt.candidates += 1;
            if attempt.candidates > CANDIDATES {
                let why = "has more possible issuers than Go tries";
                last = Some(fault(Reason::TooManyChecks, self.links[child], why));
                break;
            }
            if self.links[parent].key == Key::Other || self.is_in(chain, parent) {
                continue;
            }
            match self.signed_by(child, parent) {
                Ok(()) => {}
                Err(Fault::Unknown(why)) => {
                    attempt.unknown.get_or_insert(why);
                    continue;
                }
                Err(fault) => {
                    hint.get_or_insert(fault);
                    continue;
                }
            }
            if let Err(fault) = self.valid(role, parent, chain, attempt) {
                hint.get_or_insert_with(|| fault.clone());
                last = Some(fault);
                continue;
            }
            let longer = [chain, &[parent]].concat();
            let found = if role == Role::Root { Ok(vec![longer]) } else { self.build(&longer, attempt) };
            last = found.map(|found| chains.extend(found)).err();
        }
        if !chains.is_empty() {
            return Ok(chains);
        }
        let telling =
            |hint: &Fault| !matches!(hint, Fault::Refused(refusal) if refusal.reason == Reason::UnknownAuthority);
        Err(last.or_else(|| hint.filter(telling)).unwrap_or_else(|| self.unknown_authority(child)))
    }

    /// Those that may have issued a certificate, by their name: roots first, and of each those first whose key identifier
    /// fits. More than Go looks at are left out.
    fn candidates(&mut self, child: usize) -> Vec<(Role, usize)> {
        if let Some(known) = self.candidates.get(&child) {
            return known.clone();
        }
        let link = self.links[child];
        let wanted = link.extensions.authority_key_id.as_deref().unwrap_or_default();
        let rank = |number: &usize| {
            let own = self.links[*number].extensions.subject_key_id.as_deref().unwrap_or_default();
            if own == wanted { 0 } else { 2 - u8::from(own.is_empty() || wanted.is_empty()) }
        };
        let mut candidates = Vec::new();
        for (role, pool) in [(Role::Root, &self.roots), (Role::Intermediate, &self.intermediates)] {
            let mut found = pool.get(link.issuer.as_slice()).cloned().unwrap_or_default();
            found.sort_by_key(rank);
            candidates.extend(found.into_iter().take(CANDIDATES + 1).map(|number| (role, number)));
        }
        candidates.truncate(CANDIDATES + 1);
        self.candidates.insert(child, candidates.clone());
        candidates
    }

    /// Whether the same subject with the same key and names is in a chain already.
    fn is_in(&self, chain: &[usize], number: usize) -> bool {
        let link = self.links[number];
        let others = chain.iter().map(|number| self.links[*number]);
        for other in others.filter(|other| other.subject == link.subject && other.spki == link.spki) {
            match (&other.extensions.san, &link.extensions.san) {
                (None, None) => return true,
                (Some(other), Some(own)) if other == own => return true,
                (Some(_), Some(_)) => {}
                _ => return false,
            }
        }
        false
    }

    /// Whether a certificate was signed by another, which may sign.
    fn signed_by(&mut self, child: usize, parent: usize) -> Result<(), Fault> {
        if let Some(known) = self.signatures.get(&(child, parent)) {
            return known.clone();
        }
        let link = self.links[parent];
        let result = if link.extensions.ca == Some(false) || (link.version == 3 && link.extensions.ca.is_none()) {
            Err(fault(Reason::NotACa, link, "is not a CA"))
        } else if link.extensions.signing == Signing::Forbidden {
            Err(fault(Reason::NotACa, link, "may not sign certificates, by its key usage"))
        } else {
            self.signature(child, parent)
        };
        self.signatures.insert((child, parent), result.clone());
        result
    }

    fn signature(&self, child: usize, parent: usize) -> Result<(), Fault> {
        match signature(self.links[child], self.links[parent]) {
            Check::Holds => Ok(()),
            Check::Insecure => {
                let why = "is signed with MD5 or SHA-1, which Go rejects";
                Err(fault(Reason::InsecureSignature, self.links[child], why))
            }
            Check::Unsupported(what) => Err(Fault::Unknown(format!("{what} can't be verified here"))),
            Check::Fails | Check::Mismatch => Err(self.unknown_authority(child)),
        }
    }

    fn unknown_authority(&self, child: usize) -> Fault {
        let why = format!("was not issued by a CA of {}", self.purpose.authority);
        fault(Reason::UnknownAuthority, self.links[child], &why)
    }

    /// Whether a certificate may be above a chain.
    fn valid(&self, role: Role, number: usize, chain: &[usize], attempt: &mut Attempt) -> Result<(), Fault> {
        let link = self.links[number];
        if !link.extensions.unhandled.is_empty() {
            return Err(fault(Reason::CriticalExtension, link, "has a critical extension that Go doesn't know"));
        }
        attempt.consulted.insert(number);
        if attempt.at.as_second() < link.not_before {
            return Err(fault(Reason::NotYetValid, link, &format!("is valid only from {} on", when(link.not_before))));
        }
        if is_past(link.not_after, attempt.at) {
            return Err(fault(Reason::Expired, link, &format!("has expired at {}", when(link.not_after))));
        }
        if role == Role::Intermediate && link.extensions.ca != Some(true) {
            return Err(fault(Reason::NotACa, link, "is not a CA"));
        }
        let below = chain.len().saturating_sub(1) as u64;
        if link.extensions.ca.is_some() && link.extensions.path_length.is_some_and(|most| below > most) {
            return Err(fault(Reason::PathLength, link, "has a path length constraint that the chain exceeds"));
        }
        Ok(())
    }
}
