//! Go's verdicts, predicted: the cluster gateway's on an agent's certificate, and the agent's on the gateway's.
//!
//! The gateway of OpenChoreo v0.15 and later calls `x509.Certificate.Verify` with the CA of a plane as its roots; the agent
//! dials with the gateway's CA as its roots. Gateways and agents are built with different Go releases (v0.17 with 1.24):
//! where releases differ, the stricter one is predicted, and the refusal says which releases it is of.
//!
//! Pure functions of what is presented, the CA and the time. What can't be judged here is unknown.

use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;

use super::chain::{self, CLIENT, Chains, Fault, Reason, Refusal, SERVER, is_past, named, when};
use super::der::{Reader, Tag};
use super::extensions::Signing;
use super::hostname;
use super::key::Key;
use super::link::Link;
use super::signature::{Check, recover_signers, signature};

/// Whether the gateway would let the agent in.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Authorized {
        /// When it will no longer be, by itself; none where that lies beyond all dates.
        until: Option<Timestamp>,
    },
    Refused(Refusal),
    /// It depends on something that can't be judged here.
    Unknown(String),
}

impl Verdict {
    pub fn is_authorized(&self) -> bool {
        matches!(self, Self::Authorized { .. })
    }
}

/// The largest RSA key that a TLS handshake takes, in bits.
const LARGEST_KEY: usize = 8192;

/// How many CAs are tried before the keys of the presented signatures are recovered, which takes as long as twenty
/// verifications.
const MANY: usize = 64;

/// What an agent presents in a handshake: parsed once, however many CAs it is judged against.
#[derive(Debug)]
pub struct Presented {
    /// The agent's own certificate first, or what ends the handshake.
    links: Result<Vec<Link>, Refusal>,
    /// How many CAs it was judged against.
    judged: AtomicUsize,
}

impl Presented {
    /// Takes certificates in DER, the agent's own first.
    pub fn of_agent(ders: &[Vec<u8>]) -> Self {
        let links = presented_links(ders, "the agent");
        let links = links.and_then(|links| usable_key(&links[0]).map(|()| links));
        Self { links, judged: AtomicUsize::new(0) }
    }

    /// Judges it; `roots` are what Go can parse of a plane's CA.
    pub fn verdict(&self, roots: &[Link], at: Timestamp) -> Verdict {
        let links = match &self.links {
            Ok(links) => links,
            Err(refusal) => return Verdict::Refused(refusal.clone()),
        };
        if self.judged.fetch_add(1, Ordering::Relaxed) == MANY {
            links.iter().for_each(recover_signers);
        }
        let (leaf, beside) = (&links[0], &links[1..]);
        if roots.is_empty() {
            let message = "the plane's CA holds no certificate that can be parsed".into();
            return Verdict::Refused(Refusal { reason: Reason::NoCa, message });
        }
        let mut chains = Chains::new(leaf, beside, roots, CLIENT);
        match chains.judge(at) {
            Ok(()) => Verdict::Authorized { until: chains.until(at) },
            Err(Fault::Refused(refusal)) => Verdict::Refused(explained(refusal, leaf, beside.iter().chain(roots))),
            Err(Fault::Unknown(why)) => Verdict::Unknown(why),
        }
    }
}

/// Judges what an agent presents, its own certificate first, as DER; `roots` are what Go can parse of the plane's CA.
pub fn verify(presented: &[Vec<u8>], roots: &[Link], at: Timestamp) -> Verdict {
    Presented::of_agent(presented).verdict(roots, at)
}

