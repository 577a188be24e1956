//! Go's verdicts, predicted: the cluster gateway's on an agent's certificate, and the agent's on the gateway's.
//!
//! The gateway of OpenChoreo v0.15 and later calls `x509.Certificate.Verify` with the CA of a plane as its roots; the agent
//! dials with the gateway's CA as its roots. Gateways and agents are built with different Go releases (v0.17 with 1.24):
//! where releases differ, the stricter one is predicted, and the refusal says which releases it is of.
//!
//! Pure functions of what is presented, the CA and the time. What can't be judged here is unknown.

use jiff::Timestamp;

use super::chain::{self, Chains, Fault, Purpose, is_past, named, when};
use super::der::{Reader, Tag};
use super::extensions::Signing;
use super::hostname;
use super::key::Key;
use super::link::Link;
use super::refusal::{Reason, Refusal};
use super::signature::{Check, signature};

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

/// The largest RSA key that a TLS handshake takes, in bits.
const LARGEST_KEY: usize = 8192;

/// Judges what an agent presents, its own certificate first, as DER; `roots` are what Go can parse of the plane's CA.
pub fn verify(presented: &[Vec<u8>], roots: &[Link], at: Timestamp) -> Verdict {
    let links = match presented_links(presented, "the agent") {
        Ok(links) => links,
        Err(refusal) => return Verdict::Refused(refusal),
    };
    let (leaf, beside) = (&links[0], &links[1..]);
    if let Err(refusal) = usable_key(leaf) {
        return Verdict::Refused(refusal);
    }
    if roots.is_empty() {
        let message = "the plane's CA holds no certificate that can be parsed".into();
        return Verdict::Refused(Refusal { reason: Reason::NoCa, message });
    }
    let mut chains = Chains::new(leaf, beside, roots, Purpose::Client);
    match chains.judge(at) {
        Ok(()) => Verdict::Authorized { until: chains.until(at) },
        Err(Fault::Refused(refusal)) => Verdict::Refused(explained(refusal, chains.leaf(), chains.others())),
        Err(Fault::Unknown(why)) => Verdict::Unknown(why),
    }
}

/// The certificates that a handshake presents, the peer's own first.
///
/// # Errors
/// What ends the handshake.
fn presented_links(presented: &[Vec<u8>], who: &str) -> Result<Vec<Link>, Refusal> {
    let mut links = Vec::new();
    for (index, der) in presented.iter().enumerate() {
        let which = if index == 0 {
            format!("{who}'s certificate")
        } else {
            format!("certificate {} that it presents", index + 1)
        };
        let link = Link::parse(der).map_err(|why| Refusal {
            reason: Reason::Unparsable,
            message: format!("{which} can't be parsed: {}", why.0),
        })?;
        if let Key::Rsa { bits } = link.key
            && bits > LARGEST_KEY
        {
            let message = format!("the RSA key of {which} has {bits} bits, and {LARGEST_KEY} is the most");
            return Err(Refusal { reason: Reason::KeyTooLarge, message });
        }
        links.push(link);
    }
    if links.is_empty() {
        let message = format!("{who} presents no certificate");
        return Err(Refusal { reason: Reason::Unparsable, message });
    }
    Ok(links)
}

/// crypto/tls takes no other kinds of keys.
fn usable_key(leaf: &Link) -> Result<(), Refusal> {
    if !matches!(leaf.key, Key::Other | Key::Dsa) {
        return Ok(());
    }
    let message = format!("{} has a key of a kind that TLS can't use here", named(leaf));
    Err(Refusal { reason: Reason::UnsupportedKey, message })
}

/// Says of a plane that pins the agent's former certificate what has happened.
fn explained(mut refusal: Refusal, leaf: &Link, others: &[&Link]) -> Refusal {
    let former =
        |other: &&&Link| other.subject == leaf.subject && other.extensions.ca != Some(true) && other.der != leaf.der;
    if let Some(former) = others.iter().find(former) {
        refusal.message.push_str(&format!(
            "; the plane pins another certificate of the same name, from {}, and the agent's was renewed at {}",
            when(former.not_before),
            when(leaf.not_before)
        ));
    }
    refusal
}

/// Why an agent would not connect to a gateway.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerFault {
    /// The gateway's own certificate has expired, or isn't valid yet.
    Expired(Refusal),
    Refused(Refusal),
    /// The certificate names other hosts: their names, of the kind that was asked for.
    WrongName(Vec<String>),
    /// It depends on something that can't be judged here.
    Unknown(String),
}

/// Whether an agent accepts a gateway's certificate: what the gateway presents, its own certificate first, as DER; `roots`
/// are what Go can parse of what the agent trusts; `host` is the host of the URL that it dials.
///
/// # Errors
/// The first rule that isn't met, in Go's order: the handshake, validity, host name, chain, kind of the key.
pub fn verify_server(presented: &[Vec<u8>], roots: &[Link], host: &str, at: Timestamp) -> Result<(), ServerFault> {
    let links = presented_links(presented, "the gateway").map_err(ServerFault::Refused)?;
    let (leaf, beside) = (&links[0], &links[1..]);
    let mut chains = Chains::new(leaf, beside, roots, Purpose::Server);
    chains.leaf_is_valid(at).map_err(|fault| match fault {
        Fault::Refused(refusal) if matches!(refusal.reason, Reason::Expired | Reason::NotYetValid) => {
            ServerFault::Expired(refusal)
        }
        fault => fault.into(),
    })?;
    if !hostname::fits(leaf, host) {
        return Err(ServerFault::WrongName(hostname::named(leaf, host)));
    }
    chains.judge(at).map_err(ServerFault::from)?;
    usable_key(leaf).map_err(ServerFault::Refused)
}

/// A certificate's public key.
pub struct PublicKey {
    /// Its SubjectPublicKeyInfo in DER.
    pub info: Vec<u8>,
    /// The content of the AlgorithmIdentifier in it.
    pub algorithm: Vec<u8>,
    /// The key itself, as the algorithm has it.
    pub bits: Vec<u8>,
}

/// The public key of a certificate in DER; none where Go can't parse it.
pub fn public_key(certificate: &[u8]) -> Option<PublicKey> {
    let link = Link::parse(certificate).ok()?;
    let mut info = Reader::new(Reader::new(&link.spki).read(Tag::SEQUENCE)?);
    let algorithm = info.read(Tag::SEQUENCE)?.to_vec();
    Some(PublicKey { info: link.spki, algorithm, bits: link.public_key })
}

impl From<Fault> for ServerFault {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(refusal) => Self::Refused(refusal),
            Fault::Unknown(why) => Self::Unknown(why),
        }
    }
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
    if !link.extensions.unhandled.is_empty() {
        return refuse(Reason::CriticalExtension, "has a critical extension that the gateway doesn't know");
    }
    if !chain::allows(&link, Purpose::Client) {
        return refuse(Reason::Usage, "is not for client certificates, by its extended key usage");
    }
    if matches!(link.key, Key::Other | Key::Dsa) {
        return refuse(Reason::UnknownAuthority, "has a key that the gateway can't verify anything with");
    }
    let issues = link.extensions.signing == Signing::Allowed && link.extensions.ca.unwrap_or(link.version < 3);
    Ok(if issues { Trust::Issuer } else { Trust::Itself })
}

/// Whether one certificate signed another, by its name and its key; when, and whether it may, is not asked.
pub fn issued(child: &[u8], parent: &[u8]) -> bool {
    match (Link::parse(child), Link::parse(parent)) {
        (Ok(child), Ok(parent)) => child.issuer == parent.subject && signature(&child, &parent) == Check::Holds,
        _ => false,
    }
}