/// The certificates that a handshake presents, the peer's own first, or what ends the handshake.
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
fn explained<'l>(mut refusal: Refusal, leaf: &Link, mut others: impl Iterator<Item = &'l Link>) -> Refusal {
    let former =
        |other: &&Link| other.subject == leaf.subject && other.extensions.ca != Some(true) && other.der != leaf.der;
    if let Some(former) = others.find(former) {
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
    let mut chains = Chains::new(leaf, beside, roots, SERVER);
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

/// Whether a certificate in a plane's CA lets any agent in at all, and which; else the rule that keeps it from that.
pub fn trust(der: &[u8], at: Timestamp) -> Result<Trust, Refusal> {
    match Link::parse(der) {
        Ok(link) => trust_of(&link, at),
        Err(why) => Err(Refusal { reason: Reason::Unparsable, message: format!("can't be parsed: {}", why.0) }),
    }
}

/// [`trust`] of a certificate that was parsed.
pub fn trust_of(link: &Link, at: Timestamp) -> Result<Trust, Refusal> {
    let refuse = |reason, message: &str| Err(Refusal { reason, message: message.to_owned() });
    if is_past(link.not_after, at) {
        return refuse(Reason::Expired, &format!("has expired at {}", when(link.not_after)));
    }
    if at.as_second() < link.not_before {
        return refuse(Reason::NotYetValid, &format!("is valid only from {} on", when(link.not_before)));
    }
    if !link.extensions.unhandled.is_empty() {
        return refuse(Reason::CriticalExtension, "has a critical extension that the gateway doesn't know");
    }
    if !chain::allows(link, CLIENT) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::gox509::key::Curve;
    use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Use, IsCa, Issuer, KeyPair};

    /// A CA named ca and an agent's certificate below it, valid for 1,000,000 and 100,000 seconds from 1970 on.
    struct World {
        ca: CertificateParams,
        ca_key: KeyPair,
        leaf: CertificateParams,
        leaf_key: KeyPair,
    }

    impl World {
        fn new() -> Self {
            let params = |name: &str, seconds| {
                let mut params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
                params.distinguished_name = rcgen::DistinguishedName::new();
                params.distinguished_name.push(DnType::CommonName, name);
                params.not_before = time::OffsetDateTime::UNIX_EPOCH;
                params.not_after = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
                params
            };
            let (mut ca, mut leaf) = (params("ca", 1_000_000), params("agent", 100_000));
            ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            leaf.extended_key_usages = vec![Use::ClientAuth, Use::ServerAuth];
            Self { ca, ca_key: KeyPair::generate().unwrap(), leaf, leaf_key: KeyPair::generate().unwrap() }
        }

        fn ca(&self) -> Vec<u8> {
            self.ca.clone().self_signed(&self.ca_key).unwrap().der().to_vec()
        }

        fn roots(&self) -> Vec<Link> {
            vec![Link::parse(&self.ca()).unwrap()]
        }

        fn leaf(&self) -> Vec<u8> {
            let issuer = Issuer::new(self.ca.clone(), &self.ca_key);
            self.leaf.clone().signed_by(&self.leaf_key, &issuer).unwrap().der().to_vec()
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn refused(verdict: Verdict) -> Refusal {
        match verdict {
            Verdict::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_verdict_lasts_until_the_first_certificate_of_the_last_chain_expires() {
        let mut world = World::new();
        let authorized = |world: &World| verify(&[world.leaf()], &world.roots(), at(5));
        assert_eq!(authorized(&world), Verdict::Authorized { until: Some(at(100_000)) });
        world.leaf.not_after = time::OffsetDateTime::from_unix_timestamp(2_000_000).unwrap();
        assert_eq!(authorized(&world), Verdict::Authorized { until: Some(at(1_000_000)) });
        // Another certificate of the CA's key takes over.
        let mut renewed = world.ca.clone();
        renewed.not_before = time::OffsetDateTime::from_unix_timestamp(900_000).unwrap();
        renewed.not_after = time::OffsetDateTime::from_unix_timestamp(3_000_000).unwrap();
        let mut roots = world.roots();
        roots.push(Link::parse(renewed.self_signed(&world.ca_key).unwrap().der()).unwrap());
        assert_eq!(verify(&[world.leaf()], &roots, at(5)), Verdict::Authorized { until: Some(at(2_000_000)) });
    }

    #[test]
    fn many_cas_get_the_verdict_that_each_gets_alone() {
        let worlds = [World::new(), World::new()];
        let leaf = [worlds[0].leaf()];
        let presented = Presented::of_agent(&leaf);
        for number in 0..MANY + 4 {
            let roots = worlds[number % 2].roots();
            assert_eq!(presented.verdict(&roots, at(5)), verify(&leaf, &roots, at(5)), "{number}");
        }
        assert!(presented.links.unwrap()[0].signers.get().is_some());
    }

    #[test]
    fn nothing_presented_and_nothing_trusted_is_refused() {
        let world = World::new();
        assert_eq!(refused(verify(&[], &world.roots(), at(5))).message, "the agent presents no certificate");
        assert_eq!(refused(verify(&[world.leaf()], &[], at(5))).reason, Reason::NoCa);
        let broken = refused(verify(&[world.leaf(), b"none".to_vec()], &world.roots(), at(5)));
        assert_eq!(broken.message, "certificate 2 that it presents can't be parsed: it is not a certificate");
    }

    #[test]
    fn a_plane_that_pins_the_certificate_of_before_is_reported_so() {
        let world = World::new();
        let former = Link::parse(&world.leaf()).unwrap();
        let mut renewed = World { leaf: world.leaf.clone(), ..World::new() };
        renewed.leaf.not_before = time::OffsetDateTime::from_unix_timestamp(50).unwrap();
        let refusal = refused(verify(&[renewed.leaf()], &[former], at(60)));
        assert!(
            refusal.message.ends_with(
                "; the plane pins another certificate of the same name, from 1970-01-01T00:00:00Z, and the agent's was \
             renewed at 1970-01-01T00:00:50Z"
            ),
            "{}",
            refusal.message
        );
    }

    #[test]
    fn what_cannot_be_verified_here_is_unknown() {
        let world = World::new();
        let mut roots = world.roots();
        roots[0].key = Key::Ecdsa(Curve::P224);
        assert_eq!(
            verify(&[world.leaf()], &roots, at(5)),
            Verdict::Unknown("the curve P-224 can't be verified here".into())
        );
        let server = verify_server(&[world.leaf()], &roots, "agent.example", at(5));
        assert!(matches!(server, Err(ServerFault::Unknown(_))));
        // Another chain that holds is enough.
        roots.extend(world.roots());
        assert!(matches!(verify(&[world.leaf()], &roots, at(5)), Verdict::Authorized { .. }));
    }

    #[test]
    fn a_server_is_asked_for_its_validity_its_name_and_its_chain() {
        let world = World::new();
        let judge = |roots: &[Link], host: &str, seconds| verify_server(&[world.leaf()], roots, host, at(seconds));
        assert_eq!(judge(&world.roots(), "agent.example", 5), Ok(()));
        let expired = judge(&[], "other", 100_001).unwrap_err();
        assert!(matches!(expired, ServerFault::Expired(refusal) if refusal.reason == Reason::Expired));
        let other = judge(&[], "other", 5);
        assert_eq!(other, Err(ServerFault::WrongName(vec!["agent.example".into()])));
        let unknown = judge(&[], "agent.example", 5).unwrap_err();
        assert!(matches!(unknown, ServerFault::Refused(refusal) if refusal.reason == Reason::UnknownAuthority));
    }

    #[test]
    fn what_a_certificate_can_do_as_a_ca_depends_on_what_it_says() {
        let of = |alter: fn(&mut CertificateParams), seconds| {
            let mut world = World::new();
            alter(&mut world.ca);
            trust(&world.ca(), at(seconds)).map_err(|refusal| refusal.reason)
        };
        assert_eq!(of(|_| {}, 5), Ok(Trust::Issuer));
        assert_eq!(of(|ca| ca.is_ca = IsCa::NoCa, 5), Ok(Trust::Itself));
        assert_eq!(of(|ca| ca.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign], 5), Ok(Trust::Itself));
        assert_eq!(of(|_| {}, 1_000_001), Err(Reason::Expired));
        assert_eq!(of(|_| {}, -1), Err(Reason::NotYetValid));
        assert_eq!(of(|ca| ca.extended_key_usages = vec![Use::ServerAuth], 5), Err(Reason::Usage));
        let critical = |ca: &mut CertificateParams| {
            let mut extension = rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
            extension.set_criticality(true);
            ca.custom_extensions.push(extension);
        };
        assert_eq!(of(critical, 5), Err(Reason::CriticalExtension));
        assert_eq!(trust(b"none", at(5)).map_err(|refusal| refusal.reason), Err(Reason::Unparsable));
    }

    #[test]
    fn a_certificate_is_issued_by_whose_name_and_key_it_has() {
        let (world, other) = (World::new(), World::new());
        assert!(issued(&world.leaf(), &world.ca()) && issued(&world.ca(), &world.ca()));
        assert!(!issued(&world.leaf(), &other.ca()) && !issued(&world.ca(), &world.leaf()));
        assert!(!issued(b"none", &world.ca()));
        let key = public_key(&world.leaf()).unwrap();
        assert_eq!(key.bits, rcgen::PublicKeyData::der_bytes(&world.leaf_key));
        assert!(public_key(b"none").is_none());
    }
}
